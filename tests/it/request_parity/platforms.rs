//! Claude on Bedrock and Vertex AI in the caller's own dialect: without what the platform refuses.

use serde_json::{Value, json};
use streamgate::wire::dialect::Hosting;

use super::passed;

fn ask(tools: Value) -> Value {
    json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }], "tools": tools })
}

#[test]
fn hosted_tools_that_the_platform_does_not_run_are_left_out() {
    let search = json!({ "type": "web_search_20250305", "name": "web_search" });
    let fetch = json!({ "type": "web_fetch_20250910", "name": "web_fetch" });
    let function = json!({ "name": "f", "input_schema": { "type": "object", "properties": {} } });
    let tools = json!([search, function, fetch]);
    for (hosting, kept, dropped) in [
        (
            Hosting::Bedrock,
            json!([function]),
            ["tools[0] web_search_20250305", "tools[2] web_fetch_20250910"].as_slice(),
        ),
        (Hosting::Vertex, json!([search, function]), &["tools[2] web_fetch_20250910"]),
    ] {
        let written = passed(&ask(tools.clone()), hosting, None).unwrap();
        let body: Value = serde_json::from_str(&written.body).unwrap();
        assert_eq!(body["tools"], kept, "{body}");
        assert_eq!(written.dropped, dropped);
    }
    // Nothing else could be called: the answer would pretend to a search.
    let fault = passed(&ask(json!([search])), Hosting::Bedrock, None).unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("tools[0]"));
    assert!(passed(&ask(json!([search])), Hosting::Vertex, None).is_ok());
    let mut forced = ask(json!([search, function]));
    forced["tool_choice"] = json!({ "type": "tool", "name": "web_search" });
    assert!(passed(&forced, Hosting::Bedrock, None).is_err());
    // Deferred tools are found by it.
    let found = json!([{ "type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex" }, function]);
    let written = passed(&ask(found.clone()), Hosting::Bedrock, None).unwrap();
    let body: Value = serde_json::from_str(&written.body).unwrap();
    assert_eq!((&body["tools"], written.dropped.len()), (&found, 0));
    let plain = ask(json!([function]));
    let written = passed(&plain, Hosting::Bedrock, None).unwrap();
    assert!(written.dropped.is_empty());
}

#[test]
fn members_of_beta_features_that_are_not_taken_are_left_out() {
    let mut body = ask(json!([]));
    for (name, value) in [
        ("speed", json!("fast")),
        ("mcp_servers", json!([{ "type": "url", "name": "n", "url": "https://example.org" }])),
        ("container", json!("c1")),
        ("context_management", json!({ "edits": [{ "type": "compact_20260112" }] })),
        ("betas", json!(["fast-mode-2026-02-01"])),
        ("fallbacks", json!("default")),
    ] {
        body[name] = value;
    }
    for hosting in [Hosting::Bedrock, Hosting::Vertex] {
        let written = passed(&body, hosting, Some(Vec::new()));
        // MCP servers are hosted tools, and there is nothing else to call.
        assert_eq!(written.unwrap_err().param.as_deref(), Some("mcp_servers"));
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove("mcp_servers");
        let written = passed(&body, hosting, Some(Vec::new())).unwrap().body;
        for name in ["speed", "container", "context_management", "betas", "fallbacks"] {
            assert!(!written.contains(name), "{name}: {written}");
        }
        let taken = ["fast-mode-2026-02-01", "compact-2026-01-12"].map(str::to_owned).to_vec();
        let written = passed(&body, hosting, Some(taken)).unwrap().body;
        assert!(written.contains("speed") && written.contains("context_management"), "{written}");
    }
}
