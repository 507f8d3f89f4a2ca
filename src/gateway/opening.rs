//! Failover: attempts at one target after the other, until an answer has begun. Errors that the caller did not cause
//! fail over to the next target; errors that it did cause are returned. It must never give up an answer of which
//! anything was forwarded, nor let a failed attempt take more than its share of the one deadline of the request.

use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;
use tokio::time::{Instant, Sleep, sleep};

use super::answer::Answer;
use super::attempt::Attempt;
use super::attempt_deadline::{attempt_deadline, deadline};
use super::continuation::Continuable;
use super::failures::{Failures, blame_caller, goes_on, may_attempt, refused_error, sent};
use super::offload::RequestBody;
use super::output_rate::OutputRate;
use super::request_queue::{QueueShare, QueuedRequest};
use super::retry::{SameTargetRetry, next_retry};
use super::route::Plan;
use super::select::{ByTier, PickReason, Select, Selection};
use super::target_health::{
    FailedAttempt, InProgress, OpenStream, Outage, Probe, PromptSize, RetryBudget, TargetState,
};
use super::upstream::{self, AttemptDeadline, AttemptError};
use super::upstream_body::{large_body, small_body};
use super::upstream_request::UpstreamRequest;
use super::{access_log, count, mirror, request_spans};
use crate::config::{Pick, Target};
use crate::error::{Blame, Error, Side};
use crate::telemetry::ModelLabels;
use crate::wire::adapt::Written;
use crate::wire::chat::Kind;

#[path = "opening_hedge.rs"]
mod hedge;
#[path = "opening_queue.rs"]
mod queue;

use hedge::Hedging;

/// The moves of a request to another target that draw nothing from the retry budget: a target that often fails is to remain
/// unseen.
const FREE_MOVES: usize = 1;

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
    /// Another one, while an attempt is hedged.
    contender: Option<(Turn, Step)>,
    hedging: Hedging,
    /// The backoff before a retry at the same target.
    backoff: Option<(Pin<Box<Sleep>>, Target)>,
    /// The wait for a target with room.
    queued: Option<Box<QueuedRequest>>,
    /// The time at which it began to wait there for the first time.
    waits_since: Option<Instant>,
    /// Its tokens in the queue, once it has waited there.
    share: Option<Box<QueueShare>>,
    budget: Option<Arc<RetryBudget>>,
    /// The fallback's targets, once they have taken the place of the model's own.
    fallback: Option<Box<Plan>>,
    failures: Failures,
}

