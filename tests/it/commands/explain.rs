//! `streamgate explain`: the targets of a model in order, the ones that are left out, and errors as a caller gets them.

use serde_json::{Value, json};

use super::{Folder, alone, run};
use crate::support::gateway::yaml;

const MODELS: &str = "models:
  chat:
    pick: weighted
    targets:
      - { provider: oai, model: a, weight: 3, context: 1000 }
      - { provider: ant, model: b }
      - { provider: oai, model: c, tier: 2, first_token: 2s }
      - { provider: ant, model: tools, tier: 3, when: 'tools && !stream' }
    attempts: 4
    hedge: {}
    affinity: session
    fallback: { context: [{ provider: ant, model: large }], on_status: [422] }
";

async fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let text = yaml("http://127.0.0.1:9", "http://127.0.0.1:9", MODELS);
    let file = folder.write("config.yaml", &text);
    let long =
        json!({"model": "chat", "messages": [{"role": "user", "content": "word ".repeat(2000)}]});
    let request = folder.write("request.json", &long.to_string());
    let arguments: Vec<&str> =
        arguments.iter().map(|word| if *word == "REQUEST" { &request } else { *word }).collect();
    run(alone(&[&["explain", &file], &arguments[..]].concat(), &[])).await
}

#[tokio::test]
async fn the_targets_of_a_model_are_explained_in_order() {
    let (status, out, err) = explain(&["--model", "chat"]).await;
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    for line in [
        "chat: pick weighted, affinity session",
        "oai/a, 75 % of the requests, context 1000",
        "ant/b, 25 % of the requests",
        "tier 2, when no target before it can serve",
        "oai/c, 100 % of the requests, first token within 2 s",
        "ant/tools, 100 % of the requests, when tools && !stream",
        "at most 4 upstream requests, 0 of them retries at the same target",
        "hedged: a second target is asked while the first one is silent",
        "after a prompt that is too long: ant/large",
        "the next target also after status: 422",
    ] {
        assert!(lines.contains(&line), "no {line:?} in {out}");
    }
    assert!(!out.contains("canary"), "{out}");
}

#[tokio::test]
async fn targets_that_a_request_does_not_fit_into_are_left_out() {
    let (status, out, _) = explain(&["--request", "REQUEST", "--json"]).await;
    assert_eq!(status, Some(0));
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        found["left_out"],
        json!([
            {"target": "ant/tools", "reason": "its condition does not hold: tools && !stream"},
            {"target": "oai/a", "reason": "its context of 1000 is too small for the request"},
        ])
    );
    assert_eq!(found["tiers"][0][0]["target"], "ant/b");
    assert!(found["input_tokens"].as_u64().unwrap() > 2000, "{found}");
    let (_, out, _) = explain(&["--request", "REQUEST"]).await;
    assert!(
        out.contains("left out: oai/a: its context of 1000 is too small for the request"),
        "{out}"
    );
}

#[tokio::test]
async fn what_cannot_be_explained_is_an_error_with_its_remedy() {
    for (arguments, words) in [
        (&["--model", "caht"][..], "did you mean `chat`?"),
        (&["--model", "chat", "--key", "nobody"], "--key is nobody; expected one of"),
        (&["--request", "REQUEST", "--dialect", "morse"], "expected one of openai-chat"),
        (&["--request", "REQUEST", "--dialect", "gemini"], "name it with --model"),
        (&["--request", "/nowhere/request.json"], "cannot be read"),
        (&[], "--model <NAME>"),
    ] {
        let (status, out, err) = explain(arguments).await;
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
}
