//! Restarts with an archive on disk: what has ended is there afterwards, with the same bytes at the same positions, for
//! its owner, as long as it would have been kept.

use std::path::PathBuf;

use serde_json::{Value, json as value};

use super::{expected, gated, json, read_events, received, stream_id, text, whole};
use crate::support::gateway::{Gateway, hex, yaml};
use crate::support::upstream::Upstream;

/// A directory for an archive, which is removed with it.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        let name = format!("streamgate-restart-{}", rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("streams.redb")
    }

    /// A gateway with its archive here. `more`: other keys of `streams`, each with a comma before it.
    pub(crate) async fn gateway(&self, upstream: &Upstream, more: &str) -> Gateway {
        let path = self.file();
        let path = path.display();
        let other = hex(&streamgate::config::digest("sg-other"));
        let base = yaml(&upstream.url, "http://127.0.0.1:9", "");
        let keys = format!("  keys:\n    - {{ name: other, sha256: {other} }}\n");
        let base = base.replacen("  keys:\n", &keys, 1);
        Gateway::new(&format!("{base}streams: {{ path: \"{path}\", coalesce: 0ms{more} }}\n")).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Stops a gateway as the program does.
pub(crate) async fn stop(gateway: Gateway) {
    gateway.shutdown.stopping.cancel();
    gateway.done.await.unwrap();
    gateway.app.tasks.close();
    gateway.app.tasks.wait().await;
    gateway.app.close().await;
}

const FORMATS: [&str; 9] = [
    "native",
    "openai-chat",
    "openai-responses",
    "anthropic",
    "gemini",
    "cohere",
    "ui",
    "text",
    "events",
];

/// The status and the body of a response; one that is cut ends with a mark.
async fn body(request: reqwest::RequestBuilder) -> (u16, String) {
    let mut response = request.send().await.unwrap();
    let (status, mut body) = (response.status().as_u16(), Vec::new());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => {
                body.extend_from_slice(b"[cut]");
                break;
            }
        }
    }
    (status, String::from_utf8(body).unwrap())
}

/// Checks that viewers get what they got before.
async fn assert_same(gateway: &Gateway, id: &str, before: &[(String, u16, String)]) {
    let after = seen(gateway, id).await;
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(before) {
        assert_eq!(after, before);
    }
}

/// All that a viewer gets in each format, from the beginning and after each event, without the lines that are drawn for
/// each viewer.
async fn seen(gateway: &Gateway, id: &str) -> Vec<(String, u16, String)> {
    let mut all = Vec::new();
    for format in FORMATS {
        let path = format!("/v1/streams/{id}?live=sse&format={format}");
        let (_, whole) = body(gateway.get(&path)).await;
        let mut paths: Vec<_> = received(&whole)
            .into_iter()
            .map(|event| format!("{path}&last-event-id={}", event.id))
            .collect();
        paths.extend([path, format!("/v1/streams/{id}?format={format}")]);
        for path in paths {
            let (status, body) = body(gateway.get(&path)).await;
            let lines = body.lines().filter(|line| !line.starts_with("retry: "));
            all.push((path, status, lines.collect::<Vec<_>>().join("\n")));
        }
    }
    let snapshot = gateway.get(&format!("/v1/streams/{id}?format=snapshot"));
    all.push((id.to_owned(), 200, snapshot.send().await.unwrap().text().await.unwrap()));
    all
}

async fn list(gateway: &Gateway) -> Value {
    let mut list = json(gateway.get("/v1/streams").send().await.unwrap()).await;
    for stream in list["data"].as_array_mut().unwrap() {
        stream["expires_at"].take();
    }
    list
}

#[tokio::test]
async fn a_stream_has_the_same_bytes_at_the_same_positions_after_a_restart() {
    let upstream = whole(4).await;
    let place = Place::new();
    let gateway = place.gateway(&upstream, "").await;
    let mut before = Vec::new();
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"] {
        let body = r#"{"model":"oai/m","stream":true,"max_tokens":9,"input":"hi","messages":[{"role":"user","content":"hi"}]}"#;
        let begun = gateway.post(path, body).header("streamgate-stream", "resumable");
        let begun = begun.header("streamgate-chat", "c").send().await.unwrap();
        assert_eq!(begun.status(), 200, "{path}");
        let id = stream_id(&begun);
        begun.text().await.unwrap();
        before.push((id.clone(), seen(&gateway, &id).await));
    }
    let listed = list(&gateway).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 4);
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    // From the disk, and then from memory as well.
    assert_eq!(list(&gateway).await, listed);
    for (id, before) in &before {
        assert_same(&gateway, id, before).await;
    }
    assert_eq!(list(&gateway).await, listed);
    assert_eq!(upstream.requests().await.len(), 4);
    let head = gateway.client.head(format!("{}/v1/streams/{}", gateway.url, before[0].0));
    let head = head.header("authorization", "Bearer sg-test").send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["stream-closed"] == "true"), (200, true));
    // Nobody but its owner.
    for (id, _) in &before {
        let url = format!("{}/v1/streams/{id}", gateway.url);
        let other = gateway.client.get(&url).header("authorization", "Bearer sg-other");
        assert_eq!(other.send().await.unwrap().status(), 404);
    }
    assert_eq!(gateway.get("/v1/chats/c/stream").send().await.unwrap().status(), 204);
}

