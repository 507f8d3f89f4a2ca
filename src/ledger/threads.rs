//! Threads of the ledger: one appends records to the spool, one takes them from there into the database. A failure must
//! never end them: the database's records wait in the spool, and the spool's become sums in memory.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::park_timeout;
use std::time::Duration;

use rand::random;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::BATCH;
use super::database::Database;
use super::overflow::Overflow;
use super::record::{Record, RecordId, encode};
use super::spool::{SpoolReader, SpoolWriter};
use crate::telemetry::Metrics;

/// The time between two transactions, in which records come together.
const GATHER: Duration = Duration::from_millis(50);

/// The time between two attempts at a database that fails.
const RETRY: Duration = Duration::from_secs(1);

/// The time between two looks for rows to delete.
const PURGE: Duration = Duration::from_mins(1);

/// The longest that the spool's thread waits for a record.
const TICK: Duration = Duration::from_secs(1);

/// The work of the spool's thread.
pub(super) enum Job {
    /// To append a record. The sender is dropped when that is done, or has failed.
    Append(Box<Record>, Option<oneshot::Sender<()>>),
    /// To end. The sender is dropped when the database has all.
    Stop(oneshot::Sender<()>),
}

/// The thread that appends to the spool.
pub(super) struct Spooler {
    pub writer: SpoolWriter,
    pub overflow: Arc<Overflow>,
    pub metrics: Arc<Metrics>,
    pub now: fn() -> Duration,
    /// Time between two writes to the disk. Zero: each append is one.
    pub sync: Duration,
    /// The last append has failed, which is logged once.
    pub is_failing: bool,
    /// Wakes the other thread; dropped, it ends it.
    pub wake: SyncSender<()>,
    /// Resolves when the other thread has ended.
    pub finished: Option<oneshot::Receiver<()>>,
}

impl Spooler {
    /// Appends until the channel is closed.
    pub(super) fn run(mut self, queue: &Receiver<Job>) {
        let mut synced = Instant::now();
        let mut stop = None;
        while stop.is_none() {
            let first = match queue.recv_timeout(self.sync.clamp(GATHER, TICK)) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let (mut records, mut waiting) = (Vec::new(), Vec::new());
            for job in first.into_iter().chain(queue.try_iter()).take(BATCH) {
                match job {
                    Job::Append(record, appended) => {
                        records.push(*record);
                        waiting.extend(appended);
                    }
                    Job::Stop(closed) => stop = Some(closed),
                }
            }
            self.append(&records);
            let now = Instant::now();
            if now.saturating_duration_since(synced) >= self.sync {
                self.sync();
                synced = now;
            }
            drop(waiting);
        }
        // The last sums go to disk even where requests had no room.
        self.writer.lift_limit();
        self.append(&[]);
        self.sync();
        drop(self.wake);
        if let Some(finished) = self.finished.take() {
            // The other thread drops its end when it has all.
            let _dropped = finished.blocking_recv();
        }
        drop(stop);
    }

    /// Appends records, and then the sums of those for which there was no room.
    fn append(&mut self, records: &[Record]) {
        if !records.is_empty() && !self.write(records) {
            let closes = records.iter().filter(|record| matches!(record, Record::Close(_)));
            self.metrics.ledger_requests_aggregated.inc_by(closes.count() as u64);
            return;
        }
        let now = self.now;
        let sums = self.overflow.take(|| RecordId::new(now(), random()));
        // One at a time: a record that does not fit must not keep the others back.
        for record in sums.chunks(1) {
            self.write(record);
        }
    }

    /// Writes records to the spool, or else to the overflow. Returns whether the spool has them.
    fn write(&mut self, records: &[Record]) -> bool {
        let mut frames = Vec::new();
        for record in records {
            if !encode(record, &mut frames) {
                self.metrics.ledger_errors.inc();
            }
        }
        if let Err(error) = self.writer.append(&frames) {
            self.metrics.ledger_errors.inc();
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(%error, "the ledger's spool cannot be written to: requests are counted together in memory");
            }
            self.overflow.put_back(records);
            return false;
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("the ledger's spool can be written to again");
        }
        let _awake = self.wake.try_send(());
        true
    }

    fn sync(&mut self) {
        if let Err(error) = self.writer.sync() {
            self.metrics.ledger_errors.inc();
            tracing::warn!(%error, "the disk did not take the ledger's spool");
        }
    }
}

/// The thread that writes to the database.
pub(super) struct Sink {
    pub database: Database,
    pub reader: SpoolReader,
    pub metrics: Arc<Metrics>,
    pub now: fn() -> Duration,
    /// The times for which rows and roll-ups are kept. `None`: for ever.
    pub retention: (Option<Duration>, Option<Duration>),
    pub _lock: File,
}

impl Sink {
    /// Takes records from the spool until the other thread has ended. `done` is dropped then.
    pub(super) fn run(mut self, woken: &Receiver<()>, done: oneshot::Sender<()>) {
        let mut purged = Instant::now();
        self.purge();
        loop {
            let wait = woken.recv_timeout(TICK);
            let is_over = wait == Err(RecvTimeoutError::Disconnected);
            let caught_up = self.catch_up(is_over);
            if is_over {
                break;
            }
            if purged.elapsed() >= PURGE {
                self.purge();
                purged = Instant::now();
            }
            park_timeout(if caught_up { GATHER } else { RETRY });
        }
        drop(self);
        drop(done);
    }

    /// Takes all that the spool has. Returns whether that worked.
    fn catch_up(&mut self, is_over: bool) -> bool {
        loop {
            let taken = self.take(is_over);
            self.metrics
                .ledger_spool_used
                .set(i64::try_from(self.reader.used()).unwrap_or(i64::MAX));
            match taken {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    self.metrics.ledger_errors.inc();
                    tracing::warn!(
                        error,
                        "the ledger's database cannot be written to: records wait in the spool"
                    );
                    return false;
                }
            }
        }
    }

    fn take(&mut self, is_over: bool) -> Result<usize, String> {
        let (records, cursor) =
            self.reader.read(BATCH, is_over).map_err(|error| error.to_string())?;
        if cursor != self.reader.cursor {
            self.database.apply(&records, cursor).map_err(|error| error.to_string())?;
            self.reader.advance(cursor).map_err(|error| error.to_string())?;
        }
        Ok(records.len())
    }

    /// Deletes what is older than its retention.
    fn purge(&mut self) {
        let before = |keep: Option<Duration>| {
            let oldest = (self.now)().checked_sub(keep?)?;
            Some(RecordId::first_of(u64::try_from(oldest.as_millis()).ok()?))
        };
        let (row, rollup) = (before(self.retention.0), before(self.retention.1));
        loop {
            match self.database.delete_before(row, rollup) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.metrics.ledger_errors.inc();
                    tracing::warn!(%error, "old rows of the ledger cannot be deleted");
                    return;
                }
            }
        }
    }
}
