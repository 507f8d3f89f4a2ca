//! Answers in the format of `OpenAI`'s Chat Completions API.
//!
//! Modelled on recorded streams: the role comes first, the usage last and only on request, and the choices are
//! interleaved.

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, Stop};
use super::encoder::{Encoder, Event, Totals, quoted};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// A fixed time, so that answers can be compared. Seconds since 1970.
pub(super) const CREATED: u64 = 1_767_225_600;

/// The vendor `OpenAI`.
pub(super) struct OpenAi;

impl Vendor for OpenAi {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/chat/completions", "/chat/completions"]
    }

    fn read(&self, _uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        let model = fields.text("model")?;
        let last = fields.last("messages")?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let choices = fields.number("n")?.unwrap_or(1);
        if !(1..=128).contains(&choices) {
            let message = "Invalid 'n': it must be between 1 and 128.".to_owned();
            return Err(RequestError::invalid(message, Some("n")));
        }
        if !stream && fields.has("stream_options") {
            return Err(RequestError::invalid(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled."
                    .to_owned(),
                Some("stream_options"),
            ));
        }
        let given = fields.number("max_tokens")?;
        Ok(SimRequest {
            model,
            stream,
            form: "chat",
            usage: fields.value.pointer("/stream_options/include_usage")
                == Some(&Value::Bool(true)),
            choices,
            max_tokens: fields.number("max_completion_tokens")?.or(given),
            tools: fields.tool_names("/function/name"),
            repeated: Value::Null,
            answers_tools: last.get("role").and_then(Value::as_str) == Some("tool"),
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(Completion::new(number, ask))
    }

    fn refusal(&self, refused: &RequestError, _request_id: &str) -> Value {
        let kind = match refused.status {
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {
            "message": refused.message,
            "type": kind,
            "param": refused.param,
            "code": refused.code,
        }})
    }
}

/// State of one `OpenAI` answer.
struct Completion {
    number: u64,
    model: String,
    /// The start of every chunk.
    envelope: String,
    choices: u64,
    /// Whether the request includes usage in the stream.
    usage: bool,
    prompt_tokens: u64,
    /// Number of tool calls that have started.
    calls: u64,
}

impl Completion {
    /// Creates the answer with this number.
    fn new(number: u64, ask: &SimRequest) -> Self {
        Self {
            number,
            model: ask.model.clone(),
            envelope: format!(
                r#"{{"id":"chatcmpl-sim{number}","object":"chat.completion.chunk","created":{CREATED},"model":{},"service_tier":"default","system_fingerprint":"fp_simulated","#,
                quoted(&ask.model)
            ),
            choices: ask.choices,
            usage: ask.usage,
            prompt_tokens: ask.prompt_tokens,
            calls: 0,
        }
    }

    /// The same chunk for every choice.
    fn chunks(&self, delta: &str, finish: Option<&str>) -> Vec<Event> {
        let finish = finish.map_or_else(|| "null".to_owned(), quoted);
        (0..self.choices)
            .map(|index| {
                let choice = format!(
                    r#"{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#
                );
                self.chunk(&choice, "null")
            })
            .collect()
    }

