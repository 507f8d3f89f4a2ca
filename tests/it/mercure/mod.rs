//! The Mercure protocol from HTTP to HTTP: publishers, subscribers, credentials, rights, positions. The tests call the
//! router itself, with paused time.

mod credentials;
mod positions;
mod rights;
mod updates;

use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::channels::{BACKEND, Event, Hub, READER, Stream, document, yaml};
use crate::support::tokens::{AUDIENCE, ISSUER, SECRET, Signer, claims};

const PATH: &str = "/.well-known/mercure";
const ON: &str = "channels: { mercure: true }\n";

/// A gateway that serves the protocol, with an issuer and callers without a credential.
fn hub() -> Hub {
    hub_with(ON)
}

fn hub_with(more: &str) -> Hub {
    let auth = format!(
        "  jwt:\n    - {{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, algorithms: [HS256], secret: \"{SECRET}\" }}\n  \
         anonymous: {{ from: [0.0.0.0/0] }}\nproviders:"
    );
    Hub::with(&yaml(more).replace("providers:", &auth))
}

/// A token with more claims.
fn token(more: &Value) -> String {
    Signer::secret(SECRET.as_bytes()).sign(&claims(more))
}

/// Names and values as a form.
fn form(fields: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Publishes an update; the status, the media type and the body.
async fn publish(hub: &Hub, key: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
    let key = format!("Bearer {key}");
    let headers =
        [("authorization", key.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    text(hub.send("POST", PATH, &headers, &form(fields)).await).await
}

async fn text(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
}

/// Publishes as the backend, and returns the id.
async fn published(hub: &Hub, fields: &[(&str, &str)]) -> String {
    let (status, kind, id) = publish(hub, BACKEND, fields).await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; charset=utf-8"), "{id}");
    assert!(id.starts_with('#'), "{id}");
    id
}

/// Subscribes, with a key unless it is empty.
async fn subscribe(hub: &Hub, key: &str, fields: &[(&str, &str)]) -> Stream {
    let key = format!("Bearer {key}");
    let headers = [("authorization", key.as_str()), ("accept", "text/event-stream")];
    let headers = if key == "Bearer " { &headers[1..] } else { &headers[..] };
    let path = format!("{PATH}?{}", form(fields));
    let stream = Stream::new(hub.send("GET", &path, headers, "").await);
    assert_eq!(stream.status, 200, "{fields:?}");
    stream
}

/// Nothing but what follows is in a stream: it gets the data of this update next.
async fn only(hub: &Hub, stream: &mut Stream, topic: &str, data: &[&str]) {
    published(hub, &[("topic", topic), ("data", "the last one")]).await;
    for data in data.iter().chain([&"the last one"]) {
        assert_eq!(stream.any().await.unwrap().data, *data);
    }
}

#[tokio::test]
async fn an_update_goes_from_a_publisher_to_its_subscribers() {
    let hub = hub();
    let topic = "https://example.com/books/1";
    let mut stream = subscribe(&hub, READER, &[("match", topic)]).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.headers[name], value);
    }
    // The first bytes come at once, and are a comment.
    assert_eq!(stream.chunk().await.unwrap(), ": ok\n\n");
    let fields =
        [("topic", topic), ("data", "one\ntwo\r\nthree"), ("type", "tick"), ("retry", "700")];
    let id = published(&hub, &fields).await;
    let block = stream.chunk().await.unwrap();
    let (retry, block) = block.split_once('\n').unwrap();
    assert!(retry.starts_with("retry: "), "the time of this connection: {retry}");
    assert_eq!(
        block,
        format!("event: tick\nretry: 700\ndata: one\ndata: two\ndata: three\nid: {id}\n\n")
    );
    // Data is what was published, and nothing else.
    let id = published(&hub, &[("topic", topic), ("data", r#"{"a": 1}"#)]).await;
    assert_eq!(stream.chunk().await.unwrap(), format!("data: {{\"a\": 1}}\nid: {id}\n\n"));
    published(&hub, &[("topic", topic)]).await;
    assert_eq!(stream.any().await.unwrap().data, "", "an update may have no data");
}

/// The channel of a topic has its name: the interfaces can be mixed.
#[tokio::test]
async fn topics_are_channels() {
    let hub = hub();
    let mut mercure = subscribe(&hub, BACKEND, &[("match", "news/1"), ("topic", "a{+b}")]).await;
    let mut channels = hub.subscribe(BACKEND, "channel=news/1", &[]).await;
    channels.control("caught_up").await;
    let id = hub.publish("news%2F1", "from a channel").await;
    let event = mercure.any().await.unwrap();
    assert_eq!((event.id, event.data.as_str()), (format!("#{id}"), "from a channel"));
    assert_eq!(channels.data(1).await, ["from a channel"]);
    let id = published(&hub, &[("topic", "news/1"), ("data", "from a topic")]).await;
    let event = channels.event().await;
    assert_eq!((format!("#{}", event.id), event.data.as_str()), (id, "from a topic"));
    assert_eq!(mercure.any().await.unwrap().data, "from a topic");
}

#[tokio::test]
async fn it_is_off_unless_it_is_configured() {
    let hub = hub_with("");
    for method in ["GET", "POST"] {
        let path = format!("{PATH}?match=a");
        let response = hub.send(method, &path, &[], "topic=a").await;
        assert_eq!(response.status().as_u16(), 404, "{method}");
    }
    let hub = self::hub();
    let response = hub.send("DELETE", PATH, &[], "").await;
    assert_eq!(response.status().as_u16(), 405);
    assert_eq!(response.headers()["allow"], "GET, POST");
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_remedy() {
    let hub = hub();
    for (query, expected) in [
        ("", "has 0 matchers"),
        ("matcher=a", "there is no matcher `matcher`"),
        ("match_urlpattern=/(a)", "a URL pattern with `(`"),
        ("topic=/%7Ba,b%7D", "an URI template with `{a,b}`"),
        ("match=%ff", "not UTF-8"),
    ] {
        let (status, answer) = hub.get(BACKEND, &format!("{PATH}?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(expected), "{answer}");
    }
    let large = "x".repeat(1 << 20);
    let topics = vec![("topic", "a"); 101];
    for (fields, status, expected) in [
        (&[("data", "x")][..], 400, "`topic` is missing"),
        (&[("topic", "*")], 400, "`topic` number 1"),
        (&[("topic", "a"), ("topic", "/.well-known/mercure/x")], 400, "`topic` number 2 is below"),
        (&[("topic", "a"), ("type", "mercure")], 400, "`type`"),
        (&[("topic", "a"), ("id", "#1")], 400, "`id`"),
        (&[("topic", "a"), ("retry", "soon")], 400, "`retry`"),
        (&[("topic", "a"), ("data", &large)], 413, "channels.max_event"),
        (&topics, 413, "101 topics"),
    ] {
        let (found, _, body) = publish(&hub, BACKEND, fields).await;
        assert_eq!(found, status, "{body}");
        assert!(body.contains(expected), "{body}");
    }
    let json = [("authorization", "Bearer sg-backend"), ("content-type", "application/json")];
    let (status, answer) = document(hub.send("POST", PATH, &json, "{}").await).await;
    assert_eq!(status, 415, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("x-www-form-urlencoded"));
}
