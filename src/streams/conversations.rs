//! Conversations: items that requests may add to and continue, by id, within their owner's rights and with bounds on
//! number, memory and age.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use tokio::time::Instant;

use super::conversation_archive::{ConversationArchive, ConversationRecords};
use crate::error::{Error, MIN_RETRY_AFTER};
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
    /// The records of all of them, also of those that are not in memory.
    archive: Option<ConversationArchive>,
    /// Other nodes write to the archive as well.
    shared: bool,
}

struct Kept {
    head: Conversation,
    items: Vec<String>,
    used: Instant,
    lease: MemoryLease,
    /// The records of its items.
    place: ConversationRecords,
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
        let memory = Arc::clone(memory);
        Self { content: Mutex::default(), memory, archive: None, shared: false }
    }

    /// The same with an archive, in which they survive a restart.
    #[must_use]
    pub fn archived(self, archive: Option<ConversationArchive>) -> Self {
        Self { archive, ..self }
    }

    /// The same whose archive other nodes write to as well.
    #[must_use]
    pub fn shared(self, shared: bool) -> Self {
        Self { shared, ..self }
    }

    /// Begins a conversation with these items. Those of the owner that were used the longest time ago make room.
    pub fn begin(
        &self,
        owner: &Arc<str>,
        (created, metadata, items): (u64, String, Vec<String>),
        (keep, per_owner): (Duration, usize),
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
            if let Some(archive) = &self.archive {
                archive.remove(&oldest.0, &oldest.1);
            }
        }
        let id = format!("conv_{}", Alphanumeric.sample_string(&mut rand::rng(), ID));
        let head = Conversation { id, created, metadata };
        let lease = self.memory.lease();
        let place = ConversationRecords::default();
        let used = Instant::now();
        let mut kept = Kept { head: head.clone(), items: Vec::new(), used, lease, place };
        let archived = items.clone();
        kept.add(items)?;
        if let Some(archive) = &self.archive {
            archive.begin(owner, &head, (&archived, keep), &mut kept.place);
        }
        content.insert((Arc::clone(owner), head.id.clone()), kept);
        Ok(head)
    }

    /// A conversation and its items, for its owner.
    pub fn get(&self, owner: &Arc<str>, id: &str) -> Option<(Conversation, Vec<String>)> {
        let mut content = self.content();
        let kept = content.get_mut(&(Arc::clone(owner), id.to_owned()))?;
        kept.used = Instant::now();
        if let Some(archive) = &self.archive {
            archive.used(owner, &kept.head, &mut kept.place);
        }
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
        let Some(archive) = &self.archive else { return kept.add(items) };
        let archived = items.clone();
        kept.add(items)?;
        archive.add(owner, &kept.head, &archived, &mut kept.place);
        Ok(())
    }

    /// A conversation and its items, for its owner: from memory, or else from the archive. Then others find it in memory.
    pub async fn recall(
        &self,
        owner: &Arc<str>,
        id: &str,
    ) -> Result<Option<(Conversation, Vec<String>)>, Error> {
        if self.shared {
            // Another node may have added to it.
            self.remove(owner, id);
        }
        let present = self.get(owner, id);
        let (None, Some(archive)) = (&present, &self.archive) else { return Ok(present) };
        let Some((head, items, place)) = archive.load(owner, id).await? else { return Ok(None) };
        let (lease, used) = (self.memory.lease(), Instant::now());
        let mut kept = Kept { head, items: Vec::new(), used, lease, place };
        if kept.add(items).is_err() {
            let message = "there is no memory for this conversation at the moment (server.memory)";
            return Err(Error::unavailable(message).retry_after(MIN_RETRY_AFTER));
        }
        self.content().entry((Arc::clone(owner), id.to_owned())).or_insert(kept);
        Ok(self.get(owner, id))
    }

    /// Forgets a conversation, in memory and in the archive. Returns whether there was one.
    pub async fn forget(&self, owner: &Arc<str>, id: &str) -> Result<bool, Error> {
        let present = self.remove(owner, id);
        let archived = match &self.archive {
            Some(archive) => archive.forget(owner, id).await?,
            None => false,
        };
        Ok(present || archived)
    }

    /// Removes from the archive what is more than an owner may have.
    pub async fn trim(&self, per_owner: usize) {
        if let Some(archive) = &self.archive {
            archive.trim(per_owner).await;
        }
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
        let first = all.begin(&owner, begun("a"), (Duration::MAX, 2)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = all.begin(&owner, begun("b"), (Duration::MAX, 2)).unwrap();
        assert_eq!(all.add(&owner, &first.id, vec!["c".to_owned()]), Ok(()));
        assert_eq!(all.get(&owner, &first.id).unwrap().1, ["a", "c"]);
        assert!(all.get(&other, &first.id).is_none());
        assert_eq!(all.add(&other, &first.id, Vec::new()), Err(ConversationError::Unknown));
        let many = vec![String::new(); MAX_ITEMS];
        assert_eq!(all.add(&owner, &first.id, many), Err(ConversationError::Full));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(all.get(&owner, &first.id).is_some());
        // The second one was used the longest time ago.
        all.begin(&owner, begun("d"), (Duration::MAX, 2)).unwrap();
        assert!(all.get(&owner, &second.id).is_none());
        let minute = Duration::from_mins(1);
        all.sweep(minute, Instant::now() + minute);
        assert!(all.get(&owner, &first.id).is_none());
    }
}
