//! Generations: one answer of a model in a log, the state of its production, and the number of its viewers. A
//! generation must never depend on a connection.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::event::{Event, Framing, State, StreamEnd, cut};
use super::log::{Extent, Log, Retention};
use super::position::{Epoch, Position};
use super::record::{EndRecord, GenerationMeta, RestoredEvents};
use super::share::Shares;
use super::track::{self, Derivation, Track};
use crate::config::OnDisconnect;
use crate::error::Error;
use crate::memory::MemoryLease;
use crate::wire::chat::End;
use crate::wire::dialect::{CallerDialect, Ending, ResponseContext};
use crate::wire::format::Format;

/// The request that a generation answers.
#[derive(Clone)]
pub struct Origin {
    /// The name of the caller that owns it.
    pub owner: Arc<str>,
    /// The dialect of its events.
    pub dialect: &'static dyn CallerDialect,
    /// The framing in which they are produced.
    pub framing: Framing,
    /// The context of the answer.
    pub context: ResponseContext,
    /// The conversation that it belongs to, if the caller names one.
    pub chat: Option<String>,
    /// The consequence of a lack of viewers.
    pub on_disconnect: OnDisconnect,
    /// The most bytes of its log; the oldest events are trimmed beyond it.
    pub max_bytes: usize,
    /// The idempotency key of the request, and the SHA-256 of what it requested.
    pub key: Option<(String, [u8; 32])>,
}

/// The head of an answer, once it is known: headers, or the error in its place.
pub type Opened = Option<Result<HeaderMap, Error>>;

/// One answer of a model in a log.
pub struct Generation {
    /// 24 random letters and digits.
    pub id: String,
    /// The request that it answers.
    pub origin: Origin,
    /// Its events in its own dialect.
    pub native: Track,
    /// Another node produces it.
    pub is_copy: bool,
    /// Its viewers are to come back, to another node.
    released: AtomicBool,
    opened: watch::Sender<Opened>,
    /// Its caller has been told that there is an answer.
    promised: AtomicBool,
    cancelled: CancellationToken,
    viewers: watch::Sender<usize>,
    /// Its events in other formats, made when one is first asked for.
    pub(super) tracks: Mutex<HashMap<&'static str, Arc<Track>>>,
    /// The rights of others.
    pub shares: Shares,
    /// The Unix second until which an archive keeps it; 0: none does.
    pub(super) archived: AtomicU64,
    lease: Mutex<MemoryLease>,
    usage: Mutex<Usage>,
}

/// The times that decide how long a generation is kept.
#[derive(Debug, Clone, Copy)]
struct Usage {
    last_read: Instant,
    ended: Option<(Instant, u64)>,
}

impl Generation {
    pub(super) fn new(id: String, origin: Origin, lease: MemoryLease) -> Self {
        Self::at((id, origin), Epoch::random().at(0), lease)
    }

    /// A generation as its record describes it. It has an end, unless it is being produced elsewhere.
    pub(super) fn restored(
        (meta, origin): (&GenerationMeta, Origin),
        RestoredEvents { trimmed, events, end }: RestoredEvents,
        lease: MemoryLease,
    ) -> Self {
        let restored = Self::at((meta.id.clone(), origin), meta.epoch().at(trimmed), lease);
        restored.promise();
        restored.opened(Ok(meta.headers()));
        // It is new, and has no end: the log takes everything.
        let _closed = restored.native.log.append(|_| events);
        if let Some(end) = end {
            restored.close(end.stream_end(), end.ended);
        }
        restored
    }

    /// The same as a copy of one that another node produces. Its head is set when it has all that there is.
    #[must_use]
    pub(super) fn copied(self) -> Self {
        Self { is_copy: true, opened: watch::Sender::new(None), ..self }
    }

