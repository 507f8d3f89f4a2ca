//! Directory of a hub: its channels, the feeds of patterns, and the order of events. Everything in it changes under one
//! lock, so that a number is given to an event and the event is in all its tracks at once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::history_archive::{ArchivedEvent, RestoredChannel};
use super::name::{ChannelName, ChannelPattern};
use super::presence::Presence;
use super::publication::Publication;
use super::source::{Event, Source as _};
use super::track::{Change, Item, Sequence, Track};
use crate::config::{ChannelSettings, Channels};
use crate::streams::log::Retention;

/// The name of the channel whose events every subscriber gets.
pub(super) const BROADCAST: &str = "broadcast";

/// The most channels that one hold of the lock trims.
const TRIMMED_AT_ONCE: usize = 1000;

/// The most events that the feed of a pattern keeps. Their frames are those of the channels.
const FEED_EVENTS: usize = 10_000;

/// The time for which the feed of a pattern is kept without a subscriber: its subscribers reconnect.
const FEED_GRACE: Duration = Duration::from_mins(1);

/// Beyond its limit, the memory of all events is brought down to 7/8 of it.
const MEMORY_KEPT: (usize, usize) = (7, 8);

/// A channel.
pub(super) struct Channel {
    pub(super) track: Arc<Track>,
    pub(super) settings: ChannelSettings,
    pub(super) presence: Presence,
    /// Subscribers who name it.
    pub(super) subscribers: usize,
    /// The feeds of patterns that match its name.
    feeds: Vec<Arc<Track>>,
    ids: PublishedIds,
}

/// The feed of a pattern: the events of all channels that it matches.
pub(super) struct Feed {
    pub(super) track: Arc<Track>,
    subscribers: usize,
    /// The time since which it has no subscriber.
    idle: Option<Instant>,
}

/// The ids that publishers gave to the events of a channel, as far back as it keeps them.
#[derive(Default)]
struct PublishedIds {
    numbers: HashMap<Box<str>, u64>,
    order: VecDeque<(u64, Box<str>)>,
}

impl PublishedIds {
    fn add(&mut self, id: Box<str>, seq: u64) {
        self.numbers.insert(id.clone(), seq);
        self.order.push_back((seq, id));
    }

    /// Forgets those of events that a track has trimmed.
    fn trim(&mut self, track: &Track) {
        if self.order.is_empty() {
            return;
        }
        let earliest = track.earliest();
        while let Some((_, id)) = self.order.pop_front_if(|(seq, _)| *seq <= earliest) {
            self.numbers.remove(&id);
        }
    }
}

/// The channels, feeds and events of a hub.
pub(super) struct Directory {
    sequence: Arc<Sequence>,
    /// The text of the epoch.
    epoch: String,
    /// The number of the last event.
    last: u64,
    pub(super) channels: BTreeMap<ChannelName, Channel>,
    feeds: BTreeMap<ChannelPattern, Feed>,
    /// Events for every subscriber.
    pub(super) broadcast: Channel,
    pub(super) settings: Arc<Channels>,
    /// The bytes that all tracks hold.
    pub(super) bytes: usize,
    /// Events that were forgotten early, for want of memory.
    pub(super) evicted: u64,
    /// The number up to which events of channels that are no more may have been forgotten.
    forgotten: u64,
    /// The time of the next call of [`Directory::trim`].
    pub(super) due: Option<Instant>,
}

/// The events of a channel after a number.
pub(super) struct Since<'d> {
    pub(super) items: Vec<Item>,
    pub(super) ids: HashMap<u64, &'d str>,
    pub(super) age: Duration,
    pub(super) trimmed: u64,
}

/// The result of trimming some channels.
pub(super) struct Trimmed {
    /// The users who are gone, each with the channel.
    pub(super) gone: Vec<(ChannelName, Arc<str>)>,
    /// The last channel, if there are others after it.
    pub(super) last: Option<ChannelName>,
}

/// A new channel for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullError;

impl Directory {
    pub(super) fn new(sequence: &Arc<Sequence>, settings: Arc<Channels>) -> Self {
        let own = settings.settings(BROADCAST);
        Self {
            sequence: Arc::clone(sequence),
            epoch: sequence.epoch.to_string(),
            last: 0,
            channels: BTreeMap::new(),
            feeds: BTreeMap::new(),
            broadcast: Channel::new(sequence, own, 0),
            settings,
            bytes: 0,
            evicted: 0,
            forgotten: 0,
            due: None,
        }
    }

