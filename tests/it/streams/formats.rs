//! Formats of streams: the same generation in another dialect, encoded once for all viewers.

use super::{expected, gateway, received, stream_id, whole};
use crate::support::reader;

/// A stream of every dialect reads in every other dialect that is streamed as events.
#[tokio::test]
async fn a_stream_reads_in_every_dialect() {
    let upstream = whole(5).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    viewer.text().await.unwrap();
    for dialect in ["openai-chat", "openai-responses", "anthropic", "gemini", "cohere"] {
        let get = || gateway.get(&format!("/v1/streams/{id}?live=sse&format={dialect}")).send();
        let body = get().await.unwrap().text().await.unwrap();
        let events = received(&body);
        assert!(!events.is_empty(), "{dialect}");
        let bytes = events.iter().fold(String::new(), |bytes, event| {
            let name = event.event.as_ref().map(|name| format!("event: {name}\n"));
            bytes + &name.unwrap_or_default() + "data: " + &event.data + "\n\n"
        });
        let view = (reader(dialect).stream)(bytes.as_bytes(), true).unwrap();
        assert_eq!(view.choices[&0].text, expected(5), "{dialect}");
        // Each event can be resumed after, with the same rest.
        for (cut, event) in events.iter().enumerate() {
            let path =
                format!("/v1/streams/{id}?live=sse&format={dialect}&last-event-id={}", event.id);
            let rest = gateway.get(&path).send().await.unwrap();
            if cut + 1 == events.len() {
                assert_eq!(rest.status(), 204, "{dialect}");
            } else {
                assert_eq!(received(&rest.text().await.unwrap()), events[cut + 1..], "{dialect}");
            }
        }
        // A position of this format is none of another one.
        if dialect != "openai-chat" {
            let path = format!("/v1/streams/{id}?live=sse&last-event-id={}", events[0].id);
            assert_eq!(gateway.get(&path).send().await.unwrap().status(), 410, "{dialect}");
        }
    }
}
