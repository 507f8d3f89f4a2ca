//! Database of the ledger: SQLite. Rows, roll-ups and the spool's cursor change in one transaction, so that a record that
//! comes twice must never count twice.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

use super::error::LedgerError;
use super::record::{
    AggregateRecord, CloseRecord, OpenRecord, Record, RecordId, RollupKey, Sums, amount,
};
use super::spool::Cursor;

/// The name of the database in the directory.
const FILE: &str = "ledger.db";

/// The schema, as numbered steps. A released one never changes.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001.sql")];

/// The most rows that one transaction deletes.
const DELETED: u32 = 500;

/// The path of the database in a directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// The database, open for writing.
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the database of a directory, or makes it.
    pub(super) fn open(dir: &Path) -> Result<Self, LedgerError> {
        let path = path(dir);
        let failed = |error| LedgerError::Database(path.clone(), error);
        let mut connection = Connection::open(&path).map_err(failed)?;
        // Segments of the spool are deleted after a commit, so that it must be durable.
        connection
            .execute_batch(
                "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA journal_size_limit = 67108864; PRAGMA busy_timeout = 2000;",
            )
            .map_err(failed)?;
        if let Some(number) = migrate(&mut connection, &MIGRATIONS).map_err(failed)? {
            return Err(LedgerError::Schema(path, number));
        }
        Ok(Self { connection, path })
    }

    /// The position in the spool up to which it has all records.
    pub(super) fn cursor(&self) -> Result<Cursor, LedgerError> {
        let found =
            self.connection.query_row("SELECT segment, offset FROM spool_cursor", [], |row| {
                Ok(Cursor { segment: unsigned(row.get(0)?), offset: unsigned(row.get(1)?) })
            });
        Ok(found.optional().map_err(|error| self.failed(error))?.unwrap_or_default())
    }

    /// Takes records of the spool, and the cursor after them, in one transaction.
    pub(super) fn apply(&mut self, records: &[Record], cursor: Cursor) -> Result<(), LedgerError> {
        // Most requests begin and end within one batch, and then are never open in the database.
        let opened: HashSet<RecordId> = records.iter().filter_map(Record::opens).collect();
        let closed: HashSet<RecordId> = records.iter().filter_map(Record::closes).collect();
        self.in_transaction(|transaction| {
            let mut sums = BTreeMap::new();
            for record in records {
                match record {
                    Record::Open(open) if closed.contains(&open.id) => {}
                    Record::Open(open) => insert_open(transaction, open)?,
                    Record::Close(close) => {
                        if !opened.contains(&close.open.id) {
                            delete_open(transaction, close.open.id)?;
                        }
                        insert_close(transaction, close, &mut sums)?;
                    }
                    Record::Aggregate(aggregate) => {
                        insert_aggregate(transaction, aggregate, &mut sums)?;
                    }
                }
            }
            add_all(transaction, &sums)?;
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO spool_cursor (one, segment, offset) VALUES (1, ?, ?)",
                )?
                .execute(params![signed(cursor.segment), signed(cursor.offset)])?;
            Ok(())
        })
    }

    /// Closes the requests that are still open, whose process has ended. Returns their number.
    pub(super) fn close_lost(&mut self) -> Result<usize, LedgerError> {
        self.in_transaction(|transaction| {
            let mut select = transaction.prepare("SELECT record FROM open_request")?;
            let texts = select.query_map([], |row| row.get::<_, String>(0))?;
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            let mut sums = BTreeMap::new();
            for text in &texts {
                if let Ok(open) = serde_json::from_str::<OpenRecord>(text) {
                    delete_open(transaction, open.id)?;
                    insert_close(transaction, &CloseRecord::lost(open), &mut sums)?;
                }
            }
            add_all(transaction, &sums)?;
            Ok(texts.len())
        })
    }

    /// Deletes some of what began before these ids. Returns whether there may be more.
    pub(super) fn delete_before(
        &mut self,
        row: Option<RecordId>,
        rollup: Option<RecordId>,
    ) -> Result<bool, LedgerError> {
        self.in_transaction(|transaction| {
            let mut deleted = 0;
            if let Some(id) = row {
                for table in ["request", "aggregate"] {
                    let sql = format!(
                        "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE id < ? LIMIT {DELETED})"
                    );
                    deleted += transaction.prepare_cached(&sql)?.execute([id.bytes()])?;
                }
            }
            if let Some(id) = rollup {
                transaction
                    .prepare_cached("DELETE FROM rollup WHERE quarter < ?")?
                    .execute([id.quarter()])?;
            }
            if deleted > 0 {
                transaction.execute_batch("PRAGMA incremental_vacuum(200)")?;
            }
            Ok(deleted >= DELETED as usize)
        })
    }

    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let path = &self.path;
        let done = self.connection.transaction().and_then(|transaction| {
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        });
        done.map_err(|error| LedgerError::Database(path.clone(), error))
    }

    fn failed(&self, error: rusqlite::Error) -> LedgerError {
        LedgerError::Database(self.path.clone(), error)
    }
}

