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

use super::connection::RequestCounters;
use crate::telemetry::Metrics;

/// The most connections at once, whatever the limit of descriptors.
const MAX_CONNECTIONS: u64 = 50_000;
/// File descriptors per connection of a caller: its own, one of its upstream, and one of an upstream connection that
/// another worker may keep idle.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;
/// File descriptors of the process itself: the log, files, timers.
const PROCESS_DESCRIPTORS: u64 = 16 + ADMIN_CONNECTIONS;
/// File descriptors of each worker's runtime.
const WORKER_DESCRIPTORS: u64 = 8;
/// The most connections of the operators' listener.
const ADMIN_CONNECTIONS: u64 = 16;
/// The most connections that one eviction examines.
const MAX_EVICTION_SCAN: usize = 1024;
/// The age at which a connection without any byte counts as silent: a request may be on its way before.
const MIN_SILENT_AGE: Duration = Duration::from_millis(50);
/// The age at which a connection with an incomplete first head counts as slow.
const MIN_SLOW_AGE: Duration = Duration::from_secs(1);
/// The time that a new connection waits between two evictions.
const EVICTION_INTERVAL: Duration = Duration::from_millis(20);

/// The connections of callers in the process, or those of operators.
pub struct ConnectionLimit {
    room: Arc<Semaphore>,
    open: Mutex<OpenConnections>,
    count: Gauge,
    evictions: Counter,
}

/// Open connections, in the order of their arrival.
#[derive(Default)]
struct OpenConnections {
    slots: BTreeMap<u64, Slot>,
    next: u64,
    /// The last connection that an eviction examined.
    examined: u64,
}

struct Slot {
    requests: RequestCounters,
    evicted: CancellationToken,
    since: Instant,
}

/// Classes of connections that may be evicted, in the order of eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionClass {
    /// The peer has sent no part of a request.
    Silent,
    /// It is idle after a request.
    Idle,
    /// The peer is slow to send the head of its first request.
    Slow,
}

impl Slot {
    /// `None`: it must not be evicted.
    fn eviction_class(&self, now: Instant) -> Option<EvictionClass> {
        let age = now.saturating_duration_since(self.since);
        let (first, in_progress) = (self.requests.has_none(), !self.requests.is_idle());
        match (first, in_progress) {
            _ if self.evicted.is_cancelled() => None,
            (true, false) => (age >= MIN_SILENT_AGE).then_some(EvictionClass::Silent),
            (true, true) => (age >= MIN_SLOW_AGE).then_some(EvictionClass::Slow),
            (false, false) => Some(EvictionClass::Idle),
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
    /// The limit for callers that a number of file descriptors allows.
    pub fn for_callers(descriptors: u64, metrics: &Metrics) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let own = PROCESS_DESCRIPTORS + WORKER_DESCRIPTORS * workers;
        // With very few descriptors, callers still get some.
        let least = (descriptors / (2 * DESCRIPTORS_PER_CONNECTION)).max(1);
        let most = (descriptors.saturating_sub(own) / DESCRIPTORS_PER_CONNECTION)
            .clamp(least.min(MAX_CONNECTIONS), MAX_CONNECTIONS);
        metrics.max_connections.set(i64::try_from(most).unwrap_or(i64::MAX));
        let (count, evictions) = (&metrics.open_connections, &metrics.evicted_connections);
        Self::new(most, count.clone(), evictions.clone())
    }

    /// The limit for operators: a few connections, which no metric counts.
    pub fn for_operators() -> Self {
        Self::new(ADMIN_CONNECTIONS, Gauge::default(), Counter::default())
    }

    fn new(most: u64, count: Gauge, evictions: Counter) -> Self {
        let room = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Self { room, open: Mutex::default(), count, evictions }
    }

    /// Waits for room for an accepted connection, and evicts an idle one if there is none. `None`: the process ends.
    pub(super) async fn acquire(self: &Arc<Self>) -> Option<ConnectionPermit> {
        loop {
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
                return Some(self.permit(permit));
            }
            if self.lock().evict() {
                self.evictions.inc();
            }
            match timeout(EVICTION_INTERVAL, Arc::clone(&self.room).acquire_owned()).await {
                Ok(permit) => return Some(self.permit(permit.ok()?)),
                Err(_nothing_closed) => {}
            }
        }
    }

