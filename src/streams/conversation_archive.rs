//! Archived conversations: the record of each, and its items as they were added, a record for each addition. A
//! conversation that has lost items must never be taken for a whole one.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::archived::unavailable;
use super::conversations::Conversation;
use crate::archive::{Archive, Change, Key, Kind, OwnerLimit, Range};
use crate::error::Error;

/// The version of the records.
const VERSION: u16 = 1;

/// The conversations of an archive.
#[derive(Clone)]
pub struct ConversationArchive {
    archive: Arc<dyn Archive>,
    /// The time in Unix seconds.
    now: fn() -> u64,
    limit: Arc<OwnerLimit>,
}

/// The records of a conversation.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConversationRecords {
    /// The number of records with items.
    parts: u64,
    /// The Unix second until which all of them are kept.
    until: u64,
    keep: u64,
}

#[derive(Serialize, Deserialize)]
struct ConversationRecord {
    version: u16,
    created: u64,
    metadata: String,
    parts: u64,
    keep: u64,
    until: u64,
}

impl ConversationArchive {
    /// The conversations of an archive. `now`: the time in Unix seconds.
    pub fn new(archive: &Arc<dyn Archive>, now: fn() -> u64) -> Self {
        let limit = Arc::new(OwnerLimit::new(Kind::Conversation));
        Self { archive: Arc::clone(archive), now, limit }
    }

    /// Begins a conversation that is kept for a time after it was last used. Nothing here waits for the disk.
    pub(super) fn begin(
        &self,
        owner: &Arc<str>,
        head: &Conversation,
        (items, keep): (&[String], Duration),
        place: &mut ConversationRecords,
    ) {
        place.keep = keep.as_secs().clamp(1, u64::from(u32::MAX));
        self.add(owner, head, items, place);
        self.limit.added(owner);
    }

    /// Adds items.
    pub(super) fn add(
        &self,
        owner: &Arc<str>,
        head: &Conversation,
        items: &[String],
        place: &mut ConversationRecords,
    ) {
        let Ok(json) = serde_json::to_vec(items) else { return };
        let mut changes = self.prolonged(owner, head, place);
        let key = Key::new(Kind::ConversationItems, owner, part(&head.id, place.parts));
        changes.push(Change::Put { key, value: json.into(), expires: place.until });
        place.parts += 1;
        changes.extend(record(owner, head, *place));
        // It takes effect without being awaited, and a failure is the archive's to report.
        drop(self.archive.write(changes));
    }

    /// Keeps a conversation for longer, which has just been used.
    pub(super) fn used(
        &self,
        owner: &Arc<str>,
        head: &Conversation,
        place: &mut ConversationRecords,
    ) {
        let mut changes = self.prolonged(owner, head, place);
        if !changes.is_empty() {
            changes.extend(record(owner, head, *place));
            drop(self.archive.write(changes));
        }
    }

    /// The changes that keep its items for longer, in steps of an eighth.
    fn prolonged(
        &self,
        owner: &Arc<str>,
        head: &Conversation,
        place: &mut ConversationRecords,
    ) -> Vec<Change> {
        let least = (self.now)().saturating_add(place.keep);
        if place.until >= least {
            return Vec::new();
        }
        place.until = least.saturating_add(place.keep / 8 + 1);
        let expires = place.until;
        let keys = (0..place.parts).map(|number| part(&head.id, number));
        let keys = keys.map(|id| Key::new(Kind::ConversationItems, owner, id));
        keys.map(|key| Change::Prolong { key, expires }).collect()
    }

    /// A conversation with its items. `None`: there is none, or not all of it.
    pub(super) async fn load(
        &self,
        owner: &Arc<str>,
        id: &str,
    ) -> Result<Option<(Conversation, Vec<String>, ConversationRecords)>, Error> {
        let json = self.archive.get(Key::new(Kind::Conversation, owner, id)).await;
        let json = json.map_err(unavailable)?;
        let record = json.and_then(|json| serde_json::from_slice::<ConversationRecord>(&json).ok());
        let Some(record) = record.filter(|record| record.version == VERSION) else {
            return Ok(None);
        };
        let (mut items, mut parts) = (Vec::new(), 0);
        let mut range = Range::of(Kind::ConversationItems, owner, &format!("{id}/"));
        loop {
            let page = self.archive.scan(range.clone()).await.map_err(unavailable)?;
            let Some(last) = page.last() else { break };
            range.after = Some(last.key.clone());
            for found in &page {
                // One that was added after the record was read belongs to nobody yet.
                if parts == record.parts || found.key.id != part(id, parts) {
                    continue;
                }
                let Ok(own) = serde_json::from_slice::<Vec<String>>(&found.value) else {
                    return Ok(None);
                };
                items.extend(own);
                parts += 1;
            }
        }
        if parts != record.parts {
            return Ok(None);
        }
        let ConversationRecord { created, metadata, keep, until, .. } = record;
        let head = Conversation { id: id.to_owned(), created, metadata };
        Ok(Some((head, items, ConversationRecords { parts, until, keep })))
    }

    /// Removes a conversation, without waiting for the disk.
    pub(super) fn remove(&self, owner: &Arc<str>, id: &str) {
        drop(self.archive.write(removals(owner, id)));
    }

    /// Removes a conversation. Returns whether there was one.
    pub(super) async fn forget(&self, owner: &Arc<str>, id: &str) -> Result<bool, Error> {
        let found = self.archive.get(Key::new(Kind::Conversation, owner, id)).await;
        let found = found.map_err(unavailable)?.is_some();
        if found {
            self.archive.write(removals(owner, id)).await.map_err(unavailable)?;
        }
        Ok(found)
    }

    /// Removes the oldest conversations of owners who have more than they may.
    pub(super) async fn trim(&self, per_owner: usize) {
        for (owner, surplus) in self.limit.surplus(&*self.archive, per_owner).await {
            for old in surplus {
                self.remove(&owner, &old.id);
            }
        }
    }
}

/// The record of a conversation.
fn record(owner: &Arc<str>, head: &Conversation, place: ConversationRecords) -> Option<Change> {
    let record = ConversationRecord {
        version: VERSION,
        created: head.created,
        metadata: head.metadata.clone(),
        parts: place.parts,
        keep: place.keep,
        until: place.until,
    };
    let value = serde_json::to_vec(&record).ok()?.into();
    let key = Key::new(Kind::Conversation, owner, &*head.id);
    Some(Change::Put { key, value, expires: place.until })
}

/// The id of some items.
fn part(id: &str, number: u64) -> String {
    format!("{id}/{number:08}")
}

fn removals(owner: &Arc<str>, id: &str) -> Vec<Change> {
    vec![
        Change::Remove(Key::new(Kind::Conversation, owner, id)),
        Change::RemovePrefixed(Key::new(Kind::ConversationItems, owner, format!("{id}/"))),
    ]
}
