//! The choice of targets: tiers, weights, load, time to first token, and keys.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::config::{Affinity, Provider, SessionSource, SlowAction, Target};
use crate::error::Error;
use crate::gateway::limit::TokenDemand;
use crate::gateway::scripted::{config, request, tally};
use crate::gateway::target_health::{FailedAttempt, InProgress};
use crate::gateway::upstream_request::UpstreamRequest;
use crate::prices::{ModelPrice, Price, Rates};
use crate::wire::chat::{ApiError, Kind};

const SECOND: Duration = Duration::from_secs(1);

const AFFINITY: Affinity =
    Affinity { by: [Some(SessionSource::Header), None, None, None, None], slack: Some(1.25) };

/// A request for models of one tier, with these weights.
fn balanced(pick: Pick, weights: &[u32]) -> UpstreamRequest {
    let names: Vec<String> = (0..weights.len()).map(|number| format!("m{number}")).collect();
    let models: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
    let mut request = request(true, "sim", &models);
    request.plan.pick = pick;
    for (target, weight) in request.plan.targets_mut().iter_mut().zip(weights) {
        target.weight = *weight;
    }
    let mut config = config();
    config.models.insert("x".to_owned(), request.plan.targets.clone());
    config
        .model_routing
        .insert("x".to_owned(), crate::config::ModelRouting { pick, ..Default::default() });
    request.health.configure(&config);
    request
}

fn select(request: &UpstreamRequest) -> Selection {
    let mut policy = ByTier::new(Arc::clone(&request.health));
    policy.next(&request.plan, &[], Instant::now()).expect("a target")
}

fn counts(request: &UpstreamRequest, picks: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        *counts.entry(select(request).target.model).or_default() += 1;
    }
    counts
}

fn eject(request: &UpstreamRequest, place: usize, kind: Kind) {
    let error = Error::upstream(ApiError::new(kind, "no"));
    let target = &request.plan.targets[place];
    let failed = FailedAttempt { target, error: &error, timed: true };
    request.health.failed(&request.plan, &failed, Instant::now());
}

/// Weights are exact in every cycle, and the share of a target that is out is spread over the others.
#[tokio::test(start_paused = true)]
async fn weighted_picks_match_the_weights() {
    let request = balanced(Pick::Weighted, &[5, 3, 2, 0]);
    let exact = [("m0", 5000), ("m1", 3000), ("m2", 2000)];
    let exact = exact.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(counts(&request, 10_000), exact);
    eject(&request, 0, Kind::NotFound);
    let spread = counts(&request, 10_000);
    assert!(!spread.contains_key("m0") && !spread.contains_key("m3"), "{spread:?}");
    let share = |name: &str| i64::try_from(spread[name]).unwrap();
    assert!((share("m1") - 6000).abs() < 250 && (share("m2") - 4000).abs() < 250, "{spread:?}");
}

#[tokio::test(start_paused = true)]
async fn least_loaded_spreads_answers_in_progress() {
    let request = balanced(Pick::LeastLoaded, &[2, 1, 1]);
    let open: Vec<Selection> = (0..40).map(|_| select(&request)).collect();
    let count = |name: &str| open.iter().filter(|open| open.target.model == name).count();
    assert_eq!((count("m0"), count("m1"), count("m2")), (20, 10, 10));
    drop(open);
    assert!(request.plan.targets.iter().all(|target| request.health.open_streams(target) == 0));
    let many = balanced(Pick::LeastLoaded, &[1; 20]);
    let open: Vec<Selection> = (0..400).map(|_| select(&many)).collect();
    let most = many.plan.targets.iter().map(|target| many.health.open_streams(target)).max();
    assert!(most.is_some_and(|most| most <= 24), "two choices balance: {most:?}");
    drop(open);
}

