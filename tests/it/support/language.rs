//! Each dialect as the suites know it, written from its grammar and not from our code: one file
//! beside this one for each, and one line in [`LANGUAGES`].

use serde_json::Value;

use super::{Tokens, Tool, View, anthropic, cohere, gemini, ollama, openai_chat, openai_responses};

/// Every language that callers speak.
pub(crate) static LANGUAGES: &[&Language] = &[
    &openai_chat::LANGUAGE,
    &openai_responses::LANGUAGE,
    &anthropic::LANGUAGE,
    &gemini::LANGUAGE,
    &ollama::LANGUAGE,
    &cohere::LANGUAGE,
];

/// The language of a dialect's callers.
pub(crate) fn language(dialect: &str) -> &'static Language {
    let found = LANGUAGES.iter().find(|language| language.name == dialect);
    found.unwrap_or_else(|| panic!("write a strict reader for {dialect} in tests/it/support"))
}

/// The callers' side of a dialect.
pub(crate) struct Language {
    /// The dialect.
    pub(crate) name: &'static str,
    /// The path and query of a request.
    pub(crate) path: fn(&Ask) -> String,
    /// The body of a request.
    pub(crate) request: fn(&Ask) -> Value,
    /// Reads a translated stream and checks its grammar; told whether usage was asked for.
    pub(crate) stream: fn(&[u8], bool) -> Result<View, String>,
    /// Reads a collected answer.
    pub(crate) answer: fn(&[u8]) -> Result<View, String>,
    /// The message of an error body, once its shape was checked.
    pub(crate) error: fn(&Value) -> Option<String>,
    /// Its word for a stop, given one of `end`, `tools`, `length`, `context`, `filter`,
    /// `refusal`, `stop_sequence` or `pause_turn`.
    pub(crate) stop: fn(&str) -> &str,
    /// The status of an error of the upstream that has none of its own: a broken or malformed answer.
    pub(crate) bad_gateway: u16,
    /// The bytes of a heartbeat, unless they depend on the request.
    pub(crate) heartbeat: Option<&'static str>,
    /// There is one alternative only.
    pub(crate) single: bool,
    /// A refusal has no place of its own: it is text, where it was said.
    pub(crate) refusal_is_text: bool,
    /// The part of a count that the dialect can express.
    pub(crate) told: fn(Tokens) -> Tokens,
    /// Usage comes whether it was asked for or not.
    pub(crate) usage_always: bool,
}

/// A request of a caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Offer the tools `weather` and `clock`.
    pub(crate) tools: bool,
    /// The calls of the turn before, each of which is answered with `result of NAME`.
    pub(crate) called: Vec<Tool>,
}

/// The schema of the tools' arguments.
pub(crate) fn schema() -> Value {
    serde_json::json!({ "type": "object", "properties": { "call": { "type": "integer" }, "note": { "type": "string" } } })
}