    /// The channel of a name, which it makes if need be.
    pub(super) fn channel(&mut self, name: &ChannelName) -> Result<&mut Channel, FullError> {
        if name.as_str() == BROADCAST {
            return Ok(&mut self.broadcast);
        }
        if !self.channels.contains_key(name) {
            self.make_room()?;
            let settings = self.settings.settings(name.as_str());
            let mut channel = Channel::new(&self.sequence, settings, self.forgotten);
            let matching = self.feeds.iter().filter(|(pattern, _)| pattern.matches(name.as_str()));
            channel.feeds = matching.map(|(_, feed)| Arc::clone(&feed.track)).collect();
            self.channels.insert(name.clone(), channel);
        }
        self.channels.get_mut(name).ok_or(FullError)
    }

    /// The channel of a name, if there is one.
    pub(super) fn find(&mut self, name: &ChannelName) -> Option<&mut Channel> {
        if name.as_str() == BROADCAST {
            return Some(&mut self.broadcast);
        }
        self.channels.get_mut(name)
    }

    /// Forgets the channels that have been unused for longest, if there is no room for another one.
    fn make_room(&mut self) -> Result<(), FullError> {
        if self.channels.len() < self.settings.max_channels {
            return Ok(());
        }
        let unused = self.channels.iter().filter(|(_, channel)| channel.is_unused());
        let by_use = |(name, channel): (&ChannelName, &Channel)| {
            (channel.track.size().0 > 0, channel.track.last(), name.clone())
        };
        let mut unused: Vec<_> = unused.map(by_use).collect();
        unused.sort_unstable();
        // An eighth of them, so that the search for them costs each new channel little.
        unused.truncate((unused.len() / 8).max(1));
        for (_, last, name) in unused {
            self.forgotten = self.forgotten.max(last);
            if let Some(channel) = self.channels.remove(&name) {
                self.account(&channel.track.trim_while(|_| true));
            }
        }
        if self.channels.len() < self.settings.max_channels { Ok(()) } else { Err(FullError) }
    }

    /// Appends events to a channel and to the feeds that match it. Returns their numbers, and the tracks whose readers
    /// must be woken once the lock is released. `presence`: they are events of presence.
    pub(super) fn publish(
        &mut self,
        name: &ChannelName,
        publications: Vec<Publication>,
        presence: bool,
    ) -> Result<(Vec<u64>, Vec<Arc<Track>>), FullError> {
        let now = Instant::now();
        let (mut last, epoch) = (self.last, self.epoch.clone());
        let channel = self.channel(name)?;
        let (origin, expires) = (name.shared(), now + channel.settings.age);
        let mut numbers = Vec::with_capacity(publications.len());
        let mut items = Vec::with_capacity(publications.len());
        for mut publication in publications {
            let id = publication.id.take();
            if let Some(seq) = id.as_ref().and_then(|id| channel.ids.numbers.get(id)) {
                numbers.push(*seq);
                continue;
            }
            last += 1;
            if let Some(id) = id {
                channel.ids.add(id, last);
            }
            let frame = publication.frame(&format!("{epoch}_{last:010}"));
            let event = Event { seq: last, origin: Arc::clone(&origin), published: now, frame };
            items.push(Item { event, previous: 0, expires, presence });
            numbers.push(last);
        }
        let (changes, mut woken) = channel.push(&items);
        self.last = last;
        for change in &changes {
            self.account(change);
        }
        self.evict();
        self.hasten(expires);
        if name.as_str() == BROADCAST {
            woken = self.all_tracks();
        }
        // From now on readers may take it that everything up to this number is there.
        self.sequence.complete.store(last, Ordering::Release);
        Ok((numbers, woken))
    }

