//! Tests of hosted tools as written for every upstream.

use serde_json::{Value, json};

use super::super::settings::{HostedTools, Settings};
use super::super::{pass, write};
use super::{asked, sent, written};
use crate::chat::ApiError;
use crate::dialect::{Form, Hosting, Quirks, Target, by_name, caller_dialects};

/// A question with tools, in a caller's dialect. `function` adds a function.
fn question(caller: &str, tool: &Value, function: bool) -> Value {
    let mut tools = vec![tool.clone()];
    let parameters = json!({ "type": "object", "properties": {} });
    match caller {
        "anthropic" => {
            tools.extend(function.then(|| json!({ "name": "f", "input_schema": parameters })));
            json!({ "max_tokens": 99, "tools": tools, "messages": [{ "role": "user", "content": "q" }] })
        }
        "gemini" => {
            let declared = json!({ "functionDeclarations": [{ "name": "f" }] });
            tools.extend(function.then_some(declared));
            json!({ "tools": tools, "contents": [{ "role": "user", "parts": [{ "text": "q" }] }] })
        }
        "openai-chat" => {
            let declared = json!({ "type": "function", "function": { "name": "f", "parameters": parameters } });
            tools.extend(function.then_some(declared));
            json!({ "tools": tools, "messages": [{ "role": "user", "content": "q" }] })
        }
        _ => {
            let declared = json!({ "type": "function", "name": "f", "parameters": parameters });
            tools.extend(function.then_some(declared));
            json!({ "tools": tools, "input": "q" })
        }
    }
}

fn settled(hosted_tools: HostedTools) -> Quirks {
    let settings = Settings { hosted_tools, ..Settings::default() };
    Quirks { settings, ..Quirks::default() }
}

fn rejected(caller: &str, body: &Value, upstream: &str, quirks: &Quirks) -> ApiError {
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks };
    let upstream = by_name(upstream).unwrap();
    write(&mut asked(caller, body), upstream, &target, false).unwrap_err()
}

#[test]
fn a_tool_becomes_its_equivalent() {
    let claude = |kind: &str, name: &str| json!({ "type": kind, "name": name });
    let search = claude("web_search_20250305", "web_search");
    let fetch = claude("web_fetch_20250910", "web_fetch");
    let code = claude("code_execution_20250825", "code_execution");
    let interpreter = json!({ "type": "code_interpreter", "container": { "type": "auto" } });
    for (caller, tool, upstream, expected) in [
        ("anthropic", &search, "openai-responses", json!({ "type": "web_search" })),
        ("anthropic", &search, "gemini", json!({ "googleSearch": {} })),
        ("anthropic", &fetch, "gemini", json!({ "urlContext": {} })),
        ("anthropic", &code, "openai-responses", interpreter.clone()),
        ("anthropic", &code, "gemini", json!({ "codeExecution": {} })),
        ("openai-responses", &json!({ "type": "web_search_preview" }), "anthropic", search.clone()),
        ("openai-responses", &interpreter, "anthropic", code.clone()),
        (
            "openai-responses",
            &json!({ "type": "web_search" }),
            "gemini",
            json!({ "googleSearch": {} }),
        ),
        ("gemini", &json!({ "google_search": {} }), "anthropic", search.clone()),
        ("gemini", &json!({ "urlContext": {} }), "anthropic", fetch.clone()),
        ("gemini", &json!({ "codeExecution": {} }), "openai-responses", interpreter.clone()),
        ("openai-chat", &json!({ "type": "web_search" }), "anthropic", search.clone()),
    ] {
        let (body, written) = sent(caller, &question(caller, tool, false), upstream, "m");
        assert_eq!(body["tools"], json!([expected]), "{caller} {tool} to {upstream}");
        assert!(written.dropped.is_empty(), "{:?}", written.dropped);
    }
}

