//! Failover: from a plan to an [`Answer`], one target after the other, until something is forwarded.
//!
//! Errors that the caller did not cause fail over to the next target; errors that it did cause are
//! returned. A failed attempt never takes more than its share of the one deadline of the request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::account;
use super::answer::Answer;
use super::count;
use super::target_health::{Admission, FailedAttempt, Probe};
use super::upstream::{self, Failure, Order, Patience};
use super::upstream_body::request_body;
use crate::config::Target;
use crate::error::{Attempt, Blame, Error, Side};
use crate::wire::chat;

/// What an attempt may use of the time that is left while another target may follow: one part in this many.
const SHARE: u32 = 2;

/// A target that hung for less than this part of `first_token` has not had a fair chance.
const FAIR: u32 = 4;

/// Opens an answer at the first target that gives one. Whatever this future holds is closed when it is
/// dropped.
pub(super) async fn open(order: Order) -> Result<Box<Answer>, Error> {
    let mut walk = Walk::new(&order);
    let mut failures = Failures::default();
    let mut attempts = 0;
    while let Some(step) = walk.next(Instant::now()) {
        attempts += 1;
        let begun = Instant::now();
        match attempt(&walk, step.target, attempts).await {
            Ok(mut answer) => {
                if !count::is_estimated(&order, step.target) {
                    order.health.succeeded(step.target, Instant::now());
                }
                answer.attempts = attempts;
                return Ok(answer);
            }
            Err(failure) => {
                let now = Instant::now();
                let Failure { error, said } = *failure;
                let error = blame_caller(&order, error)
                    .counted(order.call.input_estimate, step.target.context);
                if error.side() != Side::Caller && !error.is_unavailable() {
                    let timed = now - begun >= order.stream.first_token / FAIR;
                    let attempt = FailedAttempt { target: step.target, error: &error, timed };
                    order.health.failed(&order.plan, &attempt, now);
                    account::attempt_failed(&order, step.target, &error);
                }
                let goes_on = walk.goes_on(step.target, &error, now);
                failures.add(error, said, step.target);
                if !goes_on {
                    break;
                }
            }
        }
    }
    failures.best(attempts)
}

async fn attempt(
    walk: &Walk<'_>,
    target: &Target,
    number: u32,
) -> Result<Box<Answer>, Box<Failure>> {
    let order = walk.order;
    if count::is_estimated(order, target) {
        return Ok(count::checked_estimate(order, target).await?);
    }
    // Another target may be able to say what this one's dialect cannot.
    let written = request_body(order, target).await?;
    order.trying.begin(target, number, upstream::is_whole(order, &target.provider));
    let patience = walk.patience(target, Instant::now());
    match upstream::attempt(order, target, written, patience).await {
        Err(failure) if count::is_unsupported(order, &failure.error) => {
            Ok(count::estimate(order, target))
        }
        answered => answered,
    }
}

/// A model that the caller itself named at a provider is the caller's to correct.
fn blame_caller(order: &Order, error: Error) -> Error {
    let named = order.plan.direct && error.fault().kind == chat::Kind::NotFound;
    if named && error.side() == Side::Upstream { error.blamed(Blame::Caller) } else { error }
}

/// The targets of a plan in the order in which they are tried.
struct Walk<'a> {
    order: &'a Order,
    rest: std::slice::Iter<'a, Target>,
    /// Those that have just failed other requests: tried when nothing else is left.
    ejected: Vec<(Instant, &'a Target)>,
    /// Those whose context was too small.
    too_small: Vec<&'a Target>,
}

/// A target's turn.
struct Step<'a> {
    target: &'a Target,
    /// Given back when the turn is over.
    _probe: Option<Probe>,
}

impl<'a> Walk<'a> {
    fn new(order: &'a Order) -> Self {
        let rest = order.plan.targets.iter();
        Self { order, rest, ejected: Vec::new(), too_small: Vec::new() }
    }

