//! Names that are there twice, hosted tools beside functions, and efforts.

use serde_json::{Value, json};

use super::{asked, others, sent};

fn function(name: &str) -> Value {
    json!({ "type": "function", "name": name, "parameters": { "type": "object", "properties": {} } })
}

#[test]
fn a_name_is_there_once() {
    let chat = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }], "tools": [chat("f"), chat("g"), chat("f")] });
    for upstream in others("openai-chat") {
        let (body, dropped) = sent("openai-chat", &body, upstream, "m");
        assert_eq!(body.to_string().matches(r#""name":"f""#).count(), 1, "{upstream}: {body}");
        assert_eq!(dropped, ["tools"]);
    }
}

#[test]
fn a_function_beside_a_hosted_tool_of_its_name_has_another_one() {
    let body = json!({ "input": [
        { "role": "user", "content": "hi" },
        { "type": "function_call", "call_id": "c1", "name": "web_search", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "c1", "output": "r" },
    ], "tools": [function("web_search"), { "type": "web_search" }], "tool_choice": { "type": "function", "name": "web_search" } });
    let written = asked("openai-responses", &body, "anthropic", "m").unwrap();
    let body: Value = serde_json::from_str(&written.body).unwrap();
    let (name, own) = written.names.iter().next().unwrap();
    assert!(own == "web_search" && name.starts_with("web_search_"), "{name} {own}");
    assert_eq!(body["tools"][0]["name"], json!(name), "{body}");
    assert_eq!(body["tools"][1]["name"], "web_search", "{body}");
    assert_eq!(body["messages"][1]["content"][0]["name"], json!(name), "{body}");
    assert_eq!(body["tool_choice"]["name"], json!(name), "{body}");
    // Without the hosted one it keeps its own.
    let alone = json!({ "input": "hi", "tools": [function("web_search")] });
    let (body, _) = sent("openai-responses", &alone, "anthropic", "m");
    assert_eq!(body["tools"][0]["name"], "web_search");
}

#[test]
fn a_hosted_tool_is_there_once() {
    let bounded =
        json!({ "type": "web_search", "filters": { "allowed_domains": ["example.org"] } });
    let body = json!({ "input": "hi", "tools": [{ "type": "web_search" }, bounded, { "type": "code_interpreter", "container": { "type": "auto" } }, { "type": "web_search" }] });
    let (body, dropped) = sent("openai-responses", &body, "anthropic", "m");
    assert_eq!(body["tools"].as_array().unwrap().len(), 2, "{body}");
    assert_eq!(
        body["tools"][0]["allowed_domains"],
        json!(["example.org"]),
        "the bound is kept: {body}"
    );
    assert_eq!(dropped, ["tools[1] web_search", "tools[3] web_search"]);
    let body = json!({ "contents": { "parts": { "text": "hi" } }, "tools": [{ "googleSearch": {} }, { "google_search": {} }] });
    let (body, dropped) = sent("gemini", &body, "anthropic", "m");
    assert_eq!(body["tools"].as_array().unwrap().len(), 1, "{body}");
    assert!(dropped.is_empty(), "the same tool is not left out: {dropped:?}");
}

#[test]
fn a_forced_search_beside_functions_stands_alone_before_gemini() {
    let body = json!({ "input": "hi", "tools": [function("f"), { "type": "web_search" }], "tool_choice": { "type": "web_search" } });
    let (body, dropped) = sent("openai-responses", &body, "gemini", "gemini-3-flash");
    assert_eq!(body["tools"], json!([{ "googleSearch": {} }]), "{body}");
    assert!(body["contents"].to_string().contains("Search the web before you answer."), "{body}");
    assert_eq!(dropped, ["tools", "tool_choice"]);
    let fault = asked(
        "openai-responses",
        &json!({ "input": "hi", "tools": [function("f"), { "type": "file_search", "vector_store_ids": ["v"] }], "tool_choice": { "type": "file_search" } }),
        "gemini",
        "m",
    );
    assert!(fault.is_err(), "what has no equivalent is still rejected");
}

#[test]
fn efforts_are_those_of_the_model() {
    let body = |effort: &str| json!({ "reasoning_effort": effort, "messages": [{ "role": "user", "content": "hi" }] });
    let level = |model: &str, effort: &str| {
        let (body, _) = sent("openai-chat", &body(effort), "gemini", model);
        body["generationConfig"]["thinkingConfig"]["thinkingLevel"]
            .as_str()
            .unwrap_or("-")
            .to_owned()
    };
    for (model, expected) in [
        ("gemini-3-pro-preview", ["LOW", "LOW", "LOW", "LOW", "HIGH", "HIGH"]),
        ("gemini-3.1-pro-preview", ["LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH"]),
        ("gemini-3-flash-preview", ["MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH"]),
        ("gemini-3.1-flash-lite", ["MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH"]),
        ("gemini-3.7-flash", ["LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH"]),
    ] {
        let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];
        assert_eq!(efforts.map(|effort| level(model, effort)), expected, "{model}");
    }
    for (upstream, model, expected) in [
        ("ollama", "llama3.2:3b", json!(null)),
        ("ollama", "qwen2.5-coder", json!(null)),
        ("ollama", "qwen3:8b", json!(true)),
        ("ollama", "qwen3-coder:30b", json!(null)),
        ("ollama", "deepseek-r1:7b", json!(true)),
        ("ollama", "gpt-oss:20b", json!("high")),
        ("ollama", "my-model", json!("high")),
        ("cohere", "command-r-plus-08-2024", json!(null)),
        ("cohere", "command-a-03-2025", json!(null)),
        ("cohere", "command-a-reasoning-08-2025", json!("enabled")),
        ("cohere", "command-a-plus-05-2026", json!("enabled")),
    ] {
        let (body, dropped) = sent("openai-chat", &body("high"), upstream, model);
        let said =
            body.get("think").or_else(|| body.pointer("/thinking/type")).unwrap_or(&Value::Null);
        assert_eq!(*said, expected, "{model}: {body}");
        assert_eq!(dropped.is_empty(), !expected.is_null(), "{model}: {dropped:?}");
    }
}
