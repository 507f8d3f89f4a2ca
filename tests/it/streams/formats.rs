//! Formats of streams: the same generation in another dialect, encoded once for all viewers.

use serde_json::Value;

use super::{expected, gated, gateway, json, received, stream_id, whole};
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

/// The formats of no vendor: the same text in each, the head that the AI SDK looks for, and a document with the position at
/// which to go on.
#[tokio::test]
async fn a_stream_reads_in_the_gateways_own_formats() {
    let (upstream, gate) = gated(3, 2).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().header("streamgate-chat", "c").send().await.unwrap();
    let id = stream_id(&viewer);
    let get =
        |format: &str| gateway.get(&format!("/v1/streams/{id}?live=sse&format={format}")).send();
    let followed = gateway.get("/v1/chats/c/stream").send().await.unwrap();
    assert_eq!(followed.headers()["x-vercel-ai-ui-message-stream"], "v1");
    gate.notify_one();
    viewer.text().await.unwrap();
    let ui = received(&followed.text().await.unwrap());
    assert_eq!(ui, received(&get("ui").await.unwrap().text().await.unwrap()));
    assert_eq!(ui.last().unwrap().data, "[DONE]");
    let part = |event: &super::Received, kind: &str, member: &str| {
        let data: Value = serde_json::from_str(&event.data).ok()?;
        (data["type"] == kind).then(|| data[member].as_str().unwrap_or_default().to_owned())
    };
    let deltas: String = ui.iter().filter_map(|event| part(event, "text-delta", "delta")).collect();
    assert_eq!(deltas, expected(5));
    let events = received(&get("events").await.unwrap().text().await.unwrap());
    let texts = events.iter().filter(|event| event.event.as_deref() == Some("text"));
    let text: String = texts
        .map(|event| {
            serde_json::from_str::<Value>(&event.data).unwrap()["text"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(text, expected(5));
    let end: Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
    assert_eq!(
        (events.last().unwrap().event.as_deref(), &end["state"]),
        (Some("end"), &"complete".into())
    );
    let document = json(get("snapshot").await.unwrap()).await;
    assert_eq!((&document["text"], &document["state"]), (&expected(5).into(), &"complete".into()));
    assert_eq!(document["position"], events.last().unwrap().id.as_str());
    let unknown = get("morse").await.unwrap();
    assert_eq!(unknown.status(), 400);
}
