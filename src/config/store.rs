//! The `store` and `ledger` sections: the directory of the database, and what the usage ledger keeps. Data only.

use std::path::PathBuf;
use std::time::Duration;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::units::{BOOLEAN, DURATION, SIZE, TEXT, or_none};

/// A whole number of days, or `none`.
const DAYS_OR_NONE: Format<Option<Duration>> = Format::new(
    "days such as `90d`",
    "days such as `90d`",
    Notation::Pattern("0*[1-9][0-9]{0,3}d"),
    days,
)
.or_none(|text| or_none(text, days));

fn days(text: &str) -> Option<Duration> {
    let days: u64 = text.strip_suffix('d')?.parse().ok()?;
    (1..10_000).contains(&days).then(|| Duration::from_hours(24 * days))
}

const SQLITE: Field<String> = TEXT
    .key(
        "sqlite",
        "Directory, relative to this file, of the SQLite database and its spool. It must be on a local disk. It takes effect at the start.",
    )
    .otherwise("there is no usage ledger")
    .example("/var/lib/streamgate/store");

pub(super) const STORE: Section =
    Section::table("store", "The database of the usage ledger (docs/ledger.md).", &[SQLITE.key]);

const RETENTION: Field<Option<Duration>> = DAYS_OR_NONE
    .key("retention", "Time for which the row of each request is kept. `none`: for ever.")
    .default("90d");
const ROLLUP_RETENTION: Field<Option<Duration>> = DAYS_OR_NONE
    .key(
        "rollup_retention",
        "Time for which the sums per quarter hour are kept, which reports read. `none`: for ever.",
    )
    .default("760d");
const SYNC: Field<Duration> = DURATION
    .key(
        "sync",
        "Longest time for which the disk may not have a record: what a power failure can lose. `0ms`: none.",
    )
    .default("1s");
const WAIT_FOR_APPEND: Field<bool> = BOOLEAN
    .key(
        "wait_for_append",
        "Whether a request is sent to an upstream only when the spool has its record, so that a crash loses none while the spool takes records.",
    )
    .default("false");
const MAX_SPOOL: Field<usize> = SIZE
    .key(
        "max_spool",
        "The most bytes of records that wait for the database; beyond it, requests are counted together.",
    )
    .default("1GiB");

pub(super) const LEDGER: Section = Section::table(
    "ledger",
    "The usage ledger, with a `store` (docs/ledger.md). It takes effect at the start.",
    &[RETENTION.key, ROLLUP_RETENTION.key, SYNC.key, WAIT_FOR_APPEND.key, MAX_SPOOL.key],
);

/// The usage ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The directory of database and spool.
    pub dir: PathBuf,
    /// Time for which rows are kept. `None`: for ever.
    pub retention: Option<Duration>,
    /// Time for which roll-ups are kept. `None`: for ever.
    pub rollup_retention: Option<Duration>,
    /// Longest time for which the disk may not have a record.
    pub sync: Duration,
    /// A request is sent only when the spool has its record.
    pub wait_for_append: bool,
    /// The most bytes of the spool.
    pub max_spool: u64,
}

/// Reads both sections: the ledger, if there is to be one.
pub(super) fn ledger(reader: &mut Reader<'_>, root: &Table<'_>) -> Option<Ledger> {
    let store = reader.section(root, &STORE);
    let table = reader.section(root, &LEDGER);
    let dir = reader.field(&store, &SQLITE).filter(|dir| !dir.is_empty());
    let retention = reader.value(&table, &RETENTION);
    let rollup_retention = reader.value(&table, &ROLLUP_RETENTION);
    let sync = reader.value(&table, &SYNC);
    let wait_for_append = reader.value(&table, &WAIT_FOR_APPEND);
    let max_spool = u64::try_from(reader.value(&table, &MAX_SPOOL)).unwrap_or(u64::MAX);
    let dir = reader.source.dir.join(dir?);
    Some(Ledger { dir, retention, rollup_retention, sync, wait_for_append, max_spool })
}
