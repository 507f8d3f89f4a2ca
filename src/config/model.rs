//! Models: the `models` section, with names that callers use, patterns of names, and their targets. It must never
//! choose among targets.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::affinity::{AFFINITY, STICKY};
use super::fallback::{FALLBACK, Fallback, fallback};
use super::field::{Field, Format, Key, Notation, Section};
use super::hedge::HEDGE;
use super::limits::{LIMITS, Limits, limits};
use super::mirror::{MIRROR, Mirror, mirror};
use super::price::{self, PRICE};
use super::provider::Providers;
use super::queue::QUEUE;
use super::reader::{Reader, Table, one_of, shown};
use super::retry::RETRY;
use super::routing::{self, ModelRouting, Pick};
use super::slow::SLOW;
use super::streams::{MODEL_STREAM, ModelStream, model_stream};
use super::tree::{Name, Node};
use super::units::{TEXT, TOKENS};
use super::{Continue, ModelPattern, Target, condition, continuation, pattern, settings};

const PROVIDER: Field<String> = TEXT.key("provider", "Name under `providers`.").required();
const MODEL: Field<String> = Format::new(
    "name of at most 256 visible ASCII characters",
    "visible characters",
    Notation::Name("[!-~]{1,256}"),
    |text| is_model(text).then(|| text.to_owned()),
)
.key(
    "model",
    "The model's name at the provider; a `*` stands for the name that the caller asks for.",
)
.required();
pub(super) const CONTEXT: Field<u64> = TOKENS
    .key(
        "context",
        "Tokens that the model takes; a prompt that is too long for one target is tried at those that take more.",
    )
    .otherwise("unknown")
    .example("32768");
/// The keys of a target.
pub(super) const TARGET_KEYS: &[Key] = &[
    PROVIDER.key,
    MODEL.key,
    CONTEXT.key,
    PRICE.key,
    settings::MAX_OUTPUT.otherwise("that of the provider").key,
    settings::DROP.otherwise("that of the provider; both together").key,
    settings::SET,
    settings::HOSTED_TOOLS.otherwise("that of the provider").key,
    routing::TIER.key,
    routing::WEIGHT.key,
    routing::FIRST_TOKEN.key,
    continuation::OF_TARGET.key,
    condition::WHEN.key,
];
const TARGETS: Section = Section::list(
    "targets",
    "Providers' models, tried in order until one answers; those that have just failed come last (docs/operations.md, When a provider fails).",
    TARGET_KEYS,
)
.required();

/// Models by the names that callers use.
pub(super) const MODELS: Section = Section::map(
    "models",
    "Models by the names that callers use: exact names, or patterns with `*` for all others. Callers may also ask for `provider/model`.",
    &[
        TARGETS.key,
        routing::PICK.key,
        AFFINITY.key,
        STICKY.key,
        routing::ATTEMPTS.key,
        RETRY.key,
        HEDGE.key,
        SLOW.key,
        QUEUE.key,
        MIRROR.key,
        FALLBACK.key,
        continuation::ON_BREAK.key,
        LIMITS.key,
        MODEL_STREAM.key,
    ],
    "[!-~]{1,256}",
);

/// The models, patterns of names included. One whose targets are wrong is there all the same, so that
/// references to it are not reported as well.
#[derive(Default)]
pub(super) struct Models<'n> {
    pub(super) targets: BTreeMap<&'n str, Vec<Target>>,
    /// Of those that have any.
    pub(super) limits: BTreeMap<String, Limits>,
    /// Of those that set any of it.
    pub(super) streams: BTreeMap<String, ModelStream>,
    /// Of those that set any of it.
    pub(super) routing: BTreeMap<String, ModelRouting>,
    /// Of those that have any.
    pub(super) fallbacks: BTreeMap<String, Arc<Fallback>>,
    /// Of those that mirror requests.
    pub(super) mirrors: BTreeMap<String, Arc<Mirror>>,
    /// Of those whose answers are continued.
    pub(super) on_break: BTreeMap<String, Arc<Continue>>,
}

