//! Routing over HTTP: several keys of a provider, rate limits that are remembered, weights, ceilings, and the state that
//! operators see.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::Notify;

use crate::failover::{good, send, text};
use crate::streaming::count;
use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, KEY, hex};
use crate::support::language::{LANGUAGES, language};
use crate::support::upstream::{Step, Upstream};

pub(super) const JSON: &str = "content-type: application/json\r\n";

/// A configuration with these providers, and a model `m` with these lines below it.
pub(super) async fn gateway(providers: &str, model: &str) -> Gateway {
    let digest = hex(&streamgate::config::digest(KEY));
    Gateway::new(&format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {digest} }}\nproviders:\n{providers}models:\n  \
         m: {{ {model} }}\n"
    ))
    .await
}

/// A provider of openai-chat with keys `one`, `two` and so on, in these words.
pub(super) fn keyed(name: &str, url: &str, keys: &[&str]) -> String {
    let key = |key: &&str| format!("{{ name: {key}, api_key: key-of-{key} }}");
    let keys: Vec<String> = keys.iter().map(key).collect();
    format!(
        "  {name}: {{ dialect: openai-chat, base_url: \"{url}\", keys: [{}] }}\n",
        keys.join(", ")
    )
}

pub(super) fn refusal(status: u16, headers: &'static str, code: &str) -> Vec<Step> {
    let body = format!(r#"{{"error":{{"message":"no","type":"t","code":"{code}"}}}}"#);
    vec![Step::Whole(status, headers, body.into())]
}

/// The keys that an upstream was sent, in order.
async fn keys_of(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests().await;
    let key = |head: &str| {
        head.split("key-of-").nth(1).and_then(|rest| rest.split("\r\n").next().map(str::to_owned))
    };
    requests.iter().filter_map(|seen| key(&seen.head)).collect()
}

/// R17, R18: seven revoked keys and a good one: the caller is served, in every dialect, and the next request asks none
/// of the seven.
#[tokio::test]
async fn r17_r18_revoked_keys_are_walked_once() {
    let mut scripts = vec![refusal(401, JSON, "invalid_api_key"); 7];
    scripts.push(streamed("openai-chat", "Hello"));
    let upstream = Upstream::scripted(scripts).await;
    let names = ["one", "two", "three", "four", "five", "six", "seven", "good"];
    let gateway =
        gateway(&keyed("p", &upstream.url, &names), "targets: [{ provider: p, model: m }]").await;
    for language in LANGUAGES {
        let response = send(&gateway, language, "m", true).await;
        assert_eq!(text(language, response).await, "Hello", "{}", language.name);
    }
    let keys = keys_of(&upstream).await;
    assert_eq!(keys[..8], names);
    assert!(keys[8..].iter().all(|key| key == "good") && keys.len() == 7 + LANGUAGES.len());
    assert_eq!(count(&gateway, "streamgate_target_ejected{target=\"p/*[one]\"}"), "1");
}

/// R30: a Redis that takes connections and never answers: keys that are revoked are left as without one, and no request
/// waits for it. Its timeout is an hour, so that one that did would not end within this test.
#[tokio::test]
async fn r30_no_request_waits_for_redis() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let scripts = vec![refusal(401, JSON, "invalid_api_key"), streamed("openai-chat", "Hello")];
    let upstream = Upstream::scripted(scripts).await;
    let providers = keyed("p", &upstream.url, &["bad", "good"]);
    let redis = format!("redis: {{ url: \"redis://{address}\", timeout: 1h }}\n");
    let gateway =
        gateway(&format!("{providers}{redis}"), "targets: [{ provider: p, model: m }]").await;
    for language in LANGUAGES {
        let response = send(&gateway, language, "m", true).await;
        assert_eq!(text(language, response).await, "Hello", "{}", language.name);
    }
    assert_eq!(keys_of(&upstream).await[..3], ["bad", "good", "good"]);
    assert_eq!(count(&gateway, "streamgate_target_ejected{target=\"p/*[bad]\"}"), "1");
    for direction in ["sent", "received", "dropped"] {
        let series = format!("streamgate_target_hints_total{{direction=\"{direction}\"}}");
        assert_eq!(count(&gateway, &series), "0", "the hint still waits");
    }
    drop(silent);
}

/// R18: when all keys are revoked, the caller gets a 502 of the gateway's own, never a 401.
#[tokio::test]
async fn r18_all_keys_revoked_is_never_the_callers_fault() {
    let upstream = Upstream::new(refusal(401, JSON, "invalid_api_key")).await;
    let gateway =
        gateway(&keyed("p", &upstream.url, &["a", "b"]), "targets: [{ provider: p, model: m }]")
            .await;
    for (round, language) in LANGUAGES.iter().enumerate() {
        let response = send(&gateway, language, "m", true).await;
        assert_eq!(response.status(), 502, "{}", language.name);
        assert_eq!(response.headers()["x-should-retry"], "false");
        // Names of keys are the operator's. After the first request, none asks before its time.
        let trail = response.headers().get("x-streamgate-attempts");
        let expected = (round == 0).then_some("p/m credential, p/m credential");
        assert_eq!(trail.map(|trail| trail.to_str().unwrap()), expected, "{}", language.name);
        let body = response.text().await.unwrap();
        assert!(!body.contains("key-of-") && body.contains("your key is fine"), "{body}");
    }
    assert_eq!(upstream.requests().await.len(), 2);
}

