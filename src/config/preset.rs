//! Presets: providers that are known by name. Their settings are data, in `presets.yaml`; this file only uses them as
//! defaults of a provider's own settings. It must never name a preset.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::error::Location;
use super::field::{Field, Format, Notation};
use super::price::PRICE_CATALOG;
use super::reader::{Reader, Table, nearest, one_of};
use super::tree::{self, Name, Node, Value};
use crate::wire::dialect::Dialect;

/// The presets' file.
pub(super) const FILE: &str = include_str!("presets.yaml");

/// Every preset with its name.
pub(super) static PRESETS: LazyLock<Vec<(Name, Node)>> = LazyLock::new(|| {
    // The tests read the file; a mistake in it could only hide presets.
    match tree::parse(FILE, &mut Vec::new()) {
        Ok(Node { value: Value::Table(presets), .. }) => presets,
        _ => Vec::new(),
    }
});

/// Parameters become part of an address: nothing in them may change what the address means.
const PARAMETER: Format<String> = Format::new(
    "letters, digits, `-`, `_` and `.`",
    "letters, digits, `-`, `_` and `.`",
    Notation::Name("[A-Za-z0-9._-]+"),
    |text| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        (plain && !text.is_empty()).then(|| text.to_owned())
    },
);

pub(super) const PRESET: Field<&'static Node> = Format::choice(
    || PRESETS.iter().map(|(name, _)| name.text.as_str()).collect(),
    |text| PRESETS.iter().find(|(name, _)| name.text == text).map(|(_, node)| node),
)
.key(
        "preset",
    "A provider that is known by name (src/config/presets.yaml): its settings hold where none are stated here.",
)
.example("groq");
pub(super) const RESOURCE: Field<String> =
    PARAMETER.key("resource", "Azure resource, for presets whose address has one.");
pub(super) const DEPLOYMENT: Field<String> =
    PARAMETER.key("deployment", "Azure deployment, for presets whose address has one.");
pub(super) const API_VERSION: Field<String> = PARAMETER
    .key("api_version", "API version, for presets whose address has one.")
    .example("2024-10-21");
pub(super) const PROJECT: Field<String> =
    PARAMETER.key("project", "Google Cloud project, for presets whose address has one.");
pub(super) const LOCATION: Field<String> = PARAMETER
    .key("location", "Google Cloud location, for presets whose address has one.")
    .example("europe-west1");
pub(super) const REGION: Field<String> = PARAMETER
    .key("region", "AWS region, for presets whose address has one; also the region of signatures.")
    .example("us-east-1");

/// The member of a preset with the variables that make a provider of it: a variable, or a list of which the first one
/// that is set counts, by the provider's key.
const ENVIRONMENT: &str = "environment";
/// The member of a preset with further names.
const ALSO_CALLED: &str = "also_called";

/// The keys of a provider that its preset may need: `{name}` in the presets' file.
const PARAMETERS: [Field<String>; 6] =
    [RESOURCE, DEPLOYMENT, API_VERSION, PROJECT, LOCATION, REGION];

