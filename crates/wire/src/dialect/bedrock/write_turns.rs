//! Turn writer: the turns of a conversation in the order that this dialect requires.
//!
//! Instructions stand apart, turns alternate, results of tools lead the turn after the calls, and
//! reasoning leads the turn that it belongs to. Reasoning goes back only to a model of the vendor that
//! has signed it: it would be rejected anywhere else, and must not reach another vendor.

use std::fmt::Write;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::media::{self, Medium};
use crate::chat::{ApiError, CacheMark, Message, Part, Role, Scheme, Signature};

/// The most characters of a call's id.
const LONGEST_ID: usize = 64;

#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(&'a str),
    Image(Medium<'a>),
    Document(Medium<'a>),
    ReasoningContent(Reasoning<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: String,
        name: &'a str,
        input: &'a RawValue,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: String,
        content: Vec<Self>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    CachePoint(CachePoint<'a>),
}

/// The prompt up to here is to be cached.
#[derive(Debug, Serialize)]
pub(super) struct CachePoint<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'a str>,
}

impl<'a> CachePoint<'a> {
    pub(super) fn new(mark: &'a CacheMark) -> Self {
        Self { kind: "default", ttl: mark.as_deref() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reasoning<'a> {
    ReasoningText {
        text: &'a str,
        signature: &'a str,
    },
    /// Base64 of the vendor's data, which is base64 itself.
    RedactedContent(String),
}

/// An instruction.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Instruction<'a> {
    Text(&'a str),
    CachePoint(CachePoint<'a>),
}

/// Writes turns.
pub(super) struct Turns<'a> {
    pub(super) system: Vec<Instruction<'a>>,
    pub(super) conversation: Vec<Turn<'a>>,
    /// The model takes reasoning that Anthropic has signed.
    signed: bool,
    documents: usize,
}

impl<'a> Turns<'a> {
    /// The instructions, and the alternating turns.
    pub(super) fn new(messages: &'a [Message], signed: bool) -> Result<Self, ApiError> {
        let mut written =
            Self { system: Vec::new(), conversation: Vec::new(), signed, documents: 0 };
        for (i, message) in messages.iter().enumerate() {
            written.add(message, &format!("messages[{i}]"))?;
        }
        if written.conversation.is_empty() {
            return Err(ApiError::field("messages", "must hold at least one turn with content"));
        }
        for turn in &mut written.conversation {
            sort(&mut turn.content);
        }
        // The vendor's reply otherwise: final assistant content cannot end with trailing whitespace.
        if let Some(last) = written.conversation.last_mut()
            && last.role == "assistant"
            && let Some(Block::Text(text)) = last.content.last_mut()
        {
            *text = text.trim_end();
        }
        Ok(written)
    }

    fn add(&mut self, message: &'a Message, at: &str) -> Result<(), ApiError> {
        let role = match message.role {
            Role::System => {
                for part in &message.parts {
                    match part {
                        Part::Text(text) if is_blank(text) => {}
                        Part::Text(text) => self.system.push(Instruction::Text(text)),
                        Part::Cache(mark) => {
                            if !self.system.is_empty() {
                                self.system.push(Instruction::CachePoint(CachePoint::new(mark)));
                            }
                        }
                        _ => return Err(misplaced("anything but text", at)),
                    }
                }
                return Ok(());
            }
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let mut content = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            match part {
                // A mark stands behind a block.
                Part::Cache(_) if content.is_empty() => {}
                Part::Cache(mark) => content.push(Block::CachePoint(CachePoint::new(mark))),
                part => content.extend(self.block(part, message.role, at)?),
            }
        }
        if content.iter().any(|block| matches!(block, Block::Document(_)))
            && !content.iter().any(|block| matches!(block, Block::Text(_)))
        {
            // The vendor's reply otherwise: a text block must be included when using documents.
            content.push(Block::Text("See the document."));
        }
        match self.conversation.last_mut() {
            _ if content.is_empty() => {}
            Some(turn) if turn.role == role => turn.content.append(&mut content),
            _ => self.conversation.push(Turn { role, content }),
        }
        Ok(())
    }

    fn block(
        &mut self,
        part: &'a Part,
        role: Role,
        at: &str,
    ) -> Result<Option<Block<'a>>, ApiError> {
        Ok(Some(match (part, role) {
            // The vendor rejects blank texts.
            (Part::Text(text) | Part::Refusal(text), _) => {
                return Ok((!is_blank(text)).then_some(Block::Text(text)));
            }
            (Part::Image(image), Role::User) => Block::Image(media::image(image, at)?),
            (Part::Document(document), Role::User) => {
                let number = self.documents;
                self.documents = number.saturating_add(1);
                Block::Document(media::document(document, number, at)?)
            }
            (Part::Reasoning { .. } | Part::RedactedReasoning { .. }, _) => {
                let own = self.signed && role == Role::Assistant;
                return Ok(reasoning(part).filter(|_| own).map(Block::ReasoningContent));
            }
            (Part::ToolCall { id, name, arguments }, Role::Assistant) => {
                if !arguments.get().trim_start().starts_with('{') {
                    let message = "the arguments of a tool call must be a JSON object";
                    return Err(ApiError::field(at, message));
                }
                Block::ToolUse { tool_use_id: sanitised(id), name, input: arguments }
            }
            (Part::ToolResult { id, parts, is_error }, Role::User) => {
                let mut content = Vec::with_capacity(parts.len());
                for part in parts {
                    if matches!(part, Part::ToolCall { .. } | Part::ToolResult { .. }) {
                        return Err(misplaced("a tool call", at));
                    }
                    content.extend(self.block(part, Role::User, at)?);
                }
                let status = is_error.then_some("error");
                Block::ToolResult { tool_use_id: sanitised(id), content, status }
            }
            (Part::Image(_) | Part::Document(_), _) => {
                return Err(misplaced("an image or a document", at));
            }
            (Part::Unreadable { .. } | Part::Summary(_), _) => {
                return Err(misplaced("foreign content", at));
            }
            (Part::Cache(_), _) => return Ok(None),
            (Part::ToolCall { .. }, _) => return Err(misplaced("a tool call", at)),
            (Part::ToolResult { .. }, _) => return Err(misplaced("a tool's result", at)),
        }))
    }
}

fn misplaced(what: &str, at: &str) -> ApiError {
    ApiError::field(at, format!("{what} cannot stand in a turn of this role"))
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Reasoning that Anthropic has signed or sealed.
fn reasoning(part: &Part) -> Option<Reasoning<'_>> {
    match part {
        Part::Reasoning {
            text,
            signature: Some(Signature { value, scheme: Scheme::Anthropic }),
        } if !value.is_empty() => Some(Reasoning::ReasoningText { text, signature: value }),
        Part::RedactedReasoning { data, scheme: Scheme::Anthropic } => {
            Some(Reasoning::RedactedContent(BASE64_STANDARD.encode(data)))
        }
        _ => None,
    }
}

/// A stable sort: within a rank the order stays, and a mark stays behind its block.
fn sort(content: &mut Vec<Block<'_>>) {
    let mut rank = 0;
    let mut ranked: Vec<(u8, Block<'_>)> = Vec::with_capacity(content.len());
    for block in content.drain(..) {
        rank = if matches!(block, Block::CachePoint(_)) { rank } else { block.rank() };
        ranked.push((rank, block));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    content.extend(ranked.into_iter().map(|(_, block)| block));
}

impl Block<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::ToolResult { .. } | Self::ReasoningContent(_) => 0,
            Self::Text(_) | Self::Image(_) | Self::Document(_) | Self::CachePoint(_) => 1,
            Self::ToolUse { .. } => 2,
        }
    }
}

/// An id of a call that the vendor and the models behind it accept: letters, digits, `_` and `-`, no
/// more than 64. An acceptable one stays; any other is replaced by a pure function of it, so that a
/// call and its result, which arrive in different requests, meet again and no two collide.
fn sanitised(id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.len() <= LONGEST_ID && id.chars().all(fits) {
        return id.to_owned();
    }
    let kept = id.chars().take(LONGEST_ID - 17);
    let mut out: String = kept.map(|c| if fits(c) { c } else { '_' }).collect();
    // FNV-1a: stable for ever, unlike the standard library's hashers.
    let digest = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Writing to a string cannot fail.
    write!(out, "_{digest:016x}").unwrap_or_default();
    out
}