/// R12, R13: the shortest raw time to first token; a target that hangs is left before its timeout.
#[tokio::test(start_paused = true)]
async fn r13_fastest_leaves_slow_and_hanging_targets() {
    let request = balanced(Pick::Fastest, &[1, 1, 1]);
    let mut hanging = Vec::new();
    let mut served = BTreeMap::<String, usize>::new();
    for round in 0..400 {
        let mut selection = select(&request);
        let takes = match &*selection.target.model {
            "m0" => Duration::from_millis(20),
            "m1" => Duration::from_millis(200),
            _ => {
                hanging.push((round, selection));
                continue;
            }
        };
        advance(takes).await;
        selection.stream.has_output(false, Instant::now());
        if round >= 50 {
            *served.entry(selection.target.model).or_default() += 1;
        }
    }
    let late = hanging.iter().filter(|(round, _)| *round >= 200).count();
    assert!(late <= 10, "{late} of 200 went to the one that hangs");
    assert!(served["m0"] > 300, "{served:?}");
}

/// A request goes to the lowest price for its own size, whatever is known of speed, and to the others when that cannot
/// serve; a target without a price, or with the weight 0, comes last.
#[tokio::test(start_paused = true)]
async fn cheapest_is_the_lowest_price_for_the_request() {
    let mut request = balanced(Pick::Cheapest, &[1, 1, 1, 0, 1, 1]);
    let prices = [("1", "10"), ("3", "3"), ("3.1", "3"), ("0", "0"), ("5", "20")];
    for (target, (input, output)) in request.plan.targets_mut().iter_mut().zip(prices) {
        let rates =
            Rates { input: input.parse().ok(), output: output.parse().ok(), ..Rates::default() };
        target.price = Some(Arc::new(ModelPrice(vec![Price { rates, ..Price::default() }])));
    }
    let mut chosen = |input: u64, max_output: u64| {
        request.plan.demand = TokenDemand { input, max_output: Some(max_output), choices: 1 };
        counts(&request, 100).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(chosen(10_000, 100), ["m0"], "much input");
    assert_eq!(chosen(100, 400), ["m1", "m2"], "much output, and the same price");
    for place in 0..3 {
        eject(&request, place, Kind::NotFound);
    }
    let mut policy = ByTier::new(Arc::clone(&request.health));
    let mut next = || policy.next(&request.plan, &[], Instant::now());
    let walk: Vec<_> = std::iter::from_fn(|| Some(next()?.target.model)).collect();
    assert_eq!(walk[0], "m4");
    assert!(
        walk[1..].contains(&"m3".to_owned()) && walk[1..].contains(&"m5".to_owned()),
        "{walk:?}"
    );
    let answered = request
        .health
        .begin((&request.plan.targets[4], false), (PromptSize::Small, Instant::now()));
    let answered = answered.expect("a stream");
    let target = request.plan.targets[4].clone();
    let named = (target.clone(), Arc::clone(target.name()));
    InProgress::new(answered, &request.health, named).completed(&tally(77));
    assert_eq!(request.health.typical_output(&target), Some(77));
}

/// R25: ten slow answers in a row are five failures.
#[tokio::test(start_paused = true)]
async fn r25_a_target_whose_answers_are_slow_is_ejected() {
    let request = balanced(Pick::Order, &[1, 1]);
    let target = &request.plan.targets[0];
    for count in 0..10 {
        assert!(!request.health.is_ejected(target, Instant::now()), "{count}");
        let stream = request.health.begin((target, false), (PromptSize::Small, Instant::now()));
        let named = (target.clone(), Arc::clone(target.name()));
        let answer = InProgress::new(stream.expect("a stream"), &request.health, named);
        answer.slowed(SlowAction::Mark, Instant::now());
    }
    assert!(request.health.is_ejected(target, Instant::now()));
    let counted = "streamgate_slow_streams_total{target=\"sim/m0\",then=\"mark\"} 10";
    assert!(request.metrics.render().contains(counted));
}

/// R3, R20: a rate limit of one model moves its requests at once; the other models of the provider stay, and two
/// models that are limited mean the whole credential.
#[tokio::test(start_paused = true)]
async fn r03_a_rate_limit_of_one_model_is_its_own() {
    let request = balanced(Pick::Order, &[1, 1, 1]);
    let state = |place: usize| request.health.state(&request.plan.targets[place], Instant::now());
    let limit = |place: usize| {
        let error = Error::upstream(ApiError::new(Kind::RateLimited, "no"));
        let error = error.cooling_for(Some(60 * SECOND));
        let target = &request.plan.targets[place];
        let failed = FailedAttempt { target, error: &error, timed: true };
        request.health.failed(&request.plan, &failed, Instant::now());
    };
    eject(&request, 0, Kind::RateLimited);
    assert_eq!(state(0), TargetState::Ready(1.0), "busy: nobody's fault");
    limit(0);
    assert!(matches!(state(0), TargetState::Out(Outage::Cooling, _)));
    assert_eq!((state(1), state(2)), (TargetState::Ready(1.0), TargetState::Ready(1.0)));
    limit(1);
    assert!(matches!(state(2), TargetState::Out(Outage::Cooling, _)), "two models: the credential");
    advance(60 * SECOND).await;
    assert_eq!(state(0), TargetState::Ready(1.0));
}

/// A provider `sim` with keys `a` and `b`.
fn keyed(request: &mut UpstreamRequest) {
    let mut config = config();
    let sim = Arc::clone(&config.providers["sim"]);
    let key = |name: &str| {
        let key = Some(name.into());
        let api_key = Some(crate::config::secret::Secret::new(name));
        Provider { api_key, key, ..(*sim).clone() }.identified()
    };
    let provider = Arc::new(Provider { others: vec![Arc::new(key("b"))], ..key("a") });
    let target = |model: &str| Target::new(Arc::clone(&provider), model.to_owned());
    let mut targets = target("m").keyed();
    let mut spare = target("spare");
    spare.tier = 2;
    targets.extend(spare.keyed());
    config.providers.insert("sim".to_owned(), provider);
    config.models.insert("x".to_owned(), targets.clone().into());
    request.health.configure(&config);
    request.plan.targets = targets.into();
}

/// R17: another key helps where the key is to blame; where the target is, another target comes first.
#[tokio::test(start_paused = true)]
async fn r17_keys_are_walked_where_the_key_is_to_blame() {
    for (kind, walk) in [
        (Kind::Authentication, ["m a", "m b", "spare a", "spare b"]),
        (Kind::Billing, ["m a", "m b", "spare a", "spare b"]),
        (Kind::RateLimited, ["m a", "m b", "spare a", "spare b"]),
        (Kind::Upstream, ["m a", "spare a", "m b", "spare b"]),
    ] {
        let mut request = balanced(Pick::Order, &[1]);
        keyed(&mut request);
        let (mut policy, mut tried) = (ByTier::new(Arc::clone(&request.health)), Vec::new());
        let mut walked = Vec::new();
        while let Some(selection) = policy.next(&request.plan, &tried, Instant::now()) {
            let target = &selection.target;
            let key = target.provider.key.as_deref().unwrap_or_default();
            walked.push(format!("{} {key}", target.model));
            let mut attempt = Attempt::new((target.clone(), selection.why), false, Instant::now());
            attempt.fail(&Error::upstream(ApiError::new(kind, "no")));
            tried.push(attempt);
        }
        assert_eq!(walked, walk, "{kind:?}");
    }
}

/// R18: a revoked key is left for all of its models, and the other key serves them.
#[tokio::test(start_paused = true)]
async fn r18_a_revoked_key_is_left_and_the_other_one_serves() {
    let mut request = balanced(Pick::Order, &[1]);
    keyed(&mut request);
    eject(&request, 0, Kind::Authentication);
    let key = |place: usize| request.health.state(&request.plan.targets[place], Instant::now());
    assert!(matches!((key(0), key(2)), (TargetState::Out(..), TargetState::Out(..))));
    assert_eq!((key(1), key(3)), (TargetState::Ready(1.0), TargetState::Ready(1.0)));
    assert_eq!(select(&request).target.provider.key.as_deref(), Some("b"));
}

/// R10: when all targets are out, the one that is well again first is tried; a lone one always is.
#[tokio::test(start_paused = true)]
async fn r10_when_all_targets_are_out_the_soonest_is_tried() {
    let request = balanced(Pick::Order, &[1, 1, 1]);
    eject(&request, 0, Kind::NotFound);
    (0..5).for_each(|_| eject(&request, 1, Kind::Upstream));
    advance(SECOND).await;
    (0..5).for_each(|_| eject(&request, 2, Kind::Upstream));
    let selection = select(&request);
    assert_eq!(selection.why, PickReason::LastResort);
    assert_ne!(selection.target.model, "m0", "only the operator can mend it");
    let lone = balanced(Pick::Order, &[1]);
    eject(&lone, 0, Kind::NotFound);
    assert_eq!(select(&lone).why, PickReason::Order);
}

/// Neither a target with a rate limit nor one that needs the operator is asked before its time; with
/// `when_all_down: refuse`, one with failures is not, either.
#[tokio::test(start_paused = true)]
async fn when_all_targets_are_down_only_those_with_failures_are_tried() {
    let request = balanced(Pick::Order, &[1, 1]);
    let next = |request: &UpstreamRequest| {
        ByTier::new(Arc::clone(&request.health)).next(&request.plan, &[], Instant::now())
    };
    eject(&request, 0, Kind::NotFound);
    request.health.limited(&request.plan.targets[1], 60 * SECOND, Instant::now());
    assert!(next(&request).is_none());
    let refusal = |place: usize| {
        request
            .health
            .refusal(&request.plan.targets[place], Instant::now())
            .map(|it| (it.outage, it.kind))
    };
    assert_eq!(refusal(0), Some((Outage::Hard, Kind::NotFound)));
    assert_eq!(refusal(1), Some((Outage::Cooling, Kind::RateLimited)));
    advance(60 * SECOND).await;
    assert_eq!(next(&request).map(|found| found.target.model), Some("m1".to_owned()));
    (0..5).for_each(|_| eject(&request, 1, Kind::Upstream));
    assert_eq!(next(&request).map(|found| found.why), Some(PickReason::LastResort));
    let mut refusing = balanced(Pick::Order, &[1, 1]);
    for target in refusing.plan.targets_mut() {
        let mut provider = (*target.provider).clone();
        provider.health.uses_ejected = false;
        target.provider = Arc::new(provider);
    }
    for place in [0, 1] {
        (0..5).for_each(|_| eject(&refusing, place, Kind::Upstream));
    }
    assert!(next(&refusing).is_none());
}

/// `panic`: with less than the share of the weight left, failures are ignored within the tier, but not what only the
/// operator can mend.
#[tokio::test(start_paused = true)]
async fn in_panic_failures_eject_nothing() {
    let mut request = balanced(Pick::Weighted, &[1, 1, 1, 1]);
    for target in request.plan.targets_mut() {
        let mut provider = (*target.provider).clone();
        provider.health.panic = 0.5;
        target.provider = Arc::new(provider);
    }
    eject(&request, 0, Kind::NotFound);
    (0..5).for_each(|_| eject(&request, 1, Kind::Upstream));
    assert_eq!(counts(&request, 400).into_keys().collect::<Vec<_>>(), ["m2", "m3"]);
    // Two models that fail are taken for their host: all of it.
    (0..5).for_each(|_| eject(&request, 2, Kind::Upstream));
    assert_eq!(counts(&request, 400).into_keys().collect::<Vec<_>>(), ["m1", "m2", "m3"]);
}

/// A target that an operator drains gets nothing, even as the only one, until it is reset; a reload does not end that.
#[tokio::test(start_paused = true)]
async fn a_drained_target_gets_no_requests() {
    let request = balanced(Pick::Order, &[1, 1]);
    let open = select(&request);
    assert_eq!(open.target.model, "m0");
    assert!(request.health.drain("sim/m0") && !request.health.drain("sim/none"));
    assert_eq!(select(&request).target.model, "m1");
    let mut config = config();
    config.models.insert("x".to_owned(), request.plan.targets.clone());
    request.health.configure(&config);
    assert_eq!(select(&request).target.model, "m1");
    assert_eq!(request.health.open_streams(&request.plan.targets[0]), 1, "its answer goes on");
    request.health.drain("sim/m1");
    let mut policy = ByTier::new(Arc::clone(&request.health));
    assert!(policy.next(&request.plan, &[], Instant::now()).is_none());
    assert!(request.health.reset("sim/m0"));
    assert_eq!(select(&request).target.model, "m0");
    let lone = balanced(Pick::Order, &[1]);
    lone.health.drain("sim/m0");
    assert!(ByTier::new(Arc::clone(&lone.health)).next(&lone.plan, &[], Instant::now()).is_none());
}

/// R1: a caller that leaves before the first output is nobody's fault, and leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn r01_callers_that_leave_cost_no_target_its_health() {
    let request = balanced(Pick::LeastLoaded, &[1, 1, 1]);
    for _ in 0..1000 {
        let selection = select(&request);
        advance(Duration::from_millis(10)).await;
        drop(selection);
    }
    for target in &*request.plan.targets {
        assert_eq!(request.health.state(target, Instant::now()), TargetState::Ready(1.0));
        assert_eq!(request.health.open_streams(target), 0);
    }
    let status = request.health.status(Instant::now());
    assert!(status.iter().all(|one| one.states.iter().all(|state| state.0 == "closed")));
}

