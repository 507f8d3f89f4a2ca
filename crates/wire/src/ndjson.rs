//! Newline-delimited JSON: one frame per non-blank line.
//!
//! Frames borrow from their chunk. Nothing is decoded as text here, so that a code point may be cut anywhere.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::framing::{Frame, FramingError};

/// Cuts a body into lines.
#[derive(Debug)]
pub struct Framer {
    /// The most bytes of a line.
    cap: usize,
    /// The bytes of an incomplete line.
    partial: BytesMut,
}

impl Framer {
    /// Creates a framer whose lines never exceed `cap` bytes.
    pub fn new(cap: usize) -> Self {
        Self { cap, partial: BytesMut::new() }
    }

    /// Number of buffered bytes of an incomplete frame.
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Reads bytes and appends the frames that they complete.
    pub fn push(&mut self, bytes: &Bytes, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let mut rest = &bytes[..];
        while let Some((line, [_lf, after @ ..])) =
            memchr(b'\n', rest).and_then(|end| rest.split_at_checked(end))
        {
            rest = after;
            if self.partial.is_empty() {
                self.check(line.len())?;
                hand_out(bytes, line, out);
            } else {
                self.partial.extend_from_slice(line);
                let line = self.partial.split().freeze();
                self.check(line.len())?;
                hand_out(&line, &line, out);
            }
        }
        self.partial.extend_from_slice(rest);
        self.check(self.partial.len())
    }

    /// Handles the end of the bytes. A last line without its line end is returned, too; if it was cut, it does
    /// not parse.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        let line = self.partial.split().freeze();
        hand_out(&line, &line, out);
    }

    fn check(&self, line: usize) -> Result<(), FramingError> {
        if line > self.cap { Err(FramingError::TooLong { cap: self.cap }) } else { Ok(()) }
    }
}

/// Appends `line`, a slice of `chunk`, unless it is blank.
fn hand_out(chunk: &Bytes, line: &[u8], out: &mut Vec<Frame>) {
    let trimmed = line.trim_ascii();
    if !trimmed.is_empty() {
        let data = chunk.slice_ref(trimmed);
        out.push(Frame { event: None, data });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(bytes: &[u8], step: usize, cap: usize) -> (Vec<Frame>, Result<(), FramingError>) {
        let mut framer = Framer::new(cap);
        let mut out = Vec::new();
        for chunk in bytes.chunks(step) {
            if let Err(broken) = framer.push(&Bytes::copy_from_slice(chunk), &mut out) {
                return (out, Err(broken));
            }
        }
        framer.finish(&mut out);
        (out, Ok(()))
    }

    #[test]
    fn lines_are_frames_however_they_are_cut() {
        let body = "{\"a\":1}\n\r\n {\"b\":\"é🦀\"}\r\n\n{\"c\":3}";
        for step in 1..=body.len() {
            let (frames, _) = feed(body.as_bytes(), step, 64);
            let lines: Vec<&[u8]> = frames.iter().map(|frame| frame.data.as_ref()).collect();
            assert_eq!(
                lines,
                [b"{\"a\":1}".as_slice(), "{\"b\":\"é🦀\"}".as_bytes(), b"{\"c\":3}"]
            );
        }
    }

    /// Failure mode 37: a line that never ends is rejected at the cap.
    #[test]
    fn fm37_lines_are_capped() {
        for step in 1..20 {
            let (frames, result) = feed(b"{}\n{\"long\":\"xxxxxxxx\"}\n", step, 12);
            assert_eq!(result, Err(FramingError::TooLong { cap: 12 }), "{step}");
            assert_eq!(frames.len(), 1);
        }
    }
}
