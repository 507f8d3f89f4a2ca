//! Answers in the format of Amazon Bedrock's `Converse` and `ConverseStream`.
//!
//! Modelled on recorded streams: texts have no start event, a signature closes reasoning, usage follows the
//! stop, and every payload ends with padding.

use axum::http::Uri;
use serde_json::{Value, json};

use super::answer::{Piece, Stop};
use super::aws_frames::{EXCEPTION, unescaped};
use super::encoder::{Encoder, Event, Layout, Totals, quoted};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// Placeholder for the vendor's encrypted signature.
const SIGNATURE: &str = "c2ltdWxhdGVkLXNpZ25hdHVyZQ==";

/// The vendor Amazon Bedrock.
pub(super) struct Bedrock;

impl Vendor for Bedrock {
    fn paths(&self) -> &'static [&'static str] {
        &["/model/{model}/converse", "/model/{model}/converse-stream"]
    }

    fn request_id(&self) -> &'static str {
        "x-amzn-requestid"
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        let (model, stream) = named(uri, "converse-stream");
        let last = fields.last("messages")?;
        let blocks = |message: &Value, kind: &str| {
            message["content"]
                .as_array()
                .is_some_and(|blocks| blocks.iter().any(|block| block.get(kind).is_some()))
        };
        let calls = fields.list("messages")?.iter().any(|message| blocks(message, "toolUse"));
        let tools = fields.value.pointer("/toolConfig/tools").and_then(Value::as_array);
        if calls && tools.is_none() {
            let message = "The toolConfig field must be defined when using toolUse and toolResult content blocks.";
            return Err(RequestError::invalid(message.to_owned(), Some("toolConfig")));
        }
        let name = |tool: &Value| Some(tool.pointer("/toolSpec/name")?.as_str()?.to_owned());
        Ok(SimRequest {
            model,
            stream,
            form: "chat",
            usage: true,
            choices: 1,
            max_tokens: fields.value.pointer("/inferenceConfig/maxTokens").and_then(Value::as_u64),
            tools: tools.into_iter().flatten().filter_map(name).collect(),
            repeated: Value::Null,
            answers_tools: blocks(last, "toolResult"),
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        let prompt_tokens = ask.prompt_tokens;
        Box::new(Message { number, prompt_tokens, open: None, index: 0 })
    }

    fn refusal(&self, refused: &RequestError, _request_id: &str) -> Value {
        refusal(refused)
    }

    fn error_type(&self, refused: &RequestError) -> Option<&'static str> {
        Some(error_type(refused))
    }
}

/// The model in a path, and whether the last segment is `streams`.
pub(super) fn named(uri: &Uri, streams: &str) -> (String, bool) {
    let mut segments = uri.path().trim_start_matches('/').split('/').skip(1);
    let model = unescaped(segments.next().unwrap_or_default());
    (model, segments.next() == Some(streams))
}

/// The body of an error. The error's type is in a header.
pub(super) fn refusal(refused: &RequestError) -> Value {
    json!({"message": refused.message})
}

/// The type of an error.
pub(super) fn error_type(refused: &RequestError) -> &'static str {
    match refused.status {
        401 => "UnrecognizedClientException",
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}

/// State of one answer.
struct Message {
    number: u64,
    prompt_tokens: u64,
    open: Option<Block>,
    /// Index of the open block, or of the next one.
    index: u64,
}

/// A content block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Reasoning,
    Text,
    /// The call with this index.
    Tool(u64),
}