fn session_header(number: usize) -> http::HeaderMap {
    let name = http::HeaderValue::from_str(&number.to_string()).unwrap();
    http::HeaderMap::from_iter([("x-session-id".parse().unwrap(), name)])
}

/// The places of 1,000 sessions, none of which has an answer in progress.
fn sessions(request: &mut UpstreamRequest) -> Vec<String> {
    let place = |number: usize| {
        let headers = session_header(number);
        request.plan.session = Session::of(&AFFINITY, (&headers, "caller"), "");
        select(request).target.model
    };
    (0..1000).map(place).collect()
}

/// Assigned sessions follow the weights exactly enough, whatever the load; a change of weights moves the difference alone,
/// and a canary that is ejected costs nobody an answer.
#[tokio::test(start_paused = true)]
async fn sticky_sessions_are_assigned_by_weight() {
    let mut request = balanced(Pick::Weighted, &[9, 1]);
    let assigned = |request: &mut UpstreamRequest| -> Vec<(String, PickReason)> {
        let sessions = (0..2000).map(|number| {
            let headers = session_header(number);
            let affinity = Affinity { slack: None, ..AFFINITY };
            request.plan.session = Session::of(&affinity, (&headers, "caller"), "");
            let Selection { target, why, .. } = select(request);
            (target.model, why)
        });
        sessions.collect()
    };
    // One that has all of the load keeps its sessions.
    let _busy: Vec<_> = (0..500)
        .map(|_| {
            request
                .health
                .begin((&request.plan.targets[0], false), (PromptSize::Small, Instant::now()))
        })
        .collect();
    let before = assigned(&mut request);
    let canary = before.iter().filter(|(model, _)| model == "m1").count();
    assert!((150..=250).contains(&canary), "{canary} of 2000, a tenth");
    assert!(before.iter().all(|(_, why)| *why == PickReason::Sticky));
    request.plan.targets_mut()[1].weight = 3;
    let after = assigned(&mut request);
    let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a.0 != b.0).collect();
    assert!(moved.iter().all(|(_, (model, _))| model == "m1"), "only to the canary");
    let canary = after.iter().filter(|(model, _)| model == "m1").count();
    assert!((420..=580).contains(&canary), "{canary} of 2000, a quarter");
    eject(&request, 1, Kind::NotFound);
    let spilt = assigned(&mut request);
    assert!(spilt.iter().all(|(model, _)| model == "m0"));
    assert_eq!(spilt.iter().filter(|(_, why)| *why == PickReason::Spill).count(), canary);
}

