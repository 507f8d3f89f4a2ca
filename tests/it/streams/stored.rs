//! Stored responses over an upstream that keeps no state: `previous_response_id`, references to items, the background,
//! and who may see them.

use serde_json::{Value, json as value};

use super::{expected, gated, gateway, json, received, stream_id, whole};
use crate::support::gateway::{Gateway, hex, yaml};

pub(super) async fn respond(gateway: &Gateway, body: Value) -> Value {
    let response = gateway.post("/v1/responses", &body.to_string()).send().await.unwrap();
    let status = response.status();
    let body = json(response).await;
    assert_eq!(status, 200, "{body}");
    body
}

pub(super) async fn refused(gateway: &Gateway, body: Value) -> (u16, Value) {
    let response = gateway.post("/v1/responses", &body.to_string()).send().await.unwrap();
    (response.status().as_u16(), json(response).await)
}

/// The roles and texts of the messages that the upstream got last.
pub(super) async fn asked(upstream: &crate::support::upstream::Upstream) -> Vec<(String, String)> {
    let requests = upstream.requests().await;
    let body: Value = serde_json::from_slice(&requests.last().unwrap().body).unwrap();
    let text = |content: &Value| {
        let part = content.pointer("/0/text").and_then(Value::as_str);
        content.as_str().or(part).unwrap_or_default().to_owned()
    };
    let messages = body["messages"].as_array().unwrap().iter();
    messages
        .map(|message| (message["role"].as_str().unwrap().to_owned(), text(&message["content"])))
        .collect()
}

pub(super) fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn a_response_continues_the_one_that_it_names() {
    let upstream = whole(2).await;
    let gateway = gateway(&upstream, "").await;
    let first = respond(&gateway, value!({"model": "oai/m", "input": "one"})).await;
    assert_eq!(first["store"], true);
    assert_eq!(first["previous_response_id"], Value::Null);
    let id = first["id"].as_str().unwrap();
    let second =
        respond(&gateway, value!({"model": "oai/m", "input": "two", "previous_response_id": id}))
            .await;
    assert_eq!(second["previous_response_id"], id);
    let answer = expected(2);
    assert_eq!(
        asked(&upstream).await,
        pairs(&[("user", "one"), ("assistant", &answer), ("user", "two")])
    );
    // A third one, streamed, and with a reference to a single item.
    let item = second["output"][0]["id"].as_str().unwrap();
    let body = value!({
        "model": "oai/m",
        "stream": true,
        "input": [{"role": "user", "content": "0"}, {"type": "item_reference", "id": item}, {"role": "user", "content": "three"}],
        "previous_response_id": second["id"],
    });
    let third = gateway.post("/v1/responses", &body.to_string()).send().await.unwrap();
    let events = third.text().await.unwrap();
    assert!(events.contains("event: response.completed"), "{events}");
    assert_eq!(
        asked(&upstream).await,
        pairs(&[
            ("user", "one"),
            ("assistant", &answer),
            ("user", "two"),
            ("assistant", &answer),
            ("user", "0"),
            ("assistant", &answer),
            ("user", "three"),
        ])
    );
    // It is read as it was sent, with the items that it was made from.
    let stored = json(gateway.get(&format!("/v1/responses/{id}")).send().await.unwrap()).await;
    assert_eq!(stored, first);
    let items =
        gateway.get(&format!("/v1/responses/{}/input_items", second["id"].as_str().unwrap()));
    let items = json(items.send().await.unwrap()).await;
    assert_eq!(items["data"].as_array().map(Vec::len), Some(3), "{items}");
    assert_eq!(items["data"][2]["content"][0]["text"], "two");
}

