//! Slow streams of a model: the `slow` section. Data only. It must never measure anything.

use std::num::NonZeroU32;
use std::time::Duration;

use super::field::{Field, Format, Section};
use super::reader::{Reader, Table};
use super::units::{COUNT, NONE, POSITIVE_DURATION};

const BYTES_PER_SECOND: Field<NonZeroU32> = COUNT
    .key(
        "bytes_per_second",
        "The rate of model output, in bytes of UTF-8, below which an answer is slow.",
    )
    .default("20");
const OVER: Field<Duration> = POSITIVE_DURATION
    .key("over", "The time over which it is measured, of which only waits for the upstream count.")
    .default("5s");
const ACTIONS: [(&str, SlowAction); 2] = [("mark", SlowAction::Mark), ("break", SlowAction::Break)];
const THEN: Field<SlowAction> = Format::choice(
    || ACTIONS.iter().map(|(name, _)| *name).collect(),
    |text| ACTIONS.iter().find(|(name, _)| *name == text).map(|(_, action)| *action),
)
.key(
    "then",
    "`mark` counts half a failure of the target; `break` also ends the answer, with an error or by `on_break`.",
)
.default("mark");

/// The slow streams of one model.
pub(super) const SLOW: Section = Section::table(
    "slow",
    "Streams whose upstream has become slow after its first output (docs/routing.md).",
    &[BYTES_PER_SECOND.key, OVER.key, THEN.key],
)
.or(NONE.scalar)
.otherwise("`none`");

/// The limit below which a stream is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// The lowest rate of model output.
    pub bytes_per_second: NonZeroU32,
    /// The time over which it is measured.
    pub over: Duration,
    /// The consequence.
    pub then: SlowAction,
}

/// The consequence of a slow stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowAction {
    /// Half a failure of its target.
    Mark,
    /// The answer breaks off.
    Break,
}

impl SlowAction {
    /// Its name in the configuration and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Break => "break",
        }
    }
}

/// Reads the section of a model. `None`: no stream is too slow.
pub(super) fn slow(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Slow> {
    let table = reader.table_or_none(model, &SLOW)?;
    Some(Slow {
        bytes_per_second: reader.value(&table, &BYTES_PER_SECOND),
        over: reader.value(&table, &OVER),
        then: reader.value(&table, &THEN),
    })
}
