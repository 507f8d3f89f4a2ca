//! Requests at the surface: what the gateway needs of them, surgery for upstreams of the same
//! dialect, and precise words for what is wrong. Never repeats a caller's own words in an error.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::body::{self, syntax};
use crate::wire::chat::{Fault, Kind};
use crate::wire::dialect::{CHAT, Envelope, Target};
use crate::wire::json::{self, quoted};

#[derive(Debug, Deserialize)]
struct Surface<'a> {
    model: String,
    stream: Option<bool>,
    /// What is wrong with it is for the upstream to say.
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
}

/// Reads model and stream. Usage is part of every stream of this dialect.
pub(super) fn envelope(body: &str) -> Result<Envelope, Fault> {
    // A list would do as a `Surface`, too.
    if body.trim_start().starts_with(|first| first != '{') {
        return Err(Fault::new(Kind::Invalid, "the body must be a JSON object"));
    }
    let Surface { model, stream, max_tokens } = parse(body, "")?;
    if model.is_empty() {
        return Err(Fault::field("model", "must name a model"));
    }
    let max_output = max_tokens.and_then(|tokens| serde_json::from_str(tokens.get()).ok());
    let stream = stream.unwrap_or(false);
    Ok(Envelope { model, stream, want_usage: true, form: CHAT, max_output, choices: 1 })
}

/// Puts the upstream's name for the model in, and `stream` if it is to differ.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, Fault> {
    let Surface { stream, .. } = parse(body, "")?;
    let model = quoted(target.model);
    let mut edits = vec![("model", Some(model.as_str()))];
    if stream.unwrap_or(false) != target.stream {
        edits.push(("stream", Some(if target.stream { "true" } else { "false" })));
    }
    json::edit(body, &edits).map_err(|error| syntax(&error))
}

/// Reads a value; `at` is its place in the body, which leads the name of the field in errors.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str, at: &str) -> Result<T, Fault> {
    body::parse(at, json)
}
