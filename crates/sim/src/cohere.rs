//! Answers in the format of Cohere's chat API, version 2.
//!
//! Modelled on recorded streams: contents and calls are numbered separately, every block ends before the next
//! one begins, usage is in the final event, and `[DONE]` follows it.

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, Stop};
use super::encoder::{Encoder, Event, Totals, quoted, set};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// The vendor Cohere.
pub(super) struct Cohere;

impl Vendor for Cohere {
    fn paths(&self) -> &'static [&'static str] {
        &["/v2/chat"]
    }

    fn request_id(&self) -> &'static str {
        "x-debug-trace-id"
    }

    fn read(&self, _uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        let model = fields.text("model")?;
        let last = fields.last("messages")?;
        let choice = fields.value.get("tool_choice").and_then(Value::as_str);
        if fields.has("tool_choice") && !matches!(choice, Some("REQUIRED" | "NONE")) {
            let message = "invalid tool_choice: must be one of REQUIRED, NONE".to_owned();
            return Err(RequestError::invalid(message, Some("tool_choice")));
        }
        let p = fields.value.get("p").and_then(Value::as_f64);
        if p.is_some_and(|p| !(0.01..=0.99).contains(&p)) {
            let message = "invalid request: p must be between 0.01 and 0.99".to_owned();
            return Err(RequestError::invalid(message, Some("p")));
        }
        Ok(SimRequest {
            model,
            stream: fields.flag("stream")?.unwrap_or(false),
            form: "chat",
            usage: true,
            choices: 1,
            max_tokens: fields.number("max_tokens")?,
            tools: fields.tool_names("/function/name"),
            repeated: Value::Null,
            answers_tools: last.get("role").and_then(Value::as_str) == Some("tool"),
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(Message { number, prompt_tokens: ask.prompt_tokens, open: None, contents: 0 })
    }

    fn refusal(&self, refused: &RequestError, request_id: &str) -> Value {
        json!({"id": request_id, "message": refused.message})
    }

    fn missing(&self, field: &str) -> String {
        format!("invalid request: {field} is required")
    }

    fn wrong_type(&self, field: &str, wanted: &str) -> String {
        format!("invalid type: parameter {field} must be {wanted}")
    }
}

/// Kind of the open block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    /// The call with this index.
    Tool(u64),
}

fn block(piece: &Piece) -> Block {
    match piece {
        Piece::Think(_) => Block::Thinking,
        Piece::Text(_) | Piece::Refusal(_) => Block::Text,
        Piece::Call { index, .. } => Block::Tool(*index),
    }
}

/// State of one answer.
struct Message {
    number: u64,
    prompt_tokens: u64,
    open: Option<Block>,
    /// Number of contents that have ended.
    contents: u64,
}

impl Message {
    fn enter(&mut self, piece: &Piece) -> Vec<Event> {
        let next = block(piece);
        if self.open == Some(next) {
            return Vec::new();
        }
        let mut events = self.leave();
        self.open = Some(next);
        let index = self.contents;
        events.push(match piece {
            Piece::Call { index, name, .. } => {
                let (id, name) = (self.call_id(*index, name), quoted(name));
                event("tool-call-start", &format!(
                    r#","index":{index},"delta":{{"message":{{"tool_calls":{{"id":{id},"type":"function","function":{{"name":{name},"arguments":""}}}}}}}}"#
                ))
            }
            Piece::Think(_) => event("content-start", &format!(
                r#","index":{index},"delta":{{"message":{{"content":{{"type":"thinking","thinking":""}}}}}}"#
            )),
            Piece::Text(_) | Piece::Refusal(_) => event("content-start", &format!(
                r#","index":{index},"delta":{{"message":{{"content":{{"type":"text","text":""}}}}}}"#
            )),
        });
        events
    }

