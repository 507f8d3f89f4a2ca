//! Rights of Mercure's clients: private and public updates, keys, the claims of tokens of all drafts.

use serde_json::{Value, json};

use super::{
    BACKEND, Hub, PATH, READER, form, hub, hub_with, only, publish, published, subscribe, text,
    token,
};

const DETAIL: &str = "https://mercure.rocks/authorization-detail";

/// A token of draft 08.
fn detailed(actions: &Value, topics: &Value) -> String {
    let detail = json!({ "type": DETAIL, "actions": actions, "topics": topics });
    token(&json!({ "authorization_details": [{ "type": "other" }, detail] }))
}

/// The data of private updates of topics that a subscriber of everything gets.
async fn readable(hub: &Hub, key: &str, topics: &[&str]) -> Vec<String> {
    let mut stream = subscribe(hub, key, &[("match", "*")]).await;
    for topic in topics {
        published(hub, &[("topic", topic), ("data", topic), ("private", "on")]).await;
    }
    published(hub, &[("topic", "end"), ("data", "end")]).await;
    let mut found = Vec::new();
    loop {
        let data = stream.any().await.unwrap().data;
        if data == "end" {
            return found;
        }
        found.push(data);
    }
}

#[tokio::test]
async fn public_updates_reach_every_caller_and_private_ones_those_with_a_right() {
    let hub = hub();
    let nobody = token(&json!({}));
    let own = format!("user:{}#{}", super::ISSUER, "subject-canary");
    let sub = token(&json!({ "sub": "subject-canary" }));
    for (key, private) in [
        (BACKEND, &["news.1", "other", &own][..]),
        (READER, &["news.1"]),
        ("", &[]),
        (&nobody, &[]),
        (&sub, &[&own]),
    ] {
        let fields = [("match", "news.1"), ("match", "other"), ("match", &own), ("match", "end")];
        let mut stream = subscribe(&hub, key, &fields).await;
        for topic in ["news.1", "other", &own] {
            published(&hub, &[("topic", topic), ("data", "public")]).await;
            published(&hub, &[("topic", topic), ("data", topic), ("private", "")]).await;
            // Events of channels are for those with a right.
            let path: String = url::form_urlencoded::byte_serialize(topic.as_bytes()).collect();
            hub.publish(&path, topic).await;
        }
        let mut expected = Vec::new();
        for topic in ["news.1", "other", &own] {
            expected.push("public");
            if private.contains(&topic) {
                expected.extend([topic, topic]);
            }
        }
        only(&hub, &mut stream, "end", &expected).await;
    }
    // From the history as well.
    let mut replay =
        subscribe(&hub, "", &[("match", "other"), ("last_event_id", "earliest")]).await;
    only(&hub, &mut replay, "other", &["public"; 5]).await;
}

/// Its audience is the union of those of its topics.
#[tokio::test]
async fn a_private_update_is_for_those_who_may_read_one_of_its_topics() {
    let hub = hub();
    let fields = [("topic", "/books/1"), ("topic", "news.1"), ("data", "x"), ("private", "on")];
    let narrow = detailed(&json!(["subscribe"]), &json!([{ "match": "/books/1" }]));
    let other = detailed(&json!(["subscribe"]), &json!([{ "match": "/books/2" }]));
    for (key, matcher, expected) in [
        (READER, "/books/1", &["x"][..]),
        (READER, "news.1", &["x"]),
        (READER, "*", &["x"]),
        (&narrow, "news.1", &["x"]),
        (&other, "/books/1", &[]),
        ("", "*", &[]),
    ] {
        let mut stream = subscribe(&hub, key, &[("match", matcher), ("match", "end")]).await;
        published(&hub, &fields).await;
        only(&hub, &mut stream, "end", expected).await;
    }
}

#[tokio::test]
async fn publishing_takes_a_right_to_every_topic() {
    let hub = hub();
    let claim = |claim: Value| token(&json!({ "mercure": claim }));
    let writer = claim(json!({ "publish": ["/a/{id}", "/b"] }));
    let everything = claim(json!({ "publish": ["*"] }));
    let none = claim(json!({ "publish": [], "subscribe": ["*"] }));
    let details =
        detailed(&json!(["publish"]), &json!([{ "match": "/a/:id", "match_type": "urlpattern" }]));
    let unknown = detailed(&json!(["subscribe", "delete"]), &json!([{ "match": "*" }]));
    for (key, topics, status) in [
        (writer.as_str(), &["/a/1", "/b"][..], 200),
        (&writer, &["/a/1/2"], 403),
        (&writer, &["/b", "/c"], 403),
        (&writer, &["/c", "/b"], 403),
        (&everything, &["/a", "urn:x:1"], 200),
        (&none, &["/a"], 403),
        (&details, &["/a/1"], 200),
        (&details, &["/b"], 403),
        (&unknown, &["/a"], 403),
        (READER, &["news.1"], 403),
        (BACKEND, &["news.1"], 200),
        ("sg-wrong", &["news.1"], 401),
    ] {
        let fields: Vec<_> = topics.iter().map(|topic| ("topic", *topic)).collect();
        let (found, _, body) = publish(&hub, key, &fields).await;
        assert_eq!(found, status, "{topics:?} {body}");
        if status == 403 {
            assert!(body.contains("you may not publish to topic `"), "{body}");
        }
    }
    // RFC 6750: the challenge has the error; without a credential there is none.
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let hub = Hub::with(&super::yaml(super::ON));
    for (headers, status, challenge) in [
        (&[("authorization", "Bearer sg-reader"), kind][..], 403, "error=\"insufficient_scope\""),
        (&[("authorization", "Bearer sg-wrong"), kind], 401, "error=\"invalid_token\""),
        (&[kind], 401, "Bearer realm=\"streamgate\""),
    ] {
        let response = hub.send("POST", PATH, headers, "topic=a").await;
        let found = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(found.contains(challenge), "{found}");
        assert_eq!(found.contains("error"), status == 403 || headers.len() > 1, "{found}");
        assert_eq!(response.status().as_u16(), status);
    }
}

