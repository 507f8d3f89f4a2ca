//! Archived responses: the records of stored responses, each with its own items and the id of the one that it continues.
//! A history that has lost a part must never be taken for a whole one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::archived::unavailable;
use super::stored::{MAX_CHAIN, StoredResponse};
use crate::archive::{Archive, Change, Key, Kind, OwnerLimit};
use crate::error::Error;

/// The version of the records.
const VERSION: u16 = 1;

/// The responses of an archive.
#[derive(Clone)]
pub struct ResponseArchive {
    archive: Arc<dyn Archive>,
    /// The time in Unix seconds.
    now: fn() -> u64,
    limit: Arc<OwnerLimit>,
}

#[derive(Serialize, Deserialize)]
struct ResponseRecord {
    version: u16,
    response: String,
    input: Vec<String>,
    output: Vec<(Option<String>, String)>,
    previous: Option<String>,
    stored: u64,
    /// The time until which it may be named. Others may continue it for longer.
    until: u64,
}

impl ResponseArchive {
    /// The responses of an archive. `now`: the time in Unix seconds.
    pub fn new(archive: &Arc<dyn Archive>, now: fn() -> u64) -> Self {
        let limit = Arc::new(OwnerLimit::new(Kind::Response));
        Self { archive: Arc::clone(archive), now, limit }
    }

    /// Stores a response for a time, without waiting for the disk. Those that it continues are kept as long.
    pub(super) fn store(&self, owner: &Arc<str>, response: &StoredResponse, keep: Duration) {
        let stored = (self.now)();
        let expires = stored.saturating_add(keep.as_secs().max(1));
        let record = ResponseRecord {
            version: VERSION,
            response: response.response.clone(),
            input: response.input.clone(),
            output: response.output.clone(),
            previous: response.previous.as_ref().map(|previous| previous.id.clone()),
            stored,
            until: expires,
        };
        let Ok(json) = serde_json::to_vec(&record) else { return };
        let key = Key::new(Kind::Response, owner, &*response.id);
        let items =
            response.output.iter().filter_map(|(id, _)| id.as_ref()).map(|id| Change::Put {
                key: Key::new(Kind::ResponseItem, owner, &**id),
                value: response.id.clone().into(),
                expires,
            });
        let earlier =
            std::iter::successors(response.previous.as_deref(), |one| one.previous.as_deref());
        let earlier = earlier
            .map(|one| Change::Prolong { key: Key::new(Kind::Response, owner, &*one.id), expires });
        let own = Change::Put { key, value: json.into(), expires };
        // It takes effect without being awaited, and a failure is the archive's to report.
        drop(self.archive.write([own].into_iter().chain(items).chain(earlier).collect()));
        self.limit.added(owner);
    }

    /// A response with those that it continues, and the time at which it was stored. `present`: those in memory. `None`:
    /// there is no such response, or a part of its history is gone.
    pub(super) async fn chain(
        &self,
        owner: &Arc<str>,
        id: &str,
        present: &(dyn Fn(&str) -> Option<Arc<StoredResponse>> + Sync),
    ) -> Result<Option<(Arc<StoredResponse>, Instant)>, Error> {
        let Some(first) = self.named(owner, id).await? else { return Ok(None) };
        let age = Duration::from_secs((self.now)().saturating_sub(first.stored));
        let mut records = vec![(id.to_owned(), first)];
        let mut base = None;
        while let Some(id) = records.last().and_then(|(_, last)| last.previous.clone()) {
            base = present(&id);
            if base.is_some() {
                break;
            }
            match self.record(owner, &id).await? {
                Some(record) if records.len() < MAX_CHAIN => records.push((id, record)),
                _ => return Ok(None),
            }
        }
        let restored = records.into_iter().rev().fold(base, |previous, (id, record)| {
            let ResponseRecord { response, input, output, .. } = record;
            Some(Arc::new(StoredResponse { id, response, input, output, previous }))
        });
        let now = Instant::now();
        Ok(restored.map(|restored| (restored, now.checked_sub(age).unwrap_or(now))))
    }

    /// A response alone, as JSON.
    pub(super) async fn text(&self, owner: &Arc<str>, id: &str) -> Result<Option<String>, Error> {
        Ok(self.named(owner, id).await?.map(|record| record.response))
    }

    /// A single item.
    pub(super) async fn item(&self, owner: &Arc<str>, id: &str) -> Result<Option<String>, Error> {
        let key = Key::new(Kind::ResponseItem, owner, id);
        let response = self.archive.get(key).await.map_err(unavailable)?;
        let Some(Ok(response)) = response.as_deref().map(std::str::from_utf8) else {
            return Ok(None);
        };
        let Some(record) = self.named(owner, response).await? else { return Ok(None) };
        let mut output = record.output.into_iter();
        Ok(output.find(|(own, _)| own.as_deref() == Some(id)).map(|(_, item)| item))
    }

    /// Removes a response. Returns whether there was one.
    pub(super) async fn remove(&self, owner: &Arc<str>, id: &str) -> Result<bool, Error> {
        let Some(record) = self.record(owner, id).await? else { return Ok(false) };
        let items = record.output.iter().filter_map(|(id, _)| id.as_ref());
        let items = items.map(|id| Key::new(Kind::ResponseItem, owner, &**id));
        let keys = items.chain([Key::new(Kind::Response, owner, id)]);
        self.archive.write(keys.map(Change::Remove).collect()).await.map_err(unavailable)?;
        Ok(record.until > (self.now)())
    }

    /// Removes the oldest responses of owners who have more than they may.
    pub(super) async fn trim(&self, per_owner: usize) {
        for (owner, surplus) in self.limit.surplus(&*self.archive, per_owner).await {
            for old in surplus {
                // After a failure it is tried again when the owner adds another one.
                let _failed = self.remove(&owner, &old.id).await;
            }
        }
    }

    /// The record of a response that may be named.
    async fn named(&self, owner: &Arc<str>, id: &str) -> Result<Option<ResponseRecord>, Error> {
        let record = self.record(owner, id).await?;
        Ok(record.filter(|record| record.until > (self.now)()))
    }

    async fn record(&self, owner: &Arc<str>, id: &str) -> Result<Option<ResponseRecord>, Error> {
        let value = self.archive.get(Key::new(Kind::Response, owner, id)).await;
        let value: Option<Bytes> = value.map_err(unavailable)?;
        let record = value.and_then(|json| serde_json::from_slice::<ResponseRecord>(&json).ok());
        Ok(record.filter(|record| record.version == VERSION))
    }
}
