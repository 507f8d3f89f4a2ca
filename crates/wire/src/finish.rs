//! Finish reasons: the words by which vendors end an answer, and their meanings.
//!
//! Each dialect has a table of its own words; [`COMMON`] holds those that servers and proxies pass on from
//! other vendors. An unknown word must never count as a normal end.

use super::chat::{ApiError, Kind, Stop};

/// Meaning of a finish reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// No finish reason: the answer goes on.
    Unsaid,
    /// The model finished.
    End,
    /// It wrote a stop string.
    Sequence,
    /// It reached the limit on output.
    Limit,
    /// It filled the context window.
    Context,
    /// It called tools.
    Tools,
    /// The model refused.
    Refusal,
    /// A filter removed the rest.
    Filter,
    /// The turn is paused.
    Pause,
    /// The upstream aborted the answer.
    Failed(Kind),
}

/// One row of a table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The word on the wire, matched without regard to ASCII case.
    pub word: &'static str,
    /// Meaning of the word.
    pub meaning: Meaning,
    /// Source: its documentation, or the vendor that uses it.
    pub source: &'static str,
}

/// Creates a row.
pub const fn row(word: &'static str, meaning: Meaning, source: &'static str) -> Row {
    Row { word, meaning, source }
}

const PROXY_ANTHROPIC: &str = "proxies that pass on Messages API `stop_reason`";
const PROXY_GEMINI: &str = "proxies that pass on Gemini API `finishReason`";
const PROXY_COHERE: &str = "proxies that pass on Cohere API `finish_reason`";
const PROXY_CHAT: &str = "proxies that pass on chat completions `finish_reason`";
const PROXY_CONVERSE: &str = "proxies that pass on Bedrock Converse `stopReason`";
const TGI: &str = "Hugging Face TGI, `FinishReason`";
const LIMITS: &str = "names that proxies and servers of one's own give a limit";
const XAI: &str = "xAI gRPC API, `FinishReason`";
const ENGINES: &str = "inference servers when a request is aborted or times out";

/// Words of other vendors that servers and proxies pass on.
pub const COMMON: &[Row] = &[
    row("stop", Meaning::End, PROXY_CHAT),
    row("length", Meaning::Limit, PROXY_CHAT),
    row("tool_calls", Meaning::Tools, PROXY_CHAT),
    row("function_call", Meaning::Tools, PROXY_CHAT),
    row("content_filter", Meaning::Filter, PROXY_CHAT),
    row("end_turn", Meaning::End, PROXY_ANTHROPIC),
    row("stop_sequence", Meaning::Sequence, PROXY_ANTHROPIC),
    row("max_tokens", Meaning::Limit, PROXY_ANTHROPIC),
    row("tool_use", Meaning::Tools, PROXY_ANTHROPIC),
    row("refusal", Meaning::Refusal, PROXY_ANTHROPIC),
    row("pause_turn", Meaning::Pause, PROXY_ANTHROPIC),
    row("model_context_window_exceeded", Meaning::Context, PROXY_ANTHROPIC),
    row("context_length_exceeded", Meaning::Context, LIMITS),
    row("max_length", Meaning::Limit, LIMITS),
    row("length_limit", Meaning::Limit, LIMITS),
    row("token_limit", Meaning::Limit, LIMITS),
    row("content_filtered", Meaning::Filter, PROXY_CONVERSE),
    row("guardrail_intervened", Meaning::Filter, PROXY_CONVERSE),
    row("malformed_model_output", Meaning::Failed(Kind::Upstream), PROXY_CONVERSE),
    row("malformed_tool_use", Meaning::Failed(Kind::Upstream), PROXY_CONVERSE),
    row("safety", Meaning::Filter, PROXY_GEMINI),
    row("recitation", Meaning::Filter, PROXY_GEMINI),
    row("language", Meaning::Filter, PROXY_GEMINI),
    row("blocklist", Meaning::Filter, PROXY_GEMINI),
    row("prohibited_content", Meaning::Filter, PROXY_GEMINI),
    row("spii", Meaning::Filter, PROXY_GEMINI),
    row("image_safety", Meaning::Filter, PROXY_GEMINI),
    row("malformed_function_call", Meaning::Failed(Kind::Upstream), PROXY_GEMINI),
    row("unexpected_tool_call", Meaning::Failed(Kind::Upstream), PROXY_GEMINI),
    row("other", Meaning::Failed(Kind::Upstream), PROXY_GEMINI),
    row("finish_reason_unspecified", Meaning::Unsaid, PROXY_GEMINI),
    row("complete", Meaning::End, PROXY_COHERE),
    row("tool_call", Meaning::Tools, PROXY_COHERE),
    row("error_toxic", Meaning::Filter, PROXY_COHERE),
    row("error_limit", Meaning::Context, PROXY_COHERE),
    row("user_cancel", Meaning::Failed(Kind::Upstream), PROXY_COHERE),
    row("max_output_tokens", Meaning::Limit, "Responses API, `incomplete_details.reason`"),
    row("completed", Meaning::End, "Responses API, `status`"),
    row("eos_token", Meaning::End, TGI),
    row("eos", Meaning::End, "Together, older llama.cpp"),
    row("null", Meaning::Unsaid, "DashScope, native API"),
    row("reason_stop", Meaning::End, XAI),
    row("reason_max_len", Meaning::Limit, XAI),
    row("reason_max_context", Meaning::Context, XAI),
    row("reason_tool_calls", Meaning::Tools, XAI),
    row("reason_time_limit", Meaning::Failed(Kind::Timeout), XAI),
    row("error", Meaning::Failed(Kind::Upstream), ENGINES),
    row("abort", Meaning::Failed(Kind::Upstream), ENGINES),
    row("aborted", Meaning::Failed(Kind::Upstream), ENGINES),
    row("cancelled", Meaning::Failed(Kind::Upstream), ENGINES),
    row("canceled", Meaning::Failed(Kind::Upstream), ENGINES),
    row("timeout", Meaning::Failed(Kind::Timeout), ENGINES),
    row("overloaded", Meaning::Failed(Kind::Overloaded), ENGINES),
];