#[tokio::test]
async fn claims_of_all_drafts_grant_topics() {
    let hub = hub();
    let topics = ["/a/1", "/a/1/2", "/b", "{id}", "news.1"];
    let claim =
        |list: Value| token(&json!({ "mercure": { "subscribe": list, "payload": { "x": 1 } } }));
    let object = json!([{ "match": "/a/:id", "match_type": "urlpattern" }, { "match": "/b" }]);
    for (key, expected) in [
        (claim(json!(["*"])), &topics[..]),
        (claim(json!(["/a/{id}"])), &topics[..1]),
        (claim(json!(["/a/{+path}"])), &topics[..2]),
        (claim(json!(["/b", "/a/1"])), &["/a/1", "/b"]),
        (claim(json!([])), &[]),
        (claim(json!(null)), &[]),
        (claim(object.clone()), &["/a/1", "/b"]),
        (detailed(&json!(["subscribe"]), &object), &["/a/1", "/b"]),
        (detailed(&json!(["subscribe"]), &json!([{ "match": "{id}" }])), &topics[3..4]),
        (
            detailed(&json!(["subscribe"]), &json!([{ "match": "*", "match_type": "urlpattern" }])),
            &topics,
        ),
        (detailed(&json!(["publish"]), &json!([{ "match": "*" }])), &[]),
        (token(&json!({ "https://mercure.rocks/": { "subscribe": ["/b"] } })), &topics[2..3]),
        // Beside the rights of channels.
        (
            token(
                &json!({ "channels": { "subscribe": ["news.*"] }, "mercure": { "subscribe": ["/b"] } }),
            ),
            &["/b", "news.1"],
        ),
    ] {
        assert_eq!(readable(&hub, &key, &topics).await, expected, "{expected:?}");
    }
}

/// A claim that is wrong in part grants nothing.
#[tokio::test]
async fn a_token_with_a_wrong_claim_is_refused() {
    let hub = hub();
    let mercure = |claim: Value| token(&json!({ "mercure": claim }));
    let details = |details: Value| token(&json!({ "authorization_details": details }));
    let subscribe = json!(["subscribe"]);
    let many: Vec<String> = (0..=100).map(|at| format!("/{at}")).collect();
    for (token, expected) in [
        (mercure(json!("x")), "`mercure` must be an object"),
        (mercure(json!({ "subscribe": "*" })), "`mercure.subscribe` must be a list"),
        (mercure(json!({ "publish": ["a", 1] })), "`mercure.publish` must be a list"),
        (mercure(json!({ "subscribe": ["{a,b}"] })), "an URI template with `{a,b}`"),
        (mercure(json!({ "subscribe": ["a\n"] })), "line end"),
        (mercure(json!({ "subscribe": many })), "more than 100 topics"),
        (
            mercure(json!({ "subscribe": [{ "match": "a", "match_type": "URLPattern" }] })),
            "`match_type`",
        ),
        (details(json!({})), "`authorization_details` must be a list"),
        (detailed(&json!([]), &json!([{ "match": "*" }])), "`authorization_details.actions`"),
        (detailed(&json!([1]), &json!([{ "match": "*" }])), "`authorization_details.actions`"),
        (detailed(&subscribe, &json!([])), "`authorization_details.topics`"),
        (detailed(&subscribe, &json!(["*"])), "`authorization_details.topics`"),
        (detailed(&subscribe, &json!([{ "match": "*" }, { "match": 1 }])), "a text `match`"),
        (
            detailed(&subscribe, &json!([{ "match": "/(a)", "match_type": "urlpattern" }])),
            "a URL pattern with `(`",
        ),
        (detailed(&subscribe, &json!([{ "match": "a", "match_type": "regexp" }])), "`match_type`"),
    ] {
        let path = format!("{PATH}?match=a");
        let headers = [("authorization", format!("Bearer {token}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let response = hub.send("GET", &path, &headers, "").await;
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let (status, _, body) = text(response).await;
        assert_eq!(status, 401, "{expected}: {body}");
        assert!(body.contains(expected), "{expected}: {body}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
}

/// The claims are those of the protocol, and nothing where it is not served.
#[tokio::test]
async fn claims_grant_nothing_unless_the_protocol_is_configured() {
    let token = token(&json!({ "mercure": { "subscribe": ["a"], "publish": ["a"] } }));
    for (more, read, write) in [("", 403, 403), (super::ON, 200, 200)] {
        let hub = hub_with(more);
        assert_eq!(hub.get(&token, "/v1/events?channel=a").await.0, read);
        assert_eq!(hub.post(&token, "/v1/channels/a", r#"{"data":1}"#).await.0, write);
    }
}

#[tokio::test]
async fn subscribing_takes_a_caller() {
    let hub = Hub::with(&super::yaml(super::ON));
    for headers in [&[][..], &[("authorization", "Bearer sg-wrong")]] {
        let path = format!("{PATH}?{}", form(&[("match", "a")]));
        assert_eq!(hub.send("GET", &path, headers, "").await.status().as_u16(), 401);
    }
}