/// A client that comes back after the restart with its idempotency key, or its position, gets the rest.
#[tokio::test]
async fn a_repeated_request_attaches_to_its_stream_after_a_restart() {
    let (upstream, gate) = gated(3, 3).await;
    let place = Place::new();
    let gateway = place.gateway(&upstream, "").await;
    let keyed = |gateway: &Gateway| gateway.durable().header("idempotency-key", "once").send();
    let begun = keyed(&gateway).await.unwrap();
    let (id, upstream_id) =
        (stream_id(&begun), begun.headers().get("x-streamgate-target").cloned());
    let first = read_events(begun, 2).await;
    gate.notify_one();
    // It is on disk when its end is seen.
    let end = gateway.get(&format!("/v1/streams/{id}?live=sse")).send().await.unwrap();
    end.text().await.unwrap();
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    let after = |id: &str| gateway.durable().header("last-event-id", id).send();
    let rest = received(&after(&first[1].id).await.unwrap().text().await.unwrap());
    assert_eq!(text(&first) + &text(&rest), expected(6));
    let again = keyed(&gateway).await.unwrap();
    assert_eq!(stream_id(&again), id);
    assert_eq!(again.headers().get("x-streamgate-target").cloned(), upstream_id);
    assert_eq!(text(&received(&again.text().await.unwrap())), expected(6));
    assert_eq!(upstream.requests().await.len(), 1);
    let body = r#"{"model":"oai/m","stream":true,"messages":[{"role":"user","content":"else"}]}"#;
    let other = gateway.post("/v1/chat/completions", body);
    let other = other.header("streamgate-stream", "resumable").header("idempotency-key", "once");
    assert_eq!(json(other.send().await.unwrap()).await["error"]["code"], "idempotency_key_reused");
    // The same subscription goes on as well.
    let multiplexed = gateway.get(&format!("/v1/events?stream={id}&offset=-1"));
    let body = multiplexed.send().await.unwrap().text().await.unwrap();
    assert_eq!(body.matches("\"channel\":").count(), 8, "{body}");
}

#[tokio::test]
async fn what_is_deleted_or_too_many_is_gone_after_a_restart() {
    let upstream = whole(1).await;
    let place = Place::new();
    let gateway = place.gateway(&upstream, ", per_caller: 3").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let begun = gateway.durable().send().await.unwrap();
        ids.push(stream_id(&begun));
        begun.text().await.unwrap();
    }
    let url = format!("{}/v1/streams/{}", gateway.url, ids[4]);
    let delete = gateway.client.delete(&url).header("authorization", "Bearer sg-test");
    assert_eq!(delete.send().await.unwrap().status(), 204);
    stop(gateway).await;
    let gateway = place.gateway(&upstream, ", per_caller: 3").await;
    let data = list(&gateway).await["data"].as_array().unwrap().clone();
    let left: Vec<_> = data.iter().map(|stream| stream["id"].as_str().unwrap()).collect();
    assert_eq!(left, [&*ids[2], &*ids[3]]);
    for (id, status) in ids.iter().zip([404, 404, 200, 200, 404]) {
        let found = gateway.get(&format!("/v1/streams/{id}")).send().await.unwrap();
        assert_eq!(found.status(), status, "{id}");
    }
    // Also one that was not read since the restart.
    let url = format!("{}/v1/streams/{}", gateway.url, ids[2]);
    let delete = || gateway.client.delete(&url).header("authorization", "Bearer sg-test").send();
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(delete().await.unwrap().status(), 404);
    stop(gateway).await;
    let gateway = place.gateway(&upstream, ", per_caller: 3").await;
    let found = gateway.get(&format!("/v1/streams/{}", ids[2])).send().await.unwrap();
    assert_eq!(found.status(), 404);
}

/// A stream that a client cancelled, and one whose upstream broke off, end after the restart as they did before; one
/// that was refused left nothing.
#[tokio::test]
async fn every_end_is_the_same_after_a_restart() {
    let (upstream, _gate) = gated(2, 1).await;
    let place = Place::new();
    let gateway = place.gateway(&upstream, "").await;
    let begun = gateway.durable().send().await.unwrap();
    let id = stream_id(&begun);
    read_events(begun, 2).await;
    let cancelled = gateway.post(&format!("/v1/streams/{id}/cancel"), "").send().await.unwrap();
    assert_eq!(json(cancelled).await["state"], "cancelled");
    let refused = gateway.post(
        "/v1/chat/completions",
        &value!({"model": "nobody/m", "stream": true, "messages": []}).to_string(),
    );
    let refused = refused.header("streamgate-stream", "resumable").send().await.unwrap();
    assert!(refused.status().is_client_error());
    let before = seen(&gateway, &id).await;
    let listed = list(&gateway).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    assert_eq!(list(&gateway).await, listed);
    assert_same(&gateway, &id, &before).await;
}
