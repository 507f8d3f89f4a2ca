//! The `limits` sections: of every caller, of single callers and of models; and the same keys as a claim of a JWT.
//! Data only.

use std::num::NonZeroU32;

use serde_json::{Map, Value as Json};

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::tree::Value;
use super::units::{BOOLEAN, COUNT, COUNT_OR_NONE, STREAMS_OR_NONE};

const REQUESTS_PER_MINUTE: Field<Option<NonZeroU32>> = COUNT_OR_NONE
    .key("requests_per_minute", "Requests per minute, refilled continuously.")
    .default("600");
const BURST: Field<Option<NonZeroU32>> = COUNT_OR_NONE
    .key("burst", "Requests that may come at once.")
    .otherwise("`requests_per_minute`")
    .example("600");
const TOKENS_PER_MINUTE: Field<Option<NonZeroU32>> = COUNT_OR_NONE
    .key(
        "tokens_per_minute",
        "Tokens of prompts and answers per minute, refilled continuously and reserved before a request is sent.",
    )
    .default("none");
const ASSUMED_OUTPUT: Field<NonZeroU32> = COUNT
    .key(
        "assumed_output",
        "Tokens of output that are reserved for a request which does not limit them itself.",
    )
    .default("1024");
const CONCURRENT_STREAMS: Field<Option<usize>> =
    STREAMS_OR_NONE.key("concurrent_streams", "Answers in flight at once.").default("100");
const CUT_OFF: Field<bool> = BOOLEAN
    .key(
        "cut_off",
        "Whether an answer ends with an error when the tokens are used up; otherwise they become a debt.",
    )
    .default("false");

const NONE: Format<()> =
    Format::new("`none`", "`none` for no limits", Notation::Choice(|| vec!["none"]), |text| {
        (text == "none").then_some(())
    });

/// Limits of all callers, of one caller or of one model.
pub(super) const LIMITS: Section = Section::table(
    "limits",
    "Rate limits, each on its own (docs/limits.md). At the top of the file: those of every caller. In a key, an issuer or \
     `anonymous`: instead of those, key by key. In a model: of all callers together, none by default.",
    &[
        REQUESTS_PER_MINUTE.key,
        BURST.key,
        TOKENS_PER_MINUTE.key,
        ASSUMED_OUTPUT.key,
        CONCURRENT_STREAMS.key,
        CUT_OFF.key,
    ],
)
.or(NONE.scalar);

/// Limits of one caller, or of one model. `None`: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests per minute, refilled continuously.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests that may come at once; without it, as many as in a minute.
    pub burst: Option<NonZeroU32>,
    /// Tokens of prompts and answers per minute, refilled continuously.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Tokens of output that are reserved for a request which does not limit them itself.
    pub assumed_output: NonZeroU32,
    /// Answers in flight at once.
    pub concurrent_streams: Option<usize>,
    /// Whether an answer ends with an error when the tokens are used up; otherwise they become a debt.
    pub cut_off: bool,
}

impl Default for Limits {
    /// The limits of every caller where the configuration sets none.
    fn default() -> Self {
        Self {
            requests_per_minute: REQUESTS_PER_MINUTE.default_value(),
            burst: None,
            tokens_per_minute: TOKENS_PER_MINUTE.default_value(),
            assumed_output: ASSUMED_OUTPUT.default_value(),
            concurrent_streams: CONCURRENT_STREAMS.default_value(),
            cut_off: CUT_OFF.default_value(),
        }
    }
}

/// The source of single limits.
trait LimitSource {
    /// `None`: it is left out, or wrong and reported.
    fn limit<T>(&mut self, field: &Field<T>) -> Option<T>;
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        requests_per_minute: None,
        burst: None,
        tokens_per_minute: None,
        assumed_output: NonZeroU32::new(1024).unwrap(),
        concurrent_streams: None,
        cut_off: false,
    };

    /// Those of a source; what it leaves out is taken from `default`.
    fn read(source: &mut impl LimitSource, default: Self) -> Self {
        Self {
            requests_per_minute: source
                .limit(&REQUESTS_PER_MINUTE)
                .unwrap_or(default.requests_per_minute),
            burst: source.limit(&BURST).unwrap_or(default.burst),
            tokens_per_minute: source
                .limit(&TOKENS_PER_MINUTE)
                .unwrap_or(default.tokens_per_minute),
            assumed_output: source.limit(&ASSUMED_OUTPUT).unwrap_or(default.assumed_output),
            concurrent_streams: source
                .limit(&CONCURRENT_STREAMS)
                .unwrap_or(default.concurrent_streams),
            cut_off: source.limit(&CUT_OFF).unwrap_or(default.cut_off),
        }
    }

    /// Reads the members of a claim that holds limits, in the keys of the configuration; what it leaves out
    /// is taken from `default`.
    pub fn from_claim(claim: &Map<String, Json>, default: Self) -> Result<Self, LimitError> {
        let known = |name: &String| LIMITS.keys.iter().any(|key| key.name == name);
        if let Some(name) = claim.keys().find(|name| !known(name)) {
            return Err(LimitError { name: name.clone(), expected: None });
        }
        let mut source = Claim { members: claim, error: None };
        let limits = Self::read(&mut source, default);
        source.error.map_or(Ok(limits), Err)
    }
}

/// A member of a claim that is no limit, or not the value of one.
#[derive(Debug, PartialEq, Eq)]
pub struct LimitError {
    /// The member's name.
    pub name: String,
    /// The values that it accepts. `None`: there is no such limit.
    pub expected: Option<String>,
}

/// A claim's members, and the first that is wrong.
struct Claim<'c> {
    members: &'c Map<String, Json>,
    error: Option<LimitError>,
}

impl LimitSource for Claim<'_> {
    fn limit<T>(&mut self, field: &Field<T>) -> Option<T> {
        let value = self.members.get(field.name)?;
        let text = match value {
            Json::Number(_) | Json::Bool(_) => Some(value.to_string()),
            // A number in quotes is none in JSON.
            Json::String(text) if text == "none" => Some(text.clone()),
            _ => None,
        };
        let limit = text.and_then(|text| (field.format.parse)(&text));
        if limit.is_none() {
            self.error.get_or_insert_with(|| LimitError {
                name: field.name.to_owned(),
                expected: Some(field.format.scalar.expected()),
            });
        }
        limit
    }
}

/// A table of the file.
struct Entries<'r, 'a, 't> {
    reader: &'r mut Reader<'a>,
    table: Table<'t>,
}

impl LimitSource for Entries<'_, '_, '_> {
    fn limit<T>(&mut self, field: &Field<T>) -> Option<T> {
        self.reader.field(&self.table, field)
    }
}

/// Reads the section below `parent`; what it leaves out is taken from `default`. `limits: none` lifts all.
pub(super) fn limits(reader: &mut Reader<'_>, parent: &Table<'_>, default: Limits) -> Limits {
    if let Some(node) = parent.get(&LIMITS)
        && let Value::Text(text) = &node.value
    {
        if text != "none" {
            let expected = "expected a table (`key: value`), or `none` for no limits";
            reader.report(node.at, format!("`limits` is a single value; {expected}"));
        }
        return Limits::NONE;
    }
    let table = reader.section(parent, &LIMITS);
    Limits::read(&mut Entries { reader, table }, default)
}
