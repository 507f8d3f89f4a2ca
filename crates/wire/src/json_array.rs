//! A JSON array in fragments: one frame for each object in it.
//!
//! The framer counts braces and skips strings. Objects are validated by their reader. Consecutive objects
//! without the brackets are accepted, too.

use bytes::{Bytes, BytesMut};

use super::framing::{Frame, FramingError};

/// Cuts an array into its objects.
#[derive(Debug)]
pub struct Framer {
    /// The most bytes of an object.
    cap: usize,
    /// The bytes of an incomplete object.
    partial: BytesMut,
    /// Open braces and brackets of the object. 0 between objects.
    depth: u32,
    /// Inside a string of the object.
    string: bool,
    /// The preceding byte was a backslash within a string.
    escaped: bool,
    place: ScanState,
}

/// Position in the array, between objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    /// No bytes read yet.
    Start,
    /// Within the array, or among objects without an array.
    Inside,
    /// After the closing bracket.
    Closed,
}

impl Framer {
    /// Creates a framer whose objects never exceed `cap` bytes.
    pub fn new(cap: usize) -> Self {
        let partial = BytesMut::new();
        Self { cap, partial, depth: 0, string: false, escaped: false, place: ScanState::Start }
    }

    /// Number of buffered bytes of an incomplete frame.
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Reads bytes and appends the frames that they complete.
    pub fn push(&mut self, bytes: Bytes, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.depth == 0 {
                let Some(start) = self.between(&rest)? else { return Ok(()) };
                rest = rest.split_off(start);
            }
            let Some(end) = self.inside(&rest) else {
                self.partial.extend_from_slice(&rest);
                return self.check(self.partial.len());
            };
            let mut object = rest.split_to(end);
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&object);
                object = self.partial.split().freeze();
            }
            self.check(object.len())?;
            out.push(Frame { event: None, data: object });
        }
        Ok(())
    }

    /// Handles the end of the bytes. A cut object is returned and does not parse.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        if !self.partial.is_empty() {
            out.push(Frame { event: None, data: self.partial.split().freeze() });
        }
    }

    fn check(&self, object: usize) -> Result<(), FramingError> {
        if object > self.cap { Err(FramingError::TooLong { cap: self.cap }) } else { Ok(()) }
    }

    /// Index of the next object's start. `None` if these bytes have none.
    fn between(&mut self, bytes: &[u8]) -> Result<Option<usize>, FramingError> {
        for (at, byte) in bytes.iter().enumerate() {
            self.place = match (byte, self.place) {
                (b' ' | b'\t' | b'\r' | b'\n', place) => place,
                // A byte order mark.
                (0xEF | 0xBB | 0xBF, ScanState::Start) => ScanState::Start,
                (b'[', ScanState::Start) | (b',', ScanState::Inside) => ScanState::Inside,
                (b']', ScanState::Inside) => ScanState::Closed,
                (b'{', ScanState::Start | ScanState::Inside) => {
                    self.place = ScanState::Inside;
                    return Ok(Some(at));
                }
                _ => {
                    return Err(FramingError::Corrupt { why: "it is not a JSON array of objects" });
                }
            };
        }
        Ok(None)
    }

    /// Index after the end of the object. `None` if these bytes do not complete it.
    fn inside(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.string = true,
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(bytes: &[u8], step: usize, cap: usize) -> (Vec<Frame>, Result<(), FramingError>) {
        let mut framer = Framer::new(cap);
        let mut out = Vec::new();
        for chunk in bytes.chunks(step) {
            if let Err(broken) = framer.push(Bytes::copy_from_slice(chunk), &mut out) {
                return (out, Err(broken));
            }
        }
        framer.finish(&mut out);
        (out, Ok(()))
    }

    #[test]
    fn objects_are_frames_however_they_are_cut() {
        let first = r#"{"a":"}\"]{é","b":[{},[1]]}"#;
        for body in [
            format!("[{first}\n,\r\n{{\"c\":\"\\\\\"}}\n]\n"),
            format!("{first}\n{{\"c\":\"\\\\\"}}"),
            format!("\u{feff} [ {first} , {{\"c\":\"\\\\\"}} ] "),
        ] {
            for step in 1..=body.len() {
                let (frames, result) = feed(body.as_bytes(), step, 64);
                let texts: Vec<&[u8]> = frames.iter().map(|frame| frame.data.as_ref()).collect();
                assert_eq!(texts, [first.as_bytes(), br#"{"c":"\\"}"#], "{body} by {step}");
                assert_eq!(result, Ok(()));
            }
        }
    }

    #[test]
    fn what_is_no_array_of_objects_is_told() {
        for body in ["[1]", "[\"a\"]", "hello", "[{}]]", "[{}] {}", ",{}", "[{}] x"] {
            for step in 1..=body.len() {
                let (_, result) = feed(body.as_bytes(), step, 64);
                assert!(matches!(result, Err(FramingError::Corrupt { .. })), "{body} by {step}");
            }
        }
    }

    /// Failure mode 37: an object that never closes is rejected at the cap; a cut one is returned as it is.
    #[test]
    fn fm37_objects_are_capped() {
        for step in 1..20 {
            let (_, result) = feed(b"[{\"a\":\"xxxxxxxxxxxxxxxxxxx\"}]", step, 12);
            assert_eq!(result, Err(FramingError::TooLong { cap: 12 }), "{step}");
            let (frames, result) = feed(b"[{\"a\":", step, 12);
            assert_eq!((frames.len(), result), (1, Ok(())));
        }
    }
}
