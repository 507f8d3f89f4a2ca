//! Channels from HTTP to HTTP: publishers, subscribers, rights, limits, times. Most tests call the router itself, with
//! paused time; those of sockets say so.

mod command;
mod compression;
mod limits;
mod long_poll;
mod publishing;
mod restart;
mod resuming;
mod rights;
mod sockets;
mod times;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use streamgate::app::{self, App};
use streamgate::config;
use streamgate::server::Shutdown;
use tower::ServiceExt;

use crate::support::gateway::{configuration, hex};

/// The key of a backend, which may do everything.
pub(super) const BACKEND: &str = "sg-backend";
/// The key of a caller that may subscribe to `news.*` and `room`, and publish nowhere.
pub(super) const READER: &str = "sg-reader";

/// A configuration with both keys, and more YAML.
pub(super) fn yaml(more: &str) -> String {
    let key = |name: &str, key: &str, channels: &str| {
        let digest = hex(&config::digest(key));
        format!("    - {{ name: {name}, sha256: \"{digest}\", channels: {{ {channels} }} }}\n")
    };
    let backend = key("backend", BACKEND, "subscribe: [\"*\"], publish: [\"*\"]");
    let reader = key("reader", READER, "subscribe: [\"news.*\", room]");
    format!(
        "auth:\n  keys:\n{backend}{reader}providers: {{ oai: {{ dialect: openai-chat, base_url: \
         \"http://127.0.0.1:9/v1\" }} }}\n{more}"
    )
}

/// A gateway without sockets.
pub(super) struct Hub {
    pub(super) app: Arc<App>,
    pub(super) shutdown: Shutdown,
    router: Router,
}

impl Hub {
    pub(super) fn new(more: &str) -> Self {
        Self::with(&yaml(more))
    }

    pub(super) fn with(yaml: &str) -> Self {
        let shutdown = Shutdown::default();
        let app = Arc::new(App::new(configuration(yaml), &shutdown).unwrap());
        let keeping = Arc::clone(&app);
        crate::support::spawn(async move { keeping.keep_fresh().await });
        Self { router: app::router(Arc::clone(&app)), app, shutdown }
    }

    /// Sends a request with these headers.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(path).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Posts JSON with a key; the status and the response.
    pub(super) async fn post(&self, key: &str, path: &str, body: &str) -> (u16, Value) {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        document(self.send("POST", path, &headers, body).await).await
    }