    /// Writes one chunk directly: in the vendor's order of fields, and fast enough for a load generator.
    fn chunk(&self, choices: &str, usage: &str) -> Event {
        let envelope = &self.envelope;
        let usage = if self.usage { format!(r#","usage":{usage}"#) } else { String::new() };
        data(format!(r#"{envelope}"choices":[{choices}]{usage}}}"#))
    }

    fn call_id(&self, index: u64) -> String {
        format!("call_sim{}_{index}", self.number)
    }

    fn totals(&self, totals: Totals) -> Value {
        let completion = totals.tokens.saturating_mul(self.choices);
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens.saturating_add(completion),
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": totals.thinking.saturating_mul(self.choices),
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        })
    }

    fn message(&self, pieces: &[Piece]) -> Value {
        let (mut text, mut thinking, mut refusal) = (String::new(), String::new(), String::new());
        let mut calls: Vec<(u64, &str, String)> = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(token) => text.push_str(token),
                Piece::Think(token) => thinking.push_str(token),
                Piece::Refusal(token) => refusal.push_str(token),
                Piece::Call { index, name, fragment } => match calls.last_mut() {
                    Some((open, _, arguments)) if open == index => arguments.push_str(fragment),
                    _ => calls.push((*index, name, fragment.clone())),
                },
            }
        }
        let none_if_empty = |text: String| if text.is_empty() { None } else { Some(text) };
        let mut message = json!({
            "role": "assistant",
            "content": none_if_empty(text),
            "refusal": none_if_empty(refusal),
            "annotations": [],
        });
        if let Some(fields) = message.as_object_mut() {
            if !thinking.is_empty() {
                fields.insert("reasoning_content".to_owned(), json!(thinking));
            }
            if !calls.is_empty() {
                let calls = calls.into_iter().map(|(index, name, arguments)| {
                    let function = json!({"name": name, "arguments": arguments});
                    json!({"id": self.call_id(index), "type": "function", "function": function})
                });
                fields.insert("tool_calls".to_owned(), calls.collect());
            }
        }
        message
    }
}

impl Encoder for Completion {
    fn opening(&mut self, first: Option<&Piece>) -> Vec<Event> {
        let delta = match first {
            Some(Piece::Call { .. }) => r#"{"role":"assistant","content":null}"#,
            Some(Piece::Think(_)) => {
                r#"{"role":"assistant","content":null,"reasoning_content":""}"#
            }
            Some(Piece::Text(_) | Piece::Refusal(_)) | None => {
                r#"{"role":"assistant","content":"","refusal":null}"#
            }
        };
        self.chunks(delta, None)
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        let mut events = Vec::new();
        let delta = match piece {
            Piece::Text(token) => format!(r#"{{"content":{}}}"#, quoted(token)),
            Piece::Think(token) => {
                format!(r#"{{"content":null,"reasoning_content":{}}}"#, quoted(token))
            }
            Piece::Refusal(token) => format!(r#"{{"refusal":{}}}"#, quoted(token)),
            Piece::Call { index, name, fragment } => {
                if *index >= self.calls {
                    self.calls = index.saturating_add(1);
                    let (id, name) = (self.call_id(*index), quoted(name));
                    let start = format!(
                        r#"{{"tool_calls":[{{"index":{index},"id":"{id}","type":"function","function":{{"name":{name},"arguments":""}}}}]}}"#
                    );
                    events = self.chunks(&start, None);
                }
                let fragment = quoted(fragment);
                format!(
                    r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":{fragment}}}}}]}}"#
                )
            }
        };
        events.extend(self.chunks(&delta, None));
        events
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events = self.chunks("{}", Some(finish(totals.stop)));
        if self.usage {
            events.push(self.chunk("", &self.totals(totals).to_string()));
        }
        events.push(data("[DONE]".to_owned()));
        events
    }

    fn failure(&self) -> Vec<Event> {
        let error = r#"{"error":{"message":"The simulated upstream fails here, as the model name asks.","type":"server_error","param":null,"code":null}}"#;
        vec![data(error.to_owned()), data("[DONE]".to_owned())]
    }

    fn junk(&self) -> Event {
        data(format!(r#"{{"id":"chatcmpl-sim{}","object":"chat.comple"#, self.number))
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        let message = self.message(pieces);
        let choices: Value = (0..self.choices)
            .map(|index| {
                json!({
                    "index": index,
                    "message": message,
                    "logprobs": null,
                    "finish_reason": finish(totals.stop),
                })
            })
            .collect();
        json!({
            "id": format!("chatcmpl-sim{}", self.number),
            "object": "chat.completion",
            "created": CREATED,
            "model": self.model,
            "choices": choices,
            "usage": self.totals(totals),
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        })
    }
}

fn data(data: String) -> Event {
    Event { name: None, data }
}

fn finish(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Refusal => "stop",
        Stop::Length => "length",
        Stop::Calls => "tool_calls",
    }
}
