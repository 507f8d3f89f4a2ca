//! Long polls and event streams: what they wait for, what they take, and what ends them.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::{Reply, SECOND, Server, TEXT};
use crate::config::{Durable, Limits};
use crate::durable::answer;

/// The next part of a body; `None`: it has ended.
async fn part(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

/// The waiting of a long poll, while something happens after a second.
async fn poll(server: &Server, happens: impl AsyncFnOnce(&Server)) -> (Reply, Duration) {
    let tail = server.send("HEAD s", &[], "").await.next();
    let begun = Instant::now();
    let request = format!("GET s?offset={tail}&live=long-poll");
    let happening = async {
        tokio::time::sleep(SECOND).await;
        happens(server).await;
    };
    let (reply, ()) = tokio::join!(server.send(&request, &[], ""), happening);
    (reply, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_news() {
    let server = Server::plain();
    server.create("s", "a").await;
    let (reply, waited) = poll(&server, async |_| {}).await;
    assert_eq!((reply.status, waited), (204, 25 * SECOND));
    assert_eq!(reply.header("stream-up-to-date"), "true");
    assert!(!reply.header("stream-cursor").is_empty());

    let (reply, waited) = poll(&server, async |server| drop(server.append("s", "b").await)).await;
    assert_eq!((reply.status, reply.body.as_str(), waited), (200, "b", SECOND));
    assert_eq!(reply.next(), server.send("HEAD s", &[], "").await.next());

    // A source's appends are no news to its forks.
    server.send("PUT other", &[TEXT, ("stream-forked-from", "/v1/stream/s")], "").await;
    let tail = server.send("HEAD other", &[], "").await.next();
    let request = format!("GET other?offset={tail}&live=long-poll");
    let (reply, _) = tokio::join!(server.send(&request, &[], ""), server.append("s", "c"));
    assert_eq!(reply.status, 204);

    let closing = [("stream-closed", "true")];
    let (reply, waited) =
        poll(&server, async |server| drop(server.send("POST s", &closing, "").await)).await;
    assert_eq!((reply.status, reply.header("stream-closed"), waited), (204, "true", SECOND));
    let (reply, _) = poll(&server, async |_| {}).await;
    assert_eq!((reply.status, reply.header("stream-closed")), (204, "true"));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_its_stream_and_with_the_process() {
    let server = Server::plain();
    server.create("s", "a").await;
    let (reply, waited) =
        poll(&server, async |server| assert_eq!(server.status("DELETE s").await, 204)).await;
    assert_eq!((reply.status, waited), (404, SECOND));
    let created = server.send("PUT s", &[TEXT, ("stream-ttl", "5")], "a").await;
    assert_eq!(created.status, 201);
    let (reply, waited) = poll(&server, async |_| {}).await;
    assert_eq!((reply.status, waited), (404, 5 * SECOND));
    server.create("s", "a").await;
    let (reply, waited) = poll(&server, async |server| server.shutdown.stopping.cancel()).await;
    assert_eq!((reply.status, waited), (204, SECOND));
}

/// Waiting is no work: neither a long poll nor an event stream takes the caller's one permit.
#[tokio::test(start_paused = true)]
async fn live_reads_take_no_concurrent_stream() {
    let limits = Limits { concurrent_streams: Some(1), ..Limits::NONE };
    let server = Server::new(Durable::default(), limits);
    server.create("s", "a").await;
    let following = server.begin("GET s?offset=-1&live=sse", &[], "").await;
    let (reply, _) = poll(&server, async |server| drop(server.append("s", "b").await)).await;
    assert_eq!((following.status().as_u16(), reply.status), (200, 200));
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_has_heartbeats_and_an_age() {
    let server = Server::plain();
    let offset = server.create("s", "a").await.next();
    let begun = Instant::now();
    let mut body = server.begin("GET s?offset=-1&live=sse", &[], "").await.into_body();
    let first = part(&mut body).await.unwrap();
    let data = format!("event: data\ndata:a\nid:{offset}\n\nevent: control\ndata:{{");
    assert!(first.starts_with(&data), "{first}");
    assert!(first.contains("\"upToDate\":true"), "{first}");
    assert!(first.contains("\nretry:"), "{first}");
    for _ in 0..3 {
        assert_eq!(part(&mut body).await.as_deref(), Some(": ping\n\n"));
    }
    assert_eq!(begun.elapsed(), 45 * SECOND);
    server.append("s", "b").await;
    let second = part(&mut body).await.unwrap();
    assert!(second.starts_with("event: data\ndata:b\n"), "{second}");
    assert!(!second.contains("retry:"), "{second}");
    assert_eq!(part(&mut body).await, None);
    assert!((48 * SECOND..=60 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_ends_with_its_stream_and_with_the_process() {
    let server = Server::plain();
    let follow = async || {
        let mut body = server.begin("GET s?offset=now&live=sse", &[], "").await.into_body();
        part(&mut body).await.unwrap();
        body
    };
    server.send("PUT s", &[TEXT, ("stream-ttl", "5")], "a").await;
    let begun = Instant::now();
    let mut body = follow().await;
    assert_eq!((part(&mut body).await, begun.elapsed()), (None, 5 * SECOND));

    server.create("s", "a").await;
    let mut body = follow().await;
    assert_eq!(server.status("DELETE s").await, 204);
    assert_eq!(part(&mut body).await, None);

    server.create("s", "a").await;
    let mut body = follow().await;
    server.send("POST s", &[TEXT, ("stream-closed", "true")], "last").await;
    let last = part(&mut body).await.unwrap();
    assert!(last.contains("data:last\n") && last.contains("\"streamClosed\":true"), "{last}");
    assert_eq!(part(&mut body).await, None);

    server.create("t", "a").await;
    let mut body = server.begin("GET t?offset=now&live=sse", &[], "").await.into_body();
    part(&mut body).await.unwrap();
    server.shutdown.stopping.cancel();
    assert_eq!(part(&mut body).await, None);
}

/// A browser's `EventSource` repeats its address and adds the last id.
#[tokio::test(start_paused = true)]
async fn the_last_event_id_outranks_the_offset_of_an_event_stream() {
    let server = Server::plain();
    let first = server.create("s", "a").await.next();
    server.append("s", "b").await;
    let headers = [("last-event-id", first.as_str())];
    let target = "GET s?offset=-1&live=sse";
    let mut body = server.begin(target, &headers, "").await.into_body();
    let events = part(&mut body).await.unwrap();
    assert!(events.starts_with("event: data\ndata:b\n"), "{events}");
    let wrong = server.send(target, &[("last-event-id", "7")], "").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("`last-event-id` must be"), "{}", wrong.body);
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_never_cuts_a_character() {
    let server = Server::plain();
    server.create("s", "a").await;
    let mut body = server.begin("GET s?offset=now&live=sse", &[], "").await.into_body();
    part(&mut body).await.unwrap();
    let euro = "\u{20ac}".as_bytes();
    let request = |bytes: &[u8]| {
        let builder = Request::builder().method(Method::POST).uri("/v1/stream/s");
        let builder = builder.header(TEXT.0, TEXT.1).header("authorization", "Bearer a");
        builder.body(Body::from(bytes.to_vec())).unwrap()
    };
    for byte in euro.chunks(1) {
        let appended = answer(&server.gateway, &server.streams, request(byte)).await;
        assert_eq!(appended.status(), 204);
    }
    let events = part(&mut body).await.unwrap();
    assert!(events.starts_with("event: data\ndata:\u{20ac}\n"), "{events}");
    // An incomplete character is sent when the stream ends.
    answer(&server.gateway, &server.streams, request(&euro[..1])).await;
    server.send("POST s", &[("stream-closed", "true")], "").await;
    let events = part(&mut body).await.unwrap();
    assert!(events.starts_with("event: data\ndata:\u{fffd}\n"), "{events}");
}
