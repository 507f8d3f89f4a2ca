//! Stored responses: what requests may refer to by id, within their owner's rights and with bounds on number, memory and
//! age. Histories are chains: a response holds its own items, and the one that it continues.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::response_archive::ResponseArchive;
use crate::error::Error;
use crate::memory::{MemoryLease, MemoryShare};

/// The most responses in a chain.
pub const MAX_CHAIN: usize = 1_000;

/// A response, and the items that it was made from.
#[derive(Debug)]
pub struct StoredResponse {
    /// Its id.
    pub id: String,
    /// The whole response as JSON.
    pub response: String,
    /// The items of its own request.
    pub input: Vec<String>,
    /// Its own items, with their ids.
    pub output: Vec<(Option<String>, String)>,
    /// The response that it continues.
    pub previous: Option<Arc<Self>>,
}

impl StoredResponse {
    /// The items before its own output, the earliest first.
    pub fn inputs(&self) -> Vec<&str> {
        let mut items = self.previous.as_deref().map(Self::history).unwrap_or_default();
        items.extend(self.input.iter().map(String::as_str));
        items
    }

    /// All items up to its end, the earliest first.
    pub fn history(&self) -> Vec<&str> {
        let mut chain = vec![self];
        while let Some(previous) = chain.last().and_then(|last| last.previous.as_deref()) {
            chain.push(previous);
        }
        chain.into_iter().rev().flat_map(Self::own).collect()
    }

    /// The items of its request and its own.
    fn own(&self) -> impl Iterator<Item = &str> {
        let output = self.output.iter().map(|(_, item)| item.as_str());
        self.input.iter().map(String::as_str).chain(output)
    }

    /// The number of responses up to it.
    pub fn length(&self) -> usize {
        std::iter::successors(Some(self), |one| one.previous.as_deref()).count()
    }

    fn size(&self) -> usize {
        let items = self.output.iter().map(|(_, item)| item.len());
        self.response.len() + items.chain(self.input.iter().map(String::len)).sum::<usize>()
    }
}

/// Chains may be long: they are dropped one by one.
impl Drop for StoredResponse {
    fn drop(&mut self) {
        let mut next = self.previous.take();
        while let Some(mut previous) = next.and_then(Arc::into_inner) {
            next = previous.previous.take();
        }
    }
}

/// All stored responses of the process.
pub struct StoredResponses {
    content: Mutex<Content>,
    memory: Arc<MemoryShare>,
    /// The records of all that are stored, also of those that are not in memory.
    archive: Option<ResponseArchive>,
}

#[derive(Default)]
struct Content {
    responses: HashMap<Key, Kept>,
    /// Single items by their ids.
    items: HashMap<Key, Weak<StoredResponse>>,
    /// In the order in which they were stored.
    order: VecDeque<(Instant, Key)>,
    of_owner: HashMap<Arc<str>, usize>,
}

/// An owner and an id.
type Key = (Arc<str>, String);

struct Kept {
    response: Arc<StoredResponse>,
    _lease: MemoryLease,
}

impl StoredResponses {
    /// An empty store that shares this memory.
    pub fn new(memory: &Arc<MemoryShare>) -> Self {
        Self { content: Mutex::default(), memory: Arc::clone(memory), archive: None }
    }

    /// The same with an archive, in which they survive a restart.
    #[must_use]
    pub fn archived(self, archive: Option<ResponseArchive>) -> Self {
        Self { archive, ..self }
    }

    /// Stores a response for a time. The oldest ones make room for it; without memory for it alone, only the archive
    /// has it.
    pub fn store(
        &self,
        owner: &Arc<str>,
        response: StoredResponse,
        (keep, per_owner): (Duration, usize),
    ) {
        if let Some(archive) = &self.archive {
            archive.store(owner, &response, keep);
        }
        self.insert(owner, Arc::new(response), (Instant::now(), per_owner));
    }

    fn insert(
        &self,
        owner: &Arc<str>,
        response: Arc<StoredResponse>,
        (stored, per_owner): (Instant, usize),
    ) {
        let mut lease = self.memory.lease();
        let mut content = self.content();
        while content.of_owner.get(owner).is_some_and(|count| *count >= per_owner) {
            let oldest = content.order.iter().find(|(_, (of, _))| of == owner);
            let Some((_, key)) = oldest.cloned() else { break };
            content.remove(&key);
        }
        while lease.hold_kept(response.size()).is_err() {
            let Some((_, oldest)) = content.order.front().cloned() else { return };
            content.remove(&oldest);
        }
        for id in response.output.iter().filter_map(|(id, _)| id.as_ref()) {
            content.items.insert((Arc::clone(owner), id.clone()), Arc::downgrade(&response));
        }
        let key = (Arc::clone(owner), response.id.clone());
        content.remove(&key);
        let at = content.order.partition_point(|(other, _)| *other <= stored);
        content.order.insert(at, (stored, key.clone()));
        *content.of_owner.entry(Arc::clone(owner)).or_default() += 1;
        content.responses.insert(key, Kept { response, _lease: lease });
    }

    /// A response, for its owner.
    pub fn get(&self, owner: &Arc<str>, id: &str) -> Option<Arc<StoredResponse>> {
        let key = (Arc::clone(owner), id.to_owned());
        self.content().responses.get(&key).map(|kept| Arc::clone(&kept.response))
    }

