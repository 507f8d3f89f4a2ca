//! Productions: an answer under way, from the first attempt to its end, as bytes of the caller's dialect. A production
//! keeps the upstream's deadlines and the account. It must never know of a connection, nor write a heartbeat.
//!
//! It is polled, not spawned: what reads it sets the pace of the upstream, and dropping it cancels the upstream request.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::account::Account;
use super::answer::{Answer, MAX_HOLD};
use super::continuation::{Asking, Continuable};
use super::kept_state::Keep;
use super::opening::Opening;
use super::upstream_request::RequestContext;
use crate::config::SlowAction;
use crate::error::Error;
use crate::wire::chat::{Deadline, End};
use crate::wire::dialect::{Ending, Mode};

#[path = "production_alarm.rs"]
mod alarm;
#[path = "production_continued.rs"]
mod continued;
#[path = "production_deadlines.rs"]
mod deadlines;

use alarm::{Alarm, Waited};
use deadlines::Deadlines;

/// The time that an upstream has to end its body after its dialect's terminal, or to report its usage
/// after its last output.
const UPSTREAM_DRAIN: Duration = Duration::from_secs(1);

/// An answer under way. Dropping it closes the upstream and settles the account, which releases the admission.
pub struct Production {
    context: Arc<RequestContext>,
    phase: Phase,
    deadlines: Deadlines,
    /// Made when it first has to wait: a short answer arrives at once.
    alarm: Option<Alarm>,
    /// The time at which it last had bytes for the caller.
    produced: Instant,
    /// The error if the tokens of the caller's limits do not allow the whole answer.
    spent: Option<Error>,
    /// The error of an answer that is collected.
    error: Option<Error>,
    /// The end of the answer, once it is known.
    end: Option<End>,
    /// The storing of the response.
    keep: Option<Keep>,
    ending: Ending,
    /// The means to continue the answer.
    continuable: Option<Box<Continuable>>,
}

/// The phase of an answer.
enum Phase {
    /// No target has answered yet.
    Opening(Box<Opening>, Box<Account>),
    /// Output is coming.
    Streaming(Box<Answer>, Box<Account>),
    /// The answer broke off, and another target is asked to go on with it.
    Continuing(Box<Answer>, Box<Account>, Asking),
    /// There is nothing more. The account is settled, and is dropped with the production.
    Ended(Option<Box<Account>>),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Ended(None)
    }
}

/// The next event of a production.
#[derive(Debug)]
pub enum Next {
    /// Bytes for the caller: whole events.
    Bytes(Bytes),
    /// Nothing by the time that was given.
    Idle,
    /// Nothing more.
    Ended,
}

impl Production {
    /// A production whose attempts have not begun.
    pub fn new(opening: Opening, context: Arc<RequestContext>, account: Box<Account>) -> Self {
        let now = Instant::now();
        Self {
            phase: Phase::Opening(Box::new(opening), account),
            deadlines: Deadlines {
                output: now,
                stall: context.stream.stall,
                total: context.stream.total.map(|total| context.time.started + total),
            },
            context,
            alarm: None,
            produced: now,
            spent: None,
            error: None,
            end: None,
            keep: None,
            ending: Ending::Closed,
            continuable: None,
        }
    }

    /// The same, whose response is stored when it is whole.
    #[must_use]
    pub fn keeping(mut self, keep: Option<Keep>) -> Self {
        self.keep = keep;
        self
    }

    /// Waits for the first output of an answer. After an error, there is nothing more. Cancel-safe.
    pub async fn open(&mut self) -> Result<(), Error> {
        let Phase::Opening(opening, _) = &mut self.phase else { return Ok(()) };
        let opened = self.context.closing.run_until_cancelled(opening.answer()).await;
        self.opened(opened.unwrap_or_else(|| Err(Error::from_end(&End::ShuttingDown))))
    }

