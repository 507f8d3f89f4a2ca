//! JSON schemas of tools and of structured output in the form that an upstream accepts. The order of members is
//! kept, and a schema that is accepted unchanged is returned byte for byte.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::enforceable::object_root;
use super::local;
use super::rules::Schemas;
use crate::json::{self, Members, quoted};

/// The schema of a tool that takes no arguments.
pub(super) const NOTHING: &str = r#"{"type":"object","properties":{}}"#;

/// The deepest nesting of a schema that is still changed.
pub(super) const DEEPEST: u32 = 64;

/// Union keywords, which no vendor accepts at the root of a tool's schema.
pub(super) const UNIONS: [&str; 3] = ["anyOf", "oneOf", "allOf"];

/// Keywords that constrain values, which vendors reject in schemas that they enforce.
const BOUNDS: [&str; 13] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
];

/// Returns the schema of a tool's arguments. `None` if the upstream accepts it unchanged.
pub(super) fn of_tool(schema: Option<&RawValue>, rules: Schemas) -> Option<Box<RawValue>> {
    let Some(schema) = schema else {
        return rules.object.then(|| raw(NOTHING.to_owned()));
    };
    if rules.object {
        return object(schema.get()).map(raw);
    }
    let local = local(schema, rules);
    let current = local.as_deref().unwrap_or_else(|| schema.get());
    let typed = if rules.local && !may_be_object(current) { object(current) } else { None };
    typed.or(local).map(raw)
}

/// Whether the root of a schema has type `object`, or leaves the type to a union or a reference.
fn may_be_object(schema: &str) -> bool {
    let Ok(members) = Members::parse(schema) else { return false };
    match members.get("type") {
        Some(kind) => kind.get() == r#""object""#,
        None => UNIONS.iter().chain(&["$ref"]).any(|name| members.get(name).is_some()),
    }
}

/// Whether every object of a schema is closed and requires all its properties. Some vendors enforce no other
/// schema.
pub(super) fn is_whole(schema: &str) -> bool {
    whole(schema, 0)
}