/// The part of the price catalog for a vendor's own address: that of the preset which has nothing but its dialect.
pub(super) fn vendor_catalog(dialect: &dyn Dialect) -> Option<String> {
    let text = |entries: &[(Name, Node)], key: &str| {
        let (_, node) = entries.iter().find(|(name, _)| name.text == key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    };
    PRESETS.iter().find_map(|(_, preset)| {
        let Value::Table(entries) = &preset.value else { return None };
        let is_vendor = ["base_url", "hosting"].iter().all(|key| text(entries, key).is_none());
        let named = text(entries, "dialect").is_some_and(|name| name == dialect.name());
        text(entries, PRICE_CATALOG.name).filter(|_| is_vendor && named)
    })
}

/// The settings of a provider's preset, with parameters filled in; without a preset, none. Reports an
/// unknown preset, and parameters that are missing or have no use.
pub(super) fn fields(reader: &mut Reader<'_>, provider: &Table<'_>) -> Vec<(String, Node)> {
    let preset = provider
        .get(&PRESET)
        .and_then(|node| reader.parsed(PRESET.name, node, (&expected(node), PRESET.format.parse)));
    let at = provider.location(&PRESET);
    let mut given = Vec::new();
    for parameter in &PARAMETERS {
        if let Some(value) = reader.field(provider, parameter) {
            given.push((parameter.name, value));
        }
    }
    let mut used = Vec::new();
    let Some(Node { value: Value::Table(entries), .. }) = preset else {
        unused(reader, provider, &used);
        return Vec::new();
    };
    let about = |name: &str| name == ENVIRONMENT || name == ALSO_CALLED;
    let settings = entries.iter().filter(|(key, _)| !about(&key.text));
    let fields =
        settings.map(|(key, node)| (key.text.clone(), filled(node, at, (&given, &mut used))));
    let fields = fields.collect();
    let missing = |key: &&Field<String>| used.contains(&key.name) && !provider.has(key);
    for Field { key, .. } in PARAMETERS.iter().filter(missing) {
        reader.report(at, format!("`{}` is missing; this preset needs it", key.name));
    }
    unused(reader, provider, &used);
    fields
}

/// The presets of which the environment has all variables: the name, and the variable of each key.
pub(super) fn in_environment(
    is_set: &dyn Fn(&str) -> bool,
) -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let of = |(name, node): &'static (Name, Node)| {
        let keys = member(node, ENVIRONMENT)?;
        let Value::Table(keys) = &keys.value else { return None };
        let variable = |(key, node): &'static (Name, Node)| {
            let variable = texts(node).into_iter().find(|name| is_set(name))?;
            Some((key.text.as_str(), variable))
        };
        Some((name.text.as_str(), keys.iter().map(variable).collect::<Option<_>>()?))
    };
    PRESETS.iter().filter_map(of).collect()
}

/// Whether a name is that of a preset.
pub fn is_preset(name: &str) -> bool {
    PRESETS.iter().any(|(known, _)| known.text == name)
}

/// The variable that usually holds the `api_key` of a preset's provider. `None`: its providers need none, or it is no
/// preset.
pub fn key_variable(preset: &str) -> Option<&'static str> {
    let (_, node) = PRESETS.iter().find(|(name, _)| name.text == preset)?;
    let Value::Table(keys) = &member(node, ENVIRONMENT)?.value else { return None };
    let (_, variables) = keys.iter().find(|(key, _)| key.text == "api_key")?;
    texts(variables).into_iter().next()
}

/// The addresses that presets have.
pub(super) fn addresses() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().filter_map(|(_, node)| member(node, "base_url")).flat_map(texts)
}

/// The preset that has another name.
fn also_called(text: &str) -> Option<&'static str> {
    let has = |node: &'static Node| {
        let names = member(node, ALSO_CALLED).map(texts).unwrap_or_default();
        names.iter().any(|name| name.eq_ignore_ascii_case(text))
    };
    let (name, _) = PRESETS.iter().find(|(_, node)| has(node))?;
    Some(&name.text)
}

/// Completes "expected ..." for a name that is no preset: those that it may mean, or all.
fn expected(node: &Node) -> String {
    let Value::Text(text) = &node.value else { return PRESET.format.scalar.expected() };
    let names = PRESETS.iter().map(|(name, _)| name.text.as_str());
    let meant: BTreeSet<&str> = nearest(text, names).into_iter().chain(also_called(text)).collect();
    match (meant.first(), meant.len()) {
        (None, _) => PRESET.format.scalar.expected(),
        (Some(name), 1) => format!("`{name}`"),
        _ => one_of(meant.into_iter()),
    }
}

fn member(node: &'static Node, name: &str) -> Option<&'static Node> {
    let Value::Table(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
}

/// A text, or the texts of a list.
fn texts(node: &'static Node) -> Vec<&'static str> {
    match &node.value {
        Value::Text(text) => vec![text],
        Value::List(items) => items.iter().flat_map(texts).collect(),
        Value::Null | Value::Table(_) | Value::Broken => Vec::new(),
    }
}

fn unused(reader: &mut Reader<'_>, provider: &Table<'_>, used: &[&str]) {
    for key in PARAMETERS.iter().filter(|key| !used.contains(&key.name)) {
        if let Some(node) = provider.get(key) {
            let name = key.name;
            let message = format!("`{name}` has no use here; expected a `preset` that needs it");
            reader.report(node.at, message);
        }
    }
}

/// A copy of a preset's node with its parameters filled in, at the location of the preset's name.
fn filled(
    node: &Node,
    at: Location,
    (given, used): (&[(&'static str, String)], &mut Vec<&'static str>),
) -> Node {
    let value = match &node.value {
        Value::Text(text) => {
            let mut text = text.clone();
            for name in PARAMETERS.map(|parameter| parameter.key.name) {
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
