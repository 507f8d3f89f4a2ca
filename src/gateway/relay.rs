//! The streaming loop: an [`Answer`] to the caller's bytes.
//!
//! It is polled, not spawned. The caller's reading speed is the back-pressure; dropping the body is
//! the cancellation; and whatever must happen at the end happens in `Drop`, on every way out.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::time::Duration;

use async_stream::stream;
use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use super::account::Record;
use super::answer::Answer;
use crate::config;
use crate::error::Error;
use crate::wire::chat::{Deadline, End};
use crate::wire::dialect::{Call, CallerDialect, Ending, Mode};

/// How long an upstream may take to end its body after its dialect's terminal, or to count its tokens
/// after its last word.
const DRAIN: Duration = Duration::from_secs(1);

/// What a relay needs besides the answer.
pub struct Session {
    /// The caller's dialect.
    pub dialect: &'static dyn CallerDialect,
    /// The identity of the answer.
    pub call: Call,
    /// The deadlines.
    pub stream: config::Stream,
    /// When the request came in.
    pub started: Instant,
    /// Cancelled when streams must end because the process does.
    pub closing: CancellationToken,
    /// Owns what outlives a request by a moment.
    pub tasks: TaskTracker,
}

/// An answer that is still being opened.
pub type Opening = Pin<Box<dyn Future<Output = Result<Box<Answer>, Error>> + Send>>;

/// How far an answer has come when its response head is sent.
pub enum Start {
    /// Its first output is there.
    Opened(Box<Answer>),
    /// `commit_after` has passed without any.
    Opening(Opening),
}

/// What lives as long as the body. The fields drop in this order: the upstream is closed, the
/// account settled, and with it what was admitted.
struct Live {
    answer: Option<Box<Answer>>,
    record: Record,
    /// Owns what outlives the body by a moment.
    tasks: TaskTracker,
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        self.record.settle(answer.transcoder.tally(), answer.transcoder.end());
        // A runtime that is being shut down drops the future, which settles all the same.
        if answer.is_uncounted()
            && let Ok(runtime) = Handle::try_current()
        {
            self.tasks.spawn_on(count(answer, self.record.take()), &runtime);
        }
    }
}

/// Waits for the count of an answer whose caller left between its last word and that: hidden reasoning
/// is in nothing else.
async fn count(mut answer: Box<Answer>, mut record: Record) {
    let counted = async {
        while answer.is_uncounted() {
            let chunk = answer.response.chunk().await;
            answer.take(chunk);
            answer.ready.clear();
        }
    };
    // Without it, the estimate stands.
    timeout(DRAIN, counted).await.unwrap_or_default();
    record.settle(answer.transcoder.tally(), None);
}

impl Live {
    fn serve(&mut self, answer: Box<Answer>) {
        self.record.served_by(&answer.target, answer.attempts);
        if answer.transcoder.tally().outputs > 0 {
            self.record.output(answer.first_output);
        }
        self.answer = Some(answer);
    }

    /// Settles the account of an answer that has ended, and lets go of its upstream. That of a
    /// complete answer is read to the end of its bytes, or its connection would be lost to the
    /// pool. Mostly the end has come with the terminal; if not, a task waits for it. The upstream
    /// of an answer that the gateway ended at a stop string is closed instead: it would generate on, and bill.
    fn finish(&mut self, tasks: &TaskTracker) {
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        self.record.settle(answer.transcoder.tally(), answer.transcoder.end());
        let stopped_early = answer.transcoder.tally().stopped_early;
        if stopped_early || answer.transcoder.end() != Some(&End::Complete) {
            return;
        }
        loop {
            match answer.response.chunk().now_or_never() {
                Some(Ok(Some(_))) => {}
                Some(Ok(None) | Err(_)) => return,
                None => break,
            }
        }
        let mut response = answer.response;
        tasks.spawn(timeout(
            DRAIN,
            async move { while let Ok(Some(_)) = response.chunk().await {} },
        ));
    }
}

/// The error of a body that is cut on purpose, after its stream's error was written in-band. The HTTP
/// server answers it by closing the connection without a last chunk, or by `RST_STREAM`.
#[derive(Debug)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream failed, and its body is cut so that clients notice")
    }
}

impl std::error::Error for Aborted {}