#[test]
fn bounds_of_a_search_go_along() {
    let place = json!({ "type": "approximate", "country": "DE", "city": "Ulm" });
    let tool = json!({ "type": "web_search_20250305", "name": "web_search", "max_uses": 3,
        "blocked_domains": ["a.example"], "user_location": place });
    let (body, written) =
        sent("anthropic", &question("anthropic", &tool, false), "openai-responses", "gpt-5");
    let expected = json!({ "type": "web_search", "filters": { "blocked_domains": ["a.example"] },
        "user_location": place });
    assert_eq!((&body["tools"][0], &body["max_tool_calls"]), (&expected, &json!(3)));
    assert_eq!(body["include"], json!(["web_search_call.action.sources"]));
    assert!(written.dropped.is_empty());

    let tool = json!({ "type": "web_search", "search_context_size": "high", "user_location": place,
        "filters": { "allowed_domains": ["b.example"] } });
    let (body, written) = sent(
        "openai-responses",
        &question("openai-responses", &tool, true),
        "anthropic",
        "claude-sonnet-4-5",
    );
    let expected = json!({ "type": "web_search_20250305", "name": "web_search",
        "allowed_domains": ["b.example"], "user_location": place });
    assert_eq!(body["tools"][1], expected, "{body}");
    assert_eq!(written.dropped, ["tools[0].search_context_size"]);

    // The vendor's search models accept no tools and always search.
    let options = json!({ "search_context_size": "low",
        "user_location": { "type": "approximate", "approximate": { "country": "DE" } } });
    let tool = json!({ "type": "web_search", "search_context_size": "low",
        "user_location": { "type": "approximate", "country": "DE" } });
    let asked = question("openai-responses", &tool, false);
    let (body, _) = sent("openai-responses", &asked, "openai-chat", "gpt-4o-search-preview");
    assert_eq!(body["web_search_options"], options);
    assert!(body.get("tools").is_none());
}

#[test]
fn a_bound_that_cannot_be_kept_means_no_search() {
    let bounded = json!({ "type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.example"] });
    let cached = json!({ "type": "web_search", "external_web_access": false });
    for (caller, tool, upstream, label) in [
        ("anthropic", &bounded, "gemini", "tools[0] web_search_20250305"),
        ("openai-responses", &cached, "anthropic", "tools[0] web_search"),
        ("openai-responses", &cached, "openai-chat", "tools[0] web_search"),
    ] {
        let fault = rejected(caller, &question(caller, tool, false), upstream, &Quirks::default());
        assert_eq!(fault.param.as_deref(), Some("tools[0]"), "{}", fault.message);
        let (body, written) = sent(caller, &question(caller, tool, true), upstream, "m");
        assert_eq!(written.dropped, [label]);
        assert!(!body.to_string().contains("web_search"), "{body}");
    }
}

#[test]
fn beside_functions_what_nobody_runs_is_left_out_and_named() {
    for (caller, tool, label) in [
        (
            "anthropic",
            json!({ "type": "web_fetch_20260209", "name": "web_fetch" }),
            "tools[0] web_fetch_20260209",
        ),
        (
            "anthropic",
            json!({ "type": "mcp_toolset", "mcp_server_name": "m" }),
            "tools[0] mcp_toolset",
        ),
        (
            "openai-responses",
            json!({ "type": "file_search", "vector_store_ids": ["v"] }),
            "tools[0] file_search",
        ),
        ("openai-responses", json!({ "type": "image_generation" }), "tools[0] image_generation"),
        (
            "openai-responses",
            json!({ "type": "code_interpreter", "container": "cntr_1" }),
            "tools[0] code_interpreter",
        ),
        ("gemini", json!({ "googleSearchRetrieval": {} }), "tools[0].googleSearchRetrieval"),
        ("gemini", json!({ "google_maps": {} }), "tools[0].googleMaps"),
        (
            "openai-chat",
            json!({ "type": "openrouter:web_search" }),
            "tools[0] openrouter:web_search",
        ),
    ] {
        for upstream in ["ollama", "cohere", "bedrock", "openai-chat"] {
            if upstream == caller {
                continue;
            }
            let (body, written) = sent(caller, &question(caller, &tool, true), upstream, "m");
            let left_out: Vec<_> =
                written.dropped.iter().filter(|name| name.starts_with("tools")).collect();
            assert_eq!(left_out, [label], "{upstream}");
            assert!(body.to_string().contains("\"f\""), "{body}");

            let fault =
                rejected(caller, &question(caller, &tool, false), upstream, &Quirks::default());
            let place = label.split(' ').next().unwrap();
            assert_eq!(fault.param.as_deref(), Some(place), "{}", fault.message);
            let name = label.rsplit([' ', '.']).next().unwrap();
            assert!(fault.message.contains(name) && fault.message.contains("hosted_tools: drop"));
        }
    }
    // Gemini accepts them beside functions only if their calls are sent back, which callers do not do.
    let search = json!({ "type": "web_search" });
    let asked = question("openai-responses", &search, true);
    let (body, written) = sent("openai-responses", &asked, "gemini", "gemini-2.5-pro");
    assert!(
        body["tools"][0].get("functionDeclarations").is_some() && body["tools"].get(1).is_none()
    );
    assert_eq!(written.dropped, ["tools[0] web_search"]);
}

