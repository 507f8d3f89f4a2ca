//! Durable streams over GraphQL: followed from their beginning or a position, in any format, by their owners.

use serde_json::{Value, json};

use crate::streams::{expected, gateway, json as body, stream_id, whole};
use crate::support::gateway::Gateway;

const ON: &str = "channels: { graphql: true }\n";

const STREAM: &str = "subscription ($id: ID!, $format: String, $after: ID) \
                      { stream(id: $id, format: $format, after: $after) { id channel stream type data } }";

/// The results of an operation to its end.
async fn results(gateway: &Gateway, query: &str, variables: Value) -> Vec<Value> {
    let request = json!({ "query": query, "variables": variables }).to_string();
    let response = gateway
        .post("/v1/graphql", &request)
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let whole = text.strip_suffix("event: complete\ndata: \n\n").unwrap();
    let data = whole.split("\n\n").filter_map(|block| block.strip_prefix("event: next\ndata: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn text(events: &[Value]) -> String {
    let content = |event: &Value| {
        let chunk: Value = serde_json::from_str(event["data"].as_str()?).ok()?;
        Some(chunk.pointer("/choices/0/delta/content")?.as_str()?.to_owned())
    };
    events.iter().filter_map(content).collect()
}

#[tokio::test]
async fn a_stream_is_followed_from_its_beginning_or_after_any_event() {
    let upstream = whole(5).await;
    let gateway = gateway(&upstream, ON).await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    response.text().await.unwrap();
    let all = results(&gateway, STREAM, json!({ "id": id })).await;
    let all: Vec<Value> = all.iter().map(|result| result["data"]["stream"].clone()).collect();
    assert_eq!(text(&all), expected(5));
    for event in &all {
        assert_eq!((&event["stream"], &event["channel"]), (&json!(id), &Value::Null));
    }
    for (at, event) in all.iter().enumerate() {
        let rest = results(&gateway, STREAM, json!({ "id": id, "after": event["id"] })).await;
        let rest: Vec<_> = rest.iter().map(|result| result["data"]["stream"].clone()).collect();
        assert_eq!(rest, all[at + 1..]);
    }
    let events = results(&gateway, STREAM, json!({ "id": id, "format": "text" })).await;
    let events: Vec<_> = events.iter().map(|result| &result["data"]["stream"]["data"]).collect();
    assert!(!events.is_empty(), "another format has events of its own");
    for (variables, message, code) in [
        (json!({ "id": "x" }), "does not exist", "stream_not_found"),
        (json!({ "id": id, "format": "snapshot" }), "`format` must be one of", "invalid_request"),
        (json!({ "id": id, "format": "x" }), "`format` must be one of", "invalid_request"),
        (json!({ "id": id, "after": "x" }), "`after`", "invalid_request"),
        (
            json!({ "id": id, "after": "aaaaaaaaaaaa_0000000001" }),
            "no longer kept",
            "position_gone",
        ),
        (
            json!({ "id": id, "after": all[0]["id"].as_str().unwrap().replace("_0000000001", "_0000000999") }),
            "ahead",
            "position_ahead",
        ),
    ] {
        let found = results(&gateway, STREAM, variables.clone()).await;
        let [result] = &found[..] else { panic!("{found:?}") };
        let (text, kind) = super::error(result);
        assert!(text.contains(message) && kind == code, "{variables} {result}");
    }
    // Queries see it, and it is not running.
    let request = json!({ "query": "{ streams { id state model dialect events } }" }).to_string();
    let answer = body(gateway.post("/v1/graphql", &request).send().await.unwrap()).await;
    let stream = &answer["data"]["streams"][0];
    assert_eq!((&stream["id"], &stream["state"]), (&json!(id), &json!("complete")), "{answer}");
    assert_eq!(stream["events"], all.len());
}

/// Followed while it is produced, and left before its end.
#[tokio::test]
async fn a_stream_is_followed_live() {
    let (upstream, gate) = crate::streams::gated(3, 2).await;
    let gateway = gateway(&upstream, ON).await;
    let mut response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    response.chunk().await.unwrap();
    let request = json!({ "query": STREAM, "variables": { "id": id } }).to_string();
    let mut follower = gateway
        .post("/v1/graphql", &request)
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let mut seen = String::new();
    while seen.matches("event: next").count() < 3 {
        seen.push_str(std::str::from_utf8(&follower.chunk().await.unwrap().unwrap()).unwrap());
    }
    gate.notify_one();
    while let Some(chunk) = follower.chunk().await.unwrap() {
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(seen.ends_with("event: complete\ndata: \n\n"), "{seen}");
    for token in 0..5 {
        assert_eq!(seen.matches(&format!("t{token} ")).count(), 1, "{seen}");
    }
}
