//! Tests of the ledger: damaged spools, crashes, replays, a full spool, sums.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;

use super::record::{Decoded, decode, encode};
use super::spool::{self, Cursor};
use super::*;

/// A directory that is deleted with the value.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("streamgate-ledger-{:032x}", rand::random::<u128>());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn count(&self, sql: &str) -> i64 {
        let connection = Connection::open(database::path(&self.0)).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _deleted = fs::remove_dir_all(&self.0);
    }
}

fn now() -> Duration {
    Duration::from_secs(1_780_000_000)
}

fn settings(dir: &Path) -> config::Ledger {
    config::Ledger {
        dir: dir.to_owned(),
        retention: None,
        rollup_retention: None,
        sync: Duration::ZERO,
        wait_for_append: true,
        max_spool: 1 << 30,
    }
}

fn open_record(number: u64) -> OpenRecord {
    OpenRecord {
        id: RecordId::new(now() + Duration::from_mins(7 * number), u128::from(number)),
        caller: ["web", "batch"][usize::try_from(number % 2).unwrap()].into(),
        dialect: "openai-chat".into(),
        model: "fast".into(),
        requested: "fast".to_owned(),
        streamed: true,
        input: 10 + number,
        request_id: format!("r-{number}"),
    }
}

fn close_record(number: u64) -> CloseRecord {
    CloseRecord {
        target: "a/m".into(),
        attempts: 1,
        outcome: "complete".into(),
        status: Some(200),
        output: 3 * number,
        cost_nano: (!number.is_multiple_of(3)).then_some(number * 1_000_003),
        ..CloseRecord::lost(open_record(number))
    }
}

fn closed(number: u64) -> Record {
    Record::Close(close_record(number))
}

fn frames(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(records.iter().all(|record| encode(record, &mut bytes)));
    bytes
}

fn spool_of(dir: &Directory, records: &[Record]) {
    let (mut writer, _) = spool::open(&dir.0.join("spool"), Cursor::default(), 1 << 30).unwrap();
    writer.append(&frames(records)).unwrap();
    writer.sync().unwrap();
}

fn recovered(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Decoded::Record(record, length) = decode(bytes) {
        records.push(*record);
        bytes = &bytes[length..];
    }
    records
}

/// The sums of the columns that rows and roll-ups share are equal.
fn assert_sums_are_equal(dir: &Directory) {
    for column in ["input", "output", "cache_read", "cache_write", "reasoning", "cost_nano"] {
        let sum = |table| dir.count(&format!("SELECT coalesce(sum({column}), 0) FROM {table}"));
        assert_eq!(sum("request"), sum("rollup"), "{column}");
    }
    let rows = dir.count("SELECT count(*) FROM request");
    assert_eq!(rows, dir.count("SELECT sum(requests) FROM rollup"));
    let unpriced = dir.count("SELECT count(*) FROM request WHERE charged AND cost_nano IS NULL");
    assert_eq!(unpriced, dir.count("SELECT sum(unpriced) FROM rollup"));
}

/// Every truncation and every flipped byte of the last record: those before it are read, and it is not.
#[test]
fn a_damaged_last_record_hides_no_other() {
    let before = [closed(1), Record::Open(open_record(2))];
    let intact = frames(&before);
    let all = [intact.clone(), frames(&[closed(3)])].concat();
    assert_eq!(recovered(&all).len(), 3);
    for end in intact.len()..all.len() {
        assert_eq!(recovered(&all[..end]), before, "cut at {end}");
    }
    for at in intact.len()..all.len() {
        for bit in 0..8 {
            let mut damaged = all.clone();
            damaged[at] ^= 1 << bit;
            assert_eq!(recovered(&damaged), before, "bit {bit} of byte {at}");
        }
    }
}

proptest! {
    /// Any bytes after the last record.
    #[test]
    fn bytes_after_the_last_record_are_no_record(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
        let before = [closed(1)];
        prop_assert_eq!(recovered(&[frames(&before), tail].concat()), before);
    }
}

/// A record that was torn by a power failure, in a file: the next process takes what is before it, and its own records
/// are not behind it.
#[tokio::test]
async fn a_torn_segment_is_taken_up_to_the_tear() {
    let dir = Directory::new();
    spool_of(&dir, &[closed(1), closed(2)]);
    let segment = dir.0.join("spool/00000000000000000001.spool");
    let length = fs::metadata(&segment).unwrap().len();
    File::options().write(true).open(&segment).unwrap().set_len(length - 5).unwrap();
    let ledger = Ledger::open(&settings(&dir.0), now, &Arc::default()).unwrap();
    ledger.end(close_record(3));
    ledger.close().await;
    assert_eq!(dir.count("SELECT count(*) FROM request WHERE request_id IN ('r-1', 'r-3')"), 2);
    assert_eq!(dir.count("SELECT count(*) FROM request"), 2);
}

/// V16: a request that was open when its process ended is one row, `lost`; one that had ended is not.
#[tokio::test]
async fn an_open_request_is_lost_after_a_crash() {
    let dir = Directory::new();
    spool_of(&dir, &[Record::Open(open_record(1)), Record::Open(open_record(2)), closed(1)]);
    let ledger = Ledger::open(&settings(&dir.0), now, &Arc::default()).unwrap();
    assert_eq!(
        dir.count("SELECT count(*) FROM request WHERE outcome = 'lost' AND request_id = 'r-2'"),
        1
    );
    assert_eq!(dir.count("SELECT count(*) FROM request"), 2);
    assert_eq!(dir.count("SELECT count(*) FROM open_request"), 0);
    ledger.close().await;
    assert_sums_are_equal(&dir);
}

