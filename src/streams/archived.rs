//! Archived generations: those that have ended, kept by an [`Archive`] beyond the process and beyond what has room in
//! memory. It must never return a generation to anybody but its owner, and never a part of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use super::event::{Event, StreamEnd};
use super::generation::Generation;
use super::head::{RecordedExtent, StreamHead};
use super::log::{Extent, Read};
use super::position::{Epoch, Position};
use super::record::{
    EndRecord, GenerationMeta, RecordError, RestoredEvents, decode_events, encode_events,
};
use super::registry::Streams;
use crate::archive::{Archive, ArchiveError, Change, Key, Kind, Range, Record};
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::wire::dialect::Clock;

/// The longest that the end of a stream waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The number of generations after which the oldest of an owner are looked for.
const TRIMMED_EVERY: u64 = 16;

/// The retention of archived generations.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveRetention {
    /// The time after their last reading.
    pub keep: Duration,
    /// The most of one owner.
    pub per_owner: usize,
}

/// The generations of an archive; of none, if there is none.
#[derive(Clone)]
pub struct ArchivedStreams {
    archive: Option<Arc<dyn Archive>>,
    streams: Arc<Streams>,
    clock: Clock,
    put: Arc<AtomicU64>,
}

/// An archived generation without its events.
struct ArchivedStream {
    meta: GenerationMeta,
    end: EndRecord,
    extent: RecordedExtent,
}

#[derive(Serialize, Deserialize)]
struct Head {
    meta: Box<RawValue>,
    end: EndRecord,
    earliest: u64,
    tail: u64,
    bytes: usize,
}

impl ArchivedStreams {
    /// Generations of an archive, which are restored into a registry. `now`: the time in Unix seconds.
    pub fn new(
        archive: Option<Arc<dyn Archive>>,
        streams: &Arc<Streams>,
        now: fn() -> u64,
    ) -> Self {
        let (streams, clock) = (Arc::clone(streams), Clock::new(now));
        Self { archive, streams, clock, put: Arc::default() }
    }

    /// Keeps a generation that is about to end so, at this time in Unix seconds. Returns when it is durable, has failed,
    /// or takes too long; a failure is the archive's to report.
    pub async fn keep(
        &self,
        generation: &Generation,
        (end, ended): (&StreamEnd, u64),
        retention: ArchiveRetention,
    ) {
        let Some(archive) = &self.archive else { return };
        if !self.streams.holds(generation) {
            return;
        }
        // Before it is recorded: nobody may read another time from it afterwards.
        generation.origin.context.now.stop(ended);
        let expires = ended + retention.keep.as_secs().max(1);
        generation.archived.store(expires, Relaxed);
        let written = archive.write(changes(generation, (end, ended), expires));
        let _late = timeout(PATIENCE, written).await;
        // It may have been deleted meanwhile.
        if !self.streams.holds(generation) {
            let _failed = archive.write(removals(&GenerationMeta::of(generation))).await;
        }
        let count = self.put.fetch_add(1, Relaxed);
        if count.is_multiple_of(TRIMMED_EVERY) || retention.per_owner <= 64 {
            self.trim(archive, &generation.origin.owner, retention.per_owner).await;
        }
    }

    /// Removes the oldest generations of an owner.
    async fn trim(&self, archive: &Arc<dyn Archive>, owner: &Arc<str>, most: usize) {
        let Ok(mut all) = archive.list(Kind::Stream, owner).await else { return };
        all.sort_unstable_by_key(|one| one.written);
        for old in all.iter().take(all.len().saturating_sub(most)) {
            if let Ok(Some(stream)) = self.head(owner, &old.id).await {
                let _failed = archive.write(removals(&stream.meta)).await;
            }
        }
    }

    /// The generation of an id, for its owner.
    pub async fn get(&self, owner: &Arc<str>, id: &str) -> Result<Option<Arc<Generation>>, Error> {
        if let Some(present) = self.streams.get(owner, id) {
            return Ok(Some(present));
        }
        let Some(stream) = self.head(owner, id).await? else { return Ok(None) };
        let events = self.value(Key::new(Kind::StreamEvents, owner, id)).await?;
        let Some(events) = events else { return Ok(None) };
        match self.restore(stream, events) {
            Ok(restored) => Ok(Some(restored)),
            Err(RecordError::Memory) => {
                let message = "there is no memory for this stream at the moment (server.memory)";
                Err(Error::unavailable(message).retry_after(MIN_RETRY_AFTER))
            }
            Err(error) => {
                tracing::warn!(%error, "a stream in the archive cannot be read (streams.path)");
                Ok(None)
            }
        }
    }

