//! Retries over HTTP: at the same target, within the model's budget, and `x-should-retry` for client libraries.

use serde_json::json;

use crate::failover::routing::{JSON, gateway, keyed, refusal};
use crate::failover::{good, send, text};
use crate::streaming::{count, settled};
use crate::support::answers::streamed;
use crate::support::language::{LANGUAGES, language};
use crate::support::upstream::{Step, Upstream};

const SOON: &str = "content-type: application/json\r\nretry-after: 0\r\n";
const LATE: &str = "content-type: application/json\r\nretry-after: 60\r\n";

/// An upstream that fails twice and is well from then on.
async fn flaky(status: u16, headers: &'static str) -> Upstream {
    let failure = refusal(status, headers, "no");
    Upstream::scripted(vec![failure.clone(), failure, streamed("openai-chat", "Hello")]).await
}

/// A lone target that fails by chance is asked again, in every dialect and form, and the caller sees nothing of it.
#[tokio::test]
async fn a_lone_target_is_asked_again() {
    for language in LANGUAGES {
        let failure = refusal(503, JSON, "no");
        let scripts = vec![failure, streamed("openai-chat", "Hello")];
        let upstream = Upstream::scripted(scripts).await;
        let model = "retry: { backoff: 1ms }, targets: [{ provider: a, model: m }]";
        let gateway = gateway(&keyed("a", &upstream.url, &["x"]), model).await;
        let response = send(&gateway, language, "m", true).await;
        assert_eq!(response.headers()["x-streamgate-attempts"], "a/m target, a/m ok");
        assert_eq!(text(language, response).await, "Hello", "{}", language.name);
        let retries = r#"streamgate_retries_total{model="m",kind="same_target"}"#;
        assert_eq!(count(&gateway, retries), "1");
    }
}

/// The table of statuses: those that another try may change are tried again, as often as `same_target` says.
#[tokio::test]
async fn statuses_decide_whether_the_same_target_is_asked_again() {
    for (status, headers, served) in [
        (500, JSON, true),
        (502, JSON, true),
        (503, JSON, true),
        (504, JSON, true),
        (529, JSON, true),
        (408, JSON, true),
        (409, JSON, true),
        (425, JSON, true),
        (429, SOON, true),
        (429, JSON, false),
        (429, LATE, false),
        (503, LATE, false),
        (400, JSON, false),
        (401, JSON, false),
        (402, JSON, false),
        (404, JSON, false),
        (413, JSON, false),
    ] {
        let upstream = flaky(status, headers).await;
        let model = "retry: { same_target: 2, backoff: 1ms }, targets: [{ provider: a, model: m }]";
        let gateway = gateway(&keyed("a", &upstream.url, &["x"]), model).await;
        let response = send(&gateway, language("openai-chat"), "m", true).await;
        assert_eq!(response.status() == 200, served, "{status} {headers}");
        let asked = if served { 3 } else { 1 };
        assert_eq!(upstream.requests().await.len(), asked, "{status} {headers}");
    }
}

/// R20: a limit that is over soon is waited for only where no other target is left.
#[tokio::test]
async fn r20_another_target_comes_before_a_wait() {
    let a = Upstream::new(refusal(429, SOON, "rate_limit_exceeded")).await;
    let b = good().await;
    let providers = [keyed("a", &a.url, &["x"]), keyed("b", &b.url, &["y"])].concat();
    let model = "retry: { same_target: 2 }, targets: [{ provider: a, model: m }, { provider: b, model: m }]";
    let gateway = gateway(&providers, model).await;
    let response = send(&gateway, language("openai-chat"), "m", true).await;
    assert_eq!(response.headers()["x-streamgate-attempts"], "a/m rate_limit, b/m ok");
    assert_eq!(a.requests().await.len(), 1);
}

