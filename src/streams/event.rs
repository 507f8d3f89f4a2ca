//! Events of a durable stream: the bytes of one event as they were produced, framed as a server-sent event with its
//! position. They are framed once, for all viewers.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;

use super::log::Entry;
use super::position::Position;
use crate::wire::dialect::Ending;
use crate::wire::framing;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// A whole block of an event stream, with its `id`.
    pub block: Bytes,
    /// The event in the framing of its producer: a slice of the block.
    pub produced: Bytes,
    /// It was written because the stream was cancelled or lost, and by nothing that the upstream sent. It is the last.
    pub cancelled: bool,
}

/// The framing in which events are produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// JSON, one value per line.
    Ndjson,
}

impl Framing {
    /// The framing of a media type; `None`: its events cannot be told apart within an incomplete body.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "text/event-stream" => Some(Self::Sse),
            "application/x-ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }

    fn terminator(self) -> &'static [u8] {
        match self {
            Self::Sse => b"\n\n",
            Self::Ndjson => b"\n",
        }
    }
}

impl Event {
    /// An event of these bytes: one whole event in its framing, its terminator included. The id is the last field:
    /// some clients take an id as received when they have read its line, although the rest of the block is lost.
    pub fn new(position: Position, framing: Framing, produced: &[u8]) -> Self {
        let id = id(position);
        let mut block = BytesMut::with_capacity(produced.len() + id.len() + 8);
        match framing {
            Framing::Sse => block.put_slice(produced.strip_suffix(b"\n").unwrap_or(produced)),
            Framing::Ndjson => {
                block.put_slice(b"data: ");
                block.put_slice(produced);
            }
        }
        let end = block.len();
        block.put_slice(&id);
        let block = block.freeze();
        let produced = match framing {
            // The id means nothing to a decoder.
            Framing::Sse => block.clone(),
            Framing::Ndjson => block.slice("data: ".len()..end),
        };
        Self { produced, block, cancelled: false }
    }

    /// The event of a block that was written at this position in this framing; `None`: it was not.
    pub fn of_block(position: Position, framing: Framing, block: Bytes) -> Option<Self> {
        let id = format!("id: {position}\n\n");
        let end = block.strip_suffix(id.as_bytes())?.len();
        let produced = match framing {
            Framing::Sse => block.clone(),
            Framing::Ndjson => {
                let start = "data: ".len();
                block.starts_with(b"data: ").then(|| block.slice(start..end.max(start)))?
            }
        };
        Some(Self { produced, block, cancelled: false })
    }

    /// Its lines without that of its id, and without the blank line.
    pub fn without_id(&self) -> &[u8] {
        let end = memmem::rfind(&self.block, b"\nid: ").map_or(0, |at| at + 1);
        self.block.get(..end).unwrap_or_default()
    }

    /// Its name and its data, as clients dispatch it.
    pub fn parts(&self) -> (Option<String>, String) {
        let mut framer = framing::Framer::new(framing::Framing::Sse, usize::MAX);
        let mut frames = Vec::new();
        // It is within its cap, and was written by the gateway.
        framer.push(self.block.clone(), &mut frames).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(frame) = frames.first() else { return (None, String::new()) };
        (frame.event.as_ref().map(|name| text(name)), text(&frame.data))
    }
}

/// The last line of an event, and the blank line that ends it.
pub fn id(position: Position) -> Bytes {
    format!("id: {position}\n\n").into()
}

/// Cuts produced bytes into whole events, without their copies. A rest without a terminator is an event of its own:
/// producers write whole events.
pub fn cut(framing: Framing, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let terminator = framing.terminator();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memmem::find(rest, terminator).map_or(rest.len(), |at| at + terminator.len());
        let (event, after) = rest.split_at(end);
        rest = after;
        Some(event)
    })
}

/// The state of a stream. It only ever goes from `Streaming` to one of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It is being produced.
    Streaming,
    /// The answer is complete.
    Complete,
    /// The upstream or the gateway failed.
    Error,
    /// It was cancelled by a request, or because nobody followed it.
    Cancelled,
    /// The node that produced it is gone.
    Lost,
}

impl State {
    /// Its name in responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// The end of a stream: the last record of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Its final state; never [`State::Streaming`].
    pub state: State,
    /// The cause of a stream that is not complete, without payloads.
    pub message: Option<String>,
    /// The end of a viewer's body in the dialect of the stream.
    pub ending: Ending,
}

impl StreamEnd {
    /// The end of a stream whose node has gone.
    pub fn lost(ending: Ending) -> Self {
        let message = "the node that produced this stream is gone; what it sent until then is here";
        Self { state: State::Lost, message: Some(message.to_owned()), ending }
    }
}

impl Entry for Event {
    type End = StreamEnd;

    fn size(&self) -> usize {
        self.block.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::position::Epoch;
    use super::*;

    #[test]
    fn bytes_are_cut_at_the_end_of_each_event() {
        let sse: Vec<_> = cut(Framing::Sse, b"data: a\n\nevent: b\ndata: b\ndata: c\n\n").collect();
        assert_eq!(sse, [&b"data: a\n\n"[..], b"event: b\ndata: b\ndata: c\n\n"]);
        let lines: Vec<_> = cut(Framing::Ndjson, b"{}\n{\"a\":1}\n").collect();
        assert_eq!(lines, [&b"{}\n"[..], b"{\"a\":1}\n"]);
        assert_eq!(cut(Framing::Sse, b"").count(), 0);
        assert_eq!(cut(Framing::Sse, b"data: a").collect::<Vec<_>>(), [b"data: a"]);
    }

    #[test]
    fn an_event_carries_its_position_in_its_own_block() {
        let position = Epoch::random().at(7);
        let event = Event::new(position, Framing::Sse, b"event: a\ndata: 1\n\n");
        assert_eq!(event.block, format!("event: a\ndata: 1\nid: {position}\n\n"));
        assert_eq!(event.produced, event.block);
        let event = Event::new(position, Framing::Ndjson, b"{\"a\":1}\n");
        assert_eq!(event.block, format!("data: {{\"a\":1}}\nid: {position}\n\n"));
        assert_eq!(event.produced, "{\"a\":1}\n");
    }
}
