//! Subscriptions: one subscriber's positions in the sources that it follows, and reading on from them. A subscription
//! must never hold events that it has not delivered, save for those that it began with; a slow one costs its position.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::batch::{Batch, Delivered};
use super::cursor::Cursor;
use super::directory::{Channel, Directory};
use super::hub::{Hub, HubError, presence};
use super::name::{ChannelRights, Selector};
use super::shared::Entry;
use super::source::{Event, Source, SourceRead};
use super::subscriber_limit::LimitError;
use super::track::Track;
use super::wakeup::Worker;
use crate::streams::position::Epoch;
use crate::telemetry::Sample;

/// The most events that a new subscriber gets of the history.
const MAX_REWOUND: usize = 10_000;

/// Delivered events are counted in plain numbers up to this many: the shared counter would be fought over.
const COUNTED_AT_ONCE: u64 = 64;

/// The lag of one batch in so many is measured.
const LAG_SAMPLED: u32 = 16;

/// A subscriber's wish.
#[derive(Clone)]
pub struct SubscriptionRequest {
    /// The user: its name is shown where presence is configured.
    pub user: Arc<str>,
    /// Channels and patterns.
    pub channels: BTreeSet<Selector>,
    /// Other logs to follow, each from its beginning unless the position says otherwise.
    pub sources: Vec<Arc<dyn Source>>,
    /// The types of events that are delivered. Empty: all.
    pub types: BTreeSet<String>,
    /// The place to begin.
    pub start: Start,
    /// Rights that each event is checked against, for a caller without a right to all of these channels. Such a
    /// subscriber is never present in a channel. `None`: the caller has the right to all of them.
    pub rights: Option<ChannelRights>,
}

/// The place at which a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the tail, after the last events of each channel.
    Live {
        /// The count of these events for each channel; a channel may be configured to give one in any case.
        rewind: usize,
    },
    /// After a position.
    After {
        /// That position.
        cursor: Cursor,
        /// Begin with [`Next::Reset`] where that is not possible, in the place of an error.
        lenient: bool,
    },
}

/// A subscription that cannot begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeError {
    /// A limit of subscribers is reached.
    Limit(LimitError),
    /// There is no room for a channel.
    Hub(HubError),
    /// Events after the position are no longer there.
    Gone {
        /// The lowest position from which on none is missing.
        earliest: Cursor,
        /// The position after the last event.
        tail: Cursor,
    },
    /// The position is after the last event.
    Ahead {
        /// The position after the last event.
        tail: Cursor,
    },
    /// The process is stopping.
    Draining,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(error) => error.fmt(f),
            Self::Hub(error) => error.fmt(f),
            Self::Gone { .. } => f.write_str(
                "events after this position are no longer kept; go on from `earliest`, and fetch the state anew",
            ),
            Self::Ahead { .. } => f.write_str(
                "this position is after the last event; send the `id` of an event that was received",
            ),
            Self::Draining => f.write_str("this server is stopping; connect again"),
        }
    }
}

impl std::error::Error for SubscribeError {}

/// The next thing for a subscriber.
#[derive(Debug)]
pub enum Next {
    /// Events.
    Events(Batch),
    /// Some events are gone before they were read: it goes on from this position.
    Reset(Cursor),
    /// Nothing for now.
    Tail,
}

/// Sources that share one sequence, and the position in it.
struct Group {
    epoch: Epoch,
    position: u64,
    sources: Vec<Arc<dyn Source>>,
}

/// A subscriber's positions.
pub struct Subscription {
    hub: Arc<Hub>,
    user: Arc<str>,
    /// Its channels and patterns, with their tracks.
    channels: Vec<(Selector, Arc<Track>)>,
    types: BTreeSet<String>,
    rights: Option<ChannelRights>,
    /// That of the hub, and one for each other source.
    groups: Vec<Group>,
    /// Events that it begins with.
    initial: VecDeque<Event>,
    /// It begins with a reset.
    reset: bool,
    /// The worker that it began on.
    worker: Worker,
    uncounted: u64,
    batches: u32,
}

