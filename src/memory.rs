//! Memory budget of the process, for request bodies and buffered parts of answers. Bytes are acquired as they arrive
//! and released when their lease is dropped. It must never wait: bytes without room are rejected.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::error::{Error, MIN_RETRY_AFTER};
use crate::telemetry::{MemoryLabels, Metrics};
use crate::wire::chat::{ApiError, End, Kind};

/// Parts of answers are acquired in steps, so that a token touches no memory that workers share; less
/// than a step counts as nothing.
const STEP: usize = 64 * 1024;

/// The shares of `server.memory`. The rest, an eighth, is for connections, for work on large bodies, and
/// for the program.
#[derive(Debug)]
pub struct MemoryBudget {
    /// Half: request bodies, each byte twice, because the upstream's request is a copy of it.
    pub requests: Arc<MemoryShare>,
    /// A quarter: parts of answers that are kept until they are whole, and large events that callers have not
    /// yet read.
    pub answers: Arc<MemoryShare>,
    /// An eighth: the logs of durable streams.
    pub streams: Arc<MemoryShare>,
}

impl MemoryBudget {
    /// The shares of so many bytes, measured by these metrics.
    pub fn new(memory: usize, metrics: &Metrics) -> Self {
        let share = |share| Arc::new(MemoryShare::new(share, 0, metrics));
        let budget = Self {
            requests: share("requests"),
            answers: share("answers"),
            streams: share("streams"),
        };
        budget.resize(memory);
        budget
    }

    /// Changes the number of bytes. Bytes in use stay in use.
    pub fn resize(&self, memory: usize) {
        self.requests.resize(memory / 2);
        self.answers.resize(memory / 4);
        self.streams.resize(memory / 8);
    }
}

/// One share: how many of its bytes are in use, and how many may be.
pub struct MemoryShare {
    /// The gauges of the metrics are the counts themselves.
    used: Gauge,
    limit: Gauge,
    refusals: Counter,
}

impl fmt::Debug for MemoryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryShare({} of {})", self.used.get(), self.limit.get())
    }
}

impl MemoryShare {
    /// A share of so many bytes beside those of [`MemoryBudget`], measured by these metrics.
    pub fn new(share: &'static str, bytes: usize, metrics: &Metrics) -> Self {
        let label = MemoryLabels { share };
        let own = Self {
            used: metrics.memory_used.get_or_create(&label).clone(),
            limit: metrics.memory_limit.get_or_create(&label).clone(),
            refusals: metrics.memory_refusals.get_or_create(&label).clone(),
        };
        own.resize(bytes);
        own
    }

    /// Changes the number of bytes. Bytes in use stay in use.
    pub fn resize(&self, bytes: usize) {
        self.limit.set(count(bytes));
    }

    /// A lease of nothing yet.
    pub fn lease(self: &Arc<Self>) -> MemoryLease {
        MemoryLease { share: Arc::clone(self), caller: None, bytes: 0 }
    }

    /// A lease for one caller, of nothing yet.
    pub fn lease_for(self: &Arc<Self>, caller: &Arc<CallerMemory>) -> MemoryLease {
        MemoryLease { share: Arc::clone(self), caller: Some(Arc::clone(caller)), bytes: 0 }
    }

    /// The most bytes that one caller may ever hold.
    pub fn limit_of_caller(&self) -> usize {
        usize::try_from(self.caller_limit()).unwrap_or(0)
    }

    fn caller_limit(&self) -> i64 {
        self.limit.get() / 4 * 3
    }

    /// Whether so many bytes more have room at the moment. They are not acquired.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used.get().saturating_add(count(bytes)) <= self.limit.get()
    }

    /// The error of a request whose body has no room.
    pub fn refuse_body(&self) -> Error {
        self.refusals.inc();
        let message = "the gateway holds as many bytes of request bodies as it may, of this caller or of \
                       all (server.memory); send the request again in a moment";
        Error::unavailable(message).retry_after(MIN_RETRY_AFTER)
    }
}

/// The bytes that one caller holds: at most three quarters of a share, so that no caller can keep the others
/// out.
#[derive(Debug, Default)]
pub struct CallerMemory(AtomicI64);

impl CallerMemory {
    /// Acquires so many bytes more, if that is at most `limit`.
    fn acquire(&self, bytes: i64, limit: i64) -> bool {
        let held = self.0.fetch_add(bytes, Relaxed).saturating_add(bytes) <= limit;
        if !held {
            self.release(bytes);
        }
        held
    }

    fn release(&self, bytes: i64) {
        self.0.fetch_sub(bytes, Relaxed);
    }
}

/// Bytes of a share that are in use. Dropping it releases them.
#[derive(Debug)]
pub struct MemoryLease {
    share: Arc<MemoryShare>,
    caller: Option<Arc<CallerMemory>>,
    bytes: i64,
}

