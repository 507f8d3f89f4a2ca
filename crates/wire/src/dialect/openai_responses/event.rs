//! The shapes of stream events, output items and the response object, as far as anyone here reads
//! them.
//!
//! Everything borrows the frame. Values stay raw until they are needed and are read leniently then:
//! a shape must never be the reason why a stream dies of a field that nobody uses.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{Citation, Origin, Usage};
use crate::json::{self, Members};

type Raw<'a> = Option<&'a RawValue>;

/// One payload of a stream.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) output_index: Raw<'a>,
    #[serde(borrow)]
    pub(super) content_index: Raw<'a>,
    #[serde(borrow)]
    pub(super) summary_index: Raw<'a>,
    #[serde(borrow)]
    pub(super) item_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) delta: Raw<'a>,
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow)]
    pub(super) refusal: Raw<'a>,
    #[serde(borrow)]
    pub(super) arguments: Raw<'a>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
    #[serde(borrow)]
    pub(super) logprobs: Raw<'a>,
    #[serde(borrow)]
    pub(super) annotation: Raw<'a>,
    #[serde(borrow)]
    pub(super) item: Raw<'a>,
    #[serde(borrow)]
    pub(super) response: Raw<'a>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
}

/// The response object.
#[derive(Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) model: Raw<'a>,
    #[serde(borrow)]
    pub(super) status: Raw<'a>,
    #[serde(borrow)]
    pub(super) output: Raw<'a>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
    #[serde(borrow)]
    pub(super) incomplete_details: Raw<'a>,
}

/// An output item.
#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) call_id: Raw<'a>,
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) arguments: Raw<'a>,
    #[serde(borrow)]
    pub(super) input: Raw<'a>,
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow)]
    pub(super) summary: Raw<'a>,
    #[serde(borrow)]
    pub(super) encrypted_content: Raw<'a>,
    #[serde(borrow)]
    pub(super) action: Raw<'a>,
}

/// A part of a message, of a reasoning item or of its summary.
#[derive(Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow)]
    pub(super) refusal: Raw<'a>,
    #[serde(borrow)]
    pub(super) logprobs: Raw<'a>,
    #[serde(borrow)]
    pub(super) annotations: Raw<'a>,
}

/// The elements of an array that can be read as such; nothing if it is no array.
pub(super) fn list<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Vec<T> {
    let elements: Vec<&'a RawValue> =
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    elements.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect()
}

/// A text that is there and not empty.
pub(super) fn filled(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    raw.and_then(json::text).filter(|text| !text.is_empty())
}

/// A number that is there.
pub(super) fn number(raw: Raw<'_>) -> Option<u64> {
    raw.and_then(|raw| raw.get().parse().ok())
}

/// An annotation as a source; its offsets are within its own part, which begins at `base`.
pub(super) fn citation(raw: &RawValue, base: u64) -> Option<Citation> {
    let members = Members::parse(raw.get()).ok()?;
    let text = |name: &str| members.get(name).and_then(json::text).map(Cow::into_owned);
    let place = |name: &str| number(members.get(name)).map(|place| place.saturating_add(base));
    let at = place("index");
    let is_web = text("type").is_none_or(|kind| kind == "url_citation");
    let source = Citation {
        origin: if is_web { Origin::Web } else { Origin::Document },
        url: text("url"),
        title: text("title").or_else(|| text("filename")).or_else(|| text("file_id")),
        id: text("file_id"),
        cited_text: None,
        start: place("start_index").or(at),
        end: place("end_index").or(at),
        mark: None,
    };
    (source.url.is_some() || source.title.is_some()).then_some(source)
}

/// Reads `usage` into canonical terms. `None`: nothing in it that we count.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    let body = Members::parse(raw.get()).ok()?;
    let count = |name: &str| number(body.get(name));
    let detail = |name: &str, of: &str| number(Members::parse(body.get(of)?.get()).ok()?.get(name));
    let usage = Usage {
        input: count("input_tokens"),
        cache_read: detail("cached_tokens", "input_tokens_details"),
        cache_write: detail("cache_write_tokens", "input_tokens_details"),
        output: count("output_tokens"),
        reasoning: detail("reasoning_tokens", "output_tokens_details"),
    };
    (usage != Usage::default()).then_some(usage)
}
