//! Publishing over HTTP: single events, batches, users, everybody; and each kind of bad input.

use serde_json::json;

use super::{BACKEND, Hub, READER, document};

#[tokio::test]
async fn batches_users_and_broadcasts_are_published() {
    let hub = Hub::new("");
    let mut stream = hub.subscribe(BACKEND, "user=1&channel=a", &[]).await;
    let batch = json!({ "events": [{ "data": 1 }, { "event": "x", "data": "2" }] }).to_string();
    let (status, answer) = hub.post(BACKEND, "/v1/channels/a", &batch).await;
    assert_eq!((status, answer["ids"].as_array().unwrap().len()), (200, 2));
    assert_eq!(stream.data(2).await, ["1", "2"]);
    assert_eq!(stream.last, answer["ids"][1].as_str().unwrap());
    let (status, answer) = hub.post(BACKEND, "/v1/users/backend/notify", r#"{"data":"you"}"#).await;
    assert_eq!(status, 200);
    assert_eq!(stream.data(1).await, ["you"]);
    assert_eq!(stream.last, answer["id"].as_str().unwrap());
    let (status, _) = hub.post(BACKEND, "/v1/broadcast", r#"{"data":"all"}"#).await;
    assert_eq!(status, 200);
    assert_eq!(stream.data(1).await, ["all"]);
    // Of one event, and a batch all the same.
    let (_, answer) = hub.post(BACKEND, "/v1/channels/a", r#"{"events":[{"data":1}]}"#).await;
    assert!(answer["ids"].is_array(), "{answer}");
    assert_eq!(hub.app.metrics.channel_events_published.get(), 5);
}

#[tokio::test]
async fn a_repeated_publication_has_the_position_of_the_first() {
    let hub = Hub::new("");
    let body = r#"{"id":"order-7","data":"x"}"#;
    let first = hub.post(BACKEND, "/v1/channels/a", body).await;
    assert_eq!(hub.post(BACKEND, "/v1/channels/a", body).await, first);
    assert_eq!(hub.get(BACKEND, "/v1/channels/a").await.1["events"], 1);
}

#[tokio::test]
async fn names_are_percent_encoded_in_paths() {
    let hub = Hub::new("");
    for (encoded, query) in [
        ("a%2Fb", "a/b"),
        (
            "user:https%3A%2F%2Fidp.example.com%2F%23zo%C3%AB",
            "user:https://idp.example.com/%23zo%C3%AB",
        ),
        ("with%20space", "with+space"),
    ] {
        let mut stream = hub.subscribe(BACKEND, &format!("channel={query}"), &[]).await;
        hub.publish(encoded, encoded).await;
        assert_eq!(stream.data(1).await, [encoded]);
    }
}

#[tokio::test]
async fn bad_input_of_publishers_gets_a_clear_error() {
    let hub = Hub::new("channels: { max_event: 1KiB }\n");
    let large = json!({ "data": "x".repeat(1_020) }).to_string();
    let long = format!("/v1/channels/{}", "x".repeat(513));
    let data = r#"{"data":1}"#;
    for (path, body, status, expected) in [
        ("/v1/channels/a", "{", 400, "the body is no event"),
        ("/v1/channels/a", " ", 400, "the request body is empty"),
        ("/v1/channels/a", r#"{"data":1,"event":"a\nb"}"#, 400, "`event` has a line end"),
        ("/v1/channels/a", r#"{"data":1,"id":"a\rb"}"#, 400, "`id` has a carriage return"),
        ("/v1/channels/a", r#"{"data":1,"id":"\u0000"}"#, 400, "`id` has a NUL"),
        ("/v1/channels/a", r#"{"data":1,"retry":1}"#, 400, "`retry` is 1"),
        ("/v1/channels/a", &large, 413, "the limit is 1024 (channels.max_event)"),
        ("/v1/channels/a*", data, 400, "the channel's name has a `*`"),
        ("/v1/channels/a%0Ab", data, 400, "the channel's name has a line end"),
        ("/v1/channels/%FF", data, 400, "the path is not UTF-8"),
        ("/v1/channels/%00", data, 400, "control character"),
        (&long, data, 400, "the channel's name is too long"),
        ("/v1/users/a%0D/notify", data, 400, "the user's name has a line end"),
    ] {
        let (found, answer) = hub.post(BACKEND, path, body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{path} {body}: {answer}");
        assert!(message.contains(expected), "{path} {body}: {message}");
    }
    assert_eq!(hub.get(BACKEND, "/v1/channels/a").await.1["events"], 0);
    let key = format!("Bearer {BACKEND}");
    let form = [("authorization", key.as_str()), ("content-type", "text/plain")];
    let (status, answer) = document(hub.send("POST", "/v1/channels/a", &form, data).await).await;
    assert_eq!(status, 415, "{answer}");
    for (method, path, allowed) in [
        ("PUT", "/v1/channels/a", "GET, POST"),
        ("GET", "/v1/broadcast", "GET, HEAD"),
        ("DELETE", "/v1/events", "GET, HEAD"),
    ] {
        let response = hub.send(method, path, &form, "").await;
        assert_eq!(response.status(), 405, "{method} {path}");
        if method != "GET" {
            assert_eq!(response.headers()["allow"], allowed);
        }
    }
}

#[tokio::test]
async fn a_batch_is_published_whole_or_not_at_all() {
    let hub = Hub::new("");
    let body = r#"{"events":[{"data":1},{"data":2,"event":"\n"}]}"#;
    let (status, answer) = hub.post(BACKEND, "/v1/channels/a", body).await;
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("`events[1]`"), "{answer}");
    assert_eq!(hub.get(BACKEND, "/v1/channels/a").await.1["events"], 0);
}

#[tokio::test]
async fn a_channel_is_described_to_those_who_may_see_it() {
    let hub = Hub::new("channels: { patterns: { room: { presence: true } } }\n");
    let (status, empty) = hub.get(READER, "/v1/channels/news.a").await;
    assert_eq!((status, &empty["events"], &empty["presence"]), (200, &json!(0), &json!(null)));
    let id = hub.publish("room", "x").await;
    let _subscribers = [
        hub.subscribe(READER, "channel=room", &[]).await,
        hub.subscribe(READER, "channel=room", &[]).await,
    ];
    let (_, room) = hub.get(READER, "/v1/channels/room").await;
    assert_eq!(room["presence"], json!([{ "user": "reader", "connections": 2 }]));
    assert_eq!(room["channel"], "room");
    assert_eq!(room["subscribers"], 2);
    // The event, and one of presence.
    assert_eq!(room["events"], 2);
    assert!(room["bytes"].as_u64().unwrap() > 100);
    assert!(room["tail"].as_str().unwrap() > id.as_str());
    assert_eq!(hub.get(READER, "/v1/channels/other").await.0, 403);
    assert_eq!(hub.get(READER, "/v1/channels/user:reader").await.0, 200);
    assert_eq!(hub.get("sg-wrong", "/v1/channels/room").await.0, 401);
}

/// Failure mode 36: a publisher's data stays data, in both forms, and its other members have no lines.
#[tokio::test]
async fn fm36_no_publication_becomes_another_event() {
    let hub = Hub::new("");
    let mut plain = hub.subscribe(BACKEND, "channel=a", &[]).await;
    let mut named = hub.subscribe(BACKEND, "channel=a&format=events", &[]).await;
    for stream in [&mut plain, &mut named] {
        stream.control("caught_up").await;
    }
    for evil in [
        "x\n\nevent: evil\ndata: evil\nid: evil\nretry: 1\n\n",
        "x\r\revent: evil\rid: evil\r\r",
        "\r\n\r\nid: evil\r\n",
        "\u{2028}id: evil\u{0}",
        "\"}\n\nid: evil",
    ] {
        let id = hub.publish("a", evil).await;
        let lines = evil.replace("\r\n", "\n").replace('\r', "\n");
        let event = plain.any().await.unwrap();
        assert_eq!((&event.id, event.event.as_str(), &event.data), (&id, "", &lines));
        let event = named.any().await.unwrap();
        assert_eq!((&event.id, event.event.as_str()), (&id, "channel"));
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["data"], lines);
    }
    for line_end in ["\n", "\r", "\u{0}"] {
        let evil = format!("a{line_end}id: evil");
        for member in ["event", "id"] {
            let body = json!({ "data": 1, member: evil }).to_string();
            let (status, answer) = hub.post(BACKEND, "/v1/channels/a", &body).await;
            assert_eq!(status, 400, "{member} {evil:?}: {answer}");
        }
        let path = format!("/v1/channels/a%{:02X}id:%20evil", line_end.as_bytes()[0]);
        assert_eq!(hub.post(BACKEND, &path, r#"{"data":1}"#).await.0, 400, "{path}");
    }
}