    fn permit(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> ConnectionPermit {
        let (requests, evicted) = (RequestCounters::default(), CancellationToken::new());
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        let slot =
            Slot { requests: requests.clone(), evicted: evicted.clone(), since: Instant::now() };
        open.slots.insert(number, slot);
        drop(open);
        self.count.inc();
        ConnectionPermit { requests, evicted, number, limit: Arc::clone(self), _permit: permit }
    }

    /// A panic while it is held leaves at worst a surplus entry.
    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Evicts a connection of the lowest class; within a class the next one after the last one examined, which is
    /// the oldest.
    fn evict(&mut self) -> bool {
        let (before, after) = (Bound::Included(self.examined), Bound::Excluded(self.examined));
        let newer = self.slots.range((after, Bound::Unbounded));
        let older = self.slots.range((Bound::Unbounded, before));
        let now = Instant::now();
        let mut found: Option<(EvictionClass, &Slot)> = None;
        let mut last = self.examined;
        for (number, slot) in newer.chain(older).take(MAX_EVICTION_SCAN) {
            last = *number;
            let better =
                slot.eviction_class(now).filter(|it| found.is_none_or(|(best, _)| *it < best));
            found = better.map(|it| (it, slot)).or(found);
            if matches!(found, Some((EvictionClass::Silent, _))) {
                break;
            }
        }
        if let Some((_, slot)) = found {
            slot.evicted.cancel();
        }
        let evicted = found.is_some();
        self.examined = last;
        evicted
    }
}

/// The permit of one open connection. Dropping it makes room.
pub(super) struct ConnectionPermit {
    /// The connection's requests.
    pub(super) requests: RequestCounters,
    /// Cancelled when the connection is to make room for another one.
    pub(super) evicted: CancellationToken,
    number: u64,
    limit: Arc<ConnectionLimit>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for ConnectionPermit {
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

    async fn acquire(limit: &Arc<ConnectionLimit>) -> ConnectionPermit {
        limit.acquire().await.unwrap()
    }

    /// Silent ones are evicted first, the oldest of them, but none that has just been accepted.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_connection_is_closed_for_a_new_one() {
        let own = PROCESS_DESCRIPTORS
            + WORKER_DESCRIPTORS * std::thread::available_parallelism().unwrap().get() as u64;
        let metrics = Arc::<Metrics>::default();
        // Three connections at least, however many workers there are.
        let limit =
            Arc::new(ConnectionLimit::for_callers(3 * DESCRIPTORS_PER_CONNECTION + own, &metrics));
        let most = usize::try_from(metrics.max_connections.get()).unwrap();
        let mut permits = Vec::new();
        for _ in 0..most {
            permits.push(acquire(&limit).await);
        }
        let [first, second] = [0, 1].map(|at| permits[at].evicted.clone());
        let tasks = TaskTracker::new();
        let next = Arc::clone(&limit);
        let waiting = tasks.spawn(async move { acquire(&next).await });
        tokio::task::yield_now().await;
        assert!(!first.is_cancelled() && !second.is_cancelled(), "they have just been accepted");
        advance(MIN_SILENT_AGE).await;
        first.cancelled().await;
        assert!(!second.is_cancelled() && !waiting.is_finished());
        drop(permits.remove(0));
        let permit = waiting.await.unwrap();
        assert_eq!(metrics.open_connections.get(), metrics.max_connections.get());
        assert_eq!(metrics.evicted_connections.get(), 1);
        drop((permit, permits));
        assert_eq!(metrics.open_connections.get(), 0);
    }
}
