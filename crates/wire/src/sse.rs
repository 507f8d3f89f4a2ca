//! Server-sent events: bytes to frames, and frames to bytes.
//!
//! Reads everything that WHATWG HTML section 9.2 allows (LF, CRLF and CR, a byte order mark, comments, any
//! slicing), and writes LF only. Frames borrow from their chunk. Nothing is decoded as text here, so that a
//! code point may be cut anywhere.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::framing::{Frame, FramingError};

/// Cuts an event stream into frames.
#[derive(Debug)]
pub struct Framer {
    /// The most bytes of an unfinished event.
    cap: usize,
    /// The bytes of an incomplete line.
    partial: BytesMut,
    event: Option<Bytes>,
    /// The first `data` line. It is usually the only one and stays a slice of its chunk.
    data: Option<Bytes>,
    /// All `data` lines joined, if there are several.
    joined: BytesMut,
    /// JSON in lines without a field name.
    raw: BytesMut,
    /// The last line ended with CR, so that a following LF belongs to it.
    after_cr: bool,
    /// No line has been read yet, so that a byte order mark may follow.
    at_start: bool,
}

impl Framer {
    /// Creates a framer whose events never exceed `cap` bytes.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            partial: BytesMut::new(),
            event: None,
            data: None,
            joined: BytesMut::new(),
            raw: BytesMut::new(),
            after_cr: false,
            at_start: true,
        }
    }

    /// Number of buffered bytes of an incomplete event.
    pub fn buffered(&self) -> usize {
        let data = self.data.as_ref().map_or(0, Bytes::len);
        self.partial.len() + data + self.joined.len() + self.raw.len()
    }

    /// Reads bytes and appends the frames that they complete.
    pub fn push(&mut self, bytes: &Bytes, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let mut rest = &bytes[..];
        if !rest.is_empty() && std::mem::take(&mut self.after_cr) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some((line, after)) =
            memchr2(b'\n', b'\r', rest).and_then(|end| rest.split_at_checked(end))
        {
            rest = match after {
                [b'\r', b'\n', rest @ ..] => rest,
                [terminator, rest @ ..] => {
                    self.after_cr = *terminator == b'\r' && rest.is_empty();
                    rest
                }
                [] => after,
            };
            if self.partial.is_empty() {
                self.line(bytes, line, out)?;
            } else {
                self.partial.extend_from_slice(line);
                let line = self.partial.split().freeze();
                self.line(&line, &line, out)?;
            }
        }
        self.partial.extend_from_slice(rest);
        self.check(self.partial.len())
    }

    /// Handles the end of the bytes. An event without its closing blank line is returned, too: some servers
    /// omit it, and a cut payload does not parse. JSON outside of all events is returned last, as an event
    /// named `error`.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        if !self.partial.is_empty() {
            let line = self.partial.split().freeze();
            // The line was within the cap when it was buffered.
            let _capped = self.line(&line, &line, out);
        }
        self.dispatch(out);
        if !self.raw.is_empty() {
            let event = Some(Bytes::from_static(b"error"));
            out.push(Frame { event, data: self.raw.split().freeze() });
        }
    }

    /// Checks the size of a raw line, including its field name, before it is parsed, so that the result is the
    /// same for a line in one piece and in several.
    fn check(&self, line: usize) -> Result<(), FramingError> {
        let len = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let held = line + self.joined.len() + len(&self.data) + len(&self.event);
        if held > self.cap { Err(FramingError::TooLong { cap: self.cap }) } else { Ok(()) }
    }

    /// Reads a line, a slice of `chunk`. Only stored values keep a reference to the chunk.
    fn line(
        &mut self,
        chunk: &Bytes,
        line: &[u8],
        out: &mut Vec<Frame>,
    ) -> Result<(), FramingError> {
        self.check(line.len())?;
        let line = match line.strip_prefix(b"\xEF\xBB\xBF") {
            Some(rest) if self.at_start => rest,
            _ => line,
        };
        self.at_start = false;
        if line.is_empty() {
            self.dispatch(out);
            return Ok(());
        }
        let (name, value) = field(line);
        match name {
            b"data" => self.data_line(chunk.slice_ref(value)),
            b"event" => self.event = (!value.is_empty()).then(|| chunk.slice_ref(value)),
            // Older llama.cpp servers report a mid-stream error as a field of its own.
            b"error" => {
                self.event = Some(Bytes::from_static(b"error"));
                self.data_line(chunk.slice_ref(value));
            }
            // Comments have an empty name. Ids and retry times apply to the upstream's connection only.
            b"" | b"id" | b"retry" => {}
            _ => self.stray(line),
        }
        Ok(())
    }

    /// Handles a line without a field name. Google reports some errors as JSON over many lines without `data:`.
    /// Lines are collected from the one that starts the JSON, and returned at the end.
    fn stray(&mut self, line: &[u8]) {
        let text = line.trim_ascii();
        let opens = text.starts_with(b"{") || text.starts_with(b"[{") || text == b"[";
        if (opens || !self.raw.is_empty()) && self.raw.len().saturating_add(line.len()) < self.cap {
            self.raw.extend_from_slice(line);
            self.raw.put_u8(b'\n');
        }
    }

    fn data_line(&mut self, value: Bytes) {
        if let Some(first) = self.data.take() {
            self.joined.extend_from_slice(&first);
        } else if self.joined.is_empty() {
            self.data = Some(value);
            return;
        }
        self.joined.put_u8(b'\n');
        self.joined.extend_from_slice(&value);
    }

    fn dispatch(&mut self, out: &mut Vec<Frame>) {
        let event = self.event.take();
        let data = match self.data.take() {
            Some(data) => data,
            None if self.joined.is_empty() => return,
            None => self.joined.split().freeze(),
        };
        out.push(Frame { event, data });
    }
}

/// Splits a line into its field name and its value: the text after the colon and one optional space.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let (name, value) = match memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) {
        Some((name, [_colon, value @ ..])) => (name, value),
        _ => (line, &[][..]),
    };
    (name, value.strip_prefix(b" ").unwrap_or(value))
}

/// Writes one event. `event` must be a name of the gateway's own or one that [`is_name`] accepts. `data` is
/// split at line ends, as the format requires; JSON contains none.
pub fn write(event: Option<&[u8]>, data: &[u8], out: &mut BytesMut) {
    out.reserve(event.map_or(0, |name| name.len() + 8) + data.len() + 8);
    if let Some(name) = event {
        out.put_slice(b"event: ");
        out.put_slice(name);
        out.put_u8(b'\n');
    }
    let mut rest = data;
    while let Some(end) = memchr2(b'\n', b'\r', rest) {
        let (line, tail) = rest.split_at(end);
        out.put_slice(b"data: ");
        out.put_slice(line);
        out.put_u8(b'\n');
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
    }
    out.put_slice(b"data: ");
    out.put_slice(rest);
    out.put_slice(b"\n\n");
}

/// Whether an upstream's event name may be forwarded to a caller: a short word of plain characters.
pub fn is_name(name: &[u8]) -> bool {
    name.len() <= 64 && name.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
