//! Decoder: the events of a stream, or a whole message, to deltas.
//!
//! It goes by the `type` in the payload, never by the event's name, and never takes the end of the
//! bytes for the end of the answer.

use serde_json::value::RawValue;

use super::error;
use super::event::{self, Change, ChangeKind, Content, Event, EventKind, Message, Meter};
use super::search::Searches;
use crate::aws_fault;
use crate::chat::{ApiError, Citation, Delta, End, Kind, Scheme, Stop};
use crate::codec::fast_path::FastPath;
use crate::codec::open_blocks::{BlockKind, OpenBlocks};
use crate::codec::unreadable;
use crate::dialect::Decode;
use crate::framing::Frame;
use crate::json::{text, text_member};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    stopped: bool,
    meter: Meter,
    blocks: OpenBlocks,
    searches: Searches,
    /// Its slot is the index of a block.
    fast_path: FastPath<u64>,
}

impl Decode for Decoder {
    fn is_whole(&self, frame: &Frame) -> bool {
        text_member(&frame.data, "type").is_some_and(|kind| kind == "message")
    }

    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        if frame.data.trim_ascii() == b"[DONE]" {
            // Some gateways end every dialect like this. It closes an answer that has stopped.
            return Some(if self.stopped { End::Complete } else { End::Truncated });
        }
        if let Some(delta) = self.fast_path(&frame.data) {
            out.push(delta);
            return None;
        }
        if let Some(fault) = aws_fault::of_frame(frame) {
            return Some(End::Failed(fault));
        }
        let Ok(payload) = std::str::from_utf8(&frame.data) else {
            return Some(unreadable::payload(&frame.data));
        };
        match serde_json::from_str::<Event<'_>>(payload) {
            Ok(event) => {
                let before = out.len();
                let end = self.event(payload, &event, out);
                if let (None, Some(EventKind::ContentBlockDelta), Some([delta])) =
                    (&end, event.kind, out.get(before..))
                {
                    self.fast_path.learn(&frame.data, delta, event.index.unwrap_or(0));
                }
                end
            }
            // A kind of event newer than this code may have any shape.
            Err(_) if event::is_unknown(payload) => None,
            Err(_) => Some(unreadable::payload(&frame.data)),
        }
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        if body.data.trim_ascii().is_empty() {
            return End::Truncated;
        }
        let Ok(payload) = std::str::from_utf8(&body.data) else {
            return unreadable::payload(&body.data);
        };
        let Ok(message) = serde_json::from_str::<Message<'_>>(payload) else {
            return unreadable::payload(&body.data);
        };
        let kind = message.kind.and_then(text);
        if kind.as_deref() == Some("error") || (kind.is_none() && message.error.is_some()) {
            return End::Failed(error::in_stream(payload));
        }
        if message.content.is_none() {
            let fault = "the upstream's answer is not a message: it has no `content`";
            return End::Failed(ApiError::new(Kind::Upstream, fault));
        }
        self.message(&message, out);
        End::Complete
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}

