//! Owned generations: the log of a generation that this node produces, appended to Redis under a lease. Redis is a reader
//! of the log like any viewer, with a cursor, so that a time without it costs no memory and loses nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{Backplane, BackplaneError};
use crate::streams::event::{Event, StreamEnd};
use crate::streams::generation::Generation;
use crate::streams::log::Read;
use crate::streams::record::{EndRecord, GenerationMeta, encode_events};
use crate::wire::chat::End;

/// The most bytes of one batch of events.
const MAX_BATCH: usize = 256 * 1024;

/// The progress of a generation's replication.
struct Cursor {
    /// The last event that Redis has.
    seq: u64,
    /// Redis knows of the generation.
    begun: bool,
    /// Another node watches it.
    watched: bool,
    /// The time at which its entries in the directory were written.
    indexed: Instant,
}

/// The result of an append.
#[derive(Debug, PartialEq, Eq)]
enum Appended {
    /// There may be more.
    More,
    /// Everything is in Redis; the end has not come.
    Tail,
    /// Everything is in Redis, the end too.
    Ended,
    /// Redis has lost it.
    Forgotten,
    /// Another node has ended it, because this one was silent for too long, or it was deleted.
    Fenced,
}

/// A batch for Redis.
#[derive(Default)]
struct Batch {
    /// 0: it has no events.
    first: u64,
    last: u64,
    events: Bytes,
    /// The record of the end.
    end: Vec<u8>,
}

impl Backplane {
    /// Makes a generation known to other nodes. Called before its caller learns its id.
    pub async fn begin(
        &self,
        generation: &Generation,
        keep: Duration,
    ) -> Result<(), BackplaneError> {
        let id = &generation.id;
        let mut invocation = self.scripts.begin.prepare_invoke();
        invocation.key(self.keys.meta(id)).arg(&self.node).arg(millis(self.lease));
        invocation.arg(millis(self.kept(keep))).arg("meta");
        invocation.arg(GenerationMeta::of(generation).encode());
        if self.answered(self.connection.run::<i64>(&invocation).await)? == 0 {
            return Err(BackplaneError);
        }
        self.index(generation, keep).await
    }

    /// Appends a generation to Redis while it is produced, until its end is there. `keep`: the time for which it can be
    /// read after its end.
    pub async fn own(
        self: Arc<Self>,
        generation: Arc<Generation>,
        keep: Duration,
        producing: impl Future<Output = ()>,
    ) {
        self.owned.by_id().insert(generation.id.clone(), Arc::downgrade(&generation));
        tokio::join!(producing, self.replicate(&generation, keep));
        self.owned.by_id().remove(&generation.id);
        if generation.is_refused() && !generation.is_promised() {
            // There is no answer to read. Without Redis, it expires.
            let _unreachable = self.delete(&generation.id).await;
        }
    }