    /// A generation whose first event follows a position.
    fn at((id, origin): (String, Origin), position: Position, lease: MemoryLease) -> Self {
        let retention = Retention { bytes: origin.max_bytes, entries: usize::MAX };
        let log = Log::after(position.seq, retention);
        Self {
            id,
            origin,
            native: Track { format: Format::Native, epoch: position.epoch, log, derived: None },
            is_copy: false,
            released: AtomicBool::new(false),
            opened: watch::Sender::new(None),
            promised: AtomicBool::new(false),
            cancelled: CancellationToken::new(),
            viewers: watch::Sender::new(0),
            tracks: Mutex::default(),
            shares: Shares::default(),
            archived: AtomicU64::new(0),
            lease: Mutex::new(lease),
            usage: Mutex::new(Usage { last_read: Instant::now(), ended: None }),
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.native.log.extent().end.map_or(State::Streaming, |end| end.state)
    }

    /// The extent of its log.
    pub fn extent(&self) -> Extent<StreamEnd> {
        self.native.log.extent()
    }

    /// Appends produced bytes: whole events. Returns whether there is memory for them; they are appended all the same.
    pub fn append(&self, produced: &[u8], cancelled: bool) -> bool {
        let (framing, epoch) = (self.origin.framing, self.native.epoch);
        self.keep_up(produced.len());
        let appended = self.native.log.append(|first| {
            (first..).zip(cut(framing, produced)).map(move |(seq, event)| Event {
                cancelled,
                ..Event::new(epoch.at(seq), framing, event)
            })
        });
        // Nothing is appended to a log that has ended: it was closed for a reason that holds.
        appended.is_err() || self.hold()
    }

    /// Appends events of another node, of which the first has this sequence number. Those that are there already are left
    /// out. Returns whether none is missing before them.
    pub fn append_copies(&self, first: u64, events: Vec<Event>) -> bool {
        let mut gap = false;
        let appended = self.native.log.append(|next| {
            gap = first > next;
            let known = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
            let events = if gap { Vec::new() } else { events };
            events.into_iter().skip(known)
        });
        if appended.is_ok() && !self.hold() {
            self.native.log.trim_to(self.native.log.extent().bytes / 2);
        }
        !gap
    }

    /// Notes that the events up to a sequence number are gone where they were produced.
    pub fn skip_to(&self, seq: u64) {
        self.native.log.skip_to(seq);
    }

    /// Asks its viewers to come back, once they have read all that is here.
    pub fn release(&self) {
        self.released.store(true, Relaxed);
        self.native.log.wake();
    }

    /// Whether its viewers are to come back.
    pub fn is_released(&self) -> bool {
        self.released.load(Relaxed)
    }

    /// Resolves when a request has asked for its end.
    pub async fn cancel_requested(&self) {
        self.cancelled.cancelled().await;
    }

    /// Resolves when it has other viewers or none. Returns how many.
    pub async fn viewers_changed(&self) -> usize {
        let mut viewers = self.viewers.subscribe();
        let _owned = viewers.changed().await;
        *viewers.borrow()
    }

    /// The bytes that end it for readers of its own dialect, where its producer could not write them.
    pub fn abort_bytes(&self, end: End) -> (Bytes, Ending) {
        track::abort(&self.origin, &self.native.log, end)
    }

    /// Brings all tracks up to the native one if its next bytes make it trim its oldest events: a viewer that is slow in
    /// another format must not lose what its own track has room for.
    fn keep_up(&self, more: usize) {
        if self.native.log.extent().bytes + more <= self.origin.max_bytes {
            return;
        }
        let tracks: Vec<_> = {
            let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
            tracks.values().cloned().collect()
        };
        for track in tracks {
            track.advance(self);
        }
    }

    /// Holds memory for its logs. Returns whether there is enough.
    pub(super) fn hold(&self) -> bool {
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        let derived: usize = tracks.values().map(|track| track.log.extent().bytes).sum();
        let bytes = self.native.log.extent().bytes + derived;
        drop(tracks);
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).hold_kept(bytes).is_ok()
    }

    /// Ends it, unless it has ended before. `unix`: the time in Unix seconds.
    pub fn close(&self, end: StreamEnd, unix: u64) {
        self.origin.context.now.stop(unix);
        self.usage().ended.get_or_insert_with(|| (Instant::now(), unix));
        self.native.log.close(end);
    }

    /// Ends it as the node that produces it has done.
    pub fn close_copy(&self, end: &EndRecord) {
        self.origin.context.now.stop(end.stopped_at());
        self.close(end.stream_end(), end.ended);
    }

    /// Sets the head of the answer, or the error in its place.
    pub fn opened(&self, opened: Result<HeaderMap, Error>) {
        self.opened.send_replace(Some(opened));
    }

