//! Payload reader: cuts a response body into the payloads of server-sent events or of JSON lines.
//! Independent of the gateway's own framing code, which it must never use.

use memchr::memchr;

/// The most bytes of a line or an event; more is no answer of a chat API.
const MAX_PAYLOAD: usize = 1 << 20;

/// The delimiters of payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events: the `data` fields between two blank lines.
    Sse,
    /// Newline-delimited JSON.
    Lines,
}

/// A body that cannot be read as payloads: a line that is too long, or no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FramingError(pub &'static str);

/// Reads the payloads of one body, in whatever pieces it arrives.
#[derive(Debug)]
pub(super) struct PayloadReader {
    framing: Framing,
    buffer: Vec<u8>,
    /// The index in `buffer` at which the next line begins.
    start: usize,
    /// The `data` of the event that has begun.
    data: Option<Vec<u8>>,
    /// Comments and blank lines: heartbeats.
    comments: u64,
}

impl PayloadReader {
    /// A reader of one body.
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, buffer: Vec::new(), start: 0, data: None, comments: 0 }
    }

    /// Adds bytes of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next payload that is whole.
    pub(super) fn next(&mut self) -> Result<Option<String>, FramingError> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let Some(length) = memchr(b'\n', rest) else {
                return self.within_bounds(rest.len()).map(|()| None);
            };
            let line = rest.get(..length).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
            self.start = self.start.saturating_add(length).saturating_add(1);
            self.within_bounds(line.len())?;
            let payload = match self.framing {
                Framing::Sse => self.field(&line),
                Framing::Lines if line.is_empty() => {
                    self.comments = self.comments.saturating_add(1);
                    None
                }
                Framing::Lines => Some(line),
            };
            if let Some(payload) = payload {
                let text = String::from_utf8(payload);
                return text.map(Some).map_err(|_| FramingError("the answer is not UTF-8"));
            }
        }
    }

    /// Whether bytes of an unfinished payload are left, as after a cut.
    pub(super) fn is_inside_payload(&self) -> bool {
        self.data.is_some() || self.start < self.buffer.len()
    }

    /// Comments and blank lines so far.
    pub(super) fn comments(&self) -> u64 {
        self.comments
    }

    /// Reads one line of an event stream; the event that a blank line ends.
    fn field(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.is_empty() {
            return self.data.take();
        }
        if line.starts_with(b":") {
            self.comments = self.comments.saturating_add(1);
        } else if let Some(value) = line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        None
    }

    fn within_bounds(&self, line: usize) -> Result<(), FramingError> {
        let held = self.data.as_ref().map_or(0, Vec::len);
        if line.saturating_add(held) > MAX_PAYLOAD {
            return Err(FramingError("a line or an event of the answer is longer than 1 MiB"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(framing: Framing, pieces: &[&[u8]]) -> (Vec<String>, bool, u64) {
        let mut reader = PayloadReader::new(framing);
        let mut payloads = Vec::new();
        for piece in pieces {
            reader.push(piece);
            while let Some(payload) = reader.next().unwrap() {
                payloads.push(payload);
            }
        }
        (payloads, reader.is_inside_payload(), reader.comments())
    }

    const EVENTS: &[u8] = b": ping\n\nevent: x\ndata: a\r\n\r\nid: 7\ndata:b\ndata: c\n\ndata: cut";

    #[test]
    fn events_are_read() {
        let wanted = vec!["a".to_owned(), "b\nc".to_owned()];
        assert_eq!(read(Framing::Sse, &[EVENTS]), (wanted, true, 1));
        assert_eq!(read(Framing::Sse, &[b"data: a\n\n"]), (vec!["a".to_owned()], false, 0));
    }

    #[test]
    fn json_lines_are_read() {
        let wanted = vec!["{}".to_owned(), "[1]".to_owned()];
        assert_eq!(read(Framing::Lines, &[b"{}\n\n[1]\r\n"]), (wanted, false, 1));
        assert!(read(Framing::Lines, &[b"{"]).1);
    }

    #[test]
    fn what_is_no_text_or_has_no_end_is_an_error() {
        let mut reader = PayloadReader::new(Framing::Sse);
        reader.push(b"data: \xff\n\n");
        assert!(reader.next().is_err());
        for line in [vec![b'x'; MAX_PAYLOAD + 1], b"data: 0123456789\n".repeat(100_000)] {
            let mut reader = PayloadReader::new(Framing::Sse);
            reader.push(&line);
            assert!(reader.next().is_err());
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(first in 0..EVENTS.len(), second in 0..EVENTS.len()) {
            let (first, second) = (first.min(second), first.max(second));
            let pieces = [&EVENTS[..first], &EVENTS[first..second], &EVENTS[second..]];
            prop_assert_eq!(read(Framing::Sse, &pieces), read(Framing::Sse, &[EVENTS]));
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for framing in [Framing::Sse, Framing::Lines] {
                let mut reader = PayloadReader::new(framing);
                reader.push(&bytes);
                for _ in 0..=bytes.len() {
                    if matches!(reader.next(), Ok(None)) {
                        break;
                    }
                }
                prop_assert_eq!(reader.next(), Ok(None));
            }
        }
    }
}
