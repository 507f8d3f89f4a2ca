//! Active checks over HTTP: a GET with the provider's credential, whose success lets a probe through.

use crate::failover::routing::{JSON, gateway, keyed, refusal};
use crate::failover::{good, send};
use crate::support::answers::streamed;
use crate::support::language::language;
use crate::support::upstream::{Step, Upstream};

/// A target that is ejected for an hour is back as soon as a check has found its provider well; nothing is checked
/// before it is ejected.
#[tokio::test]
async fn a_check_brings_an_ejected_target_back() {
    let well = vec![Step::Whole(200, JSON, b"{}".to_vec())];
    let scripts = vec![refusal(503, JSON, "no"), well, streamed("openai-chat", "Hello")];
    let (a, b) = (Upstream::scripted(scripts).await, good().await);
    let checked = "check: { path: /health, every: 1s }, \
                   health: { consecutive: 1, cooldown: 1h, max_cooldown: 1h }, keys:";
    let providers =
        [keyed("a", &a.url, &["x"]).replace("keys:", checked), keyed("b", &b.url, &["y"])];
    let model = "targets: [{ provider: a, model: m }, { provider: b, model: m }]";
    let gateway = gateway(&providers.concat(), model).await;
    let chat = language("openai-chat");
    let response = send(&gateway, chat, "m", true).await;
    assert_eq!(response.headers()["x-streamgate-attempts"], "a/m target, b/m ok");
    a.until("it is checked", |requests, _| requests > 1).await;
    let check = &a.requests().await[1];
    assert!(check.head.starts_with("GET /health HTTP/1.1\r\n"), "{}", check.head);
    assert!(check.head.contains("key-of-x") && check.body.is_empty(), "{}", check.head);
    let back = async {
        while send(&gateway, chat, "m", true).await.headers()["x-streamgate-target"] != "a/m" {}
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, back).await.expect("the probe is let through");
}
