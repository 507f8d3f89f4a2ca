//! Encoder of answers that are not streamed: the upstream's own message as received, or one made from
//! deltas. Nothing is written for an answer that did not complete.

use bytes::{BufMut, BytesMut};

use super::answer::Answer;
use super::blocks::{Block, Blocks, Early, Kind, Piece};
use super::ids::Ids;
use super::search::FOREIGN;
use crate::chat::{Delta, End, ToolForms};
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::{Members, quoted, replace_lone_surrogates};

/// Forwards the body byte for byte.
#[derive(Debug)]
pub(super) struct Verbatim;

impl Encode for Verbatim {
    fn frame(&mut self, frame: &Frame, _deltas: &[Delta<'_>], out: &mut BytesMut) {
        out.put_slice(&frame.data);
    }

    fn finish(&mut self, _end: &End, _last: Option<&Frame>, _out: &mut BytesMut) {}
}

/// Gathers deltas into one message.
#[derive(Debug)]
pub(super) struct Translated {
    answer: Answer,
    ids: Ids,
    tool_forms: ToolForms,
    blocks: Blocks,
    early: Early,
}

impl Translated {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            answer: Answer::new(call),
            ids: Ids::default(),
            tool_forms: call.tool_forms.clone(),
            blocks: Blocks::default(),
            early: Early::default(),
        }
    }
}

impl Encode for Translated {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], _out: &mut BytesMut) {
        for delta in deltas {
            self.answer.note(delta);
            match Piece::of(delta, &mut self.ids, &self.tool_forms) {
                Some(Piece::Citation(source)) if !self.blocks.has_text() => {
                    self.early.keep(&source);
                }
                Some(piece) => {
                    self.blocks.add(&piece);
                    if matches!(piece, Piece::Text(_)) {
                        let early = self.early.take().into_iter().map(Piece::Citation);
                        early.for_each(|source| self.blocks.add(&source));
                    }
                }
                None => {}
            }
            if let Some(piece) = Piece::second(delta, &self.ids) {
                self.blocks.add(&piece);
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if *end != End::Complete {
            return;
        }
        let content: Vec<String> = self.blocks.iter().map(block_json).collect();
        let message = self.answer.message(&format!("[{}]", content.join(",")), &self.answer.stop());
        out.put_slice(format!("{{{message}}}").as_bytes());
    }
}

fn block_json(block: &Block) -> String {
    let content = &block.content;
    match &block.kind {
        Kind::Text if block.citations.is_empty() => {
            format!(r#"{{"type":"text","text":{}}}"#, quoted(content))
        }
        Kind::Text => {
            let (text, citations) = (quoted(content), block.citations.join(","));
            format!(r#"{{"type":"text","text":{text},"citations":[{citations}]}}"#)
        }
        Kind::Thinking { signature } => format!(
            r#"{{"type":"thinking","thinking":{},"signature":{}}}"#,
            quoted(content),
            quoted(signature.as_deref().unwrap_or_default()),
        ),
        Kind::Search { number } => format!(
            r#"{{"type":"server_tool_use","id":"{FOREIGN}{number}","name":"web_search","input":{content}}}"#
        ),
        Kind::Found { number } => format!(
            r#"{{"type":"web_search_tool_result","tool_use_id":"{FOREIGN}{number}","content":{content}}}"#
        ),
        Kind::Redacted => format!(r#"{{"type":"redacted_thinking","data":{}}}"#, quoted(content)),
        Kind::Tool { id, name, toolset, .. } => {
            let toolset = toolset.as_deref().map(quoted);
            let toolset = toolset.map(|toolset| format!(r#""toolset_name":{toolset},"#));
            format!(
                r#"{{"type":"tool_use","id":{},"name":{},{}"input":{}}}"#,
                quoted(id),
                quoted(name),
                toolset.unwrap_or_default(),
                input(content),
            )
        }
    }
}

/// A tool's arguments as an object, their text untouched. A call without arguments has none to
/// write, or `null` (Groq). Arguments that broke off, as they do at the limit on output, are no object and cannot
/// stand here; they are kept as text below `_truncated` so that no reader takes them for whole.
fn input(json: &str) -> String {
    if ["", "null"].contains(&json.trim()) {
        return "{}".to_owned();
    }
    match Members::parse(json) {
        Ok(_) => replace_lone_surrogates(json.trim()).into_owned(),
        Err(_) => format!(r#"{{"_truncated":{}}}"#, quoted(json)),
    }
}