    /// Waits for the next bytes, but no longer than to the time that is given. Errors are written in-band, in the
    /// caller's dialect. Must be polled to its end: the account is updated after a chunk's output is there.
    pub async fn next(&mut self, until: Option<Instant>) -> Next {
        loop {
            match &self.phase {
                Phase::Ended(_) => return Next::Ended,
                Phase::Opening(..) => {
                    if let Some(next) = self.wait_for_answer(until).await {
                        return next;
                    }
                }
                Phase::Streaming(..) => {
                    let ready = self.take_ready();
                    let held = self.is_held();
                    if self.has_ended() && !held {
                        self.finish(ready.as_deref().unwrap_or_default()).await;
                    }
                    if let Some(bytes) = ready {
                        return Next::Bytes(bytes);
                    }
                    if held {
                        self.ask_to_continue();
                        continue;
                    }
                    if self.wait_for_output(until).await {
                        return Next::Idle;
                    }
                }
                Phase::Continuing(..) => {
                    if self.wait_for_continuation(until).await {
                        return Next::Idle;
                    }
                }
            }
        }
    }

    /// The context of its request.
    pub fn context(&self) -> &Arc<RequestContext> {
        &self.context
    }

    /// The time at which it last had bytes for the caller.
    pub fn produced(&self) -> Instant {
        self.produced
    }

    /// The end of the body, after its last bytes. Taken once.
    pub fn take_ending(&mut self) -> Ending {
        std::mem::take(&mut self.ending)
    }

    /// The end of the answer, after its last bytes.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The error of a collected answer, if it failed.
    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// The target that answers, and the upstream's headers that may be passed on; `None` before it does.
    pub fn take_head(&mut self) -> Option<(&str, HeaderMap)> {
        let Phase::Streaming(answer, account) = &mut self.phase else { return None };
        Some((account.target(), std::mem::take(&mut answer.headers)))
    }

    /// Its account, until it has ended.
    pub fn account(&mut self) -> Option<&mut Account> {
        match &mut self.phase {
            Phase::Opening(_, account)
            | Phase::Streaming(_, account)
            | Phase::Continuing(_, account, _) => Some(account),
            Phase::Ended(account) => account.as_deref_mut(),
        }
    }

    /// Takes the bytes that are there, without waiting for others.
    pub fn take_pending(&mut self) -> Bytes {
        self.take_ready().unwrap_or_default()
    }

    /// Cancels it: the next bytes are the error event for the caller. One that is being opened has none.
    pub fn cancel(&mut self) {
        if let Phase::Opening(..) = &self.phase {
            let account = self.leave();
            self.end = Some(End::Cancelled);
            self.phase = Phase::Ended(account);
        }
        self.abort(End::Cancelled);
    }

    /// Ends an answer for a reason of the gateway's own.
    pub fn abort(&mut self, end: End) {
        self.stop_continuing();
        if let Phase::Streaming(answer, _) = &mut self.phase {
            answer.transcoder.abort(end, &mut answer.ready);
        }
    }

    /// Records an error in the place of an answer, after [`Production::open`] has returned it. Returns the error
    /// event for callers who have the status 200 all the same (`promised`); for them, a failed response is stored.
    pub fn reject(&mut self, error: &Error, promised: bool) -> Bytes {
        let status = self.context.dialect.status(error.shown().kind);
        if let Some(account) = self.account() {
            account.failed(error);
            account.responded(status);
        }
        let end = error.to_end();
        let event = self.error_event(&end);
        if let Some(keep) = self.keep.take().filter(|_| promised) {
            keep.keep(&event, Some(&end));
        }
        event
    }

    /// Ends it and returns its account.
    pub fn into_account(mut self) -> Option<Box<Account>> {
        self.leave()
    }

    /// Ends it because of an internal error. Returns the error event for the caller.
    pub fn fail(&mut self) -> Bytes {
        let account = match std::mem::take(&mut self.phase) {
            Phase::Opening(opening, mut account) => {
                account.attempted(opening.into_attempts());
                Some(account)
            }
            Phase::Streaming(_, account) | Phase::Continuing(_, account, _) => Some(account),
            Phase::Ended(account) => account,
        };
        self.phase = Phase::Ended(account);
        if let Some(account) = self.account() {
            account.failed(&Error::internal("the production of the answer panicked"));
        }
        let error = Error::internal("the gateway failed while relaying this stream");
        self.error_event(&error.to_end())
    }

