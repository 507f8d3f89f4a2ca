//! Names of models: patterns, tags, names that are close to one, and what is shown and counted of them.

use serde_json::Value;

use crate::access::with_keys;
use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::upstream::Upstream;

const MODELS: &str = "models:
  fast: { targets: [ { provider: oai, model: a } ] }
  claude-opus: { targets: [ { provider: oai, model: exact } ] }
  \"claude-*\": { targets: [ { provider: oai, model: claude } ], limits: { requests_per_minute: 2 } }
  \"claude-haiku-*\": { targets: [ { provider: oai, model: haiku } ] }
  \"*\": { targets: [ { provider: oai, model: \"org/*\" } ] }
";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&yaml(&upstream.url, &upstream.url, MODELS)).await, upstream)
}

/// The model that the upstream was last asked for.
async fn sent(upstream: &Upstream) -> String {
    let seen = upstream.requests().await.pop().unwrap();
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    body["model"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_most_exact_pattern_counts() {
    let (gateway, upstream) = gateway().await;
    for (asked, at_upstream) in [
        ("fast", "a"),
        ("fast:latest", "a"),
        ("claude-opus", "exact"),
        ("claude-opus:latest", "exact"),
        ("claude-opus-4-8", "claude"),
        ("claude-haiku-4-5", "haiku"),
        ("gpt-5-mini", "org/gpt-5-mini"),
        ("nobody/model", "org/nobody/model"),
        // A provider's own names are not for the patterns.
        ("oai/claude-x", "claude-x"),
        ("oai/m:latest", "m:latest"),
    ] {
        let response = gateway.chat(asked).send().await.unwrap();
        assert_eq!(response.status(), 200, "{asked}");
        response.text().await.unwrap();
        assert_eq!(sent(&upstream).await, at_upstream, "{asked}");
    }
    let metrics = gateway.app.metrics.render();
    for label in ["model=\"claude-*\"", "model=\"*\",target=\"oai/*\"", "model=\"fast\""] {
        assert!(metrics.contains(label), "{label}: {metrics}");
    }
    for name in ["gpt-5-mini", "opus-4-8", "nobody", "latest"] {
        assert!(!metrics.contains(name), "{name}: {metrics}");
    }
}

/// A pattern that passes the name on passes no other than a model may have.
#[tokio::test]
async fn a_name_that_a_pattern_passes_on_is_bounded() {
    let (gateway, upstream) = gateway().await;
    let long = "m".repeat(257);
    for asked in ["a/../m", "..", "a b", long.as_str()] {
        let response = gateway.chat(asked).send().await.unwrap();
        assert_eq!(response.status(), 400, "{asked}");
        let text = response.text().await.unwrap();
        assert!(text.contains("256 visible ASCII"), "{text}");
    }
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn lists_show_names_and_no_patterns() {
    let (gateway, _upstream) = gateway().await;
    let get = async |path: &str| {
        let sent = gateway.client.get(format!("{}{path}", gateway.url)).bearer_auth(KEY);
        sent.send().await.unwrap().text().await.unwrap()
    };
    let list: Value = serde_json::from_str(&get("/v1/models").await).unwrap();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(names, ["claude-opus", "fast"]);
    // Models that a pattern serves can be requested by name.
    let one: Value = serde_json::from_str(&get("/v1/models/claude-opus-4-8").await).unwrap();
    assert_eq!(one["id"], "claude-opus-4-8");
}

/// The limits of a pattern are for all names that it serves.
#[tokio::test]
async fn a_patterns_rate_limit_holds_for_all_its_names() {
    let (gateway, _upstream) = gateway().await;
    for (asked, status) in
        [("claude-a", 200), ("claude-b", 200), ("claude-c", 429), ("claude-haiku-1", 200)]
    {
        let response = gateway.chat(asked).send().await.unwrap();
        assert_eq!(response.status(), status, "{asked}");
        response.text().await.unwrap();
    }
}

/// Permissions are for the name that is asked for, not for the pattern that serves it.
#[tokio::test]
async fn keys_are_permitted_names() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let keys = [("some", ", models: [\"claude-opus-*\", fast]")];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, MODELS)).await;
    for (asked, status) in [
        ("claude-opus-4", 200),
        ("claude-sonnet-4", 404),
        ("fast", 200),
        ("fast:latest", 200),
        ("claude-opus", 404),
        ("anything", 404),
    ] {
        let response =
            crate::access::by(&gateway, "some", "openai-chat", asked).send().await.unwrap();
        assert_eq!(response.status(), status, "{asked}");
        response.text().await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_model_suggests_a_similar_name() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let models = "models:\n  chat: { targets: [ { provider: oai, model: a } ] }\n  \
        secret-model: { targets: [ { provider: oai, model: a } ] }\n";
    let keys = [("all", ""), ("some", ", models: [chat]")];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, models)).await;
    for (key, asked, meant) in [
        ("all", "chta", Some("chat")),
        ("all", "Chat", Some("chat")),
        ("all", "secret-modell", Some("secret-model")),
        ("some", "secret-modell", None),
        ("all", "something-else", None),
        ("all", &"x".repeat(5000), None),
    ] {
        let response = crate::access::by(&gateway, key, "openai-chat", asked).send().await.unwrap();
        assert_eq!(response.status(), 404);
        let text = response.text().await.unwrap();
        assert_eq!(text.contains("did you mean"), meant.is_some(), "{text}");
        if let Some(meant) = meant {
            assert!(text.contains(&format!("did you mean `{meant}`?")), "{text}");
        }
    }
}
