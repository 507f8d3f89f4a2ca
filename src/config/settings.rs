//! Settings for the requests that go to a provider or a target: what is left out, set, bounded or refused.
//! Pure: nodes in, values out.

use std::sync::Arc;

use serde_json::Value as Json;

use super::raw::{Reader, Table, one_of};
use super::tree::{Node, Value};
use super::{preset, units};
use crate::wire::adapt::settings::{HostedTools, Instructions, Settings};
use crate::wire::dialect::{Hosting, Quirks};

/// The fields of a provider.
pub(super) const OF_PROVIDER: [&str; 9] = [
    "system_messages",
    "max_output",
    "drop",
    "set",
    "hosted_tools",
    "prompt_cache",
    "strict",
    "betas",
    "keep_alive",
];

/// The fields of a target.
pub(super) const OF_TARGET: [&str; 4] = ["max_output", "drop", "set", "hosted_tools"];

/// Members of bodies that declare hosted tools, in one dialect or another.
const DECLARING: [&str; 3] = ["tools", "web_search_options", "mcp_servers"];

/// Where an operator can say that instructions are taken.
const PLACES: [&str; 2] = ["anywhere", "first"];

/// What a member of a body is called.
const MEMBER: &str = "the name of a member, such as `temperature` or `output_config.effort`";

/// Reads those of a provider.
pub(super) fn of_provider(reader: &mut Reader<'_>, table: &Table<'_>) -> Settings {
    let places = one_of(PLACES.into_iter());
    let place = |text: &str| Instructions::by_name(text).filter(|_| PLACES.contains(&text));
    let cached = |text: &str| match text {
        "auto" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    let kept = |text: &str| match text {
        "callers" => Some(true),
        "server" => Some(false),
        _ => None,
    };
    let default = Settings::default();
    check_betas(reader, table);
    Settings {
        keep_alive: reader
            .field(table, "keep_alive", ("`callers` or `server`", kept))
            .unwrap_or(default.keep_alive),
        instructions: reader.field(table, "system_messages", (places.as_str(), place)),
        prompt_cache: reader
            .field(table, "prompt_cache", ("`auto` or `off`", cached))
            .unwrap_or(default.prompt_cache),
        strict: reader
            .field(table, "strict", ("`true` or `false`", units::boolean))
            .unwrap_or(default.strict),
        betas: texts(reader, table, "betas", "the name of a beta feature"),
        ..both(reader, table)
    }
}

/// The quirks of a provider with those of a target over them.
pub(super) fn of_target(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    quirks: &Arc<Quirks>,
) -> Arc<Quirks> {
    if OF_TARGET.iter().all(|name| table.get(name).is_none()) {
        return Arc::clone(quirks);
    }
    let own = both(reader, table);
    let mut quirks = Quirks::clone(quirks);
    let settings = &mut quirks.settings;
    settings.max_output = own.max_output.or(settings.max_output);
    settings.drop.retain(|name| own.set.iter().all(|(set, _)| set != name));
    settings.set.retain(|(name, _)| !own.drop.contains(name));
    settings.set.retain(|(name, _)| own.set.iter().all(|(set, _)| set != name));
    settings.drop.extend(own.drop);
    settings.set.extend(own.set);
    if table.get("hosted_tools").is_some() {
        settings.hosted_tools = own.hosted_tools;
    }
    Arc::new(quirks)
}

/// What a provider and a target may both say.
fn both(reader: &mut Reader<'_>, table: &Table<'_>) -> Settings {
    let count = |text: &str| text.parse().ok().filter(|count| *count > 0);
    let set: Vec<(String, String)> = reader
        .entries(table, "set")
        .into_iter()
        .filter_map(|(name, node)| {
            if !is_member(&name.text) {
                reader.report(name.at, format!("a name in `set` is not usable; expected {MEMBER}"));
            }
            Some((name.text.clone(), json(reader, &name.text, node)?.to_string()))
        })
        .collect();
    let drop = texts(reader, table, "drop", MEMBER).unwrap_or_default();
    check_members(reader, table, &drop);
    Settings {
        hosted_tools: hosted_tools(reader, table, &drop),
        max_output: reader.field(table, "max_output", ("a number of tokens above zero", count)),
        drop,
        set,
        ..Settings::default()
    }
}

/// Reports members that are the gateway's or without which nothing is asked, and those that contradict each other.
fn check_members(reader: &mut Reader<'_>, table: &Table<'_>, drop: &[String]) {
    let items = reader.list(table, "drop").unwrap_or_default();
    for item in items {
        let Value::Text(_) = &item.value else { continue };
        let Some(name) = reader.text("drop", item) else { continue };
        if let Some(why) = reserved(&name) {
            reader.report(item.at, format!("`{name}` cannot be in `drop`: {why}"));
        }
    }
    let mut before: Vec<&str> = Vec::new();
    for (name, _) in reader.entries(table, "set") {
        let text = name.text.as_str();
        if let Some(why) = reserved(text) {
            reader.report(name.at, format!("`{text}` cannot be in `set`: {why}"));
        }
        if let Some(dropped) = drop.iter().find(|dropped| overlaps(dropped, text)) {
            let message = if dropped == text {
                format!("`{text}` is in `drop` and in `set`; expected it in one of them")
            } else {
                format!("`{text}` is in `set`, and `{dropped}` in `drop`; expected one of them")
            };
            reader.report(name.at, message);
        }
        if let Some(other) = before.iter().find(|other| overlaps(other, text)) {
            reader.report(
                name.at,
                format!("`set` has `{text}` and `{other}`, of which one is a part of the other; expected one of them"),
            );
        }
        before.push(text);
    }
}

/// Reports a member that holds beta features in `drop` or `set` where `betas` says which of them are passed on.
fn check_betas(reader: &mut Reader<'_>, table: &Table<'_>) {
    if table.get("betas").is_none() {
        return;
    }
    let dropped = reader.list(table, "drop").unwrap_or_default();
    let dropped: Vec<_> = dropped
        .iter()
        .filter(|item| matches!(&item.value, Value::Text(_)))
        .filter_map(|item| Some((reader.text("drop", item)?, item.at, "drop")))
        .collect();
    let set = reader.entries(table, "set");
    let set = set.into_iter().map(|(name, _)| (name.text.clone(), name.at, "set"));
    for (name, at, list) in dropped.into_iter().chain(set) {
        if matches!(name.as_str(), "anthropic_beta" | "anthropic-beta" | "betas") {
            let message = format!(
                "`{name}` is in `{list}`, and `betas` says which features are passed on; expected one of them"
            );
            reader.report(at, message);
        }
    }
}

/// Why a member of a request is not for `drop` and `set`, if it is not.
fn reserved(name: &str) -> Option<&'static str> {
    match name {
        "model" => {
            Some("it is the target's; expected another name, or another `model` at the target")
        }
        "stream" => Some("it is the caller's, and answers are read by it; expected another name"),
        "messages" | "contents" | "input" | "prompt" => {
            Some("nothing is asked without it, or instead of it; expected another name")
        }
        _ => None,
    }
}

