//! Access control from outside: models, limits, reloads, CORS, health and metrics.

use std::sync::Arc;
use std::time::Duration;

use streamgate::config;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::answers::{SPOKEN, ending, error_message, opening, path, request, streamed};
use crate::support::gateway::{Gateway, KEY, Log, configuration, hex, yaml};
use crate::support::upstream::{Step, Upstream};

/// More configuration, with keys of its own in place of the one of every test.
pub(crate) fn with_keys(upstream: &Upstream, keys: &[(&str, &str)], more: &str) -> String {
    let mut text = String::from("auth:\n  keys:\n");
    for (key, rest) in keys {
        let digest = hex(&config::digest(key));
        text += &["    - { name: ", key, ", sha256: ", &digest, rest, " }\n"].concat();
    }
    let whole = yaml(&upstream.url, &upstream.url, more);
    let (_, rest) = whole.split_once("providers:").unwrap();
    format!("{text}providers:{rest}")
}

async fn models(gateway: &Gateway, key: &str, dialect: &str) -> serde_json::Value {
    let mut sent = gateway.client.get(format!("{}/v1/models", gateway.url)).bearer_auth(key);
    if dialect == "anthropic" {
        sent = sent.header("anthropic-version", "2023-06-01");
    }
    serde_json::from_str(&sent.send().await.unwrap().text().await.unwrap()).unwrap()
}

/// A request with another key than the usual one.
pub(crate) fn by(
    gateway: &Gateway,
    key: &str,
    dialect: &str,
    model: &str,
) -> reqwest::RequestBuilder {
    gateway
        .client
        .post(format!("{}{}", gateway.url, path(dialect)))
        .header("content-type", "application/json")
        .bearer_auth(key)
        .body(request(model, true, "hi"))
}

const MODELS: &str = "models:\n  fast: { targets: [ { provider: oai, model: a } ] }\n  \
    slow: { targets: [ { provider: ant, model: b } ] }\n";

#[tokio::test]
async fn models_are_listed_in_both_shapes_and_by_key() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let keys = [("all", ""), ("some", ", models: [\"fa*\", \"ant/*\"]")];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, MODELS)).await;
    for (dialect, _) in SPOKEN {
        for (key, expected) in [("all", vec!["fast", "slow"]), ("some", vec!["fast"])] {
            let list = models(&gateway, key, dialect).await;
            let entries = list["data"].as_array().unwrap();
            let ids: Vec<_> = entries.iter().map(|model| model["id"].as_str().unwrap()).collect();
            assert_eq!(ids, expected, "{key}: {list}");
            if dialect == "anthropic" {
                assert!(entries.iter().all(|model| model["type"] == "model"), "{list}");
                assert_eq!(list["has_more"], false);
            } else {
                assert_eq!(list["object"], "list");
                assert!(entries.iter().all(|model| model["object"] == "model"), "{list}");
            }
        }
    }
    let unknown = gateway.client.get(format!("{}/v1/models", gateway.url)).send().await.unwrap();
    assert_eq!(unknown.status(), 401);
}

#[tokio::test]
async fn keys_are_restricted_to_their_models() {
    let upstream = Upstream::new(streamed("anthropic", "hi")).await;
    let keys = [("some", ", models: [slow, \"ant/b*\"]")];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, MODELS)).await;
    for (dialect, _) in SPOKEN {
        for (model, status) in
            [("slow", 200), ("fast", 404), ("ant/b1", 200), ("ant/c", 404), ("oai/b", 404)]
        {
            let response = by(&gateway, "some", dialect, model).send().await.unwrap();
            assert_eq!(response.status(), status, "{model}");
            let text = response.text().await.unwrap();
            if status == 404 {
                assert!(error_message(dialect, &text).contains(model), "{text}");
            }
        }
    }
}