    /// A response with those that it continues, for its owner: from memory, or else from the archive.
    pub async fn recall(
        &self,
        owner: &Arc<str>,
        id: &str,
    ) -> Result<Option<Arc<StoredResponse>>, Error> {
        let present = self.get(owner, id);
        let (None, Some(archive)) = (&present, &self.archive) else { return Ok(present) };
        let present = |id: &str| self.get(owner, id);
        let Some((response, stored)) = archive.chain(owner, id, &present).await? else {
            return Ok(None);
        };
        self.insert(owner, Arc::clone(&response), (stored, usize::MAX));
        Ok(Some(response))
    }

    /// A response alone, as JSON, for its owner.
    pub async fn text(&self, owner: &Arc<str>, id: &str) -> Result<Option<String>, Error> {
        match (self.get(owner, id), &self.archive) {
            (Some(present), _) => Ok(Some(present.response.clone())),
            (None, Some(archive)) => archive.text(owner, id).await,
            (None, None) => Ok(None),
        }
    }

    /// A single item, for its owner: from memory, or else from the archive.
    pub async fn recall_item(&self, owner: &Arc<str>, id: &str) -> Result<Option<String>, Error> {
        match (self.item(owner, id), &self.archive) {
            (None, Some(archive)) => archive.item(owner, id).await,
            (present, _) => Ok(present),
        }
    }

    /// Forgets a response, in memory and in the archive. Returns whether there was one.
    pub async fn forget(&self, owner: &Arc<str>, id: &str) -> Result<bool, Error> {
        let present = self.remove(owner, id);
        let archived = match &self.archive {
            Some(archive) => archive.remove(owner, id).await?,
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

    /// A single item, for its owner.
    pub fn item(&self, owner: &Arc<str>, id: &str) -> Option<String> {
        let key = (Arc::clone(owner), id.to_owned());
        let response = self.content().items.get(&key)?.upgrade()?;
        let mut output = response.output.iter();
        output.find(|(own, _)| own.as_deref() == Some(id)).map(|(_, item)| item.clone())
    }

    /// Forgets a response. Others that continue it keep its items. Returns whether there was one.
    pub fn remove(&self, owner: &Arc<str>, id: &str) -> bool {
        self.content().remove(&(Arc::clone(owner), id.to_owned()))
    }

    /// Forgets what is older than `keep`.
    pub fn sweep(&self, keep: Duration, now: Instant) {
        let mut content = self.content();
        while let Some((stored, key)) = content.order.front().cloned() {
            if now.saturating_duration_since(stored) < keep {
                break;
            }
            content.remove(&key);
        }
        content.items.retain(|_, response| response.strong_count() > 0);
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn remove(&mut self, key: &Key) -> bool {
        self.order.retain(|(_, other)| other != key);
        let removed = self.responses.remove(key).is_some();
        if removed && let Some(count) = self.of_owner.get_mut(&key.0) {
            *count -= 1;
            if *count == 0 {
                self.of_owner.remove(&key.0);
            }
        }
        removed
    }
}

impl std::fmt::Debug for StoredResponses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredResponses({})", self.content().responses.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;
    use crate::telemetry::Metrics;

    fn response(id: &str, previous: Option<Arc<StoredResponse>>) -> StoredResponse {
        StoredResponse {
            id: id.to_owned(),
            response: format!("{{{id}}}"),
            input: vec![format!("in-{id}")],
            output: vec![(Some(format!("msg-{id}")), format!("out-{id}"))],
            previous,
        }
    }

    fn store() -> (StoredResponses, Arc<str>) {
        let memory = MemoryBudget::new(1 << 30, &Metrics::default());
        (StoredResponses::new(&memory.streams), "owner".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_history_is_a_chain_that_outlives_its_parts() {
        let (store, owner) = store();
        store.store(&owner, response("a", None), (Duration::MAX, 10));
        let a = store.get(&owner, "a");
        store.store(&owner, response("b", a), (Duration::MAX, 10));
        assert_eq!(store.item(&owner, "msg-a").as_deref(), Some("out-a"));
        assert!(store.remove(&owner, "a"));
        assert!(!store.remove(&owner, "a"));
        let b = store.get(&owner, "b").unwrap();
        assert_eq!(b.history(), ["in-a", "out-a", "in-b", "out-b"]);
        assert_eq!(b.inputs(), ["in-a", "out-a", "in-b"]);
        assert_eq!(b.length(), 2);
        let other: Arc<str> = "other".into();
        assert!(store.get(&other, "b").is_none());
        assert!(store.item(&other, "msg-b").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_make_room_and_expire() {
        let (store, owner) = store();
        let minute = Duration::from_mins(1);
        for id in ["a", "b", "c"] {
            store.store(&owner, response(id, None), (Duration::MAX, 2));
            tokio::time::advance(minute).await;
        }
        assert!(store.get(&owner, "a").is_none());
        assert!(store.get(&owner, "b").is_some());
        store.sweep(minute * 2, Instant::now());
        assert!(store.get(&owner, "b").is_none());
        assert!(store.get(&owner, "c").is_some());
        store.sweep(minute, Instant::now());
        assert!(store.get(&owner, "c").is_none());
        assert!(store.item(&owner, "msg-c").is_none());
    }

    /// A long chain must not use up the stack when it is dropped.
    #[tokio::test(start_paused = true)]
    async fn a_long_chain_is_dropped_one_by_one() {
        let mut last = None;
        for _ in 0..200_000 {
            last = Some(Arc::new(response("a", last)));
        }
        drop(last);
    }
}
