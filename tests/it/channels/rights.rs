//! Rights over HTTP: keys, tokens, callers without a credential; and what a caller without a right is told.

use serde_json::{Value, json};

use super::{BACKEND, Hub, READER, document, yaml};
use crate::support::tokens::{AUDIENCE, ISSUER, SECRET, Signer, claims};

#[tokio::test]
async fn a_key_has_the_channels_of_the_configuration_and_its_own() {
    let hub = Hub::new("");
    for (query, status) in [
        ("channel=news.a", 200),
        ("channel=news.*", 200),
        ("channel=news.a*&channel=room", 200),
        ("channel=user:reader", 200),
        ("user=1", 200),
        ("channel=news", 403),
        ("channel=*", 403),
        ("channel=user:*", 403),
        ("channel=user:backend", 403),
        ("channel=room*", 403),
        ("channel=news.a&channel=other", 403),
    ] {
        let (found, answer) = hub.get(READER, &format!("/v1/events?{query}")).await;
        assert_eq!(found, status, "{query}: {answer}");
        if status == 403 {
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains("you may not subscribe to `"), "{message}");
            assert!(message.contains("channels: { subscribe: [...] }"), "{message}");
        }
    }
    for path in ["/v1/channels/news.a", "/v1/broadcast", "/v1/users/reader/notify"] {
        let (status, answer) = hub.post(READER, path, r#"{"data":1}"#).await;
        assert_eq!(status, 403, "{path}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("you may not publish to channel `"), "{message}");
        assert_eq!(hub.post("sg-wrong", path, r#"{"data":1}"#).await.0, 401, "{path}");
        assert_eq!(hub.post(BACKEND, path, r#"{"data":1}"#).await.0, 200, "{path}");
    }
    // The right comes before the body: nobody without one learns what is wrong with it.
    assert_eq!(hub.post(READER, "/v1/channels/a", "{").await.0, 403);
}

fn with_issuer(more: &str) -> Hub {
    let issuer = format!(
        "  jwt:\n    - {{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, algorithms: [HS256], secret: \"{SECRET}\"{more} }}\n"
    );
    Hub::with(&yaml("").replace("providers:", &format!("{issuer}providers:")))
}

async fn status(hub: &Hub, changes: Value, path: &str) -> u16 {
    let token = Signer::secret(SECRET.as_bytes()).sign(&claims(&changes));
    match path.strip_prefix("POST ") {
        Some(path) => hub.post(&token, path, r#"{"data":1}"#).await.0,
        None => hub.get(&token, path).await.0,
    }
}

#[tokio::test]
async fn a_token_has_the_channels_of_its_claim_or_of_its_issuer() {
    let hub = with_issuer(
        ", channels: { subscribe: [\"team:{sub}\", \"by:{name}\"], publish: [\"out:{sub}.*\"] }",
    );
    let alice = json!({ "sub": "alice" });
    let named = format!("by:{ISSUER}%23alice");
    for (path, expected) in [
        ("/v1/events?channel=team:alice", 200),
        ("/v1/events?channel=team:bob", 403),
        ("/v1/events?channel=team:*", 403),
        (&format!("/v1/events?channel={named}"), 200),
        ("/v1/events?user=1", 200),
        ("POST /v1/channels/out:alice.x", 200),
        ("POST /v1/channels/out:bob.x", 403),
    ] {
        assert_eq!(status(&hub, alice.clone(), path).await, expected, "{path}");
    }
    // Nobody gets more by a name.
    let star = json!({ "sub": "*" });
    for (path, expected) in [
        ("/v1/events?channel=team:bob", 403),
        ("/v1/events?channel=team:*", 403),
        ("POST /v1/channels/out:bob.x", 403),
        ("/v1/events?user=1", 400),
    ] {
        assert_eq!(status(&hub, star.clone(), path).await, expected, "{path}");
    }
    let claim = |channels: Value| json!({ "sub": "alice", "channels": channels });
    for (claim, path, expected) in [
        (claim(json!({ "subscribe": ["news.*"] })), "/v1/events?channel=news.*", 200),
        (claim(json!({ "subscribe": ["news.*"] })), "/v1/events?channel=team:alice", 403),
        (claim(json!({ "subscribe": ["mine:{sub}"] })), "/v1/events?channel=mine:alice", 200),
        (claim(json!({ "publish": ["news.a"] })), "POST /v1/channels/news.a", 200),
        (claim(json!({})), "POST /v1/channels/out:alice.x", 403),
        (claim(json!({ "subscribe": "news" })), "/v1/events?user=1", 401),
        (claim(json!({ "subscribe": ["a\nb"] })), "/v1/events?user=1", 401),
        (claim(json!({ "read": ["a"] })), "/v1/events?user=1", 401),
        (claim(json!(["a"])), "/v1/events?user=1", 401),
    ] {
        assert_eq!(status(&hub, claim.clone(), path).await, expected, "{claim} {path}");
    }
}

#[tokio::test]
async fn the_claim_may_have_another_name() {
    let hub = with_issuer(", claims: { channels: realm.channels }");
    let claim = json!({ "sub": "alice", "realm": { "channels": { "subscribe": ["a"] } } });
    assert_eq!(status(&hub, claim, "/v1/events?channel=a").await, 200);
    assert_eq!(status(&hub, json!({ "sub": "alice" }), "/v1/events?channel=a").await, 403);
}

/// All callers without a credential are one, and so have no channel of their own but what is granted.
#[tokio::test]
async fn callers_without_a_credential_have_what_is_granted() {
    let anonymous =
        "  anonymous: { from: [0.0.0.0/0], channels: { subscribe: [\"public.*\"] } }\nproviders:";
    let hub = Hub::with(&yaml("").replace("providers:", anonymous));
    for (path, expected) in [
        ("/v1/events?channel=public.a", 200),
        ("/v1/events?channel=news.a", 403),
        ("/v1/channels/public.a", 200),
    ] {
        let (status, answer) = document(hub.send("GET", path, &[], "").await).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
}

/// An `EventSource` cannot read a status: it would never come back.
#[tokio::test]
async fn an_event_source_is_refused_by_an_event() {
    let hub = Hub::new("");
    for (key, query, status, expected) in [
        (READER, "channel=other&es=1", 403, "you may not subscribe to `other`"),
        ("sg-wrong", "channel=news.a&es=1", 401, "Incorrect API key"),
        (READER, "es=1", 400, "names no channel"),
        (READER, "channel=a*b*&es=1", 403, "you may not subscribe"),
    ] {
        let mut stream = hub.subscribe(key, query, &[]).await;
        assert_eq!(stream.status, 200, "{query}");
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        let event = stream.any().await.unwrap();
        assert_eq!(event.event, "refused");
        assert!((15_000..=60_000).contains(&event.retry.unwrap()), "{event:?}");
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["status"], status, "{query}");
        assert!(data["message"].as_str().unwrap().contains(expected), "{data}");
        assert_eq!(stream.any().await, None, "closed");
    }
}
