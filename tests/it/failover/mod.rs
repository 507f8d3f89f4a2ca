//! Failover over HTTP: whatever the caller did not cause is tried at the next target, and what it did
//! cause is not.

mod checks;
mod credentials;
mod fallbacks;
mod mirror;
mod pins;
mod queue;
mod retries;
mod routing;
mod simulated;

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;

use crate::streaming::{count, read_until, settled};
use crate::support::Ended;
use crate::support::answers::{ending, opening, streamed};
use crate::support::gateway::{Gateway, KEY, Log, hex};
use crate::support::language::{Ask, LANGUAGES, Language, language};
use crate::support::received;
use crate::support::upstream::{Step, Upstream};

/// Headers of an upstream's error, some of which name the operator's account.
pub(super) const JSON: &str = "content-type: application/json\r\nretry-after: 7\r\nx-request-id: up-canary\r\n\
    openai-organization: org-canary\r\nx-ratelimit-remaining-requests: 3\r\n";

/// A configuration with a provider `a` of a dialect, a provider `b` of another one, and models that
/// have them behind them.
pub(super) fn yaml(dialect: &str, a: &str, b: &str, more: &str) -> String {
    format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {} }}\nproviders:\n  \
         a: {{ dialect: {dialect}, base_url: \"{a}\", api_key: up-canary-key }}\n  \
         b: {{ dialect: openai-chat, base_url: \"{b}\" }}\nmodels:\n  \
         one: {{ targets: [{{ provider: a, model: m }}] }}\n  \
         two: {{ targets: [{{ provider: a, model: m }}, {{ provider: b, model: m }}] }}\n{more}",
        hex(&streamgate::config::digest(KEY)),
    )
}

/// A gateway before these two.
pub(super) async fn before(dialect: &str, a: &Upstream, b: &Upstream, more: &str) -> Gateway {
    Gateway::new(&yaml(dialect, &a.url, &b.url, more)).await
}

pub(super) async fn good() -> Upstream {
    Upstream::new(streamed("openai-chat", "Hello")).await
}

pub(super) async fn send(
    gateway: &Gateway,
    language: &Language,
    model: &str,
    stream: bool,
) -> reqwest::Response {
    let ask = Ask { model: model.to_owned(), stream, ..Ask::default() };
    let body = (language.request)(&ask).to_string();
    gateway.post(&(language.path)(&ask), &body).send().await.unwrap()
}

/// The text of a streamed answer that is complete.
pub(super) async fn text(language: &Language, response: reqwest::Response) -> String {
    assert_eq!(response.status(), 200);
    let bytes = response.bytes().await.unwrap();
    let view = (language.stream)(&bytes, true);
    let view = view.unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&bytes)));
    assert_eq!(view.ended, Ended::Complete);
    view.choices[&0].text.clone()
}

/// Errors that the caller did not cause lead to failover.
#[tokio::test]
async fn fm16_failover_of_errors_that_the_caller_did_not_cause() {
    let statuses = [
        401, 402, 403, 404, 405, 406, 408, 409, 410, 415, 421, 423, 424, 425, 429, 431, 451, 498,
        499, 500, 501, 502, 503, 504, 520, 529, 301, 307,
    ];
    let mut scripts: Vec<(String, Vec<Step>)> = Vec::new();
    for status in statuses {
        let body = r#"{"error":{"message":"provider says no","type":"t","code":"c"}}"#;
        scripts.push((status.to_string(), vec![Step::Whole(status, JSON, body.into())]));
    }
    let page = "content-type: text/html\r\n";
    for status in [200, 400, 404] {
        scripts.push((format!("{status} page"), vec![Step::Whole(status, page, b"<p>".to_vec())]));
    }
    for (what, script) in scripts {
        let (a, b) = (Upstream::new(script).await, good().await);
        let gateway = before("openai-chat", &a, &b, "").await;
        for dialect in ["openai-chat", "anthropic"] {
            let language = language(dialect);
            let response = send(&gateway, language, "two", true).await;
            assert_eq!(response.status(), 200, "{what}");
            assert_eq!(response.headers()["x-streamgate-target"], "b/m", "{what}");
            assert_eq!(text(language, response).await, "Hello", "{what}");
        }
    }
}