    /// Takes note of the answer that has begun, or that there is none.
    fn opened(&mut self, opened: Result<(usize, Box<Answer>), Error>) -> Result<(), Error> {
        let Phase::Opening(opening, mut account) = std::mem::take(&mut self.phase) else {
            return Ok(());
        };
        self.continuable = opening.continuable().map(Box::new);
        account.attempted(opening.into_attempts());
        let (index, mut answer) = match opened {
            Ok(answer) => answer,
            Err(error) => {
                self.phase = Phase::Ended(Some(account));
                return Err(error);
            }
        };
        account.served_by(index);
        if answer.transcoder.tally().outputs > 0 {
            account.output(answer.first_output);
            // More than the first output may have arrived with it.
            self.spent = cover(&mut answer, &mut account);
        }
        self.deadlines.output = answer.first_output;
        self.phase = Phase::Streaming(answer, account);
        Ok(())
    }

    async fn wait_for_answer(&mut self, until: Option<Instant>) -> Option<Next> {
        let Phase::Opening(opening, _) = &mut self.phase else { return None };
        let alarm = self.alarm.get_or_insert_with(|| Alarm::new(&self.context.closing));
        let opened = match alarm.wait(opening.answer(), until).await {
            Waited::Done(opened) => opened,
            Waited::Closing => Err(Error::from_end(&End::ShuttingDown)),
            Waited::Idle => return Some(Next::Idle),
        };
        alarm.set = false;
        let error = self.opened(opened).err()?;
        if let Some(account) = self.account() {
            account.failed(&error);
        }
        Some(Next::Bytes(self.error_event(&error.to_end())))
    }

    /// Writes an end in the caller's dialect when no answer has begun.
    fn error_event(&mut self, end: &End) -> Bytes {
        let mut event = BytesMut::new();
        let mut encoder = self.context.dialect.encoder(&self.context.call, Mode::Translated);
        encoder.finish(end, None, &mut event);
        self.end = Some(end.clone());
        self.ending = encoder.ending();
        event.freeze()
    }

    /// Takes the bytes that are there.
    fn take_ready(&mut self) -> Option<Bytes> {
        let Phase::Streaming(answer, _) = &mut self.phase else { return None };
        (!answer.ready.is_empty()).then(|| answer.take_ready())
    }

    /// Whether there will be no bytes after those that are there.
    fn has_ended(&self) -> bool {
        matches!(&self.phase, Phase::Streaming(answer, _) if answer.transcoder.end().is_some())
    }

    /// Waits for the upstream, or for something that must happen without it. Returns whether there is nothing by the
    /// time that was given.
    async fn wait_for_output(&mut self, until: Option<Instant>) -> bool {
        let Phase::Streaming(answer, account) = &mut self.phase else { return false };
        let alarm = self.alarm.get_or_insert_with(|| Alarm::new(&self.context.closing));
        let look = answer.rate.as_mut().map(|rate| rate.wait(Instant::now()));
        let look = look.into_iter().chain(until).min();
        if alarm.is_late(look) {
            alarm.set(self.deadlines.next(look));
        }
        let now = tokio::select! {
            biased;
            chunk = answer.source.chunk() => {
                let now = Instant::now();
                if answer.take_all(chunk, now, MAX_HOLD).await {
                    account.output(now);
                    self.deadlines.output = now;
                    self.spent = cover(answer, account);
                }
                check_rate(answer, now);
                if !answer.ready.is_empty() || answer.transcoder.end().is_some() {
                    self.produced = now;
                    return false;
                }
                // A chunk that writes nothing, such as an upstream's ping, does not replace a heartbeat.
                now
            }
            Some(()) = alarm.closing.next() => {
                answer.transcoder.abort(End::ShuttingDown, &mut answer.ready);
                return false;
            }
            () = alarm.timer.as_mut() => {
                alarm.set = false;
                let now = Instant::now();
                check_rate(answer, now);
                now
            }
        };
        if let Some(deadline) = self.deadlines.passed(now) {
            answer.transcoder.abort(End::TimedOut(deadline), &mut answer.ready);
            return false;
        }
        until.is_some_and(|until| now >= until)
    }

