//! Metadata of an answer: identity, usage, sources, and why it stopped.
//!
//! Usage is never added up and a stop is never made up for an answer that did not end.

use std::collections::HashMap;
use std::fmt::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::calls::Calls;
use crate::chat::{Citation, Delta, Origin, SearchResult, SearchRun, Stop, Usage};
use crate::citations::AnswerText;
use crate::dialect::ResponseContext;
use crate::json::{Members, quoted, replace_lone_surrogates, text};

/// Metadata of the answer, as received so far.
#[derive(Debug)]
pub(super) struct Answer {
    id: String,
    model: String,
    usage: Usage,
    /// The alternatives by number; the first is always there.
    pub(super) choices: Vec<Choice>,
    citations: Vec<Citation>,
    searches: Vec<SearchRun>,
    /// The text that the citations refer to.
    said: AnswerText,
}

/// State of one alternative: its stop reason and its calls.
#[derive(Debug, Default)]
pub(super) struct Choice {
    stop: Option<Stop>,
    refused: bool,
    pub(super) calls: Calls,
}

impl Answer {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            id: call.id.clone(),
            model: call.model.clone(),
            usage: Usage::default(),
            choices: vec![Choice::default()],
            citations: Vec::new(),
            searches: Vec::new(),
            said: AnswerText::default(),
        }
    }

    /// An alternative by its number, created if it is new.
    pub(super) fn choice(&mut self, choice: u32) -> Option<&mut Choice> {
        let at = choice as usize;
        if self.choices.len() <= at {
            self.choices.resize_with(at + 1, Choice::default);
        }
        self.choices.get_mut(at)
    }

    /// Takes over the id of an answer that has begun.
    pub(super) fn rename(&mut self, id: &str) {
        id.clone_into(&mut self.id);
    }

    /// Updates the metadata from a delta.
    pub(super) fn note(&mut self, delta: &Delta<'_>) {
        match delta {
            Delta::Start { model, .. } if !model.is_empty() => self.model = model.to_string(),
            Delta::Usage(usage) => self.usage.replace_with(usage),
            Delta::Citation(citation) => self.citations.push(citation.clone()),
            Delta::Search(run) => self.searches.push(run.clone()),
            Delta::Stop { choice, reason } => {
                if let Some(choice) = self.choice(*choice) {
                    choice.stop = Some(reason.clone());
                }
            }
            Delta::Text { choice, text } | Delta::Refusal { choice, text } => {
                let refused = matches!(delta, Delta::Refusal { .. });
                if *choice == 0 {
                    self.said.push(text);
                }
                if let Some(choice) = self.choice(*choice) {
                    choice.refused |= refused;
                }
            }
            Delta::Reasoning { choice, .. }
            | Delta::Logprobs { choice, .. }
            | Delta::ToolStart { choice, .. } => drop(self.choice(*choice)),
            _ => {}
        }
    }

    /// The members that every chunk ends with, each after a comma.
    pub(super) fn identity(&self) -> String {
        let (model, id) = (quoted(&self.model), quoted(&self.id));
        format!(r#","modelVersion":{model},"responseId":{id}"#)
    }

    /// The usage as a member after a comma; nothing if there is none.
    pub(super) fn usage(&self) -> String {
        let Usage { input, cache_read, output, reasoning, .. } = self.usage;
        if input.is_none() && output.is_none() {
            return String::new();
        }
        let total = input.unwrap_or(0).saturating_add(output.unwrap_or(0));
        let visible = output.map(|output| output.saturating_sub(reasoning.unwrap_or(0)));
        let counts = [
            ("promptTokenCount", input),
            ("candidatesTokenCount", visible),
            ("totalTokenCount", Some(total)),
            ("cachedContentTokenCount", cache_read),
            ("thoughtsTokenCount", reasoning),
        ];
        let counts: Vec<String> = counts
            .into_iter()
            .filter_map(|(name, tokens)| Some(format!(r#""{name}":{}"#, tokens?)))
            .collect();
        format!(r#","usageMetadata":{{{}}}"#, counts.join(","))
    }

    /// The members that hold the finish reason of an alternative, each after a comma.
    pub(super) fn finish(&self, at: usize) -> String {
        let Some(choice) = self.choices.get(at) else { return String::new() };
        let (word, message) = match &choice.stop {
            Some(Stop::MaxTokens | Stop::ContextFull) => ("MAX_TOKENS", None),
            Some(Stop::ContentFilter) => ("SAFETY", None),
            Some(Stop::Refusal(words)) => ("SAFETY", words.as_deref()),
            _ if choice.refused => ("SAFETY", None),
            _ => ("STOP", None),
        };
        let mut out = format!(r#","finishReason":"{word}""#);
        if let Some(words) = message {
            // Writing to a string cannot fail.
            write!(out, r#","finishMessage":{}"#, quoted(words)).unwrap_or_default();
        }
        if at == 0 {
            out.push_str(&self.grounding());
        }
        out
    }

    /// Sources, as the vendor reports those that it searched for: each once, and the places that it
    /// supports, which are counted in bytes here.
    fn grounding(&self) -> String {
        let (mut chunks, mut supports) = (Vec::new(), Vec::new());
        let mut known = HashMap::new();
        for source in &self.citations {
            let Some(chunk) = ground(source) else { continue };
            let index = *known.entry(chunk.clone()).or_insert(chunks.len());
            if index == chunks.len() {
                chunks.push(chunk);
            }
            if let Some(place) = self.said.place(source) {
                let (words, (start, end)) = self.said.between(place);
                let words = quoted(words);
                supports.push(format!(
                    r#"{{"segment":{{"startIndex":{start},"endIndex":{end},"text":{words}}},"groundingChunkIndices":[{index}]}}"#
                ));
            }
        }
        if chunks.is_empty() {
            // Results that are not cited support no particular span of the answer.
            chunks = self.searches.iter().flat_map(|run| &run.results).map(found).collect();
        }
        let queries = self.searches.iter().flat_map(|run| &run.queries);
        let queries: Vec<String> = queries.map(|query| quoted(query)).collect();
        if chunks.is_empty() && queries.is_empty() {
            return String::new();
        }
        let queries = match queries.as_slice() {
            [] => String::new(),
            queries => format!(r#","webSearchQueries":[{}]"#, queries.join(",")),
        };
        format!(
            r#","groundingMetadata":{{"groundingChunks":[{}],"groundingSupports":[{}]{queries}}}"#,
            chunks.join(","),
            supports.join(",")
        )
    }
}

/// A page that a search found.
fn found(result: &SearchResult) -> String {
    let (uri, title) = (quoted(&result.url), quoted(result.name()));
    format!(r#"{{"web":{{"uri":{uri},"title":{title}}}}}"#)
}

/// A source in the vendor's format for its kind. `None`: the vendor has no such kind, since a web source
/// requires an address, and results of functions are not sources.
fn ground(source: &Citation) -> Option<String> {
    let member = |name: &str, value: &str| format!(r#""{name}":{}"#, quoted(value));
    let uri = source.address().map(|uri| member("uri", uri));
    let title =
        Some(source.name()).filter(|name| !name.is_empty()).map(|name| member("title", name));
    let (kind, members) = match (source.origin, &uri) {
        (Origin::Document, _) => {
            let words = source.cited_text.as_deref().map(|words| member("text", words));
            ("retrievedContext", [uri, title, words])
        }
        (_, Some(_)) => ("web", [uri, title, None]),
        (_, None) => return None,
    };
    let members: Vec<String> = members.into_iter().flatten().collect();
    Some(format!(r#"{{"{kind}":{{{}}}}}"#, members.join(",")))
}

#[derive(Debug, Deserialize)]
struct Token<'a> {
    #[serde(borrow, rename = "token")]
    words: Option<&'a RawValue>,
    logprob: Option<f64>,
    #[serde(borrow)]
    top_logprobs: Option<Vec<Self>>,
}

/// Log probabilities: the chosen and the top candidates of `logprobsResult`.
#[derive(Debug, Default)]
pub(super) struct Logprobs {
    chosen: Vec<String>,
    top: Vec<String>,
}

impl Logprobs {
    /// Reads the elements of a list. Elements that cannot be read are left out.
    pub(super) fn read(&mut self, items: &str) {
        let list = format!("[{items}]");
        let list: Vec<Token<'_>> = serde_json::from_str(&list).unwrap_or_default();
        let token = |token: &Token<'_>| {
            let words = token.words.and_then(text).unwrap_or_default();
            let probability = token.logprob.unwrap_or(0.0);
            format!(r#"{{"token":{},"logProbability":{probability}}}"#, quoted(&words))
        };
        for item in &list {
            self.chosen.push(token(item));
            let top: Vec<String> = item.top_logprobs.iter().flatten().map(token).collect();
            self.top.push(format!(r#"{{"candidates":[{}]}}"#, top.join(",")));
        }
    }

    /// The member after a comma; nothing if there are none.
    pub(super) fn member(&self) -> String {
        if self.chosen.is_empty() {
            return String::new();
        }
        format!(
            r#","logprobsResult":{{"topCandidates":[{}],"chosenCandidates":[{}]}}"#,
            self.top.join(","),
            self.chosen.join(",")
        )
    }
}

/// A tool's arguments as an object, their text untouched. A call without arguments has none to write.
/// Arguments that broke off, as they do at the limit on output, are no object and cannot stand here;
/// they are kept as text below `_truncated` so that no reader takes them for whole.
pub(super) fn arguments(json: &str) -> String {
    let json = json.trim();
    if ["", "null"].contains(&json) {
        return "{}".to_owned();
    }
    match Members::parse(json) {
        // Line ends are blanks in JSON, and would end a line of data.
        Ok(_) => replace_lone_surrogates(&json.replace(['\n', '\r'], " ")).into_owned(),
        Err(_) => format!(r#"{{"_truncated":{}}}"#, quoted(json)),
    }
}
