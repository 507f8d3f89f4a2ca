//! Answers in the format of Anthropic's Messages API.
//!
//! Modelled on recorded streams: consecutive blocks, a ping after the first block's start, one signature at the
//! end of a thinking block, cumulative usage at the end.

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, REFUSAL, Stop};
use super::encoder::{Encoder, Event, Totals, quoted};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// Path of the endpoint that counts a prompt's tokens.
pub(super) const COUNT: &str = "/v1/messages/count_tokens";
/// Placeholder for the vendor's encrypted signature.
const SIGNATURE: &str = "c2ltdWxhdGVkLXNpZ25hdHVyZQ==";

/// The vendor Anthropic.
pub(super) struct Anthropic;

impl Vendor for Anthropic {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/messages", COUNT]
    }

    fn request_id(&self) -> &'static str {
        "request-id"
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        let model = fields.text("model")?;
        let last = fields.last("messages")?;
        let counts = uri.path() == COUNT;
        if counts && fields.has("max_tokens") {
            let message = "max_tokens: Extra inputs are not permitted".to_owned();
            return Err(RequestError::invalid(message, Some("max_tokens")));
        }
        let blocks = last.get("content").and_then(Value::as_array);
        Ok(SimRequest {
            model,
            stream: !counts && fields.flag("stream")?.unwrap_or(false),
            form: if counts { "count" } else { "chat" },
            usage: true,
            choices: 1,
            max_tokens: match fields.number("max_tokens")? {
                None if !counts => return Err(fields.missing("max_tokens")),
                given => given,
            },
            tools: fields.tool_names("/name"),
            repeated: Value::Null,
            answers_tools: blocks
                .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result")),
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(Message::new(number, ask))
    }

    fn refusal(&self, refused: &RequestError, request_id: &str) -> Value {
        let kind = match refused.status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        json!({
            "type": "error",
            "error": {"type": kind, "message": refused.message},
            "request_id": request_id,
        })
    }

    fn missing(&self, field: &str) -> String {
        format!("{field}: Field required")
    }

    fn wrong_type(&self, field: &str, wanted: &str) -> String {
        format!("{field}: Input should be {wanted}")
    }
}

/// One Anthropic answer.
struct Message {
    number: u64,
    model: String,
    prompt_tokens: u64,
    /// The request only counts the prompt's tokens.
    counts: bool,
    open: Option<Block>,
    /// Index of the open block, or of the next one.
    index: u64,
}

/// A content block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    /// The call with this index.
    Tool(u64),
}

impl Message {
    /// Creates the answer with this number.
    fn new(number: u64, ask: &SimRequest) -> Self {
        Self {
            number,
            model: ask.model.clone(),
            prompt_tokens: ask.prompt_tokens,
            counts: ask.form == "count",
            open: None,
            index: 0,
        }
    }

