//! The shapes that are read from an upstream: every field optional and unread until it is needed,
//! so that a vendor's additions and oddities never cost an answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::finish::REASONS;
use crate::chat::{Citation, Origin, Stop, Usage};
use crate::finish;
use crate::json::text;

/// One event of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<EventKind>,
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) delta: Option<Change<'a>>,
    #[serde(borrow)]
    pub(super) message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) content_block: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<Counts<'a>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// The `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventKind {
    MessageStart,
    ContentBlockStart,
    ContentBlockDelta,
    ContentBlockStop,
    MessageDelta,
    MessageStop,
    Error,
    #[serde(other)]
    Other,
}

/// The `type` of the delta in a `content_block_delta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangeKind {
    TextDelta,
    ThinkingDelta,
    SignatureDelta,
    InputJsonDelta,
    CitationsDelta,
    #[serde(other)]
    Other,
}

/// The `delta` of `content_block_delta` and of `message_delta`.
#[derive(Debug, Deserialize)]
pub(super) struct Change<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<ChangeKind>,
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) signature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) partial_json: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_details: Option<&'a RawValue>,
}

/// A content block, as it starts or whole.
#[derive(Debug, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) signature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_use_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "content")]
    pub(super) results: Option<&'a RawValue>,
}

/// A message: whole, or the beginning of one in `message_start`.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) content: Option<Vec<Content<'a>>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_details: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<Counts<'a>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// The `type` alone.
#[derive(Debug, Deserialize)]
pub(super) struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Kinded {
    #[serde(rename = "type")]
    kind: EventKind,
}

/// Whether a payload is of a kind newer than this code.
pub(super) fn is_unknown(payload: &str) -> bool {
    serde_json::from_str::<Kinded>(payload).is_ok_and(|event| event.kind == EventKind::Other)
}

/// The `type` of a payload, if it has one.
pub(super) fn type_of(payload: &[u8]) -> Option<Cow<'_, str>> {
    let typed: Typed<'_> = serde_json::from_slice(payload).ok()?;
    typed.kind.and_then(text)
}

/// The `usage` object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Counts<'a> {
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

/// The latest value of every part of the usage. The vendor counts cached input apart, so the sum
/// can only be drawn from the latest parts, never from earlier sums.
#[derive(Debug, Default)]
pub(super) struct Meter {
    input: Option<u64>,
    cache_write: Option<u64>,
    cache_read: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl Meter {
    /// Merges the counts of an event, and returns the usage in canonical terms.
    pub(super) fn read(&mut self, counts: &Counts<'_>) -> Usage {
        let number = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse::<u64>().ok());
        let details = counts
            .output_tokens_details
            .and_then(|raw| serde_json::from_str::<OutputDetails>(raw.get()).ok());
        self.input = number(counts.input_tokens).or(self.input);
        self.cache_write = number(counts.cache_creation_input_tokens).or(self.cache_write);
        self.cache_read = number(counts.cache_read_input_tokens).or(self.cache_read);
        self.output = number(counts.output_tokens).or(self.output);
        self.thinking = details.and_then(|details| details.thinking_tokens).or(self.thinking);
        let cached = self.cache_write.unwrap_or(0).saturating_add(self.cache_read.unwrap_or(0));
        Usage {
            input: self.input.map(|input| input.saturating_add(cached)),
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            output: self.output,
            reasoning: self.thinking,
        }
    }
}

#[derive(Debug, Deserialize)]
struct StopDetails<'a> {
    #[serde(borrow)]
    explanation: Option<&'a RawValue>,
}

/// The stop reason of an answer. `None`: the answer has none.
pub(super) fn stop(
    reason: Option<&RawValue>,
    sequence: Option<&RawValue>,
    details: Option<&RawValue>,
) -> Option<Stop> {
    let reason = text(reason?)?;
    Some(match finish::stop(REASONS, &reason)? {
        Stop::Sequence(_) => Stop::Sequence(sequence.and_then(text).map(Cow::into_owned)),
        Stop::Refusal(_) => {
            let details =
                details.and_then(|raw| serde_json::from_str::<StopDetails<'_>>(raw.get()).ok());
            let explanation = details.and_then(|details| details.explanation).and_then(text);
            Stop::Refusal(explanation.map(Cow::into_owned))
        }
        said => said,
    })
}

#[derive(Debug, Deserialize)]
struct Cited<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    title: Option<&'a RawValue>,
    #[serde(borrow)]
    document_title: Option<&'a RawValue>,
    #[serde(borrow, rename = "cited_text")]
    words: Option<&'a RawValue>,
}

/// Reads a citation of any kind. Its block determines its place in the answer.
pub(super) fn citation(raw: &RawValue) -> Option<Citation> {
    let cited: Cited<'_> = serde_json::from_str(raw.get()).ok()?;
    let owned = |raw: Option<&RawValue>| raw.and_then(text).map(Cow::into_owned);
    let origin = if cited.url.is_some() { Origin::Web } else { Origin::Document };
    let source = owned(cited.source);
    let is_address = source.as_deref().is_some_and(|source| source.contains("://"));
    Some(Citation {
        origin,
        url: owned(cited.url).or_else(|| source.clone().filter(|_| is_address)),
        title: owned(cited.title).or_else(|| owned(cited.document_title)),
        id: source,
        cited_text: owned(cited.words),
        ..Citation::default()
    })
}
