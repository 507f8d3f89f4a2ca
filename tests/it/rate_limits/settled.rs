//! Settlement of a request whose usage is unknown: work that goes on unseen counts whole,
//! a count that comes late is waited for, and one that cannot be is none.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;

use super::remaining;
use crate::access::{by, with_keys};
use crate::streaming::{Raw, read_until, settled, until};
use crate::support::answers::{SPOKEN, opening, path, request, whole};
use crate::support::gateway::{Gateway, Log};
use crate::support::upstream::{Step, Upstream};

const JSON: &str = "content-type: application/json\r\n";

/// A key that may use this many tokens in a minute, so that a tenth of it is more than comes back
/// within a test.
fn key(tokens: u64) -> String {
    format!(", limits: {{ tokens_per_minute: {tokens}, assumed_output: 100 }}")
}

/// A caller's remaining tokens, from the headers of a rejected request.
async fn left(gateway: &Gateway, dialect: &str) -> u64 {
    settled(gateway).await;
    let bad = gateway.post(path(dialect), "{").send().await.unwrap();
    remaining(bad.headers(), dialect, "tokens")
}

/// Nobody sees how far the upstream is with an answer that comes whole.
#[tokio::test]
async fn a_whole_answer_that_is_left_early_counts_as_reserved() {
    for (dialect, provider) in SPOKEN {
        let upstream = Upstream::new(vec![Step::Hang]).await;
        let gateway = Gateway::new(&with_keys(&upstream, &[("sg-test", &key(1000))], "")).await;
        let body = request(&format!("{provider}/m"), false, "hi");
        let body = body.replace(r#""max_tokens":100"#, r#""max_tokens":700"#);
        let caller = Raw::ask(&gateway, dialect, &body, "").await;
        upstream.until("asked", |requests, _| requests == 1).await;
        drop(caller);
        upstream.all_closed().await;
        let left = left(&gateway, dialect).await;
        assert!(left < 300, "{left} left of 1000 after 700 may have been used");
    }
}

/// A caller who leaves after the last word, before the count: reasoning is in the count only.
#[tokio::test]
async fn the_count_of_a_finished_answer_is_waited_for() {
    const STOP: &str = r#"data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const COUNT: &str = r#"data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":700}}"#;
    let go = Arc::new(Notify::new());
    let upstream = Upstream::new(vec![
        Step::Sse,
        Step::chunk(&opening("openai-chat", "hi")),
        Step::chunk(&format!("{STOP}\n\n")),
        Step::Gate(Arc::clone(&go)),
        Step::chunk(&format!("{COUNT}\n\ndata: [DONE]\n\n")),
        Step::End,
    ])
    .await;
    let gateway = Gateway::new(&with_keys(&upstream, &[("sg-test", &key(1000))], "")).await;
    let log = Log::default();
    let _capture = log.capture();
    let mut caller = by(&gateway, "sg-test", "openai-chat", "oai/m").send().await.unwrap();
    read_until(&mut caller, r#""finish_reason":"stop""#).await;
    drop(caller);
    until("the count is waited for", || gateway.app.tasks.len() == 1).await;
    go.notify_one();
    let left = left(&gateway, "openai-chat").await;
    assert!(left < 400, "{left} left of 1000 after 703 were used");
    let record: Value = log.records()[0].clone();
    assert_eq!(record["outcome"], "client_gone");
    assert_eq!((&record["output_tokens"], &record["estimated"]), (&700.into(), &false.into()));
}

/// Work in the background goes on when its answer has come, and is counted to nobody.
#[tokio::test]
async fn work_in_the_background_counts_as_reserved() {
    let queued = r#"{"id":"resp_1","object":"response","created_at":1,"status":"queued","background":true,"error":null,"incomplete_details":null,"model":"m","output":[],"usage":null}"#;
    let done = queued.replace("queued", "completed").replace(
        r#""usage":null"#,
        r#""usage":{"input_tokens":3,"output_tokens":5,"total_tokens":8}"#,
    );
    for (answer, background, least, most) in [
        (queued, true, 0, 300),
        (done.as_str(), true, 900, 1000),
        (done.as_str(), false, 900, 1000),
    ] {
        let upstream = Upstream::new(vec![Step::Whole(200, JSON, answer.into())]).await;
        let provider =
            format!("  res: {{ dialect: openai-responses, base_url: \"{}/v1\" }}\n", upstream.url);
        let keys = [("sg-test", key(1000))];
        let keys = keys.each_ref().map(|(name, rest)| (*name, rest.as_str()));
        let gateway = Gateway::new(&with_keys(&upstream, &keys, &provider)).await;
        let body = format!(
            r#"{{"model":"res/m","input":"hi","background":{background},"max_output_tokens":700}}"#
        );
        let response = gateway.post("/v1/responses", &body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), answer, "passed on as it came");
        let left = left(&gateway, "openai-chat").await;
        assert!((least..=most).contains(&left), "{left} left, background {background}");
    }
}

/// A count beyond all that a request can use would lock its caller out for years.
#[tokio::test]
async fn an_absurd_count_is_estimated_and_logged_once() {
    for (dialect, provider) in SPOKEN {
        for absurd in ["18446744073709551615", "4294967296", "2147483647"] {
            let answer = whole(dialect, "hi there")
                .replace(r#"_tokens":3"#, &format!(r#"_tokens":{absurd}"#))
                .replace(r#"_tokens":2"#, &format!(r#"_tokens":{absurd}"#));
            assert_eq!(answer.matches(absurd).count(), 2);
            let upstream = Upstream::new(vec![Step::Whole(200, JSON, answer.into())]).await;
            let gateway = Gateway::new(&with_keys(&upstream, &[("sg-test", &key(1000))], "")).await;
            let log = Log::default();
            let _capture = log.capture();
            let body = request(&format!("{provider}/m"), false, "hi");
            for _ in 0..2 {
                let response = gateway.post(path(dialect), &body).send().await.unwrap();
                assert_eq!(response.status(), 200);
                response.text().await.unwrap();
            }
            assert!(left(&gateway, dialect).await > 800);
            for record in log.records().iter().filter(|record| record["status"] == 200) {
                assert_eq!(record["estimated"], true, "{record}");
                assert_eq!(record["output_tokens"], 2, "{record}");
                assert!(record["input_tokens"].as_u64().unwrap() < 100, "{record}");
            }
            let logged = log.text().matches("counted more tokens").count();
            assert_eq!(logged, 1, "{}", log.text());
            let counted = format!("streamgate_implausible_usage_total{{provider=\"{provider}\"}}");
            assert!((gateway.metric(&counted) - 2.0).abs() < 0.1, "{dialect} {absurd}");
            let tokens = gateway.metric("streamgate_tokens_total{");
            assert!(tokens < 300.0, "{tokens}");
        }
    }
}

/// A large count is true where the request shows that it may be.
#[tokio::test]
async fn a_large_count_is_believed() {
    for (dialect, provider) in SPOKEN {
        let answer = whole(dialect, "hi").replace(r#"_tokens":3"#, r#"_tokens":10000000"#);
        let upstream = Upstream::new(vec![Step::Whole(200, JSON, answer.into())]).await;
        let gateway = Gateway::new(&with_keys(&upstream, &[("sg-test", "")], "")).await;
        let log = Log::default();
        let _capture = log.capture();
        let body = request(&format!("{provider}/m"), false, "hi");
        gateway.post(path(dialect), &body).send().await.unwrap().text().await.unwrap();
        settled(&gateway).await;
        assert_eq!(log.records()[0]["input_tokens"], 10_000_000);
    }
}