/// R15: nothing is remembered: a target that comes back has its sessions again, and one that is out moves no others.
#[tokio::test(start_paused = true)]
async fn r15_a_session_stays_and_returns() {
    let mut request = balanced(Pick::LeastLoaded, &[1; 10]);
    let before = sessions(&mut request);
    assert_eq!(sessions(&mut request), before);
    eject(&request, 3, Kind::NotFound);
    let without = sessions(&mut request);
    let moved: Vec<_> =
        before.iter().zip(&without).filter(|(a, b)| a != b).map(|(a, _)| a.as_str()).collect();
    assert!(moved.iter().all(|model| *model == "m3") && moved.len() <= 140, "{}", moved.len());
    let target = request.plan.targets[3].clone();
    request.health.succeeded(&target, Instant::now());
    assert_eq!(sessions(&mut request), before);
}

/// R14: a session with most of the traffic does not overload its target.
#[tokio::test(start_paused = true)]
async fn r14_a_hot_session_spills_to_others() {
    let mut request = balanced(Pick::Order, &[1; 4]);
    request.plan.targets_mut().iter_mut().for_each(|target| target.tier = 1);
    let headers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("streamgate-session"),
        http::HeaderValue::from_static("hot"),
    )]);
    request.plan.session = Session::of(&AFFINITY, (&headers, "caller"), "");
    let open: Vec<Selection> = (0..100).map(|_| select(&request)).collect();
    let loads: Vec<u32> =
        request.plan.targets.iter().map(|target| request.health.open_streams(target)).collect();
    assert!(loads.iter().all(|load| *load <= 33), "1.25 times the average, and one: {loads:?}");
    assert!(open.iter().any(|selection| selection.why == PickReason::Spill));
    let of = |caller| Session::of(&AFFINITY, (&headers, caller), "");
    assert_ne!(of("caller"), of("other"));
}

