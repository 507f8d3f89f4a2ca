//! Presets: providers that are known by name. What they hold is data, in `presets.yaml`; this file
//! only puts it under what a provider states itself.

use super::error::Location;
use super::raw::{Reader, Table, one_of};
use super::tree::{self, Name, Node, Value};

/// The fields of a provider that its preset may ask for, as `{name}`.
pub(super) const PARAMETERS: [&str; 6] =
    ["resource", "deployment", "api_version", "project", "location", "region"];

/// The presets' file.
pub(super) const FILE: &str = include_str!("presets.yaml");

/// The fields that a provider's preset gives it, ready for use; without a preset, none. Reports a
/// name that is none, and parameters that are missing or have no use.
pub(super) fn fields(reader: &mut Reader<'_>, provider: &Table<'_>) -> Vec<(String, Node)> {
    let presets = all();
    let names = one_of(presets.iter().map(|(name, _)| name.text.as_str()));
    let find =
        |name: &str| presets.iter().find(|(preset, _)| preset.text == name).map(|(_, node)| node);
    let preset = reader.field(provider, "preset", (names.as_str(), find));
    let at = provider.get("preset").map_or(provider.at, |node| node.at);
    let mut given = Vec::new();
    for name in PARAMETERS {
        let parameter = ("letters, digits, `-`, `_` and `.`", parameter);
        if let Some(value) = reader.field(provider, name, parameter) {
            given.push((name, value));
        }
    }
    let mut used = Vec::new();
    let Some(Node { value: Value::Table(entries), .. }) = preset else {
        unused(reader, provider, &used);
        return Vec::new();
    };
    let fields =
        entries.iter().map(|(key, node)| (key.text.clone(), filled(node, at, (&given, &mut used))));
    let fields = fields.collect();
    for name in used.iter().filter(|name| provider.get(name).is_none()) {
        reader.report(at, format!("`{name}` is missing; this preset needs it"));
    }
    unused(reader, provider, &used);
    fields
}

/// Every preset with its name.
pub(super) fn all() -> Vec<(Name, Node)> {
    // The tests read the file; a mistake in it could only hide presets.
    match tree::parse(FILE, &mut Vec::new()) {
        Ok(Node { value: Value::Table(presets), .. }) => presets,
        _ => Vec::new(),
    }
}

/// Parameters become part of an address: nothing in them may change what the address means.
fn parameter(text: &str) -> Option<String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    (plain && !text.is_empty()).then(|| text.to_owned())
}

fn unused(reader: &mut Reader<'_>, provider: &Table<'_>, used: &[&str]) {
    for name in PARAMETERS.iter().filter(|name| !used.contains(name)) {
        if let Some(node) = provider.get(name) {
            let message = format!("`{name}` has no use here; expected a `preset` that needs it");
            reader.report(node.at, message);
        }
    }
}

/// A copy of a preset's node with its parameters put in, at the place that names the preset.
fn filled(
    node: &Node,
    at: Location,
    (given, used): (&[(&'static str, String)], &mut Vec<&'static str>),
) -> Node {
    let value = match &node.value {
        Value::Text(text) => {
            let mut text = text.clone();
            for name in PARAMETERS {
                let place = format!("{{{name}}}");
                if text.contains(&place) {
                    if !used.contains(&name) {
                        used.push(name);
                    }
                    let value = given.iter().find(|(known, _)| *known == name);
                    text = text.replace(&place, value.map_or(name, |(_, value)| value));
                }
            }
            Value::Text(text)
        }
        Value::Table(entries) => {
            let mut table = Vec::with_capacity(entries.len());
            for (key, node) in entries {
                let key = Name { at, text: key.text.clone() };
                table.push((key, filled(node, at, (given, used))));
            }
            Value::Table(table)
        }
        Value::List(items) => {
            Value::List(items.iter().map(|item| filled(item, at, (given, used))).collect())
        }
        Value::Null | Value::Broken => Value::Null,
    };
    Node { at, value }
}
