//! Adaptive concurrency limit of one credential, learned from the upstream's refusals of too many requests at once. The
//! state machine is pure, with its clock passed in. It must never slow down a credential that has refused nothing, nor
//! keep what it has learned for good.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::FreedCapacity;

/// The time without a refusal after which a limit that is reached is raised.
const RAISE_AFTER: Duration = Duration::from_secs(10);

/// The time without a refusal after which a limit is forgotten.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// The most times that the patience before the next raise is doubled. Without it, one request in `most` would be refused.
const MAX_DOUBLINGS: u32 = 5;

/// A limit that an upstream's refusals have taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LearnedLimit {
    /// The most answers in progress.
    most: u32,
    /// Answers that were completed at the limit since it was changed.
    ends: u32,
    /// Each raise that was refused doubles the answers and the time before the next one.
    doublings: u32,
    /// Raises since the last refusal.
    raises: u32,
    refused: Instant,
    changed: Instant,
}

impl LearnedLimit {
    /// The limit after a refusal at so many `others` in progress. Refusals of requests that began together count down to
    /// what the upstream holds. `None`: the request was alone, so that its refusal says nothing of concurrency.
    fn refused(before: Option<Self>, others: u32, now: Instant) -> Option<Self> {
        let Some(known) = before.filter(|known| !known.is_stale(now)) else {
            let fresh =
                Self { most: others, ends: 0, doublings: 0, raises: 0, refused: now, changed: now };
            return (others > 0).then_some(fresh);
        };
        let doublings = (known.doublings + u32::from(known.raises == 1)).min(MAX_DOUBLINGS);
        let most = known.most.min(others.max(1));
        Some(Self { most, ends: 0, doublings, raises: 0, refused: now, changed: now })
    }

    /// The limit after the complete end of one of `open` answers. Those below the limit say nothing about it.
    fn completed(mut self, open: u32, now: Instant) -> Self {
        if open < self.most {
            return self;
        }
        self.ends = self.ends.saturating_add(1);
        let enough = self.most.saturating_mul(1 << self.doublings);
        if self.ends >= enough { self.raise(now) } else { self }
    }

    /// The limit as a request finds it that has reached it. `None`: it is forgotten.
    fn reached(self, now: Instant) -> Option<Self> {
        if self.is_stale(now) {
            return None;
        }
        let patience = RAISE_AFTER.saturating_mul(1 << self.doublings);
        let waited = now.saturating_duration_since(self.changed) >= patience;
        Some(if waited { self.raise(now) } else { self })
    }

    /// A second raise without a refusal shows that the upstream has more room than before.
    fn raise(self, now: Instant) -> Self {
        let raises = self.raises.saturating_add(1);
        let doublings = if raises > 1 { 0 } else { self.doublings };
        let most = self.most.saturating_add(1);
        Self { most, ends: 0, doublings, raises, changed: now, ..self }
    }

    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.refused) >= FORGET_AFTER
    }
}

/// The value of `AccountStreams::most` while nothing is learned.
const UNLIMITED: u32 = u32::MAX;

/// The answers in progress of one credential, over all its models, and the most of them that its upstream takes. A
/// request costs two relaxed atomics while it has room.
#[derive(Debug)]
pub(super) struct AccountStreams {
    open: AtomicU32,
    most: AtomicU32,
    learned: Mutex<Option<LearnedLimit>>,
    /// Reports that there may be room again.
    freed: Arc<FreedCapacity>,
}

impl Default for AccountStreams {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl AccountStreams {
    /// None in progress.
    pub(super) fn new(freed: Arc<FreedCapacity>) -> Self {
        let (open, most) = (AtomicU32::default(), AtomicU32::new(UNLIMITED));
        Self { open, most, learned: Mutex::default(), freed }
    }

    /// Whether one more would have room, below `most` and the learned limit.
    pub(super) fn has_room(&self, most: Option<usize>) -> bool {
        let most = most.map_or(UNLIMITED, |most| u32::try_from(most).unwrap_or(UNLIMITED));
        self.open.load(Relaxed) < most.min(self.most.load(Relaxed))
    }

    /// Counts one more answer in progress. Returns whether there was room for it, below `most` and the learned limit,
    /// which does not hold for a target that is `alone`: no other one could serve the request.
    pub(super) fn begin(&self, (most, alone): (Option<usize>, bool), now: Instant) -> bool {
        let most = most.map_or(UNLIMITED, |most| u32::try_from(most).unwrap_or(UNLIMITED));
        let learned = if alone { UNLIMITED } else { self.most.load(Relaxed) };
        if self.add(most.min(learned)) {
            return true;
        }
        if learned >= most {
            return false;
        }
        self.update(|limit| limit.and_then(|limit| limit.reached(now)));
        self.add(most.min(self.most.load(Relaxed)))
    }

    fn add(&self, most: u32) -> bool {
        let more = |open: u32| (open < most).then_some(open.saturating_add(1));
        self.open.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// One of the answers in progress is over.
    pub(super) fn end(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.freed.signal();
    }

    /// The upstream has refused one of the answers in progress, because it has too many.
    pub(super) fn refused(&self, now: Instant) {
        let others = self.open.load(Relaxed).saturating_sub(1);
        self.update(|limit| LearnedLimit::refused(limit, others, now));
    }

    /// One of the answers in progress is complete.
    pub(super) fn completed(&self, now: Instant) {
        if self.most.load(Relaxed) != UNLIMITED {
            let open = self.open.load(Relaxed);
            self.update(|limit| limit.map(|limit| limit.completed(open, now)));
        }
    }

    /// The limit that is in force, if one is learned.
    pub(super) fn limit(&self, now: Instant) -> Option<u32> {
        let learned = self.learned.lock().ok()?;
        learned.filter(|limit| !limit.is_stale(now)).map(|limit| limit.most)
    }

    /// Answers in progress.
    #[cfg(test)]
    pub(super) fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    fn update(&self, change: impl FnOnce(Option<LearnedLimit>) -> Option<LearnedLimit>) {
        let Ok(mut learned) = self.learned.lock() else { return };
        *learned = change(*learned);
        self.most.store(learned.map_or(UNLIMITED, |limit| limit.most), Relaxed);
    }
}

#[cfg(test)]
#[path = "learned_limit_tests.rs"]
mod tests;
