//! Turn writer: the turns of a conversation in the order that this dialect requires.
//!
//! Instructions stand apart, turns alternate, results of tools lead the turn after the calls, and
//! reasoning leads the turn that it belongs to. Reasoning that this vendor did not sign is left
//! out: it would be rejected, and no other vendor can sign it.

use serde::Serialize;
use serde_json::value::RawValue;

use super::ids::sanitised;
use crate::chat::{
    ApiError, CacheMark, Document, Image, Message, Part, Role, Scheme, Signature, Source,
};

#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl<'a>>,
    },
    Image {
        source: MediaSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl<'a>>,
    },
    Document {
        source: MediaSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl<'a>>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl<'a>>,
    },
    ToolResult {
        tool_use_id: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Self>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl<'a>>,
    },
}

/// The prompt up to here is to be cached.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct CacheControl<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'a str>,
}

impl<'a> CacheControl<'a> {
    pub(super) fn new(mark: &'a CacheMark) -> Self {
        Self { kind: "ephemeral", ttl: mark.as_deref() }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum MediaSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: &'a str },
}

/// The instructions, and the alternating turns.
pub(super) fn turns(messages: &[Message]) -> Result<(Vec<Block<'_>>, Vec<Turn<'_>>), ApiError> {
    let mut system = Vec::new();
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let at = format!("messages[{i}]");
        let mut blocks: Vec<Block<'_>> = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            match part {
                Part::Cache(mark) => {
                    if let Some(block) = blocks.last_mut() {
                        block.mark(mark);
                    }
                }
                part => blocks.extend(block(part, message.role, &at)?),
            }
        }
        let role = match message.role {
            Role::System if turns.is_empty() => {
                system.append(&mut blocks);
                continue;
            }
            // Only where the model takes it there: others are not given any.
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        match turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some(turn) if turn.role == role => turn.content.append(&mut blocks),
            _ => turns.push(Turn { role, content: blocks }),
        }
    }
    if turns.is_empty() {
        return Err(ApiError::field("messages", "must hold at least one turn with content"));
    }
    // A turn that the model continues must not end with whitespace.
    if let Some(Turn { role: "assistant", content }) = turns.last_mut()
        && let Some(Block::Text { text, .. }) = content.last_mut()
    {
        *text = text.trim_end();
    }
    for turn in &mut turns {
        // A stable sort: within a rank the order stays.
        turn.content.sort_by_key(Block::rank);
    }
    Ok((system, turns))
}

impl<'a> Block<'a> {
    /// A text.
    pub(super) fn text(text: &'a str) -> Self {
        Self::Text { text, cache_control: None }
    }

    /// Marks the prompt up to here. Reasoning takes no marks.
    fn mark(&mut self, mark: &'a CacheMark) {
        match self {
            Self::Text { cache_control, .. }
            | Self::Image { cache_control, .. }
            | Self::Document { cache_control, .. }
            | Self::ToolUse { cache_control, .. }
            | Self::ToolResult { cache_control, .. } => {
                *cache_control = Some(CacheControl::new(mark));
            }
            Self::Thinking { .. } | Self::RedactedThinking { .. } => {}
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::ToolResult { .. } | Self::Thinking { .. } | Self::RedactedThinking { .. } => 0,
            Self::Text { .. } | Self::Image { .. } | Self::Document { .. } => 1,
            Self::ToolUse { .. } => 2,
        }
    }
}

fn block<'a>(part: &'a Part, role: Role, at: &str) -> Result<Option<Block<'a>>, ApiError> {
    let misplaced = |what: &str| {
        Err(ApiError::field(at, format!("{what} cannot stand in a turn of this role")))
    };
    Ok(Some(match (part, role) {
        (Part::Text(text) | Part::Refusal(text), _) => {
            // The vendor rejects blank texts.
            return Ok((!text.trim().is_empty()).then_some(Block::text(text)));
        }
        (Part::Image(image), Role::User) => self::image(image, at)?,
        (Part::Document(document), Role::User) => self::document(document),
        (
            Part::Reasoning { text, signature: Some(Signature { value, scheme }) },
            Role::Assistant,
        ) if *scheme == Scheme::Anthropic && !value.is_empty() => {
            Block::Thinking { thinking: text, signature: value }
        }
        (Part::RedactedReasoning { data, scheme: Scheme::Anthropic }, Role::Assistant) => {
            Block::RedactedThinking { data }
        }
        (Part::Reasoning { .. } | Part::RedactedReasoning { .. } | Part::Cache(_), _) => {
            return Ok(None);
        }
        (Part::ToolCall { id, name, arguments }, Role::Assistant) => {
            if !arguments.get().trim_start().starts_with('{') {
                let message = "the arguments of a tool call must be a JSON object";
                return Err(ApiError::field(at, message));
            }
            Block::ToolUse { id: sanitised(id), name, input: arguments, cache_control: None }
        }
        (Part::ToolResult { id, parts, is_error }, Role::User) => {
            let mut content = Vec::with_capacity(parts.len());
            for part in parts {
                match part {
                    Part::Text(_)
                    | Part::Refusal(_)
                    | Part::Image(_)
                    | Part::Document(_)
                    | Part::Cache(_) => {
                        content.extend(block(part, Role::User, at)?);
                    }
                    _ => {
                        return misplaced("something other than text and media in a tool's result");
                    }
                }
            }
            let (tool_use_id, is_error) = (sanitised(id), *is_error);
            Block::ToolResult { tool_use_id, content, is_error, cache_control: None }
        }
        (Part::Image(_) | Part::Document(_), _) => return misplaced("an image or a document"),
        (Part::Unreadable { .. } | Part::Summary(_), _) => return misplaced("foreign content"),
        (Part::ToolCall { .. }, _) => return misplaced("a tool call"),
        (Part::ToolResult { .. }, _) => return misplaced("a tool's result"),
    }))
}

fn image<'a>(image: &'a Image, at: &str) -> Result<Block<'a>, ApiError> {
    match place(&image.source) {
        MediaSource::Text { .. } => Err(ApiError::field(at, "an image cannot be plain text")),
        source => Ok(Block::Image { source, cache_control: None }),
    }
}

fn document(document: &Document) -> Block<'_> {
    let (source, title) = (place(&document.source), document.title.as_deref());
    Block::Document { source, title, cache_control: None }
}

fn place(source: &Source) -> MediaSource<'_> {
    match source {
        Source::Url(url) => MediaSource::Url { url },
        Source::Base64 { media_type, data } => MediaSource::Base64 { media_type, data },
        Source::Text(data) => MediaSource::Text { media_type: "text/plain", data },
    }
}
