//! Chat protocols, from the caller's side: one file for each, one entry in [`PROTOCOLS`].
//!
//! Written from the vendors' documentation. They must never use the gateway's own dialects, or a
//! mistake there would be made on both sides and seen on neither.

mod anthropic;
mod cohere;
mod gemini;
mod ollama;
mod openai_chat;
mod openai_responses;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::payload::Framing;

/// Every protocol, by the name that the gateway's documents give it.
pub static PROTOCOLS: &[&Protocol] = &[
    &openai_chat::PROTOCOL,
    &openai_responses::PROTOCOL,
    &anthropic::PROTOCOL,
    &gemini::PROTOCOL,
    &ollama::PROTOCOL,
    &cohere::PROTOCOL,
];

/// The user's message of every request.
const QUESTION: &str = "Count.";

/// A caller's side of a chat protocol.
#[derive(Debug)]
pub struct Protocol {
    /// Its name.
    pub name: &'static str,
    /// The framing of a streamed response.
    pub(super) framing: Framing,
    /// The media type of a streamed answer.
    pub(super) media_type: &'static str,
    /// The path and query of a streamed request to this model.
    pub(super) path: fn(model: &str) -> String,
    /// The body of a streamed request to this model, for an answer of at most so many tokens.
    pub(super) request: fn(model: &str, max_tokens: u64) -> Value,
    /// Reads a payload of a streamed answer.
    pub(super) read: fn(payload: &str) -> Result<Event, serde_json::Error>,
    /// The payload that may follow the terminal event, once.
    pub(super) trailer: Option<&'static str>,
    /// The message of an error body, if it has the protocol's shape.
    pub(super) error: fn(body: &Value) -> Option<&str>,
}

/// The meaning of a payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// A part of the answer's text; empty for payloads without text.
    pub(super) text: String,
    /// The message of an in-band error.
    pub(super) error: Option<String>,
    /// This is the answer's terminal event.
    pub(super) end: bool,
}

impl Event {
    fn text(text: String) -> Self {
        Self { text, ..Self::default() }
    }

    fn error(message: impl Into<String>) -> Self {
        Self { error: Some(message.into()), ..Self::default() }
    }

    fn end() -> Self {
        Self { end: true, ..Self::default() }
    }
}

/// The protocol of this name.
pub fn named(name: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|protocol| protocol.name == name).copied()
}

/// The message of an error object as most vendors write it.
fn message(error: &Value) -> String {
    let message = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
    message.map_or_else(|| error.to_string(), ToOwned::to_owned)
}
