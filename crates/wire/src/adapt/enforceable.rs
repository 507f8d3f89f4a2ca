//! Schemas that vendors enforce: whether a schema can be closed, and its root as an object. The set of values
//! that match a schema never changes.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::recursion::is_recursive;
use super::schema::{DEEPEST, References, UNIONS};
use crate::json::{Members, quoted, text};

/// The most references that may lead from the root to its object.
const MOST_REFERENCES: usize = 8;

/// Members that may appear beside a `$ref` at the root because they constrain nothing.
const ANNOTATIONS: [&str; 7] =
    ["$ref", "$schema", "$id", "$defs", "definitions", "title", "description"];

/// Whether a schema may be closed (`additionalProperties: false`) to be enforced: it is not recursive, and none
/// of its objects accepts properties of arbitrary names.
pub(super) fn can_be_closed(schema: &str) -> bool {
    !is_recursive(schema) && !has_map(schema, 0)
}

/// Whether any object of a schema accepts properties that are not listed: `additionalProperties` other than
/// `false`, `patternProperties`, or no `properties` at all.
fn has_map(schema: &str, depth: u32) -> bool {
    let Ok(members) = Members::parse(schema) else { return false };
    if depth == DEEPEST {
        return false;
    }
    let within = |name: &str| members.get(name).map(RawValue::get);
    let is_object = within("type").is_some_and(|kind| kind.contains(r#""object""#));
    let is_map = match within("additionalProperties") {
        Some(additional) => additional != "false",
        None => is_object && within("properties").is_none(),
    };
    if is_map || within("patternProperties").is_some() {
        return true;
    }
    let mut inner: Vec<&str> = ["items", "not"].into_iter().filter_map(within).collect();
    for name in ["properties", "$defs", "definitions"] {
        let named = within(name).and_then(|json| Members::parse(json).ok()).unwrap_or_default();
        inner.extend(named.0.iter().map(|(_, schema)| schema.get()));
    }
    for name in UNIONS.iter().chain(&["prefixItems"]) {
        let branches = within(name).map(serde_json::from_str::<Vec<&RawValue>>);
        let branches = branches.and_then(Result::ok).unwrap_or_default();
        inner.extend(branches.into_iter().map(RawValue::get));
    }
    inner.into_iter().any(|schema| has_map(schema, depth + 1))
}

/// Returns the schema with a root of type `object`. A `$ref` at the root is replaced by the object that it
/// refers to. Returns `None` if values other than objects may match, or if the root is a union.
pub(super) fn object_root(schema: &str) -> Option<Cow<'_, str>> {
    let members = Members::parse(schema).ok()?;
    if members.get("$ref").is_none() {
        is_object(&members)?;
        let typed = members.get("type").is_some();
        let with_type = || members.edit(schema, &[("type", Some(r#""object""#))]);
        return Some(if typed { Cow::Borrowed(schema) } else { Cow::Owned(with_type()) });
    }
    if members.0.iter().any(|(name, _)| !ANNOTATIONS.contains(&name.as_ref())) {
        return None;
    }
    let mut references = References::new(schema);
    let mut target = Members::parse(schema).ok()?;
    for _ in 0..MOST_REFERENCES {
        let Some(reference) = target.get("$ref") else { break };
        target = Members::parse(references.referred(&text(reference)?)?).ok()?;
    }
    is_object(&target)?;
    let mut out = vec![r#""type":"object""#.to_owned()];
    let own = members.0.iter().filter(|(name, _)| name != "$ref");
    let referred =
        target.0.iter().filter(|(name, _)| name != "type" && members.get(name).is_none());
    out.extend(
        own.chain(referred).map(|(name, value)| format!("{}:{}", quoted(name), value.get())),
    );
    Some(Cow::Owned(format!("{{{}}}", out.join(","))))
}

fn is_object(members: &Members<'_>) -> Option<()> {
    let mixed = UNIONS.iter().chain(&["$ref", "enum", "const", "not"]);
    let plain = mixed.into_iter().all(|name| members.get(name).is_none());
    let object = match members.get("type") {
        Some(kind) => kind.get() == r#""object""#,
        None => members.get("properties").is_some_and(|value| value.get().starts_with('{')),
    };
    (plain && object).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_with_any_properties_cannot_be_closed() {
        for (schema, closed) in [
            (r#"{"type":"object","properties":{"a":{"type":"string"}}}"#, true),
            (r#"{"type":"object","properties":{},"additionalProperties":false}"#, true),
            (r#"{"type":"object"}"#, false),
            (
                r#"{"properties":{"env":{"type":"object","additionalProperties":{"type":"string"}}}}"#,
                false,
            ),
            (r#"{"properties":{"env":{"type":["object","null"]}}}"#, false),
            (r#"{"properties":{"l":{"items":{"anyOf":[{"type":"object"}]}}}}"#, false),
            (
                r#"{"properties":{"a":{"type":"string"}},"$defs":{"m":{"additionalProperties":true}}}"#,
                false,
            ),
            (r#"{"type":"object","properties":{},"patternProperties":{"^x":{}}}"#, false),
            (r#"{"type":"object","properties":{"additionalProperties":{"type":"string"}}}"#, true),
            (r##"{"properties":{"x":{"$ref":"#"}}}"##, false),
        ] {
            assert_eq!(can_be_closed(schema), closed, "{schema}");
        }
    }

    #[test]
    fn a_root_is_an_object_or_refers_to_one() {
        for (schema, expected) in [
            (r#"{ "type": "object" }"#, Some(r#"{ "type": "object" }"#)),
            (r#"{"properties":{}}"#, Some(r#"{"properties":{},"type":"object"}"#)),
            (
                r##"{"$defs":{"p":{"title":"P","type":"object","properties":{"next":{"$ref":"#/$defs/p"}}}},"$ref":"#/$defs/p"}"##,
                Some(
                    r##"{"type":"object","$defs":{"p":{"title":"P","type":"object","properties":{"next":{"$ref":"#/$defs/p"}}}},"title":"P","properties":{"next":{"$ref":"#/$defs/p"}}}"##,
                ),
            ),
            (r##"{"$defs":{"p":{"type":"array"}},"$ref":"#/$defs/p"}"##, None),
            (r##"{"$defs":{"p":{"$ref":"#/$defs/p"}},"$ref":"#/$defs/p"}"##, None),
            (r##"{"$ref":"#"}"##, None),
            (r#"{"$ref":"https://example.org/s.json"}"#, None),
            (r#"{"type":"array","items":{}}"#, None),
            (r#"{"type":["object","null"],"properties":{}}"#, None),
            (r#"{"anyOf":[{"type":"object","properties":{}}]}"#, None),
            (r#"{"type":"string","enum":["a"]}"#, None),
            ("{}", None),
            ("true", None),
        ] {
            assert_eq!(object_root(schema).as_deref(), expected, "{schema}");
        }
    }
}