impl Decoder {
    fn fast_path<'f>(&mut self, payload: &'f [u8]) -> Option<Delta<'f>> {
        if !self.blocks.is_whole(self.fast_path.slot()?) {
            return None;
        }
        let delta = self.fast_path.read(payload)?;
        if let Delta::Text { text, .. } = &delta {
            self.blocks.count(text);
        }
        Some(delta)
    }

    fn event<'f>(
        &mut self,
        payload: &'f str,
        event: &Event<'f>,
        out: &mut Vec<Delta<'f>>,
    ) -> Option<End> {
        let index = event.index.unwrap_or(0);
        match event.kind {
            Some(EventKind::ContentBlockDelta) => {
                if let Some(change) = &event.delta {
                    self.change(index, change, out);
                }
            }
            Some(EventKind::ContentBlockStart) => {
                if let Some(content) = &event.content_block {
                    self.start(index, content, out);
                }
            }
            Some(EventKind::ContentBlockStop) => self.blocks.close(index, out),
            Some(EventKind::MessageStart) => return self.message_start(event, out),
            Some(EventKind::MessageDelta) => self.message_delta(event, out),
            Some(EventKind::MessageStop) => {
                self.blocks.close_all(out);
                return Some(End::Complete);
            }
            Some(EventKind::Error) => return Some(End::Failed(error::in_stream(payload))),
            None if event.error.is_some() => return Some(End::Failed(error::in_stream(payload))),
            _ => {}
        }
        None
    }

    fn message_start<'f>(&mut self, event: &Event<'f>, out: &mut Vec<Delta<'f>>) -> Option<End> {
        if self.started {
            // Two answers spliced into one stream: to go on would mix them.
            let message = "the upstream started a second message within one stream";
            return Some(End::Failed(ApiError::new(Kind::Upstream, message)));
        }
        let raw = event.message?;
        match serde_json::from_str::<Message<'_>>(raw.get()) {
            Ok(message) => self.message(&message, out),
            Err(_) => self.started = true,
        }
        None
    }

    /// A whole message, or the first part of one in `message_start`.
    fn message<'f>(&mut self, message: &Message<'f>, out: &mut Vec<Delta<'f>>) {
        self.started = true;
        let id = message.id.and_then(text).unwrap_or_default();
        let model = message.model.and_then(text).unwrap_or_default();
        out.push(Delta::Start { id, model });
        if let Some(counts) = &message.usage {
            out.push(Delta::Usage(self.meter.read(counts)));
        }
        for content in message.content.iter().flatten() {
            // No event can reach this index, so that the block stays apart from later ones.
            self.start(u64::MAX, content, out);
            self.blocks.close(u64::MAX, out);
        }
        // A start may bring a stop as well: calls made from within the vendor's sandbox come whole.
        self.stop(
            event::stop(message.stop_reason, message.stop_sequence, message.stop_details),
            out,
        );
    }

    fn message_delta<'f>(&mut self, event: &Event<'f>, out: &mut Vec<Delta<'f>>) {
        self.blocks.close_all(out);
        if let Some(counts) = &event.usage {
            out.push(Delta::Usage(self.meter.read(counts)));
        }
        if let Some(change) = &event.delta {
            let Change { stop_reason, stop_sequence, stop_details, .. } = change;
            self.stop(event::stop(*stop_reason, *stop_sequence, *stop_details), out);
        }
    }

    fn stop(&mut self, reason: Option<Stop>, out: &mut Vec<Delta<'_>>) {
        if let Some(reason) = reason {
            self.stopped = true;
            out.push(Delta::Stop { choice: 0, reason });
        }
    }

    fn start<'f>(&mut self, index: u64, content: &Content<'f>, out: &mut Vec<Delta<'f>>) {
        self.blocks.close(index, out);
        let kind = content.kind.and_then(text).unwrap_or_default();
        let block = match kind.as_ref() {
            "text" => self.blocks.new_text(content.citations.map(citations).unwrap_or_default()),
            "thinking" => BlockKind::Reasoning,
            "tool_use" => self.tool(content, out),
            "redacted_thinking" => {
                if let Some(data) = content.data.and_then(text) {
                    out.push(Delta::RedactedReasoning { data, scheme: Scheme::Anthropic });
                }
                BlockKind::Hosted
            }
            "server_tool_use" => {
                self.searches.begin(content);
                out.push(Delta::Opaque);
                BlockKind::Server
            }
            _ => {
                let search = (kind == "web_search_tool_result").then(|| self.searches.end(content));
                out.push(search.flatten().map_or(Delta::Opaque, Delta::Search));
                BlockKind::Hosted
            }
        };
        self.blocks.open(index, block, out);
        match kind.as_ref() {
            "text" => self.blocks.text(index, content.text, out),
            "thinking" => {
                self.blocks.reasoning(index, content.thinking, out);
                signature(content.signature, out);
            }
            _ => {}
        }
    }

    fn tool<'f>(&mut self, content: &Content<'f>, out: &mut Vec<Delta<'f>>) -> BlockKind {
        let id = content.id.and_then(text).unwrap_or_default();
        let name = content.name.and_then(text).unwrap_or_default();
        let call = self.blocks.new_call((id, name), "toolu", out);
        // Usually `{}`, with the real input in deltas; but when none follow it counts as it is, and
        // a call without arguments is a call with `{}`.
        let input = content.input.map(RawValue::get).filter(|input| input.starts_with('{'));
        BlockKind::Tool { call, whole: Some(input.unwrap_or("{}").to_owned()) }
    }

    fn change<'f>(&mut self, index: u64, change: &Change<'f>, out: &mut Vec<Delta<'f>>) {
        match change.kind {
            Some(ChangeKind::TextDelta) => self.blocks.text(index, change.text, out),
            Some(ChangeKind::ThinkingDelta) => self.blocks.reasoning(index, change.thinking, out),
            Some(ChangeKind::InputJsonDelta) => {
                if let Some(json) = self.blocks.arguments(index, change.partial_json, out) {
                    self.searches.input(&json);
                }
            }
            Some(ChangeKind::SignatureDelta) => signature(change.signature, out),
            Some(ChangeKind::CitationsDelta) => {
                self.blocks.cite(index, change.citation.and_then(event::citation));
            }
            Some(ChangeKind::Other) | None => {}
        }
    }
}

fn signature<'f>(raw: Option<&'f RawValue>, out: &mut Vec<Delta<'f>>) {
    if let Some(value) = raw.and_then(text).filter(|value| !value.is_empty()) {
        out.push(Delta::Signature { value, scheme: Scheme::Anthropic });
    }
}

fn citations(raw: &RawValue) -> Vec<Citation> {
    let list: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    list.into_iter().filter_map(event::citation).collect()
}
