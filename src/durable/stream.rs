//! One stream: its log, its writers and its life. An append is checked and made within one lock: it must never be made
//! twice, nor in half, nor after the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::content_type::ContentType;
use super::error::StreamError;
use super::expiry::Expiry;
use super::fork::Origin;
use super::headers::{self, CLOSED, TRUE, UP_TO_DATE};
use super::producer::{ProducerStamp, Producers, Verdict};
use crate::memory::MemoryLease;
use crate::streams::log::{Entry, Extent, Log, Read, Retention};
use crate::streams::position::{Epoch, Position};

/// The memory that a stream takes beside its content.
const OVERHEAD: usize = 1024;

/// The memory that an append takes beside its bytes.
const APPEND_OVERHEAD: usize = 64;

/// The bytes of one append; of messages of JSON, several with commas between them.
#[derive(Clone)]
pub(super) struct Append(pub(super) Bytes);

impl Entry for Append {
    type End = Closing;

    fn size(&self) -> usize {
        self.0.len() + APPEND_OVERHEAD
    }
}

/// The end of a stream, by the request that closed it.
#[derive(Debug, Clone)]
pub(super) struct Closing {
    by: Option<Arc<ProducerStamp>>,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// The path below the endpoint's.
    pub(super) path: String,
    /// Another for each stream that ever has the path.
    pub(super) incarnation: Epoch,
    pub(super) content_type: ContentType,
    pub(super) expiry: Option<Expiry>,
    /// The request that made it set the expiry.
    pub(super) own_expiry: bool,
    /// The source, if it is a fork.
    pub(super) origin: Option<Origin>,
    /// The epoch of its offsets: a fork's is that of its source.
    epoch: Epoch,
    /// By both clocks.
    born: (Instant, Duration),
    log: Log<Append>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: Instant,
    presence: Presence,
    /// The forks of it that exist.
    forks: usize,
    producers: Producers,
    /// The last `stream-seq`.
    seq: Option<Box<str>>,
    lease: MemoryLease,
}

/// Whether a stream can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Present,
    /// Deleted, and kept for its forks.
    Deleted,
    /// No longer in the store.
    Removed,
}

/// A request to append.
#[derive(Default)]
pub(super) struct AppendRequest {
    /// Empty: nothing is appended.
    pub(super) body: Bytes,
    pub(super) producer: Option<ProducerStamp>,
    pub(super) seq: Option<Box<str>>,
    /// The stream is closed after it.
    pub(super) close: bool,
}

/// The outcome of an append.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) next: Position,
    /// It was made before, and not again.
    pub(super) duplicate: bool,
    pub(super) closed: bool,
    /// The last sequence number of its producer.
    pub(super) highest: Option<u64>,
}

/// Appends from one place on.
pub(super) struct Page {
    pub(super) appends: Vec<Bytes>,
    /// The sequence number of the last one.
    pub(super) next: u64,
    pub(super) reach: Reach,
}

/// The place at which a page ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// There is more.
    Partial,
    /// There is no more yet.
    Tail,
    /// There will be no more.
    End,
}

/// The parts of a new stream.
pub(super) struct NewStream {
    pub(super) path: String,
    pub(super) content_type: ContentType,
    pub(super) expiry: Option<Expiry>,
    pub(super) own_expiry: bool,
    pub(super) origin: Option<Origin>,
    pub(super) born: (Instant, Duration),
    /// Its first appends.
    pub(super) appends: Vec<Bytes>,
    pub(super) closed: bool,
}

impl Stream {
    /// A new stream, in memory that `lease` is made to hold.
    pub(super) fn new(
        new: NewStream,
        lease: MemoryLease,
        most: usize,
    ) -> Result<Self, StreamError> {
        let NewStream { path, content_type, expiry, own_expiry, origin, born, appends, closed } =
            new;
        let log = Log::after(origin.as_ref().map_or(0, |origin| origin.at), Retention::ALL);
        let appended = log.append(|_| appends.into_iter().map(Append));
        let bytes = appended.map_or(0, |extent| extent.bytes);
        if closed {
            log.close(Closing { by: None });
        }
        let mut state = State {
            used: born.0,
            presence: Presence::Present,
            forks: 0,
            producers: Producers::default(),
            seq: None,
            lease,
        };
        state.hold(bytes + path.len(), most)?;
        Ok(Self {
            epoch: origin.as_ref().map_or_else(Epoch::random, |origin| origin.source.epoch),
            incarnation: Epoch::random(),
            path,
            content_type,
            expiry,
            own_expiry,
            origin,
            born,
            log,
            state: Mutex::new(state),
        })
    }

