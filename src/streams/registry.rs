//! Registry of generations: by id, owner, position, chat and idempotency key, with limits on their number and their
//! memory, and their retention. It must never return a generation to anybody but its owner.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::capability::{Capability, Signer};
use super::generation::{Generation, Origin};
use super::position::Position;
use super::record::{GenerationMeta, RecordError, RestoredEvents};
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::memory::MemoryShare;
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::Clock;

/// The characters of an id: 142 random bits.
const ID: usize = 24;

/// All generations of the process.
pub struct Streams {
    content: Mutex<Content>,
    memory: Arc<MemoryShare>,
    signer: Signer,
    announce: OnceLock<Arc<dyn Announce>>,
}

/// A receiver of the beginnings and ends of generations.
pub trait Announce: Send + Sync {
    /// A generation has begun (`stream.started`) or ended (`stream.ended`). Must never block.
    fn announce(&self, generation: &Generation, event: &'static str);
}

#[derive(Default)]
struct Content {
    /// By owner, and in the order in which they began; no owner is without one.
    owned: HashMap<Arc<str>, BTreeMap<u64, Arc<Generation>>>,
    /// The owners and the keys in `owned`, by id.
    ids: HashMap<String, (Arc<str>, u64)>,
    /// The ids by the epochs of their native tracks.
    epochs: HashMap<super::position::Epoch, String>,
    /// The ids of the last generation of each chat.
    chats: HashMap<(Arc<str>, String), String>,
    keys: HashMap<(Arc<str>, String), Arc<KeySlot>>,
    begun: u64,
}

/// Numbers of generations and viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCounts {
    /// Generations that are being produced.
    pub running: usize,
    /// Generations that have ended and are kept.
    pub ended: usize,
    /// Viewers of all of them.
    pub viewers: usize,
}

/// The generation of an idempotency key. Locked by a request until it has begun one, so that of two that come at the
/// same instant the second attaches.
pub type KeySlot = AsyncMutex<Option<Claim>>;

/// The request that used an idempotency key first.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The SHA-256 of what it requested.
    pub digest: [u8; 32],
    /// Its generation, while it is kept.
    pub generation: Weak<Generation>,
}

impl Streams {
    /// An empty registry, whose logs share this memory.
    pub fn new(memory: &Arc<MemoryShare>) -> Self {
        Self {
            content: Mutex::default(),
            memory: Arc::clone(memory),
            signer: Signer::default(),
            announce: OnceLock::new(),
        }
    }

    /// Begins a generation. A caller has at most `per_caller` of them; the oldest that have ended and have no viewers make
    /// room for it.
    pub fn begin(&self, origin: Origin, per_caller: usize) -> Result<Arc<Generation>, Error> {
        let mut content = self.content();
        let owner = Arc::clone(&origin.owner);
        while content.owned.get(&owner).map_or(0, BTreeMap::len) >= per_caller {
            let Some(oldest) =
                content.of(&owner).find(|one| is_done(one)).map(|one| one.id.clone())
            else {
                return Err(too_many(per_caller));
            };
            content.remove(&oldest);
        }
        let id = Alphanumeric.sample_string(&mut rand::rng(), ID);
        let chat = origin.chat.clone();
        let generation = Arc::new(Generation::new(id.clone(), origin, self.memory.lease()));
        content.insert(&generation);
        if let Some(chat) = chat {
            content.chats.insert((owner, chat), id);
        }
        Ok(generation)
    }

    /// Adds a generation as its record describes it, or returns the one of the same id. Others that have ended make
    /// room for it; without memory, or if the record is damaged, it is not added. `clock`: the gateway's.
    pub fn restore(
        &self,
        meta: &GenerationMeta,
        events: RestoredEvents,
        clock: &Clock,
    ) -> Result<Arc<Generation>, RecordError> {
        let origin = meta.origin(clock, events.end.as_ref())?;
        let restored = Generation::restored((meta, origin), events, self.memory.lease());
        while !restored.hold() {
            if !self.make_room() {
                return Err(RecordError::Memory);
            }
        }
        Ok(self.add(restored).0)
    }

    /// Adds a copy of a generation that another node produces, without events, or returns the one of the same id, and
    /// whether it was added.
    pub fn adopt(
        &self,
        meta: &GenerationMeta,
        clock: &Clock,
    ) -> Result<(Arc<Generation>, bool), RecordError> {
        let events = RestoredEvents { trimmed: 0, events: Vec::new(), end: None };
        let origin = meta.origin(clock, None)?;
        Ok(self.add(Generation::restored((meta, origin), events, self.memory.lease()).copied()))
    }

    fn add(&self, generation: Generation) -> (Arc<Generation>, bool) {
        let mut content = self.content();
        if let Some(present) = content.get(&generation.id) {
            return (Arc::clone(present), false);
        }
        let generation = Arc::new(generation);
        content.insert(&generation);
        (generation, true)
    }

    /// Sets the receiver of announcements. Only the first one counts.
    pub fn announce_to(&self, announce: Arc<dyn Announce>) {
        self.announce.get_or_init(|| announce);
    }

    /// Announces the beginning of a generation.
    pub fn started(&self, generation: &Generation) {
        self.announce(generation, "stream.started");
    }

    /// Announces the end of a generation, which has been closed.
    pub fn ended(&self, generation: &Generation) {
        self.announce(generation, "stream.ended");
    }

    fn announce(&self, generation: &Generation, event: &'static str) {
        if let Some(announce) = self.announce.get() {
            announce.announce(generation, event);
        }
    }

    /// The generation of an id, for its owner.
    pub fn get(&self, owner: &str, id: &str) -> Option<Arc<Generation>> {
        let content = self.content();
        content.get(id).filter(|generation| *generation.origin.owner == *owner).cloned()
    }

