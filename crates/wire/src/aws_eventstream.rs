//! `application/vnd.amazon.eventstream`: binary messages with headers and two checksums.
//!
//! The layout is that of smithy-rs's `frame.rs`: `u32 total | u32 headers | u32 crc of these 8 bytes | headers
//! | payload | u32 crc of everything before`, big-endian, CRC-32 (IEEE). A message is returned only after both
//! checksums match. Payloads are not interpreted, except that of a `chunk`, which wraps an event of a model's
//! own protocol: `{"bytes":"BASE64"}`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::framing::{Frame, FramingError};
use super::json::text;

/// Bytes of the prelude: two lengths and their checksum.
const PRELUDE: usize = 12;
/// Bytes of a message without headers and payload.
const SMALLEST: usize = PRELUDE + 4;
/// Prefix of a frame's event name for an exception; the exception's type follows.
pub(crate) const EXCEPTION: &str = "exception:";

/// Cuts bytes into messages.
#[derive(Debug)]
pub struct Framer {
    /// The most bytes of a message.
    cap: usize,
    /// The bytes of a message that is still incomplete.
    partial: BytesMut,
}

impl Framer {
    /// Creates a framer whose messages never exceed `cap` bytes.
    pub fn new(cap: usize) -> Self {
        Self { cap, partial: BytesMut::new() }
    }

    /// Number of buffered bytes of an incomplete frame.
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Reads bytes and appends the messages that they complete. The event of a frame is the message's
    /// `:event-type`; for an exception or error it is [`EXCEPTION`] followed by the type. The content of a
    /// chunk becomes a frame without an event.
    pub fn push(&mut self, mut bytes: Bytes, out: &mut Vec<Frame>) -> Result<(), FramingError> {
        loop {
            if self.partial.is_empty() {
                match length(&bytes, self.cap)? {
                    Some(total) if bytes.len() >= total => {
                        out.push(unwrapped(message(&bytes.split_to(total))?)?);
                        continue;
                    }
                    _ => {
                        self.partial.extend_from_slice(&bytes);
                        return Ok(());
                    }
                }
            }
            let total = length(&self.partial, self.cap)?;
            let missing = total.unwrap_or(PRELUDE).saturating_sub(self.partial.len());
            let taken = bytes.split_to(missing.min(bytes.len()));
            self.partial.extend_from_slice(&taken);
            match total {
                Some(total) if self.partial.len() >= total => {
                    let whole = self.partial.split_to(total).freeze();
                    out.push(unwrapped(message(&whole)?)?);
                }
                _ if bytes.is_empty() => {
                    // A bad prelude is reported immediately, before an arbitrary length is buffered.
                    length(&self.partial, self.cap)?;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Handles the end of the bytes. A cut message is dropped, because its checksum is missing.
    pub fn finish(&mut self, _out: &mut Vec<Frame>) {
        self.partial.clear();
    }
}

/// Returns the message, or the event that it wraps.
fn unwrapped(frame: Frame) -> Result<Frame, FramingError> {
    if frame.event.as_deref() != Some(b"chunk") {
        return Ok(frame);
    }
    content(&frame.data)
        .map(|data| Frame { event: None, data: data.into() })
        .ok_or(FramingError::Corrupt { why: "a chunk holds no base64" })
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: &'a RawValue,
}

/// Decoded payload of a chunk.
fn content(chunk: &[u8]) -> Option<Vec<u8>> {
    let Chunk { bytes } = serde_json::from_slice(chunk).ok()?;
    BASE64_STANDARD.decode(text(bytes)?.as_bytes()).ok()
}

/// A big-endian number at `at`.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Length in bytes of the message at the start of `bytes`. `None` if its prelude is incomplete. An error if the
/// prelude is corrupt or the length exceeds `cap`.
fn length(bytes: &[u8], cap: usize) -> Result<Option<usize>, FramingError> {
    let (Some(total), Some(headers), Some(crc)) =
        (number(bytes, 0), number(bytes, 4), number(bytes, 8))
    else {
        return Ok(None);
    };
    if bytes.get(..8).map(crc32fast::hash) != Some(crc) {
        return Err(FramingError::Corrupt { why: "the checksum of a message's prelude is wrong" });
    }
    let (total, headers) = (total as usize, headers as usize);
    if total < SMALLEST || headers > total - SMALLEST {
        return Err(FramingError::Corrupt {
            why: "the lengths of a message contradict each other",
        });
    }
    if total > cap { Err(FramingError::TooLong { cap }) } else { Ok(Some(total)) }
}

/// Reads a complete message.
fn message(bytes: &Bytes) -> Result<Frame, FramingError> {
    let body = bytes.len().saturating_sub(4);
    if bytes.get(..body).map(crc32fast::hash) != number(bytes, body) {
        return Err(FramingError::Corrupt { why: "the checksum of a message is wrong" });
    }
    let headers_end = PRELUDE + number(bytes, 4).unwrap_or_default() as usize;
    let headers = bytes.slice(PRELUDE..headers_end.min(body));
    let data = bytes.slice(headers_end.min(body)..body);
    let headers = Headers::read(headers)
        .ok_or(FramingError::Corrupt { why: "the headers of a message are wrong" })?;
    Ok(headers.frame(data))
}

/// Headers that define the kind of a message.
#[derive(Default)]
struct Headers {
    kind: Option<Bytes>,
    event: Option<Bytes>,
    exception: Option<Bytes>,
    code: Option<Bytes>,
    text: Option<Bytes>,
}

impl Headers {
    fn read(mut rest: Bytes) -> Option<Self> {
        let mut headers = Self::default();
        while !rest.is_empty() {
            let name = take(&mut rest, 1)?;
            let name = take(&mut rest, usize::from(*name.first()?))?;
            let kind = take(&mut rest, 1)?;
            let size = match kind.first()? {
                0 | 1 => 0,
                2 => 1,
                3 => 2,
                4 => 4,
                5 | 8 => 8,
                6 | 7 => usize::from(take(&mut rest, 2)?.get_u16()),
                9 => 16,
                _ => return None,
            };
            let value = take(&mut rest, size)?;
            let place = match name.as_ref() {
                b":message-type" => &mut headers.kind,
                b":event-type" => &mut headers.event,
                b":exception-type" => &mut headers.exception,
                b":error-code" => &mut headers.code,
                b":error-message" => &mut headers.text,
                _ => continue,
            };
            *place = Some(value);
        }
        Some(headers)
    }

    fn frame(self, data: Bytes) -> Frame {
        let failed = match self.kind.as_deref() {
            Some(b"exception") => self.exception.or(self.code),
            Some(b"error") => self.code.or(self.exception),
            _ => return Frame { event: self.event, data },
        };
        let event = [EXCEPTION.as_bytes(), failed.as_deref().unwrap_or_default()].concat();
        let data = match self.text.filter(|_| data.is_empty()) {
            Some(text) => {
                let text = String::from_utf8_lossy(&text);
                serde_json::json!({ "message": text }).to_string().into()
            }
            None => data,
        };
        Frame { event: Some(event.into()), data }
    }
}

fn take(bytes: &mut Bytes, count: usize) -> Option<Bytes> {
    (bytes.len() >= count).then(|| bytes.split_to(count))
}

#[cfg(test)]
#[path = "aws_eventstream_tests.rs"]
mod tests;