/// Errors that the caller caused: in the upstream's words, without failover, counted as
/// rejected and not as trouble of the provider.
#[tokio::test]
async fn no_failover_of_errors_that_the_caller_caused() {
    for (dialect, status, body) in [
        (
            "openai-chat",
            400,
            r#"{"error":{"message":"told you","type":"invalid_request_error","param":"messages","code":null}}"#,
        ),
        ("openai-chat", 422, r#"{"detail":[{"loc":["body"],"msg":"told you"}]}"#),
        (
            "openai-chat",
            403,
            r#"{"error":{"code":403,"message":"told you","metadata":{"reasons":["x"],"flagged_input":"y"}}}"#,
        ),
        (
            "openai-chat",
            400,
            r#"{"error":{"message":"told you","code":"content_filter","status":400}}"#,
        ),
        (
            "openai-chat",
            400,
            r#"{"error":{"message":"told you: your API key is incorrect api key","type":"invalid_request_error"}}"#,
        ),
        (
            "openai-chat",
            400,
            r#"{"error":{"code":400,"message":"told you","status":"INVALID_ARGUMENT","details":[{"description":"Unknown name \"api_key_invalid\""}]}}"#,
        ),
        (
            "anthropic",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"told you"}}"#,
        ),
        (
            "gemini",
            400,
            r#"{"error":{"code":400,"message":"told you","status":"INVALID_ARGUMENT"}}"#,
        ),
        ("bedrock", 400, r#"{"message":"told you"}"#),
    ] {
        let a = Upstream::new(vec![Step::Whole(status, JSON, body.into())]).await;
        let b = good().await;
        let gateway = before(dialect, &a, &b, "").await;
        for language in LANGUAGES {
            let place = format!("{} {body}", language.name);
            let log = Log::default();
            let capture = log.capture();
            let response = send(&gateway, language, "two", true).await;
            assert!(response.status().is_client_error(), "{place}: {}", response.status());
            assert!(![401, 402].contains(&response.status().as_u16()), "{place}");
            assert!(response.text().await.unwrap().contains("told you"), "{place}");
            drop(capture);
            let records = log.records();
            assert_eq!(records[0]["outcome"], "rejected", "{place}");
            assert!(!log.text().contains("attempt failed"), "{place}");
        }
        assert_eq!(b.requests().await.len(), 0, "{dialect} {body}");
        assert_eq!(count(&gateway, "streamgate_upstream_errors_total{"), "0", "{dialect} {body}");
        assert_eq!(count(&gateway, "streamgate_target_ejected{"), "0", "{dialect} {body}");
    }
}

/// Failover of a prompt over the context length needs a target with a larger or unknown context.
#[tokio::test]
async fn fm16_failover_of_a_long_prompt_to_a_larger_context() {
    let long = r#"{"error":{"message":"maximum context length is 9","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    for (first, second, tried) in [
        ("", "", true),
        (", context: 1000", "", true),
        (", context: 1000", ", context: 2000", true),
        (", context: 1000", ", context: 1000", false),
        (", context: 2000", ", context: 1000", false),
    ] {
        for status in [400, 413] {
            let a = Upstream::new(vec![Step::Whole(status, JSON, long.into())]).await;
            let b = good().await;
            let more = format!(
                "  room: {{ targets: [{{ provider: a, model: m{first} }}, {{ provider: b, model: m{second} }}] }}\n"
            );
            let gateway = before("openai-chat", &a, &b, &more).await;
            let response = gateway.chat("room").send().await.unwrap();
            let expected = if tried { 200 } else { status };
            assert_eq!(response.status(), expected, "{first} {second}");
            assert_eq!(b.requests().await.len(), usize::from(tried), "{first} {second}");
        }
    }
}

/// A model that the caller names itself is the caller's mistake; one that is configured is the
/// operator's.
#[tokio::test]
async fn failover_of_a_model_that_is_gone_and_who_named_it() {
    let gone = r#"{"error":{"message":"The model `nope` does not exist","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#;
    let a = Upstream::new(vec![Step::Whole(404, JSON, gone.into())]).await;
    let gateway = before("openai-chat", &a, &a, "").await;
    for language in LANGUAGES {
        let direct = send(&gateway, language, "a/nope", true).await;
        assert_eq!(direct.status(), 404, "{}", language.name);
        assert!(direct.text().await.unwrap().contains("does not exist"), "{}", language.name);
    }
    let log = Log::default();
    let capture = log.capture();
    for language in LANGUAGES {
        let configured = send(&gateway, language, "one", true).await;
        assert_eq!(configured.status(), 502, "{}", language.name);
        let body = configured.text().await.unwrap();
        assert!(body.contains("(upstream_model_not_found)") && !body.contains("nope"), "{body}");
    }
    drop(capture);
    let said = "target a/m of model `one` does not exist at the provider";
    assert_eq!(log.text().matches(said).count(), 1, "{}", log.text());
}

/// If all fail, the caller gets the error that helps it most, not the last one.
#[tokio::test]
async fn failover_reports_the_most_useful_error() {
    const LATER: &str = "content-type: application/json\r\nretry-after: 60\r\n";
    const SOON: &str = "content-type: application/json\r\nretry-after: 2\r\n";
    let whole = |status, headers| vec![Step::Whole(status, headers, b"{}".to_vec())];
    for (first, second, status, target) in [
        (whole(429, SOON), whole(401, JSON), 429, "a/m"),
        (whole(401, JSON), whole(503, JSON), 503, "b/m"),
        (whole(429, LATER), whole(429, SOON), 429, "b/m"),
        (whole(429, SOON), whole(429, LATER), 429, "a/m"),
        (whole(503, JSON), whole(500, JSON), 503, "a/m"),
        (whole(500, JSON), whole(400, JSON), 400, "b/m"),
        (whole(401, JSON), whole(402, JSON), 502, "a/m"),
    ] {
        let (a, b) = (Upstream::new(first).await, Upstream::new(second).await);
        let gateway = before("openai-chat", &a, &b, "").await;
        let log = Log::default();
        let capture = log.capture();
        let response = gateway.chat("two").send().await.unwrap();
        assert_eq!(response.status(), status, "{target}");
        assert_eq!(response.headers()["x-streamgate-target"], target, "{status}");
        drop(capture);
        assert_eq!(log.records()[0]["attempts"], 2);
    }
}