    async fn replicate(&self, generation: &Generation, keep: Duration) {
        let mut cursor =
            Cursor { seq: 0, begun: self.is_reachable(), watched: false, indexed: Instant::now() };
        let mut pause = Duration::from_millis(50);
        let mut given_up = None;
        loop {
            let appended = generation.native.log.appended();
            match self.append(generation, &mut cursor, keep).await {
                Ok(Appended::More) => pause = Duration::from_millis(50),
                Ok(Appended::Tail) => {
                    // Long before the lease runs out, so that one failure does not cost it.
                    let _renewal = timeout(self.lease / 3, appended).await;
                }
                Ok(Appended::Ended) => break,
                Ok(Appended::Forgotten) => {
                    let earliest = generation.extent().earliest;
                    cursor = Cursor { seq: earliest, begun: false, ..cursor };
                }
                Ok(Appended::Fenced) => {
                    self.fenced(generation);
                    break;
                }
                Err(BackplaneError) => {
                    // An end that Redis does not take is kept for as long as here.
                    let ended = generation.extent().end.is_some();
                    let until =
                        ended.then(|| *given_up.get_or_insert_with(|| Instant::now() + keep));
                    if until.is_some_and(|until| Instant::now() >= until) {
                        break;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(self.lease / 4);
                }
            }
        }
        if cursor.watched {
            generation.left();
        }
    }

    /// Appends the next batch of what Redis does not have, or only renews the lease.
    async fn append(
        &self,
        generation: &Generation,
        cursor: &mut Cursor,
        keep: Duration,
    ) -> Result<Appended, BackplaneError> {
        if !cursor.begun {
            self.begin(generation, keep).await?;
            (cursor.begun, cursor.indexed) = (true, Instant::now());
        }
        // They expire before a long stream does, and are kept for as long as its events after its end.
        if cursor.indexed.elapsed() > keep / 2 || generation.extent().end.is_some() {
            self.index(generation, keep).await?;
            cursor.indexed = Instant::now();
        }
        let extent = generation.extent();
        cursor.seq = cursor.seq.max(extent.earliest);
        let batch = match generation.native.log.read(cursor.seq, MAX_BATCH) {
            Read::Entries { first, entries } => Batch::of(first, &entries),
            Read::End(end) => Batch { end: self.end_of(generation, &end), ..Batch::default() },
            Read::Gone { .. } | Read::Tail | Read::Ahead => Batch::default(),
        };
        let id = &generation.id;
        let mut invocation = self.scripts.append.prepare_invoke();
        invocation.key(self.keys.meta(id)).key(self.keys.log(id)).arg(&self.node);
        invocation.arg(millis(self.lease)).arg(millis(self.kept(keep))).arg(self.keys.channel(id));
        invocation.arg(extent.earliest).arg(batch.first).arg(batch.last).arg(&batch.events[..]);
        invocation.arg(&batch.end[..]).arg(extent.bytes);
        let answer = self.connection.run::<(u8, bool, u64)>(&invocation).await;
        let (result, cancelled, watching) = self.answered(answer)?;
        match result {
            0 => return Ok(Appended::Fenced),
            2 => return Ok(Appended::Forgotten),
            _ => {}
        }
        if cancelled {
            generation.cancel();
        }
        cursor.watch(generation, watching > 0);
        cursor.seq = cursor.seq.max(batch.last);
        Ok(match (batch.last, batch.end.is_empty()) {
            (_, false) => Appended::Ended,
            (0, true) if generation.extent().end.is_none() => Appended::Tail,
            _ => Appended::More,
        })
    }

    /// Ends a generation that is no longer this node's: other nodes have shown its end already.
    fn fenced(&self, generation: &Generation) {
        if generation.extent().end.is_some() {
            return;
        }
        tracing::warn!(
            stream = generation.id,
            "a stream was lost: this node did not renew its lease in time, or the stream was deleted elsewhere"
        );
        let (bytes, ending) = generation.abort_bytes(End::Lost);
        generation.append(&bytes, true);
        // Its end holds before its producer, which is to stop, can write another.
        generation.close(StreamEnd::lost(ending), self.clock.unix());
        generation.cancel();
    }

    /// The record of an end that has come now.
    pub(super) fn end_of(&self, generation: &Generation, end: &StreamEnd) -> Vec<u8> {
        let ended = generation.ended_at().unwrap_or_else(|| self.clock.unix());
        EndRecord::of(generation, end, ended).encode()
    }

    /// The retention of keys in Redis: they outlast every look of their owner.
    fn kept(&self, keep: Duration) -> Duration {
        keep.max(self.lease * 2)
    }
}

impl Cursor {
    /// Notes whether other nodes watch it: all of them count as one viewer.
    fn watch(&mut self, generation: &Generation, watched: bool) {
        if std::mem::replace(&mut self.watched, watched) == watched {
            return;
        }
        if watched { generation.joined() } else { generation.left() }
    }
}

impl Batch {
    fn of(first: u64, events: &[Event]) -> Self {
        let last = first - 1 + events.len() as u64;
        Self { first, last, events: encode_events(events), end: Vec::new() }
    }
}

/// Milliseconds, at least one.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