    fn leave(&mut self) -> Vec<Event> {
        match self.open.take() {
            None => Vec::new(),
            Some(Block::Tool(index)) => {
                vec![event("tool-call-end", &format!(r#","index":{index}"#))]
            }
            Some(Block::Text | Block::Thinking) => {
                let index = self.contents;
                self.contents = index.saturating_add(1);
                vec![event("content-end", &format!(r#","index":{index}"#))]
            }
        }
    }

    /// A call id in the vendor's format, which starts with the tool's name.
    fn call_id(&self, index: u64, name: &str) -> String {
        quoted(&format!("{name}_sim{}:{index}", self.number))
    }

    fn usage(&self, totals: Totals) -> Value {
        let counts = json!({"input_tokens": self.prompt_tokens, "output_tokens": totals.tokens});
        let mut tokens = counts.clone();
        if totals.thinking > 0 {
            set(&mut tokens, "reasoning_tokens", json!(totals.thinking));
        }
        json!({"billed_units": counts, "tokens": tokens, "cached_tokens": 0})
    }
}

impl Encoder for Message {
    fn opening(&mut self, _first: Option<&Piece>) -> Vec<Event> {
        let data = format!(
            r#"{{"id":"00000000-0000-4000-8000-{:012}","type":"message-start","delta":{{"message":{{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}}}}"#,
            self.number
        );
        vec![Event { name: Some("message-start"), data }]
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        let mut events = self.enter(piece);
        let index = self.contents;
        events.push(match piece {
            Piece::Text(token) | Piece::Refusal(token) => event("content-delta", &format!(
                r#","index":{index},"delta":{{"message":{{"content":{{"text":{}}}}}}}"#, quoted(token)
            )),
            Piece::Think(token) => event("content-delta", &format!(
                r#","index":{index},"delta":{{"message":{{"content":{{"thinking":{}}}}}}}"#, quoted(token)
            )),
            Piece::Call { index, fragment, .. } => event("tool-call-delta", &format!(
                r#","index":{index},"delta":{{"message":{{"tool_calls":{{"function":{{"arguments":{}}}}}}}}}"#, quoted(fragment)
            )),
        });
        events
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events = self.leave();
        let (reason, usage) = (reason(totals.stop), self.usage(totals));
        events.push(event(
            "message-end",
            &format!(r#","delta":{{"finish_reason":"{reason}","usage":{usage}}}"#),
        ));
        events.push(Event { name: None, data: "[DONE]".to_owned() });
        events
    }

    fn failure(&self) -> Vec<Event> {
        let error = r#","delta":{"error":"The simulated upstream fails here, as the model name asks.","finish_reason":"ERROR"}"#;
        vec![event("message-end", error), Event { name: None, data: "[DONE]".to_owned() }]
    }

    fn junk(&self) -> Event {
        let data = r#"{"type":"content-delta","index":0,"del"#.to_owned();
        Event { name: Some("content-delta"), data }
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        let mut blocks: Vec<(&Piece, String)> = Vec::new();
        for piece in pieces {
            let (Piece::Text(token)
            | Piece::Refusal(token)
            | Piece::Think(token)
            | Piece::Call { fragment: token, .. }) = piece;
            match blocks.last_mut() {
                Some((open, text)) if block(open) == block(piece) => text.push_str(token),
                _ => blocks.push((piece, token.clone())),
            }
        }
        let (mut content, mut calls) = (Vec::new(), Vec::new());
        for (piece, text) in blocks {
            match piece {
                Piece::Think(_) => content.push(json!({"type": "thinking", "thinking": text})),
                Piece::Text(_) | Piece::Refusal(_) => {
                    content.push(json!({"type": "text", "text": text}));
                }
                Piece::Call { index, name, .. } => calls.push(json!({
                    "id": format!("{name}_sim{}:{index}", self.number),
                    "type": "function",
                    "function": {"name": name, "arguments": text},
                })),
            }
        }
        let mut message = json!({"role": "assistant"});
        for (name, list) in [("content", content), ("tool_calls", calls)] {
            if !list.is_empty() {
                set(&mut message, name, list.into());
            }
        }
        json!({
            "id": format!("00000000-0000-4000-8000-{:012}", self.number),
            "message": message,
            "finish_reason": reason(totals.stop),
            "usage": self.usage(totals),
        })
    }
}

/// An event with its type as name. `rest` holds its other members, each after a comma.
fn event(name: &'static str, rest: &str) -> Event {
    Event { name: Some(name), data: format!(r#"{{"type":"{name}"{rest}}}"#) }
}

fn reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Refusal => "COMPLETE",
        Stop::Length => "MAX_TOKENS",
        Stop::Calls => "TOOL_CALL",
    }
}
