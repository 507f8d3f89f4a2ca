//! Stored responses and conversations over restarts: chains, single items, the background, deletion, other callers, and
//! what was not to be stored.

use serde_json::{Value, json as value};

use super::restart::{Place, stop};
use super::stored::{asked, pairs, refused, respond};
use super::{expected, json, received, stream_id, whole};
use crate::support::gateway::Gateway;

async fn get(gateway: &Gateway, path: &str) -> (u16, Value) {
    let response = gateway.get(path).send().await.unwrap();
    (response.status().as_u16(), json(response).await)
}

async fn delete(gateway: &Gateway, path: &str) -> u16 {
    let request = gateway.client.delete(format!("{}{path}", gateway.url));
    let request = request.header("authorization", "Bearer sg-test");
    request.send().await.unwrap().status().as_u16()
}

fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_chain_of_responses_goes_on_after_a_restart() {
    let upstream = whole(2).await;
    let place = Place::new();
    let gateway = place.gateway(&upstream, "").await;
    let input = |text: &str, previous: Option<&Value>| {
        let previous = previous.map(|one| one["id"].clone());
        value!({"model": "oai/m", "input": text, "previous_response_id": previous})
    };
    let first = respond(&gateway, input("one", None)).await;
    let second = respond(&gateway, input("two", Some(&first))).await;
    let items = format!("/v1/responses/{}/input_items", id(&second));
    let listed = get(&gateway, &items).await;
    let unkept = value!({"model": "oai/m", "input": "x", "store": false});
    let unkept = respond(&gateway, unkept).await;
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    let answer = expected(2);
    // A single item first, then the chain, of which nothing is in memory.
    let item = first["output"][0]["id"].as_str().unwrap();
    let reference = value!({"model": "oai/m", "input": [{"type": "item_reference", "id": item}, {"role": "user", "content": "x"}]});
    respond(&gateway, reference).await;
    assert_eq!(asked(&upstream).await, pairs(&[("assistant", &answer), ("user", "x")]));
    let third = respond(&gateway, input("three", Some(&second))).await;
    let chain = [("user", "one"), ("assistant", &*answer), ("user", "two"), ("assistant", &answer)];
    assert_eq!(asked(&upstream).await, pairs(&[&chain[..], &[("user", "three")]].concat()));
    for response in [&first, &second] {
        assert_eq!(
            get(&gateway, &format!("/v1/responses/{}", id(response))).await,
            (200, response.clone())
        );
    }
    assert_eq!(get(&gateway, &items).await, listed);
    assert_eq!(get(&gateway, &format!("/v1/responses/{}", id(&unkept))).await.0, 404);
    let url = format!("{}/v1/responses/{}", gateway.url, id(&first));
    let other = gateway.client.get(&url).header("authorization", "Bearer sg-other");
    assert_eq!(other.send().await.unwrap().status(), 404);
    // A history that has lost a part is never taken for a whole one.
    assert_eq!(delete(&gateway, &format!("/v1/responses/{}", id(&second))).await, 200);
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    assert_eq!(delete(&gateway, &format!("/v1/responses/{}", id(&second))).await, 404);
    let (status, error) = refused(&gateway, input("four", Some(&third))).await;
    assert_eq!((status, &error["error"]["code"]), (400, &"previous_response_not_found".into()));
    assert_eq!(get(&gateway, &format!("/v1/responses/{}", id(&third))).await.0, 200);
}

#[tokio::test]
async fn a_response_in_the_background_is_followed_after_a_restart() {
    let upstream = whole(3).await;
    let place = Place::new();
    let gateway = place.gateway(&upstream, "").await;
    let body = value!({"model": "oai/m", "input": "x", "background": true, "stream": true});
    let begun = gateway.post("/v1/responses", &body.to_string()).send().await.unwrap();
    let stream = stream_id(&begun);
    let events = received(&begun.text().await.unwrap());
    let mut documents = events.iter().rev().map(|event| serde_json::from_str(&event.data));
    let last: Value = documents.find_map(Result::ok).unwrap();
    let response = id(&last["response"]).to_owned();
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    let follow = gateway.get(&format!("/v1/responses/{response}?stream=true&starting_after=1"));
    let rest = received(&follow.send().await.unwrap().text().await.unwrap());
    assert_eq!(rest, events[2..]);
    let (status, stored) = get(&gateway, &format!("/v1/responses/{response}")).await;
    assert_eq!((status, &stored), (200, &last["response"]));
    // Both are deleted together.
    assert_eq!(delete(&gateway, &format!("/v1/responses/{response}")).await, 200);
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    assert_eq!(get(&gateway, &format!("/v1/responses/{response}")).await.0, 404);
    assert_eq!(get(&gateway, &format!("/v1/streams/{stream}")).await.0, 404);
}

#[tokio::test]
async fn a_conversation_grows_over_restarts() {
    let upstream = whole(1).await;
    let place = Place::new();
    let mut gateway = place.gateway(&upstream, "").await;
    let begin = value!({"metadata": {"a": "b"}, "items": [{"role": "user", "content": "zero"}]});
    let begun = gateway.post("/v1/conversations", &begin.to_string()).send().await.unwrap();
    let begun = json(begun).await;
    let path = format!("/v1/conversations/{}", id(&begun));
    let mut items = 1;
    for round in 0..3 {
        let body =
            value!({"model": "oai/m", "input": format!("in {round}"), "conversation": begun["id"]});
        respond(&gateway, body).await;
        let more = value!({"items": [{"role": "user", "content": "more"}]}).to_string();
        let added = gateway.post(&format!("{path}/items"), &more).send().await.unwrap();
        assert_eq!(added.status(), 200);
        items += 3;
        let listed = get(&gateway, &format!("{path}/items?limit=100")).await;
        stop(gateway).await;
        gateway = place.gateway(&upstream, "").await;
        assert_eq!(get(&gateway, &path).await, (200, begun.clone()));
        let again = get(&gateway, &format!("{path}/items?limit=100")).await;
        assert_eq!(again, listed);
        assert_eq!(again.1["data"].as_array().map(Vec::len), Some(items));
    }
    assert_eq!(delete(&gateway, &path).await, 200);
    stop(gateway).await;
    gateway = place.gateway(&upstream, "").await;
    assert_eq!(get(&gateway, &path).await.0, 404);
    let more = gateway.post(&format!("{path}/items"), "{\"items\":[]}").send().await.unwrap();
    assert_eq!(more.status(), 404);
}

/// `store: none` keeps nothing on disk either, and neither do responses of requests that say so.
#[tokio::test]
async fn nothing_is_written_of_what_is_not_to_be_stored() {
    let upstream = whole(1).await;
    let place = Place::new();
    let gateway = place.gateway(&upstream, ", store: none").await;
    respond(&gateway, value!({"model": "oai/m", "input": "canary-none"})).await;
    stop(gateway).await;
    let gateway = place.gateway(&upstream, "").await;
    respond(&gateway, value!({"model": "oai/m", "input": "canary-false", "store": false})).await;
    respond(&gateway, value!({"model": "oai/m", "input": "canary-kept"})).await;
    stop(gateway).await;
    let file = std::fs::read(place.file()).unwrap();
    let has = |word: &[u8]| file.windows(word.len()).any(|bytes| bytes == word);
    assert_eq!(
        [has(b"canary-none"), has(b"canary-false"), has(b"canary-kept")],
        [false, false, true]
    );
}
