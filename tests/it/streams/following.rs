//! Following and reading of streams: the three modes, positions, refusals, chats.

use serde_json::Value;

use super::{expected, gated, gateway, json, received, stream_id, text, whole};

#[tokio::test]
async fn a_page_has_the_events_and_the_position_at_which_to_go_on() {
    let (upstream, gate) = gated(3, 2).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let page = |query: &str| gateway.get(&format!("/v1/streams/{id}?{query}")).send();
    // All three tokens have arrived once the long poll after the second returns.
    let mut offset = "-1".to_owned();
    let mut all = Vec::new();
    while all.len() < 3 {
        let response = page(&format!("live=long-poll&offset={offset}")).await.unwrap();
        assert_eq!(response.status(), 200);
        let body: Value = json(response).await;
        all.extend(body["events"].as_array().unwrap().clone());
        offset = body["next_offset"].as_str().unwrap().to_owned();
        assert_eq!(body["closed"], false);
    }
    let whole: Value = json(page("").await.unwrap()).await;
    assert_eq!(whole["events"], Value::Array(all.clone()));
    assert_eq!(whole["state"], "streaming");
    assert_eq!(whole["up_to_date"], true);
    let none = page(&format!("live=long-poll&timeout=1&offset={offset}")).await.unwrap();
    assert_eq!(none.status(), 204);
    assert_eq!(none.headers()["stream-next-offset"], offset);
    assert!(!none.headers().contains_key("stream-closed"));
    gate.notify_one();
    viewer.text().await.unwrap();
    let rest: Value = json(page(&format!("offset={offset}")).await.unwrap()).await;
    assert_eq!(rest["closed"], true);
    assert_eq!(rest["state"], "complete");
    let last = rest["events"].as_array().unwrap().last().unwrap();
    assert_eq!(last["data"], "[DONE]");
    assert_eq!(last["id"], rest["next_offset"]);
    let seq: Value = json(page("starting_after=3").await.unwrap()).await;
    assert_eq!(seq["events"], rest["events"]);
    let now = page("offset=now").await.unwrap();
    assert_eq!(now.headers()["stream-closed"], "true");
}

#[tokio::test]
async fn positions_that_cannot_be_read_from_are_refused_and_never_skipped() {
    let upstream = whole(3).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let all = received(&viewer.text().await.unwrap());
    let (epoch, _) = all[0].id.split_once('_').unwrap();
    for (query, status, code) in [
        ("last-event-id=7".to_owned(), 400, None),
        (format!("offset={epoch}_0000000099"), 400, Some("position_ahead")),
        ("offset=aaaaaaaaaaaa_0000000001".to_owned(), 410, Some("position_gone")),
        ("starting_after=99".to_owned(), 400, Some("position_ahead")),
        ("starting_after=x".to_owned(), 400, None),
        ("live=often".to_owned(), 400, None),
        ("format=morse".to_owned(), 400, None),
        ("live=long-poll&timeout=0".to_owned(), 400, None),
    ] {
        let path = format!("/v1/streams/{id}?{query}");
        let response = gateway.get(&path).send().await.unwrap();
        assert_eq!(response.status(), status, "{query}");
        let error: Value = json(response).await;
        assert_eq!(error["error"]["code"].as_str(), code, "{query}: {error}");
        // A browser would never come back after this status.
        let response = gateway.get(&format!("{path}&es=1&live=sse")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{query}");
        let body = response.text().await.unwrap();
        let reset = body.contains("event: reset\n");
        let refused = body.contains("event: refused\n") && body.contains("\"status\":400");
        assert!(reset || refused, "{query}: {body}");
        if reset {
            assert!(body.contains(&format!("\"earliest\":\"{epoch}_0000000000\"")), "{body}");
            assert_eq!(
                text(&received(&body.replacen("event: reset\n", "event: reset\nid: x\n", 1))),
                expected(3)
            );
        }
    }
}

/// Events beyond the bound of a stream are trimmed, and the gap is reported.
#[tokio::test]
async fn a_trimmed_beginning_is_gone() {
    let upstream = whole(40).await;
    let gateway = gateway(&upstream, "streams: { max_stream: 2KiB }\n").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let _cut = viewer.text().await;
    let gone = gateway.follow(&id, "").send().await.unwrap();
    assert_eq!(gone.status(), 410);
    let error: Value = json(gone).await;
    assert_eq!(error["error"]["code"], "position_gone");
    let browser = gateway.get(&format!("/v1/streams/{id}?live=sse&es=1")).send().await.unwrap();
    let body = browser.text().await.unwrap();
    let (reset, rest) = body.split_once("\n\n").unwrap();
    assert!(reset.contains("event: reset\ndata: {\"earliest\":\""), "{reset}");
    let rest = received(rest);
    assert!(expected(40).ends_with(&text(&rest)), "{rest:?}");
    assert!(!text(&rest).is_empty());
}

#[tokio::test]
async fn a_chat_has_its_running_stream_and_stops_it() {
    let (upstream, gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "").await;
    let path = "/v1/chats/conversation-1";
    let idle = gateway.get(&format!("{path}/stream")).send().await.unwrap();
    assert_eq!(idle.status(), 204);
    let viewer =
        gateway.durable().header("streamgate-chat", "conversation-1").send().await.unwrap();
    let id = stream_id(&viewer);
    let other =
        gateway.post(&format!("{path}/stop"), r#"{"stream":"another"}"#).send().await.unwrap();
    assert_eq!(other.status(), 409);
    let follow = gateway.get(&format!("{path}/stream?format=native")).send().await.unwrap();
    assert_eq!(stream_id(&follow), id);
    gate.notify_one();
    assert_eq!(text(&received(&follow.text().await.unwrap())), expected(4));
    assert_eq!(gateway.get(&format!("{path}/stream")).send().await.unwrap().status(), 204);
    assert_eq!(gateway.post(&format!("{path}/stop"), "").send().await.unwrap().status(), 204);
    let bad = gateway.get("/v1/chats/a%20b/stream").send().await.unwrap();
    assert_eq!(bad.status(), 400);
}

/// Other methods get 405 with the ones that are allowed.
#[tokio::test]
async fn other_methods_are_not_allowed() {
    let upstream = whole(1).await;
    let gateway = gateway(&upstream, "").await;
    for (path, allowed) in [
        ("/v1/streams", "GET, HEAD"),
        ("/v1/streams/abc", "GET, HEAD, DELETE"),
        ("/v1/streams/abc/cancel", "POST"),
        ("/v1/chats/a/stream", "GET, HEAD"),
        ("/v1/chats/a/stop", "POST"),
    ] {
        let response = gateway.client.put(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers()["allow"], allowed, "{path}");
    }
}
