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
    let more = "server: { header_timeout: 300ms, idle_timeout: 300ms }\n";
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
async fn fm67_header_timeout_without_a_head() {
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
async fn fm67_header_timeout_of_a_trickling_head() {
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
async fn fm67_header_timeout_of_the_next_request_on_a_connection() {
    let (gateway, _upstream) = gateway().await;
    let mut raw = Raw::new(gateway.address).await;
    raw.write("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(raw.response().await.status(), 200);
    let since = Instant::now();
    let begun = "GET /healthz HTTP/1.1\r\nhost";
    raw.write(begun).await;
    closes_in_time(&mut raw, since, begun).await;
}

#[tokio::test]
async fn fm67_body_timeout_of_a_stalled_body() {
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

/// Bytes that come one at a time buy no more time than they are worth.
#[tokio::test]
async fn fm67_body_timeout_of_a_trickling_body() {
    let (gateway, upstream) = gateway().await;
    let whole = post("/v1/chat/completions", "", &request("oai/m", true, &"x".repeat(1_000)));
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let since = Instant::now();
    let mut raw = Raw::new(gateway.address).await;
    raw.write(format!("{head}\r\n\r\n")).await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let mut sent = body.bytes();
    // The response waits for it.
    while raw.stream.try_read_buf(&mut raw.read).is_err() {
        beat.tick().await;
        raw.write([sent.next().unwrap()]).await;
        assert!(since.elapsed() < Duration::from_secs(3), "still waited for");
    }
    assert!(raw.rest().await.contains("did not arrive in time"));
    assert!(since.elapsed() >= PATIENCE);
    assert!(upstream.requests().await.is_empty());
}

/// The refusal reaches a caller who is still sending.
#[tokio::test]
async fn fm68_huge_heads_are_refused() {
    let (gateway, _upstream) = gateway().await;
    let headers = |count: usize| "x: y\r\n".repeat(count);
    let long = |size: usize| format!("x: {}\r\n", "y".repeat(size));
    for (path, headers, status) in [
        // `post` has four of its own.
        ("/nowhere", headers(96), 404),
        ("/nowhere", headers(97), 431),
        ("/nowhere", headers(500), 431),
        ("/nowhere", headers(200_000), 431),
        ("/nowhere", long(31_000), 404),
        ("/nowhere", long(33_000), 431),
        ("/nowhere", long(500_000), 431),
        ("/nowhere", long(5_000_000), 431),
        (&*format!("/{}", "y".repeat(31_000)), String::new(), 404),
        (&*format!("/{}", "y".repeat(500_000)), String::new(), 431),
    ] {
        let mut raw = Raw::new(gateway.address).await;
        assert!(raw.write(post(path, &headers, "{}")).await);
        let text = raw.until("\r\n\r\n").await;
        let told = text.split(' ').nth(1).unwrap();
        assert_eq!(told, status.to_string(), "{} bytes", path.len() + headers.len());
    }
}

/// The limit holds for what is announced and for what comes, and each is told in full.
#[tokio::test]
async fn fm68_huge_bodies_are_413() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let more = "server: { body_limit: 64KiB }\n";
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await;
    let head = |framing: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\n{framing}\r\n\r\n"
        )
    };
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for whole in [
        // Announced and never sent; announced and sent; sent and never ended.
        head("content-length: 9000000000000000000"),
        head("content-length: 4000000"),
        head("content-length: 4000000") + &"x".repeat(4_000_000),
        head("transfer-encoding: chunked") + &chunk.repeat(64),
    ] {
        let mut raw = Raw::new(gateway.address).await;
        assert!(raw.write(&whole).await);
        let response = raw.response().await;
        assert_eq!(response.status(), 413, "{response:?}");
        assert!(response.body.contains("64 KiB"), "{response:?}");
    }
    assert!(upstream.requests().await.is_empty());
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
        "content-length: 5\r\ncontent-length : 6\r\n",
        "content-length: 5\rcontent-length: 6\r\n",
        "content-length: 18446744073709551616\r\n",
        "content-length: \r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding: chunked\0\r\n",
        "transfer\tencoding: chunked\r\n",
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

/// Chunks that two parties could cut differently.
#[tokio::test]
async fn fm69_malformed_chunks_hide_nothing() {
    let hidden = post("/v1/chat/completions", "", &request("oai/m", true, "hidden"));
    for chunks in [
        "-1\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1 1\r\nx\r\n0\r\n\r\n",
        "10000000000000001\r\nx\r\n0\r\n\r\n",
        "1\r\nxy0\r\n\r\n",
        "1\nx\n0\n\n",
        "\r\n\r\n",
        "1\rx\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
    ] {
        let (gateway, upstream) = gateway().await;
        let mut raw = Raw::new(gateway.address).await;
        raw.write(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{hidden}"
        ))
        .await;
        let text = timeout(Duration::from_secs(5), raw.rest()).await.expect("closed");
        assert!(text.matches("HTTP/1.1").count() <= 1, "{chunks:?}: {text}");
        assert!(!text.contains("HTTP/1.1 200"), "{chunks:?}: {text}");
        assert!(upstream.requests().await.is_empty(), "{chunks:?}");
    }
}

/// Odd but unambiguous: each is one request, and what reaches the upstream is our own.
#[tokio::test]
async fn fm69_odd_requests_are_built_anew() {
    let body = request("oai/m", true, "hi");
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let line = "POST /v1/chat/completions HTTP/1.1";
    for (line, framing, body) in [
        ("POST http://elsewhere.example/v1/chat/completions HTTP/1.1", format!("content-length: {length}"), &body),
        (line, format!("content-length: {length}\r\ncontent-length: {length}"), &body),
        (line, "transfer-encoding: Chunked".into(), &chunked),
        (line, "transfer-encoding:chunked ".into(), &chunked),
        (line, "x-forwarded-host: elsewhere\r\nx-http-method-override: GET\r\ntransfer-encoding: chunked".into(), &chunked),
    ] {
        let (gateway, upstream) = gateway().await;
        let mut raw = Raw::new(gateway.address).await;
        raw.write(format!(
            "{line}\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n{body}"
        ))
        .await;
        let text = raw.rest().await;
        assert!(text.starts_with("HTTP/1.1 200"), "{framing}: {text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{framing}: {text}");
        let requests = upstream.requests().await;
        assert_eq!(requests.len(), 1, "{framing}");
        for seen in requests {
            let head = seen.head.to_ascii_lowercase();
            assert!(head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{head}");
            assert_eq!(head.matches("\nhost:").count(), 1, "{head}");
            assert!(head.contains("\nhost: 127.0.0.1"), "{head}");
            for word in ["elsewhere", "second", "transfer-encoding", "override"] {
                assert!(!head.contains(word), "{word} in {head}");
            }
            assert!(seen.body.starts_with(b"{\"model\":\"m\""));
        }
    }
}

/// Lines that end in a bare LF are read as lines, by everybody the same way: what follows the head is
/// the body, and no request is inside another.
#[tokio::test]
async fn fm69_bare_line_feeds_end_lines() {
    let (gateway, upstream) = gateway().await;
    let body = request("oai/m", true, "hi");
    let whole = post("/v1/chat/completions", "", &body).replace("\r\n", "\n");
    let mut raw = Raw::new(gateway.address).await;
    raw.write(&whole).await;
    let text = raw.rest().await;
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let seen = upstream.requests().await;
    assert_eq!(seen.len(), 1);
    assert!(seen.iter().all(|seen| !seen.head.replace("\r\n", "").contains('\n')));
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
