//! Bodies of requests, read strictly: what is wrong is said by its path, and a caller's own words are
//! never repeated.

use serde::Deserialize;

use super::chat::{Fault, Kind};

/// A body that is not a JSON object: where, never what.
pub fn syntax(error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    Fault::new(
        Kind::Invalid,
        if error.is_data() {
            "the request body must be a JSON object".to_owned()
        } else {
            format!("the request body is not valid JSON (line {line}, column {column})")
        },
    )
}

/// Reads JSON that stands at `path` ("" for the whole body) and says where in it something is wrong.
pub fn parse<'a, T: Deserialize<'a>>(path: &str, json: &'a str) -> Result<T, Fault> {
    let mut source = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let inner = error.path().to_string();
        let place = match (path, inner.as_str()) {
            (path, ".") => path.to_owned(),
            ("", inner) => inner.to_owned(),
            (path, inner) if inner.starts_with('[') => format!("{path}{inner}"),
            (path, inner) => format!("{path}.{inner}"),
        };
        wrong(&place, error.inner())
    })?;
    source.end().map_err(|error| syntax(&error))?;
    Ok(parsed)
}

/// Words an error of the parser without the value that it stumbled over.
fn wrong(place: &str, error: &serde_json::Error) -> Fault {
    if !error.is_data() {
        return syntax(error);
    }
    let said = error.to_string();
    if let Some(name) = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next())
    {
        let dot = if place.is_empty() { "" } else { "." };
        return refuse(&format!("{place}{dot}{name}"), "is missing");
    }
    let expected = said.rsplit_once(", expected ").map(|(_, rest)| rest);
    let expected = expected.map(|rest| rest.rsplit_once(" at line").map_or(rest, |(word, _)| word));
    match expected {
        _ if place.is_empty() => syntax(error),
        Some("a boolean") => refuse(place, "must be true or false"),
        Some("u64" | "u32") => refuse(place, "must be a whole number, not negative"),
        Some("i64") => refuse(place, "must be a whole number"),
        Some("f64") => refuse(place, "must be a number"),
        Some("a sequence") => refuse(place, "must be an array"),
        Some(word) if word.starts_with("struct ") => refuse(place, "must be an object"),
        Some("a string" | "a borrowed string") => refuse(place, "must be a string"),
        _ => refuse(place, "is of the wrong type"),
    }
}

/// A fault about one field.
pub fn refuse(path: &str, what: &str) -> Fault {
    Fault::field(path, format!("`{path}` {what}"))
}
