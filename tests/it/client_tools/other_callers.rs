//! Typed tools of the other callers: Anthropic's, Gemini's, and custom tools of chat completions.

use serde_json::{Value, json};

use super::{answer, chat_call, payloads, read, refused, sent};

fn ask(tools: Value, messages: Value) -> Value {
    json!({ "model": "m", "max_tokens": 9, "tools": tools, "messages": messages })
}

fn hello() -> Value {
    json!([{ "role": "user", "content": "hi" }])
}

#[test]
fn typed_tools_of_anthropic_are_functions() {
    let computer = |version: &str| {
        json!({ "type": format!("computer_{version}"), "name": "computer",
        "display_width_px": 1024, "display_height_px": 768, "enable_zoom": version == "20251124" })
    };
    let text = |version: &str, name: &str| json!({ "type": format!("text_editor_{version}"), "name": name });
    for (tool, has, lacks) in [
        (json!({ "type": "bash_20250124", "name": "bash" }), vec!["command", "restart"], ""),
        (json!({ "type": "bash_20241022", "name": "bash" }), vec!["command", "restart"], ""),
        (
            text("20250728", "str_replace_based_edit_tool"),
            vec!["insert_text", "view_range"],
            "undo_edit",
        ),
        (text("20250124", "str_replace_editor"), vec!["undo_edit", "new_str"], "insert_text"),
        (json!({ "type": "memory_20250818", "name": "memory" }), vec!["rename", "old_path"], ""),
        (computer("20241022"), vec!["cursor_position", "coordinate"], "scroll"),
        (computer("20250124"), vec!["scroll_direction", "hold_key"], "zoom"),
        (computer("20251124"), vec!["zoom", "region"], ""),
    ] {
        let sent = sent("anthropic", &ask(json!([tool]), hello()), "openai-chat");
        let function = &sent["tools"][0]["function"];
        assert_eq!(function["name"], tool["name"]);
        let schema = function["parameters"].to_string();
        assert!(has.iter().all(|word| schema.contains(word)), "{schema}");
        assert!(lacks.is_empty() || !schema.contains(lacks), "{schema}");
        let about = function["description"].as_str().unwrap();
        let sized = tool["display_width_px"].is_null() || about.contains("1024 x 768");
        assert!(!about.is_empty() && sized, "{about}");
        // A choice names it, and its call comes back under its own name.
        let name = tool["name"].as_str().unwrap();
        let mut body = ask(json!([tool]), hello());
        body["tool_choice"] = json!({ "type": "tool", "name": name });
        let forms = read("anthropic", &body).tool_forms;
        let out = answer("anthropic", &forms, false, &chat_call(name, "{}", "tool_calls"), &[]);
        let message: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            message["content"][0],
            json!({ "type": "tool_use", "id": "c1", "name": name, "input": {} })
        );
    }
}

#[test]
fn what_tunes_a_tool_is_no_reason_to_refuse_it() {
    let tool = json!({ "type": null, "name": "f", "input_schema": { "type": "object", "properties": {} },
        "defer_loading": true, "allowed_callers": ["direct"], "input_examples": [{}],
        "eager_input_streaming": true, "strict": false });
    let custom = json!({ "type": "custom", "name": "g", "input_schema": { "type": "object" } });
    let sent = sent("anthropic", &ask(json!([tool, custom]), hello()), "openai-chat");
    assert_eq!(sent["tools"].as_array().unwrap().len(), 2);
    let text = sent.to_string();
    assert!(!text.contains("defer_loading") && !text.contains("input_examples"), "{text}");
    for (kind, told) in [
        ("teleport_20270101", "`tools[0]` of type `teleport_20270101` is a tool that cannot"),
        ("browser_toolset_20260801", "`tools[0]` of type `browser_toolset_20260801` is a tool"),
    ] {
        let (field, message) =
            refused("anthropic", &ask(json!([{ "type": kind, "name": "x" }]), hello()));
        assert_eq!(field, "tools[0]");
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn a_tool_reference_becomes_text() {
    let tool =
        json!({ "name": "ToolSearch", "input_schema": { "type": "object", "properties": {} } });
    let messages = json!([
        { "role": "user", "content": "q" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": [
            { "type": "tool_reference", "tool_name": "WebFetch" },
            { "type": "tool_reference", "tool_name": "mcp__mail__send", "cache_control": { "type": "ephemeral" } } ] }] },
    ]);
    for upstream in ["openai-chat", "openai-responses", "gemini", "ollama", "cohere", "bedrock"] {
        let sent = sent("anthropic", &ask(json!([tool]), messages.clone()), upstream).to_string();
        for name in ["WebFetch", "mcp__mail__send"] {
            assert!(sent.contains(&format!("Tool loaded: {name}")), "{upstream}: {sent}");
        }
    }
    let misplaced =
        json!([{ "role": "user", "content": [{ "type": "tool_reference", "tool_name": "x" }] }]);
    assert_eq!(refused("anthropic", &ask(json!([]), misplaced)).0, "messages[0].content[0]");
}

