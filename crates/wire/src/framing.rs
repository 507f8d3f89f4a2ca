//! Framings: how an upstream's bytes are cut into frames, independent of their meaning.

use bytes::Bytes;

use super::{aws_eventstream, json_array, ndjson, sse};

/// One unit of a framing, in its original bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The event's name, if the framing has names and the upstream set one.
    pub event: Option<Bytes>,
    /// The payload, unchanged.
    pub data: Bytes,
}

/// Framing of a dialect's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
    /// One JSON value per line.
    Ndjson,
    /// A JSON array of objects.
    JsonArray,
    /// `application/vnd.amazon.eventstream`. Its messages may wrap events of a model's own protocol.
    AwsEventStream,
    /// The whole body as one frame: an answer that is not streamed.
    Whole,
}

impl Framing {
    /// The framing of bytes, by their beginning where it contradicts their label: some upstreams label streams
    /// as JSON or HTML, and whole bodies as streams or text. `None` if more bytes are needed to decide.
    pub fn of_bytes(self, head: &[u8]) -> Option<Self> {
        let head = beginning(head);
        let first = head.first()?;
        match (self, first) {
            // The length of a message, which is less than 16 MiB. No text begins with a zero byte.
            (_, 0) => Some(Self::AwsEventStream),
            (Self::Sse | Self::AwsEventStream, b'{') => Some(Self::Whole),
            // A line holds a whole value. A value across several lines is not NDJSON.
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

/// The bytes after a byte order mark and leading blanks.
pub fn beginning(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes).trim_ascii_start()
}

/// Whether bytes begin an HTML or XML page, which is never an answer of a dialect.
pub fn is_page(bytes: &[u8]) -> bool {
    beginning(bytes).starts_with(b"<")
}

/// Prefixes of lines of server-sent events.
const FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// Error of bytes that cannot be cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// A frame exceeds the cap.
    TooLong {
        /// The cap in bytes.
        cap: usize,
    },
    /// The bytes violate the rules of their framing.
    Corrupt {
        /// The violated rule.
        why: &'static str,
    },
}

/// Cuts bytes into frames. The frames do not depend on how the bytes are sliced.
#[derive(Debug)]
pub enum Framer {
    /// Server-sent events.
    Sse(sse::Framer),
    /// One JSON value per line.
    Ndjson(ndjson::Framer),
    /// Objects of a JSON array.
    JsonArray(json_array::Framer),
    /// Binary AWS messages.
    AwsEventStream(aws_eventstream::Framer),
    /// Collects the whole body.
    Whole {
        /// The bytes so far.
        body: Vec<u8>,
        /// The most bytes of the body.
        cap: usize,
    },
}

impl Framer {
    /// Creates a framer whose frames, complete or not, never exceed `cap` bytes.
    pub fn new(framing: Framing, cap: usize) -> Self {
        match framing {
            Framing::Sse => Self::Sse(sse::Framer::new(cap)),
            Framing::Ndjson => Self::Ndjson(ndjson::Framer::new(cap)),
            Framing::JsonArray => Self::JsonArray(json_array::Framer::new(cap)),
            Framing::AwsEventStream => Self::AwsEventStream(aws_eventstream::Framer::new(cap)),
            Framing::Whole => Self::Whole { body: Vec::new(), cap },
        }
    }

    /// Reads bytes and appends the frames that they complete.
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

    /// Number of buffered bytes of an incomplete frame.
    pub fn buffered(&self) -> usize {
        match self {
            Self::Sse(framer) => framer.buffered(),
            Self::Ndjson(framer) => framer.buffered(),
            Self::JsonArray(framer) => framer.buffered(),
            Self::AwsEventStream(framer) => framer.buffered(),
            Self::Whole { body, .. } => body.len(),
        }
    }

    /// Handles the end of the bytes: appends the remaining frame, even without its end mark. A decoder must not
    /// treat such a frame as complete unless its payload is.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        match self {
            Self::Sse(framer) => framer.finish(out),
            Self::Ndjson(framer) => framer.finish(out),
            Self::JsonArray(framer) => framer.finish(out),
            Self::AwsEventStream(framer) => framer.finish(out),
            Self::Whole { body, .. } => {
                let mut data = Bytes::from(std::mem::take(body));
                // JSON must not begin with a byte order mark, but some servers write it (RFC 8259, section
                // 8.1).
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

    /// Failure mode 37: the cap of a body that is not streamed covers all of it, however it is cut.
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
