//! The shapes that are read from an upstream: every field optional and unread until it is needed,
//! so that a vendor's additions and oddities never cost an answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::finish::{NUMBERED, REASONS};
use crate::chat::{Stop, Usage};
use crate::finish;
use crate::json::text;

/// A chunk of a stream, or a whole answer: the vendor has one shape for both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    pub(super) prompt_feedback: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// One alternative.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<u32>,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) finish_message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citation_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs_result: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) parts: Option<Vec<Part<'a>>>,
}

/// A piece of an answer. Its members determine its kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) thought: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) thought_signature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
}

/// A call; a part of one, where arguments are streamed (Vertex).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionCall<'a> {
    #[serde(borrow)]
    pub(super) name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) partial_args: Option<Vec<PartialArg<'a>>>,
    pub(super) will_continue: Option<bool>,
}

/// A value, or a fragment of a text, somewhere in the arguments.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartialArg<'a> {
    #[serde(borrow)]
    pub(super) json_path: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) string_value: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) number_value: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) bool_value: Option<&'a RawValue>,
}

impl PartialArg<'_> {
    /// About the bytes that it takes where it is put.
    pub(super) fn size(&self) -> usize {
        const PLACE: usize = 128;
        let raw = [self.json_path, self.string_value, self.number_value];
        raw.into_iter().flatten().fold(PLACE, |sum, raw| sum + raw.get().len())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Option<&'a RawValue>,
}

/// Whether the vendor rejected the prompt itself.
pub(super) fn blocked(feedback: Option<&RawValue>) -> bool {
    let feedback = feedback.and_then(|raw| serde_json::from_str::<Feedback<'_>>(raw.get()).ok());
    let reason = feedback.and_then(|feedback| feedback.block_reason);
    reason.is_some_and(|raw| !matches!(raw.get(), "null" | "0" | "\"BLOCK_REASON_UNSPECIFIED\""))
}

#[derive(Debug, Deserialize)]
struct Counts<'a> {
    #[serde(borrow, rename = "promptTokenCount")]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, rename = "toolUsePromptTokenCount")]
    tool_use: Option<&'a RawValue>,
    #[serde(borrow, rename = "cachedContentTokenCount")]
    cached: Option<&'a RawValue>,
    #[serde(borrow, rename = "candidatesTokenCount")]
    candidates: Option<&'a RawValue>,
    #[serde(borrow, rename = "thoughtsTokenCount")]
    thoughts: Option<&'a RawValue>,
}

/// Tokens in canonical terms. `None`: nothing was counted yet.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    let counts: Counts<'_> = serde_json::from_str(raw.get()).ok()?;
    let number = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse::<u64>().ok());
    let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    let thoughts = number(counts.thoughts);
    let usage = Usage {
        input: sum(number(counts.prompt), number(counts.tool_use)),
        cache_read: number(counts.cached),
        cache_write: None,
        output: sum(number(counts.candidates), thoughts),
        reasoning: thoughts,
    };
    (usage != Usage::default()).then_some(usage)
}

/// The stop reason of an alternative. `None`: there is none yet. `called`: the alternative called tools,
/// for which this dialect has no finish reason. A failure is reported with the vendor's own message.
pub(super) fn finish(
    raw: Option<&RawValue>,
    message: Option<&RawValue>,
    called: bool,
) -> Option<Stop> {
    let raw = raw?;
    let number = raw.get().parse::<usize>().ok();
    let named = number.and_then(|number| REASONS.get(..NUMBERED)?.get(number));
    let word = match named {
        Some(row) => row.word.into(),
        None if number.is_some() => raw.get().into(),
        None => text(raw)?,
    };
    Some(match finish::stop(REASONS, &word)? {
        Stop::End if called => Stop::ToolUse,
        Stop::Failed(mut fault) => {
            if let Some(words) = message.and_then(text).filter(|words| !words.is_empty()) {
                fault.message = format!("{}: {words}", fault.message);
            }
            Stop::Failed(fault)
        }
        said => said,
    })
}
