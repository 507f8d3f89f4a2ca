//! Repeated requests: the same request attaches to the generation that it has begun, and never begins a second one.

use serde_json::Value;

use super::{expected, gated, gateway, json, read_events, received, stream_id, text, whole};

/// Failure mode 17: two requests with one idempotency key at the same instant are one generation.
#[tokio::test]
async fn fm17_two_requests_with_one_key_at_the_same_instant_are_one_generation() {
    let (upstream, gate) = gated(3, 3).await;
    let gateway = gateway(&upstream, "limits: { concurrent_streams: 1 }\n").await;
    let keyed = || gateway.durable().header("idempotency-key", "once").send();
    let (first, second, third) = tokio::join!(keyed(), keyed(), keyed());
    let responses = [first.unwrap(), second.unwrap(), third.unwrap()];
    let ids: Vec<_> = responses.iter().map(stream_id).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
    gate.notify_one();
    for response in responses {
        assert_eq!(response.status(), 200);
        assert_eq!(text(&received(&response.text().await.unwrap())), expected(6));
    }
    assert_eq!(upstream.requests().await.len(), 1);
    // Also when it has ended.
    let late = keyed().await.unwrap();
    assert_eq!(stream_id(&late), ids[0]);
    assert_eq!(text(&received(&late.text().await.unwrap())), expected(6));
    assert_eq!(upstream.requests().await.len(), 1);
}

#[tokio::test]
async fn a_key_that_was_used_for_another_request_is_rejected() {
    let upstream = whole(2).await;
    let gateway = gateway(&upstream, "").await;
    let first = gateway.durable().header("idempotency-key", "once").send().await.unwrap();
    assert_eq!(first.status(), 200);
    let body = r#"{"model":"oai/m","stream":true,"messages":[{"role":"user","content":"else"}]}"#;
    let other = gateway.post("/v1/chat/completions", body);
    let other = other.header("streamgate-stream", "resumable").header("idempotency-key", "once");
    let other = other.send().await.unwrap();
    assert_eq!(other.status(), 400);
    let error: Value = json(other).await;
    assert_eq!(error["error"]["code"], "idempotency_key_reused");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("`idempotency-key`"), "{message}");
}

/// A client that repeats its request with the id of the last event, as fetch-based clients of event streams do.
#[tokio::test]
async fn a_request_with_last_event_id_goes_on_after_that_event() {
    let (upstream, gate) = gated(4, 4).await;
    let gateway = gateway(&upstream, "").await;
    let begun = read_events(gateway.durable().send().await.unwrap(), 2).await;
    gate.notify_one();
    let again = gateway.durable().header("last-event-id", &begun[1].id).send().await.unwrap();
    assert_eq!(again.status(), 200);
    let rest = received(&again.text().await.unwrap());
    assert_eq!(text(&begun) + &text(&rest), expected(8));
    assert_eq!(upstream.requests().await.len(), 1);
}

/// A position whose stream is unknown never begins a second generation.
#[tokio::test]
async fn a_request_with_an_unknown_position_is_rejected_and_sends_nothing() {
    let upstream = whole(2).await;
    let gateway = gateway(&upstream, "").await;
    for (id, status, code) in [
        ("aaaaaaaaaaaa_0000000001", 410, Some("position_gone")),
        ("7", 400, None),
        ("aaaaaaaaaaaa_1", 400, None),
    ] {
        let response = gateway.durable().header("last-event-id", id).send().await.unwrap();
        assert_eq!(response.status(), status, "{id}");
        let error: Value = json(response).await;
        assert_eq!(error["error"]["code"].as_str(), code, "{error}");
    }
    let begun = gateway.durable().send().await.unwrap();
    let events = received(&begun.text().await.unwrap());
    let (epoch, _) = events[0].id.split_once('_').unwrap();
    let ahead = format!("{epoch}_0000000099");
    let response = gateway.durable().header("last-event-id", ahead).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(upstream.requests().await.len(), 1);
}

/// Headers with values that mean nothing are rejected by name.
#[tokio::test]
async fn wrong_headers_are_rejected_by_name() {
    let upstream = whole(2).await;
    let gateway = gateway(&upstream, "").await;
    let long = "k".repeat(256);
    for (name, value) in [
        ("streamgate-stream", "yes"),
        ("streamgate-on-disconnect", "grace(0s)"),
        ("streamgate-on-disconnect", "leave"),
        ("streamgate-chat", "a b"),
        ("idempotency-key", long.as_str()),
    ] {
        let mut request = gateway.chat("oai/m").header(name, value);
        if name != "streamgate-stream" {
            request = request.header("streamgate-stream", "resumable");
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400, "{name}: {value}");
        let error: Value = json(response).await;
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("`{name}` ")), "{message}");
    }
    let body = r#"{"model":"oai/m","messages":[{"role":"user","content":"hi"}]}"#;
    let whole = gateway.post("/v1/chat/completions", body).header("streamgate-stream", "resumable");
    let whole = whole.send().await.unwrap();
    assert_eq!(whole.status(), 400);
    let error: Value = json(whole).await;
    assert_eq!(error["error"]["param"], "stream");
    assert!(upstream.requests().await.is_empty());
}

/// A model may be resumable without the header; requests that are not streamed are relayed as before.
#[tokio::test]
async fn a_model_may_be_resumable_by_configuration() {
    let upstream = whole(3).await;
    let models =
        "models: { m: { targets: [{ provider: oai, model: m }], stream: { resumable: true } } }\n";
    let gateway = gateway(&upstream, models).await;
    let response = gateway.chat("m").send().await.unwrap();
    let id = stream_id(&response);
    assert_eq!(text(&received(&response.text().await.unwrap())), expected(3));
    let again = gateway.follow(&id, "").send().await.unwrap();
    assert_eq!(text(&received(&again.text().await.unwrap())), expected(3));
    let direct = gateway.chat("oai/m").send().await.unwrap();
    assert!(!direct.headers().contains_key("streamgate-stream-id"));
    let body = direct.text().await.unwrap();
    assert!(!body.contains("id: "), "{body}");
}
