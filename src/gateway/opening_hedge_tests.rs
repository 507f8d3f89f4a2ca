//! Hedged attempts under a paused clock: the winner, the attempts that lose or fail, and the requests that are not hedged.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::config::{Hedge, HedgeAfter, ModelRouting, Provider};
use crate::error::Error;
use crate::gateway::answer::Answer;
use crate::gateway::offload::BufferedBody;
use crate::gateway::scripted::{answer, config, request as order};
use crate::gateway::source_script::Step as Part;
use crate::gateway::target_health::TargetHealth;
use crate::memory::MemoryBudget;
use crate::wire::chat::{ApiError, Kind};

const MS: Duration = Duration::from_millis(1);
const TEXT: &str =
    r#"data: {"id":"a","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;

/// The end of an attempt, after a time.
#[derive(Clone, Copy)]
enum Outcome {
    Text,
    Fails(Kind),
}

/// A request for a model whose targets, each at a host of its own, come to these outcomes.
fn hedged(hedge: Option<Hedge>, targets: &[(Duration, Outcome)]) -> UpstreamRequest {
    let mut request = order(true, "sim", &[("m", None)]);
    let mut config = config();
    let sim = Arc::clone(&config.providers["sim"]);
    let target = |place: usize| {
        let base_url = format!("http://h{place}.test/v1").parse().unwrap();
        let provider = Provider { name: format!("h{place}"), base_url, ..(*sim).clone() };
        let mut target = Target::new(Arc::new(provider.identified()), "m".to_owned());
        target.tier = u32::try_from(place).unwrap();
        target
    };
    let all: Vec<Target> = (0..targets.len()).map(target).collect();
    config.models.insert("x".to_owned(), all.clone().into());
    config.model_routing.insert("x".to_owned(), ModelRouting { hedge, ..ModelRouting::default() });
    request.health = Arc::new(TargetHealth::new(Arc::clone(&request.metrics), &config));
    (request.plan.targets, request.plan.hedge) = (all.into(), hedge);
    request.plan.demand.input = 100;
    let outcomes: HashMap<String, (Duration, Outcome)> =
        (0..).map(|place: usize| format!("h{place}")).zip(targets.iter().copied()).collect();
    request.script = Some(Arc::new(move |target, _| {
        let (takes, outcome) = outcomes[&target.provider.name];
        Box::pin(async move {
            sleep(takes).await;
            let failure = |kind| Error::upstream(ApiError::new(kind, "no"));
            let text = Part::Chunk(format!("{TEXT}\n\n").into());
            let steps = match outcome {
                Outcome::Text => vec![text],
                Outcome::Fails(kind) => return Err(failure(kind).into()),
            };
            let mut answer = answer(true, steps);
            answer.read_first(1 << 20, true).await?;
            Ok(answer)
        })
    }));
    request
}

const AFTER_500_MS: Hedge = Hedge {
    after: HedgeAfter::Time(Duration::from_millis(500)),
    at_least: Duration::ZERO,
    budget: 0.05,
    max_input: 1000,
};

/// The answer to a request, the milliseconds that it took, and the trail.
async fn opened(request: UpstreamRequest) -> (Result<Box<Answer>, Error>, u128, String) {
    let begun = Instant::now();
    let mut opening = Opening::new(request);
    let answer = opening.answer().await;
    let trail = crate::gateway::attempt::trail(opening.attempts.as_slice(), false);
    let took = begun.elapsed().as_millis();
    if let Ok((index, _)) = &answer {
        assert!(opening.attempts[*index].answered);
    }
    (answer.map(|(_, answer)| answer), took, trail.unwrap_or_default())
}

fn results(request: &UpstreamRequest) -> String {
    let text = request.metrics.render();
    let hedges = text.lines().filter_map(|line| line.strip_prefix("streamgate_hedges_total{"));
    let counted = hedges.filter(|line| !line.ends_with(" 0"));
    let results = counted.filter_map(|line| line.split("result=\"").nth(1)?.split('"').next());
    let mut results: Vec<_> = results.collect();
    results.sort_unstable();
    results.join(" ")
}

/// A copy of a request, whose health and metrics can be examined after it.
fn twin(request: &UpstreamRequest) -> UpstreamRequest {
    let mut twin = order(true, "sim", &[("m", None)]);
    (twin.plan, twin.health) = (request.plan.clone(), Arc::clone(&request.health));
    (twin.metrics, twin.script) = (Arc::clone(&request.metrics), request.script.clone());
    let memory = MemoryBudget::new(1 << 30, &twin.metrics);
    let json = r#"{"model":"x","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    twin.body = BufferedBody { text: json.to_owned(), lease: memory.requests.lease() }.into();
    twin
}

