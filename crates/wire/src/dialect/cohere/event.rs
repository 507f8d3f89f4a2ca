//! The shapes of events and of whole answers, as far as anyone here reads them.
//!
//! Everything borrows the frame. Values stay raw until they are needed and are read leniently then:
//! some members are lists in one event and objects in another.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{Citation, Origin, Usage};
use crate::json;

pub(super) type Raw<'a> = Option<&'a RawValue>;

/// One event.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) index: Raw<'a>,
    #[serde(borrow)]
    pub(super) delta: Option<Change<'a>>,
    #[serde(borrow)]
    pub(super) logprobs: Raw<'a>,
    /// Message of an error that has no event's shape.
    #[serde(borrow)]
    pub(super) message: Raw<'a>,
}

/// The `delta` of an event.
#[derive(Deserialize, Default)]
pub(super) struct Change<'a> {
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Raw<'a>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
}

/// A message, or a part of it.
#[derive(Deserialize, Default)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_plan: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_calls: Raw<'a>,
    #[serde(borrow)]
    pub(super) citations: Raw<'a>,
}

/// A whole answer.
#[derive(Deserialize)]
pub(super) struct Whole<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) message: Raw<'a>,
    #[serde(borrow)]
    pub(super) finish_reason: Raw<'a>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) logprobs: Raw<'a>,
}

/// A content block, or more of one.
#[derive(Deserialize, Default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow)]
    pub(super) thinking: Raw<'a>,
}

/// A tool call, or more of one.
#[derive(Deserialize, Default)]
pub(super) struct Called<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) function: Option<Function<'a>>,
}

/// The name of the called function, and its arguments.
#[derive(Deserialize, Default)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) arguments: Raw<'a>,
}

/// A value that is an object, an array of objects, or something else, of which nothing is read.
pub(super) fn list<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Vec<T> {
    let Some(raw) = raw else { return Vec::new() };
    match raw.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(raw.get()).unwrap_or_default(),
        Some(b'{') => serde_json::from_str(raw.get()).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A string with something in it.
pub(super) fn filled(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    json::text(raw?).filter(|text| !text.is_empty())
}

#[derive(Deserialize)]
struct UsageBody<'a> {
    #[serde(borrow)]
    tokens: Option<Tokens<'a>>,
    #[serde(borrow)]
    billed_units: Option<Tokens<'a>>,
    #[serde(borrow)]
    cached_tokens: Raw<'a>,
}

#[derive(Deserialize)]
struct Tokens<'a> {
    #[serde(rename = "input_tokens", borrow)]
    input: Raw<'a>,
    #[serde(rename = "output_tokens", borrow)]
    output: Raw<'a>,
    #[serde(rename = "reasoning_tokens", borrow)]
    reasoning: Raw<'a>,
}

/// Reads `usage`: the `tokens` of the model, or the `billed_units` if there are no `tokens`.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    let body: UsageBody<'_> = serde_json::from_str(raw.get()).ok()?;
    let tokens = body.tokens.or(body.billed_units)?;
    Some(Usage {
        input: count(tokens.input),
        output: count(tokens.output),
        reasoning: count(tokens.reasoning),
        cache_read: count(body.cached_tokens),
        cache_write: None,
    })
}

/// A count, which the vendor's types allow to be written as a fraction.
fn count(raw: Raw<'_>) -> Option<u64> {
    let text = raw?.get();
    text.parse().ok().or_else(|| format!("{:.0}", text.parse::<f64>().ok()?).parse().ok())
}

#[derive(Deserialize)]
struct CitationBody {
    start: Option<u64>,
    end: Option<u64>,
    text: Option<String>,
    sources: Option<Vec<Source>>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    #[serde(alias = "tool_output")]
    document: Option<serde_json::Value>,
}

/// Reads citations, one for each source that is named.
pub(super) fn citations(raw: Raw<'_>) -> Vec<Citation> {
    let bodies: Vec<CitationBody> = list(raw);
    let mut out = Vec::new();
    for body in bodies {
        for source in body.sources.unwrap_or_default() {
            let word = |name: &str| {
                let found = source.document.as_ref()?.get(name)?.as_str()?;
                Some(found.to_owned())
            };
            let origin = if source.kind.as_deref() == Some("tool") {
                Origin::Tool
            } else {
                Origin::Document
            };
            out.push(Citation {
                origin,
                url: word("url"),
                title: word("title").or_else(|| source.id.clone()),
                id: source.id.clone(),
                cited_text: word("snippet").or_else(|| word("text")).or_else(|| body.text.clone()),
                start: body.start,
                end: body.end,
                mark: None,
            });
        }
    }
    out
}

#[derive(Deserialize)]
struct LogprobBody<'a> {
    #[serde(borrow)]
    text: Raw<'a>,
    #[serde(default)]
    token_ids: Vec<serde::de::IgnoredAny>,
    #[serde(borrow, default)]
    logprobs: Vec<&'a RawValue>,
}

/// Log probabilities as elements of `OpenAI`'s `logprobs.content`. Tokens have no text of their own here,
/// only the piece of text that they form has. So only a piece of one token can be reported. `None`: nothing
/// can.
pub(super) fn logprobs(raw: Raw<'_>) -> Option<String> {
    let items: Vec<LogprobBody<'_>> = list(raw);
    let tell = |item: &LogprobBody<'_>| {
        let (text, [logprob], [_]) = (json::text(item.text?)?, &*item.logprobs, &*item.token_ids)
        else {
            return None;
        };
        let logprob: f64 = logprob.get().parse().ok()?;
        let (token, bytes) = (json::quoted(&text), serde_json::json!(text.as_bytes()));
        Some(format!(
            r#"{{"token":{token},"logprob":{logprob},"bytes":{bytes},"top_logprobs":[]}}"#
        ))
    };
    let told: Vec<String> = items.iter().filter_map(tell).collect();
    (!told.is_empty()).then(|| told.join(","))
}
