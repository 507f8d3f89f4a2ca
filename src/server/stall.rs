//! The deadline for callers who stop reading.
//!
//! A body cannot notice it: whoever waits for room to write does not poll the body. So the body
//! leaves a mark when it gives bytes away, takes it back when it is polled again, and the future
//! that polls it, a connection or one HTTP/2 stream, watches the mark from outside. Large bodies are
//! given away in pieces, so that a slow reader is told from one who does not read.
//!
//! The same view from outside tells turns apart: a body that has nothing to give is not asked again
//! within a turn. It also delays a body that is cut on purpose: hyper throws away what it holds unsent when
//! a body fails, so over HTTP/1.1 the failure waits until that is written, or until this deadline.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

tokio::task_local! {
    static TURN: Turn;
}

/// What is known of the body that is polled inside, for the length of one poll from outside.
struct Turn {
    /// Since when it has not been asked for more.
    given: Cell<Option<Instant>>,
    /// It has said that it has nothing, and it will wake the task when it has. Hyper asks again,
    /// after each flush.
    waits: Cell<bool>,
    /// The socket takes no more, and hyper holds bytes that are not written.
    unsent: Cell<bool>,
    /// A body has failed and waits for that to change.
    withheld: Cell<bool>,
}

/// The most bytes that a caller must take within the deadline.
const PIECE: usize = 64 * 1024;

/// A new request: what was given before it has been taken. (A body whose end is known in advance is
/// not polled again after its last bytes, and so cannot take its mark back.)
pub(super) fn forget() {
    let _untold = TURN.try_with(|turn| {
        turn.given.set(None);
        turn.waits.set(false);
    });
}

/// Notes whether hyper holds bytes that the socket does not take.
pub(super) fn note_unsent(unsent: bool) {
    let _untold = TURN.try_with(|turn| turn.unsent.set(unsent));
}

/// A response body that leaves the mark.
pub(super) struct Marking {
    body: axum::body::Body,
    /// What it failed with, while bytes before that are unsent.
    failed: Option<axum::Error>,
    /// What is left of a frame larger than a piece.
    rest: Bytes,
    /// Tells that the response has not ended.
    _open: TaskTrackerToken,
}

impl Marking {
    pub(super) fn new(body: axum::body::Body, open: TaskTrackerToken) -> Self {
        Self { body, failed: None, rest: Bytes::new(), _open: open }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = match self.failed.take() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => self.piece(cx),
        };
        if let Poll::Ready(Some(Err(error))) = polled {
            if !TURN.try_with(|turn| turn.unsent.get()).unwrap_or_default() {
                return Poll::Ready(Some(Err(error)));
            }
            self.failed = Some(error);
            let _untold = TURN.try_with(|turn| turn.withheld.set(true));
            return Poll::Pending;
        }
        polled
    }

    fn piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.data_ref().is_some_and(|data| data.len() > PIECE) => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                other => return Poll::Ready(other),
            }
        }
        let piece = self.rest.split_to(PIECE.min(self.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl http_body::Body for Marking {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Outside a watch there is nobody to tell.
        if TURN.try_with(|turn| turn.waits.get()).unwrap_or_default() {
            return Poll::Pending;
        }
        let polled = self.next(cx);
        let given = matches!(polled, Poll::Ready(Some(_))).then(Instant::now);
        let _untold = TURN.try_with(|turn| {
            // The deadline of a withheld failure begins once.
            let begun = || turn.given.get().or_else(|| Some(Instant::now()));
            turn.given.set(if turn.withheld.get() { begun() } else { given });
            turn.waits.set(polled.is_pending());
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// Runs a future that polls bodies, and ends it when one of them was left unread for too long.
pub(super) struct Watched<F> {
    inner: Pin<Box<F>>,
    given: Option<Instant>,
    unsent: bool,
    write_stall: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<F: Future> Watched<F> {
    pub(super) fn new(inner: F, write_stall: Duration) -> Self {
        Self {
            inner: Box::pin(inner),
            given: None,
            unsent: false,
            write_stall,
            timer: Box::pin(sleep(write_stall)),
        }
    }

    /// Whether bytes wait for the socket, as far as that is noted.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent
    }

    pub(super) fn inner(&mut self) -> Pin<&mut F> {
        self.inner.as_mut()
    }
}

impl<F: Future> Future for Watched<F> {
    /// `None`: it was ended.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let turn = Turn {
            given: Cell::new(this.given),
            waits: Cell::new(false),
            unsent: Cell::new(this.unsent),
            withheld: Cell::new(false),
        };
        let (polled, given, withheld) = TURN.sync_scope(turn, || {
            let polled = this.inner.as_mut().poll(cx);
            let (given, withheld) = TURN.with(|turn| {
                this.unsent = turn.unsent.get();
                (turn.given.get(), turn.withheld.get())
            });
            (polled, given, withheld)
        });
        this.given = given;
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Some(output));
        }
        if withheld && !this.unsent {
            cx.waker().wake_by_ref();
        }
        let Some(given) = given else {
            return Poll::Pending;
        };
        let deadline = given + this.write_stall;
        if this.timer.deadline() != deadline {
            this.timer.as_mut().reset(deadline);
        }
        // Whatever is left of the task's budget: traffic the other way must not hold up this deadline.
        pin!(unconstrained(this.timer.as_mut())).poll(cx).map(|()| None)
    }
}

/// Runs the streams of HTTP/2 connections, each under a watch of its own.
#[derive(Debug, Clone)]
pub(super) struct WatchedExecutor {
    pub(super) tasks: TaskTracker,
    pub(super) write_stall: Duration,
}

impl<F> Executor<F> for WatchedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn(Watched::new(stream, self.write_stall));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io;

    use futures_util::stream::iter;
    use http_body::Body as _;
    use tokio::time::timeout;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    /// A connection whose body has failed: it ends with the failure. `full`: whether its socket takes no
    /// more.
    fn failing(full: &Cell<bool>) -> Watched<impl Future<Output = bool>> {
        let cut = axum::body::Body::from_stream(iter([Err::<Bytes, _>(io::Error::other("cut"))]));
        let mut body = Marking::new(cut, TaskTracker::new().token());
        let connection = poll_fn(move |cx| {
            if full.get() {
                note_unsent(true);
            }
            let polled = Pin::new(&mut body).poll_frame(cx);
            // As hyper flushes after it has asked the body.
            note_unsent(full.get());
            polled.map(|frame| frame.is_some_and(|frame| frame.is_err()))
        });
        Watched::new(connection, STALL)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_body_waits_until_all_before_it_is_written() {
        let full = Cell::new(true);
        let mut connection = pin!(failing(&full));
        assert!(timeout(STALL / 2, &mut connection).await.is_err(), "bytes are unsent");
        full.set(false);
        assert_eq!(timeout(STALL / 4, connection).await, Ok(Some(true)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_no_longer_than_the_deadline() {
        let full = Cell::new(true);
        let begun = Instant::now();
        assert_eq!(failing(&full).await, None);
        assert_eq!(begun.elapsed(), STALL);
    }
}
