//! Answers in the format of `OpenAI`'s legacy Completions API.
//!
//! Every prompt receives the same answer.

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, Stop};
use super::encoder::{Encoder, Event, Totals, quoted};
use super::openai::{self, CREATED};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// The vendor `OpenAI` at this endpoint.
pub(super) struct OpenAiPassed;

impl Vendor for OpenAiPassed {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/completions"]
    }

    fn read(&self, _uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        if !fields.has("prompt") {
            return Err(fields.missing("prompt"));
        }
        Ok(SimRequest {
            model: fields.text("model")?,
            stream: fields.flag("stream")?.unwrap_or(false),
            form: "completions",
            usage: fields.value.pointer("/stream_options/include_usage")
                == Some(&Value::Bool(true)),
            choices: match fields.value.get("prompt") {
                Some(Value::Array(items)) => u64::try_from(items.len()).unwrap_or(1).clamp(1, 128),
                _ => 1,
            },
            max_tokens: fields.number("max_tokens")?,
            tools: Vec::new(),
            repeated: Value::Null,
            answers_tools: false,
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(Passed {
            number,
            model: ask.model.clone(),
            choices: ask.choices,
            usage: ask.usage,
            prompt_tokens: ask.prompt_tokens,
        })
    }

    fn refusal(&self, refused: &RequestError, request_id: &str) -> Value {
        openai::OpenAi.refusal(refused, request_id)
    }
}

/// State of one answer.
struct Passed {
    number: u64,
    model: String,
    /// Number of prompts.
    choices: u64,
    usage: bool,
    prompt_tokens: u64,
}

impl Passed {
    /// The same chunk for every prompt.
    fn chunks(&self, text: &str, finish: Option<&str>) -> Vec<Event> {
        let finish = finish.map_or_else(|| "null".to_owned(), quoted);
        let text = quoted(text);
        (0..self.choices)
            .map(|index| {
                self.chunk(&format!(
                    r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":{finish}}}"#
                ))
            })
            .collect()
    }

    fn chunk(&self, choice: &str) -> Event {
        let (number, model) = (self.number, quoted(&self.model));
        let usage = if self.usage { r#","usage":null"# } else { "" };
        data(format!(
            r#"{{"id":"cmpl-sim{number}","object":"text_completion","created":{CREATED},"model":{model},"choices":[{choice}]{usage}}}"#
        ))
    }

    fn totals(&self, tokens: u64) -> Value {
        let completion = tokens.saturating_mul(self.choices);
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens.saturating_add(completion),
        })
    }
}

impl Encoder for Passed {
    fn opening(&mut self, _first: Option<&Piece>) -> Vec<Event> {
        Vec::new()
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        match piece {
            Piece::Text(token) | Piece::Refusal(token) | Piece::Think(token) => {
                self.chunks(token, None)
            }
            Piece::Call { fragment, .. } => self.chunks(fragment, None),
        }
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events = self.chunks("", Some(finish(totals.stop)));
        if self.usage {
            let mut last = self.whole(&[], totals);
            if let Some(fields) = last.as_object_mut() {
                fields.insert("choices".to_owned(), json!([]));
            }
            events.push(data(last.to_string()));
        }
        events.push(data("[DONE]".to_owned()));
        events
    }

    fn failure(&self) -> Vec<Event> {
        let error = r#"{"error":{"message":"The simulated upstream fails here, as the model name asks.","type":"server_error","param":null,"code":null}}"#;
        vec![data(error.to_owned()), data("[DONE]".to_owned())]
    }

    fn junk(&self) -> Event {
        data(format!(r#"{{"id":"cmpl-sim{}","object":"text_compl"#, self.number))
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        let text: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(token) | Piece::Refusal(token) | Piece::Think(token) => token.as_str(),
                Piece::Call { fragment, .. } => fragment.as_str(),
            })
            .collect();
        let choices: Value = (0..self.choices)
            .map(|index| {
                json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish(totals.stop)})
            })
            .collect();
        json!({
            "id": format!("cmpl-sim{}", self.number),
            "object": "text_completion",
            "created": CREATED,
            "model": self.model,
            "choices": choices,
            "usage": self.totals(totals.tokens),
        })
    }
}

fn data(data: String) -> Event {
    Event { name: None, data }
}

fn finish(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Refusal | Stop::Calls => "stop",
        Stop::Length => "length",
    }
}