    /// Settles the account of an answer that has ended, and releases its upstream before the caller has the last bytes,
    /// so that the caller's next request finds the connection in the pool. Mostly the end of the upstream's body has come
    /// with the terminal; if not, a task waits for it. `last`: its last bytes.
    async fn finish(&mut self, last: &[u8]) {
        let Phase::Streaming(mut answer, mut account) = std::mem::take(&mut self.phase) else {
            return;
        };
        let (tally, end) = (answer.transcoder.tally(), answer.transcoder.end().cloned());
        account.settle(tally, end.as_ref());
        match (&answer.in_progress, &end) {
            (Some(in_progress), Some(End::Complete)) => {
                in_progress.completed(tally);
            }
            (Some(in_progress), Some(end)) if is_broken(end) => {
                in_progress.broke(&answer.failure(end));
            }
            _ => {}
        }
        self.phase = Phase::Ended(Some(account));
        if end != Some(End::Complete) && !self.context.call.stream {
            let failure = || answer.failure(end.as_ref().unwrap_or(&End::Truncated));
            self.error = Some(self.spent.take().unwrap_or_else(failure));
        }
        if let Some(keep) = self.keep.take() {
            keep.keep(last, end.as_ref());
        }
        self.end = end;
        self.ending = answer.ending();
        if !answer.read_to_end().await {
            self.context.tasks.spawn(timeout(UPSTREAM_DRAIN, answer.source.discard()));
        }
    }

    /// Closes the upstream of an answer that was abandoned, and settles the account.
    fn leave(&mut self) -> Option<Box<Account>> {
        match std::mem::take(&mut self.phase) {
            Phase::Opening(opening, mut account) => {
                account.attempted(opening.into_attempts());
                Some(account)
            }
            Phase::Streaming(answer, mut account) | Phase::Continuing(answer, mut account, _) => {
                account.settle(answer.transcoder.tally(), answer.transcoder.end());
                // A runtime that is being shut down drops the future, which settles all the same.
                if answer.is_uncounted()
                    && let Ok(runtime) = Handle::try_current()
                {
                    self.context.tasks.spawn_on(count(answer, account), &runtime);
                    return None;
                }
                // The upstream first, then the admission.
                drop(answer);
                Some(account)
            }
            Phase::Ended(account) => account,
        }
    }
}

impl Drop for Production {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Reserves tokens for the output so far of an answer that goes on. Without them the answer ends, and the error is
/// returned.
fn cover(answer: &mut Answer, account: &mut Account) -> Option<Error> {
    if answer.transcoder.end().is_some() {
        return None;
    }
    let error = account.cover(answer.transcoder.tally()).err()?;
    answer.transcoder.abort(error.to_end(), &mut answer.ready);
    Some(error)
}

/// Waits for the usage of an answer whose caller disconnected between the last output and the usage: hidden
/// reasoning is counted nowhere else.
async fn count(mut answer: Box<Answer>, mut account: Box<Account>) {
    let counted = async {
        while answer.is_uncounted() {
            let chunk = answer.source.chunk().await;
            answer.take(chunk);
            answer.ready.clear();
        }
    };
    // Without it, the estimate stands.
    timeout(UPSTREAM_DRAIN, counted).await.unwrap_or_default();
    account.settle(answer.transcoder.tally(), None);
}

/// Ends a wait for output. An answer that is too slow is its target's fault, once, and may break off.
fn check_rate(answer: &mut Answer, now: Instant) {
    let tally = answer.transcoder.tally();
    let (bytes, has_stopped) = (tally.output_bytes, tally.stop.is_some());
    let Some(mut rate) = answer.rate.take() else { return };
    if !rate.waited(bytes, now) {
        answer.rate = Some(rate);
        return;
    }
    let action = rate.action();
    if has_stopped || answer.transcoder.end().is_some() {
        return;
    }
    if let Some(in_progress) = &answer.in_progress {
        in_progress.slowed(action, now);
    }
    if action == SlowAction::Break {
        answer.transcoder.abort(End::TimedOut(Deadline::Rate), &mut answer.ready);
    }
}

/// Whether an answer has ended through a fault of its upstream.
fn is_broken(end: &End) -> bool {
    let stalled = matches!(end, End::TimedOut(Deadline::Stall | Deadline::Rate));
    stalled || matches!(end, End::Truncated | End::Failed(_))
}
