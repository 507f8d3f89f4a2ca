//! Ends of durable streams: complete, error and cancelled, the same for every late viewer; and the consequence of having no
//! viewers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use super::{
    PATIENCE, Received, expected, gated, gateway, json, read_events, received, stream_id, terminal,
    text, token,
};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Step, Upstream};

async fn state(gateway: &Gateway, id: &str) -> Value {
    let list: Value = json(gateway.get("/v1/streams").send().await.unwrap()).await;
    let found = list["data"].as_array().unwrap().iter().find(|stream| stream["id"] == id);
    found.cloned().unwrap_or_default()
}

/// The page of a stream, once it has ended.
async fn ended(gateway: &Gateway, id: &str) -> Value {
    let mut offset = "-1".to_owned();
    for _ in 0..100 {
        let path = format!("/v1/streams/{id}?live=long-poll&offset={offset}");
        let response = gateway.get(&path).send().await.unwrap();
        if response.headers().contains_key("stream-closed") {
            let page = gateway.get(&format!("/v1/streams/{id}")).send().await.unwrap();
            return json(page).await;
        }
        offset = response.headers()["stream-next-offset"].to_str().unwrap().to_owned();
    }
    panic!("the stream does not end");
}

/// A viewer that leaves a resumable stream does not end it.
#[tokio::test]
async fn a_stream_without_viewers_goes_on_to_its_end() {
    let (upstream, gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "").await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    read_events(response, 1).await;
    gate.notify_one();
    let page = ended(&gateway, &id).await;
    assert_eq!(page["state"], "complete");
    assert_eq!(page["closed"], true);
    let rest = gateway.follow(&id, "").send().await.unwrap();
    assert_eq!(text(&received(&rest.text().await.unwrap())), expected(4));
}

#[tokio::test]
async fn a_stream_that_is_to_be_cancelled_without_viewers_is_closed_at_the_upstream() {
    let (upstream, _gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "").await;
    let request = gateway.durable().header("streamgate-on-disconnect", "cancel");
    let response = request.send().await.unwrap();
    let id = stream_id(&response);
    read_events(response, 1).await;
    upstream.all_closed().await;
    let page = ended(&gateway, &id).await;
    assert_eq!(page["state"], "cancelled");
}

/// A viewer that comes within the grace period keeps the stream.
#[tokio::test]
async fn a_viewer_within_the_grace_period_keeps_the_stream() {
    let (upstream, gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "streams: { on_disconnect: grace(30s) }\n").await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    let first = read_events(response, 1).await;
    let response = gateway.follow(&id, &first[0].id).send().await.unwrap();
    gate.notify_one();
    let rest = received(&response.text().await.unwrap());
    assert_eq!(text(&first) + &text(&rest), expected(4));
}

/// A grace period runs on while the upstream sends: its tokens are paid for and nobody reads them.
#[tokio::test]
async fn a_stream_that_nobody_views_is_cancelled_in_the_middle_of_its_tokens() {
    let pause = || [Step::chunk(&token(0)), Step::Pause(Duration::from_millis(5))];
    let script = [Step::Sse].into_iter().chain((0..20_000).flat_map(|_| pause()));
    let upstream = Upstream::new(script.collect()).await;
    let gateway = gateway(&upstream, "streams: { on_disconnect: grace(100ms) }\n").await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    read_events(response, 1).await;
    upstream.all_closed().await;
    assert_eq!(ended(&gateway, &id).await["state"], "cancelled");
}