impl MemoryLease {
    /// Whether it could be made to hold exactly so many bytes: more if there is room, or fewer.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let more = count(bytes) - self.bytes;
        if more < 0 {
            self.release(-more);
            return true;
        }
        let limit = self.share.caller_limit();
        if self.caller.as_ref().is_some_and(|caller| !caller.acquire(more, limit)) {
            return false;
        }
        let before = self.share.used.inc_by(more);
        self.bytes += more;
        let held = before.saturating_add(more) <= self.share.limit.get();
        if !held {
            self.release(more);
        }
        held
    }

    /// Counts a refusal for want of room.
    pub fn count_refusal(&self) {
        self.share.refusals.inc();
    }

    fn release(&mut self, bytes: i64) {
        self.bytes -= bytes;
        self.share.used.dec_by(bytes);
        if let Some(caller) = &self.caller {
            caller.release(bytes);
        }
    }

    /// Makes it hold the memory of a request body of so many bytes, if there is room.
    pub fn hold_body(&mut self, bytes: usize) -> Result<(), Error> {
        let taken = bytes.saturating_mul(COPIES);
        if self.resize(taken) { Ok(()) } else { Err(self.share.refuse_body()) }
    }

    /// Makes it hold the kept bytes of an answer, in whole steps.
    pub fn hold_kept(&mut self, bytes: usize) -> Result<(), End> {
        let steps = bytes / STEP * STEP;
        if count(steps) == self.bytes || self.resize(steps) {
            return Ok(());
        }
        let message = "the gateway keeps as much of answers as it may (server.memory), and this one has no \
                       room; send the request again in a moment";
        self.share.refusals.inc();
        Err(End::Unavailable(ApiError::new(Kind::Overloaded, message)))
    }

    /// Bytes that are held for as long as they exist. They are there already, so that they count even
    /// where there is no room for them.
    pub fn attach(mut self, bytes: Bytes) -> Bytes {
        let steps = count(bytes.len() / STEP * STEP);
        if steps == 0 {
            return bytes;
        }
        self.share.used.inc_by(steps - self.bytes);
        (self.bytes, self.caller) = (steps, None);
        Bytes::from_owner(Attached { bytes, _lease: self })
    }

    /// Another lease of the same share, of nothing yet.
    #[must_use]
    pub fn sibling(&self) -> Self {
        self.share.lease()
    }
}

/// A body is in memory as it came, and as it is sent.
pub const COPIES: usize = 2;

impl Drop for MemoryLease {
    fn drop(&mut self) {
        if self.bytes != 0 {
            self.release(self.bytes);
        }
    }
}

struct Attached {
    bytes: Bytes,
    _lease: MemoryLease,
}

impl AsRef<[u8]> for Attached {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_lease_their_share_and_release_it() {
        let budget = MemoryBudget::new(4000, &Metrics::default());
        let share = &budget.requests;
        assert_eq!((share.limit.get(), budget.answers.limit.get()), (2000, 1000));
        let [mut one, mut two] = [share.lease(), share.lease()];
        one.hold_body(600).unwrap();
        let error = two.hold_body(401).unwrap_err();
        assert_eq!((error.outcome(), error.wait()), ("unavailable", Some(MIN_RETRY_AFTER)));
        two.hold_body(400).unwrap();
        assert!(!share.has_room(1));
        one.hold_body(100).unwrap();
        assert!(share.has_room(1000) && !share.has_room(1001));
        drop((one, two));
        assert_eq!((share.used.get(), share.refusals.get()), (0, 1));
        // Another limit does not free bytes in use.
        let mut lease = share.lease();
        lease.hold_body(1000).unwrap();
        budget.resize(2000);
        assert!(!share.has_room(1) && lease.hold_body(1001).is_err());
        drop(lease);
        assert_eq!(share.used.get(), 0);
    }

    #[test]
    fn one_caller_leaves_a_quarter_to_others() {
        let budget = MemoryBudget::new(4000, &Metrics::default());
        let share = &budget.requests;
        let (one, other) = (Arc::<CallerMemory>::default(), Arc::<CallerMemory>::default());
        let [mut first, mut second] = [share.lease_for(&one), share.lease_for(&one)];
        first.hold_body(500).unwrap();
        second.hold_body(251).unwrap_err();
        second.hold_body(250).unwrap();
        let mut others = share.lease_for(&other);
        others.hold_body(251).unwrap_err();
        others.hold_body(250).unwrap();
        drop(second);
        first.hold_body(750).unwrap();
        drop((first, others));
        assert_eq!((share.used.get(), one.0.load(Relaxed), other.0.load(Relaxed)), (0, 0, 0));
    }

    #[test]
    fn answers_lease_in_steps_and_release_with_their_bytes() {
        let budget = MemoryBudget::new(16 * STEP, &Metrics::default());
        let share = &budget.answers;
        let used = || share.used.get() / count(STEP);
        let mut lease = share.lease();
        for (kept, steps) in [(1, 0), (STEP - 1, 0), (STEP, 1), (3 * STEP + 1, 3), (STEP + 5, 1)] {
            lease.hold_kept(kept).unwrap();
            assert_eq!(used(), steps, "{kept}");
        }
        assert!(matches!(lease.hold_kept(5 * STEP), Err(End::Unavailable(_))));
        assert_eq!(used(), 1);
        // Bytes that exist count beyond the limit, and for as long as a part of them is held.
        let bytes = lease.sibling().attach(Bytes::from(vec![7; 6 * STEP]));
        drop(lease);
        let mut rest = bytes.clone();
        let first = rest.split_to(10);
        drop((bytes, rest));
        assert_eq!((first.len(), used()), (10, 6));
        drop(first);
        assert_eq!((used(), share.refusals.get()), (0, 1));
    }
}