/// V17: a spool that is replayed once more, without its cursor, counts nothing twice.
#[tokio::test]
async fn commit_then_drop() {
    let dir = Directory::new();
    let records: Vec<_> =
        (1..40).flat_map(|it| [Record::Open(open_record(it)), closed(it)]).collect();
    for _ in 0..3 {
        spool_of(&dir, &records);
        Ledger::open(&settings(&dir.0), now, &Arc::default()).unwrap().close().await;
        Connection::open(database::path(&dir.0))
            .unwrap()
            .execute("DELETE FROM spool_cursor", [])
            .unwrap();
    }
    assert_eq!(dir.count("SELECT count(*) FROM request"), 39);
    assert_eq!(dir.count("SELECT count(*) FROM open_request"), 0);
    assert_sums_are_equal(&dir);
}

/// V11: integers from end to end.
#[tokio::test]
async fn rollup_equals_rows() {
    let dir = Directory::new();
    let ledger = Ledger::open(&settings(&dir.0), now, &Arc::default()).unwrap();
    for number in 0..2_000 {
        ledger.begin(open_record(number)).await;
        ledger.end(close_record(number));
    }
    ledger.close().await;
    assert_eq!(dir.count("SELECT count(*) FROM request"), 2_000);
    assert!(dir.count("SELECT count(*) FROM rollup") > 1_000, "several quarters and callers");
    assert_sums_are_equal(&dir);
    let mut reported = Sums::default();
    read_rollups(&dir.0, 0..i64::MAX, |rollup| reported.add(&rollup.sums)).unwrap();
    let cost: u64 = (0..2_000).filter_map(|it| close_record(it).cost_nano).sum();
    assert_eq!((reported.requests, reported.cost_nano), (2_000, cost));
}

/// V14: the database refuses every write while requests end; afterwards it has all of them, once.
#[tokio::test]
async fn records_wait_while_the_database_is_away() {
    let dir = Directory::new();
    let metrics = Arc::<Metrics>::default();
    let ledger = Ledger::open(&settings(&dir.0), now, &metrics).unwrap();
    let other = Connection::open(database::path(&dir.0)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..100 {
        ledger.begin(open_record(number)).await;
        ledger.end(close_record(number));
    }
    assert_eq!(dir.count("SELECT count(*) FROM request"), 0);
    other.execute_batch("ROLLBACK").unwrap();
    ledger.close().await;
    assert_eq!(dir.count("SELECT count(*) FROM request"), 100);
    assert_sums_are_equal(&dir);
}

/// A full spool: requests are counted together, none is lost, and no amount.
#[tokio::test]
async fn a_full_spool_keeps_the_sums() {
    let dir = Directory::new();
    let metrics = Arc::<Metrics>::default();
    let full = config::Ledger { max_spool: 8_000, ..settings(&dir.0) };
    let ledger = Ledger::open(&full, now, &metrics).unwrap();
    let other = Connection::open(database::path(&dir.0)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..200 {
        ledger.begin(open_record(number % 4)).await;
        let again =
            OpenRecord { id: RecordId::new(now(), u128::from(number)), ..open_record(number % 4) };
        ledger.end(CloseRecord { open: again, ..close_record(number % 4) });
    }
    other.execute_batch("ROLLBACK").unwrap();
    ledger.close().await;
    assert!(metrics.ledger_requests_aggregated.get() > 0);
    drop(ledger);
    let reopened = Ledger::open(&settings(&dir.0), now, &metrics).unwrap();
    reopened.close().await;
    let closed = dir.count("SELECT sum(requests) FROM rollup WHERE outcome = 'complete'");
    assert_eq!(closed, 200);
}

#[tokio::test]
async fn rows_and_rollups_are_deleted_after_their_retention() {
    let dir = Directory::new();
    let mut database = Database::open(&dir.0).unwrap();
    database.apply(&[closed(0), closed(1_000)], Cursor::default()).unwrap();
    let middle =
        RecordId::first_of(u64::try_from((now() + Duration::from_mins(700)).as_millis()).unwrap());
    assert!(!database.delete_before(Some(middle), None).unwrap());
    assert_eq!(dir.count("SELECT count(*) FROM request WHERE request_id = 'r-1000'"), 1);
    assert_eq!(dir.count("SELECT count(*) FROM request"), 1);
    assert_eq!(dir.count("SELECT count(*) FROM rollup"), 2);
    database.delete_before(None, Some(middle)).unwrap();
    assert_eq!(dir.count("SELECT count(*) FROM rollup"), 1);
}

#[tokio::test]
async fn a_directory_has_one_writer_and_one_schema() {
    let dir = Directory::new();
    let ledger = Ledger::open(&settings(&dir.0), now, &Arc::default()).unwrap();
    let second = Ledger::open(&settings(&dir.0), now, &Arc::default());
    assert!(matches!(second, Err(LedgerError::Locked(_))));
    ledger.close().await;
    Connection::open(database::path(&dir.0))
        .unwrap()
        .execute("UPDATE migration SET checksum = 1", [])
        .unwrap();
    let changed = Ledger::open(&settings(&dir.0), now, &Arc::default());
    assert!(matches!(changed, Err(LedgerError::Schema(_, 1))));
}
