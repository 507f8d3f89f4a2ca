//! Request heads that HTTP forbids, and expectations.

use crate::support::answers::{request, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

const CHAT: &str = "/v1/chat/completions";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    (gateway, upstream)
}

/// All that comes back on a connection of its own.
async fn exchange(gateway: &Gateway, sent: &str) -> String {
    let mut raw = Raw::new(gateway.address).await;
    assert!(raw.write(sent).await);
    raw.rest().await
}

#[tokio::test]
async fn a_malformed_head_is_rejected_and_its_connection_closed() {
    let (gateway, upstream) = gateway().await;
    for (head, status, word) in [
        ("GET /healthz HTTP/1.1\r\n", 400, "`host`"),
        ("GET http://x/healthz HTTP/1.1\r\n", 400, "`host`"),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\nhost: x\r\n", 400, "`host`"),
        ("GET /healthz HTTP/1.0\r\nhost: x\r\nhost: y\r\n", 400, "`host`"),
        ("GET /healthz HTTP/1.1\r\nhost: x y\r\n", 400, "`host`"),
        (
            "POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n",
            501,
            "`transfer-encoding`",
        ),
        (
            "POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            400,
            "`transfer-encoding`",
        ),
        (
            "POST /v1/messages HTTP/1.1\r\nhost: x\r\nexpect: 200-ok\r\ncontent-length: 5\r\n",
            417,
            "`expect`",
        ),
    ] {
        let end = if head.contains("chunked") { "\r\n0\r\n\r\n" } else { "\r\n" };
        let text = exchange(&gateway, &format!("{head}{end}")).await;
        assert!(text.contains(&format!(" {status} ")), "{head}: {text}");
        assert!(text.contains(word), "{head}: {text}");
        assert!(!text.contains("100 Continue"), "{head}: {text}");
    }
    assert_eq!(gateway.count("streamgate_refused_requests_total{reason=\"malformed_head\"}"), 8);
    let bare = exchange(&gateway, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(bare.starts_with("HTTP/1.0 200") || bare.starts_with("HTTP/1.1 200"), "{bare}");
    let empty =
        exchange(&gateway, "GET /healthz HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n").await;
    assert!(empty.starts_with("HTTP/1.1 200"), "{empty}");
    assert_eq!(upstream.connections(), 0);
}

/// RFC 9112, section 6.3: `transfer-encoding` wins, and nothing more is read from the connection.
#[tokio::test]
async fn a_content_length_beside_chunks_is_ignored_and_ends_the_connection() {
    let (gateway, upstream) = gateway().await;
    let body = request("oai/m", true, "hi");
    let size = body.len();
    for framing in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
    ] {
        let sent = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
             {framing}\r\n{size:x}\r\n{body}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        let text = exchange(&gateway, &sent).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("[DONE]"), "{text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{framing}: {text}");
    }
    assert_eq!(upstream.requests().await.len(), 2);
}

#[tokio::test]
async fn expect_100_continue_is_answered_only_for_accepted_callers() {
    let (gateway, _upstream) = gateway().await;
    let body = request("oai/m", true, "hi");
    let head = |path: &str, key: &str, kind: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: {kind}\r\n\
             expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let json = "application/json";
    for (head, status) in [
        (head(CHAT, "wrong", json, body.len()), 401),
        (head(CHAT, KEY, "text/plain", body.len()), 415),
        (head(CHAT, KEY, json, 1 << 30), 413),
        (head("/v1/nowhere", KEY, json, body.len()), 404),
        (head("/v1/prompts", KEY, json, body.len()), 405),
        (head("/api/show", "wrong", json, body.len()), 401),
    ] {
        let text = exchange(&gateway, &head).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {text}");
        assert!(text.contains("connection: close"), "{text}");
    }
    let mut raw = Raw::new(gateway.address).await;
    raw.write(head(CHAT, KEY, json, body.len())).await;
    raw.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    raw.write(&body).await;
    raw.until("[DONE]").await;
}
