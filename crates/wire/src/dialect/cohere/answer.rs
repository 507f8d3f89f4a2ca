//! Metadata at the end of an answer: why it stopped, and its usage.

use std::fmt::Write;

use crate::chat::{Citation, Stop, Usage};
use crate::citations::AnswerText;
use crate::json::quoted;

/// The `finish_reason` of a stop. This version of the API has none for a
/// filter at work; the version before it had, and an answer that a filter cut must not look whole.
pub(super) fn finish_reason(stop: &Stop, called: bool, refused: bool) -> &'static str {
    match stop {
        Stop::ToolUse => "TOOL_CALL",
        Stop::End if called => "TOOL_CALL",
        Stop::Sequence(_) => "STOP_SEQUENCE",
        Stop::MaxTokens | Stop::ContextFull => "MAX_TOKENS",
        Stop::Refusal(None) if refused => "COMPLETE",
        Stop::Refusal(_) | Stop::ContentFilter => "ERROR_TOXIC",
        Stop::End | Stop::Pause => "COMPLETE",
        // An answer that ended so is reported as an error; see `wire::finish`.
        Stop::Failed(_) | Stop::Other(_) => "ERROR",
    }
}

/// The `usage` object. Clients require the counts: a count that the upstream has not sent is 0. They also
/// require billed units, of which only the tokens are known.
pub(super) fn usage(usage: &Usage) -> String {
    let (input, output) = (usage.input.unwrap_or_default(), usage.output.unwrap_or_default());
    let counts = format!(r#""input_tokens":{input},"output_tokens":{output}"#);
    let mut out = format!(r#"{{"billed_units":{{{counts}}},"tokens":{{{counts}"#);
    // Writing to a string cannot fail.
    if let Some(tokens) = usage.reasoning {
        write!(out, r#","reasoning_tokens":{tokens}"#).unwrap_or_default();
    }
    out.push('}');
    if let Some(tokens) = usage.cache_read {
        write!(out, r#","cached_tokens":{tokens}"#).unwrap_or_default();
    }
    out.push('}');
    out
}

/// A citation: the span of the answer, and its source. Every source is a document here, with its text in
/// `snippet`.
pub(super) fn citation(citation: &Citation, said: &AnswerText) -> String {
    let (start, end) = said.span(citation);
    let text = quoted(said.between((start, end)).0);
    let (url, title) = (citation.address(), citation.title.as_deref());
    let members = [("title", title), ("url", url), ("snippet", citation.cited_text.as_deref())];
    let said = members.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let document: Vec<String> =
        said.map(|(name, value)| format!("{}:{}", quoted(name), quoted(value))).collect();
    let id = quoted(citation.id.as_deref().or(url).or(title).unwrap_or_default());
    let document = document.join(",");
    format!(
        r#"{{"start":{start},"end":{end},"text":{text},"sources":[{{"type":"document","id":{id},"document":{{{document}}}}}],"type":"TEXT_CONTENT"}}"#
    )
}
