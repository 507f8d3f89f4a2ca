//! Answers in the format of Ollama's `/api/chat` and `/api/generate`.
//!
//! Modelled on recorded streams: complete tool calls, one per line, with the stop reason `stop`; counts and
//! durations on the last line only.

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, Stop};
use super::encoder::{Encoder, Event, Layout, Totals, quoted, set};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";
/// A fixed time, so that answers can be compared.
const CREATED: &str = "2026-01-01T00:00:00.000000Z";

/// The vendor Ollama.
pub(super) struct Ollama;

impl Vendor for Ollama {
    fn paths(&self) -> &'static [&'static str] {
        &[CHAT, GENERATE]
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        let model = fields.text("model")?;
        let generates = uri.path() == GENERATE;
        let answers_tools = if generates {
            fields.text("prompt")?;
            false
        } else {
            for message in fields.list("messages")? {
                check(message)?;
            }
            fields.last("messages")?["role"] == "tool"
        };
        Ok(SimRequest {
            model,
            stream: fields.flag("stream")?.unwrap_or(true),
            form: if generates { "generate" } else { "chat" },
            usage: true,
            choices: 1,
            max_tokens: fields.value.pointer("/options/num_predict").and_then(Value::as_u64),
            tools: fields.tool_names("/function/name"),
            repeated: Value::Null,
            answers_tools,
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(Lines {
            head: format!(r#"{{"model":{},"created_at":"{CREATED}","#, quoted(&ask.model)),
            model: ask.model.clone(),
            number,
            generates: ask.form == "generate",
            prompt_tokens: ask.prompt_tokens,
            call: None,
        })
    }

    fn refusal(&self, refused: &RequestError, _request_id: &str) -> Value {
        json!({"error": refused.message})
    }

    fn missing(&self, field: &str) -> String {
        format!("{field} is required")
    }

    fn wrong_type(&self, field: &str, wanted: &str) -> String {
        format!("json: cannot unmarshal into field {field}: expected {wanted}")
    }
}

/// Rejects a message that does not fit the server's own types: content that is not a string, images by address,
/// arguments that are not an object.
fn check(message: &Value) -> Result<(), RequestError> {
    let content = message.get("content").is_none_or(Value::is_string);
    let images = message.get("images").and_then(Value::as_array);
    let inline = images
        .into_iter()
        .flatten()
        .all(|image| image.as_str().is_some_and(|data| !data.is_empty() && !data.contains(':')));
    let calls = message.get("tool_calls").and_then(Value::as_array);
    let objects = calls
        .into_iter()
        .flatten()
        .all(|call| call.pointer("/function/arguments").is_some_and(Value::is_object));
    if content && inline && objects {
        return Ok(());
    }
    Err(RequestError::invalid(
        "json: cannot unmarshal into api.Message".to_owned(),
        Some("messages"),
    ))
}

/// The list of models.
pub(super) fn tags() -> Value {
    json!({"models": [{
        "name": "sim",
        "model": "sim",
        "modified_at": CREATED,
        "size": 1,
        "digest": "0".repeat(64),
        "details": {"parent_model": "", "format": "gguf", "family": "sim", "families": ["sim"],
            "parameter_size": "0B", "quantization_level": "Q4_0"},
    }]})
}

/// State of one answer.
struct Lines {
    /// The start of every line.
    head: String,
    model: String,
    number: u64,
    /// Whether the endpoint is `/api/generate`.
    generates: bool,
    prompt_tokens: u64,
    /// The incomplete call: its number, its name and its arguments so far.
    call: Option<(u64, String, String)>,
}

impl Lines {
    fn line(&self, said: &str) -> Event {
        let head = &self.head;
        Event { name: None, data: format!(r#"{head}{said},"done":false}}"#) }
    }

    /// A line of text. `said` holds the members beside the text.
    fn text(&self, text: &str, said: &str) -> String {
        let text = quoted(text);
        if self.generates {
            format!(r#""response":{text}{said}"#)
        } else {
            format!(r#""message":{{"role":"assistant","content":{text}{said}}}"#)
        }
    }

    /// The current call, if it is complete. A call that is cut off is omitted.
    fn called(&mut self) -> Option<Event> {
        let (index, name, arguments) = self.call.take()?;
        if serde_json::from_str::<Value>(&arguments).is_err() {
            return None;
        }
        let (id, name) = (self.call_id(index), quoted(&name));
        let call = format!(
            r#","tool_calls":[{{"id":"{id}","function":{{"index":{index},"name":{name},"arguments":{arguments}}}}}]"#
        );
        Some(self.line(&self.text("", &call)))
    }

    fn call_id(&self, index: u64) -> String {
        format!("call_sim{}_{index}", self.number)
    }

    fn end(&self, totals: Totals) -> Value {
        json!({
            "done": true,
            "done_reason": if totals.stop == Stop::Length { "length" } else { "stop" },
            "total_duration": 2_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": 500_000,
            "eval_count": totals.tokens,
            "eval_duration": 500_000,
        })
    }
}

impl Encoder for Lines {
    fn layout(&self) -> Layout {
        Layout::Ndjson
    }

    fn opening(&mut self, _first: Option<&Piece>) -> Vec<Event> {
        Vec::new()
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        let mut events = Vec::new();
        let said = match piece {
            Piece::Text(token) | Piece::Refusal(token) => self.text(token, ""),
            Piece::Think(token) => self.text("", &format!(r#","thinking":{}"#, quoted(token))),
            Piece::Call { index, name, fragment } => {
                match &mut self.call {
                    Some((open, _, arguments)) if open == index => arguments.push_str(fragment),
                    _ => {
                        events.extend(self.called());
                        self.call = Some((*index, name.clone(), fragment.clone()));
                    }
                }
                return events;
            }
        };
        events.extend(self.called());
        events.push(self.line(&said));
        events
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events: Vec<Event> = self.called().into_iter().collect();
        let end = self.end(totals).to_string();
        let end = end.strip_prefix('{').unwrap_or_default();
        let (head, text) = (&self.head, self.text("", ""));
        events.push(Event { name: None, data: format!("{head}{text},{end}") });
        events
    }

    fn failure(&self) -> Vec<Event> {
        let error = r#"{"error":"The simulated upstream fails here, as the model name asks."}"#;
        vec![Event { name: None, data: error.to_owned() }]
    }

    fn junk(&self) -> Event {
        Event { name: None, data: format!(r#"{}"message":{{"role":"assis"#, self.head) }
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        let (mut text, mut thinking) = (String::new(), String::new());
        let mut calls: Vec<(u64, &str, String)> = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(token) | Piece::Refusal(token) => text.push_str(token),
                Piece::Think(token) => thinking.push_str(token),
                Piece::Call { index, name, fragment } => match calls.last_mut() {
                    Some((open, _, arguments)) if open == index => arguments.push_str(fragment),
                    _ => calls.push((*index, name, fragment.clone())),
                },
            }
        }
        let mut body = self.end(totals);
        set(&mut body, "model", json!(self.model));
        set(&mut body, "created_at", json!(CREATED));
        if self.generates {
            set(&mut body, "response", json!(text));
            return body;
        }
        let mut message = json!({"role": "assistant", "content": text});
        if !thinking.is_empty() {
            set(&mut message, "thinking", json!(thinking));
        }
        let calls: Vec<Value> = calls
            .into_iter()
            .filter_map(|(index, name, arguments)| {
                let arguments: Value = serde_json::from_str(&arguments).ok()?;
                let function = json!({"index": index, "name": name, "arguments": arguments});
                Some(json!({"id": self.call_id(index), "function": function}))
            })
            .collect();
        if !calls.is_empty() {
            set(&mut message, "tool_calls", calls.into());
        }
        set(&mut body, "message", message);
        body
    }
}
