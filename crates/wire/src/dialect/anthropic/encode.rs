//! Stream encoder: frames of this dialect as received, or events made from deltas.
//!
//! Either way only `finish` ends a stream, with `message_stop` or with an error and never with
//! both, and the heartbeats of an upstream are dropped because the relay writes its own.

use bytes::{BufMut, BytesMut};

use super::answer::Answer;
use super::blocks::{Block, Blocks, Early, Kind, Piece};
use super::error;
use super::event::type_of;
use super::ids::Ids;
use super::search::FOREIGN;
use crate::chat::{ApiError, Delta, End, ToolForms};
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::{quoted, write_str};
use crate::sse;

/// Forwards payloads byte for byte.
#[derive(Debug)]
pub(super) struct Verbatim;

impl Encode for Verbatim {
    fn frame(&mut self, frame: &Frame, _deltas: &[Delta<'_>], out: &mut BytesMut) {
        match frame.event.as_deref() {
            Some(b"ping") => {}
            Some(name) if is_event(name) => sse::write(Some(name), &frame.data, out),
            // The client libraries only read the event's name, so a meaningless name is replaced by the
            // payload's type.
            name => match type_of(&frame.data) {
                Some(kind) if kind == "ping" => {}
                Some(kind) if sse::is_name(kind.as_bytes()) => {
                    sse::write(Some(kind.as_bytes()), &frame.data, out);
                }
                _ => sse::write(name.filter(|name| sse::is_name(name)), &frame.data, out),
            },
        }
    }

    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        let last_of =
            |kind: &str| last.filter(|last| type_of(&last.data).is_some_and(|k| k == kind));
        match end.fault() {
            None => match last_of("message_stop") {
                Some(frame) => sse::write(Some(b"message_stop"), &frame.data, out),
                None => write_stop(out),
            },
            Some(fault) => match last_of("error").filter(|_| matches!(end, End::Failed(_))) {
                Some(frame) => sse::write(Some(b"error"), &frame.data, out),
                None => write_error(&fault, out),
            },
        }
    }
}

fn is_event(name: &[u8]) -> bool {
    matches!(
        name,
        b"message_start"
            | b"content_block_start"
            | b"content_block_delta"
            | b"content_block_stop"
            | b"message_delta"
    )
}

