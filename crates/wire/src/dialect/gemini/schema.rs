//! Schemas: the vendor's own kind, `OpenAPI` with types in capitals, as plain JSON Schema. The order of
//! members stays.

use serde_json::value::RawValue;

use crate::json::{Members, quoted, text};

/// Maximum depth at which a schema is changed.
const DEEPEST: u32 = 64;

const TYPES: [&str; 7] = [
    r#""OBJECT""#,
    r#""ARRAY""#,
    r#""STRING""#,
    r#""NUMBER""#,
    r#""INTEGER""#,
    r#""BOOLEAN""#,
    r#""NULL""#,
];

/// A schema from a field for JSON Schema: as it is, unless it names the vendor's types, which the
/// vendor takes there, too, and Gemini CLI sends.
pub(super) fn plain_schema(schema: &RawValue) -> Box<RawValue> {
    let capitals = TYPES.iter().any(|word| schema.get().contains(word));
    if capitals { json_schema(schema) } else { schema.to_owned() }
}

/// A schema as JSON Schema. Any other value is returned unchanged.
pub(super) fn json_schema(schema: &RawValue) -> Box<RawValue> {
    let changed = object(schema, 0);
    RawValue::from_string(changed).unwrap_or_else(|_| schema.to_owned())
}

fn object(schema: &RawValue, depth: u32) -> String {
    let Ok(members) = Members::parse(schema.get()) else { return schema.get().to_owned() };
    if depth == DEEPEST {
        return schema.get().to_owned();
    }
    let nullable = members.get("nullable").is_some_and(|value| value.get() == "true");
    let mut out = Vec::with_capacity(members.0.len());
    for (name, value) in &members.0 {
        let json = match name.as_ref() {
            "type" => kind(value, nullable),
            "properties" | "$defs" | "defs" | "definitions" => each(value, depth),
            "items" | "additionalProperties" => object(value, depth + 1),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => list(value, depth),
            // `propertyOrdering` sets the order of the model's output and is not part of JSON Schema.
            "nullable" | "propertyOrdering" | "property_ordering" => continue,
            // The vendor's 64-bit numbers may be strings.
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties"
            | "maxProperties" => number(value),
            _ => value.get().to_owned(),
        };
        let name = match name.as_ref() {
            "any_of" => "anyOf",
            name => name,
        };
        out.push(format!("{}:{json}", quoted(name)));
    }
    format!("{{{}}}", out.join(","))
}

fn kind(value: &RawValue, nullable: bool) -> String {
    let Some(word) = text(value) else { return value.get().to_ascii_lowercase() };
    let word = quoted(&word.to_ascii_lowercase());
    if nullable { format!(r#"[{word},"null"]"#) } else { word }
}

fn each(value: &RawValue, depth: u32) -> String {
    let Ok(members) = Members::parse(value.get()) else { return value.get().to_owned() };
    let one = |(name, schema): &(std::borrow::Cow<'_, str>, &RawValue)| {
        format!("{}:{}", quoted(name), object(schema, depth + 1))
    };
    format!("{{{}}}", members.0.iter().map(one).collect::<Vec<_>>().join(","))
}

fn list(value: &RawValue, depth: u32) -> String {
    let Ok(schemas) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
        return value.get().to_owned();
    };
    let schemas: Vec<String> = schemas.iter().map(|schema| object(schema, depth + 1)).collect();
    format!("[{}]", schemas.join(","))
}

fn number(value: &RawValue) -> String {
    let digits = text(value).filter(|text| text.parse::<u64>().is_ok());
    digits.map_or_else(|| value.get().to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_kind_becomes_plain() {
        for (given, plain) in [
            (
                r#"{"type":"OBJECT","properties":{"b":{"type":"STRING","nullable":true},"a":{"type":"ARRAY","items":{"type":"INTEGER"},"minItems":"1"},"type":{"type":"NUMBER"}},"propertyOrdering":["b","a"],"required":["b"]}"#,
                r#"{"type":"object","properties":{"b":{"type":["string","null"]},"a":{"type":"array","items":{"type":"integer"},"minItems":1},"type":{"type":"number"}},"required":["b"]}"#,
            ),
            (
                r#"{"anyOf":[{"type":"STRING"},{"enum":["A"]}]}"#,
                r#"{"anyOf":[{"type":"string"},{"enum":["A"]}]}"#,
            ),
            (
                r#"{"type":["STRING","null"],"additionalProperties":false}"#,
                r#"{"type":["string","null"],"additionalProperties":false}"#,
            ),
            ("7", "7"),
        ] {
            let given = RawValue::from_string(given.to_owned()).unwrap();
            assert_eq!(json_schema(&given).get(), plain);
        }
    }

    #[test]
    fn a_plain_schema_stays_unless_it_names_the_vendors_types() {
        for (given, plain) in [
            (r#"{ "type": "object" }"#, r#"{ "type": "object" }"#),
            (
                r#"{"type":"OBJECT","properties":{"score":{"type":"INTEGER"}}}"#,
                r#"{"type":"object","properties":{"score":{"type":"integer"}}}"#,
            ),
        ] {
            let given = RawValue::from_string(given.to_owned()).unwrap();
            assert_eq!(plain_schema(&given).get(), plain);
        }
    }
}
