//! The output items that are being written, and the complete form of each.
//!
//! State of another vendor's reasoning is marked as such, so that it is sent back to that vendor and never
//! to this one.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, BytesMut};

use super::calls::{Call, Shape};
use super::search;
use crate::chat::{Citation, SearchRun, ToolForm};
use crate::json::{self, write_str};
use crate::text_index::TextIndex;

/// A delta's addition to the output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    /// A fragment, and log probabilities as array elements.
    Text(&'a str, &'a str),
    Refusal(&'a str),
    Reasoning(&'a str),
    /// State, as it is shown, and whether it stands by itself.
    Sealed(&'a str, bool),
    Tool {
        call: u32,
        id: &'a str,
        /// The function's name.
        name: &'a str,
        /// Form of the function in this dialect.
        form: Option<&'a ToolForm>,
    },
    Json {
        call: u32,
        json: &'a str,
    },
    Search(&'a SearchRun),
}

/// An item with its content so far.
#[derive(Debug)]
pub(super) enum Item {
    Message(Vec<Part>),
    Reasoning { text: String, sealed: Option<String> },
    Call(Call),
    Search(SearchRun),
}

/// A part of a message.
#[derive(Debug)]
pub(super) enum Part {
    Text(Text),
    Refusal(String),
}

/// A text with its annotations and log probabilities, as array elements.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) words: String,
    /// Where its characters and marks are.
    pub(super) index: TextIndex,
    pub(super) annotations: Vec<String>,
    pub(super) logprobs: String,
}

impl Item {
    /// The item that a piece begins. `None`: a fragment of a call that is not there.
    pub(super) fn begun_by(piece: &Piece<'_>) -> Option<Self> {
        Some(match piece {
            Piece::Text(..) | Piece::Refusal(_) => Self::Message(Vec::new()),
            Piece::Reasoning(_) | Piece::Sealed(..) => {
                Self::Reasoning { text: String::new(), sealed: None }
            }
            Piece::Tool { call, id, name, form } => Self::Call(Call::new(*call, id, name, *form)),
            Piece::Search(run) => Self::Search((*run).clone()),
            Piece::Json { .. } => return None,
        })
    }

    /// Whether a piece belongs to this item.
    pub(super) fn takes(&self, piece: &Piece<'_>) -> bool {
        match (self, piece) {
            (Self::Message(_), Piece::Text(..) | Piece::Refusal(_))
            | (
                Self::Reasoning { sealed: None, .. },
                Piece::Reasoning(_) | Piece::Sealed(_, false),
            ) => true,
            (Self::Call(own), Piece::Json { call, .. }) => own.number == *call,
            _ => false,
        }
    }

    /// Whether another item may begin: always, but for a call whose arguments are half written.
    pub(super) fn may_end(&self) -> bool {
        match self {
            Self::Call(call) => call.is_whole(),
            Self::Message(_) | Self::Reasoning { .. } | Self::Search(_) => true,
        }
    }

    /// Whether the item is only shown when it is complete, since its type has no deltas.
    pub(super) fn is_told_whole(&self) -> bool {
        matches!(self, Self::Call(Call { shape: Shape::Members(_), .. }))
    }

    /// Appends a piece to the item.
    pub(super) fn keep(&mut self, piece: &Piece<'_>) {
        match (self, piece) {
            (Self::Message(parts), Piece::Text(text, logprobs)) => {
                if !matches!(parts.last(), Some(Part::Text(_))) {
                    parts.push(Part::Text(Text::default()));
                }
                if let Some(Part::Text(own)) = parts.last_mut() {
                    own.words.push_str(text);
                    own.index.push(text);
                    if !own.logprobs.is_empty() && !logprobs.is_empty() {
                        own.logprobs.push(',');
                    }
                    own.logprobs.push_str(logprobs);
                }
            }
            (Self::Message(parts), Piece::Refusal(words)) => match parts.last_mut() {
                Some(Part::Refusal(own)) => own.push_str(words),
                _ => parts.push(Part::Refusal((*words).to_owned())),
            },
            (Self::Reasoning { text, .. }, Piece::Reasoning(words)) => text.push_str(words),
            (Self::Reasoning { sealed, .. }, Piece::Sealed(value, _)) => {
                *sealed = Some((*value).to_owned());
            }
            (Self::Call(own), Piece::Json { json, .. }) => {
                own.says(json);
            }
            _ => {}
        }
    }

    /// Prefix of the item's id.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Message(_) => "msg",
            Self::Reasoning { .. } => "rs",
            Self::Call(call) => call.prefix(),
            Self::Search(_) => "ws",
        }
    }

    /// The whole item.
    pub(super) fn write(&self, id: &str, status: &str, out: &mut BytesMut) {
        let head = |kind: &str| format!(r#"{{"id":"{id}","type":"{kind}","status":"{status}""#);
        match self {
            Self::Message(parts) => {
                out.put_slice(head("message").as_bytes());
                out.put_slice(br#","role":"assistant","content":["#);
                for (number, part) in parts.iter().enumerate() {
                    if number > 0 {
                        out.put_u8(b',');
                    }
                    part.write(out);
                }
                out.put_slice(b"]}");
            }
            Self::Reasoning { text, sealed } => {
                out.put_slice(head("reasoning").as_bytes());
                out.put_slice(br#","summary":["#);
                if !text.is_empty() {
                    summary(text, out);
                }
                out.put_u8(b']');
                if let Some(value) = sealed {
                    out.put_slice(br#","encrypted_content":"#);
                    write_str(value, out);
                }
                out.put_u8(b'}');
            }
            Self::Search(run) => {
                out.put_slice(head(search::CALL).as_bytes());
                out.put_slice(br#","action":"#);
                search::write(run, out);
                out.put_u8(b'}');
            }
            Self::Call(call) => call.write(id, status, out),
        }
    }
}

impl Part {
    /// The whole part.
    pub(super) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Text(text) => {
                out.put_slice(br#"{"type":"output_text","text":"#);
                write_str(&text.words, out);
                out.put_slice(br#","annotations":["#);
                out.put_slice(text.annotations.join(",").as_bytes());
                out.put_slice(br#"],"logprobs":["#);
                out.put_slice(text.logprobs.as_bytes());
                out.put_slice(b"]}");
            }
            Self::Refusal(words) => {
                out.put_slice(br#"{"type":"refusal","refusal":"#);
                write_str(words, out);
                out.put_u8(b'}');
            }
        }
    }
}

/// A part of a summary.
pub(super) fn summary(text: &str, out: &mut BytesMut) {
    out.put_slice(br#"{"type":"summary_text","text":"#);
    write_str(text, out);
    out.put_u8(b'}');
}

/// A source as an annotation of a text. Offsets that are missing are those of its mark, or span all of
/// the text; those given count from the beginning of the answer, `base` characters before the text.
/// `None`: it has no address, and the published specification has no other sources.
pub(super) fn annotation(source: &Citation, base: u64, text: &TextIndex) -> Option<String> {
    let url = json::quoted(source.address()?);
    let title = json::quoted(source.name());
    let within = |place: u64| place.saturating_sub(base);
    let marked = source.mark.and_then(|number| text.mark(number)).unzip();
    let start = source.start.map(within).or(marked.0).unwrap_or(0);
    let end = source.end.map(within).or(marked.1);
    let end = end.unwrap_or_else(|| text.chars());
    Some(format!(
        r#"{{"type":"url_citation","start_index":{start},"end_index":{end},"url":{url},"title":{title}}}"#
    ))
}

/// Items that wait until the open one ends, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    items: VecDeque<Item>,
    /// Number of items taken out so far, which is the number of the first item here.
    taken: usize,
    /// Number of messages among the items.
    messages: usize,
    /// The number of each call's item.
    calls: HashMap<u32, usize>,
}

impl Waiting {
    /// Adds a piece to the item that it belongs to. A piece of an unknown call is dropped.
    pub(super) fn add(&mut self, piece: &Piece<'_>) {
        let home = match piece {
            Piece::Json { call, .. } => {
                let number = self.calls.get(call).and_then(|call| call.checked_sub(self.taken));
                number.and_then(|number| self.items.get_mut(number))
            }
            _ => self.items.back_mut(),
        };
        if let Some(item) = home.filter(|item| item.takes(piece)) {
            item.keep(piece);
        } else if let Some(mut item) = Item::begun_by(piece) {
            item.keep(piece);
            match &item {
                Item::Message(_) => self.messages += 1,
                Item::Call(call) => {
                    self.calls.insert(call.number, self.taken + self.items.len());
                }
                Item::Reasoning { .. } | Item::Search(_) => {}
            }
            self.items.push_back(item);
        }
    }

    /// Takes the first one out.
    pub(super) fn pop_front(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.taken += 1;
        self.messages -= usize::from(matches!(item, Item::Message(_)));
        Some(item)
    }

    /// Whether a message is among them.
    pub(super) fn has_message(&self) -> bool {
        self.messages > 0
    }
}