    /// The generation of an id, for anybody who holds a capability for it.
    pub fn any(&self, id: &str) -> Option<Arc<Generation>> {
        self.content().get(id).cloned()
    }

    /// The generation of a position in its native track, for its owner.
    pub fn at(&self, owner: &str, position: Position) -> Option<Arc<Generation>> {
        let content = self.content();
        let id = content.epochs.get(&position.epoch)?;
        content.get(id).filter(|generation| *generation.origin.owner == *owner).cloned()
    }

    /// Signs capabilities with a key that other nodes have too.
    pub fn sign_with(&self, key: [u8; 32]) {
        self.signer.set_key(key);
    }

    /// Signs a capability for a stream.
    pub fn sign(&self, id: &str, capability: &Capability) -> String {
        self.signer.sign(id, capability)
    }

    /// Reads a capability for a stream; `None`: it is not signed for it, or its time is over.
    pub fn verify(&self, id: &str, token: &str, unix: u64) -> Option<Capability> {
        self.signer.verify(id, token, unix)
    }

    /// All generations of an owner, the oldest first.
    pub fn of(&self, owner: &Arc<str>) -> Vec<Arc<Generation>> {
        self.content().of(owner).cloned().collect()
    }

    /// Whether it is kept.
    pub fn holds(&self, generation: &Generation) -> bool {
        self.content().ids.contains_key(&generation.id)
    }

    /// All generations that have ended.
    pub fn all_ended(&self) -> Vec<Arc<Generation>> {
        let content = self.content();
        let ended = content.all().filter(|one| one.extent().end.is_some());
        ended.cloned().collect()
    }

    /// The last generation of a chat, for its owner.
    pub fn of_chat(&self, owner: &Arc<str>, chat: &str) -> Option<Arc<Generation>> {
        let content = self.content();
        let id = content.chats.get(&(Arc::clone(owner), chat.to_owned()))?;
        content.get(id).cloned()
    }

    /// The slot of an idempotency key.
    pub fn key(&self, owner: &Arc<str>, key: &str) -> Arc<KeySlot> {
        let slot = (Arc::clone(owner), key.to_owned());
        Arc::clone(self.content().keys.entry(slot).or_default())
    }

    /// Forgets a generation. Its viewers read on.
    pub fn remove(&self, id: &str) {
        self.content().remove(id);
    }

    /// Forgets generations that have ended and have no viewers, those that ended first, until there is memory or none
    /// of them is left. Returns whether one was forgotten.
    pub fn make_room(&self) -> bool {
        let mut content = self.content();
        let done = content.all().filter(|one| is_done(one));
        let oldest = done.min_by_key(|one| one.ended_at()).map(|one| one.id.clone());
        oldest.is_some_and(|id| content.remove(&id))
    }

    /// Forgets what has expired.
    pub fn sweep(&self, keep: Duration, now: Instant) {
        let mut content = self.content();
        let expired = content.all().filter(|generation| {
            generation.expires_in(keep, now).is_some_and(|left| left.is_zero())
        });
        let expired: Vec<_> = expired.map(|generation| generation.id.clone()).collect();
        for id in expired {
            content.remove(&id);
        }
        content.keys.retain(|_, slot| {
            // In use by a request, or its generation is kept.
            let Ok(claim) = slot.try_lock() else { return true };
            Arc::strong_count(slot) > 1
                || claim.as_ref().is_some_and(|claim| claim.generation.strong_count() > 0)
        });
    }

    /// The numbers of generations and of their viewers.
    pub fn count(&self) -> StreamCounts {
        let content = self.content();
        let own = || content.all().filter(|one| !one.is_copy);
        let ended = own().filter(|one| one.extent().end.is_some()).count();
        let viewers = content.all().map(|one| one.viewers()).sum();
        StreamCounts { running: own().count() - ended, ended, viewers }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn get(&self, id: &str) -> Option<&Arc<Generation>> {
        let (owner, number) = self.ids.get(id)?;
        self.owned.get(owner)?.get(number)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.owned.values().flat_map(BTreeMap::values)
    }

    fn of(&self, owner: &Arc<str>) -> impl Iterator<Item = &Arc<Generation>> {
        self.owned.get(owner).into_iter().flat_map(BTreeMap::values)
    }

    fn insert(&mut self, generation: &Arc<Generation>) {
        self.begun += 1;
        let owner = Arc::clone(&generation.origin.owner);
        self.ids.insert(generation.id.clone(), (Arc::clone(&owner), self.begun));
        self.epochs.insert(generation.native.epoch, generation.id.clone());
        self.owned.entry(owner).or_default().insert(self.begun, Arc::clone(generation));
    }

    fn remove(&mut self, id: &str) -> bool {
        let Some((owner, number)) = self.ids.remove(id) else { return false };
        let Some(own) = self.owned.get_mut(&owner) else { return false };
        let Some(generation) = own.remove(&number) else { return false };
        if own.is_empty() {
            self.owned.remove(&owner);
        }
        self.epochs.remove(&generation.native.epoch);
        if let Some(chat) = &generation.origin.chat {
            let chat = (owner, chat.clone());
            if self.chats.get(&chat).is_some_and(|last| last == id) {
                self.chats.remove(&chat);
            }
        }
        true
    }
}

/// Whether it may be forgotten.
fn is_done(generation: &Generation) -> bool {
    generation.viewers() == 0 && generation.extent().end.is_some()
}

fn too_many(most: usize) -> Error {
    let message = format!(
        "{most} resumable streams of this caller are running (streams.per_caller); wait for one to end, or cancel one"
    );
    Error::caller(ApiError::new(Kind::RateLimited, message)).retry_after(MIN_RETRY_AFTER)
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({})", self.content().ids.len())
    }
}
