//! Affinity of a model's requests: the sections `affinity` and `sticky`. Data only. It must never read a request.

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::tree::{Node, Value};
use super::units::NONE;
use crate::wire::session_key::SessionKey;

/// The parts of a request by which it belongs to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSource {
    /// The headers that name a session.
    Header,
    /// A part of the body.
    Body(SessionKey),
    /// The caller.
    Caller,
}

const SOURCES: [(&str, SessionSource); 5] = [
    ("header", SessionSource::Header),
    ("conversation", SessionSource::Body(SessionKey::Conversation)),
    ("user", SessionSource::Body(SessionKey::User)),
    ("prefix", SessionSource::Body(SessionKey::Prefix)),
    ("key", SessionSource::Caller),
];

const BY: Field<SessionSource> = Format::choice(
    || SOURCES.iter().map(|(name, _)| *name).collect(),
    |text| SOURCES.iter().find(|(name, _)| *name == text).map(|(_, source)| *source),
)
.list(
    "by",
    "What makes a session, the first that a request has: a `header`, the `conversation`, the end `user`, the beginning of the prompt (`prefix`), the caller's `key`.",
);
const SLACK: Field<f64> = Format::new(
    "number from 1 to 100",
    "a number from `1` to `100`, such as `1.25`",
    Notation::Number { min: 1.0, max: 100.0 },
    |text| text.parse().ok().filter(|slack| (1.0..=100.0).contains(slack)),
)
.key(
    "slack",
    "A target with this many times the average number of answers in progress, plus one, is skipped for the session.",
)
.default("1.25");

const SHORT: Format<bool> = Format::new(
    "`none` or `session`",
    "`none` or `session`",
    Notation::Choice(|| vec!["none", "session"]),
    |text| {
        [("none", false), ("session", true)]
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, on)| on)
    },
);
/// Sessions that go to the same target for its prompt cache.
pub(super) const AFFINITY: Section = Section::table(
    "affinity",
    "The requests of a session go to the same target of a tier, whose prompt cache they then find; `session` is `{ by: [header] }` (docs/routing.md).",
    &[BY.key, SLACK.key],
)
.or(SHORT.scalar)
.otherwise("`none`");

/// Sessions that are assigned to a target for comparison.
pub(super) const STICKY: Section = Section::table(
    "sticky",
    "The requests of a session go to the same target of a tier in proportion to the weights, whatever its load, for A/B tests and canaries (docs/routing.md).",
    &[BY.key],
)
.or(NONE.scalar)
.otherwise("`none`");

/// The most sources of a session.
const MAX_SOURCES: usize = SOURCES.len();

/// The sessions of one model's requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affinity {
    /// The sources of a session, of which the first one that a request has counts.
    pub by: [Option<SessionSource>; MAX_SOURCES],
    /// The most answers in progress, as a multiple of the average. `None`: any, since sessions are assigned.
    pub slack: Option<f64>,
}

/// Reads the sections of a model.
pub(super) fn affinity(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Affinity> {
    let sticky = sticky(reader, model);
    let soft = soft(reader, model);
    if sticky.is_some() && soft.is_some() {
        let message = "`affinity` has no effect beside `sticky`; leave one of them out";
        reader.warn(model.location(&AFFINITY), message);
    }
    sticky.or(soft)
}

fn soft(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Affinity> {
    let node = model.get(&AFFINITY)?;
    if matches!(node.value, Value::Text(_)) {
        let expected = "one of `none`, `session`, or `{ by: [...] }`";
        let on = reader.parsed(AFFINITY.name, node, (expected, SHORT.parse))?;
        let slack = Some(SLACK.default_value());
        return on.then(|| Affinity { by: sources(&[SessionSource::Header]), slack });
    }
    let table = reader.table(AFFINITY.name, node, &AFFINITY)?;
    let slack = Some(reader.value(&table, &SLACK));
    Some(Affinity { by: by(reader, &table)?, slack })
}

fn sticky(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Affinity> {
    let table = reader.table_or_none(model, &STICKY)?;
    Some(Affinity { by: by(reader, &table)?, slack: None })
}

fn by(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<[Option<SessionSource>; MAX_SOURCES]> {
    reader.require(table, &BY, "a list of what makes a session");
    let count = reader.list(table, &BY).map_or(1, <[Node]>::len);
    if count == 0 || count > MAX_SOURCES {
        let message = "`by` is empty or has too many entries; expected some of `header`, `conversation`, `user`, `prefix`, `key`";
        reader.report(table.location(&BY), message);
    }
    let given = reader.values(table, &BY)?;
    Some(sources(&given))
}

fn sources(given: &[SessionSource]) -> [Option<SessionSource>; MAX_SOURCES] {
    let mut by = [None; MAX_SOURCES];
    by.iter_mut().zip(given).for_each(|(place, source)| *place = Some(*source));
    by
}
