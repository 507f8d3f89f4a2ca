//! Retries at the same target: which failures, how often, and the wait before them.

use super::*;
use crate::error::{Error, Reply};
use crate::gateway::scripted::request;
use crate::gateway::select::PickReason;
use crate::wire::chat::{ApiError, Deadline, End, Kind};

const SECOND: Duration = Duration::from_secs(1);

fn plan(models: &[(&str, Option<u64>)]) -> Plan {
    let mut plan = request(true, "sim", models).plan;
    plan.retry.same_target = Some(2);
    plan
}

/// An error response of an upstream.
fn refused(kind: Kind) -> Error {
    let headers = HeaderMap::new();
    let reply = Reply { dialect: "openai-chat", status: 500, body: "{}".into(), headers };
    Error::upstream(ApiError::new(kind, "no")).reply(reply)
}

fn attempt(plan: &Plan, place: usize, error: &Error) -> Attempt {
    let chosen = (plan.targets[place].clone(), PickReason::Order);
    let mut attempt = Attempt::new(chosen, false, Instant::now());
    attempt.fail(error);
    attempt
}

fn next(plan: &Plan, attempts: &[Attempt], headers: &HeaderMap) -> Option<SameTargetRetry> {
    let now = Instant::now();
    next_retry((plan, attempts), headers, |_| false, (now, now + 120 * SECOND))
}

/// Every row of the table of blame: only a failure that the target reports itself, and a short rate limit, are retried.
#[tokio::test(start_paused = true)]
async fn only_transient_failures_are_retried() {
    let plan = plan(&[("a", None)]);
    let late = Error::from_end(&End::TimedOut(Deadline::FirstToken));
    let failed = |kind| Error::from_end(&End::Failed(ApiError::new(kind, "no")));
    let limited = refused(Kind::RateLimited).retry_after(3 * SECOND);
    let far = refused(Kind::RateLimited).retry_after(6 * SECOND);
    for (error, again) in [
        (refused(Kind::Upstream), true),
        (refused(Kind::Overloaded), true),
        (refused(Kind::Timeout), true),
        (failed(Kind::Overloaded), true),
        (failed(Kind::Upstream), false),
        (limited, true),
        (far, false),
        (refused(Kind::Overloaded).retry_after(60 * SECOND), false),
        (refused(Kind::RateLimited), false),
        (late, false),
        (Error::from_end(&End::Truncated), false),
        (refused(Kind::Authentication), false),
        (refused(Kind::Billing), false),
        (refused(Kind::NotFound), false),
        (refused(Kind::Invalid), false),
        (refused(Kind::Context), false),
        (refused(Kind::ContentPolicy), false),
    ] {
        let found = next(&plan, &[attempt(&plan, 0, &error)], &HeaderMap::new());
        assert_eq!(found.is_some(), again, "{error:?}");
        if let (Some(found), Some(asked)) = (found, error.wait()) {
            assert!(found.wait >= asked && found.wait <= asked + plan.retry.backoff[0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_have_full_jitter_and_double() {
    let plan = plan(&[("a", None)]);
    let failure = attempt(&plan, 0, &refused(Kind::Upstream)).error.expect("a failure");
    for (retries, most) in [(0, 250), (1, 500), (2, 1000), (5, 5000), (40, 5000)] {
        let waits: Vec<Duration> =
            (0..200).filter_map(|_| wait(&plan.retry, &failure, retries)).collect();
        let most = Duration::from_millis(most);
        assert!(waits.iter().all(|wait| *wait <= most), "{retries}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait > most / 2), "{retries}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait < most / 2), "{retries}: {waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_tried_target_is_tried_again_and_each_so_often() {
    let plan = plan(&[("a", None), ("b", None)]);
    let error = refused(Kind::Upstream);
    let mut attempts = vec![attempt(&plan, 0, &error), attempt(&plan, 1, &error)];
    let mut order = Vec::new();
    while let Some(found) = next(&plan, &attempts, &HeaderMap::new()) {
        let place = usize::from(found.target.model == "b");
        order.push(found.target.model);
        attempts.push(attempt(&plan, place, &error));
    }
    assert_eq!(order, ["a", "b", "a", "b"]);
}

/// R22: a library that retries by itself is not helped, nor is a caller that names the target; a lone target is tried
/// once more by default, and one of several not at all.
#[tokio::test(start_paused = true)]
async fn r22_retries_do_not_multiply() {
    let error = refused(Kind::Upstream);
    let mut lone = plan(&[("a", None)]);
    lone.retry.same_target = None;
    let one = [attempt(&lone, 0, &error)];
    let two = [attempt(&lone, 0, &error), attempt(&lone, 0, &error)];
    let count = |count: &'static str| {
        [("x-stainless-retry-count", count)]
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            })
            .into_iter()
            .collect::<HeaderMap>()
    };
    assert!(next(&lone, &one, &HeaderMap::new()).is_some());
    assert!(next(&lone, &two, &HeaderMap::new()).is_none());
    assert!(next(&lone, &one, &count("0")).is_some());
    assert!(next(&lone, &one, &count("1")).is_none());
    assert!(next(&lone, &one, &count("many")).is_some());
    let now = Instant::now();
    let out = next_retry((&lone, &one), &HeaderMap::new(), |_| true, (now, now + SECOND));
    assert!(out.is_none(), "all requests pass it over");
    let late = next_retry((&lone, &one), &HeaderMap::new(), |_| false, (now, now));
    assert!(late.is_none(), "no time is left");
    let mut several = plan(&[("a", None), ("b", None)]);
    several.retry.same_target = None;
    let both = [attempt(&several, 0, &error), attempt(&several, 1, &error)];
    assert!(next(&several, &both, &HeaderMap::new()).is_none());
    lone.direct = true;
    assert!(next(&lone, &one, &HeaderMap::new()).is_none());
}
