//! Rate limit of failed attempts: repeated wrong credentials get a 429, valid ones never do.

use serde_json::json;

use super::{ask, ask_for, shared, signer};
use crate::support::answers::{SPOKEN, error_message, streamed};
use crate::support::gateway::{Gateway, KEY};
use crate::support::tokens::{AUDIENCE, ISSUER, claims, with_issuers};
use crate::support::upstream::Upstream;

async fn gateway(upstream: &Upstream, more: &str) -> Gateway {
    let issuer = format!("{{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, {} }}", shared(""));
    let attempts = "failed_attempts: { burst: 3, per_minute: 1 }";
    Gateway::new(&with_issuers(&upstream.url, &[&issuer], attempts, more)).await
}

#[tokio::test]
async fn rate_limit_of_failed_credentials() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    for (dialect, _) in SPOKEN {
        let gateway = gateway(&upstream, "").await;
        let expired = signer().sign(&claims(&json!({ "exp": 5 })));
        for (credential, status) in
            [("wrong", 401), (expired.as_str(), 401), ("", 401), ("wrong", 401), ("other", 429)]
        {
            let response = ask_for(&gateway, credential, dialect, "oai/m").await;
            assert_eq!(response.status(), status, "{credential}");
            if status == 429 {
                let wait = response.headers()["retry-after"].to_str().unwrap().parse::<u64>();
                assert!((1..=60).contains(&wait.unwrap()));
                assert!(!response.headers().contains_key("www-authenticate"));
                let text = response.text().await.unwrap();
                assert!(error_message(dialect, &text).contains("too many wrong"), "{text}");
            }
        }
        let models = gateway.client.get(format!("{}/v1/models", gateway.url));
        assert_eq!(models.bearer_auth("wrong").send().await.unwrap().status(), 429);
        // Callers at the same address with a valid credential, or without one, are not affected.
        let token = signer().sign(&claims(&json!({})));
        for credential in [KEY, &token] {
            assert_eq!(ask(&gateway, credential).await.status(), 200);
        }
        assert_eq!(ask(&gateway, "").await.status(), 401);
    }
}

#[tokio::test]
async fn a_reload_forgets_no_attempt_unless_the_setting_is_another() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = gateway(&upstream, "").await;
    for expected in [401, 401, 401, 429] {
        assert_eq!(ask(&gateway, "wrong").await.status(), expected);
    }
    let config = gateway.app.state().config.clone();
    gateway.app.reload(config.clone());
    assert_eq!(ask(&gateway, "wrong").await.status(), 429);
    let mut other = config;
    other.auth.failed_attempts.per_minute = None;
    gateway.app.reload(other);
    assert_eq!(ask(&gateway, "wrong").await.status(), 401);
}

/// Behind a proxy it is not the proxy who tries.
#[tokio::test]
async fn client_addresses_come_from_trusted_proxies() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    for (more, believed) in
        [("server: { trusted_proxies: [127.0.0.0/8, \"::1\"] }\n", true), ("", false)]
    {
        let gateway = gateway(&upstream, more).await;
        let attempt = async |forwarded: &str| {
            let sent = gateway.client.get(format!("{}/v1/models", gateway.url));
            let sent = sent.bearer_auth("wrong").header("x-forwarded-for", forwarded);
            sent.send().await.unwrap().status().as_u16()
        };
        for expected in [401, 401, 401, 429] {
            assert_eq!(attempt("192.0.2.1").await, expected);
        }
        // Addresses that the caller itself prepends change nothing.
        assert_eq!(attempt("192.0.2.77, 192.0.2.1").await, 429);
        let other = attempt("192.0.2.2").await;
        assert_eq!(other, if believed { 401 } else { 429 });
    }
}
