//! Vendor encoders of the simulator: the trait between an answer's content and its wire form.

use serde_json::Value;

use super::answer::{Piece, Stop};

/// How events are laid out as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Server-sent events.
    Sse,
    /// One event on each line.
    Ndjson,
    /// An AWS event stream.
    AwsEventStream,
    /// An AWS event stream whose messages wrap the events.
    AwsChunks,
    /// Server-sent events whose lines end with CRLF.
    Crlf,
    /// JSON, whose pieces come with all that stands between them.
    Json,
}

impl Layout {
    /// The media type of a stream that is laid out like this.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Sse | Self::Crlf => "text/event-stream; charset=utf-8",
            Self::Json => "application/json; charset=UTF-8",
            Self::Ndjson => "application/x-ndjson",
            Self::AwsEventStream | Self::AwsChunks => "application/vnd.amazon.eventstream",
        }
    }
}

/// One event, before it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: Option<&'static str>,
    pub(super) data: String,
}

/// The totals of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    /// Tokens sent, reasoning included, of one choice.
    pub(super) tokens: u64,
    /// How many of them were reasoning.
    pub(super) thinking: u64,
    pub(super) stop: Stop,
}

/// A vendor's words. It keeps what the vendor's grammar needs to remember, such as an open block.
pub(super) trait Encoder: Send {
    /// How its events are laid out.
    fn layout(&self) -> Layout {
        Layout::Sse
    }
    /// What comes with the head. `first` is the piece that will come first.
    fn opening(&mut self, first: Option<&Piece>) -> Vec<Event>;
    /// One token.
    fn say(&mut self, piece: &Piece) -> Vec<Event>;
    /// Everything after the last token; the terminator is the last event.
    fn closing(&mut self, totals: Totals) -> Vec<Event>;
    /// How many events at the end of `closing` are the terminator.
    fn terminators(&self) -> usize {
        1
    }
    /// The end of a stream that failed.
    fn failure(&self) -> Vec<Event>;
    /// An event whose data is no JSON.
    fn junk(&self) -> Event;
    /// A whole answer that is not streamed.
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
