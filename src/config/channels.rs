//! The `channels` section: limits of subscribers and events, and the history of channels by patterns of their names.
//! Data only.

use std::num::NonZeroU32;
use std::time::Duration;

use super::field::{Field, Format, Section};
use super::pattern;
use super::reader::{Reader, Table, shown};
use super::units::{
    BOOLEAN, COUNT, COUNT_OR_NONE, POSITIVE_DURATION, POSITIVE_DURATION_OR_NONE, SIZE, size,
};
use crate::channels::ChannelPattern;

const CONNECTIONS: Field<Option<NonZeroU32>> = COUNT_OR_NONE
    .key("connections", "The most subscribers at once, of all users together.")
    .default("20000");
const CONNECTIONS_PER_USER: Field<Option<NonZeroU32>> = COUNT_OR_NONE
    .key("connections_per_user", "The most subscribers at once of one user.")
    .default("100");
/// Shorter than the limit that most proxies set to a response.
const LIFETIME: Field<Option<Duration>> = POSITIVE_DURATION_OR_NONE
    .key(
        "lifetime",
        "The longest that a subscriber stays connected; each ends after 80 to 100 % of it, and its client reconnects.",
    )
    .default("10m");
const MAX_EVENT: Field<usize> =
    SIZE.key("max_event", "The largest event that may be published, framed.").default("1MiB");
const MAX_CHANNELS: Field<NonZeroU32> = COUNT
    .key(
        "max_channels",
        "The most channels; the one that has been unused for longest gives way to a new one.",
    )
    .default("100000");
const MEMORY: Field<usize> = Format::new(
    "size of at least 1 MiB",
    "a size such as `64MiB` or `1GiB`, 1 MiB at least",
    SIZE.scalar.notation,
    |text| size(text).filter(|size| *size >= 1 << 20),
)
.key(
    "memory",
    "Memory that the history of all channels may use; beyond it, the oldest events are forgotten early.",
)
.default("256MiB");

const MERCURE: Field<bool> = BOOLEAN
    .key(
        "mercure",
        "Whether clients of the Mercure protocol are served at `/.well-known/mercure`, and the Mercure claims of tokens \
         grant channels (docs/mercure.md).",
    )
    .default("false");

const GRAPHQL: Field<bool> = BOOLEAN
    .key(
        "graphql",
        "Whether GraphQL subscriptions to channels and durable streams are served at `/v1/graphql` (docs/graphql.md).",
    )
    .default("false");

const EVENTS: Field<NonZeroU32> = COUNT
    .key(
        "events",
        "The most events that a channel keeps. A subscriber that falls further behind gets `event: reset`.",
    )
    .default("1000");
const BYTES: Field<usize> =
    SIZE.key("bytes", "The most bytes of events that a channel keeps.").default("8MiB");
const AGE: Field<Duration> =
    POSITIVE_DURATION.key("age", "Time for which a channel keeps an event.").default("1h");
const LAST_VALUE: Field<bool> = BOOLEAN
    .key("last_value", "Whether a new subscriber gets the last event at once.")
    .default("false");
const PRESENCE: Field<bool> = BOOLEAN
    .key(
        "presence",
        "Whether the channel lists its subscribers, and announces them by `presence.join` and `presence.leave`.",
    )
    .default("false");

const PATTERNS: Section = Section::map(
    "patterns",
    "Channels by name, or by patterns with `*`: the most exact one that matches a channel holds. Without one, the \
     defaults of these keys hold.",
    &[EVENTS.key, BYTES.key, AGE.key, LAST_VALUE.key, PRESENCE.key],
    "[\\s\\S]{1,512}",
)
.or_null();

pub(super) const CHANNELS: Section = Section::table(
    "channels",
    "Channels: events that applications publish to their users (docs/channels.md).",
    &[
        CONNECTIONS.key,
        CONNECTIONS_PER_USER.key,
        LIFETIME.key,
        MAX_EVENT.key,
        MAX_CHANNELS.key,
        MEMORY.key,
        MERCURE.key,
        GRAPHQL.key,
        PATTERNS.key,
    ],
);

