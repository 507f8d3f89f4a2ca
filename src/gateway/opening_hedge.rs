//! Hedged attempts: a second one at another host while the first one is silent. The first output wins, and the other
//! attempt is cancelled. It must never hedge what may be done once only, nor charge the caller for the attempt that lost.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::super::failures::may_attempt;
use super::super::request_spans;
use super::super::select::PickReason;
use super::super::target_health::PromptSize;
use super::super::upstream_request::UpstreamRequest;
use super::{Opening, Step, Stepped, Turn};
use crate::config::{HedgeAfter, Target};
use crate::telemetry::{HedgeLabels, WastedTokenLabels};

/// The time that a probe of an ejected target has before another target is asked as well.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// The second attempt of a request.
#[derive(Default)]
pub(super) struct Hedging {
    /// The wait before it.
    wait: Option<Pin<Box<Sleep>>>,
    /// It has been waited for.
    waited: bool,
    /// Its place among the attempts, while it is under way.
    attempt: Option<usize>,
    /// One has failed, and the next ones take its place.
    failed: bool,
}

impl Step {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Stepped> {
        match self {
            Self::Body(body) => body.as_mut().poll(context).map(Stepped::Body),
            Self::Answer(answer) => answer.as_mut().poll(context).map(Stepped::Answer),
        }
    }
}

impl Opening {
    /// Waits for the next step of an attempt that is under way. `None`: there is none, or another attempt was due. Cancel-safe.
    pub(super) async fn step(&mut self) -> Option<(Turn, Stepped)> {
        let stepped = poll_fn(|context| {
            for slot in [&mut self.current, &mut self.contender] {
                let stepped = match slot {
                    Some((_, step)) => step.poll(context),
                    None => Poll::Pending,
                };
                if let Poll::Ready(stepped) = stepped {
                    return Poll::Ready(slot.take().map(|(turn, _)| (turn, stepped)));
                }
            }
            let wait = self.hedging.wait.as_mut();
            let is_silent = wait.is_some_and(|wait| wait.as_mut().poll(context).is_ready());
            if is_silent || !self.is_underway() { Poll::Ready(None) } else { Poll::Pending }
        });
        let stepped = stepped.await;
        if stepped.is_none() && self.is_underway() {
            self.hedge(Instant::now());
        }
        stepped
    }

    /// Whether an attempt is under way.
    pub(super) fn is_underway(&self) -> bool {
        self.current.is_some() || self.contender.is_some()
    }

    /// Begins the wait for the output of the first attempt, if a second one may follow it.
    pub(super) fn wait_to_hedge(&mut self, turn: &Turn, target: &Target) {
        if self.hedging.waited || !turn.followed || self.request.part.is_some() {
            return;
        }
        let probe = turn.probe.is_some().then_some(PROBE_PATIENCE);
        if let Some(wait) = hedge_delay(&self.request, target).into_iter().chain(probe).min() {
            self.hedging.wait = Some(Box::pin(sleep(wait)));
            self.hedging.waited = true;
        }
    }

    /// Begins another attempt at another host, if it may. Another one is under way.
    pub(super) fn hedge(&mut self, now: Instant) {
        self.hedging.wait = None;
        let underway = self.current.as_ref().or(self.contender.as_ref());
        let silent = underway.and_then(|(turn, _)| self.attempts.get(turn.index));
        let Some(silent) = silent else { return };
        let (provider, is_probe) =
            (Arc::clone(&silent.target.provider), silent.why == PickReason::Probe);
        let request = Arc::clone(&self.request);
        let plan = self.fallback.as_deref().unwrap_or(&request.plan);
        if !may_attempt(&request.plan, &self.attempts) || !may_hedge(&request, is_probe) {
            return self.refuse_hedge("refused");
        }
        if !self.take_budget(now) {
            return self.refuse_hedge("no_budget");
        }
        let Some(selection) = self.select.elsewhere(plan, &self.attempts, (&provider, now)) else {
            if let Some(budget) = &self.budget {
                budget.give_back_hedge(now);
            }
            return self.refuse_hedge("refused");
        };
        self.hedging.attempt = Some(self.attempts.len());
        self.start(selection, now);
    }

    /// Takes the right to a second attempt from the model's budgets. That of a probe needs no more than a retry does.
    fn take_budget(&self, now: Instant) -> bool {
        let plan = &self.request.plan;
        let share = plan.hedge.map_or(1.0, |hedge| hedge.budget);
        let shares = (share, plan.retry.budget);
        self.budget.as_ref().is_none_or(|budget| budget.take_hedge(shares, now))
    }

    /// Takes account of an attempt that has failed while another one may be under way: the next one is due at once.
    pub(super) fn hedge_failed(&mut self, index: usize, now: Instant) {
        if self.hedging.attempt == Some(index) {
            self.hedging.attempt = None;
            self.hedging.failed = true;
            self.count_hedge("failed");
        }
        if !self.is_underway() {
            // The next attempt is the first one again.
            (self.hedging.wait, self.hedging.waited) = (None, false);
        } else if self.hedging.waited && !self.failures.are_final {
            self.hedge(now);
        }
    }

    /// Cancels the attempts that another one was faster than. It answers; `index` is its place.
    pub(super) fn supersede(&mut self, index: usize, now: Instant) {
        if let Some(hedge) = self.hedging.attempt.take() {
            self.count_hedge(if hedge == index { "won" } else { "lost" });
        } else if self.hedging.wait.take().is_some() {
            self.count_hedge("not_needed");
        }
        for (turn, _) in [self.current.take(), self.contender.take()].into_iter().flatten() {
            if let Some(mut stream) = turn.stream {
                stream.superseded(now);
            }
            let Some(attempt) = self.attempts.get_mut(turn.index) else { continue };
            attempt.superseded = true;
            if let Some(span) = attempt.span.take() {
                request_spans::supersede(&span);
            }
            if attempt.sent.is_some() {
                let target = self.request.target_label(&attempt.target);
                let labels = WastedTokenLabels { target, purpose: "hedge" };
                let tokens = self.request.plan.demand.input;
                self.request.metrics.wasted_tokens.get_or_create(&labels).inc_by(tokens);
            }
        }
    }

    /// Counts that there is no second attempt; one that failed is counted as that.
    fn refuse_hedge(&self, result: &'static str) {
        if self.hedging.attempt.is_none() && !self.hedging.failed {
            self.count_hedge(result);
        }
    }

    fn count_hedge(&self, result: &'static str) {
        let model = Arc::clone(&self.request.plan.label);
        self.request.metrics.hedges.get_or_create(&HedgeLabels { model, result }).inc();
    }
}

/// The time after which a silent attempt is hedged. `None`: it is not.
fn hedge_delay(request: &UpstreamRequest, target: &Target) -> Option<Duration> {
    let hedge = request.plan.hedge?;
    match hedge.after {
        HedgeAfter::Time(time) => Some(time),
        HedgeAfter::Part(part) => {
            let prompt = PromptSize::of(request.plan.demand.input);
            let usual = request.health.ttft_percentile(target, (prompt, part))?;
            Some(usual.max(hedge.at_least))
        }
    }
}

/// Whether a request may be sent to two targets at once.
fn may_hedge(request: &UpstreamRequest, is_probe: bool) -> bool {
    let demand = request.plan.demand;
    let most = request.plan.hedge.map_or(u64::MAX, |hedge| hedge.max_input);
    let is_streamed = request.context.call.stream;
    is_streamed
        && demand.choices <= 1
        && (demand.input <= most || is_probe)
        && !request.has_side_effects()
}