    fn restore(
        &self,
        ArchivedStream { meta, end, extent }: ArchivedStream,
        blocks: Bytes,
    ) -> Result<Arc<Generation>, RecordError> {
        let at = (meta.epoch(), extent.earliest);
        let events: Vec<Event> = decode_events(at, meta.framing(), blocks)?;
        if extent.earliest + events.len() as u64 != extent.tail {
            return Err(RecordError::Damaged("it has not all of its events"));
        }
        let events = RestoredEvents { trimmed: extent.earliest, events, end: Some(end) };
        let restored = self.streams.restore(&meta, events, &self.clock)?;
        // The next look at what was read prolongs it.
        restored.archived.fetch_max(1, Relaxed);
        Ok(restored)
    }

    /// The generation of a position in its native track, for its owner.
    pub async fn at(
        &self,
        owner: &Arc<str>,
        position: Position,
    ) -> Result<Option<Arc<Generation>>, Error> {
        match self.streams.at(owner, position) {
            Some(present) => Ok(Some(present)),
            None => self.named(owner, epoch_name(position.epoch)).await,
        }
    }

    /// The generation of an idempotency key, for its owner. A failure of the archive is as if there were none: it must
    /// not refuse new requests.
    pub async fn of_key(&self, owner: &Arc<str>, key: &str) -> Option<Arc<Generation>> {
        self.named(owner, key_name(key)).await.ok().flatten()
    }

    /// The generation of a response, for its owner.
    pub async fn of_response(
        &self,
        owner: &Arc<str>,
        id: &str,
    ) -> Result<Option<Arc<Generation>>, Error> {
        self.named(owner, response_name(id)).await
    }

    async fn named(
        &self,
        owner: &Arc<str>,
        name: String,
    ) -> Result<Option<Arc<Generation>>, Error> {
        let id = self.value(Key::new(Kind::StreamName, owner, name)).await?;
        match id.as_deref().map(std::str::from_utf8) {
            Some(Ok(id)) => self.get(owner, id).await,
            _ => Ok(None),
        }
    }

    /// The archived generations of an owner that are not in memory, the oldest first.
    pub async fn list(&self, owner: &Arc<str>, most: usize) -> Result<Vec<StreamHead>, Error> {
        let Some(archive) = &self.archive else { return Ok(Vec::new()) };
        let mut range = Range::of(Kind::Stream, owner, "");
        let mut all = Vec::new();
        loop {
            let page = archive.scan(range.clone()).await.map_err(unavailable)?;
            let Some(last) = page.last() else { break };
            range.after = Some(last.key.clone());
            all.extend(page);
        }
        all.sort_unstable_by_key(|record| record.written);
        all.drain(..all.len().saturating_sub(most));
        let absent = |record: &Record| self.streams.get(owner, &record.key.id).is_none();
        let read = |record: Record| {
            let ArchivedStream { meta, end, extent } = head(&record.value).ok()?;
            Some(StreamHead::recorded(meta, Some(end), extent, record.expires))
        };
        Ok(all.into_iter().filter(absent).filter_map(read).collect())
    }

    /// Forgets a generation, in memory and in the archive. Returns whether there was one.
    pub async fn remove(&self, owner: &Arc<str>, id: &str) -> Result<bool, Error> {
        let present = self.streams.get(owner, id);
        let archived = self.head(owner, id).await?;
        if let Some(present) = &present {
            present.cancel();
            self.streams.remove(id);
        }
        if let (Some(archive), Some(archived)) = (&self.archive, &archived) {
            archive.write(removals(&archived.meta)).await.map_err(unavailable)?;
        }
        Ok(present.is_some() || archived.is_some())
    }

