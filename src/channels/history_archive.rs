//! Archived history of channels: their events, and the numbers that they have reached, so that positions hold after a
//! restart. Events of presence are not kept. A number that was given to one event must never be given to another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::publication::Frame;
use super::source::Audience;
use super::track::Item;
use crate::archive::{Archive, ArchiveError, Change, Key, Kind, Pending, Range};
use crate::streams::position::Epoch;

/// The version of the records.
const VERSION: u16 = 1;

/// The numbers that are reserved at once. After a kill, the first number is one that was not reserved, so that it is a
/// new one even if the last events were not written.
const RESERVED: u64 = 1 << 20;

/// The time for which a channel's last number is kept, in seconds: 30 days. A client that comes back later to a channel
/// without events is not told what it has missed.
const NUMBER_KEPT: u64 = 30 * 24 * 3600;

/// The history of channels in an archive.
pub struct HistoryArchive {
    archive: Arc<dyn Archive>,
    /// The time in Unix seconds.
    now: fn() -> u64,
    epoch: Epoch,
    /// The number up to which none was given before the archive was opened, or will be without a further reservation.
    reserved: AtomicU64,
}

/// The history of channels as it was archived.
pub struct RestoredHistory {
    pub(super) archive: HistoryArchive,
    /// The number after which the next event is numbered.
    pub(super) last: u64,
    /// By channel.
    pub(super) channels: BTreeMap<Arc<str>, RestoredChannel>,
}

/// A channel as it was archived.
#[derive(Default)]
pub(super) struct RestoredChannel {
    /// The number of its last event, trimmed or not.
    pub(super) last: u64,
    /// Those that are kept, in their order.
    pub(super) events: Vec<ArchivedEvent>,
}

/// An event as it was archived.
pub(super) struct ArchivedEvent {
    pub(super) seq: u64,
    /// The number of the event before it in its channel.
    pub(super) previous: u64,
    /// The time since it was published.
    pub(super) age: Duration,
    pub(super) id: Option<Box<str>>,
    /// Every subscriber may read it.
    pub(super) public: bool,
    pub(super) frame: Frame,
}

#[derive(Serialize, Deserialize)]
struct SequenceRecord {
    version: u16,
    epoch: String,
    reserved: u64,
}

impl HistoryArchive {
    /// Reads the history, and reserves numbers. `now`: the time in Unix seconds.
    pub async fn restore(
        archive: &Arc<dyn Archive>,
        now: fn() -> u64,
    ) -> Result<RestoredHistory, ArchiveError> {
        let sequence = archive.get(sequence_key()).await?;
        let sequence =
            sequence.and_then(|json| serde_json::from_slice::<SequenceRecord>(&json).ok());
        let sequence = sequence.filter(|sequence| sequence.version == VERSION);
        let known = sequence.and_then(|one| Some((Epoch::parse(&one.epoch)?, one.reserved)));
        let (epoch, last) = known.unwrap_or_else(|| (Epoch::random(), 0));
        let history =
            Self { archive: Arc::clone(archive), now, epoch, reserved: AtomicU64::new(0) };
        archive.write(vec![history.reservation(last)]).await?;
        let mut channels = BTreeMap::new();
        if known.is_some() {
            history.read(last, &mut channels).await?;
        }
        Ok(RestoredHistory { archive: history, last, channels })
    }

    async fn read(
        &self,
        last_number: u64,
        channels: &mut BTreeMap<Arc<str>, RestoredChannel>,
    ) -> Result<(), ArchiveError> {
        let now = (self.now)();
        for kind in [Kind::Channel, Kind::ChannelEvent] {
            let mut range = Range::all(kind);
            loop {
                let page = self.archive.scan(range.clone()).await?;
                let Some(last) = page.last() else { break };
                range.after = Some(last.key.clone());
                for record in page {
                    let channel: &mut RestoredChannel =
                        channels.entry(record.key.owner).or_default();
                    if kind == Kind::Channel {
                        let number = record.value.as_ref().try_get_u64().unwrap_or_default();
                        // A higher one is of another incarnation, whose sequence has been lost.
                        channel.last = number.min(last_number);
                    } else if let Some(event) = self.event(&record.key.id, record.value, now) {
                        channel.last = channel.last.max(event.seq);
                        channel.events.push(event);
                    }
                }
            }
        }
        Ok(())
    }

