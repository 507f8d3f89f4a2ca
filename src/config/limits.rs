//! How much: the `limits` sections, of everybody, of single callers and of models.

use std::num::NonZeroU32;

use super::raw::{Reader, Table};
use super::tree::Value;
use super::units;

const COUNT: &str = "a whole number above zero";
const COUNT_OR_NONE: &str = "a whole number above zero, or `none`";

/// Limits of one caller, or of one model. `None`: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests per minute, refilled continuously.
    pub requests_per_minute: Option<NonZeroU32>,
    /// How many requests may come at once; as many as in a minute unless said.
    pub burst: Option<NonZeroU32>,
    /// Tokens per minute, of prompts and answers, refilled continuously.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Tokens of output that are reserved for a request which does not bound them itself.
    pub assumed_output: NonZeroU32,
    /// Answers under way at once.
    pub concurrent_streams: Option<usize>,
    /// Whether an answer ends with an error when the tokens are used up; else it becomes a debt.
    pub cut_off: bool,
}

impl Limits {
    /// What is reserved for an answer of unknown length.
    const ASSUMED_OUTPUT: NonZeroU32 = NonZeroU32::new(1024).unwrap();

    /// No limit at all.
    pub const NONE: Self = Self {
        requests_per_minute: None,
        burst: None,
        tokens_per_minute: None,
        assumed_output: Self::ASSUMED_OUTPUT,
        concurrent_streams: None,
        cut_off: false,
    };
}

/// Limits, with what is left out taken from `default`, field by field. `limits: none` lifts all.
pub(super) fn limits(reader: &mut Reader<'_>, parent: &Table<'_>, default: Limits) -> Limits {
    if let Some(node) = parent.get("limits")
        && let Value::Text(text) = &node.value
    {
        if text != "none" {
            let expected = "expected a table (`key: value`), or `none` for no limits";
            reader.report(node.at, format!("`limits` is a single value; {expected}"));
        }
        return Limits::NONE;
    }
    let known = [
        "requests_per_minute",
        "burst",
        "tokens_per_minute",
        "assumed_output",
        "concurrent_streams",
        "cut_off",
    ];
    let table = reader.section(parent, "limits", &known);
    let mut count = |key: &str, default: Option<NonZeroU32>| {
        let number = units::or_none(|text| text.parse::<NonZeroU32>().ok());
        reader.field(&table, key, (COUNT_OR_NONE, number)).unwrap_or(default)
    };
    let requests_per_minute = count("requests_per_minute", default.requests_per_minute);
    let burst = count("burst", default.burst);
    let tokens_per_minute = count("tokens_per_minute", default.tokens_per_minute);
    let number = (COUNT, |text: &str| text.parse().ok());
    let streams =
        (COUNT_OR_NONE, units::or_none(|text| text.parse().ok().filter(|count| *count > 0)));
    let boolean = ("`true` or `false`", units::boolean);
    Limits {
        requests_per_minute,
        burst,
        tokens_per_minute,
        assumed_output: reader
            .field(&table, "assumed_output", number)
            .unwrap_or(default.assumed_output),
        concurrent_streams: reader
            .field(&table, "concurrent_streams", streams)
            .unwrap_or(default.concurrent_streams),
        cut_off: reader.field(&table, "cut_off", boolean).unwrap_or(default.cut_off),
    }
}
