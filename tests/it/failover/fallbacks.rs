//! Fallbacks over HTTP: what is tried after errors that the caller causes, and only then.

use crate::failover::routing::{JSON, gateway, keyed};
use crate::failover::{good, send, text};
use crate::streaming::count;
use crate::support::gateway::KEY;
use crate::support::language::{LANGUAGES, language};
use crate::support::upstream::{Step, Upstream};

const CONTEXT: &str = r#"{"error":{"message":"This model's maximum context length is 9 tokens","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
const FILTER: &str =
    r#"{"error":{"message":"told you","code":"content_filter","type":"invalid_request_error"}}"#;
const INVALID: &str =
    r#"{"error":{"message":"told you","type":"invalid_request_error","code":null}}"#;

async fn refusing(status: u16, body: &str) -> Upstream {
    Upstream::new(vec![Step::Whole(status, JSON, body.into())]).await
}

/// R2: each error leads to its own fallback, in every dialect, and costs no target its health.
#[tokio::test]
async fn r02_errors_of_callers_lead_to_their_fallback_only() {
    for (status, body, served) in [
        (400, CONTEXT, Some("long/m")),
        (413, INVALID, Some("long/m")),
        (400, FILTER, Some("free/m")),
        (400, INVALID, None),
        (422, INVALID, Some("next/m")),
    ] {
        let a = refusing(status, body).await;
        let (next, long, free) = (good().await, good().await, good().await);
        let providers = [
            keyed("a", &a.url, &["x"]),
            keyed("next", &next.url, &["x"]),
            keyed("long", &long.url, &["x"]),
            keyed("free", &free.url, &["x"]),
        ]
        .concat();
        // A context that is no larger keeps `next` from being tried for the prompt.
        let model = "targets: [{ provider: a, model: m, context: 9 }, { provider: next, model: m, context: 9 }], \
                     fallback: { context: [{ provider: long, model: m }], \
                     content_policy: [{ provider: free, model: m }], on_status: [422] }";
        let gateway = gateway(&providers, model).await;
        for language in LANGUAGES {
            let response = send(&gateway, language, "m", true).await;
            let Some(target) = served else {
                assert_eq!(response.status(), 400, "{}", language.name);
                continue;
            };
            assert_eq!(response.headers()["x-streamgate-target"], target, "{status} {body}");
            assert_eq!(text(language, response).await, "Hello", "{status} {body}");
        }
        assert_eq!(a.requests().await.len(), LANGUAGES.len(), "{status} {body}");
        assert_eq!(count(&gateway, "streamgate_target_ejected{"), "0");
        let falls_back = matches!(served, Some("long/m" | "free/m"));
        let expected = if falls_back { LANGUAGES.len() } else { 0 };
        let retries = r#"streamgate_retries_total{model="m",kind="fallback"}"#;
        assert_eq!(count(&gateway, retries), expected.to_string(), "{status} {body}");
    }
}

/// When the fallback fails, too, the caller gets the error that it can act on.
#[tokio::test]
async fn the_error_of_the_caller_outranks_that_of_its_fallback() {
    let (a, b) = (refusing(400, FILTER).await, refusing(503, INVALID).await);
    let providers = [keyed("a", &a.url, &["x"]), keyed("b", &b.url, &["x"])].concat();
    let model = "targets: [{ provider: a, model: m }], \
                 fallback: { content_policy: [{ provider: b, model: m }, { provider: a, model: other }] }";
    let gateway = gateway(&providers, model).await;
    let response = send(&gateway, language("openai-chat"), "m", true).await;
    assert_eq!(response.status(), 400);
    assert_eq!(
        response.headers()["x-streamgate-attempts"],
        "a/m caller, b/m target, a/other caller"
    );
}

/// Clients that fit their prompts to the model's context know of the fallback's.
#[tokio::test]
async fn lists_of_models_show_the_context_of_the_fallback() {
    let a = good().await;
    let model = "targets: [{ provider: a, model: m, context: 9 }], \
                 fallback: { context: [{ provider: a, model: long, context: 20 }] }";
    let gateway = gateway(&keyed("a", &a.url, &["x"]), model).await;
    for path in ["/v1/models/m", "/v1/models"] {
        let get = gateway.client.get(format!("{}{path}", gateway.url)).bearer_auth(KEY);
        let page: serde_json::Value =
            serde_json::from_str(&get.send().await.unwrap().text().await.unwrap()).unwrap();
        let found = page["data"].get(0).unwrap_or(&page);
        assert_eq!(found["context_length"], 20, "{page}");
    }
}
