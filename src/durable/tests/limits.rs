//! Bounds and expiry: of a stream, of a caller, of all streams.

use tokio::time::advance;

use super::{SECOND, Server, TEXT};
use crate::config::{Durable, Limits};

#[tokio::test(start_paused = true)]
async fn a_stream_expires_without_use_and_its_memory_is_free() {
    let server = Server::plain();
    let created = server.send("PUT s", &[TEXT, ("stream-ttl", "10")], "a").await;
    assert_eq!(created.status, 201);
    assert!(server.used() > 1000);
    for request in ["GET s", "GET s?offset=now", "GET s?offset=-1&live=long-poll"] {
        advance(9 * SECOND).await;
        assert_eq!(server.status(request).await, 200, "{request}");
    }
    advance(9 * SECOND).await;
    server.append("s", "b").await;
    advance(9 * SECOND).await;
    // A look at the metadata is no use.
    let metadata = server.send("HEAD s", &[], "").await;
    assert_eq!((metadata.status, metadata.header("stream-ttl")), (200, "10"));
    advance(SECOND).await;
    for request in ["HEAD s", "GET s", "GET s?offset=-1&live=sse", "DELETE s"] {
        assert_eq!(server.status(request).await, 404, "{request}");
    }
    server.streams.expire();
    assert_eq!(server.used(), 0);
    server.create("s", "again").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_an_expiry_gets_the_default() {
    let settings = Durable { ttl: Some(60 * SECOND), ..Durable::default() };
    let server = Server::new(settings, Limits::NONE);
    server.create("s", "").await;
    assert_eq!(server.send("HEAD s", &[], "").await.header("stream-ttl"), "60");
    // As it was created, and with the same value.
    assert_eq!(server.send("PUT s", &[TEXT], "").await.status, 200);
    assert_eq!(server.send("PUT s", &[TEXT, ("stream-ttl", "60")], "").await.status, 200);
    assert_eq!(server.send("PUT s", &[TEXT, ("stream-ttl", "61")], "").await.status, 409);
    advance(60 * SECOND).await;
    assert_eq!(server.status("GET s").await, 404);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_date_is_compared_as_a_date() {
    let server = Server::plain();
    let at = |date| [TEXT, ("stream-expires-at", date)];
    let zulu = at("2999-01-01T12:00:00Z");
    assert_eq!(server.send("PUT s", &zulu, "").await.status, 201);
    assert_eq!(server.send("PUT s", &at("2999-01-01T14:00:00.0+02:00"), "").await.status, 200);
    assert_eq!(server.send("PUT s", &at("2999-01-01T12:00:01Z"), "").await.status, 409);
    assert_eq!(server.send("PUT s", &[TEXT], "").await.status, 409);
    let metadata = server.send("HEAD s", &[], "").await;
    assert_eq!(metadata.header("stream-expires-at"), "2999-01-01T12:00:00Z");
    let past = server.send("PUT t", &at("1999-01-01T12:00:00Z"), "").await;
    assert_eq!(past.status, 400);
    assert!(past.body.contains("`stream-expires-at` is in the past"), "{}", past.body);
}

#[tokio::test(start_paused = true)]
async fn live_reads_have_a_bound_of_their_own() {
    let settings = Durable { live_reads: 2, ..Durable::default() };
    let server = Server::new(settings, Limits::NONE);
    server.create("s", "a").await;
    let follow = async || server.begin("GET s?offset=now&live=sse", &[], "").await;
    let [first, second] = [follow().await, follow().await];
    assert_eq!(first.status(), 200);
    let third = server.send("GET s?offset=now&live=long-poll", &[], "").await;
    assert_eq!(third.status, 429);
    assert!(third.body.contains("this caller may have 2 live reads"), "{}", third.body);
    assert_eq!(server.status("GET s").await, 200);
    drop(second);
    assert_eq!(follow().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn streams_have_bounds() {
    let settings =
        Durable { memory: 16 << 10, stream_size: 4 << 10, streams: 4, ..Durable::default() };
    let server = Server::new(settings, Limits::NONE);
    let kib = "x".repeat(1 << 10);
    server.create("s", &kib).await;
    for _ in 0..2 {
        server.append("s", &kib).await;
    }
    let large = server.send("POST s", &[TEXT], &kib).await;
    assert_eq!(large.status, 413);
    assert!(large.body.contains("durable.stream_size"), "{}", large.body);
    assert_eq!(server.send("GET s", &[], "").await.body.len(), 3 << 10);

    server.create("t", &kib.repeat(3)).await;
    server.create("u", &kib).await;
    // One caller has at most three quarters.
    let full = server.send("PUT v", &[TEXT], &kib.repeat(3)).await;
    assert_eq!((full.status, full.header("retry-after")), (503, "1"));
    assert!(full.body.contains("durable.memory"), "{}", full.body);
    let other = [TEXT, ("authorization", "Bearer b")];
    assert_eq!(server.send("PUT v", &other, &kib).await.status, 201);
    let refusals = "streamgate_memory_refusals_total{share=\"durable\"} 1\n";
    assert!(server.gateway.metrics.render().contains(refusals));

    server.create("v", "").await;
    let many = server.send("PUT w", &[TEXT], "").await;
    assert_eq!(many.status, 429);
    assert!(many.body.contains("this caller may have 4 streams"), "{}", many.body);
    for path in ["s", "t", "u", "v"] {
        assert_eq!(server.status(&format!("DELETE {path}")).await, 204);
    }
    assert_eq!(server.send("DELETE v", &other, "").await.status, 204);
    assert_eq!(server.used(), 0);
}

/// Producers are remembered for as long as their stream: they take memory as well.
#[tokio::test(start_paused = true)]
async fn producers_count_towards_the_size_of_a_stream() {
    let settings = Durable { stream_size: 4 << 10, ..Durable::default() };
    let server = Server::new(settings, Limits::NONE);
    server.create("s", "").await;
    let id = "p".repeat(200);
    let mut statuses = Vec::new();
    for number in 0..20 {
        let id = format!("{id}{number:02}");
        let headers = [TEXT, ("producer-id", &id), ("producer-epoch", "0"), ("producer-seq", "0")];
        statuses.push(server.send("POST s", &headers, "x").await.status);
    }
    assert!(statuses.contains(&200) && statuses.ends_with(&[413]), "{statuses:?}");
}
