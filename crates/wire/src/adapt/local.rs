//! JSON schemas without references beyond themselves, with the type names of JSON Schema. Every other byte is
//! unchanged.

use serde_json::value::RawValue;

use super::schema::{DEEPEST, UNIONS};
use crate::json::Members;

/// Returns the schema without remote references, so that any value matches in their place, and with types in
/// lower case. `None` if nothing changes.
pub(super) fn local(schema: &str) -> Option<String> {
    part(schema, 0)
}

fn part(schema: &str, depth: u32) -> Option<String> {
    let members = Members::parse(schema).ok().filter(|_| depth < DEEPEST)?;
    edited(schema, &members, |name, value| match name {
        "type" => lower_case(value).map(Some),
        "$ref" => {
            value.strip_prefix('"').is_some_and(|place| !place.starts_with('#')).then_some(None)
        }
        "properties" | "$defs" | "definitions" => {
            let named = Members::parse(value).ok()?;
            edited(value, &named, |_, schema| part(schema, depth + 1).map(Some)).map(Some)
        }
        "items" | "additionalProperties" | "not" => part(value, depth + 1).map(Some),
        "prefixItems" => list(value, depth).map(Some),
        name if UNIONS.contains(&name) => list(value, depth).map(Some),
        _ => None,
    })
}

/// Returns the object with the values that `change` replaces (`Some(Some)`) or removes (`Some(None)`).
fn edited(
    object: &str,
    members: &Members<'_>,
    change: impl Fn(&str, &str) -> Option<Option<String>>,
) -> Option<String> {
    let changes = members.0.iter().filter_map(|(name, value)| {
        change(name, value.get()).map(|changed| (name.as_ref(), changed))
    });
    let changes: Vec<(&str, Option<String>)> = changes.collect();
    let edits: Vec<(&str, Option<&str>)> =
        changes.iter().map(|(name, changed)| (*name, changed.as_deref())).collect();
    (!edits.is_empty()).then(|| members.edit(object, &edits))
}

fn lower_case(kind: &str) -> Option<String> {
    let capital = kind.bytes().any(|byte| byte.is_ascii_uppercase());
    (capital && !kind.starts_with('{')).then(|| kind.to_ascii_lowercase())
}

fn list(value: &str, depth: u32) -> Option<String> {
    let schemas: Vec<&RawValue> = serde_json::from_str(value).ok()?;
    let changed: Vec<Option<String>> =
        schemas.iter().map(|schema| part(schema.get(), depth + 1)).collect();
    if changed.iter().all(Option::is_none) {
        return None;
    }
    let all = schemas.iter().zip(&changed);
    let all: Vec<&str> =
        all.map(|(schema, changed)| changed.as_deref().unwrap_or_else(|| schema.get())).collect();
    Some(format!("[{}]", all.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_in_lower_case_and_remote_references_open() {
        for (given, expected) in [
            (r##"{ "type": "object", "properties": {"a": {"$ref": "#/$defs/a"}} }"##, None),
            (r#"{"enum":["OBJECT"],"default":{"type":"OBJECT"}}"#, None),
            (
                r#"{"type":"OBJECT","properties":{"type":{"type":["STRING","null"]},"$ref":{"anyOf":[{},{"type":"ARRAY","items":{"type":"INTEGER"}}]}}}"#,
                Some(
                    r#"{"type":"object","properties":{"type":{"type":["string","null"]},"$ref":{"anyOf":[{},{"type":"array","items":{"type":"integer"}}]}}}"#,
                ),
            ),
            (
                r#"{"properties":{"a":{"$ref":"https://example.org/s.json","description":"d"},"b":{"$ref":"s.json"}}}"#,
                Some(r#"{"properties":{"a":{"description":"d"},"b":{}}}"#),
            ),
            ("true", None),
        ] {
            assert_eq!(local(given).as_deref(), expected, "{given}");
        }
    }
}
