//! Hub: channels by name, shared by all workers. Publishers append to them, subscribers follow them.
//!
//! All channels share one sequence of numbers. That makes the position of a connection over many channels one number,
//! and a merge of channels a sort. With several nodes it asks for one order of events in one place: a script that takes
//! the next number and appends to the channel's stream, in one hash slot.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use super::cursor::Cursor;
use super::directory::{BROADCAST, Directory, FullError, Since};
use super::history_archive::{HistoryArchive, RestoredHistory};
use super::name::ChannelName;
use super::publication::Publication;
use super::source::Source as _;
use super::subscriber_limit::SubscriberLimit;
use super::track::{Sequence, Track};
use super::wakeup::Relays;
use crate::archive::Pending;
use crate::config::Channels;
use crate::streams::position::{Epoch, Position};
use crate::telemetry::Metrics;

/// The least time between two rounds of trimming.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// The longest that a publisher waits for the disk.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(2);

/// Channels, and the limit of their subscribers.
pub struct Hub {
    pub(super) sequence: Arc<Sequence>,
    directory: Mutex<Directory>,
    settings: ArcSwap<Channels>,
    /// Something is due earlier than before.
    hastened: Notify,
    relays: Relays,
    archive: Option<HistoryArchive>,
    pub(super) limit: SubscriberLimit,
    pub(super) metrics: Arc<Metrics>,
    draining: OnceLock<(Instant, Duration)>,
}

/// An error of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubError {
    /// There are as many channels as there may be, and each has subscribers.
    Full,
}

impl std::fmt::Display for HubError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "there is no room for another channel (channels.max_channels), and all have subscribers",
        )
    }
}

impl std::error::Error for HubError {}

impl From<FullError> for HubError {
    fn from(FullError: FullError) -> Self {
        Self::Full
    }
}

/// A channel at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    /// The position from which on no event is missing.
    pub earliest: Position,
    /// The position of its last event.
    pub tail: Position,
    /// The count of events that it keeps.
    pub events: u64,
    /// Their bytes.
    pub bytes: usize,
    /// The count of connections that name it.
    pub subscribers: usize,
    /// The users who are subscribed, with the counts of their connections, where presence is configured.
    pub presence: Option<Vec<(Arc<str>, usize)>>,
}

impl Hub {
    /// A hub without channels.
    pub fn new(settings: &Channels, metrics: &Arc<Metrics>) -> Self {
        Self::of_epoch(Epoch::random(), settings, metrics)
    }

    /// A hub with the channels of an archive, in which their history is kept from now on.
    pub fn restored(
        RestoredHistory { archive, last, channels }: RestoredHistory,
        settings: &Channels,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let hub = Self::of_epoch(archive.epoch(), settings, metrics);
        let mut directory = hub.directory();
        directory.restore(last, channels);
        hub.measure(&mut directory);
        drop(directory);
        Self { archive: Some(archive), ..hub }
    }

