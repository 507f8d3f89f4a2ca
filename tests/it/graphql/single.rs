//! Single connection mode: reservations, and operations whose results all go over one connection.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    BACKEND, CHANNEL, Event, Hub, ON, PATH, READER, Stream, TOKEN, document, hub, request, send,
};

/// Reserves a connection, and returns its token.
async fn reserve(hub: &Hub, key: &str) -> String {
    let (status, token) = reserved(hub, key).await;
    assert_eq!(status, 201, "{token}");
    token
}

async fn reserved(hub: &Hub, key: &str) -> (u16, String) {
    let response = send(hub, ("PUT", key), PATH, &[], "").await;
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

async fn connect(hub: &Hub, key: &str, token: &str) -> Stream {
    let headers = [(TOKEN, token), ("accept", "text/event-stream")];
    Stream::new(send(hub, ("GET", key), PATH, &headers, "").await)
}

/// Posts an operation; the status, and the response.
async fn post(hub: &Hub, key: &str, token: &str, body: &str) -> (u16, Value) {
    document(send(hub, ("POST", key), PATH, &[(TOKEN, token)], body).await).await
}

async fn begin(hub: &Hub, token: &str, id: &str, channel: &str) {
    let body = request(CHANNEL, &json!({ "name": [channel] }), Some(id));
    assert_eq!(post(hub, BACKEND, token, &body).await, (202, Value::Null));
}

async fn stop(hub: &Hub, token: &str, id: &str) -> u16 {
    let path = format!("{PATH}?operationId={id}");
    send(hub, ("DELETE", BACKEND), &path, &[(TOKEN, token)], "").await.status().as_u16()
}

/// The next result: the id of its operation, and the data of the channel's event.
async fn next(stream: &mut Stream) -> (String, String) {
    let event = stream.any().await.expect("an event");
    assert_eq!(event.event, "next", "{event:?}");
    let data: Value = serde_json::from_str(&event.data).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{data}")).to_owned();
    (text(&data["id"]), text(&data["payload"]["data"]["channel"]["data"]))
}

async fn completed(stream: &mut Stream, id: &str) {
    let event = stream.any().await.unwrap();
    assert_eq!((event.event.as_str(), event.data), ("complete", json!({ "id": id }).to_string()));
}

fn pair(id: &str, data: &str) -> (String, String) {
    (id.to_owned(), data.to_owned())
}

#[tokio::test]
async fn results_of_all_operations_go_over_one_connection() {
    let hub = hub();
    let token = reserve(&hub, BACKEND).await;
    assert_eq!(token.len(), 40);
    // Operations may come before the connection: nothing of them is lost.
    begin(&hub, &token, "1", "a").await;
    hub.publish("a", "before").await;
    let mut stream = connect(&hub, BACKEND, &token).await;
    assert_eq!(
        (stream.status, &stream.headers["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    assert_eq!(next(&mut stream).await, pair("1", "before"));
    begin(&hub, &token, "2", "b").await;
    begin(&hub, &token, "3", "a").await;
    hub.publish("b", "to 2").await;
    assert_eq!(next(&mut stream).await, pair("2", "to 2"));
    hub.publish("a", "to both").await;
    let mut both = [next(&mut stream).await, next(&mut stream).await];
    both.sort();
    assert_eq!(both, [pair("1", "to both"), pair("3", "to both")]);
    // A query's result, and its end.
    let query = request("{ __typename }", &json!({}), Some("q"));
    assert_eq!(post(&hub, BACKEND, &token, &query).await.0, 202);
    let event = stream.any().await.unwrap();
    let data: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(data, json!({ "id": "q", "payload": { "data": { "__typename": "Query" } } }));
    completed(&mut stream, "q").await;
    // The id of an operation that has ended is free.
    assert_eq!(post(&hub, BACKEND, &token, &query).await.0, 202);
    assert_eq!(stream.any().await.unwrap().event, "next");
    completed(&mut stream, "q").await;
    assert_eq!(stop(&hub, &token, "1").await, 200);
    // Its client has stopped listening: nothing more comes of it.
    hub.publish("a", "to 3").await;
    assert_eq!(next(&mut stream).await, pair("3", "to 3"));
    assert_eq!(stop(&hub, &token, "1").await, 200, "it is stopped");
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 2);
    drop(stream);
    assert_eq!(
        hub.app.metrics.channel_subscribers.get(),
        0,
        "operations end with their connection"
    );
    let (status, _) = post(&hub, BACKEND, &token, &query).await;
    assert_eq!(status, 404, "and so does the reservation");
}

#[tokio::test]
async fn an_operation_that_is_stopped_before_the_connection_never_runs() {
    let hub = hub();
    let token = reserve(&hub, BACKEND).await;
    begin(&hub, &token, "1", "a").await;
    begin(&hub, &token, "2", "a").await;
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 2);
    assert_eq!(stop(&hub, &token, "1").await, 200);
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 1);
    let mut stream = connect(&hub, BACKEND, &token).await;
    hub.publish("a", "x").await;
    assert_eq!(next(&mut stream).await, pair("2", "x"));
}

#[tokio::test]
async fn the_token_alone_connects_and_nothing_else() {
    let hub = hub();
    let token = reserve(&hub, BACKEND).await;
    let body = request(CHANNEL, &json!({ "name": ["a"] }), Some("1"));
    // Another caller knows it.
    assert_eq!(post(&hub, READER, &token, &body).await.0, 404);
    assert_eq!(connect(&hub, READER, &token).await.status, 404);
    assert_eq!(post(&hub, "", &token, &body).await.0, 401);
    let path = format!("{PATH}?operationId=1");
    let response = send(&hub, ("DELETE", ""), &path, &[(TOKEN, &token)], "").await;
    assert_eq!(response.status().as_u16(), 401);
    // An `EventSource` has it in the address, and no headers.
    let path = format!("{PATH}?token={token}");
    let mut stream = Stream::new(hub.send("GET", &path, &[], "").await);
    assert_eq!(stream.status, 200);
    assert_eq!(connect(&hub, BACKEND, &token).await.status, 409, "one connection at most");
    begin(&hub, &token, "1", "a").await;
    hub.publish("a", "x").await;
    assert_eq!(next(&mut stream).await, pair("1", "x"));
    for token in ["", "x", "é"] {
        assert_eq!(connect(&hub, BACKEND, token).await.status, 404, "{token}");
    }
    // A client that reserves again still sends the token of before.
    let response = send(&hub, ("PUT", BACKEND), PATH, &[(TOKEN, "gone")], "").await;
    assert_eq!(response.status().as_u16(), 201);
}

#[tokio::test]
async fn operations_that_cannot_run_are_refused_at_once() {
    let hub = hub();
    let token = reserve(&hub, BACKEND).await;
    let named = |query: &str, id: Option<&str>| request(query, &json!({}), id);
    for (body, status, expected) in [
        (named("{ nothing }", Some("1")), 400, "Unknown field"),
        (named("{", Some("1")), 400, "expected"),
        (named("subscription { channel(name: []) { id } }", Some("1")), 400, "`name` must have"),
        (named("{ __typename }", None), 400, "extensions.operationId"),
        (named("{ __typename }", Some("")), 400, "1 to 256 bytes"),
        (named("{ __typename }", Some(&"x".repeat(257))), 400, "1 to 256 bytes"),
    ] {
        let (found, answer) = post(&hub, BACKEND, &token, &body).await;
        assert_eq!(found, status, "{answer}");
        assert!(answer.to_string().contains(expected), "{answer}");
    }
    begin(&hub, &token, "1", "a").await;
    let again = request(CHANNEL, &json!({ "name": ["b"] }), Some("1"));
    let (status, answer) = post(&hub, BACKEND, &token, &again).await;
    assert_eq!(status, 409, "{answer}");
    let response = send(&hub, ("DELETE", BACKEND), PATH, &[(TOKEN, &token)], "").await;
    assert_eq!(response.status().as_u16(), 400, "it names no operation");
    let response = send(&hub, ("DELETE", BACKEND), &format!("{PATH}?operationId=1"), &[], "").await;
    assert_eq!(response.status().as_u16(), 400, "it has no token");
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 1);
}

