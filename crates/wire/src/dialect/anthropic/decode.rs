//! Reads answers: the events of a stream, or a whole message, to deltas.
//!
//! It goes by the `type` in the payload, never by the event's name, and never takes the end of the
//! bytes for the end of the answer.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::error;
use super::event::{self, Change, ChangeKind, Content, Event, EventKind, Message, Meter};
use super::search::Searches;
use crate::aws_fault;
use crate::chat::{Citation, Delta, End, Fault, Kind, Scheme, Stop};
use crate::codec::fast_path::FastPath;
use crate::dialect::Decode;
use crate::framing::Frame;
use crate::json::{dangling_surrogate, text, text_member};

/// The most blocks that are open at once. Beyond it the oldest is closed, so that looking for one stays
/// cheap.
const MAX_OPEN: usize = 128;

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    stopped: bool,
    meter: Meter,
    /// Blocks that have started and not stopped. One, but for servers that overlap them.
    open: Vec<Block>,
    /// Characters of answer text so far.
    chars: u64,
    /// Tool calls so far.
    calls: u32,
    ids: HashSet<String>,
    searches: Searches,
    /// Its slot is the index of a block.
    fast_path: FastPath<u64>,
}

#[derive(Debug)]
struct Block {
    index: u64,
    kind: Body,
    /// Half a surrogate pair, as an escape, whose other half the next fragment should bring.
    half: String,
}

#[derive(Debug)]
enum Body {
    Text {
        start: u64,
        citations: Vec<Citation>,
    },
    Thinking,
    Tool {
        call: u32,
        whole: Option<String>,
    },
    /// What the vendor's own machinery did: not part of the neutral vocabulary.
    Hosted,
    /// The vendor's own tool that is being called.
    Server,
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
            return Some(unreadable(frame));
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
            // A kind of event that came later than this code may look like anything.
            Err(_) if event::is_unknown(payload) => None,
            Err(_) => Some(unreadable(frame)),
        }
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        if body.data.trim_ascii().is_empty() {
            return End::Truncated;
        }
        let Ok(payload) = std::str::from_utf8(&body.data) else {
            return unreadable(body);
        };
        let Ok(message) = serde_json::from_str::<Message<'_>>(payload) else {
            return unreadable(body);
        };
        let kind = message.kind.and_then(text);
        if kind.as_deref() == Some("error") || (kind.is_none() && message.error.is_some()) {
            return End::Failed(error::in_stream(payload));
        }
        if message.content.is_none() {
            let fault = "the upstream's answer is not a message: it has no `content`";
            return End::Failed(Fault::new(Kind::Upstream, fault));
        }
        self.message(&message, out);
        End::Complete
    }

    fn finish(&mut self) -> End {
        End::Truncated
    }
}

fn unreadable(frame: &Frame) -> End {
    let length = frame.data.len();
    let message =
        format!("the upstream sent {length} bytes that are not valid JSON of its dialect");
    End::Failed(Fault::new(Kind::Upstream, message))
}