/// Limits of subscribers and events, and the history of channels.
#[derive(Debug, Clone)]
pub struct Channels {
    /// The most subscribers at once. `None`: no limit.
    pub connections: Option<NonZeroU32>,
    /// The most subscribers at once of one user. `None`: no limit.
    pub connections_per_user: Option<NonZeroU32>,
    /// The longest that a subscriber stays connected. `None`: no limit.
    pub lifetime: Option<Duration>,
    /// The most bytes of an event.
    pub max_event: usize,
    /// The most channels.
    pub max_channels: usize,
    /// The most bytes of the history of all channels.
    pub memory: usize,
    /// Whether the Mercure protocol is served.
    pub mercure: bool,
    /// Whether GraphQL is served.
    pub graphql: bool,
    /// Settings by pattern, the most exact first.
    pub patterns: Vec<(ChannelPattern, ChannelSettings)>,
}

/// The settings of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelSettings {
    /// The most events that it keeps.
    pub events: usize,
    /// The most bytes that it keeps.
    pub bytes: usize,
    /// The time for which it keeps an event.
    pub age: Duration,
    /// Whether a new subscriber gets the last event.
    pub last_value: bool,
    /// Whether it lists and announces its subscribers.
    pub presence: bool,
}

impl Channels {
    /// The settings of the channel of a name.
    pub fn settings(&self, name: &str) -> ChannelSettings {
        let found = self.patterns.iter().find(|(pattern, _)| pattern.matches(name));
        found.map_or_else(ChannelSettings::default, |(_, settings)| *settings)
    }
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS.default_value(),
            connections_per_user: CONNECTIONS_PER_USER.default_value(),
            lifetime: LIFETIME.default_value(),
            max_event: MAX_EVENT.default_value(),
            max_channels: count(MAX_CHANNELS.default_value()),
            memory: MEMORY.default_value(),
            mercure: MERCURE.default_value(),
            graphql: GRAPHQL.default_value(),
            patterns: Vec::new(),
        }
    }
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            events: count(EVENTS.default_value()),
            bytes: BYTES.default_value(),
            age: AGE.default_value(),
            last_value: LAST_VALUE.default_value(),
            presence: PRESENCE.default_value(),
        }
    }
}

fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

/// Reads the section.
pub(super) fn channels(reader: &mut Reader<'_>, root: &Table<'_>) -> Channels {
    let table = reader.section(root, &CHANNELS);
    Channels {
        connections: reader.value(&table, &CONNECTIONS),
        connections_per_user: reader.value(&table, &CONNECTIONS_PER_USER),
        lifetime: reader.value(&table, &LIFETIME),
        max_event: reader.value(&table, &MAX_EVENT),
        max_channels: count(reader.value(&table, &MAX_CHANNELS)),
        memory: reader.value(&table, &MEMORY),
        mercure: reader.value(&table, &MERCURE),
        graphql: reader.value(&table, &GRAPHQL),
        patterns: patterns(reader, &table),
    }
}

fn patterns(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<(ChannelPattern, ChannelSettings)> {
    let mut found = Vec::new();
    for (name, node) in reader.entries(table, &PATTERNS) {
        let pattern = name.text.parse::<ChannelPattern>();
        if let Err(error) = &pattern {
            reader.report(name.at, format!("{} {error}", shown(&name.text)));
        }
        let settings = settings(reader, &name.text, node);
        found.extend(pattern.ok().zip(settings).map(|setting| (name.text.as_str(), setting)));
    }
    found.sort_by_key(|(text, _)| pattern::precedence(text));
    found.into_iter().map(|(_, setting)| setting).collect()
}

fn settings(
    reader: &mut Reader<'_>,
    name: &str,
    node: &super::tree::Node,
) -> Option<ChannelSettings> {
    if matches!(node.value, super::tree::Value::Null) {
        return Some(ChannelSettings::default());
    }
    let table = reader.table(name, node, &PATTERNS)?;
    Some(ChannelSettings {
        events: count(reader.value(&table, &EVENTS)),
        bytes: reader.value(&table, &BYTES),
        age: reader.value(&table, &AGE),
        last_value: reader.value(&table, &LAST_VALUE),
        presence: reader.value(&table, &PRESENCE),
    })
}
