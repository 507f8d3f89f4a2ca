//! Open blocks of a streamed answer: content that is announced, arrives in fragments under an index, and is
//! closed. Lookups must stay bounded.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::call_ids::CallIds;
use super::split_surrogate::SplitSurrogate;
use crate::chat::{Citation, Delta};

/// The most open blocks. Beyond it the oldest one is closed, so that lookups stay cheap.
const MAX_OPEN: usize = 128;

/// The blocks of one answer that have started and not stopped. Usually one, except for servers that overlap
/// them.
#[derive(Debug, Default)]
pub(crate) struct OpenBlocks {
    open: Vec<Block>,
    /// Characters of answer text so far.
    chars: u64,
    /// Tool calls so far.
    calls: u32,
    ids: CallIds,
}

#[derive(Debug)]
struct Block {
    index: u64,
    kind: BlockKind,
    split: SplitSurrogate,
}

/// Kind of a block, with its state.
#[derive(Debug)]
pub(crate) enum BlockKind {
    /// Answer text. Its citations are written when it is closed, since its extent is known only then.
    Text {
        /// Number of characters of the answer before it.
        start: u64,
        /// Its sources so far.
        citations: Vec<Citation>,
    },
    /// Reasoning text.
    Reasoning,
    /// A tool call.
    Tool {
        /// Its ordinal.
        call: u32,
        /// The complete arguments, used if no fragments arrive.
        whole: Option<String>,
    },
    /// Activity of the vendor's own machinery, which has no neutral equivalent.
    Hosted,
    /// A call of the vendor's own tool.
    Server,
}

impl OpenBlocks {
    /// Whether a block is open and its next fragment begins with a whole character.
    pub(crate) fn is_whole(&self, index: u64) -> bool {
        let block = self.open.iter().rev().find(|block| block.index == index);
        block.is_some_and(|block| block.split.is_empty())
    }

    /// Counts the characters of answer text.
    pub(crate) fn count(&mut self, text: &str) {
        self.chars = self.chars.saturating_add(text.chars().count() as u64);
    }

    /// A text block that starts at the current position.
    pub(crate) fn new_text(&self, citations: Vec<Citation>) -> BlockKind {
        BlockKind::Text { start: self.chars, citations }
    }

    /// Announces a tool call and returns its ordinal. `prefix` starts the generated id if the upstream sends
    /// none.
    pub(crate) fn new_call<'f>(
        &mut self,
        (id, name): (Cow<'f, str>, Cow<'f, str>),
        prefix: &str,
        out: &mut Vec<Delta<'f>>,
    ) -> u32 {
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        let id = self.ids.numbered(id, prefix, call);
        out.push(Delta::ToolStart { choice: 0, call, id, name });
        call
    }

    /// Opens a block.
    pub(crate) fn open(&mut self, index: u64, kind: BlockKind, out: &mut Vec<Delta<'_>>) {
        if self.open.len() >= MAX_OPEN
            && let Some(oldest) = self.open.first().map(|block| block.index)
        {
            self.close(oldest, out);
        }
        self.open.push(Block { index, kind, split: SplitSurrogate::default() });
    }

    /// Opens a text block, unless a block with this index is open.
    pub(crate) fn open_text(&mut self, index: u64, out: &mut Vec<Delta<'_>>) {
        if self.block(index).is_none() {
            self.open(index, self.new_text(Vec::new()), out);
        }
    }

    /// A fragment of text. It opens a block if none is open, since some servers omit the start.
    pub(crate) fn text<'f>(
        &mut self,
        index: u64,
        raw: Option<&'f RawValue>,
        out: &mut Vec<Delta<'f>>,
    ) {
        let Some(raw) = raw else { return };
        self.open_text(index, out);
        if let Some(text) = self.fragment(index, raw) {
            self.count(&text);
            out.push(Delta::Text { choice: 0, text });
        }
    }

    /// A fragment of reasoning, handled like text.
    pub(crate) fn reasoning<'f>(
        &mut self,
        index: u64,
        raw: Option<&'f RawValue>,
        out: &mut Vec<Delta<'f>>,
    ) {
        let Some(raw) = raw else { return };
        if self.block(index).is_none() {
            self.open(index, BlockKind::Reasoning, out);
        }
        if let Some(text) = self.fragment(index, raw) {
            out.push(Delta::Reasoning { choice: 0, text });
        }
    }

    /// A fragment of a call's arguments. Returns it if the call is of the vendor's own tool.
    pub(crate) fn arguments<'f>(
        &mut self,
        index: u64,
        raw: Option<&'f RawValue>,
        out: &mut Vec<Delta<'f>>,
    ) -> Option<Cow<'f, str>> {
        let json = self.fragment(index, raw?)?;
        match &mut self.block(index)?.kind {
            BlockKind::Tool { call, whole } => {
                *whole = None;
                out.push(Delta::ToolArguments { choice: 0, call: *call, json });
            }
            BlockKind::Hosted => out.push(Delta::Opaque),
            BlockKind::Server => {
                out.push(Delta::Opaque);
                return Some(json);
            }
            BlockKind::Text { .. } | BlockKind::Reasoning => {}
        }
        None
    }

    /// Adds sources to an open text block.
    pub(crate) fn cite(&mut self, index: u64, cited: impl IntoIterator<Item = Citation>) {
        if let Some(Block { kind: BlockKind::Text { citations, .. }, .. }) = self.block(index) {
            citations.extend(cited);
        }
    }

    /// Closes a block, if it is open.
    pub(crate) fn close(&mut self, index: u64, out: &mut Vec<Delta<'_>>) {
        let Some(at) = self.open.iter().rposition(|block| block.index == index) else {
            return;
        };
        let block = self.open.remove(at);
        match block.kind {
            BlockKind::Text { start, citations } => {
                if !block.split.is_empty() {
                    self.chars = self.chars.saturating_add(1);
                    out.push(Delta::Text { choice: 0, text: Cow::Borrowed("\u{FFFD}") });
                }
                for citation in citations {
                    let (start, end) = (Some(start), Some(self.chars));
                    out.push(Delta::Citation(Citation { start, end, ..citation }));
                }
            }
            BlockKind::Tool { call, whole: Some(json) } => {
                out.push(Delta::ToolArguments { choice: 0, call, json: Cow::Owned(json) });
            }
            BlockKind::Tool { whole: None, .. }
            | BlockKind::Reasoning
            | BlockKind::Hosted
            | BlockKind::Server => {}
        }
    }

    /// Closes all blocks at the end of the answer.
    pub(crate) fn close_all(&mut self, out: &mut Vec<Delta<'_>>) {
        while let Some(index) = self.open.first().map(|block| block.index) {
            self.close(index, out);
        }
    }

    fn block(&mut self, index: u64) -> Option<&mut Block> {
        self.open.iter_mut().rev().find(|block| block.index == index)
    }

    fn fragment<'f>(&mut self, index: u64, raw: &'f RawValue) -> Option<Cow<'f, str>> {
        self.block(index)?.split.join(raw)
    }
}
