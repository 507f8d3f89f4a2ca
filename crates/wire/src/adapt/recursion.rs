//! Detection of recursion in JSON schemas, which vendors do not enforce. References beyond the schema are never
//! followed.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Members that hold definitions. A definition counts only where it is referenced.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// The most values that are visited, as a multiple of a schema's bytes, since references may lead to the same
/// part many times. `LEAST_LOOKS` is the minimum. A schema beyond that counts as recursive.
const MOST_LOOKS: usize = 16;
const LEAST_LOOKS: usize = 4096;

/// Whether a part of a schema refers to itself, directly or through others.
pub(super) fn is_recursive(schema: &str) -> bool {
    if !schema.contains("$ref") {
        return false;
    }
    let Ok(root) = serde_json::from_str::<Value>(schema) else { return false };
    let mut left = schema.len().saturating_mul(MOST_LOOKS).max(LEAST_LOOKS);
    let mut edges: HashMap<String, Vec<String>> = HashMap::new();
    let mut waiting = vec![String::new()];
    while let Some(place) = waiting.pop() {
        if edges.contains_key(&place) {
            continue;
        }
        let mut found = Vec::new();
        if let Some(part) = root.pointer(&place)
            && !references(part, &mut left, &mut found)
        {
            return true;
        }
        waiting.extend(found.iter().cloned());
        edges.insert(place, found);
    }
    has_cycle(&edges)
}

/// Collects the references in a part. Returns `false` if the limit of visited values is reached.
fn references(part: &Value, left: &mut usize, found: &mut Vec<String>) -> bool {
    let mut parts = vec![part];
    while let Some(part) = parts.pop() {
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        match part {
            Value::Array(items) => parts.extend(items),
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        Value::String(place) if name == "$ref" => {
                            found.extend(place.strip_prefix('#').map(str::to_owned));
                        }
                        _ if DEFINITIONS.contains(&name.as_str()) => {}
                        value => parts.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    true
}

/// Whether the references between places form a cycle. Places without incoming references are removed
/// repeatedly; a cycle exists if any remain.
fn has_cycle(edges: &HashMap<String, Vec<String>>) -> bool {
    let mut referring: HashMap<&str, usize> = HashMap::new();
    for place in edges.values().flatten() {
        *referring.entry(place).or_default() += 1;
    }
    let mut free: Vec<&str> =
        edges.keys().map(String::as_str).filter(|place| !referring.contains_key(place)).collect();
    let mut taken: HashSet<&str> = HashSet::new();
    while let Some(place) = free.pop() {
        taken.insert(place);
        for other in edges.get(place).into_iter().flatten() {
            if let Some(count) = referring.get_mut(other.as_str()) {
                *count -= 1;
                if *count == 0 {
                    free.push(other);
                }
            }
        }
    }
    taken.len() < edges.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursion_is_found_wherever_it_leads() {
        for (schema, recursive) in [
            (
                r##"{"$defs":{"a":{"type":"string"}},"properties":{"x":{"$ref":"#/$defs/a"},"y":{"$ref":"#/$defs/a"}}}"##,
                false,
            ),
            (r##"{"properties":{"x":{"$ref":"#"}}}"##, true),
            (
                r##"{"$defs":{"n":{"properties":{"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}}}},"$ref":"#/$defs/n"}"##,
                true,
            ),
            (
                r##"{"$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":{"items":{"$ref":"#/$defs/a"}}},"items":{"$ref":"#/$defs/a"}}"##,
                true,
            ),
            (
                r##"{"definitions":{"a":{"items":{"$ref":"#/definitions/b"}},"b":{}},"items":{"$ref":"#/definitions/a"}}"##,
                false,
            ),
            (r##"{"properties":{"a":{"items":{"$ref":"#/properties/a"}}}}"##, true),
            // A definition without references is not enforced.
            (
                r##"{"$defs":{"a":{"items":{"$ref":"#/$defs/a"}}},"properties":{"$ref":{"type":"string"}}}"##,
                false,
            ),
            (r#"{"properties":{"x":{"$ref":"https://example.org/s.json"}}}"#, false),
        ] {
            assert_eq!(is_recursive(schema), recursive, "{schema}");
        }
    }
}
