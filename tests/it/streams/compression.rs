//! Compressed event streams of generations: what is decoded must equal the uncompressed stream, event by event.

use http_body_util::BodyExt;
use streamgate::app;
use tower::ServiceExt;

use super::{expected, gated, gateway, received, stream_id, text, whole};
use crate::support::encodings::{Decoder, ENCODINGS};
use crate::support::gateway::{Gateway, KEY};

const ALLOWED: &str = "streams: { compression: [zstd, br, gzip], coalesce: 0ms }\n";

/// A request that the router answers without a socket.
async fn get(gateway: &Gateway, path: &str, accepted: &str) -> axum::response::Response {
    let request = http::Request::get(path)
        .header("host", "x")
        .header("authorization", format!("Bearer {KEY}"))
        .header("accept", "text/event-stream")
        .header("accept-encoding", accepted)
        .body(axum::body::Body::empty())
        .unwrap();
    app::router(gateway.app.clone()).oneshot(request).await.unwrap()
}

/// The decoded body, without the time of reconnection, which is drawn for each viewer.
async fn decoded(response: axum::response::Response) -> String {
    let (head, body) = response.into_parts();
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["vary"], "accept-encoding");
    let mut decoder = Decoder::of(head.headers.get("content-encoding"));
    let body = body.collect().await.unwrap().to_bytes();
    let text = decoder.push(&body).to_owned();
    text.lines().filter(|line| !line.starts_with("retry: ")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_decoded_stream_equals_the_uncompressed_one() {
    let upstream = whole(200).await;
    let gateway = gateway(&upstream, ALLOWED).await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    viewer.text().await.unwrap();
    for format in ["native", "events", "text", "ui", "anthropic"] {
        let path = format!("/v1/streams/{id}?format={format}");
        let plain = decoded(get(&gateway, &path, "deflate, gzip;q=0, compress").await).await;
        assert!(plain.contains("\nid: "), "{plain}");
        for encoding in ENCODINGS {
            let response = get(&gateway, &path, &format!("deflate, {encoding};q=0.5")).await;
            assert_eq!(response.headers()["content-encoding"], encoding);
            assert!(!response.headers().contains_key("content-length"));
            assert_eq!(decoded(response).await, plain, "{encoding} {format}");
        }
    }
}

#[tokio::test]
async fn each_event_is_decodable_before_the_next_one_is_sent() {
    for encoding in ENCODINGS {
        let (upstream, gate) = gated(3, 2).await;
        let gateway = gateway(&upstream, ALLOWED).await;
        let viewer = gateway.durable().header("streamgate-chat", "one").send().await.unwrap();
        let id = stream_id(&viewer);
        for path in [format!("/v1/streams/{id}"), "/v1/chats/one/stream?format=native".to_owned()] {
            let (head, mut body) = get(&gateway, &path, encoding).await.into_parts();
            assert_eq!(head.headers["content-encoding"], encoding, "{path}");
            let mut decoder = Decoder::of(head.headers.get("content-encoding"));
            let mut events = Vec::new();
            // The upstream waits, and so does this test if one byte is held back.
            while events.len() < 3 {
                let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
                events = received(decoder.push(&frame));
            }
            assert_eq!(text(&events), expected(3), "{encoding}");
        }
        gate.notify_one();
        assert_eq!(text(&received(&viewer.text().await.unwrap())), expected(5));
    }
}

/// Relays and answers to POST are as they were, whatever the client accepts.
#[tokio::test]
async fn only_event_streams_that_are_followed_are_compressed() {
    let upstream = whole(100).await;
    let gateway = gateway(&upstream, ALLOWED).await;
    let accepted = "gzip, deflate, br, zstd";
    let relayed = gateway.chat("oai/m").header("accept-encoding", accepted).send().await.unwrap();
    let durable = gateway.durable().header("accept-encoding", accepted).send().await.unwrap();
    let id = stream_id(&durable);
    for response in [relayed, durable] {
        assert!(!response.headers().contains_key("content-encoding"));
        assert!(response.text().await.unwrap().contains("data: [DONE]\n"));
    }
    for query in ["format=snapshot", "live=long-poll", "live=often", "live=sse&format=morse"] {
        let response = get(&gateway, &format!("/v1/streams/{id}?{query}"), accepted).await;
        assert!(!response.headers().contains_key("content-encoding"), "{query}");
    }
    let refused = get(&gateway, "/v1/streams/none?es=1", accepted).await;
    assert_eq!(refused.headers()["content-encoding"], "zstd");
    assert!(decoded(refused).await.contains("event: refused\ndata: {"));
}
