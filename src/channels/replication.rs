//! Application of the shared log to a hub: entries in their order, each once. A gap is reported, and never passed over in
//! silence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::directory::Directory;
use super::hub::{Hub, HubError, presence};
use super::name::ChannelName;
use super::publication::Publication;
use super::shared::{ChannelLog, Entry, Presence, SharedLog};
use super::subscription::{SubscribeError, Subscription, SubscriptionRequest};
use super::track::Track;
use crate::streams::position::Position;

/// The users of channels on all nodes.
#[derive(Default)]
pub(super) struct SharedPresence(BTreeMap<ChannelName, BTreeMap<Arc<str>, BTreeSet<String>>>);

/// The result of applying an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is in the hub.
    Now,
    /// It was there before.
    Before,
    /// Entries before it are missing.
    Gap,
}

impl SharedPresence {
    /// Adds a user on a node. Whether the user was absent.
    fn join(&mut self, channel: &ChannelName, Presence { node, user }: Presence) -> bool {
        let users = self.0.entry(channel.clone()).or_default();
        let nodes = users.entry(user.into()).or_default();
        let absent = nodes.is_empty();
        nodes.insert(node);
        absent
    }

    /// Removes a user on a node. Whether the user is on no other one.
    fn leave(&mut self, channel: &ChannelName, Presence { node, user }: &Presence) -> bool {
        let Some(users) = self.0.get_mut(channel) else { return false };
        let Some(nodes) = users.get_mut(&**user) else { return false };
        let gone = nodes.remove(node) && nodes.is_empty();
        if gone {
            users.remove(&**user);
            if users.is_empty() {
                self.0.remove(channel);
            }
        }
        gone
    }

    /// The users on some nodes, with their channels.
    fn on(&self, is_meant: impl Fn(&str) -> bool) -> Vec<(ChannelName, Presence)> {
        let mut found = Vec::new();
        for (channel, users) in &self.0 {
            for (user, nodes) in users {
                for node in nodes.iter().filter(|node| is_meant(node)) {
                    let one = Presence { node: node.clone(), user: user.to_string() };
                    found.push((channel.clone(), one));
                }
            }
        }
        found
    }

    /// The users of a channel, with the counts of nodes that they are connected to.
    pub(super) fn users(&self, channel: &ChannelName) -> Vec<(Arc<str>, usize)> {
        let users = self.0.get(channel).into_iter().flatten();
        users.map(|(user, nodes)| (Arc::clone(user), nodes.len())).collect()
    }
}

impl Hub {
    /// Shares its channels with other nodes, from now on. `node`: the name of this one. Only the first log counts.
    pub fn share(&self, log: Arc<dyn ChannelLog>, node: &str) {
        self.shared.get_or_init(|| SharedLog { log, node: node.into() });
    }

    /// Begins a subscription. A position that is ahead may be of an event that another node has sent, and that has not
    /// come here yet.
    pub async fn subscribe(
        self: &Arc<Self>,
        request: SubscriptionRequest,
    ) -> Result<Subscription, SubscribeError> {
        let Some(shared) = self.shared.get() else { return Subscription::new(self, request) };
        match Subscription::new(self, request.clone()) {
            Err(SubscribeError::Ahead { .. }) if shared.log.catch_up(self).await => {
                Subscription::new(self, request)
            }
            subscription => subscription,
        }
    }

    /// The number of the last entry that was applied.
    pub fn last(&self) -> u64 {
        self.directory().last()
    }

    /// Applies an entry of the shared log. `previous`: the number of the entry before it. `age`: the time since it was
    /// appended.
    pub fn apply(&self, (seq, previous): (u64, u64), entry: Entry, age: Duration) -> Applied {
        let mut directory = self.directory();
        let last = directory.last();
        if seq <= last {
            return Applied::Before;
        }
        if previous != last {
            return Applied::Gap;
        }
        directory.age = age;
        let woken = match entry {
            Entry::Event(channel, others, event) => {
                self.metrics.channel_events_published.inc();
                directory.complete(seq - 1);
                // Without room for another channel there is nobody who follows it.
                let appended = self.append(&mut directory, (&channel, &others), vec![event], false);
                appended.ok().map(|(_, woken)| woken)
            }
            Entry::Joined(channel, one) => {
                let event = presence("presence.join", &one.user);
                let absent = directory.presence.join(&channel, one);
                absent.then(|| self.announce(&mut directory, seq, (&channel, event))).flatten()
            }
            Entry::Left(channel, one) => {
                let event = presence("presence.leave", &one.user);
                let gone = directory.presence.leave(&channel, &one);
                gone.then(|| self.announce(&mut directory, seq, (&channel, event))).flatten()
            }
        };
        directory.age = Duration::ZERO;
        directory.complete(seq);
        drop(directory);
        self.wake(&woken.unwrap_or_default());
        Applied::Now
    }

    /// Appends an event of presence.
    fn announce(
        &self,
        directory: &mut Directory,
        seq: u64,
        (channel, event): (&ChannelName, Publication),
    ) -> Option<Vec<Arc<Track>>> {
        directory.complete(seq - 1);
        let appended = self.append(directory, (channel, &[]), vec![event], true);
        appended.ok().map(|(_, woken)| woken)
    }

    /// Goes on after an entry that can no longer be read. Subscribers who are before it get a reset.
    pub fn skip_to(&self, seq: u64) {
        let mut directory = self.directory();
        directory.skip_to(seq);
        let tracks = directory.all_tracks();
        drop(directory);
        self.wake(&tracks);
    }

    /// Publishes events by the shared log.
    pub(super) async fn publish_shared(
        &self,
        shared: &SharedLog,
        (name, others): (&ChannelName, &[ChannelName]),
        events: Vec<Publication>,
    ) -> Result<Vec<Position>, HubError> {
        let entry = |event| Entry::Event(name.clone(), others.to_vec(), event);
        let entries = events.into_iter().map(entry).collect();
        let numbers = shared.log.append(entries).await.map_err(|_| HubError::Unreachable)?;
        Ok(numbers.into_iter().map(|seq| self.epoch().at(seq)).collect())
    }

    /// Appends the users who are subscribed on this node, so that the shared log does not forget them, and removes those
    /// who are not.
    pub fn renew_presence(&self) {
        let Some(shared) = self.shared.get() else { return };
        let mut directory = self.directory();
        let mut entries = Vec::new();
        for (channel, one) in directory.presence.on(|node| *node == *shared.node) {
            let here = directory.find(&channel);
            if !here.is_some_and(|here| here.presence.has(&one.user)) {
                entries.push(Entry::Left(channel, one));
            }
        }
        for (name, channel) in &directory.channels {
            let here = channel.presence.users().map(|(user, _)| shared.here(user));
            entries.extend(here.map(|one| Entry::Joined(name.clone(), one)));
        }
        drop(directory);
        for entry in entries {
            shared.log.offer(entry);
        }
    }

    /// Removes the users of nodes that are gone.
    pub fn remove_presence(&self, is_gone: impl Fn(&str) -> bool) {
        let Some(shared) = self.shared.get() else { return };
        let gone = |node: &str| *node != *shared.node && is_gone(node);
        let present = self.directory().presence.on(gone);
        for (channel, one) in present {
            shared.log.offer(Entry::Left(channel, one));
        }
    }
}

impl SharedLog {
    /// A user of this node.
    pub(super) fn here(&self, user: &str) -> Presence {
        Presence { node: self.node.to_string(), user: user.to_owned() }
    }
}
