//! Write timeout: ends a connection, or a stream of HTTP/2, whose peer does not read its response.
//!
//! A body cannot notice that: hyper does not poll it while there is no room to write. So a body notes the time when it
//! yields bytes and clears it when it is polled again, and the future that polls it, a connection or one HTTP/2 stream,
//! compares that time with the clock. Large bodies are yielded in chunks, so that a slow reader is not taken for one
//! that does not read.
//!
//! The same future knows how often the body was polled within one poll of its own: a body that is pending is not polled
//! again within it. It also delays the failure of a body that is cut on purpose: hyper discards its unsent bytes when
//! a body fails, so over HTTP/1.1 the failure waits until they are written, or until this timeout.
//!
//! It must never allocate, take a lock or use an atomic per poll.

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
    static POLL_SCOPE: PollScope;
}

/// State of the body that is polled within one poll of [`WithWriteTimeout`].
struct PollScope {
    /// The time at which the body last yielded bytes, until it is polled again.
    yielded_at: Cell<Option<Instant>>,
    /// The body has returned `Pending` and will wake the task. hyper polls it again after each flush.
    pending: Cell<bool>,
    /// The socket accepts no more bytes, and hyper holds unsent ones.
    unsent: Cell<bool>,
    /// A body has failed, and the failure is held back until nothing is unsent.
    error_held: Cell<bool>,
}

/// The most bytes that a peer must read within the timeout.
const MAX_BODY_CHUNK: usize = 64 * 1024;

/// Resets the state for a new request: the response before has been read. (A body whose end is known in advance is
/// not polled after its last bytes, and so cannot clear its time.)
pub(super) fn reset() {
    let _outside = POLL_SCOPE.try_with(|scope| {
        scope.yielded_at.set(None);
        scope.pending.set(false);
    });
}

/// Notes whether hyper holds bytes that the socket does not accept.
pub(super) fn note_unsent(unsent: bool) {
    let _outside = POLL_SCOPE.try_with(|scope| scope.unsent.set(unsent));
}

/// A response body that notes when it yields bytes.
pub(super) struct TrackedBody {
    body: axum::body::Body,
    /// The error that is held back while bytes before it are unsent.
    failed: Option<axum::Error>,
    /// The rest of a frame larger than a chunk.
    rest: Bytes,
    /// Counts the response as in progress until it is dropped.
    _open: TaskTrackerToken,
}

impl TrackedBody {
    pub(super) fn new(body: axum::body::Body, open: TaskTrackerToken) -> Self {
        Self { body, failed: None, rest: Bytes::new(), _open: open }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = match self.failed.take() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => self.next_chunk(cx),
        };
        if let Poll::Ready(Some(Err(error))) = polled {
            if !POLL_SCOPE.try_with(|scope| scope.unsent.get()).unwrap_or_default() {
                return Poll::Ready(Some(Err(error)));
            }
            self.failed = Some(error);
            let _outside = POLL_SCOPE.try_with(|scope| scope.error_held.set(true));
            return Poll::Pending;
        }
        polled
    }

    fn next_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame))
                    if frame.data_ref().is_some_and(|data| data.len() > MAX_BODY_CHUNK) =>
                {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                other => return Poll::Ready(other),
            }
        }
        let chunk = self.rest.split_to(MAX_BODY_CHUNK.min(self.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Outside a scope, in tests, there is no timeout.
        if POLL_SCOPE.try_with(|scope| scope.pending.get()).unwrap_or_default() {
            return Poll::Pending;
        }
        let polled = self.next(cx);
        let yielded_at = matches!(polled, Poll::Ready(Some(_))).then(Instant::now);
        let _outside = POLL_SCOPE.try_with(|scope| {
            // The deadline of a held error begins once.
            let first = || scope.yielded_at.get().or_else(|| Some(Instant::now()));
            scope.yielded_at.set(if scope.error_held.get() { first() } else { yielded_at });
            scope.pending.set(polled.is_pending());
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

/// A future that polls bodies, with a timeout: it ends when the peer has not read a chunk for `write_stall`.
pub(super) struct WithWriteTimeout<F> {
    inner: Pin<Box<F>>,
    yielded_at: Option<Instant>,
    unsent: bool,
    write_stall: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<F: Future> WithWriteTimeout<F> {
    pub(super) fn new(inner: F, write_stall: Duration) -> Self {
        Self {
            inner: Box::pin(inner),
            yielded_at: None,
            unsent: false,
            write_stall,
            timer: Box::pin(sleep(write_stall)),
        }
    }

    /// Whether bytes wait for the socket, as far as [`note_unsent`] has noted.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent
    }

    pub(super) fn inner(&mut self) -> Pin<&mut F> {
        self.inner.as_mut()
    }
}

impl<F: Future> Future for WithWriteTimeout<F> {
    /// `None`: the timeout has ended it.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let scope = PollScope {
            yielded_at: Cell::new(this.yielded_at),
            pending: Cell::new(false),
            unsent: Cell::new(this.unsent),
            error_held: Cell::new(false),
        };
        let (polled, yielded_at, error_held) = POLL_SCOPE.sync_scope(scope, || {
            let polled = this.inner.as_mut().poll(cx);
            let (yielded_at, error_held) = POLL_SCOPE.with(|scope| {
                this.unsent = scope.unsent.get();
                (scope.yielded_at.get(), scope.error_held.get())
            });
            (polled, yielded_at, error_held)
        });
        this.yielded_at = yielded_at;
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Some(output));
        }
        if error_held && !this.unsent {
            cx.waker().wake_by_ref();
        }
        let Some(yielded_at) = yielded_at else {
            return Poll::Pending;
        };
        let deadline = yielded_at + this.write_stall;
        if this.timer.deadline() != deadline {
            this.timer.as_mut().reset(deadline);
        }
        // Without tokio's budget: traffic in the other direction must not delay this deadline.
        pin!(unconstrained(this.timer.as_mut())).poll(cx).map(|()| None)
    }
}

/// An executor for the streams of HTTP/2 connections, each with a write timeout of its own.
#[derive(Debug, Clone)]
pub(super) struct WriteTimeoutExecutor {
    pub(super) tasks: TaskTracker,
    pub(super) write_stall: Duration,
}

impl<F> Executor<F> for WriteTimeoutExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn(WithWriteTimeout::new(stream, self.write_stall));
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

    /// A connection whose body has failed: it ends with the failure. `full`: its socket accepts no more bytes.
    fn failing(full: &Cell<bool>) -> WithWriteTimeout<impl Future<Output = bool>> {
        let cut = axum::body::Body::from_stream(iter([Err::<Bytes, _>(io::Error::other("cut"))]));
        let mut body = TrackedBody::new(cut, TaskTracker::new().token());
        let connection = poll_fn(move |cx| {
            if full.get() {
                note_unsent(true);
            }
            let polled = Pin::new(&mut body).poll_frame(cx);
            // As hyper flushes after it has polled the body.
            note_unsent(full.get());
            polled.map(|frame| frame.is_some_and(|frame| frame.is_err()))
        });
        WithWriteTimeout::new(connection, STALL)
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