/// R23, R24: the first output wins, whichever attempt it is of; a failure never wins, and starts the next attempt at once.
#[tokio::test(start_paused = true)]
async fn r24_the_first_output_wins() {
    use Outcome::{Fails, Text};
    let overloaded = Fails(Kind::Overloaded);
    for (targets, took, trail, result) in [
        (vec![(3000 * MS, Text), (50 * MS, Text)], 550, "h0/m superseded, h1/m ok", "won"),
        (vec![(600 * MS, Text), (50_000 * MS, Text)], 600, "h0/m ok, h1/m superseded", "lost"),
        (vec![(400 * MS, Text), (50 * MS, Text)], 400, "", "not_needed"),
        (vec![(3000 * MS, Text), (50 * MS, overloaded)], 3000, "h0/m ok, h1/m target", "failed"),
        (
            vec![(3000 * MS, Text), (50 * MS, overloaded), (70 * MS, Text)],
            620,
            "h0/m superseded, h1/m target, h2/m ok",
            "failed won",
        ),
        (vec![(700 * MS, overloaded), (400 * MS, Text)], 900, "h0/m target, h1/m ok", "won"),
        (vec![(100 * MS, overloaded), (50 * MS, Text)], 150, "h0/m target, h1/m ok", ""),
        // The caller's own fault: no third one is asked.
        (
            vec![(900 * MS, Text), (50 * MS, Fails(Kind::Invalid)), (1 * MS, Text)],
            900,
            "h0/m ok, h1/m caller",
            "failed",
        ),
    ] {
        let request = hedged(Some(Hedge { budget: 1.0, ..AFTER_500_MS }), &targets);
        let (answer, time, seen) = opened(twin(&request)).await;
        assert!(answer.is_ok(), "{trail}");
        assert_eq!((time, seen.as_str()), (took, trail));
        drop(answer);
        assert_eq!(results(&request), result, "{trail}");
        for target in &*request.plan.targets {
            assert_eq!(request.health.open_streams(target), 0, "{trail}");
        }
    }
}

/// R24: if all contenders fail, the caller gets the error of them that is worth most.
#[tokio::test(start_paused = true)]
async fn r24_contenders_that_all_fail() {
    use Outcome::Fails;
    let targets = [(900 * MS, Fails(Kind::Overloaded)), (50 * MS, Fails(Kind::Authentication))];
    let (answer, time, trail) = opened(twin(&hedged(Some(AFTER_500_MS), &targets))).await;
    let error = answer.err().expect("an error");
    assert_eq!(error.fault().kind, Kind::Overloaded);
    assert_eq!((time, trail.as_str()), (900, "h0/m target, h1/m credential"));
}

/// R24: after an error of the caller's, no third target is asked, whatever the other attempt fails with.
#[tokio::test(start_paused = true)]
async fn r24_an_error_of_the_callers_stays_final() {
    use Outcome::{Fails, Text};
    let (invalid, overloaded) = (Fails(Kind::Invalid), Fails(Kind::Overloaded));
    for targets in [
        [(600 * MS, invalid), (400 * MS, overloaded), (MS, Text)],
        [(900 * MS, overloaded), (100 * MS, invalid), (MS, Text)],
    ] {
        let (answer, time, _) = opened(twin(&hedged(Some(AFTER_500_MS), &targets))).await;
        let error = answer.err().expect("an error");
        assert_eq!((error.fault().kind, time), (Kind::Invalid, 900));
    }
}

/// R24: the fallback for a content filter serves, whichever of two attempts met it.
#[tokio::test(start_paused = true)]
async fn r24_a_content_filter_has_its_fallback() {
    use Outcome::{Fails, Text};
    let (filtered, overloaded) = (Fails(Kind::ContentPolicy), Fails(Kind::Overloaded));
    for first in [
        [(600 * MS, filtered), (400 * MS, overloaded)],
        [(900 * MS, overloaded), (100 * MS, filtered)],
    ] {
        let mut request = hedged(Some(AFTER_500_MS), &[first[0], first[1], (MS, Text)]);
        let all = Arc::clone(&request.plan.targets);
        request.plan.targets = all[..2].into();
        let content_policy = vec![all[2].clone()];
        let fallback = crate::config::Fallback { content_policy, ..Default::default() };
        request.plan.fallback = Some(Arc::new(fallback));
        let (answer, time, _) = opened(twin(&request)).await;
        assert!(answer.is_ok());
        assert_eq!(time, 901);
    }
}

