//! Callers without a credential: from where they may call, what they may use, and that nobody becomes one by accident.

use reqwest::RequestBuilder;

use crate::support::answers::{request, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::upstream::Upstream;

const MODELS: &str = "models:\n  fast: { targets: [ { provider: oai, model: a } ] }\n  \
    slow: { targets: [ { provider: oai, model: b } ] }\n";

async fn gateway(anonymous: &str, more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let text = yaml(&upstream.url, &upstream.url, &format!("{MODELS}{more}"));
    let text = text.replacen("auth:\n", &format!("auth:\n  anonymous: {anonymous}\n"), 1);
    (Gateway::new(&text).await, upstream)
}

/// A request without a credential.
fn keyless(gateway: &Gateway, model: &str) -> RequestBuilder {
    gateway
        .client
        .post(format!("{}/v1/chat/completions", gateway.url))
        .header("content-type", "application/json")
        .body(request(model, true, "hi"))
}

async fn status(sent: RequestBuilder) -> u16 {
    let response = sent.send().await.unwrap();
    let status = response.status().as_u16();
    response.text().await.unwrap();
    status
}

#[tokio::test]
async fn callers_on_this_machine_need_no_key() {
    let (gateway, _upstream) =
        gateway("{ models: [fast], limits: { requests_per_minute: 4 } }", "").await;
    assert_eq!(status(keyless(&gateway, "fast")).await, 200);
    assert_eq!(status(keyless(&gateway, "slow")).await, 404);
    let list = gateway.client.get(format!("{}/api/tags", gateway.url)).send().await.unwrap();
    let list = list.text().await.unwrap();
    assert!(list.contains("fast") && !list.contains("slow"), "{list}");
    // All of them together have one limit, for lists as well, and those with a key have theirs.
    assert_eq!(status(keyless(&gateway, "fast")).await, 200);
    assert_eq!(status(keyless(&gateway, "fast")).await, 429);
    assert_eq!(status(keyless(&gateway, "slow").bearer_auth(KEY)).await, 200);
    let counted = "streamgate_requests_total{dialect=\"openai-chat\",caller=\"anonymous\"";
    assert!(gateway.metric(counted) >= 2.0, "{}", gateway.app.metrics.render());
}

/// A request with a credential is not anonymous.
#[tokio::test]
async fn a_wrong_key_is_not_anonymous() {
    let (gateway, upstream) = gateway("{}", "").await;
    for (name, value) in [
        ("authorization", "Bearer wrong"),
        ("authorization", "Basic eDp5"),
        ("x-api-key", "wrong"),
        ("api-key", "wrong"),
        ("x-goog-api-key", "wrong"),
    ] {
        let sent = keyless(&gateway, "fast").header(name, value);
        assert_eq!(status(sent).await, 401, "{name}: {value}");
    }
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn anonymous_access_must_be_configured() {
    let cors = "server: { trusted_proxies: [127.0.0.1], cors: { origins: [\"https://chat.example.com\"] } }\n";
    for more in ["", cors] {
        let (gateway, _upstream) = gateway("{}", more).await;
        // Forwarded by a proxy on this machine, trusted or not, with any client address.
        for (name, value) in [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-host", "localhost"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded", "for=127.0.0.1"),
            ("x-original-forwarded-for", "127.0.0.1"),
            ("cf-connecting-ip", "127.0.0.1"),
            ("cf-ray", "230b030023ae2822-SJC"),
            ("true-client-ip", "127.0.0.1"),
            ("x-client-ip", "127.0.0.1"),
            ("x-cluster-client-ip", "127.0.0.1"),
            ("fastly-client-ip", "127.0.0.1"),
            ("fly-client-ip", "127.0.0.1"),
            ("x-envoy-external-address", "127.0.0.1"),
            ("x-amzn-trace-id", "Root=1-67891233-abcdef012345678912345678"),
            ("x-azure-clientip", "127.0.0.1"),
            ("tailscale-user-login", "a@example.com"),
            ("cdn-loop", "cloudflare"),
            ("via", "1.1 proxy"),
            // Sent by a browser on this machine for a page.
            ("origin", "https://evil.example.com"),
            ("origin", "null"),
        ] {
            let sent = keyless(&gateway, "fast").header(name, value);
            assert_eq!(status(sent).await, 401, "{name}: {value}");
        }
        let page = keyless(&gateway, "fast").header("origin", "https://chat.example.com");
        assert_eq!(status(page).await, if more.is_empty() { 401 } else { 200 });
    }
    // Another machine.
    let (gateway, _upstream) = gateway("{ from: [192.0.2.0/24] }", "").await;
    assert_eq!(status(keyless(&gateway, "fast")).await, 401);
    let (gateway, _upstream) = self::gateway("{ from: [127.0.0.1] }", "").await;
    assert_eq!(status(keyless(&gateway, "fast")).await, 200);
}