impl Decoder {
    fn fast_path<'f>(&mut self, payload: &'f [u8]) -> Option<Delta<'f>> {
        if !self.block(self.fast_path.slot()?)?.half.is_empty() {
            return None;
        }
        let delta = self.fast_path.read(payload)?;
        if let Delta::Text { text, .. } = &delta {
            self.chars = self.chars.saturating_add(text.chars().count() as u64);
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
            Some(EventKind::ContentBlockStop) => self.close(index, out),
            Some(EventKind::MessageStart) => return self.message_start(event, out),
            Some(EventKind::MessageDelta) => self.message_delta(event, out),
            Some(EventKind::MessageStop) => {
                self.close_all(out);
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
            return Some(End::Failed(Fault::new(Kind::Upstream, message)));
        }
        let raw = event.message?;
        match serde_json::from_str::<Message<'_>>(raw.get()) {
            Ok(message) => self.message(&message, out),
            Err(_) => self.started = true,
        }
        None
    }

    /// A whole message, or what is known of one when it starts.
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
            self.close(u64::MAX, out);
        }
        // A start may bring a stop as well: calls made from within the vendor's sandbox come whole.
        self.stop(
            event::stop(message.stop_reason, message.stop_sequence, message.stop_details),
            out,
        );
    }

    fn message_delta<'f>(&mut self, event: &Event<'f>, out: &mut Vec<Delta<'f>>) {
        self.close_all(out);
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
        self.close(index, out);
        let kind = content.kind.and_then(text).unwrap_or_default();
        let body = match kind.as_ref() {
            "text" => {
                let citations = content.citations.map(citations).unwrap_or_default();
                Body::Text { start: self.chars, citations }
            }
            "thinking" => Body::Thinking,
            "tool_use" => self.tool(content, out),
            "redacted_thinking" => {
                if let Some(data) = content.data.and_then(text) {
                    out.push(Delta::RedactedReasoning { data, scheme: Scheme::Anthropic });
                }
                Body::Hosted
            }
            "server_tool_use" => {
                self.searches.begin(content);
                out.push(Delta::Opaque);
                Body::Server
            }
            _ => {
                let search = (kind == "web_search_tool_result").then(|| self.searches.end(content));
                out.push(search.flatten().map_or(Delta::Opaque, Delta::Search));
                Body::Hosted
            }
        };
        self.keep(Block { index, kind: body, half: String::new() }, out);
        match kind.as_ref() {
            "text" => self.text(index, content.text, out),
            "thinking" => {
                self.thinking(index, content.thinking, out);
                signature(content.signature, out);
            }
            _ => {}
        }
    }

    fn tool<'f>(&mut self, content: &Content<'f>, out: &mut Vec<Delta<'f>>) -> Body {
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        let said = content.id.and_then(text).unwrap_or_default();
        let mut id = said.clone();
        let mut n = call;
        while id.is_empty() || !self.ids.insert(id.clone().into_owned()) {
            id = Cow::Owned(format!("{}_{n}", if said.is_empty() { "toolu" } else { &said }));
            n = n.saturating_add(1);
        }
        let name = content.name.and_then(text).unwrap_or_default();
        out.push(Delta::ToolStart { choice: 0, call, id, name });
        // Usually `{}`, with the real input in deltas; but when none follow it counts as it is, and
        // a call without arguments is a call with `{}`.
        let input = content.input.map(RawValue::get).filter(|input| input.starts_with('{'));
        Body::Tool { call, whole: Some(input.unwrap_or("{}").to_owned()) }
    }

    fn change<'f>(&mut self, index: u64, change: &Change<'f>, out: &mut Vec<Delta<'f>>) {
        match change.kind {
            Some(ChangeKind::TextDelta) => self.text(index, change.text, out),
            Some(ChangeKind::ThinkingDelta) => self.thinking(index, change.thinking, out),
            Some(ChangeKind::InputJsonDelta) => self.arguments(index, change.partial_json, out),
            Some(ChangeKind::SignatureDelta) => signature(change.signature, out),
            Some(ChangeKind::CitationsDelta) => {
                let cited = change.citation.and_then(event::citation);
                if let Some(Block { kind: Body::Text { citations, .. }, .. }) = self.block(index) {
                    citations.extend(cited);
                }
            }
            Some(ChangeKind::Other) | None => {}
        }
    }

    fn block(&mut self, index: u64) -> Option<&mut Block> {
        self.open.iter_mut().rev().find(|block| block.index == index)
    }

    /// The text of a fragment within a block; a fragment without a block opens one, since some
    /// servers leave the start out.
    fn fragment<'f>(
        &mut self,
        index: u64,
        raw: Option<&'f RawValue>,
        kind: fn(u64) -> Body,
        out: &mut Vec<Delta<'f>>,
    ) -> Option<Cow<'f, str>> {
        let raw = raw?;
        if self.block(index).is_none() {
            let kind = kind(self.chars);
            self.keep(Block { index, kind, half: String::new() }, out);
        }
        self.block(index)?.decode(raw).filter(|text| !text.is_empty())
    }

    fn text<'f>(&mut self, index: u64, raw: Option<&'f RawValue>, out: &mut Vec<Delta<'f>>) {
        let kind = |start| Body::Text { start, citations: Vec::new() };
        if let Some(text) = self.fragment(index, raw, kind, out) {
            self.chars = self.chars.saturating_add(text.chars().count() as u64);
            out.push(Delta::Text { choice: 0, text });
        }
    }

    fn thinking<'f>(&mut self, index: u64, raw: Option<&'f RawValue>, out: &mut Vec<Delta<'f>>) {
        if let Some(text) = self.fragment(index, raw, |_| Body::Thinking, out) {
            out.push(Delta::Reasoning { choice: 0, text });
        }
    }

    fn arguments<'f>(&mut self, index: u64, raw: Option<&'f RawValue>, out: &mut Vec<Delta<'f>>) {
        let Some(block) = self.block(index) else {
            return;
        };
        let Some(json) = raw.and_then(|raw| block.decode(raw)).filter(|json| !json.is_empty())
        else {
            return;
        };
        match &mut block.kind {
            Body::Tool { call, whole } => {
                *whole = None;
                out.push(Delta::ToolArguments { choice: 0, call: *call, json });
            }
            Body::Hosted => out.push(Delta::Opaque),
            Body::Server => {
                self.searches.input(&json);
                out.push(Delta::Opaque);
            }
            Body::Text { .. } | Body::Thinking => {}
        }
    }

    fn keep(&mut self, block: Block, out: &mut Vec<Delta<'_>>) {
        if self.open.len() >= MAX_OPEN
            && let Some(oldest) = self.open.first().map(|block| block.index)
        {
            self.close(oldest, out);
        }
        self.open.push(block);
    }

    fn close(&mut self, index: u64, out: &mut Vec<Delta<'_>>) {
        let Some(at) = self.open.iter().rposition(|block| block.index == index) else {
            return;
        };
        let block = self.open.remove(at);
        match block.kind {
            Body::Text { start, citations } => {
                if !block.half.is_empty() {
                    self.chars = self.chars.saturating_add(1);
                    out.push(Delta::Text { choice: 0, text: Cow::Borrowed("\u{FFFD}") });
                }
                for citation in citations {
                    let (start, end) = (Some(start), Some(self.chars));
                    out.push(Delta::Citation(Citation { start, end, ..citation }));
                }
            }
            Body::Tool { call, whole: Some(json) } => {
                out.push(Delta::ToolArguments { choice: 0, call, json: Cow::Owned(json) });
            }
            Body::Tool { whole: None, .. } | Body::Thinking | Body::Hosted | Body::Server => {}
        }
    }

    /// The answer has stopped: whatever was not closed ends here.
    fn close_all(&mut self, out: &mut Vec<Delta<'_>>) {
        while let Some(index) = self.open.first().map(|block| block.index) {
            self.close(index, out);
        }
    }
}

impl Block {
    fn decode<'f>(&mut self, raw: &'f RawValue) -> Option<Cow<'f, str>> {
        match text(raw)? {
            Cow::Borrowed(text) if self.half.is_empty() => Some(Cow::Borrowed(text)),
            _ => self.join(raw).map(Cow::Owned),
        }
    }

    /// Decodes a fragment together with the half that the one before left, and keeps the half that
    /// this one leaves.
    fn join(&mut self, raw: &RawValue) -> Option<String> {
        let rest = raw.get().strip_prefix('"')?;
        let literal = RawValue::from_string(format!("\"{}{rest}", self.half)).ok()?;
        self.half.clear();
        let Some(half) = dangling_surrogate(&literal) else {
            return text(&literal).map(Cow::into_owned);
        };
        half.clone_into(&mut self.half);
        let inner = literal.get().strip_suffix('"')?.strip_suffix(half)?;
        let whole = RawValue::from_string(format!("{inner}\"")).ok()?;
        text(&whole).map(Cow::into_owned)
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
