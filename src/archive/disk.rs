//! Disk archive: one thread that owns a file, fed by a bounded queue. It must never hold a caller up for longer than it
//! takes to put an operation into the queue, and never stop because its disk is full or slow.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redb::ReadableTable;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::store::{Store, StoreError, Tables};
use super::{Archive, ArchiveError, Change, Key, Kind, Listed, Pending, Range, Record};
use crate::config;
use crate::telemetry::Metrics;

/// The most operations that wait.
const QUEUE: usize = 1_024;

/// The most bytes of values that wait.
const QUEUED_BYTES: usize = 64 << 20;

/// The most operations of one transaction.
const BATCH: usize = 256;

/// The time between two looks for records that have expired.
const PURGE: Duration = Duration::from_secs(5);

/// The time after a failure in which the file is not tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Records in a file.
pub struct DiskArchive {
    /// `None`: it was closed.
    jobs: Mutex<Option<SyncSender<Job>>>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

/// A file that cannot be opened.
#[derive(Debug)]
pub(super) struct OpenError {
    path: PathBuf,
    cause: StoreError,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = match &self.cause {
            StoreError::DatabaseAlreadyOpen => {
                "another process has it open: stop that one, or name another file"
            }
            StoreError::Io(error)
                if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                "name a file in a directory that exists and may be written to"
            }
            _ => {
                "it is damaged, or no file of Streamgate's: move it away, and a new one is made at the next start; \
                 what it holds is then forgotten"
            }
        };
        let path = self.path.display();
        write!(f, "streams.path: cannot open {path}: {}; {remedy}", self.cause)
    }
}

impl std::error::Error for OpenError {}

/// An operation, and the receiver of its result.
enum Job {
    Write(Vec<Change>, Reply<()>),
    Get(Key, Reply<Option<Bytes>>),
    List(Kind, Arc<str>, Reply<Vec<Listed>>),
    Scan(Range, Reply<Vec<Record>>),
    Close(Reply<()>),
}

type Reply<T> = oneshot::Sender<Result<T, ArchiveError>>;

impl DiskArchive {
    /// Opens the file, or makes it, and starts the thread. `now`: the time in Unix seconds.
    pub fn open(
        settings: &config::Archive,
        now: fn() -> u64,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let config::Archive { path, max_disk: most } = settings.clone();
        let store = open(&path, most);
        let store = store.map_err(|cause| OpenError { path: path.clone(), cause })?;
        let (jobs, queue) = sync_channel(QUEUE);
        let waiting = Arc::<AtomicUsize>::default();
        let mut worker = Worker {
            path,
            most,
            now,
            metrics: Arc::clone(metrics),
            waiting: Arc::clone(&waiting),
            store: Some(store),
            failed: None,
        };
        worker.measure();
        let builder = std::thread::Builder::new().name("archive".to_owned());
        // It ends when this value is dropped or closed.
        builder.spawn(move || worker.run(&queue))?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), waiting, metrics: Arc::clone(metrics) })
    }

    /// Puts an operation into the queue.
    fn begin<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> Pending<T> {
        let (reply, result) = oneshot::channel();
        let sent = self.send(bytes, job(reply));
        Box::pin(async move {
            sent?;
            result.await.unwrap_or(Err(ArchiveError::Closed))
        })
    }

    fn send(&self, bytes: usize, job: Job) -> Result<(), ArchiveError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = jobs.as_ref().ok_or(ArchiveError::Closed)?;
        let before = self.waiting.fetch_add(bytes, Relaxed);
        let sent = if before > 0 && before + bytes > QUEUED_BYTES {
            Err(ArchiveError::Busy)
        } else {
            jobs.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => ArchiveError::Busy,
                TrySendError::Disconnected(_) => ArchiveError::Closed,
            })
        };
        if sent.is_err() {
            self.waiting.fetch_sub(bytes, Relaxed);
        }
        sent
    }
}

impl Archive for DiskArchive {
    fn write(&self, changes: Vec<Change>) -> Pending<()> {
        let records = count(&changes);
        let (bytes, lost) = (size(&changes), self.metrics.archive_records_lost.clone());
        let (reply, result) = oneshot::channel();
        let sent = self.send(bytes, Job::Write(changes, reply));
        if sent.is_err() {
            lost.inc_by(records);
        }
        Box::pin(async move {
            sent?;
            result.await.unwrap_or(Err(ArchiveError::Closed))
        })
    }

