//! Registry of limiters: those of all callers, or of all models, by name. Its memory must be bounded by the active
//! ones, not by the callers that there ever were.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Limiter, Scope};
use crate::config::Limits;

/// The number of shards, so that a sweep blocks few callers, and only for a moment.
const SHARDS: usize = 64;

/// A shard that has fewer limiters than this is not swept.
const MIN_SWEEP: usize = 16;

/// The least time between sweeps of a shard.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The limiters by name. They outlive a reload, so that it grants no second burst. Idle limiters of which nothing is
/// used are evicted.
#[derive(Debug)]
pub struct LimiterRegistry {
    scope: Scope,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    limiters: HashMap<String, Arc<Limiter>>,
    /// At so many limiters, or at this time, the next new one sweeps first.
    sweep_at: usize,
    sweep_after: Instant,
}

impl Default for LimiterRegistry {
    /// Those of callers.
    fn default() -> Self {
        Self::new(Scope::Caller)
    }
}

impl LimiterRegistry {
    /// No limiters yet.
    pub fn new(scope: Scope) -> Self {
        let shard = || {
            Mutex::new(Shard {
                limiters: HashMap::new(),
                sweep_at: MIN_SWEEP,
                sweep_after: Instant::now() + SWEEP_INTERVAL,
            })
        };
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        Self { scope, hasher: RandomState::new(), shards }
    }

    /// The limiter of a name, with these limits from now on. Usage stays as it is.
    pub fn of(&self, name: &str, limits: Limits) -> Arc<Limiter> {
        let new = || Arc::new(Limiter::new(self.scope, limits));
        let limiter = self.shard(name).lock().unwrap_or_else(PoisonError::into_inner).of(name, new);
        limiter.change(limits);
        limiter
    }

    /// The limiter of a name as it is, or with these limits if there is none.
    pub fn known_or(&self, name: &str, limits: Limits) -> Arc<Limiter> {
        let new = || Arc::new(Limiter::new(self.scope, limits));
        self.shard(name).lock().unwrap_or_else(PoisonError::into_inner).of(name, new)
    }

    /// The shard with the limiter of a name. Without a shard there would be no limit, so there is no default.
    #[expect(
        clippy::expect_used,
        reason = "a remainder of the number of shards is the index of one"
    )]
    fn shard(&self, name: &str) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(name) % SHARDS as u64;
        let at = usize::try_from(hash).expect("less than the number of shards");
        self.shards.get(at).expect("less than the number of shards")
    }

    /// Evicts idle limiters and visits all others. Yields between the shards.
    pub async fn survey(&self, mut look: impl FnMut(&str, &Limiter)) {
        for shard in &self.shards {
            {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                shard.sweep(Instant::now());
                for (name, limiter) in &shard.limiters {
                    look(name, limiter);
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Shard {
    /// The limiter of a name, or a new one. Before that, unused limiters may be removed: at twice as
    /// many as the last sweep has left, so that a new one costs the same however many there are,
    /// or after a while.
    fn of(&mut self, name: &str, new: impl FnOnce() -> Arc<Limiter>) -> Arc<Limiter> {
        if let Some(limiter) = self.limiters.get(name) {
            return Arc::clone(limiter);
        }
        let now = Instant::now();
        if self.limiters.len() >= self.sweep_at || now >= self.sweep_after {
            self.sweep(now);
        }
        let limiter = new();
        self.limiters.insert(name.to_owned(), Arc::clone(&limiter));
        limiter
    }

    /// Removes limiters that are unused. Limiters are handed out only under this lock, so one that only the registry
    /// holds stays so.
    fn sweep(&mut self, now: Instant) {
        self.limiters
            .retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.is_unused(now));
        self.limiters.shrink_to(self.limiters.len() * 2);
        self.sweep_at = (self.limiters.len() * 2).max(MIN_SWEEP);
        self.sweep_after = now + SWEEP_INTERVAL;
    }
}

#[cfg(test)]
impl LimiterRegistry {
    /// The number of limiters.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().limiters.len()).sum()
    }
}
