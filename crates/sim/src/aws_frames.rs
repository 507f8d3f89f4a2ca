//! Encoding of AWS event streams: messages with headers and two checksums, written from the published layout
//! alone.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::encoder::{Event, quoted};

/// Prefix of an event's name for an exception; the exception's type follows.
pub(super) const EXCEPTION: &str = "exception:";
/// Prefix of an event's name for a message that is corrupted on the way; the name follows.
pub(super) const SPOILT: &str = "spoilt:";

/// Padding by which the vendor hides the length of its payloads.
const PADDING: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Encodes an event as a message.
pub(super) fn message(event: &Event) -> Vec<u8> {
    let name = event.name.unwrap_or_default();
    if let Some(kind) = name.strip_prefix(EXCEPTION) {
        return framed("exception", (":exception-type", kind), event.data.as_bytes());
    }
    let kind = name.strip_prefix(SPOILT).unwrap_or(name);
    let mut bytes = framed("event", (":event-type", kind), padded(&event.data).as_bytes());
    if name.starts_with(SPOILT)
        && let Some(byte) = bytes.iter_mut().rev().nth(8)
    {
        *byte ^= 1;
    }
    bytes
}

/// Encodes an event of a model's own protocol as a message that wraps it.
pub(super) fn chunk(event: &Event) -> Vec<u8> {
    let name = event.name.unwrap_or_default();
    if name.starts_with(EXCEPTION) || name.starts_with(SPOILT) {
        return message(event);
    }
    let data = format!(r#"{{"bytes":"{}"}}"#, BASE64_STANDARD.encode(&event.data));
    message(&Event { name: Some("chunk"), data })
}

/// Adds the padding to an object as its last member.
fn padded(data: &str) -> String {
    let Some(object) = data.strip_suffix('}') else { return data.to_owned() };
    let length = data.len() * 7 % PADDING.len();
    let padding = quoted(PADDING.get(..=length).unwrap_or(PADDING));
    let comma = if object == "{" { "" } else { "," };
    format!(r#"{object}{comma}"p":{padding}}}"#)
}

fn framed(kind: &str, (name, value): (&str, &str), payload: &[u8]) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in
        [(name, value), (":content-type", "application/json"), (":message-type", kind)]
    {
        headers.push(u8::try_from(name.len()).unwrap_or_default());
        headers.extend_from_slice(name.as_bytes());
        // Header type 7: string.
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    // Total, headers, checksum of both; headers; payload; checksum of all.
    let mut bytes = Vec::with_capacity(headers.len() + payload.len() + 16);
    bytes.extend_from_slice(&size(headers.len() + payload.len() + 16));
    bytes.extend_from_slice(&size(headers.len()));
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// Decodes the name of a model in a path.
pub(super) fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped =
            hex.filter(|_| *byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
