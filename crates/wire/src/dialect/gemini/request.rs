//! Request surface: the envelope of a caller's JSON, edits of single members for upstreams of the same
//! dialect, and precise errors. An error never repeats the caller's own text.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::path;
use crate::body::{self, syntax};
use crate::chat::ApiError;
use crate::dialect::{Envelope, RequestView, Target};
use crate::json::{self, Members, quoted};
use crate::spelling::{self, Known, member as known, object};
use crate::typed_json::Numbers;

/// The members that limit the output, in either spelling.
const GENERATION_CONFIG: Known = object(
    &["generationConfig", "generation_config"],
    &[
        known(&["maxOutputTokens", "max_output_tokens"]),
        known(&["candidateCount", "candidate_count"]),
        object(
            &["thinkingConfig", "thinking_config"],
            &[known(&["thinkingBudget", "thinking_budget"])],
        ),
    ],
);

/// Members that are read or edited here or for a prompt.
const KNOWN: &[Known] = &[
    known(&["model"]),
    known(&["contents"]),
    known(&["systemInstruction", "system_instruction"]),
    GENERATION_CONFIG,
    object(
        &["generateContentRequest", "generate_content_request"],
        &[known(&["model"]), GENERATION_CONFIG],
    ),
    object(&["requests"], &[known(&["model"])]),
];

/// Reads model and method from the path. Usage is part of every answer of this dialect.
pub(super) fn envelope(asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
    let wanted = path::read(asked.path, asked.query)?;
    let members = Members::parse(asked.body).map_err(|error| syntax(&error))?;
    spelling::check(&members, KNOWN)?;
    let config = either(&members, "generationConfig", "generation_config");
    let config = config.and_then(|raw| Members::parse(raw.get()).ok()).unwrap_or_default();
    // A value that is not a number is rejected when the whole request is read.
    let number = |name, other| either(&config, name, other).and_then(json::count);
    Ok(Envelope {
        model: wanted.model,
        stream: wanted.stream,
        want_usage: true,
        form: wanted.form,
        max_output: number("maxOutputTokens", "max_output_tokens"),
        choices: number("candidateCount", "candidate_count").unwrap_or(1),
        background: false,
    })
}

/// A member in either of its spellings.
fn either<'a>(members: &Members<'a>, name: &str, other: &str) -> Option<&'a RawValue> {
    members.get(name).or_else(|| members.get(other))
}

/// The model stands in the path. Where the body names it as well, both must agree.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let members = Members::parse(body).map_err(|error| syntax(&error))?;
    let model = quoted(&format!("models/{}", path::bare(target.model)));
    let named = |json: &str| {
        let names = Members::parse(json).is_ok_and(|members| members.get("model").is_some());
        let edited = names.then(|| json::edit(json, &[("model", Some(&model))]).ok()).flatten();
        edited.unwrap_or_else(|| json.to_owned())
    };
    let mut edits = Vec::new();
    if members.get("model").is_some() {
        edits.push(("model", model.clone()));
    }
    for name in ["generateContentRequest", "generate_content_request"] {
        if let Some(inner) = members.get(name) {
            edits.push((name, named(inner.get())));
        }
    }
    if let Some(list) = members.get("requests")
        && let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(list.get())
    {
        let list: Vec<String> = list.iter().map(|request| named(request.get())).collect();
        edits.push(("requests", format!("[{}]", list.join(","))));
    }
    let edits: Vec<_> = edits.iter().map(|(name, json)| (*name, Some(json.as_str()))).collect();
    Ok(members.edit(body, &edits))
}

/// Reads a value; `at` is its place in the body, which leads the name of the field in errors.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str, at: &str) -> Result<T, ApiError> {
    body::parse_with(Numbers::Protobuf, at, json)
}
