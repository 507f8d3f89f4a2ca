//! The order of targets and the time that each gets, under a paused clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::config::Target;
use crate::gateway::route::Plan;
use crate::gateway::scripted::{config, request as order};
use crate::gateway::target_health::TargetHealth;
use crate::wire::chat::{ApiError, Deadline, End};

const SECOND: Duration = Duration::from_secs(1);

fn failed(kind: Kind) -> Error {
    Error::upstream(ApiError::new(kind, "no"))
}

fn fail(health: &TargetHealth, plan: &Plan, target: &Target, error: &Error) {
    health.failed(plan, &FailedAttempt { target, error, timed: true }, Instant::now());
}

/// The targets of a request in the order of its policy, and the attempts so far.
struct Walk<'a> {
    request: &'a UpstreamRequest,
    policy: ByTier,
    tried: Vec<Attempt>,
}

impl<'a> Walk<'a> {
    fn new(request: &'a UpstreamRequest) -> Self {
        let policy = ByTier::new(Arc::clone(&request.health));
        Self { request, policy, tried: Vec::new() }
    }

    /// The next target, and the time that an attempt at it has.
    fn next(&mut self) -> Option<(Target, AttemptDeadline, Option<Probe>)> {
        let now = Instant::now();
        let selection = self.policy.next(&self.request.plan, &self.tried, now)?;
        let Selection { target, why, followed, others, probe, .. } = selection;
        self.tried.push(Attempt::new((target.clone(), why), false, now));
        let deadline = attempt_deadline(self.request, &target, others, now);
        let limits = AttemptDeadline { deadline, followed };
        Some((target, limits, probe))
    }
}

/// The models that are tried while each attempt fails in this way, and the seconds that each one took.
async fn walked(
    request: &UpstreamRequest,
    fails: impl Fn(&str) -> (Kind, Duration),
) -> Vec<(String, f64)> {
    let mut walk = Walk::new(request);
    let mut asked = Vec::new();
    while let Some((target, limits, _probe)) = walk.next() {
        let begun = Instant::now();
        let (kind, takes) = fails(&target.model);
        advance(takes.min(limits.deadline - begun)).await;
        let error = failed(kind);
        asked.push((target.model.clone(), begun.elapsed().as_secs_f64()));
        fail(&request.health, &request.plan, &target, &error);
        walk.tried.last_mut().expect("an attempt").fail(&error);
        if !goes_on(request, &error, Instant::now()) {
            break;
        }
    }
    asked
}

fn names(asked: &[(String, f64)]) -> Vec<&str> {
    asked.iter().map(|(model, _)| model.as_str()).collect()
}

/// `stream.first_token` is one deadline from the request, however many targets hang.
#[tokio::test(start_paused = true)]
async fn failover_attempts_share_one_timeout() {
    let order = order(true, "sim", &[("a", None), ("b", None), ("c", None)]);
    let asked = walked(&order, |_| (Kind::Timeout, 1000 * SECOND)).await;
    assert_eq!(asked, [("a".into(), 40.0), ("b".into(), 40.0), ("c".into(), 40.0)]);
    assert_eq!(order.context.time.started.elapsed(), order.context.stream.first_token);
}

/// A target's own `first_token` bounds its attempt, and leaves the rest of the time to the others.
#[tokio::test(start_paused = true)]
async fn failover_after_the_timeout_of_a_target_of_its_own() {
    let mut order = order(true, "sim", &[("a", None), ("b", None)]);
    order.plan.targets_mut()[0].first_token = Some(20 * SECOND);
    let asked = walked(&order, |_| (Kind::Timeout, 1000 * SECOND)).await;
    assert_eq!(asked, [("a".into(), 20.0), ("b".into(), 100.0)]);
}

