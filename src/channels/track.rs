//! Tracks: the events of one channel, or of all channels of a pattern, as a log whose entries are numbered in the
//! hub's sequence. Events of a track are in the order of their numbers, with gaps.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::source::{Event, Source, SourceRead};
use super::wakeup::{Readers, Worker};
use crate::streams::log::{Entry, Log, Read, Retention};
use crate::streams::position::Epoch;

/// The sequence that all tracks of a hub share.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) epoch: Epoch,
    /// The last number whose event is in all its tracks.
    pub(super) complete: AtomicU64,
    /// The count of workers that relay wake-ups.
    pub(super) workers: usize,
}

/// An event of a track.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) event: Event,
    /// The number of the event before it in this track: without it, a reader could not tell what was trimmed from what
    /// was never there.
    pub(super) previous: u64,
    /// The time at which it is forgotten.
    pub(super) expires: Instant,
    /// An event of presence, which is no part of the history that new subscribers ask for.
    pub(super) presence: bool,
}

impl Entry for Item {
    /// Tracks have no end.
    type End = Infallible;

    fn size(&self) -> usize {
        size_of::<Self>() + self.event.frame.bytes().len()
    }
}

/// A log of events with numbers of the hub's sequence.
#[derive(Debug)]
pub(super) struct Track {
    sequence: Arc<Sequence>,
    log: Log<Item>,
    /// The number of its last event, trimmed or not.
    last: AtomicU64,
    /// The bytes that its log holds.
    held: AtomicUsize,
    pub(super) readers: Readers,
}

/// The change of the bytes that a track holds.
pub(super) struct Change {
    pub(super) before: usize,
    pub(super) after: usize,
}

impl Track {
    /// An empty track. `last`: the number up to which events may have been forgotten.
    pub(super) fn new(sequence: &Arc<Sequence>, retention: Retention, last: u64) -> Self {
        Self {
            sequence: Arc::clone(sequence),
            log: Log::new(retention),
            last: AtomicU64::new(last),
            held: AtomicUsize::new(0),
            readers: Readers::new(sequence.workers),
        }
    }

    /// The number of its last event, trimmed or not.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Notes that items up to a number may be missing.
    pub(super) fn skip_to(&self, seq: u64) {
        self.last.fetch_max(seq, Ordering::AcqRel);
    }

    /// Appends items, whose `previous` it sets, and wakes nobody. Only the holder of the hub's lock calls it.
    pub(super) fn push(&self, items: impl IntoIterator<Item = Item>) -> Change {
        let mut last = self.last.load(Ordering::Relaxed);
        let chained = items.into_iter().map(|item| {
            let previous = std::mem::replace(&mut last, item.event.seq);
            Item { previous, ..item }
        });
        let items: Vec<Item> = chained.collect();
        let bytes = self.log.push(|_| items).map_or(0, |extent| extent.bytes);
        self.last.store(last, Ordering::Release);
        self.hold(bytes)
    }

    /// Trims the oldest items for which a condition holds.
    pub(super) fn trim_while(&self, is_old: impl Fn(&Item) -> bool) -> Change {
        let bytes = self.log.trim_while(is_old);
        self.hold(bytes)
    }

    fn hold(&self, after: usize) -> Change {
        Change { before: self.held.swap(after, Ordering::Relaxed), after }
    }

    /// Changes its retention, from the next event on.
    pub(super) fn retain(&self, retention: Retention) {
        self.log.retain(retention);
    }

    /// Its oldest item.
    pub(super) fn first(&self) -> Option<Item> {
        self.items(|_| false, 0).into_iter().next()
    }

    /// Its items after a number.
    pub(super) fn after(&self, seq: u64) -> Vec<Item> {
        self.items(|item| item.event.seq <= seq, usize::MAX)
    }

    /// Its last published events, as many as `most`, the oldest first.
    pub(super) fn latest(&self, most: usize) -> Vec<Event> {
        let mut found: Vec<Event> = self
            .after(0)
            .into_iter()
            .filter(|item| !item.presence)
            .map(|item| item.event)
            .collect();
        found.drain(..found.len().saturating_sub(most));
        found
    }

    /// The count and the bytes of its items.
    pub(super) fn size(&self) -> (u64, usize) {
        let extent = self.log.extent();
        (extent.tail - extent.earliest, extent.bytes)
    }

    fn items(&self, is_before: impl Fn(&Item) -> bool, most: usize) -> Vec<Item> {
        match self.log.read_from(is_before, most) {
            Read::Entries { entries, .. } => entries,
            Read::Tail | Read::Gone { .. } | Read::Ahead => Vec::new(),
            Read::End(never) => match never {},
        }
    }
}

impl Source for Track {
    fn epoch(&self) -> Epoch {
        self.sequence.epoch
    }

    fn complete(&self) -> u64 {
        self.sequence.complete.load(Ordering::Acquire)
    }

    fn earliest(&self) -> u64 {
        self.first().map_or_else(|| self.last(), |item| item.previous)
    }

    fn read(&self, after: u64, most: usize) -> SourceRead {
        let last = self.last();
        if last <= after {
            return SourceRead::Tail;
        }
        let items = self.items(|item| item.event.seq <= after, most);
        let Some(first) = items.first() else {
            // All that came after it has been trimmed.
            return SourceRead::Gone { earliest: last };
        };
        if first.previous > after {
            return SourceRead::Gone { earliest: first.previous };
        }
        let more = items.last().is_some_and(|item| item.event.seq < self.last());
        SourceRead::Events { events: items.into_iter().map(|item| item.event).collect(), more }
    }

    fn appended(&self, worker: Worker) -> Notified<'_> {
        self.readers.appended(worker)
    }
}
