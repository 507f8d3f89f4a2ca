//! Decoder: the events of a stream, or a whole answer, to deltas.
//!
//! It never takes the end of the bytes for the end of the answer, and never `messageStop` for the end
//! of the stream: usage comes after it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::event::{self, Answer, Change, Content, Event, Reasoning, ToolUse};
use crate::aws_fault;
use crate::chat::{ApiError, Delta, End, Kind, Scheme};
use crate::codec::fast_path::FastPath;
use crate::codec::open_blocks::{BlockKind, OpenBlocks};
use crate::codec::unreadable;
use crate::dialect::Decode;
use crate::framing::Frame;
use crate::json::text;

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// `messageStop` has come.
    stopped: bool,
    /// `metadata` has come.
    counted: bool,
    blocks: OpenBlocks,
    /// Its slot is the index of a block.
    fast_path: FastPath<u64>,
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
                return Some(End::Failed(ApiError::new(Kind::Upstream, message)));
            }
            b"messageStart" => {
                self.started = true;
                return None;
            }
            b"contentBlockStart" | b"contentBlockDelta" | b"contentBlockStop" | b"messageStop"
            | b"metadata" => {}
            // A kind of event newer than this code may have any shape.
            _ => return None,
        }
        let Ok(payload) = serde_json::from_slice::<Event<'_>>(&frame.data) else {
            return Some(unreadable::payload(&frame.data));
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
            b"contentBlockStop" => self.blocks.close(index, out),
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
            return unreadable::payload(&body.data);
        };
        let Some(content) = answer.output.and_then(|output| output.message?.content) else {
            return End::Failed(aws_fault::of_body(&body.data));
        };
        for content in &content {
            // Blocks are whole: none is open beside another.
            self.content(content, out);
            self.blocks.close(0, out);
        }
        out.extend(answer.usage.map(|counts| Delta::Usage(counts.usage())));
        self.stop(answer.stop_reason, out).unwrap_or(End::Complete)
    }

    /// Usage may be lost, but the answer has stopped.
    fn finish(&mut self) -> End {
        if self.stopped { End::Complete } else { End::Truncated }
    }
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
        if !self.blocks.is_whole(self.fast_path.slot()?) {
            return None;
        }
        let delta = self.fast_path.read(unpadded(payload)?)?;
        if let Delta::Text { text, .. } = &delta {
            self.blocks.count(text);
        }
        Some(delta)
    }

    fn stop(&mut self, reason: Option<&RawValue>, out: &mut Vec<Delta<'_>>) -> Option<End> {
        self.blocks.close_all(out);
        if let Some(reason) = reason.and_then(event::stop) {
            out.push(Delta::Stop { choice: 0, reason });
        }
        self.stopped = true;
        (self.stopped && self.counted).then_some(End::Complete)
    }

    fn start<'f>(&mut self, index: u64, payload: &Event<'f>, out: &mut Vec<Delta<'f>>) {
        self.blocks.close(index, out);
        let content = match payload.start.as_ref().and_then(|start| start.tool_use.as_ref()) {
            // A call without arguments is a call with `{}`.
            Some(tool) if !tool.is_hosted() => {
                BlockKind::Tool { call: self.tool(tool, out), whole: Some("{}".to_owned()) }
            }
            _ => {
                out.push(Delta::Opaque);
                BlockKind::Hosted
            }
        };
        self.blocks.open(index, content, out);
    }

    fn tool<'f>(&mut self, tool: &ToolUse<'f>, out: &mut Vec<Delta<'f>>) -> u32 {
        let id = tool.id.and_then(text).unwrap_or_default();
        let name = tool.name.and_then(text).unwrap_or_default();
        self.blocks.new_call((id, name), "tooluse", out)
    }

    fn change<'f>(&mut self, index: u64, change: &Change<'f>, out: &mut Vec<Delta<'f>>) {
        self.blocks.text(index, change.text, out);
        if let Some(reasoning) = &change.reasoning_content {
            self.reasoning(index, reasoning, out);
        }
        if let Some(tool) = &change.tool_use {
            // Tools of the vendor's own are not announced as such.
            let _hosted = self.blocks.arguments(index, tool.input, out);
        }
        if let Some(cited) = &change.citation {
            self.blocks.open_text(index, out);
            self.blocks.cite(index, [cited.citation()]);
        }
        if change.tool_result.or(change.image).is_some() {
            out.push(Delta::Opaque);
        }
    }

    /// A block of an answer that is not streamed.
    fn content<'f>(&mut self, content: &Content<'f>, out: &mut Vec<Delta<'f>>) {
        self.blocks.text(0, content.text, out);
        if let Some(reasoning) = &content.reasoning {
            self.reasoning(0, reasoning, out);
        }
        match &content.tool_use {
            Some(tool) if !tool.is_hosted() => {
                let call = self.tool(tool, out);
                let json = tool.input.map_or("{}", RawValue::get);
                out.push(Delta::ToolArguments { choice: 0, call, json: Cow::Borrowed(json) });
            }
            Some(_) => out.push(Delta::Opaque),
            None => {}
        }
        if let Some(cited) = &content.cited {
            for words in cited.content.iter().flatten() {
                self.blocks.text(0, words.text, out);
            }
            self.blocks.open_text(0, out);
            self.blocks.cite(0, cited.citations.iter().flatten().map(event::Cited::citation));
        }
    }

    fn reasoning<'f>(&mut self, index: u64, said: &Reasoning<'f>, out: &mut Vec<Delta<'f>>) {
        let whole = said.whole.as_ref();
        let (raw, signature) =
            (said.text.or_else(|| whole?.text), said.signature.or_else(|| whole?.signature));
        self.blocks.reasoning(index, raw, out);
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
}