/// R23: an attempt that lost is counted with its estimated input, is no failure, and was at least as slow as it was.
#[tokio::test(start_paused = true)]
async fn r23_the_attempt_that_lost_is_the_operators() {
    let request =
        hedged(Some(AFTER_500_MS), &[(3000 * MS, Outcome::Text), (50 * MS, Outcome::Text)]);
    for _ in 0..10 {
        drop(opened(twin(&request)).await);
        advance(10_000 * MS).await;
    }
    let [lost, won] = &*request.plan.targets else { panic!("two targets") };
    let wasted = "streamgate_wasted_tokens_total{target=\"h0/m\",purpose=\"hedge\"} 1000";
    assert!(request.metrics.render().contains(wasted), "{}", request.metrics.render());
    assert!(!request.health.is_ejected(lost, Instant::now()));
    let ttft = |target| request.health.ttft(target, PromptSize::Small, Instant::now()).0;
    assert!((ttft(lost) - 0.55).abs() < 0.01, "{}", ttft(lost));
    assert!((ttft(won) - 0.05).abs() < 0.01, "{}", ttft(won));
}

/// R23: hedges are a share of the requests, however slow the first target is.
#[tokio::test(start_paused = true)]
async fn r23_a_thousand_slow_requests_are_hedged_within_the_budget() {
    let request =
        hedged(Some(AFTER_500_MS), &[(1000 * MS, Outcome::Text), (10 * MS, Outcome::Text)]);
    let mut hedged = 0_u32;
    for _ in 0..1000 {
        hedged += u32::from(!opened(twin(&request)).await.2.is_empty());
    }
    assert!((50..=200).contains(&hedged), "{hedged}: 5 %, and one in ten seconds");
}

/// The percentile of the target's own times; unknown: no hedge.
#[tokio::test(start_paused = true)]
async fn hedges_begin_after_the_percentile_of_the_target() {
    let hedge = Hedge { after: HedgeAfter::Part(0.95), at_least: 100 * MS, ..AFTER_500_MS };
    let request = hedged(Some(hedge), &[(1000 * MS, Outcome::Text), (10 * MS, Outcome::Text)]);
    assert_eq!(opened(twin(&request)).await.1, 1000, "unknown");
    let begin = || {
        request.health.begin((&request.plan.targets[0], false), (PromptSize::Small, Instant::now()))
    };
    for _ in 0..20 {
        let mut stream = begin().expect("a stream");
        advance(150 * MS).await;
        stream.has_output(false, Instant::now());
    }
    let (_, took, trail) = opened(twin(&request)).await;
    assert!((160..=240).contains(&took), "{took}");
    assert_eq!(trail, "h0/m superseded, h1/m ok");
}

/// Requests that may be sent once only, or would cost much, are never hedged.
#[tokio::test(start_paused = true)]
async fn r24_requests_that_are_not_hedged() {
    let request =
        hedged(Some(AFTER_500_MS), &[(1000 * MS, Outcome::Text), (10 * MS, Outcome::Text)]);
    let changes: [fn(&mut UpstreamRequest); 6] = [
        |request| request.side_effects = Some(true),
        |request| request.plan.demand.choices = 2,
        |request| request.plan.demand.input = 1001,
        |request| request.plan.hedge = None,
        |request| request.plan.attempts = std::num::NonZeroU32::new(1),
        |request| {
            request.plan.targets_mut()[1].provider = Arc::clone(&request.plan.targets[0].provider);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut asked = twin(&request);
        change(&mut asked);
        let (answer, took, trail) = opened(asked).await;
        assert!(answer.is_ok());
        assert_eq!((took, trail.as_str()), (1000, ""), "change {number}");
    }
}

/// R9: a probe of a target that hangs costs its caller a second, not the first token.
#[tokio::test(start_paused = true)]
async fn r09_a_probe_that_hangs_costs_a_second() {
    let request = hedged(None, &[(1_000_000 * MS, Outcome::Text), (10 * MS, Outcome::Text)]);
    let error = Error::upstream(ApiError::new(Kind::NotFound, "no"));
    let target = &request.plan.targets[0];
    let failed = FailedAttempt { target, error: &error, timed: true };
    request.health.failed(&request.plan, &failed, Instant::now());
    advance(Duration::from_hours(1)).await;
    let (_, took, trail) = opened(twin(&request)).await;
    assert_eq!((took, trail.as_str()), (1010, "h0/m superseded, h1/m ok"));
    let next = request.health.state(target, Instant::now());
    assert!(matches!(next, TargetState::Out(..)), "it has decided nothing: {next:?}");
}
