//! Rights over streams: only the owner reads, and everybody else learns nothing.

use serde_json::Value;

use super::{expected, gated, gateway, json, received, stream_id, text, whole};
use crate::support::gateway::{Gateway, KEY, hex, yaml};

/// Failure mode 60: another caller's stream does not exist, in every endpoint, with the same answer as an id that was never given.
#[tokio::test]
async fn fm60_another_callers_stream_does_not_exist() {
    let upstream = whole(2).await;
    let digest = hex(&streamgate::config::digest("sg-other"));
    let yaml = yaml(&upstream.url, "http://127.0.0.1:9", "");
    let yaml = yaml.replacen(
        "  keys:\n",
        &format!("  keys:\n    - {{ name: other, sha256: {digest} }}\n"),
        1,
    );
    let gateway = Gateway::new(&yaml).await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    viewer.text().await.unwrap();
    let mut bodies = Vec::new();
    for id in [id.as_str(), "AAAAAAAAAAAAAAAAAAAAAAAA"] {
        for (method, path) in [
            (reqwest::Method::GET, format!("/v1/streams/{id}")),
            (reqwest::Method::GET, format!("/v1/streams/{id}?live=sse")),
            (reqwest::Method::HEAD, format!("/v1/streams/{id}")),
            (reqwest::Method::DELETE, format!("/v1/streams/{id}")),
            (reqwest::Method::POST, format!("/v1/streams/{id}/cancel")),
        ] {
            let url = format!("{}{path}", gateway.url);
            let request = gateway.client.request(method, url).header("x-api-key", "sg-other");
            let response = request.header("x-request-id", "same").send().await.unwrap();
            assert_eq!(response.status(), 404, "{path}");
            bodies.push(response.text().await.unwrap());
        }
    }
    let (theirs, nobodys) = bodies.split_at(5);
    assert_eq!(theirs, nobodys);
    let own = gateway.follow(&id, "").send().await.unwrap();
    assert_eq!(own.status(), 200);
}

/// Without a credential there is nothing to learn either, and a browser comes back later.
#[tokio::test]
async fn a_request_without_a_credential_is_rejected() {
    let upstream = whole(1).await;
    let gateway = gateway(&upstream, "").await;
    let get = |path: &str| gateway.client.get(format!("{}{path}", gateway.url)).send();
    assert_eq!(get("/v1/streams").await.unwrap().status(), 401);
    assert_eq!(get("/v1/streams/abc").await.unwrap().status(), 401);
    let browser = get("/v1/streams/abc?es=1").await.unwrap();
    assert_eq!(browser.status(), 200);
    let body = browser.text().await.unwrap();
    assert!(body.starts_with("retry: ") && body.contains("event: refused\ndata: {"), "{body}");
    assert!(body.contains("\"status\":401"), "{body}");
}

/// A share grants its rights, and nothing more.
#[tokio::test]
async fn a_share_grants_reading_until_it_is_revoked() {
    let (upstream, gate) = gated(2, 2).await;
    let gateway = gateway(&upstream, "").await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let share = |body: &'static str| gateway.post(&format!("/v1/streams/{id}/share"), body).send();
    let made: Value = json(share(r#"{"viewers":1}"#).await.unwrap()).await;
    let url = made["url"].as_str().unwrap();
    let open = |url: &str| gateway.client.get(format!("{}{url}&live=sse", gateway.url)).send();
    let guest = open(url).await.unwrap();
    assert_eq!(guest.status(), 200);
    // One viewer at once.
    let second = open(url).await.unwrap();
    assert_eq!(second.status(), 429);
    // To read is not to cancel, nor to delete, nor to share.
    let path = url.replacen(&id, &format!("{id}/cancel"), 1);
    let cancel = gateway.client.post(format!("{}{path}", gateway.url)).send().await.unwrap();
    assert_eq!(cancel.status(), 403);
    let delete = gateway.client.delete(format!("{}{url}", gateway.url)).send().await.unwrap();
    assert_eq!(delete.status(), 401);
    // For another stream, or stretched, it is nothing.
    let expires = made["expires_at"].as_u64().unwrap();
    for wrong in [
        url.replacen(".r.", ".c.", 1),
        url.replacen(&expires.to_string(), &(expires + 1).to_string(), 1),
        url.replacen(&id, "AAAAAAAAAAAAAAAAAAAAAAAA", 1),
    ] {
        assert_ne!(wrong, url);
        assert_eq!(open(&wrong).await.unwrap().status(), 404, "{wrong}");
    }
    let revoke = format!("{}/v1/streams/{id}/share/{}", gateway.url, made["id"].as_str().unwrap());
    let revoke = gateway.client.delete(revoke).header("x-api-key", KEY).send().await.unwrap();
    assert_eq!(revoke.status(), 204);
    // Its viewer is closed, and the stream goes on.
    let seen = received(&guest.text().await.unwrap());
    assert!(expected(2).starts_with(&text(&seen)), "{seen:?}");
    assert_eq!(open(url).await.unwrap().status(), 404);
    let made: Value = json(share(r#"{"rights":"read,cancel"}"#).await.unwrap()).await;
    let path = made["url"].as_str().unwrap().replacen(&id, &format!("{id}/cancel"), 1);
    let cancel = gateway.client.post(format!("{}{path}", gateway.url)).send().await.unwrap();
    let cancelled: Value = json(cancel).await;
    assert_eq!(cancelled["state"], "cancelled");
    drop((viewer, gate));
}

/// A browser's `EventSource` reconnects with the same URL, and a ticket is for what it names.
#[tokio::test]
async fn a_ticket_is_good_for_its_streams_again_and_again() {
    let upstream = whole(2).await;
    let gateway = gateway(&upstream, "").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let viewer = gateway.durable().send().await.unwrap();
        ids.push(stream_id(&viewer));
        viewer.text().await.unwrap();
    }
    let body = format!(r#"{{"streams":["{}"]}}"#, ids[0]);
    let made = gateway.post("/v1/tickets", &body).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = json(made).await;
    let ticket = made["ticket"].as_str().unwrap();
    let open = |id: &str, ticket: &str| {
        let url = format!("{}/v1/streams/{id}?live=sse&ticket={ticket}", gateway.url);
        gateway.client.get(url).send()
    };
    for _ in 0..2 {
        let viewer = open(&ids[0], ticket).await.unwrap();
        assert_eq!(text(&received(&viewer.text().await.unwrap())), expected(2));
    }
    assert_eq!(open(&ids[1], ticket).await.unwrap().status(), 404);
    assert_eq!(open(&ids[0], "guessed").await.unwrap().status(), 401);
    for body in [
        "{}",
        r#"{"streams":["AAAAAAAAAAAAAAAAAAAAAAAA"]}"#,
        r#"{"streams":[1]}"#,
        r#"{"streams":[],"expires_in":0}"#,
        r#"{"expires_in":99999,"channels":["a"]}"#,
        r#"{"rights":"all"}"#,
        "[",
    ] {
        let response = gateway.post("/v1/tickets", body).send().await.unwrap();
        assert!([400, 404].contains(&response.status().as_u16()), "{body}");
    }
    for body in [r#"{"rights":"write"}"#, r#"{"expires_in":0}"#, r#"{"viewers":0}"#, "[1]"] {
        let path = format!("/v1/streams/{}/share", ids[0]);
        let response = gateway.post(&path, body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
    }
}
