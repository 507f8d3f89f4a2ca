//! Server-sent events: bytes to frames, and frames to bytes.
//!
//! Reads what WHATWG HTML section 9.2 allows (LF, CRLF and CR, a byte order mark, comments, any
//! slicing), writes LF only. Frames borrow the chunk they came in; nothing is decoded as text here,
//! so a code point may be cut anywhere.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::framing::{Broken, Frame};

/// Cuts an event stream into frames.
#[derive(Debug)]
pub struct Framer {
    /// The most bytes that an unfinished event may hold.
    cap: usize,
    /// The beginning of a line whose end has not come yet.
    partial: BytesMut,
    event: Option<Bytes>,
    /// The first `data` line, by far the commonest case: it stays a slice of its chunk.
    data: Option<Bytes>,
    /// All `data` lines joined, once there is a second one.
    joined: BytesMut,
    /// JSON that stands in lines of no field.
    raw: BytesMut,
    /// The last line ended with CR: a following LF belongs to it.
    after_cr: bool,
    /// No line has been read yet, so a byte order mark may lead.
    at_start: bool,
}

impl Framer {
    /// A framer whose events never exceed `cap` bytes.
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

    /// Takes bytes in and appends the frames that they complete.
    pub fn push(&mut self, mut bytes: Bytes, out: &mut Vec<Frame>) -> Result<(), Broken> {
        if !bytes.is_empty() && std::mem::take(&mut self.after_cr) && bytes.first() == Some(&b'\n')
        {
            let _lf = bytes.split_to(1);
        }
        while let Some(end) = memchr2(b'\n', b'\r', &bytes) {
            let mut line = bytes.split_to(end);
            let terminator = bytes.split_to(1);
            if terminator.first() == Some(&b'\r') {
                match bytes.first() {
                    Some(b'\n') => drop(bytes.split_to(1)),
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&line);
                line = self.partial.split().freeze();
            }
            self.check(line.len())?;
            self.line(line, out);
        }
        self.partial.extend_from_slice(&bytes);
        self.check(self.partial.len())
    }

    /// The bytes have ended. An event without its closing blank line is handed out all the same:
    /// some servers leave it out, and a cut payload does not parse. JSON outside of all events comes
    /// last, as an event named `error`.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        if !self.partial.is_empty() {
            let line = self.partial.split().freeze();
            self.line(line, out);
        }
        self.dispatch(out);
        if !self.raw.is_empty() {
            let event = Some(Bytes::from_static(b"error"));
            out.push(Frame { event, data: self.raw.split().freeze() });
        }
    }

    /// Counts a line as it came, field name and all, before anything is made of it. So the verdict
    /// is the same for a line that comes whole and for one that comes in pieces.
    fn check(&self, line: usize) -> Result<(), Broken> {
        let len = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let held = line + self.joined.len() + len(&self.data) + len(&self.event);
        if held > self.cap { Err(Broken::TooLong { cap: self.cap }) } else { Ok(()) }
    }

    fn line(&mut self, mut line: Bytes, out: &mut Vec<Frame>) {
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line = line.slice(3..);
        }
        if line.is_empty() {
            return self.dispatch(out);
        }
        let colon = memchr(b':', &line).unwrap_or(line.len());
        match line.get(..colon).unwrap_or_default() {
            b"data" => self.data_line(value(line, colon)),
            b"event" => {
                let name = value(line, colon);
                self.event = (!name.is_empty()).then_some(name);
            }
            // Older llama.cpp servers report a mid-stream error as a field of its own.
            b"error" => {
                self.event = Some(Bytes::from_static(b"error"));
                self.data_line(value(line, colon));
            }
            // Comments have an empty name. Ids and retry times of an upstream are its own.
            b"" | b"id" | b"retry" => {}
            _ => self.stray(&line),
        }
    }

    /// A line that is no field. Google reports some errors as JSON over many lines, without `data:`
    /// before them: from a line that opens JSON on, such lines are kept, and told at the end.
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

/// What follows the colon, and one space if there is one.
fn value(mut line: Bytes, colon: usize) -> Bytes {
    let space = line.get(colon + 1) == Some(&b' ');
    line.advance(line.len().min(colon + 1 + usize::from(space)));
    line
}

/// Writes one event. `event` must be a name of our own or one that [`is_name`] accepts; `data` is
/// split at line ends, as the format demands, which never happens to JSON.
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

/// Whether an upstream's event name may be repeated to a caller: a short word of plain characters.
pub fn is_name(name: &[u8]) -> bool {
    name.len() <= 64 && name.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