/// Brings the schema up to date. Returns the number of a migration that is not this program's.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<Option<i64>> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL)",
    )?;
    let mut select =
        connection.prepare("SELECT number, checksum FROM migration ORDER BY number")?;
    let applied = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let applied = applied.collect::<rusqlite::Result<Vec<(i64, u32)>>>()?;
    drop(select);
    let known: Vec<(i64, u32)> =
        (1..).zip(migrations.iter().map(|text| crc32fast::hash(text.as_bytes()))).collect();
    let mut known_to = known.iter();
    if let Some((number, _)) = applied.iter().find(|step| known_to.next() != Some(step)) {
        return Ok(Some(*number));
    }
    for ((number, checksum), text) in known.iter().zip(migrations).skip(applied.len()) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(text)?;
        transaction.execute("INSERT INTO migration VALUES (?, ?)", params![number, checksum])?;
        transaction.commit()?;
    }
    Ok(None)
}

fn insert_open(transaction: &Transaction<'_>, open: &OpenRecord) -> rusqlite::Result<()> {
    let text = serde_json::to_string(open).unwrap_or_default();
    // One whose end was replayed before is not open again.
    transaction
        .prepare_cached(
            "INSERT INTO open_request SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM request WHERE id = ?1)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![open.id.bytes(), text])?;
    Ok(())
}

fn delete_open(transaction: &Transaction<'_>, id: RecordId) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM open_request WHERE id = ?")?.execute([id.bytes()])?;
    Ok(())
}

/// Inserts the row of a request, and counts it in `all` if there was none.
fn insert_close(
    transaction: &Transaction<'_>,
    close: &CloseRecord,
    all: &mut BTreeMap<RollupKey, Sums>,
) -> rusqlite::Result<()> {
    let CloseRecord { open, .. } = close;
    let id = open.id.bytes();
    let sums = close.sums();
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO request (id, started_at, duration_us, ttft_us, caller, dialect, model, requested, target,
               attempts, outcome, status, error, streamed, input, cache_read, cache_write, output, reasoning,
               estimated, charged, cost_nano, request_id, upstream_id)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING RETURNING id",
        )?
        .query_row(
            params![
                id,
                open.id.started_at(),
                close.duration_us.map(signed),
                close.ttft_us.map(signed),
                &*open.caller,
                &*open.dialect,
                &*open.model,
                open.requested,
                &*close.target,
                signed(close.attempts as u64),
                &*close.outcome,
                close.status,
                close.error.as_deref(),
                open.streamed,
                signed(sums.input),
                signed(sums.cache_read),
                signed(sums.cache_write),
                signed(sums.output),
                signed(sums.reasoning),
                close.estimated,
                close.charged,
                close.cost_nano.map(|cost| signed(amount(cost))),
                open.request_id,
                close.upstream_id,
            ],
            |_| Ok(()),
        )
        .optional()?;
    if inserted.is_some() {
        all.entry(close.key()).or_default().add(&sums);
    }
    Ok(())
}