    fn get(&self, key: Key) -> Pending<Option<Bytes>> {
        self.begin(0, |reply| Job::Get(key, reply))
    }

    fn list(&self, kind: Kind, owner: &Arc<str>) -> Pending<Vec<Listed>> {
        let owner = Arc::clone(owner);
        self.begin(0, |reply| Job::List(kind, owner, reply))
    }

    fn scan(&self, range: Range) -> Pending<Vec<Record>> {
        self.begin(0, |reply| Job::Scan(range, reply))
    }

    fn close(&self) -> Pending<()> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (reply, result) = oneshot::channel();
        Box::pin(async move {
            let Some(jobs) = jobs else { return Ok(()) };
            // The queue may be full, and the thread empties it.
            let sent = tokio::task::spawn_blocking(move || jobs.send(Job::Close(reply)).is_ok());
            if !sent.await.unwrap_or(false) {
                return Err(ArchiveError::Closed);
            }
            result.await.unwrap_or(Err(ArchiveError::Closed))
        })
    }
}

impl fmt::Debug for DiskArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskArchive({} bytes waiting)", self.waiting.load(Relaxed))
    }
}

/// The records that changes put.
fn count(changes: &[Change]) -> u64 {
    changes.iter().filter(|change| matches!(change, Change::Put { .. })).count() as u64
}

/// The bytes that changes hold.
fn size(changes: &[Change]) -> usize {
    let size = |change: &Change| match change {
        Change::Put { value, .. } => value.len(),
        Change::Prolong { .. }
        | Change::Remove(_)
        | Change::RemoveUpTo(_)
        | Change::RemovePrefixed(_) => 0,
    };
    changes.iter().map(size).sum()
}

/// Opens a file. The store is not ours, and a damaged file must end nothing.
fn open(path: &Path, most: u64) -> Result<Store, StoreError> {
    let opened = catch_unwind(|| Store::open(path, most));
    opened.unwrap_or_else(|_| {
        Err(StoreError::Corrupted("its pages contradict each other".to_owned()))
    })
}

/// The thread's state.
struct Worker {
    path: PathBuf,
    most: u64,
    now: fn() -> u64,
    metrics: Arc<Metrics>,
    waiting: Arc<AtomicUsize>,
    /// `None`: it has failed.
    store: Option<Store>,
    failed: Option<(Instant, ArchiveError)>,
}

