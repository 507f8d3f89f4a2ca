//! Wake-ups of subscribers, by worker. A publisher wakes the subscribers of its own worker, and one relay of each other
//! worker, which wakes the rest there: to wake a task of another thread costs a system call.
//!
//! A wake-up must never depend on another subscriber, which may be slow.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::source::Source;
use super::track::Track;

thread_local! {
    static WORKER: Cell<Worker> = const { Cell::new(Worker(0)) };
}

/// The worker whose thread waits. 0: a thread without a relay, which publishers wake task by task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker(usize);

impl Worker {
    /// That of this thread.
    pub fn current() -> Self {
        WORKER.get()
    }
}

/// The waiting readers of a track.
#[derive(Debug)]
pub(super) struct Readers(Vec<WorkerReaders>);

/// Those of one worker.
#[derive(Debug, Default)]
struct WorkerReaders {
    appended: Notify,
    /// The count of those who follow the track, waiting or not.
    count: AtomicUsize,
    /// The relay has the track already.
    queued: AtomicBool,
}

impl Readers {
    /// None yet, on so many workers with a relay.
    pub(super) fn new(workers: usize) -> Self {
        Self(std::iter::repeat_with(WorkerReaders::default).take(1 + workers).collect())
    }

    fn of(&self, worker: Worker) -> Option<&WorkerReaders> {
        self.0.get(worker.0)
    }

    /// A reader follows the track from now on.
    pub(super) fn join(&self, worker: Worker) {
        if let Some(readers) = self.of(worker) {
            readers.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A reader has left.
    pub(super) fn leave(&self, worker: Worker) {
        if let Some(readers) = self.of(worker) {
            readers.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Resolves at the next wake-up after this call.
    pub(super) fn appended(&self, worker: Worker) -> Notified<'_> {
        // Every worker has readers, and the first one is there whatever the number.
        static NEVER: Notify = Notify::const_new();
        self.of(worker).map_or(&NEVER, |readers| &readers.appended).notified()
    }

    fn wake(&self, worker: Worker) {
        if let Some(readers) = self.of(worker) {
            // Before the wake-up, and as a read of what the publisher has set: its event is seen by those who wake.
            readers.queued.swap(false, Ordering::AcqRel);
            readers.appended.notify_waiters();
        }
    }
}

/// The relays of all workers.
#[derive(Debug)]
pub(super) struct Relays(Vec<Relay>);

/// The tracks whose readers on one worker have to be woken, each at most once.
#[derive(Debug, Default)]
struct Relay {
    tracks: Mutex<Vec<Arc<Track>>>,
    filled: Notify,
}

impl Relays {
    /// One for each worker.
    pub(super) fn new(workers: usize) -> Self {
        Self(std::iter::repeat_with(Relay::default).take(workers).collect())
    }

    /// Wakes the readers of a track.
    pub(super) fn wake(&self, track: &Arc<Track>) {
        let here = Worker::current();
        for (at, readers) in track.readers.0.iter().enumerate() {
            let worker = Worker(at);
            if at == 0 || worker == here {
                track.readers.wake(worker);
                continue;
            }
            let waits = readers.count.load(Ordering::Relaxed) > 0;
            if let Some(relay) = self.0.get(at - 1).filter(|_| waits)
                && !readers.queued.swap(true, Ordering::AcqRel)
            {
                relay.tracks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(track));
                relay.filled.notify_one();
            }
        }
    }

    /// Relays wake-ups to the tasks of a worker, numbered from 0, for as long as it is polled. It must be polled on that
    /// worker's thread, and until all its subscribers have left.
    pub(super) async fn run(&self, number: usize) -> Infallible {
        let Some(relay) = self.0.get(number) else { return std::future::pending().await };
        let worker = Worker(number + 1);
        WORKER.set(worker);
        loop {
            relay.filled.notified().await;
            let mut tracks = relay.tracks.lock().unwrap_or_else(PoisonError::into_inner);
            let tracks = std::mem::take(&mut *tracks);
            for track in tracks {
                track.readers.wake(worker);
            }
        }
    }
}

/// A source, and the wait for its next event.
type Wait<'s> = (&'s Arc<dyn Source>, Pin<Box<Notified<'s>>>);

/// A wait for several sources. It is armed as soon as it is made: read after that, and nothing is missed.
pub struct Wakeup<'s> {
    worker: Worker,
    waits: Vec<Wait<'s>>,
}

impl<'s> Wakeup<'s> {
    /// Waits for these sources, for a subscription that began on a worker.
    pub fn new(sources: impl IntoIterator<Item = &'s Arc<dyn Source>>, worker: Worker) -> Self {
        let wait = |source: &'s Arc<dyn Source>| (source, Box::pin(source.appended(worker)));
        Self { worker, waits: sources.into_iter().map(wait).collect() }
    }

    /// Resolves when one of the sources has been appended to since this was made, or resolved last. It is armed again
    /// before it resolves.
    pub async fn woken(&mut self) {
        poll_fn(|cx| self.poll_woken(cx)).await;
    }

    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut woken = Poll::Pending;
        for (source, wait) in &mut self.waits {
            if wait.as_mut().poll(cx).is_ready() {
                wait.set(source.appended(self.worker));
                woken = Poll::Ready(());
            }
        }
        woken
    }
}