fn whole(schema: &str, depth: u32) -> bool {
    let Ok(members) = Members::parse(schema) else { return true };
    if depth == DEEPEST {
        return false;
    }
    let within = |name: &str| members.get(name).map(RawValue::get);
    let named = |name| within(name).and_then(|json| Members::parse(json).ok()).unwrap_or_default();
    let properties = named("properties");
    let is_object = within("type").is_some_and(|kind| kind.contains(r#""object""#));
    if is_object || !properties.0.is_empty() {
        let required = within("required").map(serde_json::from_str);
        let required: HashSet<String> = required.and_then(Result::ok).unwrap_or_default();
        let all = properties.0.iter().all(|(name, _)| required.contains(name.as_ref()));
        if !all || within("additionalProperties") != Some("false") {
            return false;
        }
    }
    let mut inner: Vec<&str> = within("items").into_iter().collect();
    for members in [&properties, &named("$defs"), &named("definitions")] {
        inner.extend(members.0.iter().map(|(_, schema)| schema.get()));
    }
    for union in UNIONS {
        let branches = within(union).map(serde_json::from_str::<Vec<&RawValue>>);
        let branches = branches.and_then(Result::ok).unwrap_or_default();
        inner.extend(branches.into_iter().map(RawValue::get));
    }
    inner.into_iter().all(|schema| whole(schema, depth + 1))
}

/// Returns the schema of structured output. `None` if the upstream accepts it unchanged.
pub(super) fn of_format(schema: &RawValue, rules: Schemas) -> Option<Box<RawValue>> {
    let changed = match () {
        () if rules.closed => Some(closed(schema.get(), 0)),
        () if rules.root => object_root(schema.get()).map(Cow::into_owned),
        () => local(schema, rules),
    };
    changed.filter(|changed| changed != schema.get()).map(raw)
}

fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_default()
}

/// Returns the schema without members that name its own place or refer beyond it.
fn local(schema: &RawValue, rules: Schemas) -> Option<String> {
    let members = Members::parse(schema.get()).ok().filter(|_| rules.local)?;
    let placed = members.0.iter().any(|(name, _)| matches!(name.as_ref(), "$schema" | "$id"));
    let edits = [("$schema", None), ("$id", None)];
    let unplaced = placed.then(|| members.edit(schema.get(), &edits));
    local::local(unplaced.as_deref().unwrap_or_else(|| schema.get())).or(unplaced)
}

/// Returns the schema with an object with properties at its root.
fn object(schema: &str) -> Option<String> {
    let Ok(members) = Members::parse(schema) else { return Some(NOTHING.to_owned()) };
    let united = UNIONS.iter().chain(&["$ref"]).any(|name| members.get(name).is_some());
    if united {
        return Some(merged(schema, &members));
    }
    let is_object = members.get("type").is_some_and(|kind| kind.get() == r#""object""#);
    let holds = |name: &str| members.get(name).is_some_and(|value| value.get().starts_with('{'));
    let odd = ["enum", "not", "const"].into_iter().filter(|name| members.get(name).is_some());
    let mut edits: Vec<(&str, Option<&str>)> = odd.map(|name| (name, None)).collect();
    if !is_object {
        edits.push(("type", Some(r#""object""#)));
    }
    if !holds("properties") {
        edits.push(("properties", Some("{}")));
    }
    (!edits.is_empty()).then(|| members.edit(schema, &edits))
}

/// A union merged into one object.
#[derive(Default)]
struct Flat<'s> {
    /// Properties, each with its possible schemas.
    properties: Vec<(Cow<'s, str>, Vec<&'s str>)>,
    /// Index of each property in `properties`.
    places: HashMap<Cow<'s, str>, usize>,
    /// Known schemas, each with the index of its property.
    known: HashSet<(usize, &'s str)>,
    required: Vec<String>,
    /// The names in `required`, for lookup.
    demanded: HashSet<String>,
}

impl<'s> Flat<'s> {
    fn add(&mut self, name: Cow<'s, str>, schema: &'s str) {
        let at = *self.places.entry(name.clone()).or_insert(self.properties.len());
        if at == self.properties.len() {
            self.properties.push((name, Vec::new()));
        }
        if self.known.insert((at, schema))
            && let Some((_, schemas)) = self.properties.get_mut(at)
        {
            schemas.push(schema);
        }
    }

    fn require(&mut self, name: String) {
        if self.demanded.insert(name.clone()) {
            self.required.push(name);
        }
    }

    /// Merges all `others` into this object. Values must match each of them.
    fn take_all(&mut self, others: Vec<Self>) {
        for other in others {
            for name in &other.required {
                self.require(name.clone());
            }
            self.take_properties(other);
        }
    }

    /// Merges alternatives into this object. Values must match one of `others`, so that only properties
    /// required by each of them are required.
    fn take_any(&mut self, others: Vec<Self>) {
        let everywhere = |name: &String| others.iter().all(|other| other.demanded.contains(name));
        let first = others.first().map(|other| other.required.as_slice()).unwrap_or_default();
        let common: Vec<String> = first.iter().filter(|name| everywhere(name)).cloned().collect();
        for name in common {
            self.require(name);
        }
        for other in others {
            self.take_properties(other);
        }
    }

    fn take_properties(&mut self, other: Self) {
        for (name, schemas) in other.properties {
            for schema in schemas {
                self.add(name.clone(), schema);
            }
        }
    }
}

/// Returns a schema with unions at its root as one object. A property has its schemas from every branch.
fn merged(root: &str, members: &Members<'_>) -> String {
    let flat = Merging::new(root).flat(root, 0);
    let replaced = |name: &str| {
        UNIONS.contains(&name)
            || ["$ref", "type", "properties", "required", "enum", "not", "const"].contains(&name)
    };
    let kept = members.0.iter().filter(|(name, _)| !replaced(name));
    let mut out = vec![r#""type":"object""#.to_owned()];
    out.extend(kept.map(|(name, value)| format!("{}:{}", quoted(name), value.get())));
    let property = |(name, schemas): &(Cow<'_, str>, Vec<&str>)| match schemas.as_slice() {
        [schema] => format!("{}:{schema}", quoted(name)),
        schemas => format!(r#"{}:{{"anyOf":[{}]}}"#, quoted(name), schemas.join(",")),
    };
    let properties: Vec<String> = flat.properties.iter().map(property).collect();
    out.push(format!(r#""properties":{{{}}}"#, properties.join(",")));
    if !flat.required.is_empty() {
        let required: Vec<String> = flat.required.iter().map(|name| quoted(name)).collect();
        out.push(format!(r#""required":[{}]"#, required.join(",")));
    }
    format!("{{{}}}", out.join(","))
}

/// The most bytes that are read of a schema during a merge, as a multiple of its length, since references may
/// repeat one part or form a cycle. `LEAST_READ` is the minimum.
const MOST_READ: usize = 16;
const LEAST_READ: usize = 4096;

/// State of a merge of unions and references.
struct Merging<'s> {
    references: References<'s>,
    /// Remaining bytes that may be read.
    left: usize,
}

impl<'s> Merging<'s> {
    fn new(root: &'s str) -> Self {
        let left = root.len().saturating_mul(MOST_READ).max(LEAST_READ);
        Self { references: References::new(root), left }
    }

    fn flat(&mut self, schema: &'s str, depth: u32) -> Flat<'s> {
        let mut flat = Flat::default();
        let Some(left) = self.left.checked_sub(schema.len()) else { return flat };
        self.left = left;
        let Ok(members) = Members::parse(schema) else { return flat };
        if depth == DEEPEST {
            return flat;
        }
        if let Some(target) = members.get("$ref").and_then(json::text)
            && let Some(target) = self.references.referred(&target)
        {
            flat.take_all(vec![self.flat(target, depth + 1)]);
        }
        let properties = members.get("properties").and_then(|raw| Members::parse(raw.get()).ok());
        for (name, schema) in properties.iter().flat_map(|properties| &properties.0) {
            flat.add(name.clone(), schema.get());
        }
        let required = members.get("required").map(|raw| serde_json::from_str(raw.get()));
        let required: Vec<String> = required.and_then(Result::ok).unwrap_or_default();
        for name in required {
            flat.require(name);
        }
        for union in UNIONS {
            let branches = members.get(union).map(|raw| serde_json::from_str(raw.get()));
            let branches: Vec<&'s RawValue> = branches.and_then(Result::ok).unwrap_or_default();
            let branches: Vec<Flat<'s>> =
                branches.iter().map(|branch| self.flat(branch.get(), depth + 1)).collect();
            match union {
                "allOf" => flat.take_all(branches),
                _ => flat.take_any(branches),
            }
        }
        flat
    }
}

/// The parts of a schema that its references point to.
pub(super) struct References<'s> {
    root: &'s str,
    /// Members of the objects on the paths of references, by the objects' addresses in memory.
    members: HashMap<usize, HashMap<Cow<'s, str>, &'s str>>,
}

impl<'s> References<'s> {
    pub(super) fn new(root: &'s str) -> Self {
        Self { root, members: HashMap::new() }
    }

    /// The part of the schema that a local reference (`#/$defs/a`) points to.
    pub(super) fn referred(&mut self, reference: &str) -> Option<&'s str> {
        let steps = reference.strip_prefix("#/")?.split('/');
        let mut schema = self.root;
        for (depth, step) in (0..).zip(steps) {
            if depth == DEEPEST {
                return None;
            }
            let step = step.replace("~1", "/").replace("~0", "~");
            let members = self.members.entry(schema.as_ptr().addr()).or_insert_with(|| {
                let members = Members::parse(schema).unwrap_or_default();
                members.0.into_iter().map(|(name, value)| (name, value.get())).collect()
            });
            schema = members.get(step.as_str()).copied()?;
        }
        Some(schema)
    }
}

/// Returns a schema with closed objects and without keywords that constrain values.
fn closed(schema: &str, depth: u32) -> String {
    let Ok(members) = Members::parse(schema) else { return schema.to_owned() };
    if depth == DEEPEST {
        return schema.to_owned();
    }
    let mut out = Vec::with_capacity(members.0.len() + 1);
    for (name, value) in &members.0 {
        let (name, json) = match name.as_ref() {
            name if BOUNDS.contains(&name) => continue,
            "minItems" if !matches!(value.get(), "0" | "1") => continue,
            "additionalProperties" => continue,
            name @ ("properties" | "$defs" | "definitions") => (name, each(value, depth)),
            name @ ("items" | "not") => (name, closed(value.get(), depth + 1)),
            "oneOf" => ("anyOf", list(value, depth)),
            name @ ("anyOf" | "allOf" | "prefixItems") => (name, list(value, depth)),
            name => (name, value.get().to_owned()),
        };
        out.push(format!("{}:{json}", quoted(name)));
    }
    let kind = members.get("type").map(RawValue::get).unwrap_or_default();
    if kind.contains(r#""object""#) || members.get("properties").is_some() {
        out.push(r#""additionalProperties":false"#.to_owned());
    }
    format!("{{{}}}", out.join(","))
}

fn each(value: &RawValue, depth: u32) -> String {
    let Ok(members) = Members::parse(value.get()) else { return value.get().to_owned() };
    let one = |(name, schema): &(Cow<'_, str>, &RawValue)| {
        format!("{}:{}", quoted(name), closed(schema.get(), depth + 1))
    };
    format!("{{{}}}", members.0.iter().map(one).collect::<Vec<_>>().join(","))
}

fn list(value: &RawValue, depth: u32) -> String {
    let Ok(schemas) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
        return value.get().to_owned();
    };
    let schemas: Vec<String> =
        schemas.iter().map(|schema| closed(schema.get(), depth + 1)).collect();
    format!("[{}]", schemas.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: Schemas =
        Schemas { object: true, closed: true, local: false, whole: false, root: false };

    fn tool(schema: &str) -> String {
        let schema = raw(schema.to_owned());
        of_tool(Some(&schema), OBJECT).unwrap_or(schema).get().to_owned()
    }

    #[test]
    fn a_tools_schema_is_an_object_with_properties() {
        for (given, expected) in [
            (r#"{"type":"object"}"#, r#"{"type":"object","properties":{}}"#),
            ("{}", NOTHING),
            ("true", NOTHING),
            (
                r#"{"type": "object", "properties": {"a":{}}}"#,
                r#"{"type": "object", "properties": {"a":{}}}"#,
            ),
            (
                r#"{"type":"object","additionalProperties":false}"#,
                r#"{"type":"object","additionalProperties":false,"properties":{}}"#,
            ),
            (
                r#"{"type":["object","null"],"properties":{}}"#,
                r#"{"type":"object","properties":{}}"#,
            ),
            (r#"{"type":"object","properties":null}"#, r#"{"type":"object","properties":{}}"#),
        ] {
            assert_eq!(tool(given), expected, "{given}");
        }
        assert_eq!(of_tool(None, OBJECT).unwrap().get(), NOTHING);
    }

    #[test]
    fn a_local_schema_of_a_tool_is_an_object() {
        let rules = Schemas { local: true, ..Schemas::default() };
        for (given, expected) in [
            (r#"{"type":"string"}"#, Some(NOTHING)),
            (r#"{"type":"ARRAY"}"#, Some(NOTHING)),
            ("null", Some(NOTHING)),
            (r#"{"$ref":"https://example.org/s.json"}"#, Some(NOTHING)),
            (r#"{"$schema":"x","type":"OBJECT"}"#, Some(r#"{"type":"object"}"#)),
            (r#"{"type":"object"}"#, None),
            (r#"{"anyOf":[{"type":"object"}]}"#, None),
        ] {
            let given = raw(given.to_owned());
            let changed = of_tool(Some(&given), rules);
            assert_eq!(changed.as_deref().map(RawValue::get), expected, "{given}");
        }
    }

    #[test]
    fn a_union_at_the_top_becomes_one_object() {
        for (given, expected) in [
            (
                r#"{"anyOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},{"properties":{"b":{"type":"string"}}}]}"#,
                r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}}}"#,
            ),
            (
                r#"{"description":"d","oneOf":[{"properties":{"k":{"const":1}},"required":["k"]},{"properties":{"k":{"const":2}},"required":["k"]}]}"#,
                r#"{"type":"object","description":"d","properties":{"k":{"anyOf":[{"const":1},{"const":2}]}},"required":["k"]}"#,
            ),
            (
                r##"{"$defs":{"p":{"properties":{"x":{}},"required":["x"]}},"allOf":[{"$ref":"#/$defs/p"},{"properties":{"y":{}},"required":["y"]}]}"##,
                r#"{"type":"object","$defs":{"p":{"properties":{"x":{}},"required":["x"]}},"properties":{"x":{},"y":{}},"required":["x","y"]}"#,
            ),
            (
                r##"{"$ref":"#/definitions/p","definitions":{"p":{"type":"object","properties":{"x":{}}}}}"##,
                r#"{"type":"object","definitions":{"p":{"type":"object","properties":{"x":{}}}},"properties":{"x":{}}}"#,
            ),
        ] {
            assert_eq!(tool(given), expected, "{given}");
        }
        // A schema that refers to itself terminates.
        assert_eq!(tool(r##"{"$ref":"#"}"##), r#"{"type":"object","properties":{}}"#);
        let endless = r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}"##;
        assert!(tool(endless).contains(r#""properties":{}"#));
        // So does one with two references to itself, although it doubles with each step.
        let doubling = r##"{"anyOf":[{"$ref":"#"},{"$ref":"#"},{"properties":{"a":{}}}]}"##;
        assert_eq!(tool(doubling), r#"{"type":"object","properties":{"a":{}}}"#);
    }

    #[test]
    fn a_schema_is_whole_if_all_its_objects_are() {
        for (schema, whole) in [
            (
                r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#,
                true,
            ),
            (
                r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#,
                false,
            ),
            (r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}"#, false),
            (
                r#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"object"}}},"required":["a"],"additionalProperties":false}"#,
                false,
            ),
            (
                r#"{"type":"array","items":{"anyOf":[{"type":"string"},{"properties":{"b":{}}}]}}"#,
                false,
            ),
            ("{}", true),
        ] {
            assert_eq!(is_whole(schema), whole, "{schema}");
        }
    }

    #[test]
    fn what_is_enforced_is_closed_and_bounds_no_value() {
        let given = r#"{"type":"object","properties":{"n":{"type":"integer","minimum":1},"l":{"type":"array","minItems":2,"items":{"oneOf":[{"type":"object","properties":{}}]}}}}"#;
        let expected = r#"{"type":"object","properties":{"n":{"type":"integer"},"l":{"type":"array","items":{"anyOf":[{"type":"object","properties":{},"additionalProperties":false}]}}},"additionalProperties":false}"#;
        let schema = raw(given.to_owned());
        assert_eq!(of_format(&schema, OBJECT).unwrap().get(), expected);
        assert!(of_tool(Some(&schema), OBJECT).is_none());
        assert!(of_format(&schema, Schemas::default()).is_none());
    }
}
