//! How many connections of callers are open at once in the process, and which idle one is closed for a new one. A
//! connection with a request under way is never closed for another.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::Asked;
use crate::telemetry::Metrics;

/// The most connections at once, however many descriptors there may be.
const MOST: u64 = 50_000;
/// Of the file descriptors callers get one part in this many: each stream takes another one for its upstream, and
/// another worker may keep as many upstream connections idle.
const PART: u64 = 3;
/// What the program itself takes: the log, files, timers, and what each worker waits with.
const OWN: u64 = 16;
const OWN_OF_WORKER: u64 = 8;
/// How many connections are looked at for one that is idle.
const LOOKS: usize = 1024;
/// How long a new connection waits until the next look.
const PAUSE: Duration = Duration::from_millis(20);

/// The connections of the process.
pub struct ConnectionLimit {
    room: Arc<Semaphore>,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
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
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionLimit({} left)", self.room.available_permits())
    }
}

impl ConnectionLimit {
    /// As many connections as so many file descriptors allow.
    pub fn new(descriptors: u64, metrics: Arc<Metrics>) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let own = OWN + OWN_OF_WORKER * workers;
        // With very few descriptors, callers still get some.
        let least = (descriptors / (2 * PART)).max(1);
        let most = (descriptors.saturating_sub(own) / PART).clamp(least.min(MOST), MOST);
        metrics.max_connections.set(i64::try_from(most).unwrap_or(i64::MAX));
        let room = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        Self { room, open: Mutex::default(), metrics }
    }

    /// Waits for room for one that has been accepted, and closes an idle one if there is none. `None`:
    /// never, the process ends.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Place> {
        loop {
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
                return Some(self.place(permit));
            }
            if self.lock().evict() {
                self.metrics.evicted_connections.inc();
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
        let number = open.next;
        open.next += 1;
        open.slots.insert(number, Slot { asked: asked.clone(), evicted: evicted.clone() });
        drop(open);
        self.metrics.open_connections.inc();
        Place { asked, evicted, number, limit: Arc::clone(self), _permit: permit }
    }

    /// A panic while it is held leaves at worst an entry too many, never a broken one.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes one that has asked nothing yet, the oldest first, or else one that is idle between requests.
    fn evict(&mut self) -> bool {
        let (before, after) = (Bound::Included(self.looked), Bound::Excluded(self.looked));
        let newer = self.slots.range((after, Bound::Unbounded));
        let older = self.slots.range((Bound::Unbounded, before));
        let mut idle = None;
        let mut last = self.looked;
        for (number, slot) in newer.chain(older).take(LOOKS) {
            last = *number;
            if slot.evicted.is_cancelled() {
                continue;
            }
            if slot.asked.is_nothing() {
                idle = Some(slot);
                break;
            }
            if idle.is_none() && slot.asked.is_idle() {
                idle = Some(slot);
            }
        }
        if let Some(slot) = idle {
            slot.evicted.cancel();
        }
        let evicted = idle.is_some();
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
        self.limit.metrics.open_connections.dec();
    }
}
