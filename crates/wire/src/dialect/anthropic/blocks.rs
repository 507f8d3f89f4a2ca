//! Content blocks: deltas that may interleave, gathered into blocks that never do.
//!
//! A signature is only ever attached to the reasoning that it came with. Log probabilities are left out,
//! because this dialect has no field for them. So are sources without an address, which this dialect only
//! has as places in the caller's own documents.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use super::ids::Ids;
use super::search;
use crate::chat::{Citation, Delta, Scheme, ToolForms};
use crate::json::quoted;
use crate::scan::Scan;
use crate::seal;

/// A delta's addition to the content, reduced to the kinds that this dialect can show.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Thinking(&'a str),
    /// As it is shown; see `seal`.
    Signature(Cow<'a, str>),
    Redacted(Cow<'a, str>),
    Tool {
        call: u32,
        id: String,
        name: &'a str,
        /// The toolset that it is in.
        toolset: Option<&'a str>,
    },
    Json {
        call: u32,
        json: &'a str,
    },
    /// A source of the text, as JSON.
    Citation(String),
    /// A search that another vendor made: the number of its call, and its input as JSON.
    Search(u32, String),
    /// The results of that search: the number of its call, and the results as JSON.
    Found(u32, String),
}

impl<'a> Piece<'a> {
    /// `None`: nothing to show.
    pub(super) fn of(delta: &'a Delta<'_>, ids: &mut Ids, forms: &'a ToolForms) -> Option<Self> {
        Some(match delta {
            Delta::Text { choice: 0, text } | Delta::Refusal { choice: 0, text } => {
                Self::Text(filled(text)?)
            }
            Delta::Reasoning { choice: 0, text } => Self::Thinking(filled(text)?),
            Delta::Signature { value, scheme } => Self::Signature(state(value, *scheme, false)?),
            Delta::RedactedReasoning { data, scheme } => {
                Self::Redacted(state(data, *scheme, true)?)
            }
            Delta::ToolStart { choice: 0, call, id, name } => {
                let form = forms.get(name);
                let toolset = form.and_then(|form| form.namespace.as_deref());
                let name = form.map_or_else(|| name.as_ref(), |form| form.name.as_str());
                Self::Tool { call: *call, id: ids.assign(id), name, toolset }
            }
            Delta::ToolArguments { choice: 0, call, json } => {
                Self::Json { call: *call, json: filled(json)? }
            }
            Delta::Citation(source) => Self::Citation(citation(source)?),
            Delta::Search(run) => Self::Search(ids.search(), search::input(run)),
            _ => return None,
        })
    }

    /// The second piece of a delta, after [`Self::of`]: the results of a search.
    pub(super) fn second(delta: &Delta<'_>, ids: &Ids) -> Option<Self> {
        match delta {
            Delta::Search(run) => Some(Self::Found(ids.searches(), search::results(run))),
            _ => None,
        }
    }
}

/// State as it is shown: that of another vendor is marked.
fn state(value: &str, scheme: Scheme, redacted: bool) -> Option<Cow<'_, str>> {
    if scheme == Scheme::Anthropic {
        return filled(value).map(Cow::Borrowed);
    }
    Some(Cow::Owned(seal::shown(filled(value)?, scheme, redacted, Scheme::Anthropic)))
}

/// A source of the web. `encrypted_index`, which only the vendor can make, is empty: see `request`.
fn citation(source: &Citation) -> Option<String> {
    let (url, title) = (quoted(source.address()?), quoted(source.name()));
    let words = quoted(source.cited_text.as_deref().unwrap_or_default());
    Some(format!(
        r#"{{"type":"web_search_result_location","cited_text":{words},"url":{url},"title":{title},"encrypted_index":""}}"#
    ))
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
    /// Of a text, its sources.
    pub(super) citations: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Thinking { signature: Option<String> },
    Redacted,
    Tool { call: u32, id: String, name: String, toolset: Option<String>, scan: Scan },
    Search { number: u32 },
    Found { number: u32 },
}