fn write_stop(out: &mut BytesMut) {
    out.put_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

fn write_error(fault: &ApiError, out: &mut BytesMut) {
    sse::write(Some(b"error"), error::body(fault, None).as_bytes(), out);
}

/// Writes events anew. Blocks never overlap: while a tool's arguments are half written, the pieces
/// of other blocks wait.
#[derive(Debug)]
pub(super) struct Translated {
    answer: Answer,
    ids: Ids,
    tool_forms: ToolForms,
    started: bool,
    /// The block that is being written.
    open: Option<Block>,
    /// Its index.
    index: u64,
    /// Blocks that wait until it ends.
    waiting: Blocks,
    early: Early,
}

impl Encode for Translated {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        let forms = std::mem::take(&mut self.tool_forms);
        for delta in deltas {
            self.answer.note(delta);
            if let Some(piece) = Piece::of(delta, &mut self.ids, &forms) {
                self.piece(&piece, out);
            }
            if let Some(piece) = Piece::second(delta, &self.ids) {
                self.piece(&piece, out);
            }
        }
        self.tool_forms = forms;
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if let Some(fault) = end.fault() {
            // Nothing is closed: a client must not take half a tool call for a whole one.
            return write_error(&fault, out);
        }
        self.start(out);
        self.close(out);
        while let Some(block) = self.waiting.pop_front() {
            self.write_waiting(block, out);
            self.close(out);
        }
        let (stop, usage) = (self.answer.stop(), self.answer.usage());
        let event = format!(r#"{{"type":"message_delta","delta":{{{stop}}},"usage":{usage}}}"#);
        sse::write(Some(b"message_delta"), event.as_bytes(), out);
        write_stop(out);
    }
}

impl Translated {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            answer: Answer::new(call),
            ids: Ids::default(),
            tool_forms: call.tool_forms.clone(),
            started: false,
            open: None,
            index: 0,
            waiting: Blocks::default(),
            early: Early::default(),
        }
    }

    /// State that follows a text waits for the next piece, since that may be a source, which belongs to the
    /// text.
    fn piece(&mut self, piece: &Piece<'_>, out: &mut BytesMut) {
        if self.open.as_ref().is_some_and(|open| matches!(open.kind, Kind::Text)) {
            match piece {
                Piece::Signature(_) | Piece::Redacted(_) => return self.waiting.add(piece),
                Piece::Citation(_) => {}
                _ => self.release(out),
            }
        } else if let Piece::Citation(source) = piece
            && !self.waiting.has_text()
        {
            return self.early.keep(source);
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.takes(piece)) {
            open.note(piece);
            let may_end = open.may_end();
            write_piece(self.index, piece, out);
            if may_end {
                self.release(out);
            }
        } else if self.open.as_ref().is_none_or(Block::may_end) {
            if let Some(mut block) = Block::begun_by(piece) {
                self.open_block(&block, out);
                block.note(piece);
                write_piece(self.index, piece, out);
                self.open = Some(block);
                self.cite_early(out);
            }
        } else {
            self.waiting.add(piece);
        }
    }

    /// The open block may end: the blocks that waited for it follow, up to one that may not.
    fn release(&mut self, out: &mut BytesMut) {
        while self.open.as_ref().is_none_or(Block::may_end) {
            let Some(block) = self.waiting.pop_front() else {
                return;
            };
            self.write_waiting(block, out);
        }
    }

    fn write_waiting(&mut self, block: Block, out: &mut BytesMut) {
        self.open_block(&block, out);
        let content = match &block.kind {
            Kind::Text => Piece::Text(&block.content),
            Kind::Thinking { .. } => Piece::Thinking(&block.content),
            Kind::Redacted => Piece::Redacted(block.content.as_str().into()),
            Kind::Tool { call, .. } => Piece::Json { call: *call, json: &block.content },
            Kind::Search { number } => Piece::Search(*number, block.content.clone()),
            Kind::Found { number } => Piece::Found(*number, block.content.clone()),
        };
        if !block.content.is_empty() {
            write_piece(self.index, &content, out);
        }
        for source in &block.citations {
            write_piece(self.index, &Piece::Citation(source.clone()), out);
        }
        if let Kind::Thinking { signature: Some(signature) } = &block.kind {
            write_piece(self.index, &Piece::Signature(signature.as_str().into()), out);
        }
        self.open = Some(block);
        self.cite_early(out);
    }

    /// The text that has just begun holds the sources that waited for one.
    fn cite_early(&mut self, out: &mut BytesMut) {
        if self.open.as_ref().is_some_and(|open| matches!(open.kind, Kind::Text)) {
            for source in self.early.take() {
                write_piece(self.index, &Piece::Citation(source), out);
            }
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.started, true) {
            let message = self.answer.beginning();
            let event = format!(r#"{{"type":"message_start","message":{{{message}}}}}"#);
            sse::write(Some(b"message_start"), event.as_bytes(), out);
        }
    }

    fn open_block(&mut self, block: &Block, out: &mut BytesMut) {
        self.start(out);
        self.close(out);
        out.put_slice(
            b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
        );
        put_number(self.index, out);
        out.put_slice(b",\"content_block\":");
        match &block.kind {
            Kind::Text => out.put_slice(br#"{"type":"text","text":""}"#),
            Kind::Thinking { .. } => {
                out.put_slice(br#"{"type":"thinking","thinking":"","signature":""}"#);
            }
            // Its data follows, see `write_piece`.
            Kind::Redacted => out.put_slice(br#"{"type":"redacted_thinking","data":"#),
            Kind::Tool { id, name, toolset, .. } => {
                out.put_slice(br#"{"type":"tool_use","id":"#);
                write_str(id, out);
                out.put_slice(b",\"name\":");
                write_str(name, out);
                if let Some(toolset) = toolset {
                    out.put_slice(b",\"toolset_name\":");
                    write_str(toolset, out);
                }
                out.put_slice(b",\"input\":{}}");
            }
            Kind::Search { number } => {
                let id = format!("{FOREIGN}{number}");
                let block = format!(
                    r#"{{"type":"server_tool_use","id":"{id}","name":"web_search","input":{{}}}}"#
                );
                out.put_slice(block.as_bytes());
            }
            // Its content follows, see `write_piece`.
            Kind::Found { number } => {
                let id = format!("{FOREIGN}{number}");
                let block =
                    format!(r#"{{"type":"web_search_tool_result","tool_use_id":"{id}","content":"#);
                out.put_slice(block.as_bytes());
            }
        }
        if !matches!(block.kind, Kind::Redacted | Kind::Found { .. }) {
            out.put_slice(b"}\n\n");
        }
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            let event = format!(r#"{{"type":"content_block_stop","index":{}}}"#, self.index);
            sse::write(Some(b"content_block_stop"), event.as_bytes(), out);
            self.index = self.index.saturating_add(1);
        }
    }
}

/// The hot path: one event per token, appended without detours.
fn write_piece(index: u64, piece: &Piece<'_>, out: &mut BytesMut) {
    let (head, text): (&[u8], &str) = match piece {
        Piece::Text(text) => (br#"text_delta","text":"#, text),
        Piece::Thinking(text) => (br#"thinking_delta","thinking":"#, text),
        Piece::Signature(value) => (br#"signature_delta","signature":"#, value),
        Piece::Json { json, .. } => (br#"input_json_delta","partial_json":"#, json),
        Piece::Search(_, json) => (br#"input_json_delta","partial_json":"#, json),
        Piece::Found(_, json) => {
            out.put_slice(json.as_bytes());
            return out.put_slice(b"}}\n\n");
        }
        Piece::Redacted(data) => {
            // The end of the block's own start event: this kind has no deltas.
            out.put_slice(quoted(data).as_bytes());
            return out.put_slice(b"}}\n\n");
        }
        Piece::Citation(source) => {
            let event = format!(
                r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"citations_delta","citation":{source}}}}}"#
            );
            return sse::write(Some(b"content_block_delta"), event.as_bytes(), out);
        }
        Piece::Tool { .. } => return,
    };
    out.put_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    put_number(index, out);
    out.put_slice(b",\"delta\":{\"type\":\"");
    out.put_slice(head);
    write_str(text, out);
    out.put_slice(b"}}\n\n");
}

fn put_number(number: u64, out: &mut BytesMut) {
    out.put_slice(number.to_string().as_bytes());
}