    /// The position after an append of it.
    pub(super) fn at(&self, seq: u64) -> Position {
        self.epoch.at(seq)
    }

    /// The sequence number of a position. An error: it is another stream's, or after the last append.
    pub(super) fn seq(&self, position: Position) -> Result<u64, StreamError> {
        if position.epoch != self.epoch {
            return Err(StreamError::Gone);
        }
        if position.seq > self.tail() {
            return Err(StreamError::invalid("offset", "is after the end of the stream"));
        }
        Ok(position.seq)
    }

    /// The sequence number of the last append.
    pub(super) fn tail(&self) -> u64 {
        self.log.extent().tail
    }

    /// The page after the last append, which has none.
    pub(super) fn end(&self) -> Page {
        let Extent { tail, end, .. } = self.log.extent();
        let reach = if end.is_some() { Reach::End } else { Reach::Tail };
        Page { appends: Vec::new(), next: tail, reach }
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.log.extent().end.is_some()
    }

    /// Resolves when there is an append, or it is closed or deleted, after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.log.appended()
    }

    /// The appends after a sequence number, up to about `most` bytes, but at least one.
    pub(super) fn page(&self, after: u64, most: usize) -> Page {
        let mut page = Page { appends: Vec::new(), next: after, reach: Reach::Tail };
        let mut bytes = 0;
        loop {
            let room = most.saturating_sub(bytes);
            match self.read(page.next, room) {
                Read::Entries { entries, .. } => {
                    let size = entries.iter().map(Entry::size).sum::<usize>();
                    if size > room && !page.appends.is_empty() {
                        page.reach = Reach::Partial;
                        return page;
                    }
                    page.next += entries.len() as u64;
                    bytes += size;
                    page.appends.extend(entries.into_iter().map(|append| append.0));
                }
                Read::End(_) => {
                    page.reach = Reach::End;
                    return page;
                }
                Read::Tail | Read::Gone { .. } | Read::Ahead => return page,
            }
        }
    }

    /// Whether there is anything after a sequence number.
    pub(super) fn reach(&self, after: u64) -> Reach {
        match self.read(after, 0) {
            Read::Entries { .. } => Reach::Partial,
            Read::End(_) => Reach::End,
            Read::Tail | Read::Gone { .. } | Read::Ahead => Reach::Tail,
        }
    }

    /// Reads from the log that has the place: a fork's own, or that of a source.
    fn read(&self, after: u64, most: usize) -> Read<Append, Closing> {
        let (mut stream, mut until) = (self, u64::MAX);
        while let Some(origin) = stream.origin.as_ref().filter(|origin| after < origin.at) {
            (stream, until) = (&origin.source, until.min(origin.at));
        }
        let mut read = stream.log.read(after, most);
        if let Read::Entries { entries, .. } = &mut read {
            entries.truncate(usize::try_from(until - after).unwrap_or(usize::MAX));
        }
        read
    }

    /// Makes an append, and closes the stream if it asks for that. `most`: the bytes that the stream may take.
    pub(super) fn append(
        &self,
        request: &AppendRequest,
        most: usize,
    ) -> Result<Appended, StreamError> {
        let mut state = self.state();
        self.check(&state, Instant::now())?;
        let extent = self.log.extent();
        let mut appended = Appended {
            next: self.at(extent.tail),
            duplicate: false,
            closed: extent.end.is_some(),
            highest: request.producer.as_ref().map(|stamp| stamp.seq),
        };
        if let Some(closing) = &extent.end {
            let repeated = request.producer.as_ref().is_some_and(|stamp| closing.is_by(stamp));
            let closes_only = request.close && request.body.is_empty();
            appended.duplicate = true;
            let closed = StreamError::Closed { tail: appended.next };
            return if repeated || closes_only { Ok(appended) } else { Err(closed) };
        }
        if let Some(stamp) = &request.producer
            && let Verdict::Duplicate { highest } = state.producers.judge(stamp)?
        {
            return Ok(Appended { duplicate: true, highest: Some(highest), ..appended });
        }
        if request.seq.is_some() && request.seq <= state.seq {
            return Err(StreamError::Regression);
        }
        let append = Some(&request.body).filter(|body| !body.is_empty());
        let append = append.map(|body| Append(body.clone()));
        let kept = state.producers.bytes_with(request.producer.as_ref());
        let size = extent.bytes + append.as_ref().map_or(0, Entry::size);
        state.hold(size + kept + self.path.len(), most)?;
        if let Some(append) = append {
            let extent = self.log.append(|_| [append]);
            appended.next = self.at(extent.map_or(0, |extent| extent.tail));
        }
        if let Some(stamp) = &request.producer {
            state.producers.accept(stamp);
        }
        if request.seq.is_some() {
            state.seq.clone_from(&request.seq);
        }
        if request.close {
            self.log.close(Closing { by: request.producer.clone().map(Arc::new) });
            appended.closed = true;
        }
        Ok(appended)
    }

    /// Notes that it was read or appended to.
    pub(super) fn touch(&self) -> Result<(), StreamError> {
        let (mut state, now) = (self.state(), Instant::now());
        self.check(&state, now)?;
        state.used = now;
        Ok(())
    }

    /// An error: it is deleted or expired.
    pub(super) fn check_present(&self) -> Result<(), StreamError> {
        self.check(&self.state(), Instant::now())
    }

    fn check(&self, state: &State, now: Instant) -> Result<(), StreamError> {
        let expired = self.ends(state).is_some_and(|end| end <= now);
        match (state.presence, expired) {
            (Presence::Present, false) => Ok(()),
            (Presence::Deleted, _) => Err(StreamError::Deleted),
            (Presence::Present, true) if state.forks > 0 => Err(StreamError::Deleted),
            (Presence::Removed, _) | (Presence::Present, true) => Err(StreamError::NotFound),
        }
    }

    fn ends(&self, state: &State) -> Option<Instant> {
        self.expiry.as_ref()?.deadline(state.used, self.born)
    }

    /// The time at which it expires, unless it is used before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ends(&self.state())
    }

    /// Deletes it. `true`: no fork needs it, so that it is no longer in the store.
    pub(super) fn delete(&self) -> bool {
        let mut state = self.state();
        let gone = state.forks == 0;
        state.presence = if gone { Presence::Removed } else { Presence::Deleted };
        drop(state);
        self.log.wake();
        gone
    }

    /// Notes one more fork of it.
    pub(super) fn hold_for_fork(&self) {
        self.state().forks += 1;
    }

    /// Notes that a fork of it is gone. `true`: it was deleted, or has expired, and that was the last one.
    pub(super) fn release_fork(&self) -> bool {
        let mut state = self.state();
        state.forks = state.forks.saturating_sub(1);
        state.forks == 0 && self.check(&state, Instant::now()).is_err()
    }

    /// Sets the place at which a page ends in the headers of its response.
    pub(super) fn set_place(&self, headers: &mut HeaderMap, next: u64, reach: Reach) {
        headers::set_next(headers, self.at(next));
        if reach != Reach::Partial {
            headers.insert(UP_TO_DATE, TRUE);
        }
        if reach == Reach::End {
            headers.insert(CLOSED, TRUE);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic within the lock leaves an append that was made, or one that was not.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Holds the memory of so much content.
    fn hold(&mut self, bytes: usize, most: usize) -> Result<(), StreamError> {
        if bytes > most {
            return Err(StreamError::TooLarge { most });
        }
        if self.lease.resize(bytes + OVERHEAD) {
            return Ok(());
        }
        self.lease.count_refusal();
        Err(StreamError::Full)
    }
}

impl Closing {
    fn is_by(&self, stamp: &ProducerStamp) -> bool {
        self.by.as_deref() == Some(stamp)
    }
}