/// A reload keeps what is known of targets, and of credentials and hosts behind new ones.
#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_health_of_targets() {
    let request = balanced(Pick::Order, &[1, 1]);
    eject(&request, 0, Kind::NotFound);
    eject(&request, 1, Kind::Authentication);
    let open = request
        .health
        .begin((&request.plan.targets[0], false), (PromptSize::Small, Instant::now()));
    let mut config = config();
    let added = Target::new(Arc::clone(&config.providers["sim"]), "added".to_owned());
    config.models.insert("y".to_owned(), [request.plan.targets[0].clone(), added.clone()].into());
    request.health.configure(&config);
    let state = |target: &Target| request.health.state(target, Instant::now());
    assert!(matches!(state(&request.plan.targets[0]), TargetState::Out(Outage::Hard, _)));
    assert!(matches!(state(&added), TargetState::Out(Outage::Hard, _)), "the same credential");
    assert_eq!(request.health.open_streams(&request.plan.targets[0]), 1);
    drop(open);
    assert_eq!(request.health.open_streams(&request.plan.targets[0]), 0);
    advance(2 * 300 * SECOND).await;
    assert_eq!(
        (state(&request.plan.targets[0]), state(&added)),
        (TargetState::Probe, TargetState::Probe)
    );
}

/// A request that does not fit into a target's context goes to the others, if there are any.
#[test]
fn targets_that_are_too_small_are_left_out() {
    let contexts = [("small", Some(1000)), ("large", Some(10_000)), ("unknown", None)];
    for (input, max_output, left) in [
        (100, None, &["small", "large", "unknown"][..]),
        (910, None, &["large", "unknown"]),
        (100, Some(900), &["large", "unknown"]),
        (u64::MAX, Some(u64::MAX), &["unknown"]),
    ] {
        let mut plan = request(true, "sim", &contexts).plan;
        plan.demand = TokenDemand { input, max_output, choices: 1 };
        let out = plan.leave_out_small();
        let names: Vec<_> = plan.targets.iter().map(|target| target.model.as_str()).collect();
        assert_eq!(names, left);
        assert_eq!(out.len() + left.len(), 3);
    }
    let mut plan = request(true, "sim", &contexts[..2]).plan;
    plan.demand.input = 1_000_000;
    assert!(plan.leave_out_small().is_empty() && plan.targets.len() == 2, "the upstream decides");
}
