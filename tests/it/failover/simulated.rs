//! Failover in front of the simulated upstream, by its words for trouble, in every dialect that it serves.

use std::fmt::Write as _;

use serde_json::{Value, json};
use streamgate::wire::dialect::DIALECTS;

use crate::failover::{send, text};
use crate::support::gateway::{Gateway, KEY, hex};
use crate::support::language::{LANGUAGES, language};
use crate::support::simulated::{providers, upstream};

/// A gateway with a provider for each dialect, whose credential is `key`, and one of openai-chat, `ok`. Each model has a
/// target of the provider of its name with the simulator's `words`, and then one at `ok`.
async fn gateway(words: &str, key: &str) -> Gateway {
    gateway_with(words, key, "").await
}

/// The same, with more fields for each model.
async fn gateway_with(words: &str, key: &str, more: &str) -> Gateway {
    let (address, other) = (upstream().await, upstream().await);
    let mut yaml = providers(address, key);
    writeln!(
        yaml,
        "  ok: {{ dialect: openai-chat, base_url: \"http://{other}/v1\", api_key: sim }}\nmodels:"
    )
    .unwrap();
    for dialect in DIALECTS {
        let name = dialect.name();
        writeln!(
            yaml,
            "  m-{name}: {{ {more}targets: [{{ provider: {name}, model: {words} }}, {{ provider: ok, model: n3 }}] }}"
        )
        .unwrap();
    }
    Gateway::new(&yaml).await
}

/// R19: an error after the opening events of a 200 is held back: the next target answers, in every dialect, and nothing of
/// the failed answer is seen.
#[tokio::test]
async fn r19_an_error_after_the_opening_events_fails_over() {
    let gateway = gateway("n5-err0", "sim").await;
    for dialect in DIALECTS {
        for language in LANGUAGES {
            let response = send(&gateway, language, &format!("m-{}", dialect.name()), true).await;
            let what = format!("{} from {}", language.name, dialect.name());
            assert_eq!(response.headers()["x-streamgate-target"], "ok/n3", "{what}");
            assert_eq!(text(language, response).await, "t0 t1 t2 ", "{what}");
        }
    }
}

/// R3, R17, R18, R20: every kind of trouble before an answer, in every dialect, is unseen by the caller.
#[tokio::test]
async fn r18_trouble_of_the_account_or_the_model_is_unseen() {
    for (words, key) in [
        ("ra30", "sim"),
        ("spent", "sim"),
        ("n5-flaky1000", "sim"),
        ("n5-cap0", "sim"),
        ("n5", "bad-1"),
        ("n5", "poor-1"),
    ] {
        let gateway = gateway(words, key).await;
        for dialect in DIALECTS {
            let chat = language("openai-chat");
            let response = send(&gateway, chat, &format!("m-{}", dialect.name()), true).await;
            let what = format!("{words} {key} at {}", dialect.name());
            assert_eq!(response.status(), 200, "{what}");
            assert_eq!(response.headers()["x-streamgate-target"], "ok/n3", "{what}");
            assert_eq!(text(chat, response).await, "t0 t1 t2 ", "{what}");
        }
    }
}

/// R23: a target that is silent is hedged: the other one's answer is the only one that is seen, and the record names both.
#[tokio::test]
async fn r23_a_silent_target_is_hedged() {
    let hedge = "hedge: { after: 20ms, budget: 1 }, ";
    let gateway = gateway_with("n5-f3600000", "sim", hedge).await;
    for dialect in DIALECTS {
        for language in LANGUAGES {
            let model = format!("m-{}", dialect.name());
            let response = send(&gateway, language, &model, true).await;
            let what = format!("{} from {}", language.name, dialect.name());
            assert_eq!(response.headers()["x-streamgate-target"], "ok/n3", "{what}");
            let trail = format!("{}/n5-f3600000 superseded, ok/n3 ok", dialect.name());
            assert_eq!(response.headers()["x-streamgate-attempts"], trail, "{what}");
            assert_eq!(text(language, response).await, "t0 t1 t2 ", "{what}");
        }
    }
    let won = DIALECTS.len() * LANGUAGES.len();
    assert_eq!(crate::streaming::count(&gateway, "streamgate_hedges_total{"), won.to_string());
}

/// R24: a caller that has used most of a limit is not hedged: its share is not to be spent twice.
#[tokio::test]
async fn r24_a_caller_near_a_limit_is_not_hedged() {
    let (address, other) = (upstream().await, upstream().await);
    let gateway = Gateway::new(&format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {}, limits: {{ requests_per_minute: 1, burst: 10 }} }}\n\
         providers:\n  a: {{ dialect: openai-chat, base_url: \"http://{address}/v1\" }}\n  \
         b: {{ dialect: openai-chat, base_url: \"http://{other}/v1\" }}\n\
         models:\n  m: {{ hedge: {{ after: 20ms, budget: 1 }}, targets: [{{ provider: a, model: n3-f1500 }}, {{ provider: b, model: n3 }}] }}\n",
        hex(&streamgate::config::digest(KEY)),
    ))
    .await;
    let chat = language("openai-chat");
    for number in 1..=10 {
        let response = send(&gateway, chat, "m", true).await;
        let target = if number <= 8 { "b/n3" } else { "a/n3-f1500" };
        assert_eq!(response.headers()["x-streamgate-target"], target, "request {number}");
        assert_eq!(text(chat, response).await, "t0 t1 t2 ");
    }
}

