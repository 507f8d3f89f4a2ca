//! Delivery: a [`Production`] to one caller, as the body of a stream or as a whole body. It writes heartbeats,
//! decides how the body ends, and turns a panic into an error event. It must never change a production's bytes.
//!
//! The body is polled, not spawned: the caller's reading speed is the backpressure, and dropping it cancels the
//! request.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_stream::stream;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::account::Account;
use super::durable::retry;
use super::lifetime::Lifetime;
use super::production::{self, Production};
use crate::error::Error;
use crate::streams::share::Seat;
use crate::streams::viewer::{Next, Viewer};
use crate::wire::chat::End;
use crate::wire::dialect::Ending;
use crate::wire::tally::Tally;

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
        for await last in ending(delivery.production.take_ending()) {
            yield last;
        }
    }
}

/// The end of a body.
fn ending(ending: Ending) -> impl Stream<Item = Result<Bytes, AbortedBodyError>> + Send {
    stream! {
        if let Ending::Aborted { error } = ending {
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

/// A durable stream to one of its viewers.
pub struct Following {
    /// The cursor.
    pub viewer: Viewer,
    /// The bytes before its first event.
    pub preamble: Bytes,
    /// The bytes that keep a silent connection open.
    pub heartbeat: Bytes,
    /// The silence after which they are written.
    pub every: Duration,
    /// The account of the viewer's request.
    pub account: Option<Box<Account>>,
    /// The right by which it is read, if it is not the owner's own.
    pub right: Option<Right>,
    /// The time for which the connection lasts.
    pub lifetime: Lifetime,
}

/// A right of somebody else's, which may end before the stream does.
pub struct Right {
    /// The time at which it ends.
    pub until: Instant,
    /// The place among the viewers of a share, if it is one.
    pub seat: Option<Seat>,
}

/// Resolves when a right ends.
async fn ended(right: Option<&Right>) {
    match right {
        Some(Right { until, seat: Some(seat) }) => tokio::select! {
            () = seat.revoked.cancelled() => {}
            () = sleep_until(*until) => {}
        },
        Some(Right { until, seat: None }) => sleep_until(*until).await,
        None => std::future::pending().await,
    }
}

/// The body of a viewer's response. A viewer that has fallen behind the beginning of the log is cut off, so that its
/// client resumes and learns of the gap.
pub fn follow(
    mut following: Following,
) -> impl Stream<Item = Result<Bytes, AbortedBodyError>> + Send {
    stream! {
        if !following.preamble.is_empty() {
            yield Ok(std::mem::take(&mut following.preamble));
        }
        let end = loop {
            match following.next().await {
                Next::Bytes(bytes) => yield Ok(bytes),
                Next::Idle => yield Ok(following.heartbeat()),
                Next::Closed => break Ending::Closed,
                Next::Expired => {
                    // A block without data is no event: it sets the time after which the client resumes.
                    yield Ok([retry(), Bytes::from_static(b"\n")].concat().into());
                    break Ending::Closed;
                }
                Next::Behind(_) => break Ending::Aborted { error: Bytes::new() },
                Next::Ended(end) => break end.ending,
            }
        };
        following.settle();
        for await last in ending(end) {
            yield last;
        }
    }
}

impl Following {
    /// The next part; the end of the viewer's right, or of its connection's lifetime, ends its body, but not the
    /// stream.
    async fn next(&mut self) -> Next {
        loop {
            let now = Instant::now();
            if self.lifetime.is_over(now) {
                return Next::Expired;
            }
            let due = self.lifetime.or(now + self.every);
            let next = tokio::select! {
                biased;
                () = ended(self.right.as_ref()) => Next::Closed,
                () = self.lifetime.shortened() => continue,
                next = self.viewer.next(due) => next,
            };
            if next != Next::Idle || !self.lifetime.is_over(Instant::now()) {
                return next;
            }
        }
    }

    fn heartbeat(&mut self) -> Bytes {
        if let Some(account) = &mut self.account {
            account.heartbeat();
        }
        self.heartbeat.clone()
    }

    /// The viewer has everything that there is for it.
    fn settle(&mut self) {
        if let Some(account) = &mut self.account {
            account.settle(&Tally::default(), Some(&End::Complete));
        }
    }
}

/// The body of an answer that is not streamed. Call it when the production is open.
pub async fn collect(production: &mut Production) -> Result<Bytes, Error> {
    let mut body = Bytes::new();
    loop {
        match production.next(None).await {
            production::Next::Bytes(bytes) if body.is_empty() => body = bytes,
            production::Next::Bytes(bytes) => {
                let mut all = BytesMut::from(body);
                all.extend_from_slice(&bytes);
                body = all.freeze();
            }
            production::Next::Idle => {}
            production::Next::Ended => break,
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
            production::Next::Bytes(bytes) => Some(bytes),
            production::Next::Idle => Some(self.heartbeat()),
            production::Next::Ended => None,
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
