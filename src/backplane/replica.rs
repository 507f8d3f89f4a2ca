//! Replicas: copies of generations that other nodes produce, followed while they run. What is appended is pushed by Redis;
//! a gap in the sequence numbers, a lost connection and the end of a lease make a replica read again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::owner::millis;
use super::subscriber::Sink;
use super::{Backplane, BackplaneError};
use crate::streams::event::{Event, StreamEnd};
use crate::streams::generation::Generation;
use crate::streams::record::{EndRecord, decode_events, encode_events};
use crate::wire::chat::End;

/// The most entries of the log that one read returns.
const MAX_ENTRIES: usize = 256;

/// The time for which a running generation is followed without viewers.
const LINGER: Duration = Duration::from_secs(30);

/// The pause after a failed read.
const RETRY: Duration = Duration::from_millis(200);

/// A generation of another node, and what is known of it.
pub(super) struct Replica {
    pub(super) generation: Arc<Generation>,
    /// There may be more in Redis than was pushed.
    behind: Notify,
}

/// A stream in Redis, as one read finds it.
pub(super) struct Found {
    /// The fields of its meta.
    pub(super) meta: HashMap<String, Bytes>,
    /// First and last sequence numbers of batches, and their events.
    pub(super) entries: Vec<(u64, u64, Bytes)>,
}

impl Found {
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        std::str::from_utf8(self.meta.get(field)?).ok()
    }

    pub(super) fn number(&self, field: &str) -> u64 {
        self.text(field).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(super) fn end(&self) -> Option<EndRecord> {
        EndRecord::decode(self.meta.get("end")?).ok()
    }

    /// Whether its owner has been silent for longer than it may.
    fn is_expired(&self) -> bool {
        let left = self.text("left").and_then(|left| left.parse::<f64>().ok());
        left.is_some_and(|left| left <= 0.0) && self.end().is_none()
    }
}

/// The answer of a read: fields and values of the meta, and the batches.
type Answer = (Vec<Value>, Vec<(u64, u64, Vec<u8>)>);

impl Replica {
    pub(super) fn new(generation: Arc<Generation>) -> Self {
        Self { generation, behind: Notify::new() }
    }

    /// Appends a batch. Returns whether nothing is missing before it.
    fn append(&self, first: u64, events: &Bytes) -> bool {
        let generation = &self.generation;
        let (framing, epoch) = (generation.origin.framing, generation.native.epoch);
        match decode_events((epoch, first.saturating_sub(1)), framing, events.clone()) {
            Ok(events) => generation.append_copies(first, events),
            Err(error) => {
                tracing::warn!(stream = generation.id, %error, "a batch of events in Redis");
                true
            }
        }
    }

    /// Takes what a read has found. Returns whether there may be more.
    pub(super) fn take(&self, found: &Found) -> bool {
        let generation = &self.generation;
        for (first, _, events) in &found.entries {
            if !self.append(*first, events) {
                // Events before it have been trimmed, or were not appended in time.
                generation.skip_to(first - 1);
                self.append(*first, events);
            }
        }
        if found.entries.len() == MAX_ENTRIES {
            return true;
        }
        generation.skip_to(found.number("earliest"));
        if let Some(end) = found.end() {
            generation.skip_to(found.number("tail"));
            generation.close_copy(&end);
        }
        false
    }
}

impl Sink for Replica {
    /// `A{first} {last}\n{events}`: appended; `E`: ended, or another change of the meta.
    fn message(&self, payload: &[u8]) {
        let appended = || {
            let (head, events) = payload.strip_prefix(b"A")?.split_at_checked(
                payload.iter().position(|byte| *byte == b'\n')?.checked_sub(1)?,
            )?;
            let first = std::str::from_utf8(head).ok()?.split_once(' ')?.0.parse().ok()?;
            Some(self.append(first, &Bytes::copy_from_slice(events.get(1..)?)))
        };
        if appended() != Some(true) {
            self.behind.notify_one();
        }
    }

    fn interrupted(&self) {
        self.behind.notify_one();
    }
}

