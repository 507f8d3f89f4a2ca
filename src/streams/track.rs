//! Tracks: the events of a generation in one format, as a log of their own. A derived track is transcoded from the
//! native one when it is read, once for all viewers. A position of one track must never be taken for one of another.

use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::event::{Event, Framing, State, StreamEnd, cut};
use super::generation::{Generation, Origin};
use super::log::{Log, Read};
use super::position::Epoch;
use crate::wire::chat::{ApiError, End, Kind};
use crate::wire::dialect::{self, Ending};
use crate::wire::format::{self, Format, continued};
use crate::wire::transcode::Transcoder;

/// The most bytes of native events that are transcoded at once.
const MAX_BATCH: usize = 256 * 1024;

/// The events of a generation in one format.
#[derive(Debug)]
pub struct Track {
    /// The format.
    pub format: Format,
    /// The incarnation in positions.
    pub epoch: Epoch,
    /// The events.
    pub log: Log<Event>,
    /// `None`: the native track, which the producer writes.
    pub(super) derived: Option<Mutex<Derivation>>,
}

/// The state of the transcoding of a derived track.
pub struct Derivation {
    transcoder: Transcoder,
    framing: Framing,
    /// The last native event that was transcoded.
    seq: u64,
}

/// The most bytes of one native event, which is within the bounds of its producer.
const MAX_EVENT: usize = usize::MAX;

impl Derivation {
    /// The derivation of a format, with its name; `None`: it is no format of events.
    pub fn of(origin: &Origin, format: Format) -> Option<(&'static str, Self)> {
        let native = dialect::by_name(origin.dialect.name())?;
        let framing = Framing::of(format.media_type(native, &origin.context))?;
        let transcoder = format::transcoder(native, format, &origin.context, MAX_EVENT)?;
        Some((format.name(), Self { transcoder, framing, seq: 0 }))
    }
}

impl std::fmt::Debug for Derivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derivation").field("seq", &self.seq).finish_non_exhaustive()
    }
}

/// The bytes that end a log of native events whose producer is gone, and the end of a viewer's body after them.
pub(super) fn abort(origin: &Origin, log: &Log<Event>, end: End) -> (Bytes, Ending) {
    let native = dialect::by_name(origin.dialect.name());
    let rewriter = native.and_then(|native| format::rewriter(native, &origin.context, MAX_EVENT));
    let Some(mut transcoder) = rewriter else { return (Bytes::new(), Ending::default()) };
    let (mut seq, mut written) = (0, BytesMut::new());
    loop {
        written.clear();
        match log.read(seq, MAX_BATCH) {
            Read::Entries { first, entries } => {
                seq = first - 1 + entries.len() as u64;
                for event in entries {
                    transcoder.push(event.produced, &mut written);
                }
            }
            Read::Gone { earliest } => seq = earliest,
            Read::Tail | Read::Ahead | Read::End(_) => break,
        }
    }
    transcoder.abort(end, &mut written);
    (written.freeze(), transcoder.ending())
}

impl Track {
    /// Brings a derived track up to the native one.
    pub fn advance(&self, generation: &Generation) {
        let Some(derivation) = &self.derived else { return };
        let mut derivation = derivation.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut out = BytesMut::new();
            match generation.native.log.read(derivation.seq, MAX_BATCH) {
                Read::Entries { first, entries } => {
                    derivation.seq = first - 1 + entries.len() as u64;
                    // The cause of one that the gateway wrote is known with the end, which follows it.
                    for event in entries.into_iter().filter(|event| !event.cancelled) {
                        derivation.push(self.format, event.produced, &mut out);
                    }
                    self.append(derivation.framing, &out);
                }
                Read::Tail | Read::Ahead => return,
                Read::End(end) => {
                    derivation.finish(end.state, &mut out);
                    self.append(derivation.framing, &out);
                    self.log.close(StreamEnd { ending: derivation.transcoder.ending(), ..end });
                    return;
                }
                // The transcoder needs every event from the first one on.
                Read::Gone { .. } => {
                    let message = "the beginning of the stream has been trimmed";
                    let end = End::Failed(ApiError::new(Kind::Overloaded, message));
                    derivation.transcoder.abort(end, &mut out);
                    self.append(derivation.framing, &out);
                    self.log.close(StreamEnd {
                        state: State::Error,
                        message: Some(message.to_owned()),
                        ending: derivation.transcoder.ending(),
                    });
                    return;
                }
            }
        }
    }

    fn append(&self, framing: Framing, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // A track that has ended takes nothing more.
        let _closed = self.log.append(|first| {
            (first..)
                .zip(cut(framing, bytes))
                .map(|(seq, event)| Event::new(self.epoch.at(seq), framing, event))
        });
    }
}

impl Derivation {
    /// Takes a native event. The mark of another target that goes on is no part of the answer, and has a form of its own in
    /// some formats.
    fn push(&mut self, format: Format, mut event: Bytes, out: &mut BytesMut) {
        while let Some((place, target)) = continued::find(&event) {
            let target = target.to_owned();
            let rest = event.split_off(place.end);
            self.transcoder.push(event.split_to(place.start), out);
            format.write_continued(&target, out);
            event = rest;
        }
        self.transcoder.push(event, out);
    }

    /// Ends the answer as the native track did, where its events have not.
    fn finish(&mut self, state: State, out: &mut BytesMut) {
        match state {
            State::Cancelled => self.transcoder.abort(End::Cancelled, out),
            State::Lost => self.transcoder.abort(End::Lost, out),
            State::Streaming | State::Complete | State::Error => self.transcoder.finish(out),
        }
    }
}