    /// The incarnation of the sequence.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Appends events to a channel's record, and removes those up to a number, which are trimmed. Resolves when that is
    /// durable; it takes effect without being awaited.
    pub(super) fn append(
        &self,
        channel: &Arc<str>,
        (items, ids): (&[Item], &dyn Fn(u64) -> Option<Box<str>>),
        (age, trimmed): (Duration, u64),
    ) -> Pending<()> {
        let now = (self.now)();
        let expires = now.saturating_add(age.as_secs().max(1));
        let mut changes = Vec::with_capacity(items.len() + 3);
        let last = items.last().map_or(0, |item| item.event.seq);
        if last + RESERVED / 2 > self.reserved.load(Relaxed) {
            changes.push(self.reservation(last));
        }
        changes.extend(items.iter().map(|item| Change::Put {
            key: Key::new(Kind::ChannelEvent, channel, number(item.event.seq)),
            value: encoded(item, ids(item.event.seq).as_deref(), now),
            expires,
        }));
        changes.push(Change::RemoveUpTo(Key::new(Kind::ChannelEvent, channel, number(trimmed))));
        changes.push(Change::Put {
            key: Key::new(Kind::Channel, channel, ""),
            value: Bytes::copy_from_slice(&last.to_be_bytes()),
            expires: expires.max(now.saturating_add(NUMBER_KEPT)),
        });
        self.archive.write(changes)
    }

    /// The change that reserves the numbers after one.
    fn reservation(&self, last: u64) -> Change {
        let reserved = last + RESERVED;
        self.reserved.store(reserved, Relaxed);
        let record = SequenceRecord { version: VERSION, epoch: self.epoch.to_string(), reserved };
        let value = serde_json::to_vec(&record).unwrap_or_default().into();
        Change::Put { key: sequence_key(), value, expires: u64::MAX }
    }

    /// An event of its record. `None`: it was written in another way.
    fn event(&self, id: &str, mut value: Bytes, now: u64) -> Option<ArchivedEvent> {
        let seq = id.parse().ok()?;
        let previous = value.try_get_u64().ok()?;
        let published = value.try_get_u64().ok()?;
        let public = value.try_get_u8().ok()? == 1;
        let length = usize::from(value.try_get_u16().ok()?);
        let id = (value.len() >= length).then(|| value.split_to(length))?;
        let id = std::str::from_utf8(&id).ok()?;
        Some(ArchivedEvent {
            seq,
            previous,
            age: Duration::from_secs(now.saturating_sub(published)),
            id: (!id.is_empty()).then(|| id.into()),
            public,
            frame: Frame::parse(value, &self.epoch.at(seq).to_string())?,
        })
    }
}

impl std::fmt::Debug for HistoryArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HistoryArchive({})", self.epoch)
    }
}

fn sequence_key() -> Key {
    Key::new(Kind::ChannelSequence, &"".into(), "")
}

/// A number as an id: all of them have the same length, so that they are in order.
fn number(seq: u64) -> String {
    format!("{seq:020}")
}

/// The record of an event: the number before it, the time in Unix seconds, whether it is public, its publisher's id, and
/// its frame.
fn encoded(item: &Item, id: Option<&str>, now: u64) -> Bytes {
    let (id, frame) = (id.unwrap_or_default(), item.event.frame.bytes());
    let mut out = BytesMut::with_capacity(19 + id.len() + frame.len());
    out.put_u64(item.previous);
    out.put_u64(now);
    out.put_u8(u8::from(item.event.audience == Audience::Public));
    // An id has 256 bytes at most.
    out.put_u16(u16::try_from(id.len()).unwrap_or_default());
    out.put_slice(id.as_bytes());
    out.put_slice(frame);
    out.freeze()
}