/// The body of a streamed answer. A failure is written in-band, in the caller's dialect; the body itself
/// fails only after that, where the dialect wants it cut ([`Ending`]).
pub fn stream(
    start: Start,
    session: Session,
    record: Record,
) -> impl Stream<Item = Result<Bytes, Aborted>> + Send {
    let mut relay = Relay::new(start, session, record);
    stream! {
        loop {
            // A panic ends the stream honestly, and only this stream (failure mode 54).
            let next = AssertUnwindSafe(relay.next()).catch_unwind().await;
            match next.unwrap_or_else(|_| Some(relay.broken())) {
                Some(bytes) => yield Ok(bytes),
                None => break,
            }
        }
        if let Ending::Aborted { error } = std::mem::take(&mut relay.ending) {
            // The server writes what it was given when the body has nothing more for the moment.
            yield_now().await;
            if !error.is_empty() {
                yield Ok(error);
                yield_now().await;
            }
            yield Err(Aborted);
        }
    }
}

/// A relay under way. Dropping it closes the upstream and settles the account, which returns what was
/// admitted.
struct Relay {
    live: Live,
    session: Session,
    /// The answer is not there yet, but the response head has been sent.
    opening: Option<Opening>,
    clock: Clock,
    timer: Pin<Box<Sleep>>,
    /// Polled only when it has something to say, not with every token.
    closing: FuturesUnordered<WaitForCancellationFutureOwned>,
    ended: bool,
    /// How the body ends after the last bytes.
    ending: Ending,
}

impl Relay {
    fn new(start: Start, session: Session, record: Record) -> Self {
        let mut live = Live { answer: None, record, tasks: session.tasks.clone() };
        let opening = match start {
            Start::Opening(opening) => Some(opening),
            Start::Opened(answer) => {
                live.serve(answer);
                None
            }
        };
        let clock = Clock::new(&session);
        Self {
            live,
            opening,
            timer: Box::pin(sleep_until(clock.next())),
            clock,
            closing: FuturesUnordered::from_iter([session.closing.clone().cancelled_owned()]),
            session,
            ended: false,
            ending: Ending::Closed,
        }
    }