impl Message {
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
        if let Piece::Call { index, name, .. } = piece {
            let (id, name) = (self.call_id(*index), quoted(name));
            events.push(event(
                "contentBlockStart",
                format!(
                    r#"{{"contentBlockIndex":{},"start":{{"toolUse":{{"name":{name},"toolUseId":"{id}"}}}}}}"#,
                    self.index
                ),
            ));
        }
        events
    }

    /// Closes the open block.
    fn leave(&mut self) -> Vec<Event> {
        let Some(block) = self.open.take() else {
            return Vec::new();
        };
        let mut events = Vec::new();
        if block == Block::Reasoning {
            events.push(self.delta(&json!({"reasoningContent": {"signature": SIGNATURE}})));
        }
        let index = self.index;
        events.push(event("contentBlockStop", format!(r#"{{"contentBlockIndex":{index}}}"#)));
        self.index = index.saturating_add(1);
        events
    }

    fn delta(&self, delta: &Value) -> Event {
        let index = self.index;
        event("contentBlockDelta", format!(r#"{{"contentBlockIndex":{index},"delta":{delta}}}"#))
    }

    fn call_id(&self, index: u64) -> String {
        format!("tooluse_sim{}_{index}", self.number)
    }

    fn usage(&self, totals: Totals) -> Value {
        let total = self.prompt_tokens.saturating_add(totals.tokens);
        json!({"inputTokens": self.prompt_tokens, "outputTokens": totals.tokens, "totalTokens": total})
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
                    let words = json!({"text": text, "signature": SIGNATURE});
                    json!({"reasoningContent": {"reasoningText": words}})
                }
                Piece::Text(_) | Piece::Refusal(_) => json!({"text": text}),
                Piece::Call { index, name, .. } => json!({"toolUse": {
                    "toolUseId": self.call_id(*index),
                    "name": name,
                    "input": serde_json::from_str(&text).unwrap_or_else(|_| json!({})),
                }}),
            })
            .collect()
    }
}

impl Encoder for Message {
    fn layout(&self) -> Layout {
        Layout::AwsEventStream
    }

    fn opening(&mut self, _first: Option<&Piece>) -> Vec<Event> {
        vec![event("messageStart", r#"{"role":"assistant"}"#.to_owned())]
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        let mut events = self.enter(piece);
        events.extend(match piece {
            Piece::Text(token) => Some(self.delta(&json!({"text": token}))),
            Piece::Think(token) => Some(self.delta(&json!({"reasoningContent": {"text": token}}))),
            Piece::Call { fragment, .. } => {
                Some(self.delta(&json!({"toolUse": {"input": fragment}})))
            }
            // The vendor's filter leaves no text.
            Piece::Refusal(_) => None,
        });
        events
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events = self.leave();
        let reason = reason(totals.stop);
        events.push(event("messageStop", format!(r#"{{"stopReason":"{reason}"}}"#)));
        let usage = self.usage(totals);
        events
            .push(event("metadata", format!(r#"{{"metrics":{{"latencyMs":1}},"usage":{usage}}}"#)));
        events
    }

    /// The stop and the usage after it.
    fn terminators(&self) -> usize {
        2
    }

    fn failure(&self) -> Vec<Event> {
        vec![failure()]
    }

    fn junk(&self) -> Event {
        junk()
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        json!({
            "output": {"message": {"role": "assistant", "content": self.content(pieces)}},
            "stopReason": reason(totals.stop),
            "usage": self.usage(totals),
            "metrics": {"latencyMs": 1},
        })
    }
}

/// The exception that ends a stream.
pub(super) fn failure() -> Event {
    let name = "exception:serviceUnavailableException";
    debug_assert!(name.starts_with(EXCEPTION));
    event(
        name,
        r#"{"message":"The service is temporarily unable to handle the request."}"#.to_owned(),
    )
}

/// A message whose checksum is wrong.
pub(super) fn junk() -> Event {
    event(
        "spoilt:contentBlockDelta",
        r#"{"contentBlockIndex":0,"delta":{"text":"spoilt"}}"#.to_owned(),
    )
}

/// The block that a piece belongs to. `None` for a refusal.
fn block(piece: &Piece) -> Option<Block> {
    match piece {
        Piece::Think(_) => Some(Block::Reasoning),
        Piece::Text(_) => Some(Block::Text),
        Piece::Call { index, .. } => Some(Block::Tool(*index)),
        Piece::Refusal(_) => None,
    }
}

fn event(name: &'static str, data: String) -> Event {
    Event { name: Some(name), data }
}

fn reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Calls => "tool_use",
        Stop::Refusal => "content_filtered",
    }
}
