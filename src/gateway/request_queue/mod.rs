//! Request queue: requests to a model whose targets are all full wait here, in fair order, until one has room. A wait is
//! part of the request that waits and ends with it. It must never hold more requests than configured, nor let a new
//! request take the place that one in the queue waits for.

mod fair_queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::config::{Queue, QueueClass};
use crate::error::{self, Error};
use crate::telemetry::{Metrics, QueueLabels, QueueRefusalLabels, Sample};
use crate::wire::chat::{ApiError, Kind};
use fair_queue::FairQueue;

/// The longest time between two looks for room: limits may rise, and pauses end, without an event.
const RECHECK: Duration = Duration::from_secs(1);

/// An interval weighs this much in the average of intervals: one in so many.
const INTERVALS: u32 = 8;

/// The longest `retry-after` of a rejected request.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// The event that a target may have room again, for all queues of the process.
#[derive(Debug, Default)]
pub struct FreedCapacity {
    count: AtomicU64,
    notify: Notify,
}

impl FreedCapacity {
    /// A target may have room again.
    pub fn signal(&self) {
        self.count.fetch_add(1, Relaxed);
        self.notify.notify_waiters();
    }
}

/// The queue of one model.
#[derive(Debug)]
pub struct RequestQueue {
    lines: Mutex<Lines>,
    waiting: AtomicUsize,
    freed: Arc<FreedCapacity>,
}

/// The lines of a queue. Requests that may use the same targets are in one line, so that none waits behind a request for
/// another target.
#[derive(Debug, Default)]
struct Lines {
    by_targets: HashMap<u64, Line>,
    next_number: u64,
    /// The average time from one request that is served to the next, while some wait.
    interval: Option<Duration>,
    served: Option<Instant>,
}

#[derive(Debug)]
struct Line {
    number: u64,
    order: FairQueue,
    /// Wakes the request that has become the first.
    first: HashMap<u64, Arc<Notify>>,
}

/// A request that would wait.
#[derive(Debug, Clone)]
pub struct QueueEntry {
    /// The model in metrics.
    pub model: Arc<str>,
    /// Its class.
    pub class: QueueClass,
    /// Its caller.
    pub caller: Arc<str>,
    /// The estimated tokens of its prompt.
    pub input: u64,
    /// The tokens that it may use, with those of its answer.
    pub tokens: u64,
    /// The targets that it may use, as one number.
    pub targets: u64,
    /// It has waited before, and its target had no room all the same: it is the first of its caller's.
    pub is_again: bool,
}

/// A request that does not wait, or no longer.
#[derive(Debug, Clone, Copy)]
struct QueueError {
    reason: Refusal,
    /// The time after which another try may be worth it, if it is known.
    wait: Option<Duration>,
}

/// The reason for which it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Full,
    CallerFull,
    TooLong,
    TimedOut,
}

impl Refusal {
    fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::CallerFull => "caller_full",
            Self::TooLong => "too_long",
            Self::TimedOut => "timed_out",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Full => {
                "every target of this model is full, and so is the queue; send the request again later"
            }
            Self::CallerFull => {
                "half of this model's queue is taken by requests of this caller; send fewer at once"
            }
            Self::TooLong => {
                "every target of this model is full, and the wait in the queue would be too long; send the request again later"
            }
            Self::TimedOut => {
                "no target of this model had room in time; send the request again later"
            }
        }
    }
}

/// A request in a queue; dropping it leaves the queue.
#[derive(Debug)]
pub struct QueuedRequest {
    queue: Arc<RequestQueue>,
    metrics: Arc<Metrics>,
    entry: QueueEntry,
    id: u64,
    first: Arc<Notify>,
    since: Instant,
    until: Instant,
    /// The count of `freed` at the last look for room.
    seen: Option<u64>,
    is_served: bool,
}

/// The tokens that a served request counts in its queue. Dropped before its answer has begun, it counts none.
#[derive(Debug)]
pub struct QueueShare {
    queue: Arc<RequestQueue>,
    entry: QueueEntry,
    line: u64,
    is_used: bool,
}

impl RequestQueue {
    /// An empty queue.
    pub fn new(freed: Arc<FreedCapacity>) -> Self {
        Self { lines: Mutex::default(), waiting: AtomicUsize::default(), freed }
    }