/// R20, R21: a 429 moves the request at once, and the next ones do not ask again until the time that it gives, in
/// whatever form.
#[tokio::test]
async fn r20_a_rate_limit_is_remembered() {
    const SECONDS: &str = "content-type: application/json\r\nretry-after: 60\r\n";
    const MILLIS: &str = "content-type: application/json\r\nretry-after-ms: 60000\r\n";
    const RESET: &str = "content-type: application/json\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m0s\r\n";
    for (headers, remembered) in [(SECONDS, true), (MILLIS, true), (RESET, true), (JSON, false)] {
        let a = Upstream::new(refusal(429, headers, "rate_limit_exceeded")).await;
        let b = good().await;
        let providers = [keyed("a", &a.url, &["x"]), keyed("b", &b.url, &["y"])].concat();
        let gateway =
            gateway(&providers, "targets: [{ provider: a, model: m }, { provider: b, model: m }]")
                .await;
        for round in 0..3 {
            let response = send(&gateway, language("openai-chat"), "m", true).await;
            let trail = response.headers().get("x-streamgate-attempts").cloned();
            assert_eq!(trail.is_some(), round == 0 || !remembered, "{headers}");
            assert_eq!(text(language("openai-chat"), response).await, "Hello");
        }
        let asked = if remembered { 1 } else { 3 };
        assert_eq!(a.requests().await.len(), asked, "{headers}");
        // No ejection: a rate limit is no failure.
        assert_eq!(count(&gateway, "streamgate_target_ejected{"), "0");
    }
}

/// Weights are exact over a cycle, whatever the caller's dialect.
#[tokio::test]
async fn weighted_targets_get_their_shares() {
    let (a, b) = (good().await, good().await);
    let providers = [keyed("a", &a.url, &["x"]), keyed("b", &b.url, &["y"])].concat();
    let model = "pick: weighted, targets: [{ provider: a, model: m, weight: 3 }, { provider: b, model: m }]";
    let gateway = gateway(&providers, model).await;
    for round in 0..16 {
        let language = &LANGUAGES[round % LANGUAGES.len()];
        let response = send(&gateway, language, "m", true).await;
        assert_eq!(text(language, response).await, "Hello");
    }
    assert_eq!((a.requests().await.len(), b.requests().await.len()), (12, 4));
}

/// `max_streams` is a ceiling per key: the next key serves, and without one the caller gets a 503 and asks again.
#[tokio::test]
async fn max_streams_bounds_the_answers_of_a_key() {
    let upstream = Upstream::new(vec![
        Step::Sse,
        Step::chunk("data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n"),
        Step::Hang,
    ])
    .await;
    let providers =
        keyed("p", &upstream.url, &["a", "b"]).replace("keys:", "max_streams: 1, keys:");
    let gateway = gateway(&providers, "targets: [{ provider: p, model: m }]").await;
    let chat = language("openai-chat");
    let first = send(&gateway, chat, "m", true).await;
    let second = send(&gateway, chat, "m", true).await;
    assert_eq!(
        (first.status(), second.status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(keys_of(&upstream).await, ["a", "b"]);
    let full = send(&gateway, chat, "m", true).await;
    assert_eq!(full.status(), 503);
    assert_eq!(full.headers()["retry-after"], "1");
    drop((first, second));
    upstream.all_closed().await;
    let again = send(&gateway, chat, "m", true).await;
    assert_eq!(again.status(), 200);
}

/// R7: answers that break off after their first output count, though their starts were good.
#[tokio::test]
async fn r07_broken_answers_eject() {
    let gate = Arc::new(Notify::new());
    let broken = vec![
        Step::Sse,
        Step::chunk(
            "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n",
        ),
        Step::Gate(Arc::clone(&gate)),
        Step::Close,
    ];
    let (a, b) = (Upstream::new(broken).await, good().await);
    let providers = [keyed("a", &a.url, &["x"]), keyed("b", &b.url, &["y"])].concat();
    let gateway =
        gateway(&providers, "targets: [{ provider: a, model: m }, { provider: b, model: m }]")
            .await;
    let mut served = Vec::new();
    for _ in 0..14 {
        let response = send(&gateway, language("openai-chat"), "m", true).await;
        served.push(response.headers()["x-streamgate-target"].to_str().unwrap().to_owned());
        let is_broken = response.headers()["x-streamgate-target"] == "a/m";
        let mut body = response.bytes_stream();
        let first = body.next().await;
        assert!(first.is_some_and(|bytes| bytes.is_ok()), "the start is good");
        if is_broken {
            // It breaks off once its first output has arrived.
            gate.notify_one();
        }
        while let Some(Ok(_)) = body.next().await {}
    }
    let broken = served.iter().filter(|target| *target == "a/m").count();
    assert!(broken <= 10 && served.last().is_some_and(|target| target == "b/m"), "{served:?}");
}
