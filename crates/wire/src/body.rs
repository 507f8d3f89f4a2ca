//! Strict reading of request bodies. Errors name the path of the fault and never repeat the caller's content.

use serde::de::{Error, IgnoredAny, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::chat::{ApiError, Kind};
use super::typed_json::{Numbers, Typed};

/// The error for a body that is not a JSON object. It names the position, never the content.
pub(crate) fn syntax(error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    ApiError::new(
        Kind::Invalid,
        if error.is_data() {
            "the request body must be a JSON object".to_owned()
        } else {
            let cause = cause(error).map_or_else(String::new, |cause| format!(": {cause}"));
            format!("the request body is not valid JSON (line {line}, column {column}){cause}")
        },
    )
}

/// The causes of syntax errors, by the beginning of the parser's own words, which never repeat content.
const SYNTAX_CAUSES: [(&str, &str); 8] = [
    ("EOF", "it ends too early"),
    ("trailing comma", "there is a comma before a closing bracket"),
    ("key must be a string", "the name of a member is not in double quotes"),
    ("expected value", "this is no value; texts are in double quotes"),
    ("expected `,`", "a comma or a closing bracket is missing here"),
    ("expected `:`", "a colon is missing behind the name of a member"),
    ("trailing characters", "there is more behind the end of the object"),
    (
        "control character",
        "a text has a raw control character, such as a line break; write it as `\\n`",
    ),
];

fn cause(error: &serde_json::Error) -> Option<&'static str> {
    let said = error.to_string();
    SYNTAX_CAUSES.iter().find(|(start, _)| said.starts_with(start)).map(|(_, cause)| *cause)
}

/// Examples of members that requests must have.
const REQUIRED: [(&str, &str); 4] = [
    ("max_tokens", "send the most tokens that the answer may have, such as 1024"),
    ("messages", "send a list such as [{\"role\":\"user\",\"content\":\"Hello\"}]"),
    ("contents", "send a list such as [{\"role\":\"user\",\"parts\":[{\"text\":\"Hello\"}]}]"),
    ("input", "send a text such as \"Hello\""),
];

/// Reads the JSON at `path` ("" for the whole body). An error names the faulty member within it.
pub(crate) fn parse<'a, T: Deserialize<'a>>(path: &str, json: &'a str) -> Result<T, ApiError> {
    parse_with(Numbers::Json, path, json)
}

/// The same, for a dialect that accepts numbers in other forms than JSON's.
pub(crate) fn parse_with<'a, T: Deserialize<'a>>(
    numbers: Numbers,
    path: &str,
    json: &'a str,
) -> Result<T, ApiError> {
    // Tracking the path doubles the cost of reading, and only an error needs it.
    let mut source = serde_json::Deserializer::from_str(json);
    if let Ok(parsed) = T::deserialize(Typed::new(&mut source, numbers))
        && source.end().is_ok()
    {
        return Ok(parsed);
    }
    let mut source = serde_json::Deserializer::from_str(json);
    let typed = Typed::new(&mut source, numbers);
    let parsed = serde_path_to_error::deserialize(typed).map_err(|error| {
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

/// Describes an error of the parser without the value that caused it.
fn wrong(json: &str, place: &str, error: &serde_json::Error) -> ApiError {
    // The parser reports numbers out of range, and other types in place of an enum, as bad syntax.
    if !error.is_data() && serde_json::from_str::<IgnoredAny>(json).is_err() {
        return syntax(error);
    }
    let said = error.to_string();
    let said = said.rsplit_once(" at line").map_or(said.as_str(), |(said, _)| said);
    let dot = if place.is_empty() { "" } else { "." };
    let member = |start: &str| said.strip_prefix(start).map(|name| name.trim_end_matches('`'));
    if let Some(name) = member("missing field `") {
        let example = REQUIRED.iter().find(|(known, _)| place.is_empty() && *known == name);
        if let Some((_, example)) = example {
            return refuse(name, &format!("is missing; {example}"));
        }
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
        Some("f64" | "a JSON number") => refuse(place, "must be a number"),
        Some("a sequence") => refuse(place, "must be an array"),
        Some("a JSON object" | "a map") => refuse(place, "must be an object"),
        Some(word) if word.starts_with("struct ") => refuse(place, "must be an object"),
        // An error of a type's own visitor, which already names JSON types.
        Some(types) if types.starts_with("a string or ") => {
            refuse(place, &format!("must be {types}"))
        }
        Some("a string" | "a borrowed string") => refuse(place, "must be a string"),
        // The accepted values, which come from this code.
        Some(words) if words.contains('`') => refuse(place, &format!("must be {words}")),
        _ if said.starts_with("number out of range") => refuse(place, "is too large a number"),
        _ => refuse(place, "is of the wrong type"),
    }
}

/// Reads a member that is an object and is kept as JSON, such as a schema.
pub(crate) fn object<'de, D: Deserializer<'de>>(source: D) -> Result<Box<RawValue>, D::Error> {
    optional_object(source)?.ok_or_else(no_object)
}

/// The same for a member that may be null, or missing with `#[serde(default)]`.
pub(crate) fn optional_object<'de, D: Deserializer<'de>>(
    source: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    let value = Box::<RawValue>::deserialize(source)?;
    match value.get() {
        "null" => Ok(None),
        json if json.starts_with('{') => Ok(Some(value)),
        _ => Err(no_object()),
    }
}

fn no_object<E: Error>() -> E {
    E::invalid_type(Unexpected::Other("value"), &"a JSON object")
}

/// Returns "of type `KIND` " for an error message, or an empty text if the caller's `kind` does not have the
/// form of a vendor's type name.
pub(crate) fn of_type(kind: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_word = !kind.is_empty() && kind.len() <= 64 && kind.chars().all(plain);
    if is_word { format!("of type `{kind}` ") } else { String::new() }
}

/// The error for one field.
pub(crate) fn refuse(path: &str, what: &str) -> ApiError {
    ApiError::field(path, format!("`{path}` {what}"))
}