    /// The events of a channel after a number, the ids that their publishers gave them, its settings, and the number up
    /// to which it is trimmed.
    pub(super) fn since(&self, name: &ChannelName, seq: u64) -> Option<Since<'_>> {
        let channel = match name.as_str() {
            BROADCAST => &self.broadcast,
            _ => self.channels.get(name)?,
        };
        let ids = channel.ids.order.iter().rev().take_while(|(of, _)| *of > seq);
        Some(Since {
            items: channel.track.after(seq),
            ids: ids.map(|(seq, id)| (*seq, &**id)).collect(),
            age: channel.settings.age,
            trimmed: channel.track.earliest(),
        })
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Puts back what was archived. Events that have expired meanwhile are left out.
    pub(super) fn restore(&mut self, last: u64, channels: BTreeMap<Arc<str>, RestoredChannel>) {
        let now = Instant::now();
        self.last = last;
        self.sequence.complete.store(last, Ordering::Release);
        for (name, restored) in channels {
            let Ok(name) = name.parse::<ChannelName>() else { continue };
            let settings = self.settings.settings(name.as_str());
            let is_kept = |event: &ArchivedEvent| event.age < settings.age;
            let events: Vec<_> = restored.events.into_iter().filter(is_kept).collect();
            let before = events.first().map_or(restored.last, |event| event.previous);
            let sequence = Arc::clone(&self.sequence);
            let Ok(channel) = self.channel(&name) else { continue };
            channel.track = Arc::new(Track::new(&sequence, retention(&settings), before));
            let origin = name.shared();
            let mut items = Vec::with_capacity(events.len());
            for ArchivedEvent { seq, age, id, frame, .. } in events {
                if let Some(id) = id {
                    channel.ids.add(id, seq);
                }
                let published = now.checked_sub(age).unwrap_or(now);
                let expires = now + settings.age.saturating_sub(age);
                let event = Event { seq, origin: Arc::clone(&origin), published, frame };
                items.push(Item { event, previous: 0, expires, presence: false });
            }
            let due = items.first().map(|item| item.expires);
            let (changes, _) = channel.push(&items);
            for change in &changes {
                self.account(change);
            }
            if let Some(due) = due {
                self.hasten(due);
            }
        }
        self.evict();
    }

    fn account(&mut self, change: &Change) {
        self.bytes = (self.bytes + change.after).saturating_sub(change.before);
    }

    /// Forgets the oldest events of all tracks while they use more memory than they may.
    fn evict(&mut self) {
        if self.bytes <= self.settings.memory {
            return;
        }
        let (kept, of) = MEMORY_KEPT;
        let most = self.settings.memory / of * kept;
        let tracks: Vec<Arc<Track>> = self.tracks().cloned().collect();
        let oldest = |track: &Arc<Track>| track.first().map(|item| item.event.seq);
        let by_age = tracks.iter().enumerate();
        let by_age = by_age.filter_map(|(at, track)| Some(Reverse((oldest(track)?, at))));
        let mut by_age: BinaryHeap<_> = by_age.collect();
        while self.bytes > most
            && let Some(Reverse((seq, at))) = by_age.pop()
            && let Some(track) = tracks.get(at)
        {
            let change = track.trim_while(|item| item.event.seq <= seq);
            self.account(&change);
            self.evicted += 1;
            by_age.extend(oldest(track).map(|seq| Reverse((seq, at))));
        }
    }

    fn tracks(&self) -> impl Iterator<Item = &Arc<Track>> {
        let channels =
            self.channels.values().chain([&self.broadcast]).map(|channel| &channel.track);
        channels.chain(self.feeds.values().map(|feed| &feed.track))
    }

    /// The channels whose names match a pattern.
    pub(super) fn matching(&self, pattern: &ChannelPattern) -> impl Iterator<Item = &Channel> {
        let found = self.channels.iter().filter(|(name, _)| pattern.matches(name.as_str()));
        found.map(|(_, channel)| channel)
    }

    /// Adds a subscriber to the feed of a pattern, which it makes if need be.
    pub(super) fn join_feed(&mut self, pattern: &ChannelPattern) -> Arc<Track> {
        if !self.feeds.contains_key(pattern) {
            let track = self.feed(pattern);
            let feed = Feed { track: Arc::clone(&track), subscribers: 0, idle: None };
            for (name, channel) in &mut self.channels {
                if pattern.matches(name.as_str()) {
                    channel.feeds.push(Arc::clone(&track));
                }
            }
            self.feeds.insert(pattern.clone(), feed);
        }
        match self.feeds.get_mut(pattern) {
            Some(feed) => {
                feed.subscribers += 1;
                feed.idle = None;
                Arc::clone(&feed.track)
            }
            None => Arc::clone(&self.broadcast.track),
        }
    }

    /// The track of a feed, with the history of the channels that it matches: as far back as all of them have it.
    fn feed(&mut self, pattern: &ChannelPattern) -> Arc<Track> {
        let earliest = self.matching(pattern).map(|channel| channel.track.earliest()).max();
        let earliest = earliest.unwrap_or(self.forgotten).max(self.forgotten);
        let retention = Retention { bytes: usize::MAX, entries: FEED_EVENTS };
        let track = Arc::new(Track::new(&self.sequence, retention, earliest));
        let mut items: Vec<Item> =
            self.matching(pattern).flat_map(|channel| channel.track.after(earliest)).collect();
        items.sort_unstable_by_key(|item| item.event.seq);
        let change = track.push(items);
        self.account(&change);
        track
    }

