//! Requests that no endpoint answers, pages that may not call, and connections to the wrong port: all
//! counted, logged within a bound, and without anything secret.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::answers::streamed;
use crate::support::certificate::{Certificate, secure};
use crate::support::gateway::{Gateway, KEY, Log, yaml};
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

async fn gateway(more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await, upstream)
}

/// The count for a reason.
fn counted(gateway: &Gateway, reason: &str) -> String {
    let counted =
        gateway.metric(&format!("streamgate_refused_requests_total{{reason={reason:?}}}"));
    (counted + 0.0).to_string()
}

/// The log lines of a reason.
fn logged(log: &Log, reason: &str) -> Vec<Value> {
    let lines = log.text();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["reason"] == reason).collect()
}

#[tokio::test]
async fn unknown_paths_and_methods_are_recorded() {
    let (gateway, _upstream) = gateway("").await;
    let log = Log::default();
    let guard = log.capture();
    let path = "/proxy//v1/chat/completions?key=query-canary";
    let sent = gateway.post(path, "{}").header("x-request-id", "mine").send().await.unwrap();
    assert_eq!(sent.status(), 404);
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let sent = gateway.client.get(format!("{}{path}", gateway.url)).bearer_auth(KEY).send();
        assert_eq!(sent.await.unwrap().status(), 405);
    }
    drop(guard);
    assert_eq!(["not_found", "method_not_allowed"].map(|it| counted(&gateway, it)), ["1", "2"]);
    let [line] = &logged(&log, "not_found")[..] else { panic!("{}", log.text()) };
    assert_eq!(line["path"], "/proxy//v1/chat/completions");
    assert_eq!((&line["method"], &line["request_id"]), (&"POST".into(), &"mine".into()));
    let lines = logged(&log, "method_not_allowed");
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[1]["method"], &lines[1]["path"]), (&"GET".into(), &"/v1/messages".into()));
    for secret in ["query-canary", KEY] {
        assert!(!log.text().contains(secret), "{}", log.text());
    }
}

/// Paths and methods are a caller's words: long ones are cut, and many make few lines.
#[tokio::test]
async fn a_flood_is_counted_and_not_logged() {
    let (gateway, _upstream) = gateway("").await;
    let log = Log::default();
    let guard = log.capture();
    for _ in 0..200 {
        let path = format!("{}/{}", gateway.url, "a".repeat(8000));
        assert_eq!(gateway.client.get(path).send().await.unwrap().status(), 404);
    }
    drop(guard);
    assert_eq!(counted(&gateway, "not_found"), "200");
    let lines = logged(&log, "not_found");
    assert!((1..=10).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines.iter().all(|line| line["path"].as_str().unwrap().len() == 200), "{lines:?}");
}

#[tokio::test]
async fn refused_origins_are_recorded() {
    let cors = "server: { cors: { origins: [\"https://chat.example.com\"] } }\n";
    let (gateway, _upstream) = gateway(cors).await;
    let log = Log::default();
    let guard = log.capture();
    let own = gateway.url.clone();
    for (origin, refused) in [
        ("https://chat.example.com", "0"),
        // A page that this address itself serves, through whatever is in front of it.
        (&own, "0"),
        ("https://evil.example.com", "2"),
        ("null", "4"),
    ] {
        let url = format!("{}/v1/chat/completions", gateway.url);
        let preflight = gateway.client.request(http::Method::OPTIONS, &url);
        let preflight = preflight.header("access-control-request-method", "POST");
        preflight.header("origin", origin).send().await.unwrap();
        let sent = gateway.chat("oai/m").header("origin", origin).send().await.unwrap();
        assert_eq!(sent.status(), 200, "the browser hides the answer, not the gateway");
        sent.text().await.unwrap();
        assert_eq!(counted(&gateway, "origin_not_allowed"), refused, "{origin}");
    }
    drop(guard);
    let lines = logged(&log, "origin_not_allowed");
    assert_eq!(lines.len(), 4, "{}", log.text());
    assert_eq!(lines[0]["origin"], "https://evil.example.com");
    assert_eq!(lines[0]["method"], "OPTIONS");
    assert!(lines[0]["message"].as_str().unwrap().contains("server.cors.origins"), "{lines:?}");
}

/// The answer is no TLS, which is what clients take for the wrong port.
#[tokio::test]
async fn tls_on_the_plain_port_is_answered_and_recorded() {
    let (gateway, _upstream) = gateway("").await;
    let log = Log::default();
    let guard = log.capture();
    let config = std::sync::Arc::new(Certificate::new().config(&["http/1.1"]));
    let refused = timeout(Duration::from_secs(5), secure(&gateway, &config)).await;
    let error = refused.expect("closed at once").unwrap_err().to_string();
    assert!(error.contains("corrupt message"), "{error}");
    let mut raw = Raw::new(gateway.address).await;
    raw.write(b"\x16\x03\x01\x00\x05hello").await;
    let answer = raw.rest().await;
    let body = answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && body.contains("begins with http://"),
        "{answer}"
    );
    assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
    drop(guard);
    assert_eq!(counted(&gateway, "tls_on_plain_port"), "2");
    let lines = logged(&log, "tls_on_plain_port");
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{lines:?}");
    assert!(lines[0]["message"].as_str().unwrap().contains("server.tls"), "{lines:?}");
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_recorded() {
    let certificate = Certificate::new();
    let (gateway, _upstream) = gateway(&certificate.server("")).await;
    let mut raw = Raw::new(gateway.address).await;
    raw.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(counted(&gateway, "plain_on_tls_port"), "1");
    // A connection without a byte is neither.
    drop(TcpStream::connect(gateway.address).await.unwrap());
    assert_eq!(counted(&gateway, "plain_on_tls_port"), "1");
}
