//! Earlier turns of callers of the Responses API, as every upstream gets them, and the tools that stand in
//! them.

use serde_json::{Value, json};

use super::{read, sent};

fn names(sent: &Value) -> Vec<&str> {
    let tools = sent["tools"].as_array().into_iter().flatten();
    tools.map(|tool| tool["function"]["name"].as_str().unwrap()).collect()
}

/// The functions that are called in earlier turns, and what they answered.
fn turns(sent: &Value) -> Vec<(String, Value, String)> {
    let messages = sent["messages"].as_array().unwrap();
    let calls = messages.iter().filter_map(|message| message["tool_calls"].as_array()).flatten();
    let result = |id: &Value| {
        let found = messages.iter().find(|message| &message["tool_call_id"] == id);
        found.unwrap()["content"].as_str().unwrap().to_owned()
    };
    calls
        .map(|call| {
            let function = &call["function"];
            let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
            (function["name"].as_str().unwrap().to_owned(), arguments, result(&call["id"]))
        })
        .collect()
}

#[test]
fn calls_of_every_kind_and_their_outputs_are_read() {
    let screenshot = "data:image/png;base64,iVBORw0KGgo=";
    let cases = [
        (
            json!({ "type": "local_shell_call", "call_id": "c", "status": "completed",
                "action": { "type": "exec", "command": ["ls"], "env": {} } }),
            json!({ "type": "local_shell_call_output", "id": "c", "output": "{\"exit\":0}" }),
            (
                "local_shell",
                json!({ "type": "exec", "command": ["ls"], "env": {} }),
                "{\"exit\":0}",
            ),
        ),
        (
            json!({ "type": "shell_call", "call_id": "c", "action": { "commands": ["ls"] } }),
            json!({ "type": "shell_call_output", "call_id": "c",
                "output": [{ "stdout": "a", "stderr": "", "outcome": { "type": "exit", "exit_code": 0 } }] }),
            (
                "shell",
                json!({ "commands": ["ls"] }),
                r#"[{"outcome":{"exit_code":0,"type":"exit"},"stderr":"","stdout":"a"}]"#,
            ),
        ),
        (
            json!({ "type": "apply_patch_call", "call_id": "c", "status": "completed",
                "operation": { "type": "delete_file", "path": "a" } }),
            json!({ "type": "apply_patch_call_output", "call_id": "c", "status": "failed" }),
            ("apply_patch", json!({ "type": "delete_file", "path": "a" }), "failed"),
        ),
        (
            json!({ "type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": { "query": "q" } }),
            json!({ "type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [] }),
            ("tool_search", json!({ "query": "q" }), "No tools found."),
        ),
        (
            json!({ "type": "computer_call", "call_id": "c", "actions": [{ "type": "wait" }] }),
            json!({ "type": "computer_call_output", "call_id": "c",
                "output": { "type": "computer_screenshot", "image_url": screenshot } }),
            ("computer", json!({ "actions": [{ "type": "wait" }] }), ""),
        ),
        (
            json!({ "type": "computer_call", "call_id": "c", "action": { "type": "wait" } }),
            json!({ "type": "computer_call_output", "call_id": "c",
                "output": { "type": "computer_screenshot", "image_url": screenshot } }),
            ("computer_use_preview", json!({ "type": "wait" }), ""),
        ),
        (
            json!({ "type": "custom_tool_call", "call_id": "c", "namespace": "functions", "name": "exec", "input": "ls" }),
            json!({ "type": "custom_tool_call_output", "call_id": "c", "output": "a" }),
            ("functions__exec", json!({ "input": "ls" }), "a"),
        ),
    ];
    for (call, output, (name, arguments, result)) in cases {
        let body =
            json!({ "model": "m", "input": [{ "role": "user", "content": "x" }, call, output] });
        let sent = sent("openai-responses", &body, "openai-chat");
        let told = turns(&sent);
        let [(function, written, answered)] = told.as_slice() else { panic!("{sent}") };
        assert_eq!((function.as_str(), written, answered.as_str()), (name, &arguments, result));
    }
    // A search of the vendor's is nobody else's.
    let body = json!({ "model": "m", "input": [
        { "type": "tool_search_call", "execution": "server", "arguments": {} },
        { "type": "tool_search_output", "execution": "server", "tools": [{ "type": "function", "name": "f" }] },
        { "role": "user", "content": "x" } ] });
    let request = read("openai-responses", &body);
    assert_eq!((request.messages.len(), request.tools.len()), (1, 0));
}

#[test]
fn tools_stand_in_the_input_too() {
    let exec = json!({ "type": "custom", "name": "exec" });
    let body = json!({ "model": "m",
        "tools": [{ "type": "tool_search", "execution": "client", "parameters": { "type": "object" } }],
        "input": [
            { "type": "additional_tools", "role": "developer", "tools": [
                { "type": "namespace", "name": "functions", "description": "All.", "tools": [exec] },
                { "type": "function", "name": "plain" } ] },
            { "role": "user", "content": "x" },
            { "type": "tool_search_call", "call_id": "s", "execution": "client", "arguments": {} },
            { "type": "tool_search_output", "call_id": "s", "execution": "client", "tools": [
                { "type": "namespace", "name": "mail", "description": "Mail.", "tools": [
                    { "type": "function", "name": "send", "parameters": { "type": "object" } } ] },
                { "type": "function", "name": "late", "defer_loading": true },
                { "type": "web_search" } ] },
            { "type": "function_call", "call_id": "f", "namespace": "mail", "name": "send", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "f", "output": "sent" },
            // Loaded again.
            { "type": "tool_search_call", "call_id": "t", "execution": "client", "arguments": {} },
            { "type": "tool_search_output", "call_id": "t", "execution": "client", "tools": [
                { "type": "namespace", "name": "mail", "description": "Mail.", "tools": [
                    { "type": "function", "name": "send" } ] } ] },
        ] });
    for upstream in ["openai-chat", "ollama", "cohere"] {
        let sent = sent("openai-responses", &body, upstream);
        let expected = ["tool_search", "functions__exec", "plain", "mail__send", "late"];
        assert_eq!(names(&sent), expected, "{upstream}");
    }
    let sent = sent("openai-responses", &body, "openai-chat");
    let told: Vec<_> = turns(&sent).into_iter().map(|(name, _, result)| (name, result)).collect();
    let expected = [
        ("tool_search", "Tools loaded: mail__send, late"),
        ("mail__send", "sent"),
        ("tool_search", "Tools loaded: mail__send"),
    ];
    assert_eq!(told, expected.map(|(name, result)| (name.to_owned(), result.to_owned())));
    assert_eq!(sent["tools"][1]["function"]["description"], "About all tools of `functions`: All.");
}

/// Codex sends what its agents say to each other as items of their own.
#[test]
fn messages_between_agents_are_turns_of_the_user() {
    let message = |sealed: &str| {
        json!({ "type": "agent_message", "author": "/main", "recipient": "/main/b", "content": [
        { "type": "input_text", "text": "Task:" }, { "type": "encrypted_content", "encrypted_content": sealed } ] })
    };
    for (sealed, told) in [
        ("say gAAAA", "say gAAAA"),
        ("gAAAAABl0PvZ", "[a message that only the vendor of its author can read]"),
    ] {
        let body = json!({ "model": "m", "input": [message(sealed)] });
        let sent = sent("openai-responses", &body, "anthropic");
        assert_eq!(sent["messages"][0]["role"], "user");
        let texts: Vec<&Value> = sent["messages"][0]["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| &part["text"])
            .collect();
        assert_eq!(texts, ["Task:", told]);
    }
}

/// Every upstream dialect gets the functions and the calls under the same names.
#[test]
fn every_upstream_gets_the_same_names() {
    let body = json!({ "model": "m", "tools": [{ "type": "namespace", "name": "crm", "description": "",
            "tools": [{ "type": "function", "name": "find", "parameters": { "type": "object", "properties": {} } }] }],
        "input": [
            { "role": "user", "content": "x" },
            { "type": "function_call", "call_id": "c", "namespace": "crm", "name": "find", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c", "output": "found" } ] });
    for upstream in ["openai-chat", "anthropic", "gemini", "ollama", "cohere", "bedrock"] {
        let sent = sent("openai-responses", &body, upstream);
        let count = sent.to_string().matches("\"crm__find\"").count();
        // Gemini and Ollama name the tool in its result as well.
        assert!(count >= 2, "{upstream}: {sent}");
        assert!(!sent.to_string().contains("namespace"), "{upstream}: {sent}");
    }
}

#[test]
fn colliding_names_are_made_distinct() {
    let function = |name: &str| json!({ "type": "function", "name": name });
    let namespace = |name: &str, tools: Value| json!({ "type": "namespace", "name": name, "description": "", "tools": tools });
    let body = json!({ "model": "m", "input": "x", "tools": [
        { "type": "shell" },
        namespace("a", json!([function("b__c"), function("b__c")])),
        namespace("a__b", json!([function("c")])),
        namespace("crm", json!([function("find")])),
        function("crm__find"),
        function("shell"),
    ] });
    let request = read("openai-responses", &body);
    let names: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!((names.len(), unique.len()), (6, 6), "{names:?}");
    assert_eq!([names[1], names[4], names[5]], ["a__b__c", "crm__find", "shell"]);
    assert!(names[0].starts_with("shell_") && names[3].starts_with("crm__find_"), "{names:?}");
    let form = |at: usize| request.tool_forms.get(names[at]).unwrap();
    assert_eq!((&*form(0).kind, form(0).name.as_str()), ("shell", "shell"));
    assert_eq!((form(2).namespace.as_deref(), form(2).name.as_str()), (Some("a__b"), "c"));
    assert_eq!((form(3).namespace.as_deref(), form(3).name.as_str()), (Some("crm"), "find"));
    assert!(request.tool_forms.get("crm__find").is_none());
    // The history finds the same ones.
    let mut body = body;
    body["input"] = json!([
        { "role": "user", "content": "x" },
        { "type": "function_call", "call_id": "1", "namespace": "crm", "name": "find", "arguments": "{}" },
        { "type": "function_call", "call_id": "2", "name": "crm__find", "arguments": "{}" },
        { "type": "shell_call", "call_id": "3", "action": { "commands": [] } } ]);
    let sent = sent("openai-responses", &body, "openai-chat");
    let called: Vec<&str> = sent["messages"][1]["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["function"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(called, [names[3], "crm__find", names[0]]);
}
