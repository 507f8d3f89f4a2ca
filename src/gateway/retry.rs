//! Retries at the same target: once no other target is left, a target with a transient failure gets the request again,
//! after a backoff. It must never wait for a retry budget, nor beyond the deadline of the request.

use std::time::Duration;

use http::HeaderMap;
use rand::RngExt as _;
use tokio::time::Instant;

use super::attempt::{Attempt, AttemptFailure};
use super::route::Plan;
use crate::config::{Retry, Target};

/// The header in which OpenAI's and Anthropic's libraries count their own retries of a request.
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// A retry at a target that has failed.
#[derive(Debug)]
pub(super) struct SameTargetRetry {
    /// The target.
    pub(super) target: Target,
    /// The wait before it.
    pub(super) wait: Duration,
}

/// The next retry at one of the targets that have failed, the least tried one. `None`: none may be tried again.
/// `is_out`: whether a target is passed over by all requests.
pub(super) fn next_retry(
    (plan, attempts): (&Plan, &[Attempt]),
    headers: &HeaderMap,
    is_out: impl Fn(&Target) -> bool,
    (now, deadline): (Instant, Instant),
) -> Option<SameTargetRetry> {
    let alone = plan.targets.len() == 1;
    let most = plan.retry.same_target.unwrap_or_else(|| u32::from(alone));
    // A caller that names the target itself decides about retries, too.
    if most == 0 || plan.direct || is_retried_by_library(headers) {
        return None;
    }
    let same = |a: &Target, b: &Target| a.identity() == b.identity();
    let count = |target: &Target| {
        let of = attempts.iter().filter(|attempt| same(&attempt.target, target));
        u32::try_from(of.count()).unwrap_or(u32::MAX).saturating_sub(1)
    };
    let last = |target: &Target| attempts.iter().rfind(|attempt| same(&attempt.target, target));
    let failed = attempts.iter().filter_map(|attempt| {
        let failure = last(&attempt.target)?.error?;
        let retries = count(&attempt.target);
        let wait = wait(&plan.retry, &failure, retries)?;
        let may = retries < most && now + wait < deadline && !is_out(&attempt.target);
        may.then_some((retries, wait, &attempt.target))
    });
    let (_, wait, target) = failed.min_by_key(|(retries, ..)| *retries)?;
    Some(SameTargetRetry { target: target.clone(), wait })
}

/// Whether the caller's library has sent a request before, so that it retries by itself.
fn is_retried_by_library(headers: &HeaderMap) -> bool {
    let count = headers.get(RETRY_COUNT).and_then(|count| count.to_str().ok());
    count.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
}

/// The wait before a retry: the one that the upstream asks for and a random part, or a random one (full jitter). `None`:
/// it is not worth another try, or the upstream asks for too long a wait.
fn wait(retry: &Retry, failure: &AttemptFailure, retries: u32) -> Option<Duration> {
    if !failure.is_transient {
        return None;
    }
    let [backoff, longest] = retry.backoff;
    let random = |most: Duration| most.mul_f64(rand::rng().random_range(0.0..1.0));
    match failure.wait {
        Some(asked) => (asked <= retry.max_wait).then(|| asked + random(backoff)),
        None => Some(random(backoff.saturating_mul(1 << retries.min(16)).min(longest))),
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
