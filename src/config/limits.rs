//! How much: the `limits` sections, of everybody and of single callers.

use std::num::NonZeroU32;

use super::raw::{Reader, Table};
use super::units;

const COUNT: &str = "a whole number above zero, or `none`";

/// Limits of one caller. `None`: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests per minute, refilled continuously.
    pub requests_per_minute: Option<NonZeroU32>,
    /// How many requests may come at once; as many as in a minute unless said.
    pub burst: Option<NonZeroU32>,
    /// Answers under way at once.
    pub concurrent_streams: Option<usize>,
}

/// Limits, with what is left out taken from `default`, field by field.
pub(super) fn limits(reader: &mut Reader<'_>, parent: &Table<'_>, default: Limits) -> Limits {
    let known = ["requests_per_minute", "burst", "concurrent_streams", "tokens_per_minute"];
    let table = reader.section(parent, "limits", &known);
    reader.unsupported(&table, "tokens_per_minute");
    let number = (COUNT, units::or_none(|text| text.parse::<NonZeroU32>().ok()));
    let streams = (COUNT, units::or_none(|text| text.parse().ok().filter(|count| *count > 0)));
    Limits {
        requests_per_minute: reader
            .field(&table, "requests_per_minute", (COUNT, &number.1))
            .unwrap_or(default.requests_per_minute),
        burst: reader.field(&table, "burst", number).unwrap_or(default.burst),
        concurrent_streams: reader
            .field(&table, "concurrent_streams", streams)
            .unwrap_or(default.concurrent_streams),
    }
}
