//! Retries of a model's requests: the `retry` section. Data only. It must never decide about an error.

use std::time::Duration;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::units::{DURATION, POSITIVE_DURATION, SHARE};

/// The most retries at one target: more would take the time of the others.
const MAX_SAME_TARGET: u32 = 10;

const SAME_TARGET: Field<u32> = Format::new(
    "whole number from 0 to 10",
    "a whole number from 0 to 10",
    Notation::Integer { min: 0, max: MAX_SAME_TARGET as u64, text: "\\+?[0-9]+" },
    |text| text.parse().ok().filter(|times| *times <= MAX_SAME_TARGET),
)
.key(
    "same_target",
    "The most times that a request is sent again to a target that has failed, once no other is left.",
)
.otherwise("1 for a model with one target and one key, else 0")
.example("2");
const BACKOFF: Field<Duration> = POSITIVE_DURATION
    .key(
        "backoff",
        "The longest wait before the first of them, doubled each time; the wait is random (full jitter).",
    )
    .default("250ms");
const MAX_BACKOFF: Field<Duration> =
    POSITIVE_DURATION.key("max_backoff", "The longest wait before any of them.").default("5s");
const MAX_WAIT: Field<Duration> = DURATION
    .key(
        "max_wait",
        "The longest `retry-after` of a target that is waited for; with a longer one, the caller gets the error.",
    )
    .default("5s");
const BUDGET: Field<f64> = SHARE
    .key(
        "budget",
        "The share of requests that may be sent once more, besides one a second: retries, and all but the first move to another target.",
    )
    .default("0.2");

/// The retries of one model.
pub(super) const RETRY: Section = Section::table(
    "retry",
    "Retries after failed attempts (docs/routing.md).",
    &[SAME_TARGET.key, BACKOFF.key, MAX_BACKOFF.key, MAX_WAIT.key, BUDGET.key],
);

/// The retries of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// The most retries at the target that has failed; `None`: 1 if there is no other one, else 0.
    pub same_target: Option<u32>,
    /// The longest wait before the first one, and before any.
    pub backoff: [Duration; 2],
    /// The longest wait that an upstream may ask for.
    pub max_wait: Duration,
    /// The share of requests that may be sent once more.
    pub budget: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            same_target: None,
            backoff: [BACKOFF.default_value(), MAX_BACKOFF.default_value()],
            max_wait: MAX_WAIT.default_value(),
            budget: BUDGET.default_value(),
        }
    }
}

/// Reads the section of a model.
pub(super) fn retry(reader: &mut Reader<'_>, model: &Table<'_>) -> Retry {
    let table = reader.section(model, &RETRY);
    let same_target = reader.field(&table, &SAME_TARGET);
    let backoff = reader.value(&table, &BACKOFF);
    let longest = reader.field(&table, &MAX_BACKOFF);
    if longest.is_some_and(|longest| longest < backoff) {
        let message = "`max_backoff` is below `backoff`; expected at least as much";
        reader.report(table.location(&MAX_BACKOFF), message);
    }
    let longest = longest.unwrap_or_else(|| MAX_BACKOFF.default_value().max(backoff));
    let max_wait = reader.value(&table, &MAX_WAIT);
    let budget = reader.value(&table, &BUDGET);
    Retry { same_target, backoff: [backoff, longest], max_wait, budget }
}