/// Inserts requests that were counted together, and counts them in `all` if they were not there.
fn insert_aggregate(
    transaction: &Transaction<'_>,
    aggregate: &AggregateRecord,
    all: &mut BTreeMap<RollupKey, Sums>,
) -> rusqlite::Result<()> {
    let AggregateRecord { id, key, sums, closed } = aggregate;
    for id in closed {
        delete_open(transaction, *id)?;
    }
    // The ids have done their work.
    let kept = AggregateRecord { closed: Vec::new(), ..aggregate.clone() };
    let text = serde_json::to_string(&kept).unwrap_or_default();
    let inserted = transaction
        .prepare_cached("INSERT INTO aggregate VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING id")?
        .query_row(params![id.bytes(), text], |_| Ok(()))
        .optional()?;
    if inserted.is_some() {
        all.entry(key.clone()).or_default().add(sums);
    }
    Ok(())
}

/// Adds to roll-ups, each once.
fn add_all(transaction: &Transaction<'_>, all: &BTreeMap<RollupKey, Sums>) -> rusqlite::Result<()> {
    all.iter().try_for_each(|(key, sums)| add(transaction, key, sums))
}

/// Adds to a roll-up.
fn add(transaction: &Transaction<'_>, key: &RollupKey, sums: &Sums) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
               unpriced = unpriced + excluded.unpriced, input = input + excluded.input,
               cache_read = cache_read + excluded.cache_read, cache_write = cache_write + excluded.cache_write,
               output = output + excluded.output, reasoning = reasoning + excluded.reasoning,
               cost_nano = cost_nano + excluded.cost_nano",
        )?
        .execute(params![
            key.quarter,
            &*key.caller,
            &*key.model,
            &*key.target,
            &*key.outcome,
            signed(sums.requests),
            signed(sums.unpriced),
            signed(sums.input),
            signed(sums.cache_read),
            signed(sums.cache_write),
            signed(sums.output),
            signed(sums.reasoning),
            signed(sums.cost_nano),
        ])?;
    Ok(())
}

/// A roll-up, as reports read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// Quarter hours since 1970, UTC.
    pub quarter: i64,
    /// The caller's name.
    pub caller: String,
    /// The configured model.
    pub model: String,
    /// `provider/model`.
    pub target: String,
    /// The sums of its requests.
    pub sums: Sums,
}

/// Reads the roll-ups of some quarter hours from the ledger in a directory, which may be in use. `each` is called with one
/// after the other.
pub fn read_rollups(
    dir: &Path,
    quarters: std::ops::Range<i64>,
    mut each: impl FnMut(Rollup),
) -> Result<(), LedgerError> {
    let path = path(dir);
    if !path.exists() {
        return Err(LedgerError::Missing(path));
    }
    let mut read = || -> rusqlite::Result<()> {
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.execute_batch("PRAGMA busy_timeout = 5000")?;
        let mut select = connection.prepare(
            "SELECT quarter, caller, model, target, sum(requests), sum(unpriced), sum(input), sum(cache_read),
               sum(cache_write), sum(output), sum(reasoning), sum(cost_nano)
             FROM rollup WHERE quarter >= ? AND quarter < ? GROUP BY 1, 2, 3, 4",
        )?;
        let mut rows = select.query([quarters.start, quarters.end])?;
        while let Some(row) = rows.next()? {
            let sum = |column| row.get(column).map(unsigned);
            each(Rollup {
                quarter: row.get(0)?,
                caller: row.get(1)?,
                model: row.get(2)?,
                target: row.get(3)?,
                sums: Sums {
                    requests: sum(4)?,
                    unpriced: sum(5)?,
                    input: sum(6)?,
                    cache_read: sum(7)?,
                    cache_write: sum(8)?,
                    output: sum(9)?,
                    reasoning: sum(10)?,
                    cost_nano: sum(11)?,
                },
            });
        }
        Ok(())
    };
    read().map_err(|error| LedgerError::Database(path.clone(), error))
}

/// SQLite has signed integers only.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