    /// Removes a subscriber from the feed of a pattern.
    pub(super) fn leave_feed(&mut self, pattern: &ChannelPattern, now: Instant) {
        let Some(feed) = self.feeds.get_mut(pattern) else { return };
        feed.subscribers = feed.subscribers.saturating_sub(1);
        if feed.subscribers == 0 {
            feed.idle = Some(now);
            self.hasten(now + FEED_GRACE);
        }
    }

    /// Makes sure that [`Directory::trim`] is due at a time.
    pub(super) fn hasten(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Trims what has expired in the next channels after a name; without a name, in the feeds and the first channels.
    pub(super) fn trim(&mut self, now: Instant, after: Option<&ChannelName>) -> Trimmed {
        let mut trimmed = Trimmed { gone: Vec::new(), last: None };
        let (mut changes, mut due) = (Vec::new(), Vec::new());
        let mut expire = |track: &Track| {
            let expires = |track: &Track| track.first().map(|item| item.expires);
            if expires(track).is_some_and(|expires| expires <= now) {
                changes.push(track.trim_while(|item| item.expires <= now));
            }
            expires(track)
        };
        if after.is_none() {
            self.due = None;
            due.push(expire(&self.broadcast.track));
            for feed in self.feeds.values() {
                due.extend([expire(&feed.track), feed.idle.map(|idle| idle + FEED_GRACE)]);
            }
        }
        let start = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        let channels = self.channels.range_mut((start, Bound::Unbounded));
        for (at, (name, channel)) in channels.take(TRIMMED_AT_ONCE).enumerate() {
            due.push(expire(&channel.track));
            channel.ids.trim(&channel.track);
            let gone = channel.presence.gone(now).into_iter();
            trimmed.gone.extend(gone.map(|user| (name.clone(), user)));
            due.push(channel.presence.due());
            trimmed.last = (at + 1 == TRIMMED_AT_ONCE).then(|| name.clone());
        }
        for change in &changes {
            self.account(change);
        }
        for at in due.into_iter().flatten() {
            self.hasten(at);
        }
        if after.is_none() {
            self.drop_idle_feeds(now);
        }
        trimmed
    }

    fn drop_idle_feeds(&mut self, now: Instant) {
        let is_idle = |feed: &Feed| feed.idle.is_some_and(|idle| idle + FEED_GRACE <= now);
        let dropped: Vec<Feed> =
            self.feeds.extract_if(.., |_, feed| is_idle(feed)).map(|(_, feed)| feed).collect();
        if dropped.is_empty() {
            return;
        }
        let is_dropped =
            |track: &Arc<Track>| dropped.iter().any(|it| Arc::ptr_eq(&it.track, track));
        for channel in self.channels.values_mut() {
            channel.feeds.retain(|track| !is_dropped(track));
        }
        for feed in &dropped {
            let change = feed.track.trim_while(|_| true);
            self.account(&change);
        }
    }

    /// Puts other settings in force.
    pub(super) fn configure(&mut self, settings: Arc<Channels>) {
        for (name, channel) in &mut self.channels {
            channel.configure(settings.settings(name.as_str()));
        }
        self.broadcast.configure(settings.settings(BROADCAST));
        self.settings = settings;
        self.evict();
    }

    /// All tracks: every subscription follows at least one of them.
    pub(super) fn all_tracks(&self) -> Vec<Arc<Track>> {
        self.tracks().cloned().collect()
    }
}

impl Channel {
    fn new(sequence: &Arc<Sequence>, settings: ChannelSettings, last: u64) -> Self {
        Self {
            track: Arc::new(Track::new(sequence, retention(&settings), last)),
            settings,
            presence: Presence::default(),
            subscribers: 0,
            feeds: Vec::new(),
            ids: PublishedIds::default(),
        }
    }

    fn configure(&mut self, settings: ChannelSettings) {
        self.settings = settings;
        self.track.retain(retention(&settings));
    }

    /// Appends items to its track and to the feeds that match it. Returns the changes of their sizes, and the tracks.
    fn push(&mut self, items: &[Item]) -> (Vec<Change>, Vec<Arc<Track>>) {
        let tracks: Vec<_> = self.feeds.iter().chain([&self.track]).cloned().collect();
        let changes = tracks.iter().map(|track| track.push(items.iter().cloned())).collect();
        self.ids.trim(&self.track);
        (changes, tracks)
    }

    /// Whether nobody follows it.
    fn is_unused(&self) -> bool {
        self.subscribers == 0 && self.presence.is_empty()
    }
}

fn retention(settings: &ChannelSettings) -> Retention {
    Retention { bytes: settings.bytes, entries: settings.events }
}
