//! Circuit breakers: the `health` section of the file and of a provider. Data only.

use std::num::NonZeroU32;
use std::time::Duration;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::units::{COUNT, DURATION, POSITIVE_DURATION, SHARE};

const WINDOW: Field<Duration> = POSITIVE_DURATION
    .key("window", "Time over which failures and starts are compared.")
    .default("30s");
const LEAST: Field<NonZeroU32> =
    COUNT.key("least", "Starts in the window below which `ratio` decides nothing.").default("10");
const RATIO: Field<f64> = Format::new(
    "number above 0, at most 1",
    "a share above `0` and at most `1`, such as `0.5`",
    Notation::Number { min: 0.001, max: 1.0 },
    |text| text.parse().ok().filter(|share| (0.001..=1.0).contains(share)),
)
.key("ratio", "The share of failures among the starts in the window that ejects a target.")
.default("0.5");
const CONSECUTIVE: Field<NonZeroU32> =
    COUNT.key("consecutive", "Failures in a row that eject a target.").default("5");
const COOLDOWN: Field<Duration> = POSITIVE_DURATION
    .key("cooldown", "Time for which a target is ejected; doubled each time.")
    .default("15s");
const MAX_COOLDOWN: Field<Duration> =
    POSITIVE_DURATION.key("max_cooldown", "The longest such time.").default("5m");
const HARD: Field<Duration> = POSITIVE_DURATION
    .key(
        "hard",
        "The same for what only the operator can fix: a rejected credential, an account without credit, a missing model.",
    )
    .default("5m");
const MAX_HARD: Field<Duration> =
    POSITIVE_DURATION.key("max_hard", "The longest such time.").default("1h");
const RAMP: Field<Duration> = DURATION
    .key(
        "ramp",
        "Time after an ejection in which a target's weight grows from a tenth to all of it, and one failure ejects it again.",
    )
    .default("30s");

const PANIC: Field<f64> = SHARE
    .key(
        "panic",
        "With less than this share of a model's weight left, failures eject none of its targets, so that those that are left get no more than their share; `0`: never.",
    )
    .default("0");
const WHEN_ALL_DOWN: Field<bool> = Format::choice(
    || vec!["try", "refuse"],
    |text| match text {
        "try" => Some(true),
        "refuse" => Some(false),
        _ => None,
    },
)
.key(
    "when_all_down",
    "Whether targets that are ejected for failures are tried when no other one of several is left.",
)
.default("try");

/// Circuit breakers of targets, credentials and hosts.
pub(super) const HEALTH: Section = Section::table(
    "health",
    "When targets are ejected, and for how long (docs/routing.md). In a provider: for that provider, key by key.",
    &[
        WINDOW.key,
        LEAST.key,
        RATIO.key,
        CONSECUTIVE.key,
        COOLDOWN.key,
        MAX_COOLDOWN.key,
        HARD.key,
        MAX_HARD.key,
        RAMP.key,
        PANIC.key,
        WHEN_ALL_DOWN.key,
    ],
);

/// The thresholds and times of circuit breakers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Health {
    /// Time over which failures and starts are compared.
    pub window: Duration,
    /// Starts in the window below which `ratio` decides nothing.
    pub least: u32,
    /// The share of failures that ejects.
    pub ratio: f64,
    /// Failures in a row that eject.
    pub consecutive: u32,
    /// The first and the longest ejection.
    pub cooldown: [Duration; 2],
    /// The same for faults that only the operator can fix.
    pub hard: [Duration; 2],
    /// Time in which a recovered target's weight grows.
    pub ramp: Duration,
    /// The share of a model's weight below which failures eject no target.
    pub panic: f64,
    /// Whether ejected targets are tried when no other is left.
    pub uses_ejected: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            window: WINDOW.default_value(),
            least: LEAST.default_value().get(),
            ratio: RATIO.default_value(),
            consecutive: CONSECUTIVE.default_value().get(),
            cooldown: [COOLDOWN.default_value(), MAX_COOLDOWN.default_value()],
            hard: [HARD.default_value(), MAX_HARD.default_value()],
            ramp: RAMP.default_value(),
            panic: PANIC.default_value(),
            uses_ejected: WHEN_ALL_DOWN.default_value(),
        }
    }
}

/// Reads the section below `parent`; what it leaves out is taken from `default`.
pub(super) fn health(reader: &mut Reader<'_>, parent: &Table<'_>, default: Health) -> Health {
    let table = reader.section(parent, &HEALTH);
    let [cooldown, max_cooldown] = default.cooldown;
    let [hard, max_hard] = default.hard;
    let cooldown = reader.field(&table, &COOLDOWN).unwrap_or(cooldown);
    let hard = reader.field(&table, &HARD).unwrap_or(hard);
    let max_cooldown =
        reader.field(&table, &MAX_COOLDOWN).unwrap_or_else(|| max_cooldown.max(cooldown));
    let max_hard = reader.field(&table, &MAX_HARD).unwrap_or_else(|| max_hard.max(hard));
    for (key, most, least) in [(&MAX_COOLDOWN, max_cooldown, cooldown), (&MAX_HARD, max_hard, hard)]
    {
        if most < least {
            let first = if key.name == MAX_HARD.name { HARD.name } else { COOLDOWN.name };
            let message = format!("`{}` is below `{first}`; expected at least as much", key.name);
            reader.report(table.location(key), message);
        }
    }
    Health {
        window: reader.field(&table, &WINDOW).unwrap_or(default.window),
        least: reader.field(&table, &LEAST).map_or(default.least, NonZeroU32::get),
        ratio: reader.field(&table, &RATIO).unwrap_or(default.ratio),
        consecutive: reader
            .field(&table, &CONSECUTIVE)
            .map_or(default.consecutive, NonZeroU32::get),
        cooldown: [cooldown, max_cooldown],
        hard: [hard, max_hard],
        ramp: reader.field(&table, &RAMP).unwrap_or(default.ramp),
        panic: reader.field(&table, &PANIC).unwrap_or(default.panic),
        uses_ejected: reader.field(&table, &WHEN_ALL_DOWN).unwrap_or(default.uses_ejected),
    }
}