impl Subscription {
    /// Begins a subscription.
    pub fn new(hub: &Arc<Hub>, request: SubscriptionRequest) -> Result<Self, SubscribeError> {
        if hub.draining().is_some() {
            return Err(SubscribeError::Draining);
        }
        let settings = hub.settings();
        hub.limit.acquire(&request.user, &settings).map_err(SubscribeError::Limit)?;
        hub.metrics.channel_subscribers.inc();
        let SubscriptionRequest { user, channels, sources, types, start, rights } = request;
        // From here on it is dropped like one that has begun.
        let mut subscription = Self {
            hub: Arc::clone(hub),
            user,
            channels: Vec::with_capacity(channels.len()),
            types,
            rights,
            groups: Vec::new(),
            initial: VecDeque::new(),
            reset: false,
            worker: Worker::current(),
            uncounted: 0,
            batches: 0,
        };
        let mut woken = Vec::new();
        let begun = {
            let mut directory = hub.directory();
            subscription.join(&mut directory, channels, &mut woken).map(|tracks| {
                subscription.follow(&mut directory, tracks, sources);
                if let Start::Live { rewind } = start {
                    subscription.initial = subscription.rewound(&directory, rewind);
                }
            })
        };
        hub.wake(&woken);
        begun.map_err(SubscribeError::Hub)?;
        if let Start::After { cursor, lenient } = start {
            subscription.resume(&cursor, lenient)?;
        }
        Ok(subscription)
    }

    /// Joins the channels and the feeds of the patterns. Returns their tracks.
    fn join(
        &mut self,
        directory: &mut Directory,
        channels: BTreeSet<Selector>,
        woken: &mut Vec<Arc<Track>>,
    ) -> Result<Vec<Arc<Track>>, HubError> {
        let mut tracks = Vec::with_capacity(channels.len() + 1);
        for selector in channels {
            let track = match &selector {
                Selector::Pattern(pattern) => directory.join_feed(pattern),
                Selector::Name(name) => {
                    let user = &self.user;
                    let channel = directory.channel(name)?;
                    channel.subscribers += 1;
                    let track = Arc::clone(&channel.track);
                    let listed = channel.settings.presence && self.rights.is_none();
                    if listed && channel.presence.join(user) {
                        if let Some(shared) = self.hub.shared.get() {
                            shared.log.offer(Entry::Joined(name.clone(), shared.here(user)));
                        } else {
                            let event = vec![presence("presence.join", user)];
                            woken.extend(self.hub.append(directory, (name, &[]), event, true)?.1);
                        }
                    }
                    track
                }
            };
            track.readers.join(self.worker);
            self.channels.push((selector, Arc::clone(&track)));
            tracks.push(track);
        }
        Ok(tracks)
    }

    /// Takes up its sources, at the tail of the hub and at the beginning of all others.
    fn follow(
        &mut self,
        directory: &mut Directory,
        tracks: Vec<Arc<Track>>,
        sources: Vec<Arc<dyn Source>>,
    ) {
        let broadcast = Arc::clone(&directory.broadcast.track);
        let own = tracks.into_iter().filter(|track| !Arc::ptr_eq(track, &broadcast));
        let mut own: Vec<Arc<dyn Source>> = own.map(|track| track as Arc<dyn Source>).collect();
        let position = broadcast.complete();
        let epoch = broadcast.epoch();
        own.push(broadcast);
        self.groups.push(Group { epoch, position, sources: own });
        for source in sources {
            let (epoch, position) = (source.epoch(), source.earliest());
            self.groups.push(Group { epoch, position, sources: vec![source] });
        }
    }

    /// The last events of its channels, the oldest first.
    fn rewound(&self, directory: &Directory, rewind: usize) -> VecDeque<Event> {
        let mut events: Vec<Event> = Vec::new();
        let mut rewind = |channel: &Channel| {
            let most = rewind.max(usize::from(channel.settings.last_value));
            if most > 0 {
                events.extend(channel.track.latest(most));
            }
        };
        for (selector, _) in &self.channels {
            match selector {
                Selector::Name(name) => {
                    directory.channels.get(name).into_iter().for_each(&mut rewind);
                }
                Selector::Pattern(pattern) => directory.matching(pattern).for_each(&mut rewind),
            }
        }
        events.sort_unstable_by_key(|event| event.seq);
        events.dedup_by_key(|event| event.seq);
        events.drain(..events.len().saturating_sub(MAX_REWOUND));
        events.into()
    }

