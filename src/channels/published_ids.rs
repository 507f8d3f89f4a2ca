//! Ids that publishers give to events, by which a repetition is found. They must never outlast the events.

use std::collections::{HashMap, VecDeque};

use super::source::Source as _;
use super::track::Track;

/// The ids that publishers gave to the events of a channel, as far back as it keeps them.
#[derive(Default)]
pub(super) struct PublishedIds {
    pub(super) numbers: HashMap<Box<str>, u64>,
    pub(super) order: VecDeque<(u64, Box<str>)>,
}

impl PublishedIds {
    /// Adds the id of an event.
    pub(super) fn add(&mut self, id: Box<str>, seq: u64) {
        self.numbers.insert(id.clone(), seq);
        self.order.push_back((seq, id));
    }

    /// Forgets those of events that a track has trimmed.
    pub(super) fn trim(&mut self, track: &Track) {
        if self.order.is_empty() {
            return;
        }
        let earliest = track.earliest();
        while let Some((_, id)) = self.order.pop_front_if(|(seq, _)| *seq <= earliest) {
            self.numbers.remove(&id);
        }
    }
}
