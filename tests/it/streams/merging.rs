//! Slow viewers, HTTP to HTTP: one that does not read delays nobody, and gets the same text in fewer events.

use http_body_util::BodyExt;
use serde_json::Value;
use streamgate::app;
use tower::ServiceExt;

use super::{Received, expected, gated, gateway, received, stream_id};
use crate::support::gateway::{Gateway, KEY};

/// A viewer without a socket, whose body moves only when it is polled.
async fn follow(gateway: &Gateway, id: &str, query: &str) -> axum::body::Body {
    let request = http::Request::get(format!("/v1/streams/{id}?live=sse&{query}"))
        .header("host", "x")
        .header("authorization", format!("Bearer {KEY}"))
        .body(axum::body::Body::empty())
        .unwrap();
    app::router(gateway.app.clone()).oneshot(request).await.unwrap().into_body()
}

/// The text of events in one of the gateway's own formats.
fn text(format: &str, events: &[Received]) -> String {
    let text = |event: &Received| match (format, event.event.as_deref()) {
        ("text", None) => Some(event.data.clone()),
        ("events", Some("text")) => {
            let data: Value = serde_json::from_str(&event.data).ok()?;
            Some(data["text"].as_str()?.to_owned())
        }
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[tokio::test]
async fn a_stalled_viewer_gets_the_same_text_in_fewer_events_and_resumes_after_each() {
    let tokens = 3000;
    let (upstream, gate) = gated(3, tokens - 3).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let mut stalled = Vec::new();
    for format in ["events", "text"] {
        let mut body = follow(&gateway, &id, &format!("format={format}")).await;
        let mut read = String::new();
        while text(format, &received(&read)) != expected(3) {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            read.push_str(std::str::from_utf8(&frame).unwrap());
        }
        stalled.push((format, read, body));
    }
    gate.notify_one();
    // It ends for others while these do not read.
    assert!(viewer.text().await.unwrap().contains("[DONE]"));
    for (format, mut read, body) in stalled {
        let before = received(&read).len();
        let rest = body.collect().await.unwrap().to_bytes();
        read.push_str(std::str::from_utf8(&rest).unwrap());
        let events = received(&read);
        assert_eq!(text(format, &events), expected(tokens), "{format}");
        // The last 64 KiB come event by event.
        assert!(events.len() < before + tokens / 2, "{format}: {}", events.len());
        // After each of the joined events, and some of the others.
        let cuts = events.iter().enumerate().take(events.len() - 1);
        for (at, event) in cuts.filter(|(at, _)| *at < before + 10 || at % 97 == 0) {
            let query = format!("format={format}&last-event-id={}", event.id);
            let rest = follow(&gateway, &id, &query).await.collect().await.unwrap().to_bytes();
            let rest = received(std::str::from_utf8(&rest).unwrap());
            assert_eq!(text(format, &rest), text(format, &events[at + 1..]), "{format} {at}");
        }
    }
}
