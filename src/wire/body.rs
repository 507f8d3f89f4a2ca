//! Bodies of requests, read strictly: what is wrong is said by its path, and a caller's own words are
//! never repeated.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::chat::{Fault, Kind};

/// A body that is not a JSON object: where, never what.
pub fn syntax(error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    Fault::new(
        Kind::Invalid,
        if error.is_data() {
            "the request body must be a JSON object".to_owned()
        } else {
            let ends = if error.is_eof() { ": it ends too early" } else { "" };
            format!("the request body is not valid JSON (line {line}, column {column}){ends}")
        },
    )
}

/// Reads JSON that stands at `path` ("" for the whole body) and says where in it something is wrong.
pub fn parse<'a, T: Deserialize<'a>>(path: &str, json: &'a str) -> Result<T, Fault> {
    // Keeping the path costs as much again as reading, and only an error needs it.
    if let Ok(parsed) = serde_json::from_str(json) {
        return Ok(parsed);
    }
    let mut source = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let inner = error.path().to_string();
        let place = match (path, inner.as_str()) {
            (path, ".") => path.to_owned(),
            ("", inner) => inner.to_owned(),
            (path, inner) if inner.starts_with('[') => format!("{path}{inner}"),
            (path, inner) => format!("{path}.{inner}"),
        };
        wrong(json, &place, error.inner())
    })?;
    source.end().map_err(|error| syntax(&error))?;
    Ok(parsed)
}

/// Words an error of the parser without the value that it stumbled over.
fn wrong(json: &str, place: &str, error: &serde_json::Error) -> Fault {
    // Numbers beyond all bounds, and anything that stands where a word should, pass for bad syntax.
    if !error.is_data() && serde_json::from_str::<IgnoredAny>(json).is_err() {
        return syntax(error);
    }
    let said = error.to_string();
    let said = said.rsplit_once(" at line").map_or(said.as_str(), |(said, _)| said);
    let dot = if place.is_empty() { "" } else { "." };
    let member = |start: &str| said.strip_prefix(start).map(|name| name.trim_end_matches('`'));
    if let Some(name) = member("missing field `") {
        return refuse(&format!("{place}{dot}{name}"), "is missing");
    }
    if let Some(name) = member("duplicate field `") {
        return refuse(&format!("{place}{dot}{name}"), "is there twice");
    }
    let expected = said.rsplit_once(", expected ").map(|(_, rest)| rest);
    match expected {
        _ if place.is_empty() => syntax(error),
        Some("a boolean") => refuse(place, "must be true or false"),
        Some("u64" | "u32") => refuse(place, "must be a whole number, not negative"),
        Some("i64") => refuse(place, "must be a whole number"),
        Some("f64") => refuse(place, "must be a number"),
        Some("a sequence") => refuse(place, "must be an array"),
        Some(word) if word.starts_with("struct ") => refuse(place, "must be an object"),
        Some("a string" | "a borrowed string") => refuse(place, "must be a string"),
        // The words that are known, which are ours.
        Some(words) if words.contains('`') => refuse(place, &format!("must be {words}")),
        _ if said.starts_with("number out of range") => refuse(place, "is too large a number"),
        _ => refuse(place, "is of the wrong type"),
    }
}

/// "of type `KIND` ", for a refusal after the path; nothing if the caller's word for it is none that a
/// vendor would use.
pub fn of_type(kind: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_word = !kind.is_empty() && kind.len() <= 64 && kind.chars().all(plain);
    if is_word { format!("of type `{kind}` ") } else { String::new() }
}

/// A fault about one field.
pub fn refuse(path: &str, what: &str) -> Fault {
    Fault::field(path, format!("`{path}` {what}"))
}