#[tokio::test]
async fn operations_and_reservations_are_limited() {
    let hub = Hub::new("channels: { graphql: true, connections_per_user: none }\n");
    let token = reserve(&hub, BACKEND).await;
    for id in 0..100 {
        begin(&hub, &token, &id.to_string(), "a").await;
    }
    let body = request(CHANNEL, &json!({ "name": ["a"] }), Some("one more"));
    let (status, answer) = post(&hub, BACKEND, &token, &body).await;
    assert_eq!(status, 429, "{answer}");
    assert_eq!(stop(&hub, &token, "7").await, 200);
    assert_eq!(post(&hub, BACKEND, &token, &body).await.0, 202);
    for _ in 1..100 {
        reserve(&hub, BACKEND).await;
    }
    assert_eq!(reserved(&hub, BACKEND).await.0, 429);
    reserve(&hub, READER).await;
    drop(connect(&hub, BACKEND, &token).await);
    reserve(&hub, BACKEND).await;
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_without_a_connection_expires_with_its_operations() {
    let hub = hub();
    let token = reserve(&hub, BACKEND).await;
    begin(&hub, &token, "1", "a").await;
    sleep(Duration::from_secs(20)).await;
    let other = reserve(&hub, BACKEND).await;
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 1);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 0);
    assert_eq!(connect(&hub, BACKEND, &token).await.status, 404);
    // One that is connected does not, with or without operations.
    let mut stream = connect(&hub, BACKEND, &other).await;
    sleep(Duration::from_mins(1)).await;
    begin(&hub, &other, "1", "a").await;
    hub.publish("a", "x").await;
    assert_eq!(next(&mut stream).await, pair("1", "x"));
}

#[tokio::test(start_paused = true)]
async fn silence_has_heartbeats_without_operations_as_well() {
    let hub = Hub::new(&format!("{ON}stream: {{ heartbeat: 20s }}\nserver: {{ drain: 10s }}\n"));
    let token = reserve(&hub, BACKEND).await;
    let started = Instant::now();
    let mut stream = connect(&hub, BACKEND, &token).await;
    assert_eq!(stream.chunk().await.unwrap(), ": ok\n\n");
    for expected in [20, 40] {
        assert_eq!(stream.chunk().await.unwrap(), ": heartbeat\n\n");
        assert_eq!(started.elapsed(), Duration::from_secs(expected));
    }
    hub.shutdown.stopping.cancel();
    assert_eq!(stream.any().await, None::<Event>);
    assert!(started.elapsed() <= Duration::from_secs(49), "{:?}", started.elapsed());
}
