//! Producers: a [`Production`] into the log of a generation, independent of every connection. A producer must never
//! wait for a viewer.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use super::clock::unix_seconds;
use super::production::{Next, Production};
use super::reply::answer_headers;
use crate::error::Error;
use crate::streams::archived::{ArchiveRetention, ArchivedStreams};
use crate::streams::event::{State, StreamEnd};
use crate::streams::generation::Generation;
use crate::streams::registry::Streams;
use crate::wire::chat::{ApiError, End, Kind};

/// Produces a generation to its end. A refused one, which has no answer, is forgotten.
pub(super) async fn produce(
    mut production: Production,
    generation: Arc<Generation>,
    streams: Arc<Streams>,
    (archived, retention): (ArchivedStreams, ArchiveRetention),
) {
    let opened = tokio::select! {
        biased;
        () = generation.is_unwanted() => {
            production.cancel();
            Err(cancelled())
        }
        opened = production.open() => opened,
    };
    match opened {
        Ok(()) => {
            let head = answer_headers(&mut production);
            generation.opened(Ok(head));
            let end = relay(&mut production, &generation, &streams).await;
            // The account first: whoever sees the end finds the permit released.
            drop(production);
            // The disk next: a viewer that sees the end finds it there after a restart.
            let ended = unix_seconds();
            archived.keep(&generation, (&end, ended), retention).await;
            generation.close(end, ended);
            streams.ended(&generation);
        }
        Err(error) => {
            let promised = generation.is_promised();
            generation.append(&production.reject(&error, promised), false);
            let state =
                if error.outcome() == "client_gone" { State::Cancelled } else { State::Error };
            let ending = production.take_ending();
            drop(production);
            if !promised {
                streams.remove(&generation.id);
            }
            let message = Some(error.shown().message.clone());
            let (end, ended) = (StreamEnd { state, message, ending }, unix_seconds());
            archived.keep(&generation, (&end, ended), retention).await;
            generation.close(end, ended);
            streams.ended(&generation);
            generation.opened(Err(error));
        }
    }
}

fn cancelled() -> Error {
    Error::from_end(&End::Cancelled)
}

/// Appends everything that is produced. Returns the end.
async fn relay(
    production: &mut Production,
    generation: &Generation,
    streams: &Streams,
) -> StreamEnd {
    // One for the whole stream: a new one with each event would begin the grace period anew.
    let mut is_unwanted = pin!(generation.is_unwanted());
    let mut unwanted = false;
    loop {
        let next = AssertUnwindSafe(production.next(None)).catch_unwind();
        let next = tokio::select! {
            biased;
            () = &mut is_unwanted, if !unwanted => {
                unwanted = true;
                append(generation, streams, &production.take_pending());
                production.cancel();
                continue;
            }
            // A panic ends this stream with an error event, and no other stream (failure mode 54).
            next = next => next.unwrap_or_else(|_| Next::Bytes(Bytes::new())),
        };
        match next {
            Next::Bytes(bytes) if bytes.is_empty() => {
                let event = production.fail();
                generation.append(&event, false);
            }
            Next::Bytes(bytes) if unwanted => {
                generation.append(&bytes, true);
            }
            Next::Bytes(bytes) => {
                if !append(generation, streams, &bytes) {
                    production.abort(no_memory());
                }
            }
            Next::Idle => {}
            Next::Ended => return end_of(production),
        }
    }
}

/// Appends bytes; generations that have ended make room for them. Returns whether there is memory for them.
fn append(generation: &Generation, streams: &Streams, bytes: &[u8]) -> bool {
    let mut held = bytes.is_empty() || generation.append(bytes, false);
    while !held && streams.make_room() {
        held = generation.append(&[], false);
    }
    held
}

fn no_memory() -> End {
    let message = "the gateway keeps as much of resumable streams as it may (server.memory), and this one has no room; \
                   send the request again in a moment";
    End::Unavailable(ApiError::new(Kind::Overloaded, message))
}

fn end_of(production: &mut Production) -> StreamEnd {
    let ending = production.take_ending();
    let (state, message) = match production.end() {
        Some(End::Complete) => (State::Complete, None),
        Some(End::Cancelled) => (State::Cancelled, None),
        Some(end) => (State::Error, end.fault().map(|fault| fault.message)),
        None => (State::Error, Some("the gateway failed while relaying this stream".to_owned())),
    };
    StreamEnd { state, message, ending }
}
