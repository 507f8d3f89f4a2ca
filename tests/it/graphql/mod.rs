//! GraphQL over server-sent events from HTTP to HTTP: both modes, rights, bounds, times. The tests call the router itself,
//! with paused time; those of durable streams have an upstream.

mod distinct;
mod durable;
mod single;

use axum::response::Response;
use serde_json::{Value, json};

use crate::channels::{BACKEND, Event, Hub, READER, Stream, document};

const PATH: &str = "/v1/graphql";
const ON: &str = "channels: { graphql: true, lifetime: none }\n";
const TOKEN: &str = "x-graphql-event-stream-token";

/// A subscription to channels.
const CHANNEL: &str = "subscription ($name: [String!]!, $types: [String!], $after: ID) \
                       { channel(name: $name, types: $types, after: $after) { id channel stream type data } }";

fn hub() -> Hub {
    Hub::new(ON)
}

/// The body of a request.
fn request(query: &str, variables: &Value, id: Option<&str>) -> String {
    let extensions = id.map(|id| json!({ "operationId": id }));
    json!({ "query": query, "variables": variables, "extensions": extensions }).to_string()
}

/// Sends a request with a key, unless that is empty.
async fn send(
    hub: &Hub,
    (method, key): (&str, &str),
    path: &str,
    more: &[(&str, &str)],
    body: &str,
) -> Response {
    let key = format!("Bearer {key}");
    let mut headers = vec![("content-type", "application/json")];
    if key != "Bearer " {
        headers.push(("authorization", &key));
    }
    headers.extend(more);
    hub.send(method, path, &headers, body).await
}

/// A subscription to channels over a connection of its own.
async fn subscribe(hub: &Hub, key: &str, variables: &Value) -> Stream {
    operate(hub, key, &request(CHANNEL, variables, None)).await
}

async fn operate(hub: &Hub, key: &str, body: &str) -> Stream {
    let accept = [("accept", "text/event-stream")];
    let stream = Stream::new(send(hub, ("POST", key), PATH, &accept, body).await);
    assert_eq!(stream.status, 200);
    stream
}

/// The next result of a stream: the data of its event `next`.
async fn next(stream: &mut Stream) -> Value {
    let event = stream.any().await.expect("an event");
    assert_eq!(event.event, "next", "{event:?}");
    serde_json::from_str(&event.data).unwrap()
}

/// The stream has no more results, and says so.
async fn complete(stream: &mut Stream) {
    let last = Event { event: "complete".to_owned(), ..Event::default() };
    assert_eq!(stream.any().await, Some(last));
    assert_eq!(stream.any().await, None);
}

/// The one error of a result: its message and its code.
fn error(result: &Value) -> (&str, &str) {
    let [error] = &result["errors"].as_array().unwrap()[..] else { panic!("{result}") };
    let code = error["extensions"]["code"].as_str().unwrap_or_default();
    (error["message"].as_str().unwrap(), code)
}

#[tokio::test]
async fn it_is_off_unless_it_is_configured() {
    let hub = Hub::new("");
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let response = send(&hub, (method, BACKEND), PATH, &[], "{}").await;
        assert_eq!(response.status().as_u16(), 404, "{method}");
    }
    let hub = self::hub();
    let response = send(&hub, ("PATCH", BACKEND), PATH, &[], "").await;
    assert_eq!(response.status().as_u16(), 405);
    assert_eq!(response.headers()["allow"], "GET, POST, PUT, DELETE");
    for (method, key) in [("GET", ""), ("POST", "sg-wrong"), ("PUT", ""), ("DELETE", "")] {
        let response = send(&hub, (method, key), PATH, &[], "{}").await;
        assert_eq!(response.status().as_u16(), 401, "{method}");
    }
}

/// Queries have no events, and come as JSON for clients that do not ask for a stream.
#[tokio::test]
async fn queries_are_answered_as_json() {
    let hub = hub();
    hub.publish("news.a", "x").await;
    let query = |query: &str| request(query, &json!({}), None);
    let news = "{ channel(name: \"news.a\") { name events subscribers earliest tail } }";
    let (status, answer) =
        document(send(&hub, ("POST", READER), PATH, &[], &query(news)).await).await;
    assert_eq!(status, 200, "{answer}");
    let channel = &answer["data"]["channel"];
    assert_eq!((&channel["name"], &channel["events"]), (&json!("news.a"), &json!(1)));
    assert_eq!(channel["subscribers"], 0);
    assert!(channel["tail"].as_str().unwrap().ends_with("_0000000001"), "{answer}");
    for (key, text, status, expected) in [
        (BACKEND, "{ streams { id } }", 200, json!({ "data": { "streams": [] } })),
        (BACKEND, "{ stream(id: \"x\") { id } }", 200, json!({ "data": { "stream": null } })),
        (BACKEND, "{ __typename }", 200, json!({ "data": { "__typename": "Query" } })),
    ] {
        let (found, answer) =
            document(send(&hub, ("POST", key), PATH, &[], &query(text)).await).await;
        assert_eq!((found, &answer), (status, &expected), "{text}");
    }
    for (text, expected) in [
        ("{ channel(name: \"other\") { name } }", "you may not see channel `other`"),
        ("{ channel(name: \"a*\") { name } }", "`name` has a `*`"),
        ("{ nothing }", "Unknown field \"nothing\""),
        ("{", "expected"),
        ("{ streams(first: 1001) { id } }", "1001"),
        (&"{ a: ".repeat(40), "expected"),
    ] {
        let (status, answer) =
            document(send(&hub, ("POST", READER), PATH, &[], &query(text)).await).await;
        assert_eq!(status, 400, "{text} {answer}");
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{text} {answer}");
    }
    // A GET request has its query in the address.
    let path = format!("{PATH}?query=%7B__typename%7D&variables=%7B%7D&operationName=");
    let (status, answer) = document(send(&hub, ("GET", READER), &path, &[], "").await).await;
    assert_eq!((status, &answer["data"]["__typename"]), (200, &json!("Query")), "{answer}");
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_remedy() {
    let hub = hub();
    let large = request(&format!("# {}", "x".repeat(64 * 1024)), &json!({}), None);
    for (body, status, expected) in [
        ("{", 400, "the body is no request of GraphQL"),
        ("[]", 400, "has no `query`"),
        (r#"[{"query":"{a}"}]"#, 400, "the body is no request of GraphQL"),
        ("{}", 400, "has no `query`"),
        (r#"{"query":" "}"#, 400, "has no `query`"),
        (r#"{"query":"{a}","variables":[]}"#, 400, "the body is no request of GraphQL"),
        (&large, 413, "the limit is 65536"),
    ] {
        let (found, answer) = document(send(&hub, ("POST", READER), PATH, &[], body).await).await;
        assert_eq!(found, status, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(expected), "{answer}");
    }
    for (query, expected) in [
        ("", "has no `query`"),
        ("query=%7Ba%7D&variables=x", "`variables` is no JSON object"),
        ("query=%7Ba%7D&extensions=1", "`extensions` is no JSON object"),
    ] {
        let path = format!("{PATH}?{query}");
        let (status, answer) = document(send(&hub, ("GET", READER), &path, &[], "").await).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(expected), "{answer}");
    }
    // A page of another site could send this without asking first.
    let page = ("origin", "https://evil.example.com");
    let kind = [("content-type", "text/plain"), ("authorization", "Bearer sg-reader"), page];
    assert_eq!(hub.send("POST", PATH, &kind, "{}").await.status().as_u16(), 415);
}