    /// Whether requests wait for these targets.
    pub fn is_waited_for(&self, targets: u64) -> bool {
        self.waiting.load(Relaxed) > 0
            && self.lines.lock().is_ok_and(|lines| lines.by_targets.contains_key(&targets))
    }

    /// Adds a request, which waits until this time at the latest. An error: it is rejected at once.
    pub fn enter(
        self: &Arc<Self>,
        (queue, metrics): (&Queue, &Arc<Metrics>),
        entry: QueueEntry,
        (now, until): (Instant, Instant),
    ) -> Result<QueuedRequest, Error> {
        let poisoned = Err(QueueError { reason: Refusal::Full, wait: None });
        let entered = self.lines.lock().map_or(poisoned, |mut lines| {
            lines.admit(queue, &entry, until.saturating_duration_since(now))?;
            self.waiting.fetch_add(1, Relaxed);
            Ok(lines.push(&entry))
        });
        let (id, first) = entered.map_err(|error| refused(metrics, &entry, error))?;
        metrics.queue_length.get_or_create(&labels(&entry)).inc();
        let (queue, metrics) = (Arc::clone(self), Arc::clone(metrics));
        let (since, seen, is_served) = (now, None, false);
        Ok(QueuedRequest { queue, metrics, entry, id, first, since, until, seen, is_served })
    }
}

impl Lines {
    fn len(&self) -> usize {
        self.by_targets.values().map(|line| line.order.len()).sum()
    }

    /// Whether one more may wait. An error: it may not.
    fn admit(
        &self,
        queue: &Queue,
        entry: &QueueEntry,
        longest: Duration,
    ) -> Result<(), QueueError> {
        let line = self.by_targets.get(&entry.targets);
        let ahead = line.map_or(0, |line| line.order.ahead(&entry.class, &entry.caller)) + 1;
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        let wait = self.interval.map(|interval| interval.saturating_mul(ahead));
        let refuse = |reason| Err(QueueError { reason, wait });
        if self.len() >= queue.most {
            return refuse(Refusal::Full);
        }
        let of_caller = |line: &Line| line.order.len_of(&entry.caller);
        let own: usize = self.by_targets.values().map(of_caller).sum();
        if own >= queue.most.div_ceil(2) {
            return refuse(Refusal::CallerFull);
        }
        if wait > Some(longest) && line.is_some() {
            return refuse(Refusal::TooLong);
        }
        Ok(())
    }

    fn push(&mut self, entry: &QueueEntry) -> (u64, Arc<Notify>) {
        let number = self.next_number;
        let line = self.by_targets.entry(entry.targets).or_insert_with(|| Line {
            number,
            order: FairQueue::default(),
            first: HashMap::new(),
        });
        self.next_number += u64::from(line.number == number);
        let id = line.order.push(&entry.class, &entry.caller, (entry.tokens, entry.is_again));
        let first = Arc::<Notify>::default();
        line.first.insert(id, Arc::clone(&first));
        (id, first)
    }

    /// Removes a request, and wakes the one that is the first now. Returns the number of its line.
    fn remove(&mut self, (entry, id): (&QueueEntry, u64), served: Option<Instant>) -> Option<u64> {
        let line = self.by_targets.get_mut(&entry.targets)?;
        let number = line.number;
        line.first.remove(&id)?;
        match served {
            Some(_) => line.order.serve(id),
            None => line.order.leave(id),
        }
        match line.order.head() {
            Some(head) => {
                if let Some(first) = line.first.get(&head) {
                    first.notify_one();
                }
            }
            None => {
                self.by_targets.remove(&entry.targets);
            }
        }
        if let Some(now) = served {
            self.count_interval(now);
        }
        if self.by_targets.is_empty() {
            self.served = None;
        }
        Some(number)
    }

    /// Counts the time since another request was served.
    fn count_interval(&mut self, now: Instant) {
        if let Some(before) = self.served.replace(now) {
            let time = now.saturating_duration_since(before);
            let average = self.interval.unwrap_or(time);
            self.interval = Some((average * (INTERVALS - 1) + time) / INTERVALS);
        }
    }
}