/// A model that a key may not use is reported like one that does not exist; the record has the reason.
#[tokio::test]
async fn a_key_does_not_learn_which_models_exist() {
    let upstream = Upstream::new(streamed("anthropic", "hi")).await;
    let keys = [("some", ", models: [slow, \"ant/b*\"]")];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, MODELS)).await;
    let log = Log::default();
    let _guard = log.capture();
    // Equally long, and equally far from a name that the key may use.
    let pairs =
        [("fast", "fest"), ("fast:latest", "fest:latest"), ("oai/b", "oei/b"), ("ant/c", "any/c")];
    for (dialect, _) in SPOKEN {
        for (there, nowhere) in pairs {
            let mut answers = Vec::new();
            for model in [there, nowhere] {
                let sent = by(&gateway, "some", dialect, model).header("x-request-id", "same");
                let response = sent.send().await.unwrap();
                let head = {
                    let names: Vec<_> =
                        response.headers().keys().map(http::HeaderName::as_str).collect();
                    format!("{} {names:?}", response.status())
                };
                answers.push((head, response.text().await.unwrap().replace(model, "NAME")));
            }
            assert!(answers[0].0.starts_with("404"), "{answers:?}");
            assert!(answers[0].1.contains("that this key may use"), "{answers:?}");
            assert_eq!(answers[0], answers[1], "{dialect} {there}");
        }
    }
    for (there, nowhere) in pairs {
        let shown = async |name: &str| {
            let url = format!("{}/v1/models/{name}", gateway.url);
            let sent = gateway.client.get(url).bearer_auth("some");
            let response = sent.header("x-request-id", "same").send().await.unwrap();
            (response.status(), response.text().await.unwrap().replace(name, "NAME"))
        };
        assert_eq!(shown(there).await, shown(nowhere).await, "{there}");
    }
    let records = log.records();
    let chats = records.iter().filter(|record| record["method"] == "POST");
    let errors = chats.map(|record| record["error"].as_str().unwrap());
    let reasons: Vec<_> = errors.map(|error| error.split(':').next().unwrap()).collect();
    let expected = ["permission", "not_found"].into_iter().cycle();
    assert_eq!(reasons, expected.take(reasons.len()).collect::<Vec<_>>());
    assert_eq!(reasons.len(), 2 * pairs.len() * SPOKEN.len());
}

#[tokio::test]
async fn rate_limit_of_requests_per_minute_with_its_burst() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let limits = ", limits: { requests_per_minute: 6, burst: 2 }";
    for (dialect, _) in SPOKEN {
        let keys = [("busy", limits), ("other", "")];
        let gateway = Gateway::new(&with_keys(&upstream, &keys, "")).await;
        for expected in [200, 200, 429, 429] {
            let response = by(&gateway, "busy", dialect, "oai/m").send().await.unwrap();
            assert_eq!(response.status(), expected);
            if expected == 429 {
                let wait = response.headers()["retry-after"].to_str().unwrap().parse::<u64>();
                assert!((1..=10).contains(&wait.unwrap()));
                let text = response.text().await.unwrap();
                assert!(error_message(dialect, &text).contains("6 requests per minute"), "{text}");
            } else {
                response.text().await.unwrap();
            }
        }
        let other = by(&gateway, "other", dialect, "oai/m").send().await.unwrap();
        assert_eq!(other.status(), 200, "other callers are unharmed");
    }
}

/// The permit lives in the body: it is taken as long as bytes may come, and returns when the
/// caller leaves or the answer ends.
#[tokio::test]
async fn rate_limit_of_concurrent_streams_counts_until_they_end() {
    for (dialect, provider) in SPOKEN {
        let go = Arc::new(Notify::new());
        let held = vec![
            Step::Sse,
            Step::chunk(&opening(dialect, "hi")),
            Step::Gate(Arc::clone(&go)),
            Step::chunk(ending(dialect)),
            Step::End,
        ];
        let upstream = Upstream::new(held).await;
        let keys = [("busy", ", limits: { concurrent_streams: 1 }"), ("other", "")];
        let gateway = Gateway::new(&with_keys(&upstream, &keys, "")).await;
        let model = format!("{provider}/m");
        let first = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(first.status(), 200);
        let second = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(second.status(), 429);
        assert!(second.headers().contains_key("retry-after"));
        let text = second.text().await.unwrap();
        assert!(error_message(dialect, &text).contains("concurrent"), "{text}");
        let other = by(&gateway, "other", dialect, &model).send().await.unwrap();
        assert_eq!(other.status(), 200, "other callers are unharmed");
        drop(other);
        upstream.until("the other is closed", |_, open| open == 1).await;
        // The caller leaves.
        drop(first);
        upstream.all_closed().await;
        let third = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(third.status(), 200);
        // The answer ends.
        go.notify_one();
        third.text().await.unwrap();
        let fourth = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(fourth.status(), 200);
    }
}