/// `circuit-breaker`: of an outage's requests only the first one waits for the hanging target.
#[tokio::test]
async fn failover_avoids_a_hanging_target_after_the_first_request() {
    let (a, b) = (Upstream::new(vec![Step::Hang]).await, good().await);
    let gateway = before("openai-chat", &a, &b, "stream: { first_token: 2s }\n").await;
    let log = Log::default();
    let capture = log.capture();
    for _ in 0..5 {
        let response = gateway.chat("two").send().await.unwrap();
        assert_eq!(text(language("openai-chat"), response).await, "Hello");
    }
    settled(&gateway).await;
    drop(capture);
    let attempts: Vec<_> = log.records().iter().map(|record| record["attempts"].clone()).collect();
    assert_eq!(attempts, [2, 1, 1, 1, 1]);
    assert_eq!(a.requests().await.len(), 1);
    assert_eq!(count(&gateway, "streamgate_target_ejected{target=\"a/m\"}"), "1");
    assert_eq!(log.text().matches("is failing; requests prefer others").count(), 1);
}

/// A failed attempt's line in the log has its model, caller and address.
#[tokio::test]
async fn a_failed_attempt_is_logged_with_model_caller_and_address() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let b = good().await;
    let gateway =
        Gateway::new(&yaml("openai-chat", &format!("http://{address}"), &b.url, "")).await;
    let log = Log::default();
    let capture = log.capture();
    let response = gateway.chat("two").send().await.unwrap();
    assert_eq!(text(language("openai-chat"), response).await, "Hello");
    drop(capture);
    let log_text = log.text();
    let mut lines = log_text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.find(|line| line["message"] == "attempt failed").expect("a line");
    for (field, value) in [
        ("provider", "a"),
        ("target", "a/m"),
        ("model", "two"),
        ("caller", "test"),
        ("address", &address),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
}

/// Failure mode 16: what failed along with its first output is tried elsewhere, since nothing of it was
/// forwarded; without another target, the output is forwarded and the error follows in the stream.
#[tokio::test]
async fn fm16_failover_when_the_first_output_comes_with_an_error() {
    for (dialect, failure) in [
        (
            "openai-chat",
            "data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
        ),
        (
            "anthropic",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"boom\"}}\n\n",
        ),
        ("openai-chat", "data: {\"choices\":[{]}\n\n"),
        // The end of the bytes, in the same segment.
        ("openai-chat", ""),
    ] {
        let first = opening(dialect, "cut") + failure;
        let body = format!("{:x}\r\n{first}\r\n0\r\n\r\n", first.len());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let script = vec![Step::Raw(format!("{head}{body}").into_bytes())];
        let (a, b) = (Upstream::new(script).await, good().await);
        let more = "  cut: { targets: [{ provider: a, model: m }, { provider: a, model: n }] }\n";
        let gateway = before(dialect, &a, &b, more).await;
        for language in LANGUAGES {
            let place = format!("{} {dialect} {failure}", language.name);
            assert_eq!(text(language, send(&gateway, language, "two", true).await).await, "Hello");
            let bytes = received(send(&gateway, language, "cut", true).await).await.0;
            let view =
                (language.stream)(&bytes, true).unwrap_or_else(|why| panic!("{place} {why}"));
            assert_eq!(view.choices[&0].text, "cut", "{place}");
            assert!(matches!(view.ended, Ended::Error(_)), "{place}: {view:?}");
        }
    }
}

/// An answer that is forwarded stays its target's, whatever follows.
#[tokio::test]
async fn fm16_no_failover_after_forwarded_output() {
    let gate = Arc::new(Notify::new());
    let opening = Step::chunk(&opening("openai-chat", "said"));
    let script = vec![Step::Sse, opening, Step::Gate(Arc::clone(&gate)), Step::Close];
    let (a, b) = (Upstream::new(script).await, good().await);
    let gateway = before("openai-chat", &a, &b, "").await;
    let mut response = gateway.chat("two").send().await.unwrap();
    let begun = read_until(&mut response, "said").await;
    gate.notify_one();
    let bytes = [begun, response.bytes().await.unwrap().to_vec()].concat();
    assert!(!String::from_utf8_lossy(&bytes).contains(ending("openai-chat").trim()));
    assert_eq!(b.requests().await.len(), 0);
}