#[test]
fn what_only_tunes_is_left_out() {
    let mut body = json!({ "messages": [{ "role": "user", "content": "q" }], "functions": [], "web_search_options": {} });
    let (sent_body, written) = sent("openai-chat", &body, "ollama", "m");
    assert!(sent_body.get("web_search_options").is_none());
    assert_eq!(written.dropped, ["web_search_options"]);
    let (sent_body, _) = sent("openai-chat", &body, "anthropic", "m");
    assert_eq!(sent_body["tools"][0]["type"], "web_search_20250305");
    body["web_search_options"] = Value::Null;
    assert!(sent("openai-chat", &body, "ollama", "m").1.dropped.is_empty());
    let container = json!({ "max_tokens": 9, "container": "c1", "messages": [{ "role": "user", "content": "q" }] });
    assert_eq!(sent("anthropic", &container, "gemini", "m").1.dropped, ["container"]);
}

#[test]
fn a_demanded_tool_is_demanded_or_the_request_is_rejected() {
    let search = json!({ "type": "web_search_20250305", "name": "web_search" });
    let demanded = |choice: Value, function: bool| {
        let mut body = question("anthropic", &search, function);
        body["tool_choice"] = choice;
        body
    };
    let named = json!({ "type": "tool", "name": "web_search" });
    for choice in [named.clone(), json!({ "type": "any" })] {
        let asked = demanded(choice, false);
        let (body, _) = sent("anthropic", &asked, "openai-responses", "gpt-5");
        assert_eq!(body["tool_choice"], json!({ "type": "web_search" }));
        let (body, written) = sent("anthropic", &asked, "gemini", "gemini-2.5-flash");
        assert!(body.to_string().contains("Search the web before you answer."), "{body}");
        assert!(body.get("toolConfig").is_none());
        assert_eq!(written.dropped, ["tool_choice"]);
        let fault = rejected("anthropic", &asked, "ollama", &Quirks::default());
        assert!(fault.message.contains("`tool_choice` demands it"), "{}", fault.message);
        let fault = rejected("anthropic", &asked, "openai-responses", &settled(HostedTools::Drop));
        assert_eq!(fault.param.as_deref(), Some("tools[0]"));
    }
    rejected("anthropic", &demanded(named, true), "cohere", &Quirks::default());
    let none = demanded(json!({ "type": "none" }), true);
    assert!(sent("anthropic", &none, "openai-chat", "m").1.dropped.is_empty());

    let mut body = question("openai-responses", &json!({ "type": "web_search_2025_08_26" }), true);
    body["tool_choice"] = json!({ "type": "web_search" });
    let (written_body, _) = sent("openai-responses", &body, "anthropic", "m");
    assert_eq!(written_body["tool_choice"], json!({ "type": "tool", "name": "web_search" }));
    let allowed = json!([{ "type": "function", "name": "f" }]);
    body["tool_choice"] = json!({ "type": "allowed_tools", "mode": "auto", "tools": allowed });
    let (written_body, written) = sent("openai-responses", &body, "anthropic", "m");
    assert_eq!(written_body["tools"].as_array().map(Vec::len), Some(1), "{written_body}");
    assert!(written.dropped.is_empty());
}

#[test]
fn platforms_run_what_they_have() {
    let asked = question(
        "openai-responses",
        &json!({ "type": "code_interpreter", "container": { "type": "auto" } }),
        true,
    );
    let search = question("openai-responses", &json!({ "type": "web_search" }), true);
    for (hosting, search_runs) in [(Hosting::Bedrock, false), (Hosting::Vertex, true)] {
        let quirks = Quirks { hosting: Some(hosting), ..Quirks::default() };
        let name = "claude-sonnet-4-5";
        let (body, written_code) =
            written(super::asked("openai-responses", &asked), "anthropic", name, &quirks);
        assert!(!body.to_string().contains("code_execution"));
        assert_eq!(written_code.dropped, ["tools[0] code_interpreter"]);
        let (body, _) =
            written(super::asked("openai-responses", &search), "anthropic", name, &quirks);
        assert_eq!(body.to_string().contains("web_search_20250305"), search_runs, "{hosting:?}");
    }
}