/// At most `attempts` upstream requests, of which rejected credentials are none.
#[tokio::test(start_paused = true)]
async fn failover_ends_after_so_many_attempts() {
    let mut plan = order(true, "sim", &[("a", None)]).plan;
    plan.attempts = std::num::NonZeroU32::new(2);
    let tried = |kinds: &[Kind]| -> Vec<Attempt> {
        let attempt = |kind: &Kind| {
            let chosen = (plan.targets[0].clone(), PickReason::Order);
            let mut attempt = Attempt::new(chosen, false, Instant::now());
            attempt.sent = Some(attempt.begun);
            attempt.fail(&failed(*kind));
            attempt
        };
        kinds.iter().map(attempt).collect()
    };
    assert!(may_attempt(&plan, &tried(&[Kind::Upstream, Kind::Authentication, Kind::Billing])));
    assert!(!may_attempt(&plan, &tried(&[Kind::Upstream, Kind::RateLimited])));
    assert!(may_attempt(&plan, &tried(&[Kind::Authentication; 7])));
    assert!(!may_attempt(&plan, &tried(&[Kind::Authentication; 8])), "R17: bounded all the same");
}

/// Time that an early failure leaves is there for the others.
#[tokio::test(start_paused = true)]
async fn failover_after_a_quick_failure_leaves_its_time_to_the_others() {
    let order = order(true, "sim", &[("a", None), ("b", None)]);
    let takes = |model: &str| if model == "a" { 10 * SECOND } else { 1000 * SECOND };
    let asked = walked(&order, |model| (Kind::Upstream, takes(model))).await;
    assert_eq!(asked, [("a".into(), 10.0), ("b".into(), 110.0)]);
}

/// An answer that is passed through whole has the deadline for that; a translated one is streamed
/// from its upstream and has `first_token`.
#[tokio::test(start_paused = true)]
async fn unstreamed_answers_have_a_timeout_of_their_own() {
    for (stream, provider, seconds) in
        [(false, "sim", 240.0), (false, "sim-anthropic", 120.0), (true, "sim", 120.0)]
    {
        let order = order(stream, provider, &[("a", None)]);
        let asked = walked(&order, |_| (Kind::Timeout, 1000 * SECOND)).await;
        assert_eq!(asked, [("a".into(), seconds)], "{provider} {stream}");
    }
}

/// The total deadline is above all others.
#[tokio::test(start_paused = true)]
async fn the_total_timeout_bounds_all_attempts() {
    let mut order = order(true, "sim", &[("a", None), ("b", None)]);
    Arc::get_mut(&mut order.context).expect("the only one").stream.total = Some(20 * SECOND);
    let asked = walked(&order, |_| (Kind::Timeout, 1000 * SECOND)).await;
    assert_eq!(asked, [("a".into(), 10.0), ("b".into(), 10.0)]);
}

#[tokio::test(start_paused = true)]
async fn failover_after_a_context_overflow_needs_a_larger_context() {
    let models = [("a", Some(8)), ("b", Some(8)), ("c", None), ("a", None), ("d", Some(9))];
    for (kind, expected) in [
        (Kind::Context, &["a", "c", "d"][..]),
        (Kind::TooLarge, &["a", "c", "d"]),
        (Kind::Invalid, &["a"]),
        (Kind::ContentPolicy, &["a"]),
        (Kind::Upstream, &["a", "b", "c", "a", "d"]),
    ] {
        let order = order(true, "sim", &models);
        let asked = walked(&order, |_| (kind, SECOND)).await;
        assert_eq!(names(&asked), expected, "{kind:?}");
    }
}

/// The model that is tried first, with the probe if it is one.
fn first(request: &UpstreamRequest) -> (String, Option<Probe>) {
    let (target, _, probe) = Walk::new(request).next().expect("a target");
    (target.model, probe)
}