    /// Notes that its caller has a response, so that an error in the place of the answer must be read from the log.
    pub fn promise(&self) {
        self.promised.store(true, Relaxed);
    }

    /// Whether its caller has a response.
    pub fn is_promised(&self) -> bool {
        self.promised.load(Relaxed)
    }

    /// The error in place of an answer, if there was no answer.
    pub fn is_refused(&self) -> bool {
        matches!(&*self.opened.borrow(), Some(Err(_)))
    }

    /// Whether the head of the answer is known, or the error in its place.
    pub fn is_opened(&self) -> bool {
        self.opened.borrow().is_some()
    }

    /// The headers of the answer, as far as they are known.
    pub fn headers(&self) -> HeaderMap {
        self.opened.borrow().as_ref().and_then(|head| head.clone().ok()).unwrap_or_default()
    }

    /// Waits for the head of the answer.
    pub async fn head(&self) -> Result<HeaderMap, Error> {
        let mut opened = self.opened.subscribe();
        let seen = opened.wait_for(Option::is_some).await;
        let head = seen.ok().and_then(|head| head.clone());
        head.unwrap_or_else(|| Err(Error::internal("the production of the answer ended early")))
    }

    /// Requests that its production ends. Has no effect after the end.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Resolves when its production is to end: it is cancelled, or has had no viewers for too long.
    pub async fn is_unwanted(&self) {
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            () = self.is_abandoned() => {}
        }
    }

    /// Resolves when it has had no viewers for as long as it may.
    async fn is_abandoned(&self) {
        let grace = match self.origin.on_disconnect {
            OnDisconnect::Continue => return std::future::pending().await,
            OnDisconnect::Cancel => Duration::ZERO,
            OnDisconnect::Grace(grace) => grace,
        };
        let mut viewers = self.viewers.subscribe();
        loop {
            // The sender is a field of this value, so that there is no other error.
            drop(viewers.wait_for(|viewers| *viewers == 0).await);
            tokio::select! {
                () = sleep(grace) => return,
                _joined = viewers.wait_for(|viewers| *viewers > 0) => {}
            }
        }
    }

    /// Its events in another format, made when it is first asked for; `None`: its own, or one without events.
    pub fn in_format(&self, format: Format) -> Option<Arc<Track>> {
        let (name, derivation) = Derivation::of(&self.origin, format)?;
        let mut tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        let retention = Retention { bytes: self.origin.max_bytes, entries: usize::MAX };
        let track = tracks.entry(name).or_insert_with(|| {
            let epoch = self.native.epoch.derived(name);
            Arc::new(Track {
                format,
                epoch,
                log: Log::new(retention),
                derived: Some(Mutex::new(derivation)),
            })
        });
        Some(Arc::clone(track))
    }

    /// Waits for its end, up to which it has all its events.
    pub async fn ended(&self) -> StreamEnd {
        loop {
            let appended = self.native.log.appended();
            if let Some(end) = self.native.log.extent().end {
                return end;
            }
            appended.await;
        }
    }

    /// The number of viewers.
    pub fn viewers(&self) -> usize {
        *self.viewers.borrow()
    }

    /// A viewer has come.
    pub fn joined(&self) {
        self.viewers.send_modify(|viewers| *viewers += 1);
        self.read();
    }

    /// A viewer has left.
    pub fn left(&self) {
        self.viewers.send_modify(|viewers| *viewers -= 1);
        self.read();
    }

    /// Notes that it is being used, which prolongs its retention.
    pub fn read(&self) {
        self.usage().last_read = Instant::now();
    }

    /// The time at which it ended, in Unix seconds.
    pub fn ended_at(&self) -> Option<u64> {
        self.usage().ended.map(|(_, unix)| unix)
    }

    /// The time left until it is forgotten, if it is used no more; `None`: it is running or has viewers.
    pub fn expires_in(&self, keep: Duration, now: Instant) -> Option<Duration> {
        let Usage { last_read, ended } = *self.usage();
        let (ended, _) = ended.filter(|_| self.viewers() == 0)?;
        Some((last_read.max(ended) + keep).saturating_duration_since(now))
    }

    fn usage(&self) -> std::sync::MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("id", &self.id)
            .field("log", &self.native.log)
            .finish_non_exhaustive()
    }
}