#[test]
fn the_operator_decides_in_the_same_dialect_too() {
    for (caller, body, rest, labels) in [
        (
            "openai-responses",
            r#"{"model":"m", "tools": [{"type":"web_search"}, {"type":"function","name":"f"}],"input":"q"}"#,
            r#"{"model":"m", "tools": [{"type":"function","name":"f"}],"input":"q"}"#,
            vec!["tools[0] web_search"],
        ),
        (
            "openai-responses",
            r#"{"model":"m","tools":[{"type":"web_search"}],"tool_choice":"auto","input":"q"}"#,
            r#"{"model":"m","input":"q"}"#,
            vec!["tools[0] web_search"],
        ),
        (
            "anthropic",
            r#"{"model":"m","mcp_servers":[{"type":"url"}],"tools":[{"name":"f","input_schema":{}}, {"type":"web_search_20250305","name":"web_search"}]}"#,
            r#"{"model":"m","tools":[{"name":"f","input_schema":{}}]}"#,
            vec!["tools[1] web_search_20250305", "mcp_servers"],
        ),
        (
            "gemini",
            r#"{"contents":[],"tools":[{"googleSearch":{}, "functionDeclarations":[{"name":"f"}]}]}"#,
            r#"{"contents":[],"tools":[{ "functionDeclarations":[{"name":"f"}]}]}"#,
            vec!["tools[0].googleSearch"],
        ),
        (
            "openai-chat",
            r#"{"model":"m","web_search_options":{},"messages":[]}"#,
            r#"{"model":"m","messages":[]}"#,
            vec!["web_search_options"],
        ),
    ] {
        let dialect = by_name(caller).unwrap();
        let speaker = caller_dialects().find(|dialect| dialect.name() == caller).unwrap();
        let passed = |setting: HostedTools, strict: bool| {
            let quirks = Quirks { stream_options: false, ..settled(setting) };
            let target = Target { model: "m", stream: false, form: Form::Chat, quirks: &quirks };
            pass(body, (speaker, dialect), &target, strict, &|_| None)
        };
        let kept = passed(HostedTools::Map, true).unwrap();
        assert_eq!((kept.body.as_str(), kept.dropped.len()), (body, 0), "{caller}");
        let dropped = passed(HostedTools::Drop, false).unwrap();
        assert_eq!(
            (dropped.body.as_str(), &dropped.dropped),
            (rest, &labels.iter().map(|label| (*label).into()).collect())
        );
        let place = labels[0].split(' ').next();
        let strict = passed(HostedTools::Drop, true).unwrap_err();
        let refused = passed(HostedTools::Refuse, false).unwrap_err();
        assert_eq!((strict.param.as_deref(), refused.param.as_deref()), (place, place), "{caller}");
        assert!(refused.message.contains("configured to reject"), "{}", refused.message);
    }
}

#[test]
fn a_history_of_hosted_runs_stands_in_no_models_way() {
    let blocks = json!([
        { "type": "text", "text": "let me see" },
        { "type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": { "query": "x" } },
        { "type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [] },
        { "type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": {} },
        { "type": "mcp_tool_use", "id": "m", "name": "n", "input": {} },
        { "type": "mcp_tool_result", "tool_use_id": "m", "content": [] },
        { "type": "text", "text": "it is so" },
    ]);
    let anthropic = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": "q" }, { "role": "assistant", "content": blocks },
        { "role": "user", "content": "and" } ] });
    let items = json!([
        { "type": "message", "role": "user", "content": "q" },
        { "type": "web_search_call", "id": "ws_1", "status": "completed", "action": { "type": "search" } },
        { "type": "code_interpreter_call", "id": "ci", "code": "1", "outputs": null },
        { "type": "image_generation_call", "id": "ig", "result": "aGk=" },
        { "type": "mcp_approval_request", "id": "a", "name": "n", "arguments": "{}" },
        { "type": "mcp_call", "id": "mc", "name": "n", "arguments": "{}" },
        { "type": "message", "role": "assistant", "content": "it is so" },
        { "type": "message", "role": "user", "content": "and" },
    ]);
    let parts = json!([
        { "executableCode": { "language": "PYTHON", "code": "1" }, "thoughtSignature": "c2ln" },
        { "codeExecutionResult": { "outcome": "OUTCOME_OK", "output": "1" } },
        { "text": "it is so" },
    ]);
    let gemini = json!({ "contents": [
        { "role": "user", "parts": [{ "text": "q" }] }, { "role": "model", "parts": parts },
        { "role": "user", "parts": [{ "text": "and" }] } ] });
    for (caller, body) in [
        ("anthropic", anthropic),
        ("openai-responses", json!({ "input": items })),
        ("gemini", gemini),
    ] {
        let (body, written) = sent(caller, &body, "openai-chat", "m");
        let turns = body["messages"].as_array().unwrap();
        let roles: Vec<_> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user"], "{body}");
        assert!(turns[1]["content"].as_str().unwrap().ends_with("it is so"), "{body}");
        assert!(written.dropped.is_empty());
    }
}
