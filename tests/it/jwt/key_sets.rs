//! Key sets over HTTP: rotation, servers that fail or hang, reloads.

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{ask, told};
use crate::streaming::record;
use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, KEY, Log, configuration};
use crate::support::tokens::{ISSUER, KeyServer, Signer, claims, with_issuer};
use crate::support::upstream::Upstream;

fn keys() -> [Signer; 3] {
    [("kid-1", Algorithm::ES256), ("kid-2", Algorithm::ES384), ("kid-3", Algorithm::ES256)]
        .map(|(kid, algorithm)| Signer::new(algorithm).named(kid))
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_the_old_one_is_gone() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let [old, new, strange] = keys();
    let server = KeyServer::new(&[&old]).await;
    let issuer = server.issuer("RS256, ES256, ES384");
    let gateway = Gateway::new(&with_issuer(&upstream.url, &issuer, "")).await;
    let good = claims(&json!({}));
    let (old, new) = (old.sign(&good), (new.sign(&good), new));
    // Everybody at once: they share the first fetch.
    let all = futures_util::future::join_all((0..8).map(|_| told(&gateway, &old)));
    assert!(all.await.iter().all(|(status, _)| *status == 200));
    assert_eq!(server.times(), 1);
    // The issuer has another key now.
    server.has(&[&new.1]);
    let all = futures_util::future::join_all((0..8).map(|_| told(&gateway, &new.0)));
    let all = all.await;
    assert!(all.iter().all(|(status, _)| *status == 200), "{all:?}");
    assert_eq!(server.times(), 2);
    let (status, message) = told(&gateway, &old).await;
    assert_eq!(status, 401, "no longer a key of its issuer");
    assert!(message.contains("signature"), "{message}");
    // Unknown keys do not make us ask again and again.
    for _ in 0..5 {
        assert_eq!(told(&gateway, &strange.sign(&good)).await.0, 401);
    }
    assert_eq!(server.times(), 2);
    let fetched = format!("streamgate_key_fetches_total{{issuer=\"{ISSUER}\",outcome=\"ok\"}} 2");
    assert!(gateway.app.metrics.render().contains(&fetched));
}

#[tokio::test]
async fn a_failed_fetch_keeps_the_keys_and_is_reported() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let [own, strange, _] = keys();
    let log = Log::default();
    let _guard = log.capture();
    let too_large = format!("{{\"keys\":[\"{}\"]}}", "x".repeat(1 << 20));
    let set = json!({ "keys": [own.jwk()] }).to_string();
    for (status, body, words) in [
        (500, "", "status 500"),
        (404, set.as_str(), "status 404"),
        (302, set.as_str(), "status 302"),
        (200, "<html>", "not a JSON Web Key Set"),
        (200, "{\"keys\":5}", "not a JSON Web Key Set"),
        (200, too_large.as_str(), "larger than"),
    ] {
        let server = KeyServer::new(&[&own]).await;
        let issuer = server.issuer("ES256, ES384");
        let gateway = Gateway::new(&with_issuer(&upstream.url, &issuer, "")).await;
        let token = own.sign(&claims(&json!({})));
        assert_eq!(told(&gateway, &token).await.0, 200);
        server.says(status, body);
        let response = ask(&gateway, &strange.sign(&claims(&json!({})))).await;
        assert_eq!(response.status(), 503, "we cannot know whether it is a new key: {words}");
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(server.times(), 2);
        let fresh = own.sign(&claims(&json!({ "jti": "another" })));
        assert_eq!(told(&gateway, &fresh).await.0, 200, "{words}");
        assert!(log.text().contains(words), "{words} is not in {}", log.text());
        let failed = "outcome=\"failed\"} 1";
        assert!(gateway.app.metrics.render().contains(failed), "{words}");
    }
    assert!(!log.text().contains("?canary"), "an address may hold a credential");
}

#[tokio::test]
async fn without_keys_tokens_are_unavailable_and_not_invalid() {
    let [own, ..] = keys();
    let server = KeyServer::new(&[&own]).await;
    server.says(500, "");
    let issuer = server.issuer("ES256");
    let gateway = Gateway::new(&with_issuer("http://127.0.0.1:9", &issuer, "")).await;
    let log = Log::default();
    let _capture = log.capture();
    let (status, message) = told(&gateway, &own.sign(&claims(&json!({})))).await;
    assert_eq!(status, 503);
    assert!(message.contains("cannot be fetched"), "{message}");
    // Nor is it a mistake of ours that would have to be reported.
    assert_eq!(record(&gateway, &log).await["outcome"], "unavailable");
}

/// The one who needs a key that is not here waits; nobody else does.
#[tokio::test]
async fn a_hanging_key_server_delays_no_other_issuer() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let [own, strange, _] = keys();
    let server = KeyServer::new(&[&own]).await;
    let issuer = server.issuer("ES256, ES384");
    let gateway = Gateway::new(&with_issuer(&upstream.url, &issuer, "")).await;
    assert_eq!(told(&gateway, &own.sign(&claims(&json!({})))).await.0, 200);
    server.hangs();
    let token = strange.sign(&claims(&json!({})));
    let mut waits = std::pin::pin!(ask(&gateway, &token));
    tokio::select! {
        response = &mut waits => panic!("{}", response.status()),
        () = server.asked(2) => {}
    }
    for number in 0..5 {
        let fresh = own.sign(&claims(&json!({ "jti": number.to_string() })));
        assert_eq!(told(&gateway, &fresh).await.0, 200);
        assert_eq!(ask(&gateway, KEY).await.status(), 200);
    }
}

#[tokio::test]
async fn a_reload_keeps_what_was_fetched_and_fetches_what_was_not() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let [own, other, _] = keys();
    let (first, second) = (KeyServer::new(&[&own]).await, KeyServer::new(&[&other]).await);
    let text = |server: &KeyServer, more: &str| {
        with_issuer(&upstream.url, &server.issuer(&format!("ES256, ES384{more}")), "")
    };
    let gateway = Gateway::new(&text(&first, "")).await;
    let token = own.sign(&claims(&json!({})));
    assert_eq!(told(&gateway, &token).await.0, 200);
    first.hangs();
    gateway.app.reload(configuration(&text(&first, ", RS256")));
    assert_eq!(told(&gateway, &token).await.0, 200, "the same address, the same keys");
    assert_eq!(first.times(), 1);
    gateway.app.reload(configuration(&text(&second, "")));
    assert_eq!(told(&gateway, &other.sign(&claims(&json!({})))).await.0, 200);
    assert_eq!(told(&gateway, &token).await.0, 401);
}
