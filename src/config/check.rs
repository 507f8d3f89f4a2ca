//! Active checks of a provider: the `check` key. Data only. It must never describe a request for a model's output.

use std::time::Duration;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::tree::Value;
use super::units::POSITIVE_DURATION;

const PATH: Field<String> = Format::new(
    "path",
    "a path such as `/health`, without a query",
    Notation::Pattern("/[!-\"$->@-~]*"),
    |text| is_path(text).then(|| text.to_owned()),
)
.key("path", "Path below `base_url` that answers a GET with 200 when the provider is well.")
.otherwise("that of its list of models")
.example("/health");
const EVERY: Field<Duration> =
    POSITIVE_DURATION.key("every", "Time between two checks.").default("10s");
const TIMEOUT: Field<Duration> =
    POSITIVE_DURATION.key("timeout", "Timeout of a check.").default("3s");

const WORDS: Format<bool> = Format::choice(
    || vec!["none", "tripped"],
    |text| match text {
        "none" => Some(false),
        "tripped" => Some(true),
        _ => None,
    },
);

/// The checks of one provider.
pub(super) const CHECK: Section = Section::table(
    "check",
    "Checks of targets that are ejected for failures, which end the ejection early (docs/routing.md); `tripped` has the defaults below.",
    &[PATH.key, EVERY.key, TIMEOUT.key],
)
.or(WORDS.scalar)
.otherwise("none");

/// The checks of one provider while targets of it are ejected for failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The path below the provider's address; `None`: that of its list of models.
    pub path: Option<String>,
    /// Time between two checks.
    pub every: Duration,
    /// Timeout of one.
    pub timeout: Duration,
}

/// Reads the checks of a provider.
pub(super) fn check(reader: &mut Reader<'_>, provider: &Table<'_>) -> Option<Check> {
    let node = provider.get(&CHECK)?;
    if let Value::Table(_) = node.value {
        let table = reader.table(CHECK.name, node, &CHECK)?;
        let path = reader.field(&table, &PATH);
        let every = reader.value(&table, &EVERY);
        return Some(Check { path, every, timeout: reader.value(&table, &TIMEOUT) });
    }
    reader.scalar(CHECK.name, node, &WORDS)?.then(|| Check {
        path: None,
        every: EVERY.default_value(),
        timeout: TIMEOUT.default_value(),
    })
}

/// Whether a text is a path without a query or a fragment.
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
        && text.split('/').all(|segment| segment != "..")
}