/// The attempt under way: its place among the attempts, and what its selection grants it.
struct Turn {
    index: usize,
    followed: bool,
    /// The other targets to which it leaves a share of the time.
    others: usize,
    /// Given back when the turn is over.
    probe: Option<Probe>,
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
        let budget = request.health.budget(&request.plan.label);
        // The rest of an answer is no request of the caller's.
        if let Some(budget) = budget.as_ref().filter(|_| request.part.is_none()) {
            budget.request(Instant::now());
        }
        Self {
            request: Arc::new(request),
            select,
            // Mostly there is one, and it is kept as long as the stream lives.
            attempts: Vec::with_capacity(1),
            current: None,
            contender: None,
            hedging: Hedging::default(),
            backoff: None,
            queued: None,
            waits_since: None,
            share: None,
            budget,
            fallback: None,
            failures: Failures::default(),
        }
    }

    /// Waits for the first target that answers. Returns the answer with the index of its attempt. Cancel-safe.
    pub async fn answer(&mut self) -> Result<(usize, Box<Answer>), Error> {
        while self.is_underway() || self.is_waiting() || self.begin() {
            self.wait().await;
            let Some((mut turn, stepped)) = self.step().await else { continue };
            match stepped {
                Stepped::Body(Ok(written)) => self.send(turn, written),
                Stepped::Body(Err(error)) => {
                    self.failed(&turn, AttemptError { error, partial: None });
                }
                Stepped::Answer(Err(failure)) => self.failed(&turn, *failure),
                Stepped::Answer(Ok(mut answer)) => {
                    self.supersede(turn.index, Instant::now());
                    self.succeeded(&mut turn, &mut answer);
                    return Ok((turn.index, answer));
                }
            }
        }
        let failures = std::mem::take(&mut self.failures);
        let direct = self.request.plan.direct;
        let exhausted = |error: Error| if direct { error } else { error.exhausted() };
        let (index, answer) = failures.best().map_err(exhausted)?;
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

    /// Whether it waits before an attempt.
    fn is_waiting(&self) -> bool {
        self.backoff.is_some() || self.queued.is_some()
    }

    /// Begins the next attempt, or the wait before it. Returns whether there is one.
    fn begin(&mut self) -> bool {
        let now = Instant::now();
        let request = Arc::clone(&self.request);
        if !may_attempt(&request.plan, &self.attempts) {
            return false;
        }
        if self.failures.are_final {
            return self.fall_back(now) && self.begin();
        }
        if self.attempts.is_empty() && self.waits_since.is_none() && self.is_behind_others() {
            return self.wait_for_room(now);
        }
        // An answer that broke off was an attempt, too.
        let before = sent(&self.attempts) + usize::from(request.part.is_some());
        let draws = before > FREE_MOVES;
        if draws && self.failures.are_followed && !self.draw(now) {
            return false;
        }
        let plan = self.fallback.as_deref().unwrap_or(&request.plan);
        if let Some(selection) = self.select.next(plan, &self.attempts, now) {
            self.start(selection, now);
            return true;
        }
        if draws
            && self.failures.are_followed
            && let Some(budget) = &self.budget
        {
            budget.give_back(now);
        }
        if self.fall_back(now) {
            return self.begin();
        }
        let plan = self.fallback.as_deref().unwrap_or(&request.plan);
        if self.select.expects_room(plan, &self.attempts, now).is_some() {
            // One that may not wait goes to the last resort.
            return self.wait_for_room(now) || self.begin();
        }
        if self.back_off(now) {
            return true;
        }
        self.refuse(now);
        false
    }

    /// Takes the targets for the error that the caller has caused in place of the model's own. Returns whether there
    /// are any.
    fn fall_back(&mut self, now: Instant) -> bool {
        let plan = &self.request.plan;
        let Some(fallback) = plan.fallback.as_ref().filter(|_| self.fallback.is_none()) else {
            return false;
        };
        // Of two attempts at once, either may be the one.
        let filtered = self
            .attempts
            .iter()
            .filter_map(|attempt| attempt.error)
            .any(|error| error.side == Side::Upstream && error.kind == Kind::ContentPolicy);
        let targets = if filtered {
            &fallback.content_policy
        } else if self.attempts.iter().any(Attempt::needed_room) {
            &fallback.context
        } else {
            return false;
        };
        if targets.is_empty() || now >= deadline(&self.request) {
            return false;
        }
        let (targets, pick, session) = (targets.clone().into(), Pick::Order, None);
        self.fallback = Some(Box::new(Plan { targets, pick, session, ..plan.clone() }));
        self.select = Box::new(ByTier::new(Arc::clone(&self.request.health)));
        self.failures.are_final = false;
        self.failures.are_followed = true;
        true
    }

    /// Takes the right to another attempt from the model's budget. Returns whether there was one.
    fn draw(&self, now: Instant) -> bool {
        let plan = &self.request.plan;
        let allowed = self.budget.as_ref().is_none_or(|budget| budget.take(plan.retry.budget, now));
        if !allowed {
            let labels = ModelLabels { model: Arc::clone(&plan.label) };
            self.request.metrics.retry_budget_empty.get_or_create(&labels).inc();
        }
        allowed
    }

    /// Adds the errors of the targets that get no requests at this time.
    fn refuse(&mut self, now: Instant) {
        let plan = self.fallback.as_deref().unwrap_or(&self.request.plan);
        let tried = |target: &Target| {
            self.attempts.iter().any(|attempt| attempt.target.identity() == target.identity())
        };
        let refused = plan.targets.iter().filter(|target| !tried(target));
        for target in refused {
            if let Some(refusal) = self.request.health.refusal(target, now) {
                self.failures.add_error(refused_error(refusal));
            }
        }
    }

    /// Begins the backoff before a retry at a target that has failed. Returns whether there is one.
    fn back_off(&mut self, now: Instant) -> bool {
        let request = &self.request;
        let is_out = |target: &Target| {
            let state = request.health.state(target, now);
            matches!(state, TargetState::Probe | TargetState::Out(Outage::Open | Outage::Hard, _))
        };
        let plan = self.fallback.as_deref().unwrap_or(&request.plan);
        let tried = (plan, &*self.attempts);
        let next = next_retry(tried, &request.headers, is_out, (now, deadline(request)));
        let Some(SameTargetRetry { target, wait }) = next.filter(|_| self.draw(now)) else {
            return false;
        };
        self.backoff = Some((Box::pin(sleep(wait)), target));
        true
    }

    /// Begins a retry at the same target, after the backoff.
    fn retry(&mut self) {
        let now = Instant::now();
        let Some((_, target)) = self.backoff.take() else { return };
        let prompt = PromptSize::of(self.request.plan.demand.input);
        let alone = self.request.plan.is_alone();
        let Some(stream) = self.request.health.begin((&target, alone), (prompt, now)) else {
            self.failures.are_final = true;
            return;
        };
        let why = PickReason::Retry;
        let (followed, others) = (false, 0);
        self.start(Selection { target, why, followed, others, probe: None, stream }, now);
    }

    /// Begins an attempt.
    fn start(&mut self, selection: Selection, now: Instant) {
        let request = Arc::clone(&self.request);
        let Selection { target, why, followed, others, probe, stream } = selection;
        let (index, stream) = (self.attempts.len(), Some(stream));
        let turn = Turn { index, followed, others, probe, stream };
        self.failures.are_followed = followed;
        let again = matches!(why, PickReason::Retry | PickReason::Hedge);
        let falls_back = self.fallback.is_some() && !again;
        let why = if falls_back { PickReason::Fallback } else { why };
        request.count_pick(&target, why);
        if let Some(before) = self.attempts.last().filter(|_| why != PickReason::Hedge) {
            request.count_retry(&before.target, (&target, why));
        }
        let whole = request.is_whole(&target.provider);
        self.attempts.push(Attempt::new((target.clone(), why), whole, now));
        if count::is_estimated(&request, &target) {
            let estimate = async move { Ok(count::checked_estimate(&request, &target).await?) };
            self.go_on(turn, Step::Answer(Box::pin(estimate)));
            return;
        }
        match &request.body {
            RequestBody::Large(body) => {
                let body = large_body(&request, body, target);
                self.go_on(turn, Step::Body(Box::pin(body)));
            }
            RequestBody::Small(body) => match small_body(&request, body, &target) {
                Ok(written) => self.send(turn, written),
                // Another target's dialect may be able to express what this one's cannot.
                Err(error) => self.failed(&turn, AttemptError { error, partial: None }),
            },
        }
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
        let deadline = attempt_deadline(&request, &target, turn.others, now);
        let limits = AttemptDeadline { deadline, followed: turn.followed };
        self.wait_to_hedge(&turn, &target);
        #[cfg(test)]
        if let Some(script) = &request.script {
            self.go_on(turn, Step::Answer(script(&target, limits)));
            return;
        }
        let answer = async move {
            match upstream::attempt(&request, &target, written, limits, traced).await {
                Err(failure) if count::is_unsupported(&request, &failure.error) => {
                    Ok(count::estimate(&request, &target).await?)
                }
                answered => answered,
            }
        };
        self.go_on(turn, Step::Answer(Box::pin(answer)));
    }

    /// Waits for the next step of an attempt.
    fn go_on(&mut self, turn: Turn, step: Step) {
        if self.current.is_none() {
            self.current = Some((turn, step));
        } else {
            self.contender = Some((turn, step));
        }
    }

    /// Takes account of an answer that has begun.
    fn succeeded(&mut self, turn: &mut Turn, answer: &mut Answer) {
        let request = Arc::clone(&self.request);
        let share = self.share.take();
        let attempt = self.answered(turn.index);
        if count::is_estimated(&request, &attempt.target) {
            return;
        }
        let (whole, now) = (attempt.whole, Instant::now());
        let named = (attempt.target.clone(), request.target_label(&attempt.target));
        let is_stored = request.context.dialect.state().is_some()
            && request.is_verbatim(&attempt.target.provider)
            && request.plan.has_several_accounts();
        answer.in_progress = turn.stream.take().map(|mut stream| {
            stream.has_output(whole, now);
            InProgress::new(stream, &request.health, named).stored(is_stored).queued(share)
        });
        let slow = request.plan.slow.filter(|_| request.context.call.stream && !whole);
        let bytes = answer.transcoder.tally().output_bytes;
        answer.rate = slow.map(|slow| Box::new(OutputRate::new(slow, bytes)));
        mirror::begin(&request);
        if let Some(attempt) = self.attempts.get(turn.index) {
            request.health.succeeded(&attempt.target, now);
            if let Some(wait) = answer.spent {
                request.health.limited(&attempt.target, wait, now);
            }
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
        // It may have done what must not be done twice.
        let worked = attempt.sent.is_some() && error.blame() == Blame::Target;
        // One that is final remains so while the other of two attempts fails.
        self.failures.are_final |=
            !goes_on(request, &error, now) || worked && request.has_side_effects();
        self.failures.add(error, partial, (turn.index, attempt));
        self.hedge_failed(turn.index, now);
    }
}

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
        let turn = Turn { index: 0, followed: false, others: 0, probe: None, stream: None };
        let answer = async { Ok(answer.await?) };
        opening.current = Some((turn, Step::Answer(Box::pin(answer))));
        opening
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "opening_hedge_tests.rs"]
mod hedge_tests;

#[cfg(test)]
#[path = "opening_queue_tests.rs"]
mod queue_tests;

#[cfg(test)]
#[path = "failover_chaos_tests.rs"]
mod chaos;