    fn next(&mut self, now: Instant) -> Option<Step<'a>> {
        let lone = self.order.plan.targets.len() == 1;
        while let Some(target) = self.rest.next() {
            if !self.has_room(target) {
                continue;
            }
            if lone {
                return Some(Step { target, _probe: None });
            }
            match self.order.health.admit(target, now) {
                Admission::Open => return Some(Step { target, _probe: None }),
                Admission::Probe(probe) => return Some(Step { target, _probe: Some(probe) }),
                Admission::Ejected(until) => self.ejected.push((until, target)),
            }
        }
        let ejected = std::mem::take(&mut self.ejected);
        self.ejected = ejected.into_iter().filter(|(_, target)| self.has_room(target)).collect();
        let soonest = self.ejected.iter().enumerate().min_by_key(|(_, (until, _))| *until)?.0;
        Some(Step { target: self.ejected.remove(soonest).1, _probe: None })
    }

    /// Whether a target may hold what others could not.
    fn has_room(&self, target: &Target) -> bool {
        self.too_small.iter().all(|small| match (target.context, small.context) {
            (Some(room), Some(less)) => room > less,
            _ => target.name() != small.name(),
        })
    }

    /// Whether another target may be tried after this error.
    fn goes_on(&mut self, target: &'a Target, error: &Error, now: Instant) -> bool {
        if now >= self.deadline() || error.is_unavailable() {
            return false;
        }
        if error.needs_room() {
            self.too_small.push(target);
            return true;
        }
        error.blame() != Blame::Caller || error.side() == Side::Caller
    }

    /// When the caller's wait for output ends, whatever targets are left.
    fn deadline(&self) -> Instant {
        let order = self.order;
        let silent = !order.call.stream
            && order.plan.targets.iter().any(|target| upstream::is_whole(order, &target.provider));
        // An answer that is passed through whole is silent until it is done.
        let wait = if silent { order.stream.unstreamed } else { order.stream.first_token };
        let total = order.stream.total.unwrap_or(Duration::MAX);
        order.started.checked_add(wait.min(total)).unwrap_or(order.started)
    }

    /// How long an attempt may take: half of what is left while another target is there, which has not
    /// just failed other requests; else all of it.
    fn patience(&self, target: &Target, now: Instant) -> Patience {
        let order = self.order;
        let mut left = self.deadline().saturating_duration_since(now);
        let followers = self.rest.as_slice();
        let followed =
            followers.iter().any(|next| self.has_room(next) && !order.health.is_ejected(next, now));
        let last_resort = followers.is_empty() && !self.ejected.is_empty();
        if followed || last_resort && order.health.is_ejected(target, now) {
            left /= SHARE;
        }
        if !upstream::is_whole(order, &target.provider)
            && !upstream::is_verbatim(order, &target.provider)
        {
            left = left.min(order.stream.first_token);
        }
        Patience {
            deadline: now + left,
            followed: !followers.is_empty() || !self.ejected.is_empty(),
        }
    }
}

/// What the attempts of a request have met.
#[derive(Default)]
struct Failures {
    best: Option<Error>,
    /// An answer that broke off as soon as it had begun: worth more than an error alone.
    said: Option<Box<Answer>>,
}

impl Failures {
    fn add(&mut self, error: Error, said: Option<Box<Answer>>, target: &Target) {
        self.said = self.said.take().or(said);
        // The number is set when all is over.
        let error = error.during(Attempt { target: Arc::clone(target.name()), number: 0 });
        // Of several limits, the one that is over first.
        let key = |error: &Error| (error.rank(), error.wait().unwrap_or(Duration::MAX));
        if self.best.as_ref().is_none_or(|best| key(&error) < key(best)) {
            self.best = Some(error);
        }
    }

    fn best(self, attempts: u32) -> Result<Box<Answer>, Error> {
        if let Some(mut said) = self.said {
            said.attempts = attempts;
            return Ok(said);
        }
        let error = self.best.unwrap_or_else(|| Error::internal("the plan had no target"));
        let Some(attempt) = error.attempt().cloned() else { return Err(error) };
        Err(error.during(Attempt { number: attempts, ..attempt }))
    }
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
