//! Content blocks: deltas that may interleave, gathered into blocks that never do.
//!
//! A signature is only ever attached to the reasoning that it came with, and only when it is this
//! vendor's own. Citations and log probabilities are left out: the shapes of this dialect demand
//! an `encrypted_index` that nobody but the vendor can make, and know no log probabilities.

use std::collections::VecDeque;

use super::ids::Ids;
use crate::wire::chat::{Delta, Scheme};
use crate::wire::scan::Scan;

/// What a delta adds to the content, reduced to what this dialect can show.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Thinking(&'a str),
    Signature(&'a str),
    Redacted(&'a str),
    Tool { call: u32, id: String, name: &'a str },
    Json { call: u32, json: &'a str },
}

impl<'a> Piece<'a> {
    /// `None`: nothing to show.
    pub(super) fn of(delta: &'a Delta<'_>, ids: &mut Ids) -> Option<Self> {
        Some(match delta {
            Delta::Text { choice: 0, text } | Delta::Refusal { choice: 0, text } => {
                Self::Text(filled(text)?)
            }
            Delta::Reasoning { choice: 0, text } => Self::Thinking(filled(text)?),
            Delta::Signature { value, scheme: Scheme::Anthropic } => {
                Self::Signature(filled(value)?)
            }
            Delta::RedactedReasoning { data, scheme: Scheme::Anthropic } => {
                Self::Redacted(filled(data)?)
            }
            Delta::ToolStart { choice: 0, call, id, name } => {
                Self::Tool { call: *call, id: ids.assign(id), name }
            }
            Delta::ToolArguments { choice: 0, call, json } => {
                Self::Json { call: *call, json: filled(json)? }
            }
            _ => return None,
        })
    }
}

fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// One content block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// Text, reasoning, opaque data or JSON, by its kind.
    pub(super) content: String,
}

#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Thinking { signature: Option<String> },
    Redacted,
    Tool { call: u32, id: String, name: String, scan: Scan },
}

impl Block {
    /// The block that a piece begins, without the piece's own content. `None`: it begins none.
    pub(super) fn begun_by(piece: &Piece<'_>) -> Option<Self> {
        let kind = match piece {
            Piece::Text(_) => Kind::Text,
            Piece::Thinking(_) | Piece::Signature(_) => Kind::Thinking { signature: None },
            Piece::Redacted(_) => Kind::Redacted,
            Piece::Tool { call, id, name } => Kind::Tool {
                call: *call,
                id: id.clone(),
                name: (*name).to_owned(),
                scan: Scan::default(),
            },
            Piece::Json { .. } => return None,
        };
        Some(Self { kind, content: String::new() })
    }

    /// Whether a piece continues this block rather than beginning another.
    pub(super) fn takes(&self, piece: &Piece<'_>) -> bool {
        match (&self.kind, piece) {
            (Kind::Text, Piece::Text(_)) => true,
            // A signature closes what it signs.
            (Kind::Thinking { signature }, Piece::Thinking(_) | Piece::Signature(_)) => {
                signature.is_none()
            }
            (Kind::Tool { call: own, .. }, Piece::Json { call, .. }) => own == call,
            _ => false,
        }
    }

    /// Notes a piece that belongs to this block, without keeping its content.
    pub(super) fn note(&mut self, piece: &Piece<'_>) {
        match (&mut self.kind, piece) {
            (Kind::Thinking { signature }, Piece::Signature(value)) => {
                *signature = Some((*value).to_owned());
            }
            (Kind::Tool { scan, .. }, Piece::Json { json, .. }) => scan.read(json),
            _ => {}
        }
    }

    fn keep(&mut self, piece: &Piece<'_>) {
        self.note(piece);
        match piece {
            Piece::Text(text) | Piece::Thinking(text) | Piece::Redacted(text) => {
                self.content.push_str(text);
            }
            Piece::Json { json, .. } => self.content.push_str(json),
            Piece::Signature(_) | Piece::Tool { .. } => {}
        }
    }

    /// Whether another block may begin: always, but for a tool whose arguments are half written.
    pub(super) fn may_end(&self) -> bool {
        match &self.kind {
            Kind::Tool { scan, .. } => scan.is_complete(),
            Kind::Text | Kind::Thinking { .. } | Kind::Redacted => true,
        }
    }
}

/// Blocks in the order in which they began, with their content.
#[derive(Debug, Default)]
pub(super) struct Blocks(pub(super) VecDeque<Block>);

impl Blocks {
    /// Adds a piece to the block that it belongs to. A piece of an unknown call is dropped.
    pub(super) fn add(&mut self, piece: &Piece<'_>) {
        let home = match piece {
            Piece::Json { .. } => self.0.iter_mut().rev().find(|block| block.takes(piece)),
            _ => self.0.back_mut().filter(|block| block.takes(piece)),
        };
        if let Some(block) = home {
            block.keep(piece);
        } else if let Some(mut block) = Block::begun_by(piece) {
            block.keep(piece);
            self.0.push_back(block);
        }
    }
}