impl Worker {
    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            let first = match queue.recv_timeout(PURGE) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut batch: Vec<Job> = first.into_iter().collect();
            let rest = std::iter::from_fn(|| queue.try_recv().ok());
            batch.extend(rest.take(if batch.is_empty() { 0 } else { BATCH }));
            let closing = batch.iter().position(|job| matches!(job, Job::Close(_)));
            let closing = closing.and_then(|at| batch.drain(at..).next());
            self.work(batch);
            if let Some(Job::Close(reply)) = closing {
                let _gone = reply.send(self.close());
                return;
            }
        }
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the archive was not closed cleanly; its file is checked at the next start");
        }
    }

    fn close(&mut self) -> Result<(), ArchiveError> {
        let closed = self.store.take().map_or(Ok(()), Store::close);
        closed.map_err(|error| ArchiveError::Storage(error.to_string()))
    }

    /// Does a batch of operations: all changes in one transaction.
    fn work(&mut self, batch: Vec<Job>) {
        let mut batch = Batch { jobs: batch.into(), written: Vec::new() };
        let bytes: usize = batch.jobs.iter().map(Job::bytes).sum();
        let result = catch_unwind(AssertUnwindSafe(|| self.attempt(&mut batch)));
        let result = result.unwrap_or_else(|_| {
            Err(ArchiveError::Storage("the store has met a page that it cannot read".to_owned()))
        });
        self.waiting.fetch_sub(bytes, Relaxed);
        if let Err(error) = &result {
            self.fail(error, batch.records());
        }
        batch.reply(&result);
        self.measure();
    }

    /// Replies to reads, and leaves the replies to writes to the commit.
    fn attempt(&mut self, batch: &mut Batch) -> Result<(), ArchiveError> {
        let (now, metrics) = ((self.now)(), Arc::clone(&self.metrics));
        let store = self.opened()?;
        let failed = |error: StoreError| ArchiveError::Storage(error.to_string());
        let is_write = |job: &Job| matches!(job, Job::Write(..));
        if !batch.jobs.iter().any(is_write) && !store.is_due(now).map_err(failed)? {
            let tables = store.read().map_err(failed)?;
            while let Some(job) = batch.next() {
                job.read(&tables, now).map_err(failed)?;
            }
            return Ok(());
        }
        let written = store.write(now, |writing| {
            while let Some(job) = batch.next() {
                match job {
                    Job::Write(changes, reply) => {
                        // Its reply waits for the commit, whatever happens now.
                        let records = count(&changes);
                        batch.written.push((reply, records));
                        changes.iter().try_for_each(|change| writing.change(change))?;
                    }
                    job => job.read(&writing.tables, now)?,
                }
            }
            Ok(())
        });
        let ((), evicted) = written.map_err(failed)?;
        metrics.archive_records_evicted.inc_by(evicted);
        Ok(())
    }

    /// The store, which is opened again some time after it has failed: the disk may have room by then.
    fn opened(&mut self) -> Result<&mut Store, ArchiveError> {
        if let Some((since, error)) = &self.failed
            && since.elapsed() < RETRY
        {
            return Err(error.clone());
        }
        let store = if let Some(store) = self.store.take() {
            store
        } else {
            let reopened = open(&self.path, self.most);
            let store = reopened.map_err(|error| ArchiveError::Storage(error.to_string()))?;
            tracing::info!("the archive works again (streams.path)");
            store
        };
        self.failed = None;
        Ok(self.store.insert(store))
    }

    /// Notes a failure. A store that has failed must be opened again.
    fn fail(&mut self, error: &ArchiveError, records: u64) {
        self.metrics.archive_records_lost.inc_by(records);
        if self.failed.as_ref().is_some_and(|(since, _)| since.elapsed() < RETRY) {
            return;
        }
        // The store is not ours: what it does when it is dropped must end nothing either.
        let store = self.store.take();
        let _panic = catch_unwind(AssertUnwindSafe(|| drop(store)));
        self.failed = Some((Instant::now(), error.clone()));
        let path = self.path.display();
        tracing::error!(%error, %path, "the archive cannot be used; streams run on, and are not kept on disk (streams.path)");
    }

    fn measure(&self) {
        let bytes = self.store.as_ref().map_or(0, Store::bytes);
        self.metrics.archive_used.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// Operations that are done together.
struct Batch {
    jobs: VecDeque<Job>,
    /// The receivers of the commit's result, with their numbers of records.
    written: Vec<(Reply<()>, u64)>,
}

impl Batch {
    fn next(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// The records that are lost if it fails.
    fn records(&self) -> u64 {
        let left = self.jobs.iter().map(|job| match job {
            Job::Write(changes, _) => count(changes),
            _ => 0,
        });
        self.written.iter().map(|(_, records)| *records).chain(left).sum()
    }

    fn reply(self, result: &Result<(), ArchiveError>) {
        // A caller that has gone does not wait for it.
        for (reply, _) in self.written {
            let _gone = reply.send(result.clone());
        }
        if let Err(error) = result {
            for job in self.jobs {
                job.fail(error);
            }
        }
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Write(changes, _) => size(changes),
            Self::Get(..) | Self::List(..) | Self::Scan(..) | Self::Close(_) => 0,
        }
    }

    /// Replies to a read.
    fn read<R, M>(self, tables: &Tables<R, M>, now: u64) -> Result<(), StoreError>
    where
        R: ReadableTable<&'static [u8], &'static [u8]>,
        M: ReadableTable<&'static [u8], (u64, u64, u64)>,
    {
        match self {
            Self::Get(key, reply) => drop(reply.send(Ok(tables.get(now, &key)?))),
            Self::List(kind, owner, reply) => {
                drop(reply.send(Ok(tables.list(now, kind, &owner)?)));
            }
            Self::Scan(range, reply) => drop(reply.send(Ok(tables.scan(now, &range)?))),
            Self::Write(..) | Self::Close(_) => {}
        }
        Ok(())
    }

    fn fail(self, error: &ArchiveError) {
        let error = error.clone();
        match self {
            Self::Write(_, reply) | Self::Close(reply) => drop(reply.send(Err(error))),
            Self::Get(_, reply) => drop(reply.send(Err(error))),
            Self::List(_, _, reply) => drop(reply.send(Err(error))),
            Self::Scan(_, reply) => drop(reply.send(Err(error))),
        }
    }
}
