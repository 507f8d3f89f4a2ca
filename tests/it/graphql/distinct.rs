//! Distinct connections mode: a connection for each operation, whose results and end are its events.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    BACKEND, CHANNEL, Hub, ON, PATH, READER, Stream, complete, error, hub, next, operate, request,
    send, subscribe,
};

#[tokio::test]
async fn events_of_channels_are_results() {
    let hub = hub();
    let mut stream = subscribe(&hub, READER, &json!({ "name": ["news.*", "room"] })).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-cache, no-transform");
    assert_eq!(stream.chunk().await.unwrap(), ": ok\n\n");
    let id = hub.publish("news.a", "one\ntwo").await;
    let result = json!({ "data": { "channel": {
        "id": id, "channel": "news.a", "stream": null, "type": "message", "data": "one\ntwo",
    } } });
    let bytes = stream.chunk().await.unwrap();
    let data = bytes.strip_prefix("event: next\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(data).unwrap(), result);
    hub.publish("other", "not this one").await;
    let body = r#"{"event":"tick","data":{"a":1}}"#;
    hub.post(BACKEND, "/v1/channels/room", body).await;
    let found = next(&mut stream).await;
    let event = &found["data"]["channel"];
    assert_eq!(
        (&event["channel"], &event["type"], &event["data"]),
        (&json!("room"), &json!("tick"), &json!("{\"a\":1}"))
    );
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 1);
    drop(stream);
    assert_eq!(
        hub.app.metrics.channel_subscribers.get(),
        0,
        "the operation ends with its connection"
    );
}

#[tokio::test]
async fn types_and_own_channels_are_as_in_the_other_interface() {
    let hub = hub();
    let mut stream =
        subscribe(&hub, READER, &json!({ "name": ["user:reader"], "types": ["tick", "message"] }))
            .await;
    for body in [r#"{"event":"other","data":1}"#, r#"{"event":"tick","data":2}"#, r#"{"data":3}"#] {
        hub.post(BACKEND, "/v1/users/reader/notify", body).await;
    }
    assert_eq!(next(&mut stream).await["data"]["channel"]["data"], "2");
    assert_eq!(next(&mut stream).await["data"]["channel"]["data"], "3");
}

/// Cut after every event, a subscriber that goes on from the last id gets each event once.
#[tokio::test]
async fn a_subscriber_resumes_at_every_event() {
    let hub = hub();
    let mut kept = vec![hub.publish("a", "0").await];
    for data in 1..10 {
        kept.push(hub.publish("a", &data.to_string()).await);
    }
    for (at, after) in kept.iter().enumerate() {
        let mut stream = subscribe(&hub, BACKEND, &json!({ "name": ["a"], "after": after })).await;
        for (number, id) in kept.iter().enumerate().skip(at + 1) {
            let event = next(&mut stream).await["data"]["channel"].clone();
            assert_eq!((&event["id"], &event["data"]), (&json!(id), &json!(number.to_string())));
        }
        hub.publish("b", "end").await;
        let last = hub.publish("a", "end").await;
        assert_eq!(next(&mut stream).await["data"]["channel"]["id"], last);
        // The round's last event is one more for the others.
        if at == 0 {
            break;
        }
    }
}

/// The response is accepted, as the protocol says: an `EventSource` could not read it otherwise.
#[tokio::test]
async fn operations_that_cannot_run_are_one_result_with_errors() {
    let hub = Hub::new("channels: { graphql: true, patterns: { room: { events: 1 } } }\n");
    let first = hub.publish("room", "1").await;
    hub.publish("room", "2").await;
    hub.publish("room", "3").await;
    let ahead = first.replace("_0000000001", "_0000009999");
    let many: Vec<_> = (0..=100).map(|at| format!("news.{at}")).collect();
    for (variables, message, code) in [
        (json!({ "name": ["other"] }), "you may not subscribe to `other`", "permission_denied"),
        (json!({ "name": ["room*"] }), "you may not subscribe to `room*`", "permission_denied"),
        (json!({ "name": [] }), "`name` must have 1 to 100", "invalid_request"),
        (json!({ "name": many }), "`name` must have 1 to 100", "invalid_request"),
        (json!({ "name": ["room", ""] }), "`name` number 2 is empty", "invalid_request"),
        (
            json!({ "name": ["room"], "types": many }),
            "`types` has more than 100",
            "invalid_request",
        ),
        (json!({ "name": ["room"], "after": "7" }), "`after` must be the `id`", "invalid_request"),
        (json!({ "name": ["room"], "after": first }), "no longer kept", "position_gone"),
        (json!({ "name": ["room"], "after": ahead }), "after the last event", "position_ahead"),
        (json!({}), "name", ""),
    ] {
        let mut stream = subscribe(&hub, READER, &variables).await;
        let result = next(&mut stream).await;
        let (found, kind) = error(&result);
        assert!(found.contains(message) && kind == code, "{variables} {result}");
        if code == "position_gone" {
            let earliest = result["errors"][0]["extensions"]["earliest"].as_str().unwrap();
            assert!(earliest.ends_with("_0000000002"), "{result}");
        }
        complete(&mut stream).await;
    }
    for (query, expected) in [
        ("subscription { nothing }", "Unknown field"),
        ("subscription {", "expected"),
        (
            "subscription { a: channel(name: [\"room\"]) { id } b: channel(name: [\"room\"]) { id } }",
            "too complex",
        ),
        ("mutation { a }", "mutations"),
    ] {
        let mut stream = operate(&hub, READER, &request(query, &json!({}), None)).await;
        let result = next(&mut stream).await;
        let message = result["errors"][0]["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains(&expected.to_lowercase()), "{query} {result}");
        complete(&mut stream).await;
    }
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 0);
}

