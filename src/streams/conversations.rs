//! Conversations: items that requests may add to and continue, by id, within their owner's rights and with bounds on
//! number, memory and age.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use tokio::time::Instant;

use crate::memory::{MemoryLease, MemoryShare};

/// The random characters of an id.
const ID: usize = 24;

/// The most items of one conversation.
pub const MAX_ITEMS: usize = 10_000;

/// The head of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// `conv_` and random letters and digits.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// A JSON object of the caller's.
    pub metadata: String,
}

/// All conversations of the process.
pub struct Conversations {
    content: Mutex<BTreeMap<(Arc<str>, String), Kept>>,
    memory: Arc<MemoryShare>,
}

struct Kept {
    head: Conversation,
    items: Vec<String>,
    used: Instant,
    lease: MemoryLease,
}

/// Items that a conversation has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationError {
    /// There is no such conversation of this owner.
    Unknown,
    /// It has as many items as it may, or there is no memory for them.
    Full,
}

impl Kept {
    fn add(&mut self, items: Vec<String>) -> Result<(), ConversationError> {
        let bytes = |items: &[String]| items.iter().map(String::len).sum::<usize>();
        let held = bytes(&self.items) + bytes(&items);
        if self.items.len() + items.len() > MAX_ITEMS || self.lease.hold_kept(held).is_err() {
            return Err(ConversationError::Full);
        }
        self.items.extend(items);
        Ok(())
    }
}

impl Conversations {
    /// No conversations, which share this memory.
    pub fn new(memory: &Arc<MemoryShare>) -> Self {
        Self { content: Mutex::default(), memory: Arc::clone(memory) }
    }

    /// Begins a conversation with these items. Those of the owner that were used the longest time ago make room.
    pub fn begin(
        &self,
        owner: &Arc<str>,
        (created, metadata, items): (u64, String, Vec<String>),
        per_owner: usize,
    ) -> Result<Conversation, ConversationError> {
        let mut content = self.content();
        loop {
            let own = content.iter().filter(|((of, _), _)| of == owner);
            if own.clone().count() < per_owner {
                break;
            }
            let oldest = own.min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            content.remove(&oldest);
        }
        let id = format!("conv_{}", Alphanumeric.sample_string(&mut rand::rng(), ID));
        let head = Conversation { id, created, metadata };
        let lease = self.memory.lease();
        let mut kept = Kept { head: head.clone(), items: Vec::new(), used: Instant::now(), lease };
        kept.add(items)?;
        content.insert((Arc::clone(owner), head.id.clone()), kept);
        Ok(head)
    }

    /// A conversation and its items, for its owner.
    pub fn get(&self, owner: &Arc<str>, id: &str) -> Option<(Conversation, Vec<String>)> {
        let mut content = self.content();
        let kept = content.get_mut(&(Arc::clone(owner), id.to_owned()))?;
        kept.used = Instant::now();
        Some((kept.head.clone(), kept.items.clone()))
    }

    /// Adds items.
    pub fn add(
        &self,
        owner: &Arc<str>,
        id: &str,
        items: Vec<String>,
    ) -> Result<(), ConversationError> {
        let mut content = self.content();
        let kept = content.get_mut(&(Arc::clone(owner), id.to_owned()));
        let kept = kept.ok_or(ConversationError::Unknown)?;
        kept.used = Instant::now();
        kept.add(items)
    }

    /// Forgets a conversation. Returns whether there was one.
    pub fn remove(&self, owner: &Arc<str>, id: &str) -> bool {
        self.content().remove(&(Arc::clone(owner), id.to_owned())).is_some()
    }

    /// Forgets what has not been used for `keep`.
    pub fn sweep(&self, keep: Duration, now: Instant) {
        self.content().retain(|_, kept| now.saturating_duration_since(kept.used) < keep);
    }

    fn content(&self) -> MutexGuard<'_, BTreeMap<(Arc<str>, String), Kept>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Conversations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conversations({})", self.content().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;
    use crate::telemetry::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_conversation_grows_until_it_is_forgotten() {
        let memory = MemoryBudget::new(1 << 30, &Metrics::default());
        let all = Conversations::new(&memory.streams);
        let (owner, other): (Arc<str>, Arc<str>) = ("owner".into(), "other".into());
        let begun = |item: &str| (1, "{}".to_owned(), vec![item.to_owned()]);
        let first = all.begin(&owner, begun("a"), 2).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = all.begin(&owner, begun("b"), 2).unwrap();
        assert_eq!(all.add(&owner, &first.id, vec!["c".to_owned()]), Ok(()));
        assert_eq!(all.get(&owner, &first.id).unwrap().1, ["a", "c"]);
        assert!(all.get(&other, &first.id).is_none());
        assert_eq!(all.add(&other, &first.id, Vec::new()), Err(ConversationError::Unknown));
        let many = vec![String::new(); MAX_ITEMS];
        assert_eq!(all.add(&owner, &first.id, many), Err(ConversationError::Full));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(all.get(&owner, &first.id).is_some());
        // The second one was used the longest time ago.
        all.begin(&owner, begun("d"), 2).unwrap();
        assert!(all.get(&owner, &second.id).is_none());
        let minute = Duration::from_mins(1);
        all.sweep(minute, Instant::now() + minute);
        assert!(all.get(&owner, &first.id).is_none());
    }
}
