//! Passthrough encoder: payloads of an upstream of the same dialect, byte for byte.
//!
//! Only `finish` ends a stream: with the upstream's own last event, or with an error of ours.

use bytes::{BufMut, BytesMut};

use super::response::{Head, Status};
use super::write_event::Events;
use crate::chat::{Delta, End, Usage};
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::{self, Members};
use crate::sse;

/// Forwards streams.
#[derive(Debug)]
pub(super) struct Stream {
    head: Head,
    /// The upstream has sent the response's id.
    known: bool,
    /// Number of events that were forwarded, which is the number of the next one.
    forwarded: u64,
    /// An `error` event was among them.
    told: bool,
}

impl Stream {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self { head: Head::new(call), known: false, forwarded: 0, told: false }
    }

    fn forward(&mut self, frame: &Frame, out: &mut BytesMut) {
        if let Some(name) = frame.event.as_deref().filter(|name| sse::is_name(name)) {
            sse::write(Some(name), &frame.data, out);
        } else {
            // Some servers send events without names. Some clients rely on the names.
            let kind = kind(&frame.data);
            let name = kind.as_deref().map(str::as_bytes).filter(|name| sse::is_name(name));
            sse::write(name, &frame.data, out);
        }
        self.forwarded = self.forwarded.saturating_add(1);
    }
}

impl Encode for Stream {
    fn frame(&mut self, frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        if let Some(Delta::Start { id, model }) = deltas.first() {
            self.known = !id.is_empty();
            self.head.id = id.to_string();
            if !model.is_empty() {
                self.head.model = model.to_string();
            }
        }
        self.told |= deltas.is_empty() && kind(&frame.data).as_deref() == Some("error");
        self.forward(frame, out);
    }

    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        let Some(fault) = end.fault() else {
            return last.into_iter().for_each(|frame| self.forward(frame, out));
        };
        let failed = matches!(end, End::Failed(_));
        if let Some(frame) = last.filter(|frame| failed && has_error(frame)) {
            return self.forward(frame, out);
        }
        let mut events = Events::after(self.forwarded);
        if !self.told {
            events.error(&fault, out);
        }
        if self.known {
            let (head, status) = (&self.head, Status::Failed(&fault));
            events.lifecycle("failed", out, |out| {
                head.write(status, &[], &Usage::default(), out);
            });
        }
    }
}

/// Forwards whole answers.
#[derive(Debug)]
pub(super) struct Whole;

impl Encode for Whole {
    fn frame(&mut self, frame: &Frame, _deltas: &[Delta<'_>], out: &mut BytesMut) {
        out.put_slice(&frame.data);
    }

    fn finish(&mut self, _end: &End, _last: Option<&Frame>, _out: &mut BytesMut) {}
}

/// The type that a payload names. Most name it first, which saves reading the rest.
fn kind(payload: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    let first = text.strip_prefix(r#"{"type":""#).and_then(|rest| rest.split('"').next());
    if let Some(kind) = first.filter(|kind| !kind.contains('\\')) {
        return Some(kind.to_owned());
    }
    let members = Members::parse(text).ok()?;
    Some(members.get("type").and_then(json::text)?.into_owned())
}

/// Whether a frame that ended the stream reports an error in a way that SDKs recognise: a failed response,
/// or an `error` object in a payload without a type.
fn has_error(frame: &Frame) -> bool {
    let text = std::str::from_utf8(&frame.data).unwrap_or_default();
    let members = Members::parse(text).unwrap_or_default();
    match kind(&frame.data).as_deref() {
        Some(kind) => kind == "response.failed",
        None => members.get("error").is_some_and(|error| error.get().starts_with('{')),
    }
}
