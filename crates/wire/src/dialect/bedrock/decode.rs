//! Reads answers: the events of a stream, or a whole answer, to deltas.
//!
//! It never takes the end of the bytes for the end of the answer, and never `messageStop` for the end
//! of the stream: usage comes after it.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::event::{self, Answer, Change, Content, Event, Reasoning, ToolUse};
use crate::aws_fault;
use crate::chat::{Citation, Delta, End, Fault, Kind, Scheme};
use crate::codec::fast_path::FastPath;
use crate::dialect::Decode;
use crate::framing::Frame;
use crate::json::{dangling_surrogate, text};

/// The most blocks that are open at once. Beyond it the oldest is closed, so that looking for one stays
/// cheap.
const MAX_OPEN: usize = 128;

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// `messageStop` has come.
    stopped: bool,
    /// `metadata` has come.
    counted: bool,
    /// Blocks that have started and not stopped.
    open: Vec<Block>,
    /// Characters of answer text so far.
    chars: u64,
    /// Tool calls so far.
    calls: u32,
    ids: HashSet<String>,
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
    Reasoning,
    Tool {
        call: u32,
        /// No argument has come yet.
        bare: bool,
    },
    /// What the vendor's own machinery does: not part of the neutral vocabulary.
    Hosted,
}

impl Decode for Decoder {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        let event = frame.event.as_deref().unwrap_or_default();
        if event == b"contentBlockDelta"
            && let Some(delta) = self.fast_path(&frame.data)
        {
            out.push(delta);
            return None;
        }
        if let Some(fault) = aws_fault::of_frame(frame) {
            return Some(End::Failed(fault));
        }
        match event {
            b"messageStart" if self.started => {
                // Two answers spliced into one stream: to go on would mix them.
                let message = "the upstream started a second message within one stream";
                return Some(End::Failed(Fault::new(Kind::Upstream, message)));
            }
            b"messageStart" => {
                self.started = true;
                return None;
            }
            b"contentBlockStart" | b"contentBlockDelta" | b"contentBlockStop" | b"messageStop"
            | b"metadata" => {}
            // A kind of event that came later than this code may look like anything.
            _ => return None,
        }
        let Ok(payload) = serde_json::from_slice::<Event<'_>>(&frame.data) else {
            return Some(unreadable(frame));
        };
        let index = event::number(payload.content_block_index).unwrap_or(0);
        match event {
            b"contentBlockDelta" => {
                let before = out.len();
                if let Some(change) = &payload.delta {
                    self.change(index, change, out);
                }
                if let (Some([delta]), Some(payload)) = (out.get(before..), unpadded(&frame.data)) {
                    self.fast_path.learn(payload, delta, index);
                }
            }
            b"contentBlockStart" => self.start(index, &payload, out),
            b"contentBlockStop" => self.close(index, out),
            b"messageStop" => return self.stop(payload.stop_reason, out),
            _ => {
                self.counted = true;
                out.extend(payload.usage.map(|counts| Delta::Usage(counts.usage())));
            }
        }
        (self.stopped && self.counted).then_some(End::Complete)
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        if body.data.trim_ascii().is_empty() {
            return End::Truncated;
        }
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&body.data) else {
            return unreadable(body);
        };
        let Some(content) = answer.output.and_then(|output| output.message?.content) else {
            return End::Failed(aws_fault::of_body(&body.data));
        };
        for content in &content {
            // Blocks are whole: none is open beside another.
            self.content(content, out);
            self.close(0, out);
        }
        out.extend(answer.usage.map(|counts| Delta::Usage(counts.usage())));
        self.stop(answer.stop_reason, out).unwrap_or(End::Complete)
    }

    /// Usage may be lost, but the answer has stopped.
    fn finish(&mut self) -> End {
        if self.stopped { End::Complete } else { End::Truncated }
    }
}

fn unreadable(frame: &Frame) -> End {
    let length = frame.data.len();
    let message =
        format!("the upstream sent {length} bytes that are not valid JSON of its dialect");
    End::Failed(Fault::new(Kind::Upstream, message))
}

/// A payload without the padding that hides its length: `,"p":"abc"}` at its end, and all that
/// precedes it. Only where the padding is nothing but letters and digits, so that it is one string.
fn unpadded(payload: &[u8]) -> Option<&[u8]> {
    let rest = payload.strip_suffix(b"\"}")?;
    let padding = rest.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    rest.get(..rest.len().checked_sub(padding)?)?.strip_suffix(b",\"p\":\"")
}

