//! Models: the names that callers use, patterns of names, and the targets behind them.

use std::collections::BTreeMap;

use super::limits::{Limits, limits};
use super::provider::Providers;
use super::raw::{Reader, Table, one_of, shown};
use super::tree::{Name, Node};
use super::{ModelPattern, Target, pattern, settings, units};

/// The models, patterns of names included. One whose targets are wrong is there all the same, so that
/// who refers to it is not told that it does not exist.
#[derive(Default)]
pub(super) struct Models<'n> {
    pub(super) targets: BTreeMap<&'n str, Vec<Target>>,
    /// Of those that have any.
    pub(super) limits: BTreeMap<String, Limits>,
}

impl Models<'_> {
    /// Whether a name leads somewhere.
    pub(super) fn has(&self, name: &str) -> bool {
        self.targets.contains_key(name)
            || self.targets.keys().any(|known| is_pattern(known) && pattern::matches(known, name))
    }

    /// Those with a name, and the patterns with the most exact first.
    pub(super) fn into_parts(self) -> (BTreeMap<String, Vec<Target>>, Vec<ModelPattern>) {
        let (patterns, names): (Vec<_>, Vec<_>) =
            self.targets.into_iter().partition(|(name, _)| is_pattern(name));
        let names = names.into_iter().map(|(name, mut targets)| {
            for target in &mut targets {
                target.model = target.model.replacen('*', name, 1);
            }
            (name.to_owned(), targets)
        });
        let names = names.collect();
        let pattern = |(pattern, targets): (&str, Vec<Target>)| ModelPattern {
            pattern: pattern.to_owned(),
            targets,
        };
        let mut patterns: Vec<_> = patterns.into_iter().map(pattern).collect();
        patterns.sort_by_key(|model| pattern::precedence(&model.pattern));
        (names, patterns)
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// Reads the section.
pub(super) fn models<'n>(
    reader: &mut Reader<'_>,
    root: &Table<'n>,
    providers: &Providers<'_>,
) -> Models<'n> {
    let Models { targets: mut models, limits: mut limited } = Models::default();
    let entries = reader.entries(root, "models");
    check_patterns(reader, entries.iter().map(|(name, _)| *name), providers);
    for (name, node) in entries {
        if !is_model(&name.text) {
            reader.report(name.at, "a model's name is not usable; expected visible characters");
        }
        let targets = reader.table(&name.text, node, &["targets", "limits"]).map(|table| {
            if table.get("limits").is_some() {
                limited.insert(name.text.clone(), limits(reader, &table, Limits::NONE));
            }
            let items = reader.list(&table, "targets");
            if table.get("targets").is_none() || items.is_some_and(<[Node]>::is_empty) {
                let name = shown(&name.text);
                reader.report(
                    node.at,
                    format!(
                        "model {name} has no targets; expected `targets: [...]` with one or more"
                    ),
                );
            }
            let items = items.unwrap_or_default().iter();
            items.filter_map(|item| target(reader, item, providers)).collect()
        });
        models.insert(name.text.as_str(), targets.unwrap_or_default());
    }
    Models { targets: models, limits: limited }
}

/// Reports patterns that match nothing, and pairs of which neither is more exact than the other.
fn check_patterns<'n>(
    reader: &mut Reader<'_>,
    names: impl Iterator<Item = &'n Name>,
    providers: &Providers<'_>,
) {
    let mut before: Vec<&Name> = Vec::new();
    for name in names.filter(|name| is_pattern(&name.text)) {
        let pattern = name.text.as_str();
        if pattern.contains("**") {
            reader.report(name.at, format!("{} has `**`; expected a single `*`", shown(pattern)));
        }
        let head = pattern.split('*').next().and_then(|head| head.split_once('/'));
        if let Some((provider, _)) = head.filter(|(head, _)| providers.contains_key(head)) {
            reader.report(
                name.at,
                format!(
                    "{} can never match: names that begin with `{provider}/` are models of the provider of that name; expected another pattern",
                    shown(pattern)
                ),
            );
        }
        let alike = |other: &&&Name| {
            let other = other.text.as_str();
            other != pattern
                && pattern::precedence(other) == pattern::precedence(pattern)
                && pattern::overlap(other, pattern)
        };
        if let Some(other) = before.iter().find(alike) {
            let (shown, other_shown) = (shown(pattern), shown(&other.text));
            reader.report(
                name.at,
                format!(
                    "{shown} matches names that {other_shown} on line {} matches too, and neither is more exact; expected one with more characters before its `*`",
                    other.at.line
                ),
            );
        }
        before.push(name);
    }
}

fn target(reader: &mut Reader<'_>, node: &Node, providers: &Providers<'_>) -> Option<Target> {
    let known = [&["provider", "model", "context"][..], &settings::OF_TARGET].concat();
    let table = reader.table("targets", node, &known)?;
    reader.require(&table, "provider", "a name under `providers`");
    reader.require(&table, "model", "the model's name at the provider");
    let expected = match providers.len() {
        0 => "a name under `providers`, where there is none".to_owned(),
        _ => one_of(providers.keys().copied()),
    };
    let provider = reader.field(
        &table,
        "provider",
        (expected.as_str(), |name: &str| providers.get(name).cloned()),
    );
    let visible = ("visible characters", |name: &str| is_model(name).then(|| name.to_owned()));
    let model = reader.field(&table, "model", visible);
    if let (Some(node), Some(name)) = (table.get("model"), &model)
        && name.matches('*').count() > 1
    {
        let message = "`model` has more than one `*`; expected one, for the name that is asked for";
        reader.report(node.at, message);
    }
    let context = reader.field(&table, "context", ("a number of tokens above zero", units::count));
    let provider = provider??;
    let quirks = settings::of_target(reader, &table, &provider.quirks);
    if let (Some(room), Some(most), Some(node)) =
        (context, quirks.settings.max_output, table.get("context"))
        && most > room
    {
        let message = format!(
            "`max_output` of {most} does not fit into the `context` of {room}; expected a smaller `max_output` or a larger `context`"
        );
        reader.report(table.get("max_output").unwrap_or(node).at, message);
    }
    Some(Target { context, quirks, ..Target::new(provider, model?) })
}

/// Whether a name may be a model's: 1 to 256 visible ASCII characters, no segment `..`. Model names
/// appear in URLs, response headers, records and spans.
pub fn is_model(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && name.split('/').all(|segment| segment != "..")
}