impl Block {
    /// The block that a piece begins, without the piece's own content. `None`: it begins none.
    pub(super) fn begun_by(piece: &Piece<'_>) -> Option<Self> {
        let kind = match piece {
            Piece::Text(_) => Kind::Text,
            Piece::Thinking(_) | Piece::Signature(_) => Kind::Thinking { signature: None },
            Piece::Redacted(_) => Kind::Redacted,
            Piece::Tool { call, id, name, toolset } => Kind::Tool {
                call: *call,
                id: id.clone(),
                name: (*name).to_owned(),
                toolset: toolset.map(str::to_owned),
                scan: Scan::default(),
            },
            Piece::Search(number, _) => Kind::Search { number: *number },
            Piece::Found(number, _) => Kind::Found { number: *number },
            Piece::Json { .. } | Piece::Citation(_) => return None,
        };
        Some(Self { kind, content: String::new(), citations: Vec::new() })
    }

    /// Whether a piece continues this block rather than beginning another.
    pub(super) fn takes(&self, piece: &Piece<'_>) -> bool {
        match (&self.kind, piece) {
            (Kind::Text, Piece::Text(_) | Piece::Citation(_)) => true,
            // A signature closes the reasoning that it signs.
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
                *signature = Some(value.clone().into_owned());
            }
            (Kind::Tool { scan, .. }, Piece::Json { json, .. }) => scan.read(json),
            _ => {}
        }
    }

    fn keep(&mut self, piece: &Piece<'_>) {
        self.note(piece);
        match piece {
            Piece::Text(text) | Piece::Thinking(text) => self.content.push_str(text),
            Piece::Redacted(data) => self.content.push_str(data),
            Piece::Json { json, .. } => self.content.push_str(json),
            Piece::Search(_, json) | Piece::Found(_, json) => self.content.push_str(json),
            Piece::Citation(source) => self.citations.push(source.clone()),
            Piece::Signature(_) | Piece::Tool { .. } => {}
        }
    }

    /// Whether another block may begin: always, but for a tool whose arguments are half written.
    pub(super) fn may_end(&self) -> bool {
        match &self.kind {
            Kind::Tool { scan, .. } => scan.is_complete(),
            Kind::Text
            | Kind::Thinking { .. }
            | Kind::Redacted
            | Kind::Search { .. }
            | Kind::Found { .. } => true,
        }
    }
}

/// Blocks in the order in which they began, with their content.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    queue: VecDeque<Block>,
    /// Number of blocks taken out of the queue so far, which is the number of its first block.
    taken: usize,
    /// The number of the last text.
    text: Option<usize>,
    /// The number of each call's block.
    calls: HashMap<u32, usize>,
}

/// Sources that were received while no text was open: they are added to the next text.
#[derive(Debug, Default)]
pub(super) struct Early(Vec<String>);

impl Early {
    /// Keeps a source for the next text.
    pub(super) fn keep(&mut self, source: &str) {
        self.0.push(source.to_owned());
    }

    /// All that were kept, for a text.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0)
    }
}

impl Blocks {
    /// Whether a block of text is among them.
    pub(super) fn has_text(&self) -> bool {
        self.text.is_some_and(|number| number >= self.taken)
    }

    /// Adds a piece to the block that it belongs to. A piece of an unknown call is dropped.
    pub(super) fn add(&mut self, piece: &Piece<'_>) {
        let home = match piece {
            Piece::Json { call, .. } => self.numbered(self.calls.get(call).copied()),
            Piece::Citation(_) => self.numbered(self.text),
            _ => self.queue.back_mut(),
        };
        if let Some(block) = home.filter(|block| block.takes(piece)) {
            block.keep(piece);
        } else if let Some(mut block) = Block::begun_by(piece) {
            block.keep(piece);
            let number = self.taken + self.queue.len();
            match &block.kind {
                Kind::Text => self.text = Some(number),
                Kind::Tool { call, .. } => drop(self.calls.insert(*call, number)),
                Kind::Thinking { .. }
                | Kind::Redacted
                | Kind::Search { .. }
                | Kind::Found { .. } => {}
            }
            self.queue.push_back(block);
        }
    }

    /// Takes the first one out.
    pub(super) fn pop_front(&mut self) -> Option<Block> {
        let block = self.queue.pop_front()?;
        self.taken += 1;
        Some(block)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.queue.iter()
    }

    fn numbered(&mut self, number: Option<usize>) -> Option<&mut Block> {
        self.queue.get_mut(number?.checked_sub(self.taken)?)
    }
}
