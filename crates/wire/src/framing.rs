//! Framings: how an upstream's bytes are cut into frames, before anyone asks what a frame means.

use bytes::Bytes;

use super::{aws_eventstream, json_array, ndjson, sse};

/// One unit of a framing, with its own bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The event's name, where the framing has one and the upstream gave one.
    pub event: Option<Bytes>,
    /// The payload as it came.
    pub data: Bytes,
}

/// How a dialect cuts its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
    /// One JSON value on each line.
    Ndjson,
    /// A JSON array of objects.
    JsonArray,
    /// `application/vnd.amazon.eventstream`. A message of it may wrap an event of a model's own protocol.
    AwsEventStream,
    /// The whole body is one frame: an answer that is not streamed.
    Whole,
}

impl Framing {
    /// How bytes are cut, by their beginning where that and their label disagree: some upstreams call
    /// streams JSON or HTML, and whole bodies streams or text. `None`: more bytes are needed to decide.
    pub fn of_bytes(self, head: &[u8]) -> Option<Self> {
        let head = beginning(head);
        let first = head.first()?;
        match (self, first) {
            // The length of a message, which is less than 16 MiB. No text begins with it.
            (_, 0) => Some(Self::AwsEventStream),
            (Self::Sse | Self::AwsEventStream, b'{') => Some(Self::Whole),
            // A line is a whole value; one that is written over several lines is no line.
            (Self::Ndjson, b'{') if head.len() == 1 => None,
            (Self::Ndjson, b'{') if matches!(head.get(1), Some(b'\n' | b'\r')) => Some(Self::Whole),
            (Self::Sse | Self::Ndjson | Self::AwsEventStream, b'[') => Some(Self::JsonArray),
            (Self::Sse, _) => Some(self),
            _ if FIELDS.iter().any(|field| head.starts_with(field)) => Some(Self::Sse),
            _ if FIELDS.iter().any(|field| field.starts_with(head)) => None,
            _ => Some(self),
        }
    }
}

/// A byte order mark.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Bytes without a byte order mark and blanks before them.
pub fn beginning(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes).trim_ascii_start()
}

/// Whether bytes begin a page, HTML or XML: no answer of any dialect does.
pub fn is_page(bytes: &[u8]) -> bool {
    beginning(bytes).starts_with(b"<")
}

/// What lines of server-sent events begin with.
const FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// Why bytes cannot be cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// A frame grew past the cap.
    TooLong {
        /// The cap in bytes.
        cap: usize,
    },
    /// The bytes break the rules of their framing.
    Corrupt {
        /// Which rule.
        why: &'static str,
    },
}

/// Cuts bytes into frames. Any slicing of the same bytes gives the same frames.
#[derive(Debug)]
pub enum Framer {
    /// Server-sent events.
    Sse(sse::Framer),
    /// Lines.
    Ndjson(ndjson::Framer),
    /// Objects of an array.
    JsonArray(json_array::Framer),
    /// Binary messages.
    AwsEventStream(aws_eventstream::Framer),
    /// Collects the body.
    Whole {
        /// What came so far.
        body: Vec<u8>,
        /// The most it may be.
        cap: usize,
    },
}

impl Framer {
    /// A framer whose frames, finished or not, never exceed `cap` bytes.
    pub fn new(framing: Framing, cap: usize) -> Self {
        match framing {
            Framing::Sse => Self::Sse(sse::Framer::new(cap)),
            Framing::Ndjson => Self::Ndjson(ndjson::Framer::new(cap)),
            Framing::JsonArray => Self::JsonArray(json_array::Framer::new(cap)),
            Framing::AwsEventStream => Self::AwsEventStream(aws_eventstream::Framer::new(cap)),
            Framing::Whole => Self::Whole { body: Vec::new(), cap },
        }
    }

    /// Takes bytes in and appends the frames that they complete.
    pub fn push(&mut self, bytes: Bytes, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        match self {
            Self::Sse(framer) => framer.push(&bytes, out),
            Self::Ndjson(framer) => framer.push(&bytes, out),
            Self::JsonArray(framer) => framer.push(bytes, out),
            Self::AwsEventStream(framer) => framer.push(bytes, out),
            Self::Whole { body, cap } if body.len().saturating_add(bytes.len()) > *cap => {
                Err(FramingError::TooLong { cap: *cap })
            }
            Self::Whole { body, .. } => {
                body.extend_from_slice(&bytes);
                Ok(())
            }
        }
    }

