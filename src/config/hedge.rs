//! Hedged requests of a model: the `hedge` section. Data only. It must never decide about a request.

use std::time::Duration;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::units::{DURATION, NONE, POSITIVE_DURATION, SHARE, TOKENS};

/// The wait before a second attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HedgeAfter {
    /// This time.
    Time(Duration),
    /// The time within which this part of the target's answers begins.
    Part(f64),
}

const AFTER: Field<HedgeAfter> = Format::new(
    "percentile or duration",
    "a percentile from `p50` to `p99`, or a duration above zero such as `800ms`",
    Notation::Pattern("p[5-9][0-9]|0*[1-9][0-9]*(ms|s|m|h)"),
    |text| match text.strip_prefix('p') {
        Some(part) => {
            let part: u8 = part.parse().ok().filter(|part| (50..=99).contains(part))?;
            Some(HedgeAfter::Part(f64::from(part) / 100.0))
        }
        None => (POSITIVE_DURATION.parse)(text).map(HedgeAfter::Time),
    },
)
.key(
    "after",
    "The wait for the first output before a second target is asked: a percentile of the first target's own times for prompts of that size, or a time.",
)
.default("p95");
const AT_LEAST: Field<Duration> =
    DURATION.key("at_least", "The shortest wait, whatever the percentile is.").default("500ms");
const BUDGET: Field<f64> = SHARE
    .key(
        "budget",
        "The share of the model's requests that may be hedged, besides one in ten seconds.",
    )
    .default("0.05");
const MAX_INPUT: Field<u64> = TOKENS
    .key("max_input", "Requests with a longer prompt, in tokens, are not hedged.")
    .default("32000");

/// The hedged requests of one model.
pub(super) const HEDGE: Section = Section::table(
    "hedge",
    "A second attempt at another host while the first one is silent; the first output wins (docs/routing.md).",
    &[AFTER.key, AT_LEAST.key, BUDGET.key, MAX_INPUT.key],
)
.or(NONE.scalar)
.otherwise("`none`");

/// The hedged requests of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    /// The wait before the second attempt.
    pub after: HedgeAfter,
    /// The shortest wait.
    pub at_least: Duration,
    /// The share of requests that may be hedged.
    pub budget: f64,
    /// The longest prompt, in tokens.
    pub max_input: u64,
}

/// Reads the section of a model. `None`: its requests are not hedged.
pub(super) fn hedge(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Hedge> {
    let table = reader.table_or_none(model, &HEDGE)?;
    Some(Hedge {
        after: reader.value(&table, &AFTER),
        at_least: reader.value(&table, &AT_LEAST),
        budget: reader.value(&table, &BUDGET),
        max_input: reader.value(&table, &MAX_INPUT),
    })
}
