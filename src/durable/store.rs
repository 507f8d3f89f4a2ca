//! The streams of all callers, by caller and path, in memory. A caller must never reach a stream of another one; a
//! stream that has forks must never be lost to them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::content_type::ContentType;
use super::error::StreamError;
use super::expiry::Expiry;
use super::fork::ForkRequest;
use super::stream::{NewStream, Stream};
use crate::config::Durable;
use crate::memory::{CallerMemory, MemoryShare};
use crate::telemetry::Metrics;

/// The time between two searches for expired streams. Requests see at once that a stream has expired; this only frees
/// its memory.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// All streams of the process.
#[derive(Debug)]
pub struct Streams {
    owners: RwLock<HashMap<Arc<str>, Owner>>,
    memory: Arc<MemoryShare>,
}

/// The streams of one caller.
#[derive(Debug, Default)]
struct Owner {
    streams: HashMap<String, Arc<Stream>>,
    memory: Arc<CallerMemory>,
    /// Live reads under way.
    readers: Arc<AtomicUsize>,
}

/// The configuration of a stream that a request asks for.
pub(super) struct Configuration {
    /// `None`: the default, or that of the source.
    pub(super) content_type: Option<ContentType>,
    /// `None`: the default, or that of the source.
    pub(super) expiry: Option<Expiry>,
    pub(super) closed: bool,
    pub(super) fork: Option<ForkRequest>,
}

impl Configuration {
    /// An error: a stream was made by another request.
    pub(super) fn check(&self, stream: &Stream) -> Result<(), StreamError> {
        let differs = |differs| Err(StreamError::Exists { differs });
        let made = stream.origin.as_ref().map(|origin| &origin.request);
        match (&self.fork, made) {
            (None, None) => {}
            (Some(asked), Some(made)) if asked.is_for(made) => {}
            _ => return differs("source"),
        }
        let default = || self.fork.is_none().then(ContentType::default_type);
        let content_type = self.content_type.clone().or_else(default);
        if content_type.is_some_and(|asked| asked != stream.content_type) {
            return differs("content type");
        }
        if self.expiry.as_ref().is_some_and(|asked| Some(asked) != stream.expiry.as_ref())
            || self.expiry.is_none() && stream.own_expiry
        {
            return differs("expiry");
        }
        if self.closed != stream.is_closed() {
            return differs("state: one is closed");
        }
        Ok(())
    }
}

/// A live read under way.
#[derive(Debug)]
pub(super) struct Reader(Arc<AtomicUsize>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Streams {
    /// No streams yet.
    pub fn new(settings: &Durable, metrics: &Metrics) -> Self {
        let memory = Arc::new(MemoryShare::new("durable", settings.memory, metrics));
        Self { owners: RwLock::default(), memory }
    }

    /// Changes the bounds that hold for all callers. Streams that there are stay.
    pub fn resize(&self, settings: &Durable) {
        self.memory.resize(settings.memory);
    }

    /// A caller's stream.
    pub(super) fn find(&self, owner: &str, path: &str) -> Result<Arc<Stream>, StreamError> {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        let found = owners.get(owner).and_then(|owner| owner.streams.get(path)).map(Arc::clone);
        drop(owners);
        let stream = found.ok_or(StreamError::NotFound)?;
        stream.check_present()?;
        Ok(stream)
    }

    /// Adds a stream, unless the path has one. `true`: it was added.
    pub(super) fn add(
        &self,
        owner: &Arc<str>,
        new: NewStream,
        asked: &Configuration,
        settings: &Durable,
    ) -> Result<(Arc<Stream>, bool), StreamError> {
        let mut owners = self.write();
        let owner = owners.entry(Arc::clone(owner)).or_default();
        if let Some(stream) = owner.streams.get(&new.path) {
            match stream.check_present() {
                Ok(()) => return asked.check(stream).map(|()| (Arc::clone(stream), false)),
                Err(StreamError::NotFound) => owner.remove(&new.path),
                Err(_) => return Err(StreamError::Blocked),
            }
        }
        if owner.streams.len() >= settings.streams {
            return Err(StreamError::TooMany { what: "streams", most: settings.streams });
        }
        if let Some(origin) = &new.origin {
            origin.source.check_present().map_err(|error| match error {
                StreamError::Deleted => StreamError::SourceDeleted,
                error => error,
            })?;
        }
        let lease = self.memory.lease_for(&owner.memory);
        let stream = Arc::new(Stream::new(new, lease, settings.stream_size)?);
        if let Some(origin) = &stream.origin {
            origin.source.hold_for_fork();
        }
        owner.streams.insert(stream.path.clone(), Arc::clone(&stream));
        Ok((stream, true))
    }

    /// Deletes a stream; one with forks is kept for them.
    pub(super) fn delete(&self, owner: &str, path: &str) -> Result<(), StreamError> {
        let mut owners = self.write();
        let owner = owners.get_mut(owner).ok_or(StreamError::NotFound)?;
        let stream = owner.streams.get(path).ok_or(StreamError::NotFound)?;
        stream.check_present()?;
        if stream.delete() {
            owner.remove(path);
        }
        Ok(())
    }

    /// Counts one more live read of a caller that has a stream.
    pub(super) fn reader(&self, owner: &str, most: usize) -> Result<Reader, StreamError> {
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        let readers = &owners.get(owner).ok_or(StreamError::NotFound)?.readers;
        let reader = Reader(Arc::clone(readers));
        if readers.fetch_add(1, Relaxed) >= most {
            return Err(StreamError::TooMany { what: "live reads", most });
        }
        Ok(reader)
    }

    /// Removes expired streams for as long as it is polled.
    pub async fn keep(&self) -> Infallible {
        loop {
            sleep(EXPIRY_INTERVAL).await;
            self.expire();
        }
    }

    /// Removes the streams that have expired and have no forks.
    pub(super) fn expire(&self) {
        let now = Instant::now();
        let expired = |stream: &Stream| stream.deadline().is_some_and(|end| end <= now);
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<_> = owners
            .iter()
            .flat_map(|(owner, Owner { streams, .. })| streams.values().map(move |s| (owner, s)))
            .filter(|(_, stream)| expired(stream))
            .map(|(owner, stream)| (Arc::clone(owner), stream.path.clone()))
            .collect();
        drop(owners);
        for (owner, path) in found {
            let mut owners = self.write();
            let Some(owner) = owners.get_mut(&owner) else { continue };
            // It may have been used, or replaced, in between.
            let gone = owner
                .streams
                .get(&path)
                .is_some_and(|stream| matches!(stream.check_present(), Err(StreamError::NotFound)));
            if gone {
                owner.remove(&path);
            }
        }
        self.write().retain(|_, owner| !owner.is_unused());
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Arc<str>, Owner>> {
        // A panic within the lock leaves a stream that is there, or one that is not.
        self.owners.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner {
    fn is_unused(&self) -> bool {
        self.streams.is_empty() && self.readers.load(Relaxed) == 0
    }

    /// Removes a stream, and the sources of it that were kept for it alone.
    fn remove(&mut self, path: &str) {
        let mut next = Some(path.to_owned());
        while let Some(path) = next.take() {
            let Entry::Occupied(entry) = self.streams.entry(path) else { return };
            let stream = entry.remove();
            stream.delete();
            let source = stream.origin.as_ref().map(|origin| &origin.source);
            next = source.filter(|source| source.release_fork()).map(|source| source.path.clone());
        }
    }
}
