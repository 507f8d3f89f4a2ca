//! Requests at the surface: what the gateway needs of them, surgery for upstreams of the same
//! dialect, and precise words for what is wrong. Never repeats a caller's own words in an error.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::path;
use crate::wire::body::{self, syntax};
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
    json::edit(body, &edits).map_err(|error| syntax(&error))
}

/// Reads a value; `at` is its place in the body, which leads the name of the field in errors.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str, at: &str) -> Result<T, Fault> {
    body::parse(at, json)
}
