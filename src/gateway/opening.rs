//! Failover: attempts at one target after the other, until an answer has begun. Errors that the caller did not cause
//! fail over to the next target; errors that it did cause are returned. It must never give up an answer of which
//! anything was forwarded, nor let a failed attempt take more than its share of the one deadline of the request.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use super::answer::Answer;
use super::attempt::Attempt;
use super::continuation::Continuable;
use super::offload::RequestBody;
use super::route::Plan;
use super::select::{ByTier, Select, Selection};
use super::target_health::{FailedAttempt, InProgress, OpenStream, Probe};
use super::upstream::{self, AttemptDeadline, AttemptError};
use super::upstream_body::{large_body, small_body};
use super::upstream_request::UpstreamRequest;
use super::{access_log, count, request_spans};
use crate::config::Target;
use crate::error::{self, Blame, Error, Side};
use crate::wire::adapt::Written;
use crate::wire::chat::Kind;

/// The share of the remaining time that an attempt gets while another target may follow: one part in this many.
const ATTEMPT_SHARE: u32 = 2;

/// The most rejected credentials that one request meets.
const MAX_KEYS: usize = 8;

/// A target that hung for less than this part of `first_token` has not had a fair chance.
const FAIR_SHARE: u32 = 4;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The attempts of one request, up to the first one that answers. They are its fields, so that they outlive the futures
/// which wait for them.
pub struct Opening {
    request: Arc<UpstreamRequest>,
    select: Box<dyn Select>,
    attempts: Vec<Attempt>,
    current: Option<(Turn, Step)>,
    failures: Failures,
}

/// The attempt under way: its place among the attempts, and what its selection grants it.
struct Turn {
    index: usize,
    followed: bool,
    shares_time: bool,
    /// Given back when the turn is over.
    _probe: Option<Probe>,
    /// Handed to the answer.
    stream: Option<OpenStream>,
}

/// The step that an attempt waits for.
enum Step {
    /// The body for the upstream, which another thread writes because it is large.
    Body(Boxed<Result<Written, Error>>),
    /// The first output of the answer.
    Answer(Boxed<Result<Box<Answer>, Box<AttemptError>>>),
}

/// The result of a step.
enum Stepped {
    Body(Result<Written, Error>),
    Answer(Result<Box<Answer>, Box<AttemptError>>),
}

impl Opening {
    /// The attempts of a request, none of which has begun.
    pub fn new(request: UpstreamRequest) -> Self {
        let select = Box::new(ByTier::new(Arc::clone(&request.health)));
        Self {
            request: Arc::new(request),
            select,
            // Mostly there is one, and it is kept as long as the stream lives.
            attempts: Vec::with_capacity(1),
            current: None,
            failures: Failures::default(),
        }
    }

    /// Waits for the first target that answers. Returns the answer with the index of its attempt. Cancel-safe.
    pub async fn answer(&mut self) -> Result<(usize, Box<Answer>), Error> {
        while self.current.is_some() || self.begin() {
            let stepped = match &mut self.current {
                Some((_, Step::Body(body))) => Stepped::Body(body.as_mut().await),
                Some((_, Step::Answer(answer))) => Stepped::Answer(answer.as_mut().await),
                // Its body could not be written.
                None => continue,
            };
            let Some((mut turn, _)) = self.current.take() else { continue };
            match stepped {
                Stepped::Body(Ok(written)) => self.send(turn, written),
                Stepped::Body(Err(error)) => {
                    self.failed(&turn, AttemptError { error, partial: None });
                }
                Stepped::Answer(Err(failure)) => self.failed(&turn, *failure),
                Stepped::Answer(Ok(mut answer)) => {
                    self.succeeded(&mut turn, &mut answer);
                    return Ok((turn.index, answer));
                }
            }
        }
        let (index, answer) = std::mem::take(&mut self.failures).best()?;
        self.answered(index);
        Ok((index, answer))
    }

    /// The means to continue its answer, if that may be done.
    pub(super) fn continuable(&self) -> Option<Continuable> {
        Continuable::of(&self.request)
    }

    /// The attempts, after which no others follow. The one under way is closed.
    pub fn into_attempts(self) -> Vec<Attempt> {
        self.attempts
    }

