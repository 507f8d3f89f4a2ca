//! Deadlines of attempts: shares of the one deadline of their request. Pure. It must never give a request more time than
//! its caller waits.

use std::time::Duration;

use tokio::time::Instant;

use super::upstream_request::UpstreamRequest;
use crate::config::Target;

/// The least time of an attempt that leaves a share of it to others, if they have half of it all the same.
const MIN_SHARE: Duration = Duration::from_secs(2);

/// The end of the caller's wait for output, whatever targets are left.
pub(super) fn deadline(request: &UpstreamRequest) -> Instant {
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

/// The deadline of an attempt: after an equal share of the time that is left if so many other targets may follow, else
/// after all of it.
pub(super) fn attempt_deadline(
    request: &UpstreamRequest,
    target: &Target,
    others: usize,
    now: Instant,
) -> Instant {
    let mut left = deadline(request).saturating_duration_since(now);
    if others > 0 {
        let share = left / u32::try_from(others + 1).unwrap_or(u32::MAX);
        left = share.max(MIN_SHARE).min(left / 2);
    }
    let provider = &target.provider;
    if !request.is_whole(provider) && !request.is_verbatim(provider) {
        left = left.min(request.context.stream.first_token);
    }
    if let Some(own) = target.first_token.filter(|_| !request.is_whole(provider)) {
        left = left.min(own);
    }
    now + left
}
