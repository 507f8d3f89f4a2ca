//! Request settings of a provider or a target: members of bodies that are left out, set, limited or rejected.
//! Pure: nodes in, values out.

use std::sync::Arc;

use serde_json::Value as Json;

use super::field::{Field, Format, Key, Notation};
use super::preset;
use super::reader::{Reader, Table};
use super::tree::{Name, Node, Value};
use super::units::{BOOLEAN, TOKENS};
use crate::wire::adapt::settings::{HostedTools, Instructions, Settings};
use crate::wire::dialect::{Hosting, Quirks};

/// Members of bodies that declare hosted tools, in one dialect or another.
const DECLARING: [&str; 3] = ["tools", "web_search_options", "mcp_servers"];

/// The places of instructions that an operator can choose.
const PLACES: [&str; 2] = ["anywhere", "first"];

/// Names joined by dots.
const MEMBER_PATTERN: &str = "[!-\\-/-~]+(\\.[!-\\-/-~]+)*";

const MEMBER: Format<String> = Format::new(
    "name of a member",
    "the name of a member, such as `temperature` or `output_config.effort`",
    Notation::Name(MEMBER_PATTERN),
    member,
);

pub(super) const SYSTEM_MESSAGES: Field<Instructions> = Format::choice(
    || PLACES.to_vec(),
    |text| Instructions::by_name(text).filter(|_| PLACES.contains(&text)),
)
.key(
    "system_messages",
    "Where the upstream takes system messages: `anywhere`, or only as the `first` message, as some chat templates demand.",
)
.otherwise("as the dialect takes them");
pub(super) const MAX_OUTPUT: Field<u64> = TOKENS
    .key(
        "max_output",
        "The most tokens of output: it bounds what callers ask, and is sent where they ask nothing.",
    )
    .otherwise("no limit of the gateway's own")
    .example("16384");
pub(super) const DROP: Field<String> = MEMBER
    .list("drop", "Members of the request body that are left out.")
    .otherwise("none")
    .example("[user, output_config.effort]");
pub(super) const SET: Key = Key::json_map(
    "set",
    "Members of the request body that are set, whatever the caller sends.",
    MEMBER_PATTERN,
)
.example("{ service_tier: flex }");
pub(super) const HOSTED_TOOLS: Field<HostedTools> = Format::choice(
    || HostedTools::ALL.iter().map(|(name, _)| *name).collect(),
    HostedTools::by_name,
)
.key(
    "hosted_tools",
    "Tools that the caller's vendor would run itself: `map` them to the upstream's own, `drop` them, or `refuse` the request (400).",
)
.default("map");
pub(super) const PROMPT_CACHE: Field<bool> = Format::choice(
    || vec!["auto", "off"],
    |text| match text {
        "auto" => Some(true),
        "off" => Some(false),
        _ => None,
    },
)
.key(
    "prompt_cache",
    "Whether prompts of callers whose vendor caches by itself are marked for caching.",
)
.default("auto");
pub(super) const STRICT: Field<bool> = BOOLEAN
    .key(
        "strict",
        "Whether a request is rejected (400) when a hint of it would have to be left out.",
    )
    .default("false");
pub(super) const BETAS: Field<String> = Format::new(
    "name of a beta feature",
    "the name of a beta feature",
    Notation::Name(MEMBER_PATTERN),
    member,
)
.list("betas", "The only values of `anthropic-beta` that are passed on.")
.otherwise("all; those of the platform with `hosting`")
.example("[context-1m-2025-08-07]");
pub(super) const KEEP_ALIVE: Field<bool> = Format::choice(
    || vec!["server", "callers"],
    |text| match text {
        "callers" => Some(true),
        "server" => Some(false),
        _ => None,
    },
)
.key(
    "keep_alive",
    "Who decides how long Ollama keeps a model loaded; `callers` passes their `keep_alive` on.",
)
.default("server");

/// The keys that a target may override.
const OF_TARGET: [Key; 4] = [MAX_OUTPUT.key, DROP.key, SET, HOSTED_TOOLS.key];

/// Reads the settings of a provider.
pub(super) fn of_provider(reader: &mut Reader<'_>, table: &Table<'_>) -> Settings {
    check_betas(reader, table);
    Settings {
        keep_alive: reader.value(table, &KEEP_ALIVE),
        instructions: reader.field(table, &SYSTEM_MESSAGES),
        prompt_cache: reader.value(table, &PROMPT_CACHE),
        strict: reader.value(table, &STRICT),
        betas: reader.values(table, &BETAS),
        ..of_both(reader, table)
    }
}

