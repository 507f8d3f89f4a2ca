//! Connection limit: open connections of callers, per process, and eviction of idle ones. A connection with a
//! request under way is never evicted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::Asked;
use crate::telemetry::Metrics;

/// The most connections at once, however many descriptors there may be.
const MOST: u64 = 50_000;
/// Of the file descriptors callers get one part in this many: each stream takes another one for its upstream, and
/// another worker may keep as many upstream connections idle.
const PART: u64 = 3;
/// What the program itself takes: the log, files, timers, and what each worker waits with.
const OWN: u64 = 16 + OPERATORS;
const OWN_OF_WORKER: u64 = 8;
/// The connections of operators, on a listener of their own, whatever callers do.
const OPERATORS: u64 = 16;
/// How many connections are looked at for one that is idle.
const LOOKS: usize = 1024;
/// A new connection whose request may still be on its way is not silent.
const SILENT: Duration = Duration::from_millis(50);
/// The head of a first request mostly comes at once.
const SLOW: Duration = Duration::from_secs(1);
/// How long a new connection waits until the next look.
const PAUSE: Duration = Duration::from_millis(20);

/// The connections of callers in the process, or those of operators.
pub struct ConnectionLimit {
    room: Arc<Semaphore>,
    open: Mutex<Open>,
    count: Gauge,
    evictions: Counter,
}

/// Those that are open, by the order in which they came.
#[derive(Default)]
struct Open {
    slots: BTreeMap<u64, Slot>,
    next: u64,
    /// Where the last look ended.
    looked: u64,
}

struct Slot {
    asked: Asked,
    evicted: CancellationToken,
    since: Instant,
}

/// What a connection is used for that may be closed for another one: the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Its peer has sent no part of a request.
    Silent,
    /// It waits for another request.
    Idle,
    /// Its peer takes long to send the head of its first request.
    Slow,
}

impl Slot {
    /// `None`: it must not be closed.
    fn usefulness(&self, now: Instant) -> Option<Use> {
        let age = now.saturating_duration_since(self.since);
        let (first, under_way) = (self.asked.is_nothing(), !self.asked.is_idle());
        match (first, under_way) {
            _ if self.evicted.is_cancelled() => None,
            (true, false) => (age >= SILENT).then_some(Use::Silent),
            (true, true) => (age >= SLOW).then_some(Use::Slow),
            (false, false) => Some(Use::Idle),
            (false, true) => None,
        }
    }
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionLimit({} left)", self.room.available_permits())
    }
}

impl ConnectionLimit {
    /// Callers get as many connections as so many file descriptors allow.
    pub fn of_callers(descriptors: u64, metrics: &Metrics) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let own = OWN + OWN_OF_WORKER * workers;
        // With very few descriptors, callers still get some.
        let least = (descriptors / (2 * PART)).max(1);
        let most = (descriptors.saturating_sub(own) / PART).clamp(least.min(MOST), MOST);
        metrics.max_connections.set(i64::try_from(most).unwrap_or(i64::MAX));
        let (count, evictions) = (&metrics.open_connections, &metrics.evicted_connections);
        Self::new(most, count.clone(), evictions.clone())
    }

    /// A few connections, which no metric counts.
    pub fn of_operators() -> Self {
        Self::new(OPERATORS, Gauge::default(), Counter::default())
    }

    fn new(most: u64, count: Gauge, evictions: Counter) -> Self {
        let room = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Self { room, open: Mutex::default(), count, evictions }
    }

    /// Waits for room for one that has been accepted, and closes an idle one if there is none. `None`:
    /// never, the process ends.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Place> {
        loop {
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
                return Some(self.place(permit));
            }
            if self.lock().evict() {
                self.evictions.inc();
            }
            match timeout(PAUSE, Arc::clone(&self.room).acquire_owned()).await {
                Ok(permit) => return Some(self.place(permit.ok()?)),
                Err(_nothing_closed) => {}
            }
        }
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let (asked, evicted) = (Asked::default(), CancellationToken::new());
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        let slot = Slot { asked: asked.clone(), evicted: evicted.clone(), since: Instant::now() };
        open.slots.insert(number, slot);
        drop(open);
        self.count.inc();
        Place { asked, evicted, number, limit: Arc::clone(self), _permit: permit }
    }

    /// A panic while it is held leaves at worst an entry too many, never a broken one.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes the one that is used least; among those alike, the one after the last one looked at, and so the
    /// oldest.
    fn evict(&mut self) -> bool {
        let (before, after) = (Bound::Included(self.looked), Bound::Excluded(self.looked));
        let newer = self.slots.range((after, Bound::Unbounded));
        let older = self.slots.range((Bound::Unbounded, before));
        let now = Instant::now();
        let mut found: Option<(Use, &Slot)> = None;
        let mut last = self.looked;
        for (number, slot) in newer.chain(older).take(LOOKS) {
            last = *number;
            let better = slot.usefulness(now).filter(|it| found.is_none_or(|(best, _)| *it < best));
            found = better.map(|it| (it, slot)).or(found);
            if matches!(found, Some((Use::Silent, _))) {
                break;
            }
        }
        if let Some((_, slot)) = found {
            slot.evicted.cancel();
        }
        let evicted = found.is_some();
        self.looked = last;
        evicted
    }
}

/// The place of one connection. Dropping it makes room.
pub(super) struct Place {
    /// What was asked of the connection so far.
    pub(super) asked: Asked,
    /// Cancelled when it is to make room for another one.
    pub(super) evicted: CancellationToken,
    number: u64,
    limit: Arc<ConnectionLimit>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limit.lock().slots.remove(&self.number);
        self.limit.count.dec();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tokio_util::task::TaskTracker;

    use super::*;

    async fn enter(limit: &Arc<ConnectionLimit>) -> Place {
        limit.enter().await.unwrap()
    }

    /// Silent ones go first, the oldest of them, but none that has just come.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_connection_is_closed_for_a_new_one() {
        let own = OWN + OWN_OF_WORKER * std::thread::available_parallelism().unwrap().get() as u64;
        let metrics = Arc::<Metrics>::default();
        // Three connections at least, however many workers there are.
        let limit = Arc::new(ConnectionLimit::of_callers(3 * PART + own, &metrics));
        let most = usize::try_from(metrics.max_connections.get()).unwrap();
        let mut places = Vec::new();
        for _ in 0..most {
            places.push(enter(&limit).await);
        }
        let [first, second] = [0, 1].map(|at| places[at].evicted.clone());
        let tasks = TaskTracker::new();
        let next = Arc::clone(&limit);
        let waiting = tasks.spawn(async move { enter(&next).await });
        tokio::task::yield_now().await;
        assert!(!first.is_cancelled() && !second.is_cancelled(), "they have just come");
        advance(SILENT).await;
        first.cancelled().await;
        assert!(!second.is_cancelled() && !waiting.is_finished());
        drop(places.remove(0));
        let place = waiting.await.unwrap();
        assert_eq!(metrics.open_connections.get(), metrics.max_connections.get());
        assert_eq!(metrics.evicted_connections.get(), 1);
        drop((place, places));
        assert_eq!(metrics.open_connections.get(), 0);
    }
}