    /// The caller's next bytes; `None` after the last ones.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            if self.opening.is_some() {
                if let Some(bytes) = self.open().await {
                    return Some(bytes);
                }
                continue;
            }
            if let Some(bytes) = self.ready() {
                return Some(bytes);
            }
            if let Some(bytes) = self.wait().await {
                return Some(bytes);
            }
        }
        None
    }

    /// Ends a relay that panicked, with the event that tells the caller so.
    fn broken(&mut self) -> Bytes {
        self.ended = true;
        self.live.answer = None;
        self.live.record.failed(&Error::internal("the relay panicked"));
        let error = Error::internal("the gateway failed while relaying this stream");
        self.error_event(&error.to_end())
    }

    /// Tells an end in the caller's dialect when no answer has begun.
    fn error_event(&mut self, end: &End) -> Bytes {
        let mut event = BytesMut::new();
        let mut encoder = self.session.dialect.encoder(&self.session.call, Mode::Translated);
        encoder.finish(end, None, &mut event);
        self.ending = encoder.ending();
        event.freeze()
    }

    /// Waits for the answer; meanwhile keeps the caller's connection alive.
    async fn open(&mut self) -> Option<Bytes> {
        let opened = tokio::select! {
            biased;
            opened = self.opening.as_mut()? => opened,
            Some(()) = self.closing.next() => Err(Error::from_end(&End::ShuttingDown)),
            () = sleep_until(self.clock.written + self.session.stream.heartbeat) => {
                return Some(self.heartbeat(Instant::now()));
            }
        };
        self.opening = None;
        match opened {
            Ok(answer) => {
                self.clock.output = answer.first_output;
                self.live.serve(answer);
                self.timer.as_mut().reset(self.clock.next());
                None
            }
            Err(error) => {
                self.ended = true;
                self.live.record.failed(&error);
                Some(self.error_event(&error.to_end()))
            }
        }
    }

    /// What is there to be sent at once, and the end of the relay with the end of the answer.
    fn ready(&mut self) -> Option<Bytes> {
        let answer = self.live.answer.as_mut()?;
        if answer.ready.is_empty() && answer.transcoder.end().is_none() {
            return None;
        }
        let bytes = answer.take_ready();
        if answer.transcoder.end().is_some() {
            self.ended = true;
            self.ending = answer.ending();
            self.live.finish(&self.session.tasks);
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Waits for the upstream, or for something that must happen without it.
    async fn wait(&mut self) -> Option<Bytes> {
        let answer = self.live.answer.as_mut()?;
        tokio::select! {
            biased;
            chunk = answer.response.chunk() => {
                let now = Instant::now();
                if answer.take_all(chunk, now).await {
                    self.live.record.output(now);
                    self.clock.output = now;
                    if let Err(error) = self.live.record.cover(answer.transcoder.tally()) {
                        answer.transcoder.abort(error.to_end(), &mut answer.ready);
                    }
                }
                // What writes nothing, such as an upstream's ping, is no sign of life to the caller.
                if answer.ready.is_empty() && answer.transcoder.end().is_none() {
                    return self.due();
                }
                self.clock.written = now;
            }
            Some(()) = self.closing.next() => answer.transcoder.abort(End::ShuttingDown, &mut answer.ready),
            () = self.timer.as_mut() => return self.due(),
        }
        None
    }

    /// What time demands: the end of the answer, or a heartbeat. Asked too early, nothing.
    fn due(&mut self) -> Option<Bytes> {
        let answer = self.live.answer.as_mut()?;
        let now = Instant::now();
        let silent = now >= self.clock.written + self.session.stream.heartbeat;
        let heartbeat = match self.clock.passed(now) {
            Some(deadline) => {
                answer.transcoder.abort(End::TimedOut(deadline), &mut answer.ready);
                None
            }
            None => silent.then(|| self.heartbeat(now)),
        };
        self.timer.as_mut().reset(self.clock.next());
        heartbeat
    }

    fn heartbeat(&mut self, now: Instant) -> Bytes {
        self.clock.written = now;
        self.live.record.heartbeat();
        self.session.dialect.heartbeat(&self.session.call)
    }
}

/// Collects an answer for a caller who wants it whole.
pub async fn collect(
    answer: Box<Answer>,
    session: &Session,
    record: &mut Record,
) -> Result<Bytes, Error> {
    record.served_by(&answer.target, answer.attempts);
    let mut answer = answer;
    if answer.transcoder.tally().outputs > 0 {
        record.output(answer.first_output);
    }
    let mut clock = Clock::new(session);
    let mut closing = pin!(session.closing.cancelled());
    let mut spent = None;
    while answer.transcoder.end().is_none() {
        tokio::select! {
            biased;
            chunk = answer.response.chunk() => {
                let now = Instant::now();
                if answer.take_all(chunk, now).await {
                    clock.output = now;
                    record.output(now);
                    if answer.transcoder.end().is_none()
                        && let Err(error) = record.cover(answer.transcoder.tally())
                    {
                        answer.transcoder.abort(error.to_end(), &mut answer.ready);
                        spent = Some(error);
                    }
                }
            }
            () = sleep_until(clock.deadline()) => {
                let deadline = clock.passed(Instant::now()).unwrap_or(Deadline::Stall);
                answer.transcoder.abort(End::TimedOut(deadline), &mut answer.ready);
            }
            () = &mut closing => answer.transcoder.abort(End::ShuttingDown, &mut answer.ready),
        }
        // What was used up counts, even if the caller leaves before the rest.
        record.settle(answer.transcoder.tally(), None);
    }
    let end = answer.transcoder.end().cloned().unwrap_or(End::Truncated);
    record.settle(answer.transcoder.tally(), Some(&end));
    match spent {
        _ if end == End::Complete => Ok(answer.take_ready()),
        Some(error) => Err(error),
        None => Err(answer.failure(&end)),
    }
}

/// When something must happen although nothing does.
struct Clock {
    /// When the caller was last written to.
    written: Instant,
    /// When the last model output came.
    output: Instant,
    heartbeat: Duration,
    stall: Duration,
    total: Option<Instant>,
}

impl Clock {
    fn new(session: &Session) -> Self {
        let now = Instant::now();
        Self {
            written: now,
            output: now,
            heartbeat: session.stream.heartbeat,
            stall: session.stream.stall,
            total: session.stream.total.map(|total| session.started + total),
        }
    }

    fn deadline(&self) -> Instant {
        let stalled = self.output + self.stall;
        self.total.map_or(stalled, |total| total.min(stalled))
    }

    /// The next moment at which to look. Output in the meantime only makes the look too early.
    fn next(&self) -> Instant {
        self.deadline().min(self.written + self.heartbeat)
    }

    fn passed(&self, now: Instant) -> Option<Deadline> {
        if self.total.is_some_and(|total| now >= total) {
            return Some(Deadline::Total);
        }
        (now >= self.output + self.stall).then_some(Deadline::Stall)
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