#[test]
fn members_of_the_computer_toolset_come_back_as_such() {
    let toolset =
        json!({ "type": "computer_toolset_20260801", "configs": { "zoom": { "enabled": false } } });
    let own = json!({ "name": "type", "input_schema": { "type": "object" } });
    let used = json!([
        { "role": "user", "content": "q" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "left_click",
            "toolset_name": "computer", "input": { "coordinate": [1, 2] } }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "toolset_name": "computer", "content": "ok" }] },
    ]);
    // Declared again, it is the same.
    let body = ask(json!([toolset, own, toolset]), used);
    let sent = sent("anthropic", &body, "openai-chat");
    assert_eq!(sent["tools"].as_array().unwrap().len(), 17, "16 members and a function");
    assert!(!sent.to_string().contains("computer__zoom"));
    assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["name"], "computer__left_click");
    let forms = read("anthropic", &body).tool_forms;
    let expected = json!({ "type": "tool_use", "id": "c1", "name": "type", "toolset_name": "computer", "input": {} });
    let input = chat_call("computer__type", r#"{"text":"a"}"#, "tool_calls");
    let started = payloads(&answer("anthropic", &forms, true, &input, &[]));
    let started = started.iter().find(|event| event["type"] == "content_block_start").unwrap();
    assert_eq!(started["content_block"], expected);
    let whole: Value =
        serde_json::from_slice(&answer("anthropic", &forms, false, &input, &[])).unwrap();
    assert_eq!(whole["content"][0]["toolset_name"], "computer");
    assert_eq!(whole["content"][0]["input"], json!({ "text": "a" }));
    // The caller's own function of that name has no toolset.
    let input = chat_call("type", "{}", "tool_calls");
    let whole: Value =
        serde_json::from_slice(&answer("anthropic", &forms, false, &input, &[])).unwrap();
    assert_eq!(
        whole["content"][0],
        json!({ "type": "tool_use", "id": "c1", "name": "type", "input": {} })
    );
}

#[test]
fn computer_use_of_gemini_is_its_predefined_functions() {
    let ask = |tools: Value| json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }], "tools": tools });
    let own = json!({ "name": "wait", "description": "mine", "behavior": "BLOCKING",
        "parametersJsonSchema": { "type": "object", "properties": {} }, "response": { "type": "STRING" } });
    let body = ask(json!([
        { "computerUse": { "environment": "ENVIRONMENT_BROWSER", "excludedPredefinedFunctions": ["navigate"] } },
        { "functionDeclarations": [own] } ]));
    let sent = sent("gemini", &body, "openai-chat");
    let functions: Vec<&Value> =
        sent["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]).collect();
    let named = |name: &str| functions.iter().filter(|function| function["name"] == name).count();
    assert_eq!((functions.len(), named("navigate"), named("click"), named("wait")), (19, 0, 1, 1));
    assert_eq!(functions[0]["description"], "mine", "the caller's own replaces the predefined one");
    let click = functions.iter().find(|function| function["name"] == "click").unwrap();
    assert_eq!(click["parameters"]["required"], json!(["x", "y"]));
    let snake = ask(json!([{ "computer_use": { "excluded_predefined_functions": [] } }]));
    assert_eq!(read("gemini", &snake).tools.len(), 20);
    for (tool, field, told) in [
        (
            json!({ "computerUse": { "environment": "ENVIRONMENT_MOBILE" } }),
            "tools[0].computerUse.environment",
            "must be ENVIRONMENT_BROWSER",
        ),
        (json!({ "teleport": {} }), "tools[0]", "`tools[0]` of type `teleport`"),
    ] {
        let (param, message) = refused("gemini", &ask(json!([tool])));
        assert!(param == field && message.contains(told), "{message}");
    }
}

#[test]
fn custom_tools_of_chat_completions_make_the_round_trip() {
    let tools = json!([
        { "type": "custom", "custom": { "name": "sh", "description": "Runs." } },
        { "type": "function", "function": { "name": "f" } } ]);
    let body = json!({ "model": "m", "tools": tools, "tool_choice": { "type": "custom", "custom": { "name": "sh" } },
        "messages": [
            { "role": "user", "content": "x" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c0", "type": "custom", "custom": { "name": "sh", "input": "ls" } },
                { "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } } ] },
            { "role": "tool", "tool_call_id": "c0", "content": "a" },
            { "role": "tool", "tool_call_id": "c1", "content": "b" } ] });
    let sent = sent("openai-chat", &body, "anthropic");
    assert_eq!(sent["tool_choice"], json!({ "type": "tool", "name": "sh" }));
    assert_eq!(sent["messages"][1]["content"][0]["input"], json!({ "input": "ls" }));
    let forms = read("openai-chat", &body).tool_forms;
    let out = answer(
        "openai-chat",
        &forms,
        false,
        &chat_call("sh", r#"{"input":"pwd"}"#, "tool_calls"),
        &[],
    );
    let message: Value = serde_json::from_slice(&out).unwrap();
    let call = &message["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(
        *call,
        json!({ "id": "c1", "type": "custom", "custom": { "name": "sh", "input": "pwd" } })
    );
    let (field, message) = refused(
        "openai-chat",
        &json!({ "model": "m", "messages": [], "tools": [{ "type": "teleport" }] }),
    );
    assert_eq!(field, "tools[0]");
    assert!(
        message
            .contains("`tools[0]` of type `teleport` is neither a `function` nor a `custom` tool"),
        "{message}"
    );
}

#[test]
fn an_unknown_tool_type_is_named_in_the_error() {
    for caller in ["ollama", "cohere"] {
        let body = ask(json!([{ "type": "teleport", "function": { "name": "f" } }]), hello());
        let (field, message) = refused(caller, &body);
        assert_eq!(field, "tools[0]");
        assert!(
            message.contains("`tools[0]` of type `teleport` cannot be translated"),
            "{message}"
        );
    }
}
