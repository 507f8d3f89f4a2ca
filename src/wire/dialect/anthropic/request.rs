//! Requests at the surface: what the gateway needs of them, surgery for upstreams of the same
//! dialect, and precise words for what is wrong. Never repeats a caller's own words in an error.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

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
    json::edit(body, &edits).map_err(|error| fault(body, &error, String::new()))
}

/// Reads a value; `at` is its place in the body, which leads the name of the field in errors.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str, at: &str) -> Result<T, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let field = match (at, path.as_str()) {
            (at, "" | ".") => at.to_owned(),
            ("", path) => path.to_owned(),
            (at, path) => format!("{at}.{path}"),
        };
        fault(json, error.inner(), field)
    })?;
    deserializer.end().map_err(|error| fault(json, &error, at.to_owned()))?;
    Ok(value)
}

/// Says what is wrong without what was sent: of the parser's message only what it expected, and
/// the names of fields, which are ours.
pub(super) fn fault(json: &str, error: &serde_json::Error, mut field: String) -> Fault {
    let (line, column) = (error.line(), error.column());
    // A value of another type than an enumeration's passes for a syntax error, too.
    if !error.is_data() && serde_json::from_str::<IgnoredAny>(json).is_err() {
        let message = format!("the body is not valid JSON (line {line}, column {column})");
        return Fault::new(Kind::Invalid, message);
    }
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    let message = if let Some(name) = said.strip_prefix("missing field ") {
        let name = name.trim_matches('`');
        field = if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
        "is required".to_owned()
    } else if let Some((_, expected)) = said.rsplit_once(", expected ") {
        format!("must be {expected}")
    } else {
        "has the wrong form".to_owned()
    };
    if field.is_empty() {
        return Fault::new(Kind::Invalid, format!("the body {message}"));
    }
    Fault::field(field, message)
}