impl Decoder {
    fn fast_path<'f>(&mut self, payload: &'f [u8]) -> Option<Delta<'f>> {
        if !self.block(self.fast_path.slot()?)?.half.is_empty() {
            return None;
        }
        let delta = self.fast_path.read(unpadded(payload)?)?;
        if let Delta::Text { text, .. } = &delta {
            self.chars = self.chars.saturating_add(text.chars().count() as u64);
        }
        Some(delta)
    }

    fn stop(&mut self, reason: Option<&RawValue>, out: &mut Vec<Delta<'_>>) -> Option<End> {
        while let Some(index) = self.open.first().map(|block| block.index) {
            self.close(index, out);
        }
        if let Some(reason) = reason.and_then(event::stop) {
            out.push(Delta::Stop { choice: 0, reason });
        }
        self.stopped = true;
        (self.stopped && self.counted).then_some(End::Complete)
    }

    fn start<'f>(&mut self, index: u64, payload: &Event<'f>, out: &mut Vec<Delta<'f>>) {
        self.close(index, out);
        let body = match payload.start.as_ref().and_then(|start| start.tool_use.as_ref()) {
            Some(tool) if !tool.is_hosted() => self.tool(tool, out),
            _ => {
                out.push(Delta::Opaque);
                Body::Hosted
            }
        };
        self.keep(Block { index, kind: body, half: String::new() }, out);
    }

    fn tool<'f>(&mut self, tool: &ToolUse<'f>, out: &mut Vec<Delta<'f>>) -> Body {
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        let said = tool.id.and_then(text).unwrap_or_default();
        let mut id = said.clone();
        let mut n = call;
        while id.is_empty() || !self.ids.insert(id.clone().into_owned()) {
            id = Cow::Owned(format!("{}_{n}", if said.is_empty() { "tooluse" } else { &said }));
            n = n.saturating_add(1);
        }
        let name = tool.name.and_then(text).unwrap_or_default();
        out.push(Delta::ToolStart { choice: 0, call, id, name });
        Body::Tool { call, bare: true }
    }

    fn change<'f>(&mut self, index: u64, change: &Change<'f>, out: &mut Vec<Delta<'f>>) {
        self.text(index, change.text, out);
        if let Some(reasoning) = &change.reasoning_content {
            self.reasoning(index, reasoning, out);
        }
        if let Some(tool) = &change.tool_use {
            self.arguments(index, tool.input, out);
        }
        if let Some(cited) = &change.citation {
            let citation = cited.citation();
            let block = self.text_block(index, out);
            if let Some(Block { kind: Body::Text { citations, .. }, .. }) = block {
                citations.push(citation);
            }
        }
        if change.tool_result.or(change.image).is_some() {
            out.push(Delta::Opaque);
        }
    }

    /// A block of an answer that is not streamed.
    fn content<'f>(&mut self, content: &Content<'f>, out: &mut Vec<Delta<'f>>) {
        self.text(0, content.text, out);
        if let Some(reasoning) = &content.reasoning {
            self.reasoning(0, reasoning, out);
        }
        match &content.tool_use {
            Some(tool) if !tool.is_hosted() => {
                let Body::Tool { call, .. } = self.tool(tool, out) else { return };
                let json = tool.input.map_or("{}", RawValue::get);
                out.push(Delta::ToolArguments { choice: 0, call, json: Cow::Borrowed(json) });
            }
            Some(_) => out.push(Delta::Opaque),
            None => {}
        }
        if let Some(cited) = &content.cited {
            for words in cited.content.iter().flatten() {
                self.text(0, words.text, out);
            }
            let block = self.text_block(0, out);
            if let Some(Block { kind: Body::Text { citations, .. }, .. }) = block {
                citations.extend(cited.citations.iter().flatten().map(event::Cited::citation));
            }
        }
    }

    fn block(&mut self, index: u64) -> Option<&mut Block> {
        self.open.iter_mut().rev().find(|block| block.index == index)
    }

    /// The block at an index; texts and reasoning begin without being announced.
    fn block_or(
        &mut self,
        index: u64,
        kind: impl FnOnce() -> Body,
        out: &mut Vec<Delta<'_>>,
    ) -> Option<&mut Block> {
        if self.block(index).is_none() {
            self.keep(Block { index, kind: kind(), half: String::new() }, out);
        }
        self.block(index)
    }

    fn text_block(&mut self, index: u64, out: &mut Vec<Delta<'_>>) -> Option<&mut Block> {
        let start = self.chars;
        self.block_or(index, || Body::Text { start, citations: Vec::new() }, out)
    }

    fn text<'f>(&mut self, index: u64, raw: Option<&'f RawValue>, out: &mut Vec<Delta<'f>>) {
        let Some(raw) = raw else { return };
        let text = self.text_block(index, out).and_then(|block| block.decode(raw));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.chars = self.chars.saturating_add(text.chars().count() as u64);
            out.push(Delta::Text { choice: 0, text });
        }
    }

    fn reasoning<'f>(&mut self, index: u64, said: &Reasoning<'f>, out: &mut Vec<Delta<'f>>) {
        let whole = said.whole.as_ref();
        let (raw, signature) =
            (said.text.or_else(|| whole?.text), said.signature.or_else(|| whole?.signature));
        let words = raw.and_then(|raw| self.block_or(index, || Body::Reasoning, out)?.decode(raw));
        if let Some(text) = words.filter(|text| !text.is_empty()) {
            out.push(Delta::Reasoning { choice: 0, text });
        }
        let signature = signature.and_then(text);
        if let Some(value) = signature.filter(|value| !value.is_empty()) {
            out.push(Delta::Signature { value, scheme: Scheme::Anthropic });
        }
        if let Some(raw) = said.redacted_content {
            out.push(match event::redacted(raw) {
                Some(data) => {
                    Delta::RedactedReasoning { data: Cow::Owned(data), scheme: Scheme::Anthropic }
                }
                None => Delta::Opaque,
            });
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
            Body::Tool { call, bare } => {
                *bare = false;
                out.push(Delta::ToolArguments { choice: 0, call: *call, json });
            }
            Body::Hosted => out.push(Delta::Opaque),
            Body::Text { .. } | Body::Reasoning => {}
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
            // A call without arguments is a call with `{}`.
            Body::Tool { call, bare: true } => {
                out.push(Delta::ToolArguments { choice: 0, call, json: Cow::Borrowed("{}") });
            }
            Body::Tool { bare: false, .. } | Body::Reasoning | Body::Hosted => {}
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