/// R21: a limit that has nothing left is respected before it refuses anything.
#[tokio::test]
async fn r21_a_limit_without_a_rest_is_respected_ahead() {
    let gateway = gateway("n5-left0", "sim").await;
    for target in ["openai-chat/n5-left0", "ok/n3", "ok/n3"] {
        let chat = language("openai-chat");
        let response = send(&gateway, chat, "m-openai-chat", true).await;
        assert_eq!(response.headers()["x-streamgate-target"], target);
        text(chat, response).await;
    }
}

/// R2: prompts that are too long and content filters are the caller's, in every dialect.
#[tokio::test]
async fn r02_what_the_caller_causes_is_no_targets_fault() {
    for (words, moves) in [("policy", false), ("n5-ctx1", true)] {
        let gateway = gateway(words, "sim").await;
        for dialect in DIALECTS.iter().filter(|dialect| dialect.name() != "bedrock") {
            for _ in 0..6 {
                let chat = language("openai-chat");
                let response = send(&gateway, chat, &format!("m-{}", dialect.name()), true).await;
                let what = format!("{words} at {}: {}", dialect.name(), response.status());
                // A target of unknown context may hold a longer prompt.
                assert_eq!(response.status() == 200, moves, "{what}");
            }
        }
        assert_eq!(crate::streaming::count(&gateway, "streamgate_target_ejected{"), "0", "{words}");
    }
}

/// Conditions decide which targets a request may go to, and a request that none takes is the caller's to change.
#[tokio::test]
async fn conditions_of_targets_are_about_the_request() {
    let mut yaml = providers(upstream().await, "sim");
    yaml += "models:\n  m:\n    targets:\n      - { provider: openai-chat, model: n1, when: 'tools' }\n      \
             - { provider: openai-chat, model: n2, when: \"caller == 'test' && input_tokens > 500\" }\n      \
             - { provider: openai-chat, model: n3, when: \"stream && dialect == 'openai-chat'\" }\n";
    let gateway = Gateway::new(&yaml).await;
    let tools =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    for (stream, text, tools, model) in [
        (true, "hi".to_owned(), json!([]), Some("n3")),
        (true, "hi".to_owned(), tools.clone(), Some("n1")),
        (false, "word ".repeat(1000), json!(null), Some("n2")),
        // Large enough for another thread.
        (false, "word ".repeat(100_000), tools, Some("n1")),
        (false, "hi".to_owned(), json!(null), None),
    ] {
        let body = json!({
            "model": "m", "stream": stream, "tools": tools,
            "messages": [{"role": "user", "content": text}],
        });
        let response =
            gateway.post("/v1/chat/completions", &body.to_string()).send().await.unwrap();
        if let Some(model) = model {
            assert_eq!(response.status(), 200, "{model}");
            let target = format!("openai-chat/{model}");
            assert_eq!(response.headers()["x-streamgate-target"], target.as_str());
            continue;
        }
        assert_eq!(response.status(), 400);
        let error: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("no target of `m` takes such a request"), "{message}");
        assert_eq!(error["error"]["param"], "model");
    }
}
/// An upstream that takes four answers at once refuses one request, in every dialect; all others go to the next target at
/// once, until one of the four has ended.
#[tokio::test]
async fn a_busy_upstream_teaches_its_limit() {
    for dialect in DIALECTS {
        let (words, name) = ("n100000-i100000-cap4", dialect.name());
        let gateway = gateway(words, "sim").await;
        let (chat, model) = (language("openai-chat"), format!("m-{name}"));
        let mut open = Vec::new();
        for number in 0..10 {
            let response = send(&gateway, chat, &model, true).await;
            let target = response.headers()["x-streamgate-target"].to_str().unwrap().to_owned();
            if number < 4 {
                assert_eq!(target, format!("{name}/{words}"));
                open.push(response);
            } else {
                assert_eq!(target, "ok/n3", "{name}");
                let attempts = response.headers().get("x-streamgate-attempts");
                assert_eq!(attempts.is_some(), number == 4, "{name}: one is refused, {attempts:?}");
                assert_eq!(text(chat, response).await, "t0 t1 t2 ", "{name}");
            }
        }
        let (health, now) = (&gateway.app.health, tokio::time::Instant::now());
        health.measure(now);
        let status = health.status(now).into_iter();
        let limits: Vec<_> = status.filter_map(|target| target.learned_limit).collect();
        assert_eq!(limits, [4, 4], "{name}: of its model, and of models that callers name");
        let limit = format!("streamgate_target_learned_limit{{target=\"{name}/*\"}}");
        assert_eq!(crate::streaming::count(&gateway, &limit), "4");
    }
}

/// With no other target, the upstream decides: what it has refused once, it may take now.
#[tokio::test]
async fn a_lone_target_at_its_learned_limit_is_asked() {
    let chat = language("openai-chat");
    let mut yaml = providers(upstream().await, "sim");
    writeln!(
        yaml,
        "models:\n  m: {{ retry: {{ same_target: 0 }}, targets: [{{ provider: openai-chat, model: n100000-i100000-cap4 }}] }}"
    )
    .unwrap();
    let gateway = Gateway::new(&yaml).await;
    let (mut open, mut statuses) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let response = send(&gateway, chat, "m", true).await;
        statuses.push(response.status().as_u16());
        open.push(response);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429, 429, 429]);
    assert_eq!(crate::streaming::count(&gateway, "streamgate_upstream_errors_total{"), "4");
}
