//! Usage ledger: a row for each request, and sums per quarter hour, which survive a crash. A request must never wait for the
//! disk, unless the configuration asks for it, nor fail because of the ledger.

mod database;
mod error;
mod overflow;
mod record;
mod spool;
#[cfg(test)]
mod tests;
mod threads;

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

pub use database::{Rollup, read_rollups};
pub use error::LedgerError;
pub use record::{CloseRecord, OpenRecord, RecordId, Sums};

use crate::config;
use crate::telemetry::Metrics;
use database::Database;
use overflow::Overflow;
use record::Record;
use threads::{Job, Sink, Spooler};

/// The most records that wait for the spool.
const CHANNEL: usize = 8192;

/// The most records of one transaction.
const BATCH: usize = 512;

/// The ledger of a process.
pub struct Ledger {
    jobs: SyncSender<Job>,
    overflow: Arc<Overflow>,
    metrics: Arc<Metrics>,
    /// A request waits until the spool has its record before it is sent.
    waits: bool,
}

impl Ledger {
    /// Opens the ledger of a directory, takes into the database what the spool still has, and starts the threads. `now`: the
    /// time since 1970.
    pub fn open(
        settings: &config::Ledger,
        now: fn() -> Duration,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, LedgerError> {
        let dir = settings.dir.as_path();
        let failed = |error| LedgerError::Io(dir.to_owned(), error);
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = lock(dir)?;
        let (database, writer, reader) = replay(dir, settings.max_spool)?;
        let (jobs, queue) = sync_channel(CHANNEL);
        let (wake, woken) = sync_channel(1);
        let (done, finished) = oneshot::channel();
        let overflow = Arc::<Overflow>::default();
        let spooler = Spooler {
            writer,
            overflow: Arc::clone(&overflow),
            metrics: Arc::clone(metrics),
            now,
            sync: settings.sync,
            is_failing: false,
            wake,
            finished: Some(finished),
        };
        let sink = Sink {
            database,
            reader,
            metrics: Arc::clone(metrics),
            now,
            retention: (settings.retention, settings.rollup_retention),
            _lock: lock,
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        // Both end when this value is closed or dropped.
        thread("ledger-spool").spawn(move || spooler.run(&queue)).map_err(failed)?;
        thread("ledger-database").spawn(move || sink.run(&woken, done)).map_err(failed)?;
        Ok(Self { jobs, overflow, metrics: Arc::clone(metrics), waits: settings.wait_for_append })
    }

    /// Takes a request that is about to be sent to an upstream.
    pub async fn begin(&self, open: OpenRecord) {
        let (appended, done) = if self.waits {
            let (appended, done) = oneshot::channel();
            (Some(appended), Some(done))
        } else {
            (None, None)
        };
        if self.jobs.try_send(Job::Append(Box::new(Record::Open(open)), appended)).is_err() {
            return;
        }
        if let Some(done) = done {
            // It may have failed: then the request goes on all the same.
            let _appended = done.await;
        }
    }

    /// Takes a request that has ended.
    pub fn end(&self, close: CloseRecord) {
        let job = Job::Append(Box::new(Record::Close(close)), None);
        let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.jobs.try_send(job)
        else {
            return;
        };
        if let Job::Append(record, _) = job {
            self.metrics.ledger_requests_aggregated.inc();
            self.overflow.put_back(&[*record]);
        }
    }

    /// Takes all that was sent before into the database, and ends the threads.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        let mut job = Job::Stop(closed);
        while let Err(TrySendError::Full(full)) = self.jobs.try_send(job) {
            job = full;
            tokio::task::yield_now().await;
        }
        let _closed = done.await;
    }
}

/// Keeps other processes from a directory for as long as the file is open.
fn lock(dir: &Path) -> Result<File, LedgerError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|error| LedgerError::Io(path.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(LedgerError::Io(path, error)),
    }
}

/// Opens database and spool, and takes from the spool what the process before this one has left there.
fn replay(
    dir: &Path,
    max_spool: u64,
) -> Result<(Database, spool::SpoolWriter, spool::SpoolReader), LedgerError> {
    let mut database = Database::open(dir)?;
    let spool_dir = dir.join("spool");
    let (writer, mut reader) = spool::open(&spool_dir, database.cursor()?, max_spool)?;
    let failed = |error| LedgerError::Io(spool_dir.clone(), error);
    let mut replayed = 0;
    loop {
        let (records, cursor) = reader.read(BATCH, true).map_err(failed)?;
        database.apply(&records, cursor)?;
        reader.advance(cursor).map_err(failed)?;
        replayed += records.len();
        if records.is_empty() {
            break;
        }
    }
    let lost = database.close_lost()?;
    if replayed + lost > 0 {
        tracing::info!(
            replayed,
            lost,
            "the ledger has taken over what the process before this one has left"
        );
    }
    Ok((database, writer, reader))
}