#[tokio::test]
async fn a_query_is_one_result_and_the_end() {
    let hub = hub();
    let accept = [("accept", "text/event-stream")];
    let path = format!("{PATH}?query=%7B__typename%7D");
    let get = Stream::new(send(&hub, ("GET", READER), &path, &accept, "").await);
    let post = operate(&hub, READER, &request("{ __typename }", &json!({}), None)).await;
    for mut stream in [get, post] {
        assert_eq!(next(&mut stream).await, json!({ "data": { "__typename": "Query" } }));
        complete(&mut stream).await;
    }
}

/// A gap is an error that ends the subscription, with the position to go on from.
#[tokio::test]
async fn a_subscriber_that_falls_behind_is_told_so() {
    let hub = Hub::new("channels: { graphql: true, patterns: { a: { events: 2 } } }\n");
    let mut stream = subscribe(&hub, BACKEND, &json!({ "name": ["a"] })).await;
    hub.publish("a", "0").await;
    assert_eq!(next(&mut stream).await["data"]["channel"]["data"], "0");
    for data in ["1", "2", "3", "4"] {
        hub.publish("a", data).await;
    }
    let result = next(&mut stream).await;
    assert_eq!(error(&result).1, "position_gone");
    let earliest = result["errors"][0]["extensions"]["earliest"].clone();
    complete(&mut stream).await;
    let mut stream = subscribe(&hub, BACKEND, &json!({ "name": ["a"], "after": earliest })).await;
    assert_eq!(next(&mut stream).await["data"]["channel"]["data"], "3");
}

#[tokio::test]
async fn subscribers_are_limited_as_those_of_channels() {
    let hub = Hub::new("channels: { graphql: true, connections_per_user: 2 }\n");
    let name = json!({ "name": ["a"] });
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = subscribe(&hub, BACKEND, &name).await;
        hub.publish("a", "x").await;
        next(&mut stream).await;
        kept.push(stream);
    }
    let mut refused = subscribe(&hub, BACKEND, &name).await;
    assert_eq!(error(&next(&mut refused).await).1, "rate_limit_exceeded");
    complete(&mut refused).await;
    kept.pop();
    let mut stream = subscribe(&hub, BACKEND, &name).await;
    hub.publish("a", "y").await;
    assert_eq!(next(&mut stream).await["data"]["channel"]["data"], "y");
}

#[tokio::test(start_paused = true)]
async fn silence_has_heartbeats_and_the_connection_has_an_end() {
    let hub = Hub::new("channels: { graphql: true, lifetime: 100s }\nstream: { heartbeat: 20s }\n");
    let started = Instant::now();
    let mut stream = subscribe(&hub, BACKEND, &json!({ "name": ["a"] })).await;
    // It ends without `complete`, so that its client connects again.
    assert_eq!(stream.any().await, None);
    let heartbeats = stream.comments.iter().filter(|comment| *comment == "heartbeat").count();
    assert!((3..=5).contains(&heartbeats), "{:?}", stream.comments);
    assert!((80..=101).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_connections() {
    let hub = Hub::new(&format!("{ON}server: {{ drain: 10s }}\n"));
    let started = Instant::now();
    let mut stream = subscribe(&hub, BACKEND, &json!({ "name": ["a"] })).await;
    hub.publish("a", "x").await;
    next(&mut stream).await;
    hub.shutdown.stopping.cancel();
    assert_eq!(stream.any().await, None);
    assert!(started.elapsed() <= Duration::from_secs(9), "{:?}", started.elapsed());
    sleep(Duration::from_secs(1)).await;
    let mut stream =
        operate(&hub, BACKEND, &request(CHANNEL, &json!({ "name": ["a"] }), None)).await;
    assert_eq!(error(&next(&mut stream).await).1, "unavailable");
}