#[tokio::test]
async fn a_response_that_is_not_stored_cannot_be_continued() {
    let upstream = whole(1).await;
    let gateway = gateway(&upstream, "").await;
    let first = respond(&gateway, value!({"model": "oai/m", "input": "one", "store": false})).await;
    assert_eq!(first["store"], false);
    let id = first["id"].as_str().unwrap();
    let more = value!({"model": "oai/m", "input": "two", "previous_response_id": id});
    let (status, error) = refused(&gateway, more).await;
    assert_eq!(
        (status, error["error"]["code"].as_str()),
        (400, Some("previous_response_not_found"))
    );
    assert_eq!(gateway.get(&format!("/v1/responses/{id}")).send().await.unwrap().status(), 404);
    let deleted = respond(&gateway, value!({"model": "oai/m", "input": "one"})).await;
    let path = format!("{}/v1/responses/{}", gateway.url, deleted["id"].as_str().unwrap());
    let delete = || gateway.client.delete(&path).header("x-api-key", "sg-test").send();
    assert_eq!(json(delete().await.unwrap()).await["deleted"], true);
    assert_eq!(delete().await.unwrap().status(), 404);
    for (body, param) in [
        (
            value!({"model": "oai/m", "input": "x", "previous_response_id": 1}),
            "previous_response_id",
        ),
        (value!({"model": "oai/m", "input": "x", "conversation": "conv_1"}), "conversation"),
        (value!({"model": "oai/m", "input": "x", "store": "yes"}), "store"),
        (value!({"model": "oai/m", "input": "x", "store": false, "background": true}), "store"),
        (
            value!({"model": "oai/m", "input": [{"type": "item_reference", "id": "msg_unknown"}]}),
            "input",
        ),
    ] {
        let (status, error) = refused(&gateway, body).await;
        assert_eq!((status, error["error"]["param"].as_str()), (400, Some(param)), "{error}");
    }
}

/// Without the store, references are refused as before, and nothing is kept.
#[tokio::test]
async fn the_store_can_be_switched_off() {
    let upstream = whole(1).await;
    let gateway = gateway(&upstream, "streams: { store: none }\n").await;
    let first = respond(&gateway, value!({"model": "oai/m", "input": "one"})).await;
    assert_eq!(first["store"], false);
    let id = first["id"].as_str().unwrap();
    assert_eq!(gateway.get(&format!("/v1/responses/{id}")).send().await.unwrap().status(), 404);
    let more = value!({"model": "oai/m", "input": "two", "previous_response_id": id});
    let (status, error) = refused(&gateway, more).await;
    assert_eq!((status, error["error"]["param"].as_str()), (400, Some("previous_response_id")));
}

#[tokio::test]
async fn another_callers_response_does_not_exist() {
    let upstream = whole(1).await;
    let digest = hex(&streamgate::config::digest("sg-other"));
    let yaml = yaml(&upstream.url, "http://127.0.0.1:9", "");
    let other = format!("  keys:\n    - {{ name: other, sha256: {digest} }}\n");
    let gateway = Gateway::new(&yaml.replacen("  keys:\n", &other, 1)).await;
    let first = respond(&gateway, value!({"model": "oai/m", "input": "one"})).await;
    let id = first["id"].as_str().unwrap();
    for path in [format!("/v1/responses/{id}"), format!("/v1/responses/{id}/input_items")] {
        let request = gateway.client.get(format!("{}{path}", gateway.url));
        let response = request.header("x-api-key", "sg-other").send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    let body = value!({"model": "oai/m", "input": "x", "previous_response_id": id}).to_string();
    let request = gateway.client.post(format!("{}/v1/responses", gateway.url)).body(body);
    let request =
        request.header("x-api-key", "sg-other").header("content-type", "application/json");
    assert_eq!(request.send().await.unwrap().status(), 400);
}

/// A response in the background goes on without its caller, and is followed from any event on.
#[tokio::test]
async fn a_response_in_the_background_is_followed_from_any_event() {
    let (upstream, gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "").await;
    let body = value!({"model": "oai/m", "input": "one", "background": true, "stream": true});
    let viewer = gateway.post("/v1/responses", &body.to_string()).send().await.unwrap();
    stream_id(&viewer);
    gate.notify_one();
    let all = received(&viewer.text().await.unwrap());
    let first: Value = serde_json::from_str(&all[0].data).unwrap();
    assert_eq!(first["response"]["background"], true);
    let id = first["response"]["id"].as_str().unwrap();
    for (number, _) in all.iter().enumerate() {
        let path = format!("/v1/responses/{id}?stream=true&starting_after={number}");
        let rest = gateway.get(&path).send().await.unwrap();
        if number + 1 == all.len() {
            assert_eq!(rest.status(), 204);
            continue;
        }
        let rest = received(&rest.text().await.unwrap());
        assert_eq!(rest, all[number + 1..]);
        if rest[0].data != "[DONE]" {
            let next: Value = serde_json::from_str(&rest[0].data).unwrap();
            assert_eq!(next["sequence_number"], number + 1);
        }
    }
    let stored = json(gateway.get(&format!("/v1/responses/{id}")).send().await.unwrap()).await;
    assert_eq!(stored["status"], "completed");
    assert_eq!(upstream.requests().await.len(), 1);
}

/// Without a stream, the caller gets the beginning at once, asks for the rest, or cancels it.
#[tokio::test]
async fn a_response_in_the_background_is_polled_and_cancelled() {
    let (upstream, gate) = gated(1, 1).await;
    let gateway = gateway(&upstream, "").await;
    let body = value!({"model": "oai/m", "input": "one", "background": true});
    let begun = respond(&gateway, body.clone()).await;
    assert_eq!(
        (begun["status"].as_str(), begun["background"].as_bool()),
        (Some("in_progress"), Some(true))
    );
    let path = format!("/v1/responses/{}", begun["id"].as_str().unwrap());
    let running = json(gateway.get(&path).send().await.unwrap()).await;
    assert_eq!(running["status"], "in_progress");
    let cancel = || gateway.post(&format!("{path}/cancel"), "").send();
    for _ in 0..2 {
        let cancelled = json(cancel().await.unwrap()).await;
        assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
        assert_eq!(cancelled["id"], begun["id"]);
    }
    upstream.all_closed().await;
    // One that is cancelled before any output, or fails, is stored as such.
    let early =
        respond(&gateway, value!({"model": "oai/m", "input": "one", "background": true})).await;
    let early = format!("/v1/responses/{}", early["id"].as_str().unwrap());
    let cancelled = json(gateway.post(&format!("{early}/cancel"), "").send().await.unwrap()).await;
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    let nowhere =
        respond(&gateway, value!({"model": "ant/m", "input": "one", "background": true})).await;
    let nowhere = format!("/v1/responses/{}", nowhere["id"].as_str().unwrap());
    let events = gateway.get(&format!("{nowhere}?stream=true")).send().await.unwrap();
    assert!(events.text().await.unwrap().contains("event: response.failed"));
    assert_eq!(json(gateway.get(&nowhere).send().await.unwrap()).await["status"], "failed");
    // The next one ends by itself.
    let begun = respond(&gateway, body).await;
    let path = format!("/v1/responses/{}", begun["id"].as_str().unwrap());
    gate.notify_one();
    let events = gateway.get(&format!("{path}?stream=true")).send().await.unwrap();
    assert!(events.text().await.unwrap().contains("event: response.completed"));
    let ended = json(gateway.get(&path).send().await.unwrap()).await;
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["output"][0]["content"][0]["text"], expected(2));
}

