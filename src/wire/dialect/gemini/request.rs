//! Requests at the surface: what the gateway needs of them, surgery for upstreams of the same
//! dialect, and precise words for what is wrong. Never repeats a caller's own words in an error.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::path;
use crate::wire::chat::{Fault, Kind};
use crate::wire::dialect::{Asked, Envelope, Target};
use crate::wire::json::{self, Members, quoted};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Surface<'a> {
    #[serde(borrow, alias = "generation_config")]
    generation_config: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits<'a> {
    #[serde(borrow, alias = "max_output_tokens")]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow, alias = "candidate_count")]
    candidate_count: Option<&'a RawValue>,
}

/// Reads model and method from the path. Usage is part of every answer of this dialect.
pub(super) fn envelope(asked: &Asked<'_>) -> Result<Envelope, Fault> {
    let wanted = path::read(asked.path, asked.query)?;
    let body = asked.body;
    // A list would do as a `Surface`, too.
    if body.trim_start().starts_with(|first| first != '{') {
        return Err(Fault::new(Kind::Invalid, "the body must be a JSON object"));
    }
    let Surface { generation_config } = parse(body, "")?;
    let limits = generation_config
        .and_then(|raw| serde_json::from_str::<Limits<'_>>(raw.get()).ok())
        .unwrap_or_default();
    // What is no number is refused by whoever reads the request whole.
    let number = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse::<u64>().ok());
    Ok(Envelope {
        model: wanted.model,
        stream: wanted.stream,
        want_usage: true,
        form: wanted.form,
        max_output: number(limits.max_output_tokens),
        choices: number(limits.candidate_count).unwrap_or(1),
    })
}

/// The model stands in the path. Where the body names it as well, both must agree.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, Fault> {
    let invalid = |error| fault(body, &error, String::new());
    let members = Members::parse(body).map_err(invalid)?;
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
    if let Some(inner) = members.get("generateContentRequest") {
        edits.push(("generateContentRequest", named(inner.get())));
    }
    if let Some(list) = members.get("requests")
        && let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(list.get())
    {
        let list: Vec<String> = list.iter().map(|request| named(request.get())).collect();
        edits.push(("requests", format!("[{}]", list.join(","))));
    }
    let edits: Vec<_> = edits.iter().map(|(name, json)| (*name, Some(json.as_str()))).collect();
    json::edit(body, &edits).map_err(invalid)
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
