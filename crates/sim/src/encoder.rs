//! Vendor encoders of the simulator: the trait between an answer's content and its wire format.

use serde_json::Value;

use super::answer::{Piece, Stop};

/// Encoding of events as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Server-sent events.
    Sse,
    /// One event per line.
    Ndjson,
    /// An AWS event stream.
    AwsEventStream,
    /// An AWS event stream whose messages wrap the events.
    AwsChunks,
    /// Server-sent events whose lines end with CRLF.
    Crlf,
    /// JSON pieces that include their separators.
    Json,
}

impl Layout {
    /// The media type of a stream with this layout.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Sse | Self::Crlf => "text/event-stream; charset=utf-8",
            Self::Json => "application/json; charset=UTF-8",
            Self::Ndjson => "application/x-ndjson",
            Self::AwsEventStream | Self::AwsChunks => "application/vnd.amazon.eventstream",
        }
    }
}

/// One event, before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: Option<&'static str>,
    pub(super) data: String,
}

/// The totals of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    /// Number of tokens sent for one choice, including reasoning.
    pub(super) tokens: u64,
    /// Number of reasoning tokens among them.
    pub(super) thinking: u64,
    pub(super) stop: Stop,
}

/// A vendor's wire format. It keeps the state that the format needs, such as an open block.
pub(super) trait Encoder: Send {
    /// Layout of the events.
    fn layout(&self) -> Layout {
        Layout::Sse
    }
    /// Events sent with the response head. `first` is the first piece of the answer.
    fn opening(&mut self, first: Option<&Piece>) -> Vec<Event>;
    /// Events of one token.
    fn say(&mut self, piece: &Piece) -> Vec<Event>;
    /// Events after the last token. The terminator is last.
    fn closing(&mut self, totals: Totals) -> Vec<Event>;
    /// Number of events at the end of `closing` that form the terminator.
    fn terminators(&self) -> usize {
        1
    }
    /// Events at the end of a failed stream.
    fn failure(&self) -> Vec<Event>;
    /// An event whose data is not valid JSON.
    fn junk(&self) -> Event;
    /// A complete answer that is not streamed.
    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value;
}

/// A JSON string, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Sets a member of an object.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}