impl Models<'_> {
    /// Whether a name has targets.
    pub(super) fn has(&self, name: &str) -> bool {
        self.targets.contains_key(name)
            || self.targets.keys().any(|known| is_pattern(known) && pattern::matches(known, name))
    }

    /// Those with a name, and the patterns with the most exact first.
    pub(super) fn into_parts(self) -> (BTreeMap<String, Arc<[Target]>>, Vec<ModelPattern>) {
        let (patterns, names): (Vec<_>, Vec<_>) =
            self.targets.into_iter().partition(|(name, _)| is_pattern(name));
        let names = names.into_iter().map(|(name, targets)| {
            let named = targets.iter().map(|target| target.named(name)).collect();
            (name.to_owned(), named)
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
    let Models {
        targets: mut models,
        limits: mut limited,
        mut streams,
        mut routing,
        mut fallbacks,
        mut mirrors,
        mut on_break,
    } = Models::default();
    let entries = reader.entries(root, &MODELS);
    check_patterns(reader, entries.iter().map(|(name, _)| *name), providers);
    for (name, node) in entries {
        if !is_model(&name.text) {
            reader.report(name.at, "a model's name is not usable; expected visible characters");
        }
        let targets = reader.table(&name.text, node, &MODELS).map(|table| {
            if table.has(&LIMITS) {
                limited.insert(name.text.clone(), limits(reader, &table, Limits::NONE));
            }
            if table.has(&MODEL_STREAM) {
                streams.insert(name.text.clone(), model_stream(reader, &table));
            }
            let choice = routing::routing(reader, &table);
            let pick = choice.pick;
            if choice != ModelRouting::default() {
                routing.insert(name.text.clone(), choice);
            }
            let policy = continuation::on_break(reader, &table);
            let items = reader.list(&table, &TARGETS);
            if !table.has(&TARGETS) || items.is_some_and(<[Node]>::is_empty) {
                let name = shown(&name.text);
                reader.report(
                    node.at,
                    format!(
                        "model {name} has no targets; expected `targets: [...]` with one or more"
                    ),
                );
            }
            let targets = targets(reader, items.unwrap_or_default(), pick, providers);
            routing::check_weights(reader, &table, &targets);
            if let Some(found) = fallback(reader, (&table, &targets), providers) {
                let found = if is_pattern(&name.text) { found } else { found.named(&name.text) };
                fallbacks.insert(name.text.clone(), Arc::new(found));
            }
            let copied = mirror(reader, (&table, &targets), providers);
            if let Some(copy) = copied {
                let copy = if is_pattern(&name.text) { copy } else { copy.named(&name.text) };
                mirrors.insert(name.text.clone(), Arc::new(copy));
            }
            continuation::check(reader, &table, policy.as_deref(), &targets);
            on_break.extend(policy.map(|policy| (name.text.clone(), policy)));
            targets
        });
        models.insert(name.text.as_str(), targets.unwrap_or_default());
    }
    Models { targets: models, limits: limited, streams, routing, fallbacks, mirrors, on_break }
}

/// Reads targets: those of the earliest tier first, each with every key of its provider.
pub(super) fn targets(
    reader: &mut Reader<'_>,
    items: &[Node],
    pick: Pick,
    providers: &Providers<'_>,
) -> Vec<Target> {
    let mut targets = Vec::new();
    for (place, item) in (1..).zip(items) {
        let own = if pick == Pick::Order { place } else { 1 };
        targets.extend(target(reader, (&TARGETS, item), (own, providers)).map(Target::keyed));
    }
    targets.sort_by_key(|keyed| keyed.first().map(|target| target.tier));
    targets.concat()
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

pub(super) fn target(
    reader: &mut Reader<'_>,
    (section, node): (&Section, &Node),
    (place, providers): (u32, &Providers<'_>),
) -> Option<Target> {
    let table = reader.table(section.name, node, section)?;
    reader.require(&table, &PROVIDER, "a name under `providers`");
    reader.require(&table, &MODEL, "the model's name at the provider");
    let expected = match providers.len() {
        0 => "a name under `providers`, where there is none".to_owned(),
        _ => one_of(providers.keys().copied()),
    };
    let known = |name: &str| providers.get(name).cloned();
    let provider = table
        .get(&PROVIDER)
        .and_then(|node| reader.parsed(PROVIDER.name, node, (expected.as_str(), known)));
    let model = reader.field(&table, &MODEL);
    if model.as_ref().is_some_and(|name| name.matches('*').count() > 1) {
        let message = "`model` has more than one `*`; expected one, for the name that is asked for";
        reader.report(table.location(&MODEL), message);
    }
    let context = reader.field(&table, &CONTEXT);
    let price = price::price(reader, &table);
    let tier = reader.field(&table, &routing::TIER).map_or(place, NonZeroU32::get);
    let weight = reader.value(&table, &routing::WEIGHT);
    let first_token = reader.field(&table, &routing::FIRST_TOKEN);
    let stated_continuation = reader.field(&table, &continuation::OF_TARGET);
    let when = condition::when(reader, &table);
    let provider = provider.flatten();
    let quirks = provider.as_ref().map(|provider| &provider.quirks);
    let quirks = settings::of_target(reader, &table, quirks);
    let (provider, quirks) = (provider?, quirks?);
    if let (Some(room), Some(most)) = (context, quirks.settings.max_output)
        && most > room
    {
        let key = if table.has(&settings::MAX_OUTPUT) { &settings::MAX_OUTPUT } else { &CONTEXT };
        let message = format!(
            "`max_output` of {most} does not fit into the `context` of {room}; expected a smaller `max_output` or a larger `context`"
        );
        reader.report(table.location(key), message);
    }
    let target = Target::new(provider, model?);
    let price = price.or_else(|| target.list_price());
    Some(Target {
        context,
        price,
        quirks,
        tier,
        weight,
        first_token,
        stated_continuation,
        when,
        ..target
    })
}

/// Whether a name may be a model's: 1 to 256 visible ASCII characters, no segment `..`. Model names
/// appear in URLs, response headers, records and spans.
pub fn is_model(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && name.split('/').all(|segment| segment != "..")
}