    /// Begins the next attempt. Returns whether there was one.
    fn begin(&mut self) -> bool {
        let now = Instant::now();
        let request = Arc::clone(&self.request);
        if self.failures.are_final || !may_attempt(&request.plan, &self.attempts) {
            return false;
        }
        let Some(selection) = self.select.next(&request.plan, &self.attempts, now) else {
            return false;
        };
        let Selection { target, why, followed, shares_time, probe, stream } = selection;
        let (index, stream) = (self.attempts.len(), Some(stream));
        let turn = Turn { index, followed, shares_time, _probe: probe, stream };
        request.count_pick(&target, why);
        let whole = request.is_whole(&target.provider);
        self.attempts.push(Attempt::new((target.clone(), why), whole, now));
        if count::is_estimated(&request, &target) {
            let estimate = async move { Ok(count::checked_estimate(&request, &target).await?) };
            self.current = Some((turn, Step::Answer(Box::pin(estimate))));
            return true;
        }
        match &request.body {
            RequestBody::Large(body) => {
                let body = large_body(&request, body, target);
                self.current = Some((turn, Step::Body(Box::pin(body))));
            }
            RequestBody::Small(body) => match small_body(&request, body, &target) {
                Ok(written) => self.send(turn, written),
                // Another target's dialect may be able to express what this one's cannot.
                Err(error) => self.failed(&turn, AttemptError { error, partial: None }),
            },
        }
        true
    }

    /// Sends an attempt's request.
    #[expect(clippy::expect_used, reason = "what has a turn is one of the attempts")]
    fn send(&mut self, turn: Turn, written: Written) {
        let number = self.attempts.len();
        let attempt = self.attempts.get_mut(turn.index).expect("the attempt of this turn");
        let request = Arc::clone(&self.request);
        let now = Instant::now();
        attempt.sent = Some(now);
        attempt.span = request_spans::begin(&request.trace, attempt, number);
        let mut traced = HeaderMap::new();
        request.trace.pass_on(attempt.span.as_ref(), &mut traced);
        let target = attempt.target.clone();
        let limits = attempt_deadline(&request, &target, &turn, now);
        let answer = async move {
            match upstream::attempt(&request, &target, written, limits, traced).await {
                Err(failure) if count::is_unsupported(&request, &failure.error) => {
                    Ok(count::estimate(&request, &target).await?)
                }
                answered => answered,
            }
        };
        self.current = Some((turn, Step::Answer(Box::pin(answer))));
    }

    /// Takes account of an answer that has begun.
    fn succeeded(&mut self, turn: &mut Turn, answer: &mut Answer) {
        let request = Arc::clone(&self.request);
        let attempt = self.answered(turn.index);
        if count::is_estimated(&request, &attempt.target) {
            return;
        }
        let now = Instant::now();
        answer.in_progress = turn.stream.take().map(|mut stream| {
            stream.has_output(now);
            InProgress::new(stream, &request.health, attempt.target.clone())
        });
        request.health.succeeded(&attempt.target, now);
        if let Some(wait) = answer.spent {
            request.health.limited(&attempt.target, wait, now);
        }
    }

    #[expect(clippy::expect_used, reason = "what has answered is one of the attempts")]
    fn answered(&mut self, index: usize) -> &Attempt {
        let attempt = self.attempts.get_mut(index).expect("the attempt that answered");
        attempt.answered = true;
        attempt
    }

    #[expect(clippy::expect_used, reason = "what has a turn is one of the attempts")]
    fn failed(&mut self, turn: &Turn, AttemptError { error, partial }: AttemptError) {
        let now = Instant::now();
        let request = &self.request;
        let attempt = self.attempts.get_mut(turn.index).expect("the attempt of this turn");
        let error = blame_caller(request, error)
            .counted(request.context.call.input_estimate, attempt.target.context);
        attempt.fail(&error);
        if error.side() != Side::Caller && !error.is_unavailable() {
            let own = attempt.target.first_token;
            let patience = own.unwrap_or(request.context.stream.first_token);
            let timed = now - attempt.begun >= patience / FAIR_SHARE;
            let failed = FailedAttempt { target: &attempt.target, error: &error, timed };
            request.health.failed(&request.plan, &failed, now);
            access_log::attempt_failed(request, attempt, &error);
            if let Some(span) = attempt.span.take() {
                request_spans::fail(&span, &error);
            }
        }
        self.failures.are_final = !goes_on(request, &error, now);
        self.failures.add(error, partial, (turn.index, attempt));
    }
}

/// A model that the caller itself named at a provider is the caller's to correct.
fn blame_caller(request: &UpstreamRequest, error: Error) -> Error {
    let named = request.plan.direct && error.fault().kind == Kind::NotFound;
    if named && error.side() == Side::Upstream { error.blamed(Blame::Caller) } else { error }
}