/// Reads the settings of a target, and returns the quirks of its provider overridden by them. `None`: the provider is not
/// known, and the settings are only checked.
pub(super) fn of_target(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    provider: Option<&Arc<Quirks>>,
) -> Option<Arc<Quirks>> {
    let own = of_both(reader, table);
    let provider = provider?;
    if OF_TARGET.iter().all(|key| !table.has(key)) {
        return Some(Arc::clone(provider));
    }
    let mut quirks = Quirks::clone(provider);
    let settings = &mut quirks.settings;
    settings.max_output = own.max_output.or(settings.max_output);
    settings.drop.retain(|name| own.set.iter().all(|(set, _)| set != name));
    settings.set.retain(|(name, _)| !own.drop.contains(name));
    settings.set.retain(|(name, _)| own.set.iter().all(|(set, _)| set != name));
    settings.drop.extend(own.drop);
    settings.set.extend(own.set);
    if table.has(&HOSTED_TOOLS) {
        settings.hosted_tools = own.hosted_tools;
    }
    Some(Arc::new(quirks))
}

/// Reads the settings that a provider and a target have in common.
fn of_both(reader: &mut Reader<'_>, table: &Table<'_>) -> Settings {
    let set: Vec<(String, String)> = reader
        .entries(table, &SET)
        .into_iter()
        .filter_map(|(name, node)| {
            if member(&name.text).is_none() {
                let expected = MEMBER.scalar.expected();
                let message = format!("a name in `set` is not usable; expected {expected}");
                reader.report(name.at, message);
            }
            Some((name.text.clone(), json(reader, &name.text, node)?.to_string()))
        })
        .collect();
    let drop = reader.values(table, &DROP).unwrap_or_default();
    check_members(reader, table, &drop);
    Settings {
        hosted_tools: hosted_tools(reader, table, &drop),
        max_output: reader.field(table, &MAX_OUTPUT),
        drop,
        set,
        ..Settings::default()
    }
}

/// Reports members of `drop` and `set` that the gateway needs, and those that contradict each other.
fn check_members(reader: &mut Reader<'_>, table: &Table<'_>, drop: &[String]) {
    let items = reader.list(table, &DROP).unwrap_or_default();
    for item in items {
        let Value::Text(_) = &item.value else { continue };
        let Some(name) = reader.text(DROP.name, item) else { continue };
        if let Some(why) = reserved(&name) {
            reader.report(item.at, format!("`{name}` cannot be in `drop`: {why}"));
        }
    }
    let mut before: Vec<&str> = Vec::new();
    for (name, _) in reader.entries(table, &SET) {
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

/// Reports a member with beta features in `drop` or `set` beside `betas`.
fn check_betas(reader: &mut Reader<'_>, table: &Table<'_>) {
    if !table.has(&BETAS) {
        return;
    }
    let dropped = reader.list(table, &DROP).unwrap_or_default();
    let dropped: Vec<_> = dropped
        .iter()
        .filter(|item| matches!(&item.value, Value::Text(_)))
        .filter_map(|item| Some((reader.text(DROP.name, item)?, item.at, DROP.name)))
        .collect();
    let set = reader.entries(table, &SET);
    let set = set.into_iter().map(|(name, _)| (name.text.clone(), name.at, SET.name));
    for (name, at, list) in dropped.into_iter().chain(set) {
        if matches!(name.as_str(), "anthropic_beta" | "anthropic-beta" | "betas") {
            let message = format!(
                "`{name}` is in `{list}`, and `betas` says which features are passed on; expected one of them"
            );
            reader.report(at, message);
        }
    }
}

/// The reason why a member of a request cannot be in `drop` and `set`.
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

/// Reads `hosted_tools`. It is a contradiction to map or to reject members that `drop` removes.
fn hosted_tools(reader: &mut Reader<'_>, table: &Table<'_>, drop: &[String]) -> HostedTools {
    let stated = reader.field(table, &HOSTED_TOOLS);
    let dropped = drop.iter().find(|name| DECLARING.contains(&name.as_str()));
    let kept = stated.filter(|setting| *setting != HostedTools::Drop);
    if let (Some(_), Some(name)) = (kept, dropped) {
        let message = format!(
            "`drop` removes `{name}`, which `hosted_tools` does not; expected `hosted_tools: drop`, or `drop` without it"
        );
        reader.report(table.at, message);
    }
    stated.unwrap_or_else(|| HOSTED_TOOLS.default_value())
}

/// Reads names without a gap between dots.
fn member(text: &str) -> Option<String> {
    let is_member = !text.is_empty()
        && text.split('.').all(|step| !step.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_member.then(|| text.to_owned())
}

/// Reads a value as JSON. A text that is a number, `true` or `false` in JSON becomes that.
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
            let entry = |(name, node): &(Name, Node)| {
                Some((name.text.clone(), json(reader, &name.text, node)?))
            };
            Json::Object(entries.iter().map(entry).collect::<Option<_>>()?)
        }
        Value::Broken => return None,
    })
}

/// The beta features that a platform takes: those of its preset.
pub(super) fn betas(hosting: Hosting) -> Option<Vec<String>> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    preset::PRESETS.iter().find_map(|(_, preset)| {
        let Value::Table(fields) = &preset.value else { return None };
        let field =
            |name: &str| fields.iter().find(|(key, _)| key.text == name).map(|(_, node)| node);
        field("hosting").and_then(text).filter(|host| host == hosting.name())?;
        match &field("betas")?.value {
            Value::List(items) => Some(items.iter().filter_map(text).collect()),
            _ => None,
        }
    })
}
