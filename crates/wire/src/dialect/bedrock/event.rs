//! The shapes that are read from an upstream: every field optional and unread until it is needed,
//! so that a vendor's additions and oddities never cost an answer.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::finish::REASONS;
use crate::chat::{Citation, Origin, Stop, Usage};
use crate::finish;
use crate::json::text;

/// The payload of any event of a stream. Which members it has depends on the event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) content_block_index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) start: Option<Start<'a>>,
    #[serde(borrow)]
    pub(super) delta: Option<Change<'a>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<Counts<'a>>,
}

/// The `start` of a block. Texts have none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Start<'a> {
    #[serde(borrow)]
    pub(super) tool_use: Option<ToolUse<'a>>,
}

/// A call: as it starts, a fragment of its input, or whole.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolUse<'a> {
    #[serde(borrow, rename = "toolUseId")]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) name: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

impl ToolUse<'_> {
    /// Whether the vendor runs this tool itself.
    pub(super) fn is_hosted(&self) -> bool {
        self.kind.and_then(text).is_some_and(|kind| kind == "server_tool_use")
    }
}

/// The `delta` of a block: one of its members is set.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change<'a> {
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    pub(super) reasoning_content: Option<Reasoning<'a>>,
    #[serde(borrow)]
    pub(super) citation: Option<Cited<'a>>,
    /// The result of a tool that the vendor runs. This and `image` are not part of the neutral vocabulary.
    #[serde(borrow)]
    pub(super) tool_result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) image: Option<&'a RawValue>,
}

/// A piece of reasoning, or all of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reasoning<'a> {
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) signature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) redacted_content: Option<&'a RawValue>,
    /// In answers that are not streamed, text and signature stand in here.
    #[serde(borrow, rename = "reasoningText")]
    pub(super) whole: Option<ReasoningText<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ReasoningText<'a> {
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) signature: Option<&'a RawValue>,
}

/// Redacted reasoning is base64 of the model vendor's data, which is base64 itself.
pub(super) fn redacted(raw: &RawValue) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(text(raw)?.as_bytes()).ok()?;
    String::from_utf8(bytes).ok().filter(|data| !data.is_empty())
}

/// An answer that is not streamed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) output: Option<Output<'a>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<Counts<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Vec<Content<'a>>>,
}

/// A block of such an answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_use: Option<ToolUse<'a>>,
    #[serde(borrow, rename = "reasoningContent")]
    pub(super) reasoning: Option<Reasoning<'a>>,
    #[serde(borrow, rename = "citationsContent")]
    pub(super) cited: Option<CitationsContent<'a>>,
}

/// Text with its sources.
#[derive(Debug, Deserialize)]
pub(super) struct CitationsContent<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Vec<Words<'a>>>,
    #[serde(borrow)]
    pub(super) citations: Option<Vec<Cited<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Words<'a> {
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
}

/// A source, in a stream or whole.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cited<'a> {
    #[serde(borrow)]
    title: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    source_content: Option<&'a RawValue>,
    #[serde(borrow)]
    location: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Location<'a> {
    #[serde(borrow)]
    web: Option<Web<'a>>,
}

#[derive(Debug, Deserialize)]
struct Web<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
}

impl Cited<'_> {
    /// The citation in neutral form. Its block determines its place in the answer.
    pub(super) fn citation(&self) -> Citation {
        let owned = |raw: Option<&RawValue>| raw.and_then(text).map(Cow::into_owned);
        let location: Location<'_> =
            self.location.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let quoted: Vec<Words<'_>> = self
            .source_content
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let quoted: String = quoted.iter().filter_map(|words| owned(words.text)).collect();
        let web = location.web.and_then(|web| owned(web.url));
        let origin = if web.is_some() { Origin::Web } else { Origin::Document };
        let source = owned(self.source);
        let is_address = source.as_deref().is_some_and(|source| source.contains("://"));
        Citation {
            origin,
            url: web.or_else(|| source.clone().filter(|_| is_address)),
            title: owned(self.title),
            id: source,
            cited_text: (!quoted.is_empty()).then_some(quoted),
            ..Citation::default()
        }
    }
}

/// The `usage` object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts<'a> {
    #[serde(borrow, rename = "inputTokens")]
    input: Option<&'a RawValue>,
    #[serde(borrow, rename = "outputTokens")]
    output: Option<&'a RawValue>,
    #[serde(borrow, rename = "cacheReadInputTokens")]
    cache_read: Option<&'a RawValue>,
    #[serde(borrow, rename = "cacheWriteInputTokens")]
    cache_write: Option<&'a RawValue>,
}

impl Counts<'_> {
    /// The usage in canonical terms: this vendor counts cached tokens separately.
    pub(super) fn usage(&self) -> Usage {
        let cache_read = number(self.cache_read);
        let cache_write = number(self.cache_write);
        let cached = cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        Usage {
            input: number(self.input).map(|input| input.saturating_add(cached)),
            cache_read,
            cache_write,
            output: number(self.output),
            reasoning: None,
        }
    }
}

pub(super) fn number(raw: Option<&RawValue>) -> Option<u64> {
    raw.and_then(|raw| raw.get().parse().ok())
}

/// Why an answer stopped.
pub(super) fn stop(reason: &RawValue) -> Option<Stop> {
    finish::stop(REASONS, &text(reason)?)
}
