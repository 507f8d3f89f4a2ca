//! The gates of all callers, or of all models, by name.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Gate, Scope};
use crate::config::Limits;

/// In how many parts they are kept, so that a sweep holds up few, and only for a moment.
const SHARDS: usize = 64;

/// A part that has fewer gates than this is not swept.
const FEW: usize = 16;

/// How long gates that nobody uses may stay, at least.
const SWEPT_EVERY: Duration = Duration::from_mins(1);

/// The gates by name. They outlive a reload, so that it gives nobody a second burst; those that
/// nobody holds and of which nothing is used are dropped, so that they do not grow with the number
/// of callers that ever were.
#[derive(Debug)]
pub struct Gates {
    scope: Scope,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    gates: HashMap<String, Arc<Gate>>,
    /// At so many gates, or at this time, the next new one sweeps first.
    sweep_at: usize,
    sweep_after: Instant,
}

impl Default for Gates {
    /// Those of callers.
    fn default() -> Self {
        Self::new(Scope::Caller)
    }
}

impl Gates {
    /// No gates yet.
    pub fn new(scope: Scope) -> Self {
        let shard = || {
            Mutex::new(Shard {
                gates: HashMap::new(),
                sweep_at: FEW,
                sweep_after: Instant::now() + SWEPT_EVERY,
            })
        };
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        Self { scope, hasher: RandomState::new(), shards }
    }

    /// The gate of a name, with these limits from now on. What was used of others stays used.
    pub fn of(&self, name: &str, limits: Limits) -> Arc<Gate> {
        let new = || Arc::new(Gate::new(self.scope, limits));
        let gate = self.shard(name).lock().unwrap_or_else(PoisonError::into_inner).of(name, new);
        gate.change(limits);
        gate
    }

    /// Where the gate of a name is kept. Without a shard there would be no limit, so there is no default.
    #[expect(
        clippy::expect_used,
        reason = "a remainder of the number of shards is the index of one"
    )]
    fn shard(&self, name: &str) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(name) % SHARDS as u64;
        let at = usize::try_from(hash).expect("less than the number of shards");
        self.shards.get(at).expect("less than the number of shards")
    }

    /// Looks at every gate, after those have gone that nobody needs. Other work has its turn
    /// between the parts.
    pub async fn survey(&self, mut look: impl FnMut(&str, &Gate)) {
        for shard in &self.shards {
            {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                shard.sweep(Instant::now());
                for (name, gate) in &shard.gates {
                    look(name, gate);
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Shard {
    /// The gate of a name, or a new one. Before that, those may go that nobody needs: at twice as
    /// many as the last sweep has left, so that a new one costs the same however many there are,
    /// or after a while.
    fn of(&mut self, name: &str, new: impl FnOnce() -> Arc<Gate>) -> Arc<Gate> {
        if let Some(gate) = self.gates.get(name) {
            return Arc::clone(gate);
        }
        let now = Instant::now();
        if self.gates.len() >= self.sweep_at || now >= self.sweep_after {
            self.sweep(now);
        }
        let gate = new();
        self.gates.insert(name.to_owned(), Arc::clone(&gate));
        gate
    }

    /// Whoever gets a gate gets it under this lock, so that one which only we hold stays so.
    fn sweep(&mut self, now: Instant) {
        self.gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_unused(now));
        self.gates.shrink_to(self.gates.len() * 2);
        self.sweep_at = (self.gates.len() * 2).max(FEW);
        self.sweep_after = now + SWEPT_EVERY;
    }
}

#[cfg(test)]
impl Gates {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().gates.len()).sum()
    }
}
