//! Texts of an upstream that look like lines of an event stream: in no format may they become an event, a name, an id or
//! a time of reconnection.

use serde_json::{Value, json};

use super::{gateway, stream_id};
use crate::support::upstream::{Step, Upstream};

/// An event as a browser dispatches it (WHATWG HTML, section 9.2.6).
#[derive(Debug, Default, Clone)]
struct Dispatched {
    id: String,
    name: String,
    data: Vec<String>,
}

/// Reads an event stream with every line end that browsers know. Returns the events and the times of reconnection.
fn dispatched(body: &str) -> (Vec<Dispatched>, Vec<String>) {
    let (mut events, mut retries) = (Vec::new(), Vec::new());
    let mut event = Dispatched::default();
    for line in body.replace("\r\n", "\n").split(['\n', '\r']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" if line.is_empty() => {
                if !event.data.is_empty() {
                    events.push(event.clone());
                }
                event = Dispatched { id: event.id, ..Dispatched::default() };
            }
            "id" => event.id = value,
            "event" => event.name = value,
            "data" => event.data.push(value),
            "retry" => retries.push(value),
            _ => {}
        }
    }
    (events, retries)
}

const EVIL: [&str; 8] = [
    "x\n\nevent: evil\ndata: evil\nid: evil\nretry: 1\n\n",
    "x\r\revent: evil\rdata: evil\rid: evil\rretry: 1\r\r",
    "\r\n\r\nid: evil\r\n\r\n",
    "\r",
    "\n",
    "\"}\n\ndata: {\"evil\":\"",
    "id: evil\n",
    "\u{2028}event: evil\u{0}\u{85}",
];

/// Failure mode 36: in all formats, whole and joined.
#[tokio::test]
async fn fm36_no_text_of_an_upstream_becomes_an_event() {
    let chunk = |content: &str| {
        let delta = json!({"role": "assistant", "content": content});
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        let chunk = json!({"id": "c\n\nid: evil", "object": "chat.completion.chunk", "created": 1, "model": "m\revent: evil", "choices": choices});
        // Fields of the upstream's own are none of the gateway's.
        format!(": evil\nid: evil\nretry: 1\ndata: {chunk}\n\n")
    };
    let mut script = vec![Step::Sse];
    // Enough for a viewer that is far behind.
    let texts: Vec<&str> = std::iter::repeat_n(EVIL, 120).flatten().collect();
    script.extend(texts.iter().map(|text| Step::chunk(&chunk(text))));
    script.extend([Step::chunk(&super::terminal()), Step::End]);
    let upstream = Upstream::new(script).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let made = viewer.text().await.unwrap();
    let mut bodies = vec![("native", made)];
    let formats = [
        "native",
        "openai-responses",
        "anthropic",
        "gemini",
        "cohere",
        "ollama",
        "ui",
        "events",
        "text",
    ];
    for format in formats {
        let path = format!("/v1/streams/{id}?live=sse&format={format}");
        bodies.push((format, gateway.get(&path).send().await.unwrap().text().await.unwrap()));
    }
    for (format, body) in bodies {
        let (events, retries) = dispatched(&body);
        let retries: Vec<u32> = retries.iter().map(|retry| retry.parse().unwrap()).collect();
        assert!(matches!(retries[..], [2_000..=5_000]), "{format}: {retries:?}");
        let epoch = events[0].id.split_once('_').unwrap().0;
        for event in &events {
            assert_eq!(event.id.split_once('_').unwrap().0, epoch, "{format}: {event:?}");
            assert!(!event.name.contains("evil"), "{format}: {event:?}");
            let parsed = serde_json::from_str::<Value>(&event.data.join("\n"));
            let plain = ["complete", "[DONE]"].contains(&event.data[0].as_str());
            assert!(format == "text" || plain || parsed.is_ok(), "{format}: {event:?}");
        }
        let numbers: Vec<&String> = events.iter().map(|event| &event.id).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{format}");
        if format == "text" {
            let texts_of = events.iter().filter(|event| event.name.is_empty());
            let text: String = texts_of.map(|event| event.data.join("\n")).collect();
            let expected = texts.concat().replace("\r\n", "\n").replace('\r', "\n");
            assert!(text == expected, "the text is another one");
        }
    }
}