/// The most characters of an unknown word that an error repeats.
const LONGEST: usize = 64;

/// Error code for an unknown word.
const UNKNOWN: &str = "unknown_finish_reason";

/// Looks a word up in a dialect's own table, then in [`COMMON`]. `None` if it does not end the answer.
pub fn stop(table: &[Row], word: &str) -> Option<Stop> {
    let found = table.iter().chain(COMMON).find(|row| row.word.eq_ignore_ascii_case(word));
    Some(match found.map(|row| row.meaning) {
        None => Stop::Other(word.to_owned()),
        Some(Meaning::Unsaid) => return None,
        Some(Meaning::End) => Stop::End,
        Some(Meaning::Sequence) => Stop::Sequence(None),
        Some(Meaning::Limit) => Stop::MaxTokens,
        Some(Meaning::Context) => Stop::ContextFull,
        Some(Meaning::Tools) => Stop::ToolUse,
        Some(Meaning::Refusal) => Stop::Refusal(None),
        Some(Meaning::Filter) => Stop::ContentFilter,
        Some(Meaning::Pause) => Stop::Pause,
        Some(Meaning::Failed(kind)) => Stop::Failed(broken_off(kind, word)),
    })
}

/// The error of an answer that its upstream aborted with this word.
pub fn broken_off(kind: Kind, word: &str) -> ApiError {
    let message = format!("the upstream ended the answer with finish reason \"{}\"", shown(word));
    ApiError::new(kind, message)
}

/// The error that represents a stop for callers of another dialect, which has no finish reason for it.
pub fn failure(stop: &Stop) -> Option<ApiError> {
    match stop {
        Stop::Failed(fault) => Some(fault.clone()),
        Stop::Other(word) => {
            let shown = shown(word);
            let message = format!(
                "the upstream ended the answer with the unknown finish reason \"{shown}\", so that it may not be complete"
            );
            let code = Some(UNKNOWN.to_owned());
            Some(ApiError { code, ..ApiError::new(Kind::Upstream, message) })
        }
        _ => None,
    }
}

/// A word as an error may repeat it. Anything but a short name may be payload and is hidden.
fn shown(word: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    if word.len() <= LONGEST && word.chars().all(plain) { word } else { "..." }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_words_come_before_those_of_others() {
        let own = [row("stop", Meaning::Filter, "test")];
        assert_eq!(stop(&own, "stop"), Some(Stop::ContentFilter));
        assert_eq!(stop(&[], "STOP"), Some(Stop::End));
        assert_eq!(stop(&[], "null"), None);
        assert_eq!(stop(&[], "novel"), Some(Stop::Other("novel".into())));
    }

    #[test]
    fn failures_repeat_short_words_only() {
        let message = |word: &str| failure(&Stop::Other(word.into())).expect("a failure").message;
        assert!(message("novel_word").contains("\"novel_word\""));
        assert!(message("novel\nword").contains("\"...\""));
        assert!(message(&"x".repeat(65)).contains("\"...\""));
        assert_eq!(failure(&Stop::End), None);
    }
}
