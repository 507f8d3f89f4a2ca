//! Callers that misuse their connection: slow ones, and those that hide a request in another.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::support::answers::{SPOKEN, path, request, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::raw::{Raw, post};
use crate::support::upstream::Upstream;

const PATIENCE: Duration = Duration::from_millis(300);

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let more = "server: { header_timeout: 300ms }\n";
    (Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await, upstream)
}

/// The connection ends near the header timeout.
async fn closes_in_time(raw: &mut Raw, since: Instant, what: &str) -> String {
    let text = raw.rest().await;
    let took = since.elapsed();
    assert!(took + Duration::from_millis(50) >= PATIENCE, "{what}: closed after {took:?}: {text}");
    assert!(took < Duration::from_secs(3), "{what}: closed after {took:?}");
    text
}

#[tokio::test]
async fn fm67_heads_that_do_not_come_are_not_waited_for() {
    let (gateway, _upstream) = gateway().await;
    let partial = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bea";
    for begun in
        ["", "P", "PRI * HTT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", partial, "GET / HTTP/1.1\r\n"]
    {
        let since = Instant::now();
        let mut raw = Raw::new(gateway.address).await;
        raw.write(begun).await;
        closes_in_time(&mut raw, since, begun).await;
    }
}

#[tokio::test]
async fn fm67_a_head_that_trickles_has_one_deadline() {
    let (gateway, _upstream) = gateway().await;
    for beginning in ["GET / HTTP/1.1\r\nx: ", "PRI"] {
        let since = Instant::now();
        let mut raw = Raw::new(gateway.address).await;
        raw.write(beginning).await;
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        let rest = if beginning == "PRI" { " * HTTP/2.0" } else { "xxxxxxxxxxxxxxxxxxxxxxxxxxx" };
        for byte in rest.bytes().cycle() {
            beat.tick().await;
            if !raw.write([byte]).await {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(3), "{beginning} still open");
        }
        if beginning != "PRI" {
            assert!(since.elapsed() >= PATIENCE, "{beginning}");
        }
    }
}

#[tokio::test]
async fn fm67_the_next_head_on_a_connection_has_the_same_deadline() {
    let (gateway, _upstream) = gateway().await;
    let mut raw = Raw::new(gateway.address).await;
    raw.write("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(raw.response().await.status(), 200);
    let since = Instant::now();
    raw.write("GET /healthz HTTP/1.1\r\nhost").await;
    closes_in_time(&mut raw, since, "second head").await;
}

#[tokio::test]
async fn fm67_bodies_that_stall_are_refused() {
    let (gateway, upstream) = gateway().await;
    for (dialect, _) in SPOKEN {
        for begun in ["", "{\"model\":\"oai/m\","] {
            let since = Instant::now();
            let mut raw = Raw::new(gateway.address).await;
            let whole = post(path(dialect), "", &request("oai/m", true, "hi"));
            let (head, _) = whole.split_once("\r\n\r\n").unwrap();
            raw.write(format!("{head}\r\n\r\n{begun}")).await;
            let text = closes_in_time(&mut raw, since, begun).await;
            assert!(text.contains("did not arrive in time"), "{text}");
        }
    }
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn fm68_huge_heads_are_refused() {
    let (gateway, _upstream) = gateway().await;
    let many = "x: y\r\n".repeat(500);
    let long = format!("x: {}\r\n", "y".repeat(200_000));
    let path = format!("/{}", "y".repeat(200_000));
    for (path, headers) in [("/v1/messages", many.as_str()), ("/v1/messages", &long), (&path, "")] {
        let mut raw = Raw::new(gateway.address).await;
        raw.write(post(path, headers, "{}")).await;
        let text = raw.rest().await;
        let status = text.split(' ').nth(1).unwrap_or("none");
        assert!(["none", "431", "414", "400"].contains(&status), "{text}");
    }
}

/// Requests whose length two parties could read differently. None of them may hide another one.
#[tokio::test]
async fn fm69_no_request_hides_in_another() {
    let hidden = post("/v1/chat/completions", "", &request("oai/m", true, "hidden"));
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\n"
    );
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length : 5\r\n",
        "content-length:\r\n 5\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer-encoding: identity\r\ncontent-length: 5\r\n",
        "x: a\r\n folded: b\r\ncontent-length: 5\r\n",
        "\0: a\r\ncontent-length: 5\r\n",
        "x: a\0b\r\ncontent-length: 5\r\n",
    ] {
        let (gateway, upstream) = gateway().await;
        let mut raw = Raw::new(gateway.address).await;
        raw.write(format!("{head}{framing}\r\n0\r\n\r\n{hidden}")).await;
        let text = timeout(Duration::from_secs(5), raw.rest()).await.expect("closed");
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{framing:?}: {text}");
        assert!(text.matches("HTTP/1.1").count() <= 1, "{framing:?}: {text}");
        assert!(upstream.requests().await.is_empty(), "{framing:?}");
    }
}

/// RFC 9112, 6.3: the transfer coding counts alone. We build our own requests, so the length is not
/// passed on.
#[tokio::test]
async fn fm69_a_length_beside_chunks_counts_for_nothing() {
    let body = request("oai/m", true, "hi");
    for order in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    ] {
        let (gateway, upstream) = gateway().await;
        let mut raw = Raw::new(gateway.address).await;
        raw.write(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\n{order}\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ))
        .await;
        let text = raw.rest().await;
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
        let seen = upstream.requests().await;
        assert!(seen.len() <= 1);
        for seen in seen {
            assert!(!seen.head.to_ascii_lowercase().contains("transfer-encoding"), "{}", seen.head);
            assert!(seen.body.starts_with(b"{\"model\":\"m\""));
        }
    }
}

#[tokio::test]
async fn fm69_hop_by_hop_headers_stay_on_their_hop() {
    for (dialect, provider) in SPOKEN {
        let upstream = Upstream::new(streamed(dialect, "hi")).await;
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
        let mut raw = Raw::new(gateway.address).await;
        let headers = "connection: keep-alive, x-hop, anthropic-beta\r\nx-hop: hop-value\r\n\
             anthropic-beta: hop-value\r\nte: trailers\r\nkeep-alive: hop-value\r\nproxy-connection: hop-value\r\n\
             proxy-authorization: hop-value\r\nupgrade: hop-value\r\ntrailer: hop-value\r\n";
        raw.post(path(dialect), headers, &request(&format!("{provider}/m"), true, "hi")).await;
        raw.until("\r\n0\r\n\r\n").await;
        let seen = &upstream.requests().await[0].head.to_ascii_lowercase();
        for name in ["hop-value", "trailers", "connection:", "upgrade:"] {
            assert!(!seen.contains(name), "{name} in {seen}");
        }
    }
}
