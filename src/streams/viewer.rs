//! Viewers: cursors over a track of a generation. A viewer must never slow the producer or another viewer down.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::event::{Event, StreamEnd, id};
use super::generation::Generation;
use super::log::{Entry, Read};
use super::position::Position;
use super::track::Track;
use crate::wire::format::{Format, Fragment};

/// The most bytes of one write to a viewer.
const MAX_BATCH: usize = 32 * 1024;

/// A viewer with more unread bytes than this is far behind, and gets adjacent fragments of text as one event.
const FAR_BEHIND: usize = 64 * 1024;

/// The most bytes of events that are joined in one write, which leaves with few of them.
const MAX_JOINED: usize = 128 * 1024;

/// The form in which a viewer gets events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Server-sent events with positions.
    Blocks,
    /// The bytes as they were produced.
    Produced,
}

/// The next part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes of one or more whole events.
    Bytes(Bytes),
    /// Nothing by the time that was given.
    Idle,
    /// The right of the viewer has ended, or it is to come back.
    Closed,
    /// Its connection has lasted long enough, and its client comes back.
    Expired,
    /// Events that this viewer has not read have been trimmed. The lowest position that is left.
    Behind(Position),
    /// Everything has been read.
    Ended(StreamEnd),
}

/// A cursor over a stream. It counts as a viewer until it is dropped.
pub struct Viewer {
    generation: Arc<Generation>,
    /// `None`: the native track.
    derived: Option<Arc<Track>>,
    seq: u64,
    form: Form,
    /// The shortest time between two writes.
    coalesce: Duration,
    written: Option<Instant>,
}

impl Viewer {
    /// A viewer of what follows a sequence number of a track; `None`: of the native track.
    pub fn new(
        generation: Arc<Generation>,
        derived: Option<Arc<Track>>,
        seq: u64,
        (form, coalesce): (Form, Duration),
    ) -> Self {
        generation.joined();
        Self { generation, derived, seq, form, coalesce, written: None }
    }

    /// The generation.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// The track.
    pub fn track(&self) -> &Track {
        self.derived.as_deref().unwrap_or(&self.generation.native)
    }

    /// The position of the last event that it has read.
    pub fn position(&self) -> Position {
        self.track().epoch.at(self.seq)
    }

    /// Waits for the next events, but no longer than to the time that is given. All that is there leaves at once, but
    /// no sooner than `coalesce` after the last write. Cancel-safe.
    pub async fn next(&mut self, until: Instant) -> Next {
        if let Some(written) = self.written {
            let due = written + self.coalesce;
            if due > Instant::now() {
                sleep_until(due).await;
            }
        }
        let generation = Arc::clone(&self.generation);
        loop {
            let appended = generation.native.log.appended();
            match self.read() {
                Read::Entries { first, entries } => {
                    self.seq = first - 1 + entries.len() as u64;
                    self.written = Some(Instant::now());
                    let unread: usize = entries.iter().map(Entry::size).sum();
                    return Next::Bytes(if self.joins_texts() && unread > FAR_BEHIND {
                        self.join_texts(first, &entries)
                    } else {
                        self.join(&entries)
                    });
                }
                Read::End(end) => return Next::Ended(end),
                Read::Gone { earliest } => return Next::Behind(self.track().epoch.at(earliest)),
                Read::Tail | Read::Ahead if generation.is_released() => return Next::Closed,
                Read::Tail | Read::Ahead => {}
            }
            if timeout_at(until, appended).await.is_err() {
                return Next::Idle;
            }
        }
    }

    fn read(&self) -> Read<Event, StreamEnd> {
        let track = self.track();
        track.advance(&self.generation);
        let most = if self.joins_texts() { MAX_JOINED } else { MAX_BATCH };
        track.log.read(self.seq, most)
    }

    /// Whether its format has fragments of text, which may be joined.
    fn joins_texts(&self) -> bool {
        let format = self.track().format;
        self.form == Form::Blocks && matches!(format, Format::Text | Format::Events)
    }

    /// Blocks of events, of which adjacent fragments of text are one that has the id of the last of them.
    fn join_texts(&self, first: u64, events: &[Event]) -> Bytes {
        let Track { format, epoch, .. } = self.track();
        let (mut out, mut last) = (BytesMut::new(), None::<(Fragment<'_>, u64)>);
        let end = |last: &mut Option<(Fragment<'_>, u64)>, out: &mut BytesMut| {
            if let Some((fragment, seq)) = last.take() {
                fragment.end(out);
                out.extend_from_slice(&id(epoch.at(seq)));
            }
        };
        for (seq, event) in (first..).zip(events) {
            match (Fragment::of(*format, event.without_id()), &mut last) {
                (Some(next), Some((before, at))) if before.is_continued_by(&next) => {
                    next.proceed(&mut out);
                    (*before, *at) = (next, seq);
                }
                (Some(next), _) => {
                    end(&mut last, &mut out);
                    next.begin(&mut out);
                    last = Some((next, seq));
                }
                (None, _) => {
                    end(&mut last, &mut out);
                    out.extend_from_slice(&event.block);
                }
            }
        }
        end(&mut last, &mut out);
        out.freeze()
    }

    fn join(&self, events: &[Event]) -> Bytes {
        let bytes = |event: &Event| match self.form {
            Form::Blocks => event.block.clone(),
            Form::Produced => event.produced.clone(),
        };
        if let [event] = events {
            return bytes(event);
        }
        let mut all = BytesMut::new();
        for event in events {
            all.extend_from_slice(&bytes(event));
        }
        all.freeze()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.generation.left();
    }
}

#[cfg(test)]
#[path = "viewer_tests.rs"]
pub(crate) mod tests;