impl QueuedRequest {
    /// Waits until it is worth to look for room: it is the first in its line, and some may have become free. `pause_ends`:
    /// a target has room then. Returns whether it may wait on; if not, it leaves after this look. Cancel-safe.
    pub async fn turn(&mut self, pause_ends: Option<Instant>) -> bool {
        loop {
            if Instant::now() >= self.until {
                return false;
            }
            let freed = self.queue.freed.notify.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if !self.is_first() {
                tokio::select! {
                    () = self.first.notified() => {}
                    () = sleep_until(self.until) => {}
                }
                continue;
            }
            let count = self.queue.freed.count.load(Relaxed);
            if self.seen.replace(count) != Some(count) {
                return true;
            }
            let now = Instant::now();
            let again = now + RECHECK;
            let again = pause_ends.filter(|end| *end > now).map_or(again, |end| end.min(again));
            tokio::select! {
                () = freed => {}
                () = sleep_until(self.until.min(again)) => self.seen = None,
            }
        }
    }

    fn is_first(&self) -> bool {
        let Ok(lines) = self.queue.lines.lock() else { return true };
        let line = lines.by_targets.get(&self.entry.targets);
        line.is_none_or(|line| line.order.head() == Some(self.id))
    }

    /// It has a target. Returns the time that it has waited, and its share.
    pub fn served(mut self, now: Instant) -> (Duration, Option<QueueShare>) {
        self.is_served = true;
        let line = self.leave(Some(now));
        let waited = now.saturating_duration_since(self.since);
        let (queue, entry) = (Arc::clone(&self.queue), self.entry.clone());
        self.metrics.queue_wait.get_or_create(&labels(&entry)).merge(&Sample::of(waited));
        (waited, line.map(|line| QueueShare { queue, entry, line, is_used: false }))
    }

    /// No target had room in time.
    pub fn timed_out(self) -> Error {
        let interval = self.queue.lines.lock().ok().and_then(|lines| lines.interval);
        refused(
            &self.metrics,
            &self.entry,
            QueueError { reason: Refusal::TimedOut, wait: interval },
        )
    }

    fn leave(&self, served: Option<Instant>) -> Option<u64> {
        self.queue.waiting.fetch_sub(1, Relaxed);
        self.metrics.queue_length.get_or_create(&labels(&self.entry)).dec();
        self.queue.lines.lock().ok()?.remove((&self.entry, self.id), served)
    }
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        if !self.is_served {
            self.leave(None);
        }
    }
}

impl QueueShare {
    /// Its answer has begun, so that its tokens count.
    pub fn begun(&mut self) {
        self.is_used = true;
    }

    /// Its answer is complete, and has used so many tokens of output.
    pub fn settle(&self, output: u64) {
        self.correct(self.entry.input.saturating_add(output));
    }

    fn correct(&self, used: u64) {
        let Ok(mut lines) = self.queue.lines.lock() else { return };
        let line = lines.by_targets.get_mut(&self.entry.targets);
        if let Some(line) = line.filter(|line| line.number == self.line) {
            let counts = (self.entry.tokens, used);
            line.order.settle(&self.entry.class.name, &self.entry.caller, counts);
        }
    }
}

impl Drop for QueueShare {
    fn drop(&mut self) {
        if !self.is_used {
            self.correct(0);
        }
    }
}

fn labels(entry: &QueueEntry) -> QueueLabels {
    QueueLabels { model: Arc::clone(&entry.model), class: Arc::clone(&entry.class.name) }
}

/// Counts a request that does not wait.
fn refused(metrics: &Metrics, entry: &QueueEntry, error: QueueError) -> Error {
    let QueueError { reason, wait } = error;
    let labels = QueueRefusalLabels { model: Arc::clone(&entry.model), reason: reason.word() };
    metrics.queue_refusals.get_or_create(&labels).inc();
    let jitter = rand::rng().random_range(1.0..1.25);
    let wait = wait.unwrap_or_default().mul_f64(jitter);
    let wait = wait.clamp(error::MIN_RETRY_AFTER, MAX_RETRY_AFTER);
    let fault = ApiError::new(Kind::RateLimited, reason.message());
    Error::gateway(fault).retry_after(wait).over("model", "queue")
}