impl Backplane {
    /// Reads a stream after a position. `watch`: the time for which this node counts as a viewer.
    pub(super) async fn read(
        &self,
        id: &str,
        after: u64,
        watch: Option<Duration>,
    ) -> Result<Option<Found>, BackplaneError> {
        let mut invocation = self.scripts.read.prepare_invoke();
        invocation.key(self.keys.meta(id)).key(self.keys.log(id)).arg(&self.node).arg(after);
        invocation.arg(MAX_ENTRIES).arg(watch.map_or(0, millis));
        let (fields, entries) = self.answered(self.connection.run::<Answer>(&invocation).await)?;
        let mut fields = fields.into_iter().filter_map(|value| match value {
            Value::BulkString(bytes) => Some(Bytes::from(bytes)),
            Value::SimpleString(text) => Some(Bytes::from(text)),
            _ => None,
        });
        let mut meta = HashMap::new();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            meta.insert(String::from_utf8_lossy(&name).into_owned(), value);
        }
        let entries = entries.into_iter().map(|(first, last, events)| (first, last, events.into()));
        // Without it, only its deletion is known.
        Ok(meta.contains_key("meta").then(|| Found { meta, entries: entries.collect() }))
    }

    /// Brings a replica up to what is in Redis. `None`: there is no such stream any more.
    pub(super) async fn catch_up(&self, replica: &Replica) -> Result<Option<()>, BackplaneError> {
        let generation = &replica.generation;
        loop {
            let watch = (generation.viewers() > 0).then_some(self.lease);
            let tail = generation.extent().tail;
            let Some(found) = self.read(&generation.id, tail, watch).await? else {
                return Ok(None);
            };
            if replica.take(&found) {
                continue;
            }
            // While Redis did not answer, no lease could be renewed.
            if found.is_expired() && self.reachable_for() >= self.lease {
                self.lose(replica).await?;
                continue;
            }
            return Ok(Some(()));
        }
    }

    /// Ends a stream whose owner is gone, for all nodes.
    async fn lose(&self, replica: &Replica) -> Result<(), BackplaneError> {
        let generation = &replica.generation;
        let (id, tail) = (&generation.id, generation.extent().tail);
        let (bytes, ending) = generation.abort_bytes(End::Lost);
        let (framing, position) = (generation.origin.framing, generation.native.epoch.at(tail + 1));
        let event = Event { cancelled: true, ..Event::new(position, framing, &bytes) };
        let mut invocation = self.scripts.lose.prepare_invoke();
        invocation.key(self.keys.meta(id)).key(self.keys.log(id)).arg(tail);
        invocation.arg(self.keys.channel(id)).arg(&encode_events(&[event])[..]);
        invocation
            .arg(self.end_of(generation, &StreamEnd::lost(ending)))
            .arg(millis(self.retention()));
        let answer = self.connection.run::<bool>(&invocation).await;
        if self.answered(answer)? {
            tracing::warn!(stream = id, "a stream was lost: its node has not renewed its lease");
            self.metrics.streams_lost.inc();
        }
        Ok(())
    }

    /// Follows a replica until it ends, or nobody views it.
    pub(super) async fn follow(&self, replica: Arc<Replica>) {
        let generation = Arc::clone(&replica.generation);
        let channel = self.keys.channel(&generation.id);
        let sink: Arc<dyn Sink> = Arc::<Replica>::clone(&replica);
        let weak: Weak<dyn Sink> = Arc::downgrade(&sink);
        self.subscriber.subscribe(&channel, weak).await;
        let cancelling = async {
            generation.cancel_requested().await;
            self.cancel(&generation.id).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.keep_up(&replica) => {}
            () = cancelling => {}
        }
        self.subscriber.unsubscribe(&channel).await;
        if generation.extent().end.is_none() {
            // The next request for it finds it in Redis again.
            self.streams.remove(&generation.id);
            generation.release();
        }
    }

    async fn keep_up(&self, replica: &Replica) {
        let generation = &replica.generation;
        let mut unwatched = Instant::now();
        let mut answered = Instant::now();
        while generation.extent().end.is_none() {
            if generation.viewers() > 0 {
                unwatched = Instant::now();
            }
            match self.catch_up(replica).await {
                Ok(Some(())) => answered = Instant::now(),
                Err(BackplaneError) if answered.elapsed() < self.lease => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                // It was deleted, or its viewers are asked to come back: perhaps to the node that produces it.
                Ok(None) | Err(BackplaneError) => return,
            }
            if unwatched.elapsed() >= LINGER {
                return;
            }
            // The lease is looked at once in its time, and viewers are noted at once.
            tokio::select! {
                _ = timeout(self.lease / 2, replica.behind.notified()) => {}
                _viewers = generation.viewers_changed() => {}
            }
        }
    }
}
