//! Echo of a request in its response, with all members: the published specification (Open Responses,
//! 2026-04-24) requires every member of the response object and of the objects in it. It must never hold a
//! value that is not in the request, except for the defaults that the specification names.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::state::RESOLVED;
use crate::json::{self, Members, map_elements};

/// The members of a request that its response repeats, with their defaults.
const REPEATED: [(&str, &str); 19] = [
    ("frequency_penalty", "0"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("presence_penalty", "0"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("service_tier", r#""default""#),
    ("temperature", "1"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// The repeated part of a request, as a JSON object on one line. All defaults if the body is not an object.
pub(super) fn echo(body: &str) -> String {
    let members = Members::parse(body).unwrap_or_default();
    let mut out = String::from("{");
    for (name, default) in REPEATED {
        let said = members.get(name).filter(|value| !json::is_null(value)).map(RawValue::get);
        let value = said.map_or(Cow::Borrowed(default), |said| whole(name, said));
        if out.len() > 1 {
            out.push(',');
        }
        out.extend(["\"", name, "\":"]);
        out.extend(on_one_line(&value));
    }
    if let Some(state) = members.get(RESOLVED) {
        out.extend([",\"", RESOLVED, "\":"]);
        out.extend(on_one_line(state.get()));
    }
    out.push('}');
    out
}

/// Outside of strings line breaks mean nothing, and inside of them there are none.
fn on_one_line(json: &str) -> impl Iterator<Item = char> {
    json.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c })
}

/// A member's value with all that it must have.
fn whole<'a>(name: &str, said: &'a str) -> Cow<'a, str> {
    match name {
        "reasoning" => filled(said, &[("effort", "null"), ("summary", "null")]),
        "text" => text(said),
        "tool_choice" if said.starts_with('{') => match kind(said).as_deref() {
            Some("allowed_tools") => filled(said, &[("mode", r#""auto""#)]),
            _ => Cow::Borrowed(said),
        },
        "tools" => map_elements(said, |tool| Some(self::tool(tool)))
            .map_or(Cow::Borrowed(said), Cow::Owned),
        _ => Cow::Borrowed(said),
    }
}

fn tool(tool: &str) -> Cow<'_, str> {
    const DEMANDED: [(&str, &str); 3] =
        [("description", "null"), ("parameters", "null"), ("strict", "null")];
    match kind(tool).as_deref() {
        Some("function") => filled(tool, &DEMANDED),
        _ => Cow::Borrowed(tool),
    }
}

/// `text`: a format, which for a schema is written with all of its members, and a verbosity if one was given.
fn text(said: &str) -> Cow<'_, str> {
    let Ok(members) = Members::parse(said) else { return Cow::Borrowed(said) };
    let format = members.get("format").filter(|format| !json::is_null(format)).map(RawValue::get);
    let format = match format {
        None => Cow::Borrowed(r#"{"type":"text"}"#),
        Some(format) if kind(format).as_deref() == Some("json_schema") => {
            let strict = Members::parse(format).ok().and_then(|members| members.get("strict"));
            let strict =
                strict.filter(|strict| !json::is_null(strict)).map_or("false", RawValue::get);
            let whole = filled(format, &[("description", "null"), ("schema", "null")]);
            let edited = json::edit(&whole, &[("strict", Some(strict))]);
            Cow::Owned(edited.unwrap_or_else(|_| whole.into_owned()))
        }
        Some(format) => Cow::Borrowed(format),
    };
    let mut edits = vec![("format", Some(format.as_ref()))];
    if members.get("verbosity").is_some_and(json::is_null) {
        edits.push(("verbosity", None));
    }
    Cow::Owned(members.edit(said, &edits))
}

/// An object with the members that it lacks.
fn filled<'a>(object: &'a str, demanded: &[(&str, &str)]) -> Cow<'a, str> {
    let Ok(members) = Members::parse(object) else { return Cow::Borrowed(object) };
    let lacking = demanded.iter().filter(|(name, _)| members.get(name).is_none());
    let edits: Vec<_> = lacking.map(|(name, value)| (*name, Some(*value))).collect();
    if edits.is_empty() {
        return Cow::Borrowed(object);
    }
    Cow::Owned(members.edit(object, &edits))
}

fn kind(object: &str) -> Option<String> {
    Members::parse(object).ok()?.get("type").and_then(json::text).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn repeated(request: &Value, name: &str) -> Value {
        let echo: Value = serde_json::from_str(&echo(&request.to_string())).expect("JSON");
        echo[name].clone()
    }

    #[test]
    fn what_nobody_said_has_its_default() {
        let none = json!({});
        for (name, expected) in [
            ("temperature", json!(1)),
            ("top_p", json!(1)),
            ("top_logprobs", json!(0)),
            ("presence_penalty", json!(0)),
            ("frequency_penalty", json!(0)),
            ("service_tier", json!("default")),
            ("max_tool_calls", Value::Null),
            ("text", json!({ "format": { "type": "text" } })),
        ] {
            assert_eq!(repeated(&none, name), expected, "{name}");
        }
        let said = json!({ "presence_penalty": 0.5, "service_tier": "flex", "top_p": null });
        assert_eq!(repeated(&said, "presence_penalty"), json!(0.5));
        assert_eq!(repeated(&said, "service_tier"), json!("flex"));
        assert_eq!(repeated(&said, "top_p"), json!(1));
    }

    #[test]
    fn what_was_said_is_made_whole() {
        let function = json!({ "type": "function", "name": "f" });
        let format = json!({ "type": "json_schema", "name": "s", "schema": { "type": "object" }, "strict": null });
        for (name, said, expected) in [
            (
                "text",
                json!({ "verbosity": "low" }),
                json!({ "format": { "type": "text" }, "verbosity": "low" }),
            ),
            (
                "text",
                json!({ "format": null, "verbosity": null }),
                json!({ "format": { "type": "text" } }),
            ),
            (
                "text",
                json!({ "format": format }),
                json!({ "format": { "type": "json_schema", "name": "s", "schema": { "type": "object" },
                    "strict": false, "description": null } }),
            ),
            (
                "text",
                json!({ "format": { "type": "json_object" } }),
                json!({ "format": { "type": "json_object" } }),
            ),
            ("reasoning", json!({ "effort": "low" }), json!({ "effort": "low", "summary": null })),
            (
                "reasoning",
                json!({ "summary": "auto" }),
                json!({ "effort": null, "summary": "auto" }),
            ),
            (
                "tools",
                json!([function, { "type": "custom", "name": "c" }]),
                json!([{ "type": "function", "name": "f", "description": null, "parameters": null,
                    "strict": null }, { "type": "custom", "name": "c" }]),
            ),
            (
                "tool_choice",
                json!({ "type": "allowed_tools", "tools": [] }),
                json!({ "type": "allowed_tools", "tools": [], "mode": "auto" }),
            ),
            ("tool_choice", json!("required"), json!("required")),
        ] {
            assert_eq!(repeated(&json!({ name: said }), name), expected, "{said}");
        }
    }
}