/// Whether two members are the same, or one is a part of the other.
fn overlaps(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What happens to hosted tools. To map or to reject what is dropped anyway is a contradiction.
fn hosted_tools(reader: &mut Reader<'_>, table: &Table<'_>, drop: &[String]) -> HostedTools {
    let words = one_of(HostedTools::ALL.iter().map(|(name, _)| *name));
    let stated = reader.field(table, "hosted_tools", (words.as_str(), HostedTools::by_name));
    let dropped = drop.iter().find(|name| DECLARING.contains(&name.as_str()));
    let kept = stated.filter(|setting| *setting != HostedTools::Drop);
    if let (Some(_), Some(name)) = (kept, dropped) {
        let message = format!(
            "`drop` removes `{name}`, which `hosted_tools` does not; expected `hosted_tools: drop`, or `drop` without it"
        );
        reader.report(table.at, message);
    }
    stated.unwrap_or_default()
}

fn texts(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &str,
    expected: &str,
) -> Option<Vec<String>> {
    let items = reader.list(table, key)?;
    let name = |text: &str| is_member(text).then(|| text.to_owned());
    Some(items.iter().filter_map(|item| reader.parsed(key, item, (expected, name))).collect())
}

/// Names without a gap between dots.
fn is_member(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|step| !step.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A value as JSON. What reads as a number, `true` or `false` is one.
fn json(reader: &mut Reader<'_>, name: &str, node: &Node) -> Option<Json> {
    Some(match &node.value {
        Value::Null => Json::Null,
        Value::Text(_) => {
            let text = reader.text(name, node)?;
            let parsed = serde_json::from_str(&text).ok();
            let plain = parsed.filter(|json: &Json| json.is_number() || json.is_boolean());
            plain.unwrap_or(Json::String(text))
        }
        Value::List(items) => {
            items.iter().map(|item| json(reader, name, item)).collect::<Option<Vec<_>>>()?.into()
        }
        Value::Table(entries) => {
            let entry = |(name, node): &(super::tree::Name, Node)| {
                Some((name.text.clone(), json(reader, &name.text, node)?))
            };
            Json::Object(entries.iter().map(entry).collect::<Option<_>>()?)
        }
        Value::Broken => return None,
    })
}

/// The beta features that a platform takes: those of the preset for it.
pub(super) fn betas(hosting: Hosting) -> Option<Vec<String>> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    preset::all().into_iter().find_map(|(_, preset)| {
        let Value::Table(fields) = preset.value else { return None };
        let field =
            |name: &str| fields.iter().find(|(key, _)| key.text == name).map(|(_, node)| node);
        field("hosting").and_then(text).filter(|host| host == hosting.name())?;
        match &field("betas")?.value {
            Value::List(items) => Some(items.iter().filter_map(text).collect()),
            _ => None,
        }
    })
}
