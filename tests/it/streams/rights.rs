//! Rights over streams: only the owner reads, and everybody else learns nothing.

use super::{gateway, stream_id, whole};
use crate::support::gateway::{Gateway, hex, yaml};

/// Another caller's stream does not exist, in every endpoint, with the same answer as an id that was never given.
#[tokio::test]
async fn another_callers_stream_does_not_exist() {
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