#[tokio::test]
async fn a_conversation_grows_with_each_response() {
    let upstream = whole(1).await;
    let gateway = gateway(&upstream, "").await;
    let begin = value!({"metadata": {"a": "b"}, "items": [{"role": "user", "content": "zero"}]});
    let begun =
        json(gateway.post("/v1/conversations", &begin.to_string()).send().await.unwrap()).await;
    assert_eq!(
        (&begun["object"], &begun["metadata"]["a"]),
        (&value!("conversation"), &value!("b"))
    );
    let path = format!("/v1/conversations/{}", begun["id"].as_str().unwrap());
    for (input, conversation) in
        [("one", begun["id"].clone()), ("two", value!({"id": begun["id"]}))]
    {
        let body = value!({"model": "oai/m", "input": input, "conversation": conversation});
        let answer = respond(&gateway, body).await;
        assert_eq!(answer["conversation"]["id"], begun["id"]);
    }
    let answer = expected(1);
    assert_eq!(
        asked(&upstream).await,
        pairs(&[("user", "zero"), ("user", "one"), ("assistant", &answer), ("user", "two")])
    );
    let more = value!({"items": [{"role": "user", "content": "three"}]}).to_string();
    let added = json(gateway.post(&format!("{path}/items"), &more).send().await.unwrap()).await;
    assert!(added["data"][0]["id"].as_str().unwrap().starts_with("msg_"), "{added}");
    let items = json(gateway.get(&format!("{path}/items")).send().await.unwrap()).await;
    assert_eq!(items["data"].as_array().map(Vec::len), Some(6), "{items}");
    assert_eq!(items["last_id"], added["data"][0]["id"]);
    assert_eq!(json(gateway.get(&path).send().await.unwrap()).await, begun);
    let both = value!({"model": "oai/m", "input": "x", "conversation": begun["id"], "previous_response_id": "resp_1"});
    let (status, error) = refused(&gateway, both).await;
    assert_eq!((status, error["error"]["param"].as_str()), (400, Some("previous_response_id")));
    let delete = gateway.client.delete(format!("{}{path}", gateway.url));
    let deleted = json(delete.header("x-api-key", "sg-test").send().await.unwrap()).await;
    assert_eq!(deleted["deleted"], true);
    assert_eq!(gateway.get(&path).send().await.unwrap().status(), 404);
    let bad = gateway.post("/v1/conversations", "[1").send().await.unwrap();
    assert_eq!(bad.status(), 400);
}
