//! Failures of a request's attempts: the one that the caller gets, and whether another attempt may follow. Pure. It must
//! never return an error that only the operator can act on while there is another one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Answer;
use super::attempt::Attempt;
use super::attempt_deadline::deadline;
use super::route::Plan;
use super::target_health::{Outage, Refusal};
use super::upstream_request::UpstreamRequest;
use crate::error::{self, Blame, Error, Side};
use crate::wire::chat::{ApiError, Kind};
use crate::wire::encrypted_state::is_of_another_account;

/// The most rejected credentials that one request meets.
const MAX_KEYS: usize = 8;

/// The errors of the attempts of a request.
#[derive(Default)]
pub(super) struct Failures {
    best: Option<Error>,
    /// An answer that broke off as soon as it had begun: worth more than an error alone.
    partial: Option<(usize, Box<Answer>)>,
    /// No other target may be tried.
    pub(super) are_final: bool,
    /// Another target is left after the last one.
    pub(super) are_followed: bool,
}

impl Failures {
    pub(super) fn add(
        &mut self,
        error: Error,
        partial: Option<Box<Answer>>,
        (index, attempt): (usize, &Attempt),
    ) {
        self.partial = self.partial.take().or_else(|| Some((index, partial?)));
        let target = Arc::clone(attempt.target.name());
        self.add_error(error.during(error::Attempt { target, index }));
    }

    pub(super) fn add_error(&mut self, error: Error) {
        // Of several limits, the one that is over first.
        let key = |error: &Error| (error.rank(), error.wait().unwrap_or(Duration::MAX));
        if self.best.as_ref().is_none_or(|best| key(&error) < key(best)) {
            self.best = Some(error);
        }
    }

    pub(super) fn best(self) -> Result<(usize, Box<Answer>), Error> {
        let none = || {
            let message = "every target of this model has as many answers in progress as its provider takes; send the request again";
            Error::unavailable(message).retry_after(error::MIN_RETRY_AFTER)
        };
        self.partial.ok_or_else(|| self.best.unwrap_or_else(none))
    }
}

/// The error for a target that gets no requests. Only limits and failures end by themselves.
pub(super) fn refused_error(Refusal { outage, wait, kind }: Refusal) -> Error {
    let message = match outage {
        Outage::Cooling => "every target of this model has reached a rate limit of its provider",
        Outage::Open => "every target of this model is failing",
        Outage::Hard => "every target of this model needs the operator",
        Outage::Drained => "an operator has taken this model's targets out of service",
    };
    let kind =
        if matches!(outage, Outage::Open | Outage::Drained) { Kind::Overloaded } else { kind };
    let error = Error::upstream(ApiError::new(kind, message));
    let wait = wait.max(error::MIN_RETRY_AFTER);
    if matches!(outage, Outage::Cooling | Outage::Open) { error.retry_after(wait) } else { error }
}

/// A model that the caller itself named at a provider is the caller's to correct.
pub(super) fn blame_caller(request: &UpstreamRequest, error: Error) -> Error {
    let named = request.plan.direct && error.fault().kind == Kind::NotFound;
    if named && error.side() == Side::Upstream { error.blamed(Blame::Caller) } else { error }
}

/// Whether a request may be sent to another target after these attempts. Rejected credentials do not count, but for a
/// bound of their own.
pub(super) fn may_attempt(plan: &Plan, attempts: &[Attempt]) -> bool {
    let keys = attempts.iter().filter(|attempt| is_rejected(attempt)).count();
    let most = plan.attempts.map_or(usize::MAX, |most| most.get() as usize);
    keys < MAX_KEYS && sent(attempts) < most
}

/// The number of upstream requests, without those whose credential was rejected.
pub(super) fn sent(attempts: &[Attempt]) -> usize {
    attempts.iter().filter(|attempt| attempt.sent.is_some() && !is_rejected(attempt)).count()
}

/// Whether a target has rejected its credential or account.
fn is_rejected(attempt: &Attempt) -> bool {
    let blames = [Blame::Credential, Blame::Account];
    attempt.error.is_some_and(|error| blames.contains(&error.blame))
}

/// Whether another target may be tried after this error.
pub(super) fn goes_on(request: &UpstreamRequest, error: &Error, now: Instant) -> bool {
    if now >= deadline(request) || error.is_unavailable() {
        return false;
    }
    let listed = |status: u16| {
        request.plan.fallback.as_ref().is_some_and(|fallback| fallback.on_status.contains(&status))
    };
    error.needs_room()
        || is_of_another_account(error.fault())
        || error.blame() != Blame::Caller
        || error.side() == Side::Caller
        || error.upstream_reply().is_some_and(|reply| listed(reply.status))
}
