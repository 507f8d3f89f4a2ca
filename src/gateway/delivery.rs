//! Delivery: a [`Production`] to one caller, as the body of a stream or as a whole body. It writes heartbeats,
//! decides how the body ends, and turns a panic into an error event. It must never change a production's bytes.
//!
//! The body is polled, not spawned: the caller's reading speed is the backpressure, and dropping it cancels the
//! request.

use std::fmt;
use std::panic::AssertUnwindSafe;

use async_stream::stream;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::production::{Next, Production};
use crate::error::Error;
use crate::wire::dialect::Ending;

/// The error of a body that is cut on purpose, after its stream's error was written in-band. The HTTP
/// server answers it by closing the connection without a last chunk, or by `RST_STREAM`.
#[derive(Debug)]
pub struct AbortedBodyError;

impl fmt::Display for AbortedBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream failed, and its body is cut so that clients notice")
    }
}

impl std::error::Error for AbortedBodyError {}

/// The body of a streamed answer. A failure is written in-band, in the caller's dialect; the body itself
/// fails only after that, where the dialect wants it cut ([`Ending`]).
pub fn stream(
    production: Production,
) -> impl Stream<Item = Result<Bytes, AbortedBodyError>> + Send {
    let mut delivery = Delivery { production, heartbeat: Instant::now() };
    stream! {
        loop {
            // A panic ends this stream with an error event, and no other stream (failure mode 54).
            let next = AssertUnwindSafe(delivery.next()).catch_unwind().await;
            match next.unwrap_or_else(|_| Some(delivery.production.fail())) {
                Some(bytes) => yield Ok(bytes),
                None => break,
            }
        }
        if let Ending::Aborted { error } = delivery.production.take_ending() {
            // The server writes its buffered bytes when the body has nothing more for the moment.
            yield_now().await;
            if !error.is_empty() {
                yield Ok(error);
                yield_now().await;
            }
            yield Err(AbortedBodyError);
        }
    }
}

/// The body of an answer that is not streamed. Call it when the production is open.
pub async fn collect(production: &mut Production) -> Result<Bytes, Error> {
    let mut body = Bytes::new();
    loop {
        match production.next(None).await {
            Next::Bytes(bytes) if body.is_empty() => body = bytes,
            Next::Bytes(bytes) => {
                let mut all = BytesMut::from(body);
                all.extend_from_slice(&bytes);
                body = all.freeze();
            }
            Next::Idle => {}
            Next::Ended => break,
        }
    }
    production.take_error().map_or(Ok(body), Err)
}

/// A stream under way to its caller.
struct Delivery {
    production: Production,
    /// The time at which the last heartbeat was written, or the body began.
    heartbeat: Instant,
}

impl Delivery {
    /// The caller's next bytes; `None` after the last ones.
    async fn next(&mut self) -> Option<Bytes> {
        let written = self.heartbeat.max(self.production.produced());
        let due = written + self.production.context().stream.heartbeat;
        match self.production.next(Some(due)).await {
            Next::Bytes(bytes) => Some(bytes),
            Next::Idle => Some(self.heartbeat()),
            Next::Ended => None,
        }
    }

    fn heartbeat(&mut self) -> Bytes {
        self.heartbeat = Instant::now();
        if let Some(account) = self.production.account() {
            account.heartbeat();
        }
        let context = self.production.context();
        context.dialect.heartbeat(&context.call)
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