    /// Goes to a position.
    fn resume(&mut self, cursor: &Cursor, lenient: bool) -> Result<(), SubscribeError> {
        let tail = self.cursor_of(|group| {
            group.sources.first().map_or(group.position, |source| source.complete())
        });
        let earliest = self.cursor_of(Group::earliest);
        let hub = self.groups.first().map(|group| group.epoch);
        let of_hub = hub.and_then(|epoch| cursor.of(epoch));
        let ahead = self.groups.iter().any(|group| cursor.of(group.epoch) > tail.of(group.epoch));
        // A log that the cursor does not know is new to the subscriber.
        let behind =
            |group: &Group| cursor.of(group.epoch).is_some_and(|seq| seq < group.earliest());
        let gone = of_hub.is_none() || self.groups.iter().any(behind);
        if ahead || gone {
            if !lenient {
                return Err(if ahead {
                    SubscribeError::Ahead { tail }
                } else {
                    SubscribeError::Gone { earliest, tail }
                });
            }
            self.reset = true;
        }
        for group in &mut self.groups {
            let earliest = group.earliest();
            let wanted = cursor.of(group.epoch).filter(|seq| *seq >= earliest);
            let wanted = wanted.filter(|seq| tail.of(group.epoch).is_some_and(|tail| *seq <= tail));
            group.position = wanted.unwrap_or(earliest);
        }
        Ok(())
    }

    fn cursor_of(&self, position: impl Fn(&Group) -> u64) -> Cursor {
        Cursor::new(self.groups.iter().map(|group| group.epoch.at(position(group))))
    }

    /// Its position: everything up to it has been returned.
    pub fn cursor(&self) -> Cursor {
        let hub = self.epoch();
        let initial = self.initial.front().map(|event| event.seq.saturating_sub(1));
        self.cursor_of(|group| initial.filter(|_| group.epoch == hub).unwrap_or(group.position))
    }

    /// The incarnation of the hub.
    pub fn epoch(&self) -> Epoch {
        self.hub.sequence.epoch
    }

    /// The worker that it began on.
    pub fn worker(&self) -> Worker {
        self.worker
    }

    /// The hub.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The sources that it has to wait for. Broadcasts wake all readers.
    pub fn awaited(&self) -> Vec<Arc<dyn Source>> {
        let sources = self.groups.iter().flat_map(|group| {
            let own = group.sources.len() - usize::from(group.sources.len() > 1);
            group.sources.iter().take(own)
        });
        sources.cloned().collect()
    }

    /// Reads on, up to about `most` bytes from each source.
    pub fn next(&mut self, most: usize) -> Next {
        if std::mem::take(&mut self.reset) {
            self.hub.metrics.channel_resets.inc();
            return Next::Reset(self.cursor());
        }
        if !self.initial.is_empty() {
            return Next::Events(self.initial(most));
        }
        let mut batch = Batch::default();
        let mut read_any = false;
        for at in 0..self.groups.len() {
            let Some(group) = self.groups.get_mut(at) else { break };
            let Ok((events, more)) = group.read(most) else {
                self.reset_group(at);
                // The events of other groups come first.
                self.reset = read_any;
                if read_any {
                    batch.more = true;
                    break;
                }
                self.hub.metrics.channel_resets.inc();
                return Next::Reset(self.cursor());
            };
            read_any |= !events.is_empty();
            batch.more |= more;
            self.take(&mut batch, at, events);
        }
        if !read_any {
            return Next::Tail;
        }
        self.count(&batch);
        Next::Events(batch)
    }

    /// The first part of the events that it begins with.
    fn initial(&mut self, most: usize) -> Batch {
        let mut batch = Batch::default();
        let (mut bytes, mut events) = (0, Vec::new());
        while let Some(event) = self
            .initial
            .pop_front_if(|event| bytes == 0 || bytes + event.frame.bytes().len() <= most)
        {
            bytes += event.frame.bytes().len();
            events.push(event);
        }
        self.take(&mut batch, 0, events);
        // The tail was taken with them, but there may be more by now.
        batch.more = true;
        self.count(&batch);
        batch
    }

