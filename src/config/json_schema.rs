//! JSON Schema (draft 7) of the configuration and of prompt files, from their description. Pure: it must never read a
//! configuration.
//!
//! It is never stricter than the reader: a file that loads is valid. It knows keys, types and notations, but no
//! dependencies between keys.

use serde_json::{Map, Value, json};

use super::field::{Absent, Arity, Item, Key, Notation, Scalar, Section};
use super::{prompts, root};

/// A text that an expansion may replace: it can be anything.
const EXPANSION: &str = "\\$\\{";

/// The schema of the configuration file.
pub fn json_schema() -> Value {
    Schema { expands: true }.document("Streamgate configuration", &root::ROOT)
}

/// The schema of a prompt file.
pub fn prompt_json_schema() -> Value {
    Schema { expands: false }.document("Streamgate prompt", &prompts::PROMPT)
}

/// The settings of the schemas for one kind of file.
struct Schema {
    /// Whether `${...}` is expanded in the file.
    expands: bool,
}

impl Schema {
    fn document(&self, title: &str, section: &Section) -> Value {
        let mut schema = self.object(section.keys);
        schema.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
        schema.insert("title".into(), title.into());
        schema.into()
    }

    fn object(&self, keys: &[Key]) -> Map<String, Value> {
        let properties = keys.iter().map(|key| (key.name.to_owned(), self.property(key).into()));
        let required = keys.iter().filter(|key| matches!(key.absent, Absent::Required));
        let mut object = Map::new();
        object.insert("type".into(), "object".into());
        object.insert("additionalProperties".into(), false.into());
        object.insert("properties".into(), Value::Object(properties.collect()));
        object.insert("required".into(), required.map(|key| key.name).collect());
        object
    }

    fn property(&self, key: &Key) -> Map<String, Value> {
        let mut schema = self.value(key);
        if !matches!(key.absent, Absent::Required) {
            // A key without a value counts as left out.
            schema = nullable(schema);
        }
        let description = match key.absent {
            Absent::Rule(rule) => format!("{} Default: {rule}.", key.about),
            Absent::Nothing | Absent::Required | Absent::Value(_) => key.about.to_owned(),
        };
        schema.insert("description".into(), description.into());
        if let (Absent::Value(default), Item::Scalar(scalar)) = (key.absent, key.item) {
            schema.insert("default".into(), typed(default, scalar.notation));
        }
        schema
    }

    /// The schema of a key's value.
    fn value(&self, key: &Key) -> Map<String, Value> {
        let item = match key.item {
            Item::Scalar(scalar) => self.scalar(&scalar),
            Item::Table(keys) => self.object(keys),
            Item::ScalarOrTable(scalar, keys) => any_of([self.scalar(&scalar), self.object(keys)]),
            Item::Json => Map::new(),
        };
        match key.arity {
            Arity::One => item,
            Arity::List => list(item),
            Arity::OneOrList => any_of([item.clone(), list(item)]),
            Arity::Map { names } => map(item, names),
            Arity::MapOrNull { names } => map(nullable(item), names),
        }
    }

    fn scalar(&self, scalar: &Scalar) -> Map<String, Value> {
        let pattern = |pattern: &str| self.pattern(pattern, scalar.or_none);
        let schema = match scalar.notation {
            Notation::Empty => json!({ "type": ["string", "number", "boolean"] }),
            Notation::Text => {
                json!({ "type": ["string", "number", "boolean"], "minLength": 1 })
            }
            Notation::Name(names) => {
                json!({ "type": ["string", "number", "boolean"], "pattern": pattern(names) })
            }
            Notation::Pattern(texts) => json!({ "type": ["string"], "pattern": pattern(texts) }),
            Notation::Boolean => {
                json!({ "type": ["boolean", "string"], "pattern": pattern("true|false") })
            }
            Notation::Integer { min, max, text } => {
                let kind = ["integer", "string"];
                let mut schema = json!({ "type": kind, "minimum": min, "pattern": pattern(text) });
                if let (Some(schema), true) = (schema.as_object_mut(), max < u64::MAX) {
                    schema.insert("maximum".into(), max.into());
                }
                schema
            }
            Notation::Number { min, max } => {
                let kind = ["number", "string"];
                let text = pattern("[-+.0-9eE]+");
                json!({ "type": kind, "minimum": min, "maximum": max, "pattern": text })
            }
            Notation::Choice(words) => {
                let words = json!({ "enum": words() });
                let expanded = json!({ "type": "string", "pattern": EXPANSION });
                if self.expands {
                    json!({ "anyOf": [words, expanded] })
                } else {
                    json!({ "anyOf": [words] })
                }
            }
        };
        match schema {
            Value::Object(schema) => schema,
            _ => Map::new(),
        }
    }

    /// A pattern for whole texts.
    fn pattern(&self, pattern: &str, or_none: bool) -> String {
        let none = if or_none { "none|" } else { "" };
        let whole = format!("^({none}{pattern})$");
        if self.expands { format!("{whole}|{EXPANSION}") } else { whole }
    }
}

/// The same, or `null`.
fn nullable(mut schema: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.push(json!({ "type": "null" }));
    } else if let Some(kind) = schema.get_mut("type") {
        match kind {
            Value::Array(kinds) => kinds.push("null".into()),
            one => *one = json!([one, "null"]),
        }
    }
    schema
}

fn any_of(choices: [Map<String, Value>; 2]) -> Map<String, Value> {
    Map::from_iter([("anyOf".to_owned(), choices.into_iter().map(Value::Object).collect())])
}

fn list(item: Map<String, Value>) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), "array".into()), ("items".to_owned(), item.into())])
}

fn map(item: Map<String, Value>, names: &str) -> Map<String, Value> {
    let names = json!({ "pattern": format!("^({names})$") });
    Map::from_iter([
        ("type".to_owned(), "object".into()),
        ("additionalProperties".to_owned(), item.into()),
        ("propertyNames".to_owned(), names),
    ])
}

/// A default as YAML reads it.
fn typed(text: &str, notation: Notation) -> Value {
    let parsed = match notation {
        Notation::Boolean | Notation::Integer { .. } | Notation::Number { .. } => {
            serde_json::from_str(text).ok()
        }
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}