    /// Opens the block of `piece`, unless it is open.
    fn enter(&mut self, piece: &Piece) -> Vec<Event> {
        let Some(block) = block(piece) else {
            return Vec::new();
        };
        if self.open == Some(block) {
            return Vec::new();
        }
        let mut events = self.leave();
        self.open = Some(block);
        let start = match piece {
            Piece::Call { index, name, .. } => {
                let (id, name) = (self.call_id(*index), quoted(name));
                format!(
                    r#"{{"type":"tool_use","id":"{id}","name":{name},"input":{{}},"caller":{{"type":"direct"}}}}"#
                )
            }
            Piece::Think(_) => r#"{"type":"thinking","thinking":"","signature":""}"#.to_owned(),
            Piece::Text(_) | Piece::Refusal(_) => r#"{"type":"text","text":""}"#.to_owned(),
        };
        let index = self.index;
        events.push(event(
            "content_block_start",
            &format!(r#","index":{index},"content_block":{start}"#),
        ));
        if matches!(piece, Piece::Call { .. }) {
            events.push(self.delta("input_json_delta", "partial_json", ""));
        }
        events
    }

    /// Closes the open block.
    fn leave(&mut self) -> Vec<Event> {
        let Some(block) = self.open.take() else {
            return Vec::new();
        };
        let mut events = Vec::new();
        if block == Block::Thinking {
            events.push(self.delta("signature_delta", "signature", SIGNATURE));
        }
        events.push(event("content_block_stop", &format!(r#","index":{}"#, self.index)));
        self.index = self.index.saturating_add(1);
        events
    }

    fn delta(&self, kind: &str, field: &str, text: &str) -> Event {
        let (index, text) = (self.index, quoted(text));
        event(
            "content_block_delta",
            &format!(r#","index":{index},"delta":{{"type":"{kind}","{field}":{text}}}"#),
        )
    }

    fn call_id(&self, index: u64) -> String {
        format!("toolu_sim{}_{index}", self.number)
    }

    fn content(&self, pieces: &[Piece]) -> Value {
        let mut blocks: Vec<(&Piece, String)> = Vec::new();
        for piece in pieces {
            let (Piece::Text(token) | Piece::Think(token) | Piece::Call { fragment: token, .. }) =
                piece
            else {
                continue;
            };
            match blocks.last_mut() {
                Some((open, text)) if block(open) == block(piece) => text.push_str(token),
                _ => blocks.push((piece, token.clone())),
            }
        }
        blocks
            .into_iter()
            .map(|(piece, text)| match piece {
                Piece::Think(_) => {
                    json!({"type": "thinking", "thinking": text, "signature": SIGNATURE})
                }
                Piece::Text(_) | Piece::Refusal(_) => json!({"type": "text", "text": text}),
                Piece::Call { index, name, .. } => json!({
                    "type": "tool_use",
                    "id": self.call_id(*index),
                    "name": name,
                    "input": serde_json::from_str(&text).unwrap_or_else(|_| json!({})),
                    "caller": {"type": "direct"},
                }),
            })
            .collect()
    }
}

impl Encoder for Message {
    fn opening(&mut self, first: Option<&Piece>) -> Vec<Event> {
        let (number, model, input) = (self.number, quoted(&self.model), self.prompt_tokens);
        let message = format!(
            r#"{{"model":{model},"id":"msg_sim{number}","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null,"usage":{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"output_tokens":1,"service_tier":"standard","inference_geo":"not_available"}}}}"#
        );
        let mut events = vec![event("message_start", &format!(r#","message":{message}"#))];
        let mut block = first.map(|piece| self.enter(piece)).unwrap_or_default().into_iter();
        events.extend(block.next());
        events.push(event("ping", ""));
        events.extend(block);
        events
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        let mut events = self.enter(piece);
        events.extend(match piece {
            Piece::Text(token) => Some(self.delta("text_delta", "text", token)),
            Piece::Think(token) => Some(self.delta("thinking_delta", "thinking", token)),
            Piece::Call { fragment, .. } => {
                Some(self.delta("input_json_delta", "partial_json", fragment))
            }
            // The vendor's refusal has no content; its text is in the details of the stop event.
            Piece::Refusal(_) => None,
        });
        events
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events = self.leave();
        let (reason, details) = (reason(totals.stop), details(totals.stop));
        let (input, output) = (self.prompt_tokens, totals.tokens);
        let thinking = if totals.thinking > 0 {
            let thinking = totals.thinking;
            format!(r#","output_tokens_details":{{"thinking_tokens":{thinking}}}"#)
        } else {
            String::new()
        };
        events.push(event(
            "message_delta",
            &format!(
                r#","delta":{{"stop_reason":"{reason}","stop_sequence":null,"stop_details":{details}}},"usage":{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output}{thinking}}}"#
            ),
        ));
        events.push(event("message_stop", ""));
        events
    }

    fn failure(&self) -> Vec<Event> {
        let number = self.number;
        vec![event(
            "error",
            &format!(
                r#","error":{{"details":null,"type":"overloaded_error","message":"Overloaded"}},"request_id":"req_sim{number}""#
            ),
        )]
    }

    fn junk(&self) -> Event {
        Event {
            name: Some("content_block_delta"),
            data: r#"{"type":"content_block_delta","index":0,"del"#.to_owned(),
        }
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        if self.counts {
            return json!({"input_tokens": self.prompt_tokens});
        }
        json!({
            "model": self.model,
            "id": format!("msg_sim{}", self.number),
            "type": "message",
            "role": "assistant",
            "content": self.content(pieces),
            "stop_reason": reason(totals.stop),
            "stop_sequence": null,
            "stop_details": details(totals.stop),
            "usage": {
                "input_tokens": self.prompt_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": totals.tokens,
                "service_tier": "standard",
            },
        })
    }
}

/// The block that a piece belongs to. `None` for a refusal.
fn block(piece: &Piece) -> Option<Block> {
    match piece {
        Piece::Think(_) => Some(Block::Thinking),
        Piece::Text(_) => Some(Block::Text),
        Piece::Call { index, .. } => Some(Block::Tool(*index)),
        Piece::Refusal(_) => None,
    }
}

/// An event with its type as name. `rest` holds its other fields, each after a comma.
fn event(name: &'static str, rest: &str) -> Event {
    Event { name: Some(name), data: format!(r#"{{"type":"{name}"{rest}}}"#) }
}

fn reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Calls => "tool_use",
        Stop::Refusal => "refusal",
    }
}

fn details(stop: Stop) -> Value {
    match stop {
        Stop::Refusal => {
            json!({"type": "refusal", "category": null, "explanation": REFUSAL.trim_end()})
        }
        Stop::End | Stop::Length | Stop::Calls => Value::Null,
    }
}