    /// The bytes of a frame that is not whole yet.
    pub fn buffered(&self) -> usize {
        match self {
            Self::Sse(framer) => framer.buffered(),
            Self::Ndjson(framer) => framer.buffered(),
            Self::JsonArray(framer) => framer.buffered(),
            Self::AwsEventStream(framer) => framer.buffered(),
            Self::Whole { body, .. } => body.len(),
        }
    }

    /// The bytes have ended: appends what they leave, even if its end mark is missing. A decoder
    /// must not take such a frame for whole unless its payload is.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        match self {
            Self::Sse(framer) => framer.finish(out),
            Self::Ndjson(framer) => framer.finish(out),
            Self::JsonArray(framer) => framer.finish(out),
            Self::AwsEventStream(framer) => framer.finish(out),
            Self::Whole { body, .. } => {
                let mut data = Bytes::from(std::mem::take(body));
                // JSON must not begin with it, and some servers write it (RFC 8259, section 8.1).
                if data.starts_with(BOM) {
                    data = data.slice(BOM.len()..);
                }
                out.push(Frame { event: None, data });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failure mode 37: the cap of a body that is not streamed counts all of it, however it is cut.
    #[test]
    fn fm37_whole_bodies_are_capped() {
        let mut whole = Framer::new(Framing::Whole, 8);
        let mut out = Vec::new();
        assert_eq!(whole.push(Bytes::from_static(b"12345678"), &mut out), Ok(()));
        assert_eq!(
            whole.push(Bytes::from_static(b"9"), &mut out),
            Err(FramingError::TooLong { cap: 8 })
        );
        whole.finish(&mut out);
        assert_eq!(out, [Frame { event: None, data: Bytes::from_static(b"12345678") }]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_whole_body() {
        let mut whole = Framer::new(Framing::Whole, 8);
        let mut out = Vec::new();
        whole.push(Bytes::from_static(b"\xEF\xBB\xBF{}"), &mut out).unwrap();
        whole.finish(&mut out);
        assert_eq!(out, [Frame { event: None, data: Bytes::from_static(b"{}") }]);
    }

    #[test]
    fn bytes_outrank_their_label() {
        use Framing::{AwsEventStream, JsonArray, Ndjson, Sse, Whole};
        for (label, head, expected) in [
            (Whole, "data: {}", Some(Sse)),
            (Whole, "\n\n: ping", Some(Sse)),
            (Whole, "event: x", Some(Sse)),
            (Whole, "da", None),
            (Whole, " ", None),
            (Whole, "", None),
            (Whole, "{", Some(Whole)),
            (Ndjson, "{", None),
            (Ndjson, "{\"", Some(Ndjson)),
            (Ndjson, "\u{feff}{\n", Some(Whole)),
            (Ndjson, "{\r\n", Some(Whole)),
            (Whole, "[", Some(Whole)),
            (Whole, "\u{feff}{", Some(Whole)),
            (Sse, " {", Some(Whole)),
            (Sse, "[", Some(JsonArray)),
            (Sse, "d", Some(Sse)),
            (JsonArray, "data:", Some(Sse)),
            (JsonArray, "[", Some(JsonArray)),
            (JsonArray, "{", Some(JsonArray)),
            (Ndjson, "id:", Some(Sse)),
            (Ndjson, "[", Some(JsonArray)),
            (AwsEventStream, "\0\0\0\x5d", Some(AwsEventStream)),
            (Whole, "\0\0\0\x5d", Some(AwsEventStream)),
            (Sse, "\0", Some(AwsEventStream)),
            (Ndjson, "\0\0", Some(AwsEventStream)),
            (AwsEventStream, "{", Some(Whole)),
            (AwsEventStream, "[", Some(JsonArray)),
            (AwsEventStream, "event:", Some(Sse)),
        ] {
            assert_eq!(label.of_bytes(head.as_bytes()), expected, "{label:?} {head:?}");
        }
    }

    #[test]
    fn an_empty_body_is_a_frame_too() {
        let mut out = Vec::new();
        Framer::new(Framing::Whole, 8).finish(&mut out);
        assert_eq!(out, [Frame::default()]);
    }
}