    /// Prolongs what has been read since it was archived, in steps of an eighth of its retention.
    pub fn prolong(&self, keep: Duration, now: Instant) {
        let Some(archive) = &self.archive else { return };
        let unix = self.clock.unix();
        for generation in self.streams.all_ended() {
            let before = generation.archived.load(Relaxed);
            let left = generation.expires_in(keep, now).unwrap_or(keep);
            let expires = unix + left.as_secs();
            if before == 0 || expires <= before + keep.as_secs() / 8 {
                continue;
            }
            generation.archived.store(expires, Relaxed);
            let keys = keys(&GenerationMeta::of(&generation));
            let prolonged = keys.into_iter().map(|key| Change::Prolong { key, expires });
            // It takes effect without being awaited.
            drop(archive.write(prolonged.collect()));
        }
    }

    async fn head(&self, owner: &Arc<str>, id: &str) -> Result<Option<ArchivedStream>, Error> {
        let Some(value) = self.value(Key::new(Kind::Stream, owner, id)).await? else {
            return Ok(None);
        };
        Ok(head(&value)
            .inspect_err(|error| {
                tracing::warn!(%error, "a stream in the archive cannot be read (streams.path)");
            })
            .ok())
    }

    async fn value(&self, key: Key) -> Result<Option<Bytes>, Error> {
        let Some(archive) = &self.archive else { return Ok(None) };
        archive.get(key).await.map_err(unavailable)
    }
}

/// The error of a request that the archive could not serve.
pub fn unavailable(error: ArchiveError) -> Error {
    let message = "the archive cannot be used at the moment (streams.path, or redis)";
    Error::unavailable(message).because(error).retry_after(MIN_RETRY_AFTER)
}

fn head(value: &[u8]) -> Result<ArchivedStream, RecordError> {
    let head: Head = serde_json::from_slice(value)
        .map_err(|_| RecordError::Damaged("its head is not the JSON that is expected"))?;
    let Head { meta, end, earliest, tail, bytes } = head;
    let extent = RecordedExtent { earliest, tail, bytes };
    Ok(ArchivedStream { meta: GenerationMeta::decode(meta.get().as_bytes())?, end, extent })
}

/// The records of a generation.
fn changes(generation: &Generation, (end, ended): (&StreamEnd, u64), expires: u64) -> Vec<Change> {
    let meta = GenerationMeta::of(generation);
    let Extent { earliest, tail, bytes, .. } = generation.extent();
    let events = match generation.native.log.read(earliest, usize::MAX) {
        Read::Entries { entries, .. } => entries,
        _ => Vec::new(),
    };
    let json =
        String::from_utf8(meta.encode()).ok().and_then(|json| RawValue::from_string(json).ok());
    let end = EndRecord::of(generation, end, ended);
    let head = json.map(|meta| Head { meta, end, earliest, tail, bytes });
    let head = head.and_then(|head| serde_json::to_vec(&head).ok()).unwrap_or_default();
    let id = Bytes::from(generation.id.clone());
    let put = |key: Key| {
        let value = match key.kind {
            Kind::Stream => head.clone().into(),
            Kind::StreamEvents => encode_events(&events),
            _ => id.clone(),
        };
        Change::Put { key, value, expires }
    };
    keys(&meta).into_iter().map(put).collect()
}

fn removals(meta: &GenerationMeta) -> Vec<Change> {
    keys(meta).into_iter().map(Change::Remove).collect()
}

/// The keys of all records of a generation.
fn keys(meta: &GenerationMeta) -> Vec<Key> {
    let owner: Arc<str> = meta.owner.as_str().into();
    let response = meta.response_id().map(|id| response_name(&id));
    let key = meta.key().map(|(key, _)| key_name(&key));
    let names = [Some(epoch_name(meta.epoch())), key, response].into_iter().flatten();
    let own = [Kind::Stream, Kind::StreamEvents].map(|kind| Key::new(kind, &owner, &*meta.id));
    own.into_iter().chain(names.map(|name| Key::new(Kind::StreamName, &owner, name))).collect()
}

fn epoch_name(epoch: Epoch) -> String {
    format!("epoch/{epoch}")
}

fn key_name(key: &str) -> String {
    format!("key/{key}")
}

fn response_name(id: &str) -> String {
    format!("response/{id}")
}

impl std::fmt::Debug for ArchivedStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ArchivedStreams({})", if self.archive.is_some() { "kept" } else { "none" })
    }
}
