//! Compressed event streams of channels, with paused time: each event must be decodable as soon as it is published.

use http_body_util::BodyExt;

use super::{BACKEND, Hub};
use crate::support::encodings::{Decoder, ENCODINGS};

const ALLOWED: &str = "streams: { compression: [zstd, br, gzip] }\n";

/// A subscriber's response.
async fn subscribe(hub: &Hub, query: &str, accepted: &str) -> axum::response::Response {
    let key = format!("Bearer {BACKEND}");
    let headers = [
        ("authorization", key.as_str()),
        ("accept", "text/event-stream"),
        ("accept-encoding", accepted),
    ];
    hub.send("GET", &format!("/v1/events?{query}"), &headers, "").await
}

#[tokio::test(start_paused = true)]
async fn each_event_is_decodable_as_soon_as_it_is_published() {
    let hub = Hub::new(&format!("{ALLOWED}stream: {{ heartbeat: 20s }}\n"));
    for encoding in ENCODINGS.map(Some).into_iter().chain([None]) {
        let (head, mut body) =
            subscribe(&hub, "channel=a", encoding.unwrap_or("identity")).await.into_parts();
        assert_eq!(head.headers.get("content-encoding").map(|it| it.to_str().unwrap()), encoding);
        assert_eq!(head.headers["vary"], "accept-encoding");
        assert_eq!(head.headers["content-type"], "text/event-stream");
        assert!(!head.headers.contains_key("content-length"));
        let mut decoder = Decoder::of(head.headers.get("content-encoding"));
        let mut next = async || {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            decoder.push(&frame).to_owned()
        };
        assert_eq!(next().await, ": ok\n\n");
        assert!(next().await.contains("caught_up"));
        for number in 0..50 {
            let data = format!("event {number} of \u{1F600}");
            let id = hub.publish("a", &data).await;
            // One write, and the event is there.
            let text = next().await;
            assert!(text.ends_with(&format!("data: {data}\nid: {id}\n\n")), "{encoding:?}: {text}");
        }
        // Silence, and the heartbeat is there.
        assert!(next().await.ends_with(": heartbeat\n\n"), "{encoding:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_and_a_refusal_are_decodable() {
    let hub = Hub::new(&format!("{ALLOWED}channels: {{ lifetime: 10s }}\n"));
    for encoding in ENCODINGS {
        for (query, last) in [("channel=a", "{\"type\":\"lifetime\"}"), ("es=1", "\"status\":400")]
        {
            let (head, body) = subscribe(&hub, query, encoding).await.into_parts();
            assert_eq!(head.headers["content-encoding"], encoding, "{query}");
            let body = body.collect().await.unwrap().to_bytes();
            let mut decoder = Decoder::of(Some(&head.headers["content-encoding"]));
            let text = decoder.push(&body);
            assert!(text.contains(last) && text.ends_with("\n\n"), "{encoding}: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_compressed() {
    let hub = Hub::new(ALLOWED);
    hub.publish("a", &"a".repeat(5000)).await;
    for query in ["channel=a&offset=-1&live=long-poll", "channel=", "channel=a&offset=x"] {
        let response = subscribe(&hub, query, "gzip, br, zstd").await;
        assert!(!response.headers().contains_key("content-encoding"), "{query}");
    }
    let off = Hub::new("");
    let response = subscribe(&off, "channel=a", "gzip, br, zstd").await;
    assert!(!response.headers().contains_key("content-encoding"));
    assert!(!response.headers().contains_key("vary"));
}
