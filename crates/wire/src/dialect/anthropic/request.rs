//! Request surface: the envelope of a caller's JSON, edits of single members for upstreams of the same
//! dialect, and precise errors. An error never repeats the caller's own text.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::body::{self, refuse, syntax};
use crate::chat::ApiError;
use crate::dialect::{Envelope, Form, Target};
use crate::json::{self, Members, quoted};
use crate::spelling::{self, Known, member as known, object};

/// Members that are read or edited here, on other platforms or for a prompt.
const KNOWN: &[Known] = &[
    known(&["model"]),
    known(&["stream"]),
    known(&["max_tokens"]),
    object(&["thinking"], &[known(&["budget_tokens"])]),
    known(&["messages"]),
    known(&["system"]),
    known(&["anthropic_version"]),
    known(&["anthropic_beta"]),
];

/// A member if it is there and not null.
fn member<T: DeserializeOwned>(members: &Members<'_>, name: &str) -> Result<Option<T>, ApiError> {
    let value = members.get(name).filter(|value| !json::is_null(value));
    value.map(|value| parse(value.get(), name)).transpose()
}

/// Reads model and stream. Usage is part of every stream of this dialect.
pub(super) fn envelope(body: &str) -> Result<Envelope, ApiError> {
    let members = Members::parse(body).map_err(|error| syntax(&error))?;
    spelling::check(&members, KNOWN)?;
    let model = members.get("model").ok_or_else(|| refuse("model", "is missing"))?;
    let model: String = parse(model.get(), "model")?;
    if model.is_empty() {
        return Err(ApiError::field("model", "must name a model"));
    }
    let stream = member(&members, "stream")?.unwrap_or(false);
    // The upstream reports an invalid value.
    let max_output = members.get("max_tokens").and_then(json::count);
    let (want_usage, choices, background) = (true, 1, false);
    Ok(Envelope { model, stream, want_usage, form: Form::Chat, max_output, choices, background })
}

/// Puts the upstream's name for the model in, and `stream` if it is to differ.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let members = Members::parse(body).map_err(|error| syntax(&error))?;
    let model = quoted(target.model);
    let mut edits = vec![("model", Some(model.as_str()))];
    if member(&members, "stream")?.unwrap_or(false) != target.stream {
        edits.push(("stream", Some(if target.stream { "true" } else { "false" })));
    }
    Ok(members.edit(body, &edits))
}

/// Reads a value; `at` is its place in the body, which leads the name of the field in errors.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str, at: &str) -> Result<T, ApiError> {
    body::parse(at, json)
}