    /// Adds those events of a group that are of a type that is wanted.
    fn take(&self, batch: &mut Batch, at: usize, events: Vec<Event>) {
        let wanted = |event: &Event| {
            (self.types.is_empty() || self.types.contains(event.kind()))
                && self.rights.as_ref().is_none_or(|rights| event.is_readable(rights))
        };
        let single = self.groups.len() == 1;
        batch.events.extend(events.into_iter().filter(wanted).map(|event| {
            let position = (!single).then(|| {
                Cursor::new(self.groups.iter().enumerate().map(|(other, group)| {
                    group.epoch.at(if other == at { event.seq } else { group.position })
                }))
            });
            Delivered { event, position }
        }));
    }

    fn reset_group(&mut self, at: usize) {
        if let Some(group) = self.groups.get_mut(at) {
            group.position = group.earliest().max(group.position);
        }
    }

    fn count(&mut self, batch: &Batch) {
        self.uncounted += batch.events.len() as u64;
        if self.uncounted >= COUNTED_AT_ONCE {
            self.flush();
        }
        self.batches = self.batches.wrapping_add(1);
        if self.batches % LAG_SAMPLED == 1
            && let Some(first) = batch.events.first()
        {
            let lag = Instant::now().saturating_duration_since(first.event.published);
            self.hub.metrics.channel_lag.merge(&Sample::of(lag));
        }
    }

    /// Adds the events delivered so far to the metrics.
    pub fn flush(&mut self) {
        self.hub.metrics.channel_events_delivered.inc_by(std::mem::take(&mut self.uncounted));
    }
}

impl Group {
    fn earliest(&self) -> u64 {
        self.sources.iter().map(|source| source.earliest()).max().unwrap_or(self.position)
    }

    /// The next events of all its sources, each once, in the order of their numbers; and whether there may be more.
    fn read(&mut self, most: usize) -> Result<(Vec<Event>, bool), GoneError> {
        // Read first: everything up to it is in the sources, and what is in them beyond it is not yet complete.
        let mut bound = self.sources.first().map_or(self.position, |source| source.complete());
        let (mut all, mut contributors, mut cut) = (Vec::new(), 0, false);
        for source in &self.sources {
            match source.read(self.position, most) {
                SourceRead::Tail => {}
                SourceRead::Gone { .. } => return Err(GoneError),
                SourceRead::Events { mut events, more } => {
                    if let Some(last) = events.last().filter(|_| more) {
                        bound = bound.min(last.seq);
                        cut = true;
                    }
                    contributors += 1;
                    if all.is_empty() { all = events } else { all.append(&mut events) }
                }
            }
        }
        if contributors > 1 {
            all.sort_by_key(|event| event.seq);
            all.dedup_by_key(|event| event.seq);
        }
        let complete = all.partition_point(|event| event.seq <= bound);
        all.truncate(complete);
        self.position = self.position.max(bound);
        Ok((all, cut))
    }
}

/// Events that were trimmed before they were read.
struct GoneError;

impl Drop for Subscription {
    fn drop(&mut self) {
        self.flush();
        self.hub.metrics.channel_subscribers.dec();
        self.hub.limit.release(&self.user);
        let now = Instant::now();
        let mut directory = self.hub.directory();
        let due = directory.due;
        for (selector, track) in &self.channels {
            track.readers.leave(self.worker);
            match selector {
                Selector::Pattern(pattern) => directory.leave_feed(pattern, now),
                Selector::Name(name) => {
                    let Some(channel) = directory.find(name) else { continue };
                    channel.subscribers = channel.subscribers.saturating_sub(1);
                    let listed = self.rights.is_none();
                    if listed && let Some(at) = channel.presence.leave(&self.user, now) {
                        directory.hasten(at);
                    }
                }
            }
        }
        if directory.due != due {
            self.hub.hasten();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({} channels at {})", self.channels.len(), self.cursor())
    }
}