    /// Publishes as the backend, and returns the event's position.
    pub(super) async fn publish(&self, channel: &str, data: &str) -> String {
        let body = serde_json::json!({ "data": data }).to_string();
        let (status, answer) = self.post(BACKEND, &format!("/v1/channels/{channel}"), &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Gets a document with a key.
    pub(super) async fn get(&self, key: &str, path: &str) -> (u16, Value) {
        let response =
            self.send("GET", path, &[("authorization", &format!("Bearer {key}"))], "").await;
        document(response).await
    }

    /// Subscribes with a key, and more headers.
    pub(super) async fn subscribe(&self, key: &str, query: &str, more: &[(&str, &str)]) -> Stream {
        let key = format!("Bearer {key}");
        let mut headers = vec![("authorization", key.as_str()), ("accept", "text/event-stream")];
        headers.extend(more);
        let response = self.send("GET", &format!("/v1/events?{query}"), &headers, "").await;
        Stream::new(response)
    }
}

/// The status and the JSON of a response; `null` for none.
pub(super) async fn document(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// An event as a client gets it.
#[expect(clippy::struct_field_names, reason = "the names of the format")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) event: String,
    pub(super) data: String,
    pub(super) retry: Option<u32>,
}

/// An event stream as it is read.
pub(super) struct Stream {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Body,
    text: String,
    /// The id of the last event.
    pub(super) last: String,
    /// Comments so far.
    pub(super) comments: Vec<String>,
}

impl Stream {
    pub(super) fn new(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let (text, last, comments) = (String::new(), String::new(), Vec::new());
        Self { status: head.status.as_u16(), headers: head.headers, body, text, last, comments }
    }

    /// The next bytes. `None`: the body has ended.
    pub(super) async fn chunk(&mut self) -> Option<String> {
        let frame = self.body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// The next block: an event or comments.
    async fn block(&mut self) -> Option<String> {
        while !self.text.contains("\n\n") {
            let Some(chunk) = self.chunk().await else {
                assert_eq!(self.text, "", "cut within a block");
                return None;
            };
            self.text.push_str(&chunk);
        }
        let (block, rest) = self.text.split_once("\n\n").unwrap();
        let block = block.to_owned();
        self.text = rest.to_owned();
        Some(block)
    }

    /// The next event, control events included.
    pub(super) async fn any(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let mut event = Event::default();
            let mut data = Vec::new();
            for line in block.split('\n') {
                if let Some(comment) = line.strip_prefix(':') {
                    self.comments.push(comment.trim().to_owned());
                    continue;
                }
                let (field, value) =
                    line.split_once(": ").unwrap_or_else(|| (line.trim_end_matches(':'), ""));
                match field {
                    "id" => event.id = value.to_owned(),
                    "event" => event.event = value.to_owned(),
                    "data" => data.push(value),
                    "retry" => event.retry = Some(value.parse().unwrap()),
                    _ => panic!("{line}"),
                }
            }
            if !data.is_empty() {
                event.data = data.join("\n");
                self.last.clone_from(&event.id);
                return Some(event);
            }
            assert_eq!(event, Event::default(), "a block without data must be comments");
        }
    }

    /// The next event that somebody published.
    pub(super) async fn event(&mut self) -> Event {
        loop {
            let event = self.any().await.expect("an event");
            if event.event != "control" {
                return event;
            }
        }
    }

    /// The data of the next events.
    pub(super) async fn data(&mut self, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        while found.len() < count {
            found.push(self.event().await.data);
        }
        found
    }

    /// Reads to the control event of a type.
    pub(super) async fn control(&mut self, kind: &str) -> Event {
        let event = self.any().await.expect("a control event");
        assert_eq!(
            (event.event.as_str(), event.data),
            ("control", format!(r#"{{"type":"{kind}"}}"#))
        );
        Event { event: event.event, data: String::new(), ..event }
    }
}

#[tokio::test]
async fn an_event_goes_from_a_publisher_to_its_subscribers() {
    let hub = Hub::new("");
    let mut one = hub.subscribe(BACKEND, "channel=a", &[]).await;
    let mut other = hub.subscribe(READER, "channel=news.x&channel=news.y", &[]).await;
    assert_eq!(one.status, 200);
    assert_eq!(one.headers["content-type"], "text/event-stream");
    assert_eq!(one.headers["cache-control"], "no-cache, no-transform");
    assert_eq!(one.headers["x-accel-buffering"], "no");
    assert!(one.headers.contains_key("x-request-id"));
    // The first bytes come at once, and are a comment.
    assert_eq!(one.chunk().await.unwrap(), ": ok\n\n");
    let begun = one.control("caught_up").await;
    assert!((2_000..=5_000).contains(&begun.retry.unwrap()));
    assert_eq!(begun.id, one.headers["stream-next-offset"]);
    let id = hub.publish("a", "hello").await;
    let event = Event { id, data: "hello".to_owned(), ..Event::default() };
    assert_eq!(one.any().await, Some(event));
    let body = r#"{"event":"tick","data":{"price": 1.50},"retry":700}"#;
    let (_, answer) = hub.post(BACKEND, "/v1/channels/news.y", body).await;
    let event = other.event().await;
    assert_eq!((event.event.as_str(), event.data.as_str()), ("tick", r#"{"price": 1.50}"#));
    assert_eq!((event.id.as_str(), event.retry), (answer["id"].as_str().unwrap(), Some(700)));
}