/// R22: an outage of all targets does not multiply the load: each request is sent once, to the second target once more,
/// and the rest is within the budget. Responses ask client libraries not to add to it, but for rate limits.
#[tokio::test]
async fn r22_an_outage_does_not_multiply_the_load() {
    let down = Upstream::new(refusal(503, JSON, "no")).await;
    let names = ["a", "b", "c", "d"];
    let providers: String = names.iter().map(|name| keyed(name, &down.url, &["x"])).collect();
    let targets: Vec<String> =
        names.iter().map(|name| format!("{{ provider: {name}, model: m }}")).collect();
    let model = format!("retry: {{ budget: 0 }}, targets: [{}]", targets.join(", "));
    let gateway = gateway(&providers, &model).await;
    for round in 0..40 {
        let response = send(&gateway, language("openai-chat"), "m", true).await;
        assert_eq!(response.status(), 503, "{round}");
        assert_eq!(response.headers()["x-should-retry"], "false");
    }
    // Two for each request, ten of the reserve, and one for each second that the test may take.
    let asked = down.requests().await.len();
    assert!((90..=120).contains(&asked), "{asked}");
    let empty: u64 =
        count(&gateway, r#"streamgate_retry_budget_empty_total{model="m"}"#).parse().unwrap();
    assert!((10..=40).contains(&empty), "{empty}");
}

/// R22: what is left to callers' libraries: rate limits, and what they retry themselves.
#[tokio::test]
async fn r22_responses_ask_client_libraries_to_retry_or_not() {
    for (status, headers, is_final) in [(503, JSON, true), (429, LATE, false), (429, JSON, false)] {
        let upstream = Upstream::new(refusal(status, headers, "rate_limit_exceeded")).await;
        let model = "retry: { backoff: 1ms }, targets: [{ provider: a, model: m }]";
        let gateway = gateway(&keyed("a", &upstream.url, &["x"]), model).await;
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        let ask = |count: &str| {
            let post = gateway.post("/v1/chat/completions", &body.to_string());
            post.header("x-stainless-retry-count", count)
        };
        let first = ask("0").send().await.unwrap();
        assert_eq!(first.headers().contains_key("x-should-retry"), is_final, "{status}");
        let asked = upstream.requests().await.len();
        assert_eq!(asked, if is_final { 2 } else { 1 }, "{status} {headers}");
        ask("1").send().await.unwrap();
        assert_eq!(upstream.requests().await.len(), asked + 1, "the library retries");
    }
}

/// A request with side effects is not sent again once an upstream may have worked on it.
#[tokio::test]
async fn side_effects_are_not_repeated() {
    let plain = json!({});
    let stored = json!({ "store": true });
    let search = json!({ "web_search_options": {} });
    for (status, more, moves) in [
        (503, &plain, true),
        (503, &stored, false),
        (500, &search, false),
        (429, &stored, true),
        (401, &search, true),
    ] {
        let a = Upstream::new(refusal(status, JSON, "no")).await;
        let b = good().await;
        let providers = [keyed("a", &a.url, &["x"]), keyed("b", &b.url, &["y"])].concat();
        let model = "targets: [{ provider: a, model: m }, { provider: b, model: m }]";
        let gateway = gateway(&providers, model).await;
        let mut body = json!({
            "model": "m", "stream": true, "messages": [{ "role": "user", "content": "hi" }]
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response =
            gateway.post("/v1/chat/completions", &body.to_string()).send().await.unwrap();
        assert_eq!(response.status() == 200, moves, "{status} {more}");
        assert_eq!(b.requests().await.len(), usize::from(moves), "{status} {more}");
    }
    // Without a connection nothing has been done.
    let (dead, b) = ("http://127.0.0.1:1".to_owned(), good().await);
    let providers = [keyed("a", &dead, &["x"]), keyed("b", &b.url, &["y"])].concat();
    let model = "targets: [{ provider: a, model: m }, { provider: b, model: m }]";
    let gateway = gateway(&providers, model).await;
    let body = json!({
        "model": "m", "stream": true, "store": true, "messages": [{ "role": "user", "content": "hi" }]
    });
    let response = gateway.post("/v1/chat/completions", &body.to_string()).send().await.unwrap();
    assert_eq!(text(language("openai-chat"), response).await, "Hello");
}

/// Failure mode 52: a caller that leaves during a wait is not retried for.
#[tokio::test]
async fn fm52_a_caller_that_leaves_during_the_wait_ends_it() {
    const WAIT: &str = "content-type: application/json\r\nretry-after: 1\r\n";
    let upstream = Upstream::new(vec![Step::Whole(429, WAIT, b"{}".to_vec())]).await;
    let model = "retry: { max_wait: 1h }, targets: [{ provider: a, model: m }]";
    let gateway = gateway(&keyed("a", &upstream.url, &["x"]), model).await;
    let sent = send(&gateway, language("openai-chat"), "m", true);
    let left = async {
        upstream.until("it has been asked", |requests, _| requests == 1).await;
    };
    tokio::select! {
        response = sent => panic!("answered {}", response.status()),
        () = left => {}
    }
    settled(&gateway).await;
    assert_eq!(upstream.requests().await.len(), 1);
    assert_eq!(count(&gateway, r#"streamgate_retries_total{model="m",kind="same_target"}"#), "0");
}