/// Whether a request may be sent to another target after these attempts. Rejected credentials do not count, but for a
/// bound of their own.
fn may_attempt(plan: &Plan, attempts: &[Attempt]) -> bool {
    let rejected = |attempt: &&Attempt| {
        let blames = [Blame::Credential, Blame::Account];
        attempt.error.is_some_and(|error| blames.contains(&error.blame))
    };
    let keys = attempts.iter().filter(rejected).count();
    let sent = attempts.iter().filter(|attempt| attempt.sent.is_some() && !rejected(attempt));
    let most = plan.attempts.map_or(usize::MAX, |most| most.get() as usize);
    keys < MAX_KEYS && sent.count() < most
}

/// Whether another target may be tried after this error.
fn goes_on(request: &UpstreamRequest, error: &Error, now: Instant) -> bool {
    if now >= deadline(request) || error.is_unavailable() {
        return false;
    }
    error.needs_room() || error.blame() != Blame::Caller || error.side() == Side::Caller
}

/// The end of the caller's wait for output, whatever targets are left.
fn deadline(request: &UpstreamRequest) -> Instant {
    let mut targets = request.plan.targets.iter();
    let silent =
        !request.context.call.stream && targets.any(|target| request.is_whole(&target.provider));
    // An answer that is passed through whole is silent until it is done.
    let wait =
        if silent { request.context.stream.unstreamed } else { request.context.stream.first_token };
    let total = request.context.stream.total.unwrap_or(Duration::MAX);
    let started = request.context.time.started;
    // The rest of an answer has as long as the first output of it had.
    let begun = request.part.as_ref().map_or(started, |part| part.broken);
    let ends = [begun.checked_add(wait), started.checked_add(total)];
    ends.into_iter().flatten().min().unwrap_or(begun)
}

/// The deadline of an attempt: after half of the time that is left if it shares it with others, else after all of it.
fn attempt_deadline(
    request: &UpstreamRequest,
    target: &Target,
    turn: &Turn,
    now: Instant,
) -> AttemptDeadline {
    let mut left = deadline(request).saturating_duration_since(now);
    if turn.shares_time {
        left /= ATTEMPT_SHARE;
    }
    let provider = &target.provider;
    if !request.is_whole(provider) && !request.is_verbatim(provider) {
        left = left.min(request.context.stream.first_token);
    }
    if let Some(own) = target.first_token.filter(|_| !request.is_whole(provider)) {
        left = left.min(own);
    }
    AttemptDeadline { deadline: now + left, followed: turn.followed }
}

/// The errors of the attempts of a request.
#[derive(Default)]
struct Failures {
    best: Option<Error>,
    /// An answer that broke off as soon as it had begun: worth more than an error alone.
    partial: Option<(usize, Box<Answer>)>,
    /// No other target may be tried.
    are_final: bool,
}

impl Failures {
    fn add(
        &mut self,
        error: Error,
        partial: Option<Box<Answer>>,
        (index, attempt): (usize, &Attempt),
    ) {
        self.partial = self.partial.take().or_else(|| Some((index, partial?)));
        let error =
            error.during(error::Attempt { target: Arc::clone(attempt.target.name()), index });
        // Of several limits, the one that is over first.
        let key = |error: &Error| (error.rank(), error.wait().unwrap_or(Duration::MAX));
        if self.best.as_ref().is_none_or(|best| key(&error) < key(best)) {
            self.best = Some(error);
        }
    }

    fn best(self) -> Result<(usize, Box<Answer>), Error> {
        let none = || {
            let message = "every target of this model has as many answers in progress as its provider's max_streams allows; send the request again";
            Error::unavailable(message).retry_after(error::MIN_RETRY_AFTER)
        };
        self.partial.ok_or_else(|| self.best.unwrap_or_else(none))
    }
}

#[cfg(test)]
use super::select::PickReason;

#[cfg(test)]
impl Opening {
    /// An opening whose only attempt was sent and comes to this.
    pub(super) fn scripted(
        request: UpstreamRequest,
        answer: impl Future<Output = Result<Box<Answer>, Error>> + Send + 'static,
    ) -> Self {
        let mut opening = Self::new(request);
        let target = opening.request.plan.targets[0].clone();
        let chosen = (target, PickReason::Order);
        let mut attempt = Attempt::new(chosen, false, Instant::now());
        attempt.sent = Some(attempt.begun);
        attempt.span = request_spans::begin(&opening.request.trace, &attempt, 1);
        opening.attempts.push(attempt);
        let turn =
            Turn { index: 0, followed: false, shares_time: false, _probe: None, stream: None };
        let answer = async { Ok(answer.await?) };
        opening.current = Some((turn, Step::Answer(Box::pin(answer))));
        opening
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
