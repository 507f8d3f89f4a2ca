//! Requests that are fitted to their upstream, over HTTP: what of them is left out is named, names of
//! tools come back, and the operator's settings hold in the caller's own dialect, too.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, KEY, hex};
use crate::support::upstream::{Step, Upstream};

/// A gateway in front of one upstream, which gives this answer; `more`: fields of its provider.
async fn gateway(provider: &str, script: Vec<Step>) -> (Upstream, Gateway) {
    let upstream = Upstream::new(script).await;
    let yaml = format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {} }}\nproviders:\n  p: {{ base_url: \"{}/v1\", api_key: up-canary, {provider} }}\n\
         models:\n  aimed: {{ targets: [{{ provider: p, model: m, max_output: 50, drop: [top_p], set: {{ seed: 7 }} }}] }}\n",
        hex(&streamgate::config::digest(KEY)),
        upstream.url,
    );
    let gateway = Gateway::new(&yaml).await;
    (upstream, gateway)
}

async fn sent(upstream: &Upstream) -> Value {
    let requests = upstream.requests().await;
    serde_json::from_slice(&requests.last().expect("a request").body).expect("JSON")
}

const LONG: &str = "mcp__plugin_deploy_on_cloud__get_pre_deploy_validation_instructions_for_stack";
const SHORT: &str = "mcp__plugin_deploy_on_cloud__get_pre_deploy_validation__04ab77ec";

/// A stream with a call of the tool.
fn calls() -> Vec<Step> {
    let call = json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "id": "t1", "type": "function",
            "function": { "name": SHORT, "arguments": "{}" } }] }, "finish_reason": "tool_calls" }] });
    vec![Step::Sse, Step::chunk(&format!("data: {call}\n\ndata: [DONE]\n\n")), Step::End]
}

#[tokio::test]
async fn a_long_name_of_a_tool_comes_back() {
    let (upstream, gateway) = gateway("dialect: openai-chat", calls()).await;
    for stream in [true, false] {
        let ask = json!({ "model": "p/m", "max_tokens": 9, "stream": stream,
            "messages": [{ "role": "user", "content": "hi" }],
            "tools": [{ "name": LONG, "input_schema": { "type": "object" } }] });
        let response = gateway.post("/v1/messages", &ask.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        assert!(text.contains(LONG) && !text.contains(SHORT), "{text}");
        assert_eq!(sent(&upstream).await["tools"][0]["function"]["name"], SHORT);
    }
}

#[tokio::test]
async fn hints_that_are_dropped_are_named_or_rejected() {
    let (upstream, gateway) = gateway("dialect: openai-chat", calls()).await;
    let ask = json!({ "model": "p/m", "max_tokens": 9, "top_k": 5, "messages": [{ "role": "user", "content": "hi" }] });
    let response = gateway.post("/v1/messages", &ask.to_string()).send().await.unwrap();
    assert_eq!(response.headers()["x-streamgate-dropped"], "top_k");
    let strict = gateway.post("/v1/messages", &ask.to_string()).header("streamgate-strict", "true");
    let response = strict.send().await.unwrap();
    assert_eq!(response.status(), 400);
    let text = response.text().await.unwrap();
    assert!(text.contains("`top_k`"), "{text}");
    assert_eq!(upstream.requests().await.len(), 1, "refused before it is sent");
    let plain = json!({ "model": "p/m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    let response = gateway.post("/v1/messages", &plain.to_string()).send().await.unwrap();
    assert!(response.headers().get("x-streamgate-dropped").is_none());
}

#[tokio::test]
async fn settings_hold_in_the_callers_own_dialect() {
    let provider = "dialect: openai-chat, drop: [user], system_messages: first";
    let (upstream, gateway) = gateway(provider, calls()).await;
    let ask = json!({ "model": "aimed", "stream": true, "max_tokens": 900, "user": "u", "top_p": 0.5, "messages": [
        { "role": "user", "content": "hi" }, { "role": "system", "content": "late" } ] });
    let response = gateway.post("/v1/chat/completions", &ask.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body = sent(&upstream).await;
    assert!(body.get("user").is_none() && body.get("top_p").is_none(), "{body}");
    assert_eq!((&body["max_tokens"], &body["seed"]), (&json!(50), &json!(7)));
    let said = "hi\n\n<system-reminder>\nlate\n</system-reminder>";
    assert_eq!(body["messages"], json!([{ "role": "user", "content": said }]));
}

#[tokio::test]
async fn a_platform_gets_the_beta_features_that_it_takes() {
    for (provider, header) in [
        ("dialect: anthropic, hosting: vertex", true),
        ("dialect: anthropic, hosting: bedrock", false),
        ("dialect: anthropic, betas: [interleaved-thinking-2025-05-14]", true),
    ] {
        let (upstream, gateway) =
            gateway(provider, vec![Step::Whole(400, "", b"{}".to_vec())]).await;
        let mark = json!({ "type": "ephemeral", "scope": "global" });
        let ask = json!({ "model": "p/m", "max_tokens": 9, "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "hi", "cache_control": mark } ] }] });
        let betas =
            "claude-code-20250219, interleaved-thinking-2025-05-14,prompt-caching-scope-2026-01-05";
        let post = gateway.post("/v1/messages", &ask.to_string()).header("anthropic-beta", betas);
        post.send().await.unwrap();
        let body = sent(&upstream).await;
        assert_eq!(
            body["messages"][0]["content"][0]["cache_control"],
            json!({ "type": "ephemeral" })
        );
        let head = upstream.requests().await[0].head.to_ascii_lowercase();
        assert!(
            !head.contains("claude-code") && !body.to_string().contains("claude-code"),
            "{head}"
        );
        let named = head.contains("anthropic-beta: interleaved-thinking-2025-05-14\r\n");
        assert!(named || !header, "{provider}: {head}");
        if !header {
            assert_eq!(body["anthropic_beta"], json!(["interleaved-thinking-2025-05-14"]));
        }
    }
}
