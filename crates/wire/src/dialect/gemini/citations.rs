//! Sources and log probabilities of the vendor, in neutral terms.
//!
//! The vendor counts places in bytes of UTF-8, and repeats a list with every chunk that adds to it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{Citation, Delta, Origin, SearchResult, SearchRun};
use crate::citations::AnswerText;
use crate::json::{quoted, text};

/// The most sources of one answer.
const MOST: usize = 1024;

/// The text of one alternative, as far as sources need it.
#[derive(Debug, Default)]
pub(super) struct Cited {
    said: AnswerText,
    told: HashSet<Citation>,
    /// Queries and results of the search, until they are written.
    search: SearchRun,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CitationMetadata<'a> {
    #[serde(borrow, alias = "citationSources")]
    citations: Option<Vec<Source<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    start_index: Option<u64>,
    end_index: Option<u64>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow)]
    title: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    grounding_chunks: Option<Vec<Ground<'a>>>,
    #[serde(borrow)]
    grounding_supports: Option<Vec<Support<'a>>>,
    #[serde(borrow)]
    web_search_queries: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ground<'a> {
    #[serde(borrow)]
    web: Option<Source<'a>>,
    #[serde(borrow)]
    retrieved_context: Option<Source<'a>>,
    #[serde(borrow)]
    maps: Option<Source<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support<'a> {
    #[serde(borrow)]
    segment: Option<Source<'a>>,
    grounding_chunk_indices: Option<Vec<usize>>,
}

impl<'a> Ground<'a> {
    fn source(&self) -> Option<(Origin, &Source<'a>)> {
        let web = self.web.as_ref().or(self.maps.as_ref());
        let context = || Some((Origin::Document, self.retrieved_context.as_ref()?));
        web.map(|web| (Origin::Web, web)).or_else(context)
    }
}

impl Cited {
    /// Takes note of answer text.
    pub(super) fn note(&mut self, text: &str) {
        self.said.push(text);
    }

    fn tell(
        &mut self,
        (origin, source): (Origin, &Source<'_>),
        place: &Source<'_>,
        out: &mut Vec<Delta<'_>>,
    ) {
        let owned = |raw: Option<&RawValue>| {
            raw.and_then(text).filter(|text| !text.is_empty()).map(Cow::into_owned)
        };
        let end = place.end_index.and_then(|end| self.said.chars_before(end));
        let start = end.and_then(|_| self.said.chars_before(place.start_index.unwrap_or(0)));
        let citation = Citation {
            origin,
            url: owned(source.uri),
            title: owned(source.title),
            start,
            end: start.and(end),
            ..Citation::default()
        };
        let nothing = citation.url.is_none() && citation.title.is_none();
        if !nothing && self.told.len() < MOST && self.told.insert(citation.clone()) {
            out.push(Delta::Citation(citation));
        }
    }

    /// Reads `citationMetadata`.
    pub(super) fn citations(&mut self, raw: &RawValue, out: &mut Vec<Delta<'_>>) {
        let Ok(found) = serde_json::from_str::<CitationMetadata<'_>>(raw.get()) else { return };
        for source in found.citations.iter().flatten() {
            self.tell((Origin::Web, source), source, out);
        }
    }

    /// Replaces the queries and results: the vendor sends earlier ones again, with additions.
    fn searched(&mut self, grounds: &[Ground<'_>], queries: &[&RawValue]) {
        let owned =
            |raw: Option<&RawValue>| raw.and_then(text).map(Cow::into_owned).unwrap_or_default();
        let found = grounds.iter().filter_map(|ground| ground.web.as_ref());
        let result = |source: &Source<'_>| SearchResult {
            url: owned(source.uri),
            title: owned(source.title),
        };
        if !queries.is_empty() {
            self.search.queries = queries.iter().map(|query| owned(Some(query))).collect();
            self.search.results = found.map(result).filter(|found| !found.url.is_empty()).collect();
        }
    }

    /// The search that was made. It is written once, when the answer is finished.
    pub(super) fn search(&mut self) -> Option<SearchRun> {
        Some(std::mem::take(&mut self.search)).filter(|run| !run.queries.is_empty())
    }

    /// Reads `groundingMetadata`.
    pub(super) fn grounding(&mut self, raw: &RawValue, out: &mut Vec<Delta<'_>>) {
        let Ok(found) = serde_json::from_str::<Metadata<'_>>(raw.get()) else { return };
        let grounds = found.grounding_chunks.unwrap_or_default();
        self.searched(&grounds, &found.web_search_queries.unwrap_or_default());
        if found.grounding_supports.as_ref().is_none_or(Vec::is_empty) {
            // Their places are unknown.
            let nowhere = Source { start_index: None, end_index: None, uri: None, title: None };
            for source in grounds.iter().filter_map(Ground::source) {
                self.tell(source, &nowhere, out);
            }
        }
        for support in found.grounding_supports.iter().flatten() {
            let Some(place) = &support.segment else { continue };
            for index in support.grounding_chunk_indices.iter().flatten() {
                let ground = grounds.get(*index);
                if let Some(source) = ground.and_then(Ground::source) {
                    self.tell(source, place, out);
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logprobs<'a> {
    #[serde(borrow)]
    chosen_candidates: Option<Vec<Token<'a>>>,
    #[serde(borrow)]
    top_candidates: Option<Vec<Top<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    #[serde(borrow, rename = "token")]
    words: Option<&'a RawValue>,
    log_probability: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Top<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Token<'a>>>,
}

/// Reads `logprobsResult`.
pub(super) fn logprobs(raw: &RawValue, choice: u32, out: &mut Vec<Delta<'_>>) {
    let Ok(found) = serde_json::from_str::<Logprobs<'_>>(raw.get()) else { return };
    let tops = found.top_candidates.unwrap_or_default();
    let mut items = String::new();
    for (at, token) in found.chosen_candidates.iter().flatten().enumerate() {
        let top = tops.get(at).and_then(|top| top.candidates.as_deref()).unwrap_or_default();
        let top: Vec<String> = top.iter().map(|token| format!("{{{}}}", item(token))).collect();
        let comma = if items.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        write!(items, r#"{comma}{{{},"top_logprobs":[{}]}}"#, item(token), top.join(","))
            .unwrap_or_default();
    }
    if !items.is_empty() {
        out.push(Delta::Logprobs { choice, items: Cow::Owned(items) });
    }
}

/// The members of a token, without the braces.
fn item(token: &Token<'_>) -> String {
    let words = token.words.and_then(text).unwrap_or_default();
    let bytes: Vec<String> = words.bytes().map(|byte| byte.to_string()).collect();
    let probability = token.log_probability.filter(|value| value.is_finite()).unwrap_or(0.0);
    format!(r#""token":{},"logprob":{probability},"bytes":[{}]"#, quoted(&words), bytes.join(","))
}