/// Every viewer of a cancelled stream sees the same end, and cancelling again changes nothing.
#[tokio::test]
async fn a_cancelled_stream_ends_the_same_for_all_viewers() {
    let (upstream, _gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let cancel = || gateway.post(&format!("/v1/streams/{id}/cancel"), "").send();
    for _ in 0..2 {
        let response = cancel().await.unwrap();
        assert_eq!(response.status(), 200);
        let stream: Value = json(response).await;
        assert_eq!(stream["state"], "cancelled", "{stream}");
        assert_eq!(stream["id"], id.as_str());
    }
    upstream.all_closed().await;
    let body = |events: &[Received]| events.last().unwrap().data.clone();
    let seen = read_all(viewer).await;
    assert_eq!(text(&seen), expected(2));
    assert!(body(&seen).contains("the request was cancelled"), "{seen:?}");
    let late = read_all(gateway.follow(&id, "").send().await.unwrap()).await;
    assert_eq!(late, seen);
    let one = state(&gateway, &id).await;
    assert_eq!(one["state"], "cancelled");
    assert!(one["ended_at"].is_u64() && one["expires_at"].is_u64(), "{one}");
}

/// Reads a body that may be cut on purpose after its last event.
async fn read_all(mut response: reqwest::Response) -> Vec<Received> {
    let mut body = String::new();
    while let Ok(Some(chunk)) =
        tokio::time::timeout(PATIENCE, response.chunk()).await.expect("bytes")
    {
        body.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    received(&body)
}

/// An upstream that ends without its terminal is an error, not complete; the late viewer sees the same.
#[tokio::test]
async fn a_truncated_answer_is_an_error_for_every_viewer() {
    let script = vec![Step::Sse, Step::chunk(&token(0)), Step::End];
    let upstream = Upstream::new(script).await;
    let gateway = gateway(&upstream, "").await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    let seen = read_all(response).await;
    assert!(seen.last().unwrap().data.contains("error"), "{seen:?}");
    assert_eq!(read_all(gateway.follow(&id, "").send().await.unwrap()).await, seen);
    let one = state(&gateway, &id).await;
    assert_eq!(one["state"], "error");
    let message = one["error"]["message"].as_str().unwrap();
    assert!(message.contains("before the answer was complete"), "{message}");
}

/// An error before any output has its own status, and leaves no stream behind; the same key may try again.
#[tokio::test]
async fn an_error_before_any_output_has_its_status_and_no_stream() {
    let refusal = Step::Whole(
        400,
        "content-type: application/json\r\n",
        br#"{"error":{"message":"no such thing","type":"invalid_request_error"}}"#.to_vec(),
    );
    let answer = vec![Step::Sse, Step::chunk(&token(0)), Step::chunk(&terminal()), Step::End];
    let upstream = Upstream::scripted(vec![vec![refusal], answer]).await;
    let gateway = gateway(&upstream, "").await;
    let keyed = || gateway.durable().header("idempotency-key", "once").send();
    let refused = keyed().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(!refused.headers().contains_key("streamgate-stream-id"));
    let list: Value = json(gateway.get("/v1/streams").send().await.unwrap()).await;
    assert_eq!(list["data"].as_array().map(Vec::len), Some(0));
    let again = keyed().await.unwrap();
    assert_eq!(again.status(), 200);
    assert_eq!(text(&received(&again.text().await.unwrap())), expected(1));
}

#[tokio::test]
async fn a_deleted_stream_is_cancelled_and_gone() {
    let (upstream, _gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let delete = gateway.client.delete(format!("{}/v1/streams/{id}", gateway.url));
    let delete = delete.header("authorization", "Bearer sg-test").send().await.unwrap();
    assert_eq!(delete.status(), 204);
    upstream.all_closed().await;
    // Viewers read to the end.
    assert_eq!(text(&read_all(viewer).await), expected(2));
    assert_eq!(gateway.follow(&id, "").send().await.unwrap().status(), 404);
}

/// A stream that has ended is kept for a time after it was last read, and then its memory is free.
#[tokio::test]
async fn a_stream_is_forgotten_when_it_has_expired() {
    let (upstream, gate) = gated(1, 1).await;
    let gateway = gateway(&upstream, "streams: { keep: 1m }\n").await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    gate.notify_one();
    response.text().await.unwrap();
    let streams = &gateway.app.streams;
    let keep = gateway.app.state().config.streams.keep;
    let now = tokio::time::Instant::now();
    streams.sweep(keep, now + Duration::from_secs(59));
    let counts = streams.count();
    assert_eq!((counts.running, counts.ended), (0, 1));
    streams.sweep(keep, now + Duration::from_secs(61));
    assert_eq!(streams.count().ended, 0);
    assert_eq!(gateway.follow(&id, "").send().await.unwrap().status(), 404);
}

/// A caller's streams are bounded: those that have ended make room, and running ones do not.
#[tokio::test]
async fn the_streams_of_a_caller_are_bounded() {
    let gate = Arc::new(Notify::new());
    let waits = vec![Step::Sse, Step::chunk(&token(0)), Step::Gate(Arc::clone(&gate))];
    let answer = vec![Step::Sse, Step::chunk(&token(0)), Step::chunk(&terminal()), Step::End];
    let upstream = Upstream::scripted(vec![answer, waits]).await;
    let gateway = gateway(&upstream, "streams: { per_caller: 1 }\n").await;
    let first = gateway.durable().send().await.unwrap();
    let first_id = stream_id(&first);
    first.text().await.unwrap();
    let running = gateway.durable().send().await.unwrap();
    assert_eq!(running.status(), 200);
    assert_eq!(gateway.follow(&first_id, "").send().await.unwrap().status(), 404);
    let refused = gateway.durable().send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let error: Value = json(refused).await;
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("streams.per_caller"), "{message}");
    gate.notify_one();
}

/// The limit of concurrent streams bounds answers of providers: with all of them in use, a caller still gets a ticket, follows
/// and cancels.
#[tokio::test]
async fn a_caller_whose_streams_are_all_in_use_can_cancel_one() {
    let (upstream, _gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "limits: { concurrent_streams: 1 }\n").await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    read_events(response, 1).await;
    assert_eq!(gateway.durable().send().await.unwrap().status(), 429);
    let ticket = gateway.post("/v1/tickets", &format!(r#"{{"streams":["{id}"]}}"#));
    assert_eq!(ticket.send().await.unwrap().status(), 201);
    assert_eq!(state(&gateway, &id).await["state"], "streaming");
    let cancelled = gateway.post(&format!("/v1/streams/{id}/cancel"), "").send().await.unwrap();
    assert_eq!(cancelled.status(), 200);
    assert_eq!(json(cancelled).await["state"], "cancelled");
}