    fn of_epoch(epoch: Epoch, settings: &Channels, metrics: &Arc<Metrics>) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let sequence = Arc::new(Sequence { epoch, complete: AtomicU64::new(0), workers });
        let settings = Arc::new(settings.clone());
        Self {
            directory: Mutex::new(Directory::new(&sequence, Arc::clone(&settings))),
            settings: ArcSwap::new(settings),
            sequence,
            hastened: Notify::new(),
            relays: Relays::new(workers),
            archive: None,
            limit: SubscriberLimit::default(),
            metrics: Arc::clone(metrics),
            draining: OnceLock::new(),
        }
    }

    /// The incarnation of its sequence.
    pub fn epoch(&self) -> Epoch {
        self.sequence.epoch
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Channels> {
        self.settings.load_full()
    }

    /// Puts other settings in force, for channels that there are as well.
    pub fn configure(&self, settings: &Channels) {
        let settings = Arc::new(settings.clone());
        self.settings.store(Arc::clone(&settings));
        let mut directory = self.directory();
        directory.configure(settings);
        self.measure(&mut directory);
    }

    /// Publishes events to a channel. Returns their positions; an event with the id of an earlier one has that one's.
    pub fn publish(
        &self,
        name: &ChannelName,
        events: Vec<Publication>,
    ) -> Result<Vec<Position>, HubError> {
        // The archive's part takes effect without being awaited.
        self.begin_publishing(name, events).map(|(positions, _)| positions)
    }

    /// The same, and waits until the events are in the archive, if there is one. It reports its own failures, and then the
    /// events are in memory all the same.
    pub async fn publish_durably(
        &self,
        name: &ChannelName,
        events: Vec<Publication>,
    ) -> Result<Vec<Position>, HubError> {
        let (positions, archived) = self.begin_publishing(name, events)?;
        if let Some(archived) = archived {
            let _late = timeout(ARCHIVE_PATIENCE, archived).await;
        }
        Ok(positions)
    }

    fn begin_publishing(
        &self,
        name: &ChannelName,
        events: Vec<Publication>,
    ) -> Result<(Vec<Position>, Option<Pending<()>>), HubError> {
        let count = events.len() as u64;
        let mut directory = self.directory();
        let before = directory.last();
        let (numbers, woken) = self.append(&mut directory, name, events, false)?;
        let archived = self.archive.as_ref().and_then(|archive| {
            let Since { items, ids, age, trimmed } = directory.since(name, before)?;
            if items.is_empty() {
                return None;
            }
            let ids = |seq: u64| ids.get(&seq).map(|id| (*id).into());
            Some(archive.append(&name.shared(), (&items, &ids), (age, trimmed)))
        });
        drop(directory);
        self.metrics.channel_events_published.inc_by(count);
        self.wake(&woken);
        let positions = numbers.into_iter().map(|seq| self.sequence.epoch.at(seq)).collect();
        Ok((positions, archived))
    }

    /// Appends events under the lock. The readers of the tracks must be woken when it is released.
    pub(super) fn append(
        &self,
        directory: &mut Directory,
        name: &ChannelName,
        events: Vec<Publication>,
        presence: bool,
    ) -> Result<(Vec<u64>, Vec<Arc<Track>>), HubError> {
        let due = directory.due;
        let published = directory.publish(name, events, presence)?;
        if directory.due != due {
            self.hastened.notify_one();
        }
        self.measure(directory);
        Ok(published)
    }

    fn measure(&self, directory: &mut Directory) {
        let gauge = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        self.metrics.channels.set(gauge(directory.channels.len()));
        self.metrics.channel_memory_used.set(gauge(directory.bytes));
        self.metrics.channel_events_evicted.inc_by(std::mem::take(&mut directory.evicted));
    }

    /// The channel of a name. One that nobody has used is empty.
    pub fn view(&self, name: &ChannelName) -> ChannelView {
        let epoch = self.sequence.epoch;
        let mut directory = self.directory();
        let presence = directory.settings.settings(name.as_str()).presence;
        let Some(channel) = directory.find(name) else {
            let at = epoch.at(self.sequence.complete.load(Ordering::Acquire));
            return ChannelView {
                earliest: at,
                tail: at,
                events: 0,
                bytes: 0,
                subscribers: 0,
                presence: presence.then(Vec::new),
            };
        };
        let (events, bytes) = channel.track.size();
        let users = || channel.presence.users().map(|(user, count)| (Arc::clone(user), count));
        ChannelView {
            earliest: epoch.at(channel.track.earliest()),
            tail: epoch.at(channel.track.last()),
            events,
            bytes,
            subscribers: channel.subscribers,
            presence: presence.then(|| users().collect()),
        }
    }

    /// The position after all events so far.
    pub fn tail(&self) -> Cursor {
        let complete = self.sequence.complete.load(Ordering::Acquire);
        Cursor::new([self.sequence.epoch.at(complete)])
    }

    /// Forgets what has expired, and announces users who are gone, for as long as it is polled. Without events and
    /// subscribers it only waits.
    pub async fn keep_trimmed(&self) -> Infallible {
        let mut earliest = Instant::now();
        loop {
            let due = self.directory().due;
            let hastened = self.hastened.notified();
            match due {
                None => hastened.await,
                Some(due) => tokio::select! {
                    () = sleep_until(due.max(earliest)) => {
                        self.trim().await;
                        earliest = Instant::now() + TRIM_INTERVAL;
                    }
                    () = hastened => {}
                },
            }
        }
    }

    async fn trim(&self) {
        let now = Instant::now();
        let mut last: Option<ChannelName> = None;
        loop {
            let mut woken = Vec::new();
            {
                let mut directory = self.directory();
                let trimmed = directory.trim(now, last.as_ref());
                for (name, user) in trimmed.gone {
                    let event = presence("presence.leave", &user);
                    if let Ok((_, tracks)) = self.append(&mut directory, &name, vec![event], true) {
                        woken.extend(tracks);
                    }
                }
                self.measure(&mut directory);
                last = trimmed.last;
            }
            self.wake(&woken);
            if last.is_none() {
                return;
            }
            yield_now().await;
        }
    }

    /// Asks every subscriber to end within a time: each chooses a moment of its own.
    pub fn drain(&self, within: Duration) {
        if self.draining.set((Instant::now(), within)).is_ok() {
            let tracks = self.directory().all_tracks();
            self.wake(&tracks);
        }
    }

    /// The beginning and the length of the time in which subscribers end, once it has begun.
    pub fn draining(&self) -> Option<(Instant, Duration)> {
        self.draining.get().copied()
    }

    /// Wakes the readers of tracks.
    pub(super) fn wake(&self, tracks: &[Arc<Track>]) {
        for track in tracks {
            self.relays.wake(track);
        }
    }

    /// Relays wake-ups to the subscribers of a worker, numbered from 0, for as long as it is polled. It must be polled on
    /// that worker's thread, and until all its subscribers have left.
    pub async fn relay(&self, worker: usize) -> Infallible {
        self.relays.run(worker).await
    }

    pub(super) fn hasten(&self) {
        self.hastened.notify_one();
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        // A panic within the lock leaves each event in its tracks, or in none that a reader looks at.
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel whose events every subscriber gets.
    pub fn broadcast() -> Option<ChannelName> {
        BROADCAST.parse().ok()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hub({} channels)", self.directory().channels.len())
    }
}

/// An event of presence.
pub(super) fn presence(name: &str, user: &str) -> Publication {
    Publication::own(name, &serde_json::json!({ "user": user }).to_string())
}
