//! Tests of streams by script and paused time: heartbeats, deadlines, the end of the process, callers who leave, and
//! panics.

use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderMap, Request, Response};
use opentelemetry_http::{Bytes as Body, HttpClient, HttpError};

use super::*;
use crate::config::{Limits, Otlp, Slow, SlowAction};
use crate::gateway::account::Account;
use crate::gateway::limit::{Limiter, Scope, TokenDemand};
use crate::gateway::opening::Opening;
use crate::gateway::scripted::{Scene, Settled, request};
use crate::gateway::source_script::Step;
use crate::gateway::state::sinks;
use crate::gateway::upstream_request::RequestContext;
use crate::telemetry::Metrics;
use crate::telemetry::trace::Tracing;
use crate::wire::dialect::caller_dialects;

const SECOND: Duration = Duration::from_secs(1);

fn text(word: &str) -> Step {
    let chunk = r#"{"id":"a","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"#;
    Step::Chunk(format!("data: {chunk}\"{word}\"}}}}]}}\n\n").into())
}

/// The stop, the usage, and the terminal.
fn stop() -> Step {
    let chunk =
        r#"{"id":"a","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    Step::Chunk(format!("data: {chunk}\n\n").into())
}

fn usage(output: u64) -> Step {
    let usage = format!(r#"{{"prompt_tokens":7,"completion_tokens":{output},"total_tokens":9}}"#);
    let chunk = format!(r#"{{"id":"a","model":"m","choices":[],"usage":{usage}}}"#);
    Step::Chunk(format!("data: {chunk}\n\n").into())
}

fn done() -> Step {
    Step::Chunk("data: [DONE]\n\n".into())
}

/// The parts of a body, each with the second at which it arrives: texts, `:` for a heartbeat, `error`, `end`.
async fn delivered(production: Production) -> Vec<(u64, String)> {
    let begun = Instant::now();
    let mut body = pin!(stream(production));
    let mut seen = Vec::new();
    while let Some(bytes) = body.next().await {
        let seconds = begun.elapsed().as_secs();
        let bytes = String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        if bytes.starts_with(':') {
            seen.push((seconds, ":".to_owned()));
        }
        for line in bytes.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let kind = match &event {
                event if event.get("error").is_some() => "error",
                event if event.is_null() => "end",
                event => event["choices"][0]["delta"]["content"].as_str().unwrap_or_default(),
            };
            if !kind.is_empty() {
                seen.push((seconds, kind.to_owned()));
            }
        }
    }
    seen
}

fn seen(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(seconds, kind)| (*seconds, (*kind).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn heartbeats_fill_the_silence_between_outputs() {
    let mut scene = Scene::new();
    scene.deadlines.heartbeat = 10 * SECOND;
    let ping = || Step::Chunk(": ping\n\n".into());
    // An upstream's own pings are not forwarded, and do not put heartbeats off.
    let steps = [
        text("a"),
        Step::Wait(4 * SECOND),
        text("b"),
        Step::Wait(9 * SECOND),
        ping(),
        Step::Wait(16 * SECOND),
        text("c"),
        Step::Wait(9 * SECOND),
        stop(),
        usage(3),
        done(),
    ];
    let events = delivered(scene.production(true, steps)).await;
    let expected = [(0, "a"), (4, "b"), (14, ":"), (24, ":"), (29, "c"), (38, "end")];
    assert_eq!(events, seen(&expected));
    let settled = scene.settled();
    assert_eq!((settled.outcome, settled.heartbeats, settled.output), ("complete", 2, (3, false)));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_begin_before_the_first_output() {
    let mut scene = Scene::new();
    scene.deadlines.heartbeat = 10 * SECOND;
    let steps = [Step::Wait(25 * SECOND), text("a"), stop(), usage(1), done()];
    let events = delivered(scene.production(true, steps)).await;
    assert_eq!(events, seen(&[(10, ":"), (20, ":"), (25, "a"), (25, "end")]));
    assert_eq!(scene.settled().heartbeats, 2);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stalls_or_takes_too_long_in_all_is_a_timeout() {
    for (stall, total, seconds, outcome) in
        [(12, None, 15, "stalled"), (60, Some(20), 20, "upstream_timeout")]
    {
        let mut scene = Scene::new();
        scene.deadlines.heartbeat = 10 * SECOND;
        scene.deadlines.stall = stall * SECOND;
        scene.deadlines.total = total.map(|total| total * SECOND);
        let steps = [text("a"), Step::Wait(3 * SECOND), text("b"), Step::Hang];
        let events = delivered(scene.production(true, steps)).await;
        assert_eq!(events, seen(&[(0, "a"), (3, "b"), (13, ":"), (seconds, "error")]));
        assert_eq!(scene.settled().outcome, outcome);
    }
}

/// R25: an answer that trickles breaks off, or goes on with a mark against its target; one that is fast but for its
/// caller, or has stopped, does neither.
#[tokio::test(start_paused = true)]
async fn r25_an_answer_that_is_too_slow_breaks_off() {
    let slow = |then| {
        let bytes_per_second = NonZeroU32::new(20).unwrap();
        let mut request = request(true, "sim", &[("m", None)]);
        request.plan.slow = Some(Slow { bytes_per_second, over: 5 * SECOND, then });
        request
    };
    let trickle =
        || [text("a"), Step::Wait(2 * SECOND), text("b"), Step::Wait(8 * SECOND), text("c")];
    let whole = || trickle().into_iter().chain([stop(), Step::Wait(9 * SECOND), done()]);
    let scene = Scene::new();
    let events = delivered(scene.production_of(slow(SlowAction::Break), whole())).await;
    assert_eq!(events, seen(&[(0, "a"), (2, "b"), (5, "error")]));
    assert_eq!(scene.settled().outcome, "slow");
    for (then, steps) in [
        (SlowAction::Mark, whole().collect::<Vec<_>>()),
        (SlowAction::Break, vec![text("a"), stop(), Step::Wait(60 * SECOND), done()]),
    ] {
        let mut scene = Scene::new();
        scene.deadlines.heartbeat = 100 * SECOND;
        let events = delivered(scene.production_of(slow(then), steps)).await;
        assert!(events.iter().all(|(_, kind)| kind != "error"), "{events:?}");
        assert_eq!(scene.settled().outcome, "complete");
    }
    let scene = Scene::new();
    let fast = (0..60).flat_map(|_| [text("a"), Step::Wait(Duration::from_millis(40))]);
    let mut production = scene.production_of(slow(SlowAction::Break), fast.chain([stop(), done()]));
    production.open().await.unwrap();
    while !matches!(production.next(None).await, production::Next::Ended) {
        tokio::time::sleep(SECOND).await;
    }
    drop(production);
    assert_eq!(scene.settled().outcome, "complete");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_an_error_event() {
    let scene = Scene::new();
    let events = delivered(scene.production(true, [text("a"), Step::Break])).await;
    assert_eq!(events, seen(&[(0, "a"), (0, "error")]));
    assert_eq!(scene.settled().outcome, "truncated");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_ends_streams_in_every_phase() {
    for (steps, expected) in [
        (vec![Step::Hang], &[(5, "error")][..]),
        (vec![text("a"), Step::Hang], &[(0, "a"), (5, "error")]),
    ] {
        let scene = Scene::new();
        let close = async {
            tokio::time::sleep(5 * SECOND).await;
            scene.closing.cancel();
        };
        let (events, ()) = tokio::join!(delivered(scene.production(true, steps)), close);
        assert_eq!(events, seen(expected));
        let settled = scene.settled();
        assert_eq!((settled.outcome, settled.target.as_str()), ("shutting_down", "sim/m"));
    }
}

/// The usage of a request whose caller has left: the target has read the prompt once the request was sent.
#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_is_charged_for_what_was_sent() {
    for steps in [vec![Step::Hang], vec![text("a"), Step::Hang]] {
        let (scene, output) = (Scene::new(), u64::from(steps.len() > 1));
        let mut body = Box::pin(stream(scene.production(true, steps)));
        let waiting = tokio::time::timeout(SECOND, async { while body.next().await.is_some() {} });
        waiting.await.unwrap_err();
        drop(body);
        let expected = Settled {
            outcome: "client_gone",
            heartbeats: 0,
            output: (output, true),
            target: "sim/m".to_owned(),
            charged: true,
        };
        assert_eq!(scene.settled(), expected);
    }
}

/// Usage that comes after the last output is waited for, but for a second at most.
#[tokio::test(start_paused = true)]
async fn usage_is_waited_for_when_the_caller_leaves_after_the_last_output() {
    for (wait, output) in [(SECOND / 2, (40, false)), (2 * SECOND, (1, true))] {
        let scene = Scene::new();
        let steps = [text("a"), Step::Wait(SECOND), stop(), Step::Wait(wait), usage(40), done()];
        let mut body = Box::pin(stream(scene.production(true, steps)));
        assert!(body.next().await.is_some());
        tokio::time::timeout(SECOND + SECOND / 4, body.next()).await.unwrap_err();
        drop(body);
        assert!(scene.summaries.lock().unwrap().is_empty(), "a task waits");
        scene.tasks.close();
        scene.tasks.wait().await;
        let settled = scene.settled();
        assert_eq!((settled.outcome, settled.output), ("client_gone", output));
    }
}

#[tokio::test(start_paused = true)]
async fn a_collected_answer_is_the_same_production() {
    let scene = Scene::new();
    let steps = [text("a"), Step::Wait(SECOND), text("b"), stop(), usage(2), done()];
    let mut production = scene.production(false, steps);
    production.open().await.unwrap();
    assert_eq!(production.take_head().expect("an answer").0, "sim/m");
    let body: serde_json::Value =
        serde_json::from_slice(&collect(&mut production).await.unwrap()).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "ab");
    drop(production);
    assert_eq!((scene.settled().outcome, scene.settled().output), ("complete", (2, false)));

    let mut scene = Scene::new();
    scene.deadlines.stall = 30 * SECOND;
    let mut production = scene.production(false, [text("a"), Step::Hang]);
    production.open().await.unwrap();
    let begun = Instant::now();
    let error = collect(&mut production).await.unwrap_err();
    assert_eq!((begun.elapsed(), error.outcome()), (30 * SECOND, "stalled"));
    drop(production);
    assert_eq!(scene.settled().outcome, "stalled");
}

/// Output that arrives in one read of the upstream leaves in one write, with the response head and the end: the body
/// has all of it and ends without a pause.
#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_at_once_leaves_in_one_write() {
    let scene = Scene::new();
    let steps = [text("a"), text("b"), stop(), usage(2), done(), Step::Turn];
    let mut production = scene.production(true, steps);
    production.open().await.unwrap();
    // A pause of the body would send the head alone.
    let mut body = pin!(stream(production));
    let bytes = body.next().now_or_never().expect("it is there").expect("bytes").unwrap();
    let all = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(all.contains(r#""a""#) && all.ends_with("[DONE]\n\n"), "{all}");
    assert!(scene.tasks.is_empty(), "the upstream was read to its end before the caller has it");
    assert!(body.next().now_or_never().expect("the end is there, too").is_none());
}

/// The first output does not wait for another one, unless it came together with the head.
#[tokio::test(start_paused = true)]
async fn a_lone_first_output_leaves_at_once() {
    let scene = Scene::new();
    let steps = [Step::Wait(SECOND), text("a"), Step::Busy(SECOND), text("b"), stop(), done()];
    let events = delivered(scene.production(true, steps)).await;
    assert_eq!(events, seen(&[(1, "a"), (2, "b"), (2, "end")]));
}

/// An upstream that ends its body later than its answer does not hold up the caller: a task waits for it.
#[tokio::test(start_paused = true)]
async fn a_body_that_ends_late_is_drained_by_a_task() {
    let scene = Scene::new();
    let steps = [text("a"), stop(), usage(1), done(), Step::Wait(SECOND / 2)];
    let events = delivered(scene.production(true, steps)).await;
    assert_eq!(events, seen(&[(0, "a"), (0, "end")]));
    assert_eq!(scene.tasks.len(), 1);
    let begun = Instant::now();
    scene.tasks.close();
    scene.tasks.wait().await;
    assert_eq!(begun.elapsed(), SECOND / 2);
}

/// A collector: the bytes that it was sent.
#[derive(Debug, Clone, Default)]
struct Sent(Arc<Mutex<Vec<u8>>>);

type Answered<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, HttpError>> + Send + 'a>>;

impl HttpClient for Sent {
    fn send_bytes<'s, 'a>(&'s self, request: Request<Body>) -> Answered<'a>
    where
        's: 'a,
        Self: 'a,
    {
        self.0.lock().unwrap().extend_from_slice(request.body());
        Box::pin(async { Ok(Response::new(Body::new())) })
    }
}

fn tracing(metrics: &Arc<Metrics>, sent: &Sent) -> Tracing {
    let otlp = Otlp {
        endpoint: "http://localhost/v1/traces".parse().unwrap(),
        headers: Vec::new(),
        sample: 1.0,
        service_name: "test".to_owned(),
        timeout: Duration::from_secs(10),
    };
    Tracing::new(&otlp, sent.clone(), metrics).unwrap()
}

/// Failure mode 54: a panic within a stream is an error event, a record, a span and a returned
/// permit.
#[tokio::test]
async fn fm54_a_panic_in_a_stream_is_reported_and_settled() {
    for dialect in caller_dialects() {
        let scene = Scene::new();
        let sent = Sent::default();
        let tracing = tracing(&scene.metrics, &sent);
        let sinks = sinks(&scene.metrics, None);
        let mut account = Account::begin(
            (&sinks, &scene.metrics),
            ("req_1", Instant::now()),
            dialect.name(),
            &Request::new(()),
        );
        let endpoint = &dialect.endpoints()[0];
        account.trace(&tracing, &HeaderMap::new(), endpoint, Duration::MAX);
        let limits = Limits {
            concurrent_streams: Some(1),
            tokens_per_minute: NonZeroU32::new(50),
            ..Limits::default()
        };
        let demand = TokenDemand { input: 10, max_output: Some(40), choices: 1 };
        let limiter = Arc::new(Limiter::new(Scope::Caller, limits));
        let mut admission = limiter.admit().unwrap();
        admission.reserve(&demand).unwrap();
        account.admitted(admission, &demand, false);
        assert!(limiter.admit().is_err());
        let context = Arc::new(RequestContext { dialect, ..scene.context(true) });
        let mut request = request(true, "sim", &[("m", None)]);
        request.trace = account.place().clone();
        let opening = Opening::scripted(request, async { panic!("a fault of ours") });
        let production = Production::new(opening, context, account);
        let body: Vec<_> = stream(production).collect().await;
        // Some dialects have the body cut after that, behind the error once more.
        let event = match body.as_slice() {
            [Ok(event)] | [Ok(event), Err(_)] | [Ok(event), Ok(_), Err(_)] => event,
            other => panic!("{other:?}"),
        };
        let text = String::from_utf8(event.to_vec()).unwrap();
        assert!(text.contains("error") && text.ends_with('\n'), "{text}");
        assert!(!text.contains("a fault of ours"), "{text}");
        let metrics = scene.metrics.render();
        assert!(metrics.contains("outcome=\"internal_error\"} 1"), "{metrics}");
        assert!(metrics.contains("streamgate_open_requests{dialect"), "{metrics}");
        limiter.admit().unwrap().reserve(&demand).unwrap();
        // Nothing of this collector needs the runtime.
        tracing.shutdown(Duration::from_secs(10));
        let span = String::from_utf8_lossy(&sent.0.lock().unwrap()).into_owned();
        assert!(span.contains("internal_error") && span.contains("attempt sim/m"), "{span}");
        assert!(!span.contains("a fault of ours"), "{span}");
    }
}