#[tokio::test]
async fn a_reload_keeps_open_streams_and_rate_limit_usage() {
    let go = Arc::new(Notify::new());
    let held = vec![
        Step::Sse,
        Step::chunk(&opening("openai-chat", "hi")),
        Step::Gate(Arc::clone(&go)),
        Step::chunk(ending("openai-chat")),
        Step::End,
    ];
    let upstream = Upstream::scripted(vec![held, streamed("openai-chat", "hi")]).await;
    let limits = ", limits: { requests_per_minute: 1, burst: 1 }";
    let gateway = Gateway::new(&with_keys(&upstream, &[("old", limits)], "")).await;
    let stream = by(&gateway, "old", "openai-chat", "oai/m").send().await.unwrap();
    let next = [("new", ""), ("old", limits)];
    gateway.app.reload(configuration(&with_keys(&upstream, &next, "")));
    let used_up = by(&gateway, "old", "openai-chat", "oai/m").send().await.unwrap();
    assert_eq!(used_up.status(), 429, "a reload does not give anything back");
    let new = by(&gateway, "new", "openai-chat", "oai/m").send().await.unwrap();
    assert_eq!(new.status(), 200);
    gateway.app.reload(configuration(&with_keys(&upstream, &[("new", "")], "")));
    let gone = by(&gateway, "old", "openai-chat", "oai/m").send().await.unwrap();
    assert_eq!(gone.status(), 401);
    go.notify_one();
    let text = timeout(Duration::from_secs(5), stream.text()).await.unwrap().unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_others_may_not() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let more = "server: { cors: { origins: [\"https://chat.example.com\"] } }\n";
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await;
    for (dialect, _) in SPOKEN {
        let url = format!("{}{}", gateway.url, path(dialect));
        for (origin, allowed) in [
            ("https://chat.example.com", true),
            ("https://evil.example.com", false),
            ("https://chat.example.com.evil.com", false),
            ("http://chat.example.com", false),
            ("https://chat.example.com:444", false),
            ("HTTPS://CHAT.EXAMPLE.COM", false),
            ("null", false),
            ("*", false),
        ] {
            let preflight = gateway
                .client
                .request(http::Method::OPTIONS, &url)
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization, content-type")
                .send()
                .await
                .unwrap();
            let headers = preflight.headers();
            assert_eq!(headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
            if allowed {
                assert!(preflight.status().is_success());
                assert_eq!(headers["access-control-allow-origin"], origin);
                let allow = headers["access-control-allow-headers"].to_str().unwrap();
                assert!(allow.contains("authorization"), "{allow}");
                assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
            }
            for key in [KEY, "wrong"] {
                let sent = by(&gateway, key, dialect, "oai/m").header("origin", origin);
                let response = sent.send().await.unwrap();
                let headers = response.headers();
                let found = headers.contains_key("access-control-allow-origin");
                assert_eq!(found, allowed, "{origin} {key}");
                if allowed {
                    let exposed = headers["access-control-expose-headers"].to_str().unwrap();
                    let names: Vec<_> = exposed.split(',').map(str::trim).collect();
                    for name in [
                        "x-request-id",
                        "request-id",
                        "retry-after",
                        "x-streamgate-target",
                        "www-authenticate",
                        "x-ratelimit-limit-requests",
                        "x-ratelimit-remaining-tokens",
                        "x-ratelimit-reset-requests",
                        "x-streamgate-limit",
                        "x-trace-id",
                        "anthropic-ratelimit-requests-reset",
                    ] {
                        assert!(names.contains(&name), "{name} is not in {exposed}");
                    }
                }
                assert!(!headers.contains_key("access-control-allow-credentials"));
            }
        }
    }
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    let get = async |path: &str| {
        let response = gateway.client.get(format!("{}{path}", gateway.url)).send().await.unwrap();
        let kind = response.headers().get("content-type").cloned();
        (response.status().as_u16(), kind, response.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await.0, 200);
    gateway.chat("oai/m").send().await.unwrap().text().await.unwrap();
    let (status, kind, text) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(kind.unwrap().to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(text.contains("streamgate_requests_total{"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn no_metric_label_takes_its_value_from_a_caller() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, MODELS)).await;
    for (dialect, _) in SPOKEN {
        for model in ["oai/label-canary", "ant/label-canary", "label-canary", "no/label-canary"] {
            let sent = gateway.post(path(dialect), &request(model, true, "hi"));
            let sent = sent.header("x-request-id", "label-canary");
            sent.send().await.unwrap().text().await.unwrap();
        }
        let fast = gateway.post(path(dialect), &request("fast", true, "hi"));
        fast.send().await.unwrap().text().await.unwrap();
    }
    let text = gateway.app.metrics.render();
    assert!(!text.contains("label-canary"), "{text}");
    assert!(text.contains("target=\"oai/*\""), "{text}");
    assert!(text.contains("model=\"fast\"") && text.contains("target=\"oai/a\""), "{text}");
}
