//! Choice among the targets of a model: the keys of a model and of a target that decide it. It must never choose.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Target;
use super::affinity::{Affinity, affinity};
use super::field::{Field, Format, Notation};
use super::hedge::{Hedge, hedge};
use super::queue::{Queue, queue};
use super::reader::{Reader, Table};
use super::retry::{Retry, retry};
use super::slow::{Slow, slow};
use super::units::{COUNT, COUNT_OR_NONE, POSITIVE_DURATION};

/// The largest weight of a target.
const MAX_WEIGHT: u32 = 1000;

const PICKS: [(&str, Pick); 5] = [
    ("order", Pick::Order),
    ("weighted", Pick::Weighted),
    ("least_loaded", Pick::LeastLoaded),
    ("fastest", Pick::Fastest),
    ("cheapest", Pick::Cheapest),
];

/// The choice among the targets of one tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pick {
    /// The first one that can serve.
    #[default]
    Order,
    /// In proportion to their weights.
    Weighted,
    /// The one with the fewest answers in progress for its weight.
    LeastLoaded,
    /// The one with the shortest time to first token.
    Fastest,
    /// The one with the lowest price for the request.
    Cheapest,
}

impl Pick {
    /// Its name in the configuration.
    pub fn word(self) -> &'static str {
        PICKS.iter().find(|(_, pick)| *pick == self).map_or("", |(name, _)| *name)
    }
}

pub(super) const PICK: Field<Pick> = Format::choice(
    || PICKS.iter().map(|(name, _)| *name).collect(),
    |text| PICKS.iter().find(|(name, _)| *name == text).map(|(_, pick)| *pick),
)
.key("pick", "The choice among the targets of one tier (docs/routing.md).")
.default("order");
pub(super) const ATTEMPTS: Field<Option<NonZeroU32>> = COUNT_OR_NONE
    .key(
        "attempts",
        "The most upstream requests for one request; rejected credentials do not count.",
    )
    .default("none");
pub(super) const TIER: Field<NonZeroU32> = COUNT
    .key("tier", "Targets of one tier are balanced with each other; the next tier serves when none of them can.")
    .otherwise("the place in the list; with a `pick` other than `order`, 1")
    .example("1");
pub(super) const WEIGHT: Field<u32> = Format::new(
    "whole number from 0 to 1000",
    "a whole number from 0 to 1000",
    Notation::Integer { min: 0, max: MAX_WEIGHT as u64, text: "\\+?[0-9]+" },
    |text| text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT),
)
.key("weight", "The target's share of the requests in its tier; `0`: only when no other can serve.")
.default("1");

pub(super) const FIRST_TOKEN: Field<Duration> = POSITIVE_DURATION
    .key("first_token", "Timeout of an attempt from its beginning to the first output.")
    .otherwise("a share of `stream.first_token`")
    .example("20s");

/// The choice among the targets of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelRouting {
    /// The choice within a tier.
    pub pick: Pick,
    /// The sessions whose requests go to the same target, if there are any.
    pub affinity: Option<Affinity>,
    /// The most upstream requests for one request.
    pub attempts: Option<NonZeroU32>,
    /// Retries after failed attempts.
    pub retry: Retry,
    /// Hedged requests, if any are.
    pub hedge: Option<Hedge>,
    /// The limit of slow streams, if there is one.
    pub slow: Option<Slow>,
    /// The queue of requests for which no target has room, if they wait.
    pub queue: Option<Arc<Queue>>,
}

/// Reads the choice of a model.
pub(super) fn routing(reader: &mut Reader<'_>, model: &Table<'_>) -> ModelRouting {
    ModelRouting {
        pick: reader.value(model, &PICK),
        affinity: affinity(reader, model),
        attempts: reader.value(model, &ATTEMPTS),
        retry: retry(reader, model),
        hedge: hedge(reader, model),
        slow: slow(reader, model),
        queue: queue(reader, model),
    }
}

/// Warns of a model none of whose targets has a weight.
pub(super) fn check_weights(reader: &mut Reader<'_>, model: &Table<'_>, targets: &[Target]) {
    if !targets.is_empty() && targets.iter().all(|target| target.weight == 0) {
        let message =
            "every target has the `weight` 0; expected one above 0, or the first is used alone";
        reader.warn(model.at, message);
    }
}
