//! Channels to and from their archived history. What is restored must have the numbers that it had.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::directory::{BROADCAST, Directory, retention};
use super::history_archive::{ArchivedEvent, RestoredChannel};
use super::name::ChannelName;
use super::source::{Audience, Event, Source as _};
use super::track::{Item, Track};

/// The events of a channel after a number.
pub(super) struct Since<'d> {
    pub(super) items: Vec<Item>,
    pub(super) ids: HashMap<u64, &'d str>,
    pub(super) age: Duration,
    pub(super) trimmed: u64,
}

impl Directory {
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
            for ArchivedEvent { seq, age, id, public, frame, .. } in events {
                if let Some(id) = id {
                    channel.ids.add(id, seq);
                }
                let published = now.checked_sub(age).unwrap_or(now);
                let expires = now + settings.age.saturating_sub(age);
                let audience = if public { Audience::Public } else { Audience::Channel };
                let origin = Arc::clone(&origin);
                let event = Event { seq, origin, published, audience, frame };
                items.push(Item { event, previous: 0, expires, presence: false });
            }
            let due = items.first().map(|item| item.expires);
            let (mut changes, mut tracks) = (Vec::new(), Vec::new());
            channel.push(&items, &mut changes, &mut tracks);
            for change in &changes {
                self.account(change);
            }
            if let Some(due) = due {
                self.hasten(due);
            }
        }
        self.evict();
    }
}