/// An ejected target comes last, takes nothing of the others' time, and gets one probe after its pause.
#[tokio::test(start_paused = true)]
async fn failover_tries_an_ejected_target_last_until_a_probe_succeeds() {
    let order = order(true, "sim", &[("a", None), ("b", None)]);
    let a = &order.plan.targets[0];
    let timeout = Error::from_end(&End::TimedOut(Deadline::FirstToken));
    let early = FailedAttempt { target: a, error: &timeout, timed: false };
    order.health.failed(&order.plan, &early, Instant::now());
    assert_eq!(first(&order).0, "a", "it had no fair time");
    fail(&order.health, &order.plan, a, &timeout);
    let mut walk = Walk::new(&order);
    let (target, limits, _) = walk.next().expect("a target");
    assert_eq!(target.model, "b");
    assert_eq!(limits.deadline, order.context.time.started + order.context.stream.first_token);
    assert!(limits.followed, "by the last resort");
    assert_eq!(walk.next().expect("the last resort").0.model, "a");
    assert!(walk.next().is_none());
    advance(18 * SECOND).await;
    let (probed, probe) = first(&order);
    assert_eq!(probed, "a");
    assert_eq!(first(&order).0, "b", "one probe at a time");
    drop(probe);
    assert_eq!(first(&order).0, "b", "R9: a probe without a verdict");
    advance(5 * SECOND).await;
    assert_eq!(first(&order).0, "a", "is given back, some seconds later");
    order.health.succeeded(a, Instant::now());
    assert_eq!(first(&order).0, "a");
    let gauge = "streamgate_target_ejected{target=\"sim/a\"}";
    assert!(order.metrics.render().contains(&format!("{gauge} 0\n")), "{}", order.metrics.render());
}

/// The model of a caller's `provider/model` is never remembered; a rejected credential of the provider is.
#[tokio::test(start_paused = true)]
async fn direct_names_become_no_keys() {
    let mut order = order(true, "sim", &[("a", None)]);
    order.plan.direct = true;
    for number in 0..10_000 {
        order.plan.targets_mut()[0].model = format!("m{number}");
        let target = &order.plan.targets[0];
        for kind in [Kind::NotFound, Kind::Upstream, Kind::Permission, Kind::Authentication] {
            fail(&order.health, &order.plan, target, &failed(kind));
        }
    }
    let text = order.metrics.render();
    let ejected: Vec<_> =
        text.lines().filter(|line| line.starts_with("streamgate_target_e")).collect();
    assert_eq!(ejected, ["streamgate_target_ejected{target=\"sim/*\"} 1"]);
    order.plan.targets_mut()[0].model = "other".to_owned();
    assert!(order.health.is_ejected(&order.plan.targets[0], Instant::now()));
    order.health.configure(&config());
    assert!(order.health.is_ejected(&order.plan.targets[0], Instant::now()), "the same credential");
    let mut renewed = config();
    renewed.models.clear();
    let provider = renewed.providers.get_mut("sim").and_then(Arc::get_mut).expect("the only one");
    provider.api_key = Some(crate::config::secret::Secret::new("renewed"));
    *provider = provider.clone().identified();
    let target = &mut order.plan.targets_mut()[0];
    *target = Target::new(Arc::clone(&renewed.providers["sim"]), "m".to_owned());
    order.health.configure(&renewed);
    assert!(!order.health.is_ejected(&order.plan.targets[0], Instant::now()), "another credential");
    assert!(!order.metrics.render().contains("target_ejected{"), "{}", order.metrics.render());
}

#[test]
fn failover_of_all_targets_reports_the_most_useful_error() {
    let target = Target::new(Arc::clone(&config().providers["sim"]), "m".into());
    let attempt = Attempt::new((target, PickReason::Order), false, Instant::now());
    let shown = |errors: Vec<Error>| {
        let mut failures = Failures::default();
        for (index, error) in errors.into_iter().enumerate() {
            failures.add(error, None, (index, &attempt));
        }
        failures.best().err().expect("an error")
    };
    let limited = |seconds| failed(Kind::RateLimited).retry_after(SECOND * seconds);
    let error = shown(vec![limited(9), failed(Kind::Authentication), limited(3), limited(6)]);
    assert_eq!(error.wait(), Some(3 * SECOND));
    assert_eq!(error.attempt().map(|attempt| attempt.index), Some(2));
    for (kinds, kind) in [
        ([Kind::Upstream, Kind::Authentication], Kind::Upstream),
        ([Kind::Authentication, Kind::Timeout], Kind::Timeout),
        ([Kind::Context, Kind::RateLimited], Kind::Context),
        ([Kind::Billing, Kind::Authentication], Kind::Billing),
    ] {
        assert_eq!(shown(kinds.map(failed).into()).fault().kind, kind);
    }
}
