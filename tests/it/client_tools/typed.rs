//! Typed tools of the Responses API: the items in which their calls come back.

use serde_json::{Value, json};

use super::{answer, chat_call, item, payloads, read, refused, sent};

/// Tool type, arguments as a model writes them, and the members of the call's item.
fn calls() -> Vec<(Value, &'static str, Value)> {
    let typed = |kind: &str| json!({ "type": kind });
    vec![
        (
            json!({ "type": "tool_search", "execution": "client" }),
            "{\"query\":\n \"mail\"}",
            json!({ "type": "tool_search_call", "execution": "client", "arguments": { "query": "mail" } }),
        ),
        (
            typed("local_shell"),
            r#"{"command":["bash","-lc","ls \u00e9"],"timeout_ms":5}"#,
            json!({ "type": "local_shell_call", "action": { "type": "exec", "command": ["bash", "-lc", "ls é"], "timeout_ms": 5, "env": {} } }),
        ),
        (
            json!({ "type": "shell", "environment": { "type": "local" } }),
            r#"{"commands":["ls","pwd"]}"#,
            json!({ "type": "shell_call", "action": { "commands": ["ls", "pwd"], "timeout_ms": null, "max_output_length": null } }),
        ),
        (
            typed("apply_patch"),
            r#"{"type":"create_file","path":"a","diff":"+x\n"}"#,
            json!({ "type": "apply_patch_call", "operation": { "type": "create_file", "path": "a", "diff": "+x\n" } }),
        ),
        (
            typed("computer"),
            r#"{"actions":[{"type":"click","x":1,"y":2,"button":"left"}]}"#,
            json!({ "type": "computer_call", "actions": [{ "type": "click", "x": 1, "y": 2, "button": "left" }], "pending_safety_checks": [] }),
        ),
        (
            json!({ "type": "computer_use_preview", "display_width": 9, "display_height": 9, "environment": "linux" }),
            r#"{"type":"screenshot"}"#,
            json!({ "type": "computer_call", "action": { "type": "screenshot" }, "pending_safety_checks": [] }),
        ),
    ]
}

#[test]
fn a_call_is_an_item_of_its_type() {
    for (tool, arguments, members) in calls() {
        let kind = tool["type"].as_str().unwrap();
        let request =
            read("openai-responses", &json!({ "model": "m", "input": "x", "tools": [tool] }));
        let [function] = request.tools.as_slice() else { panic!("{:?}", request.tools) };
        assert_eq!(function.name, kind);
        assert!(!function.description.as_deref().unwrap_or_default().is_empty(), "{kind}");
        let schema: Value =
            serde_json::from_str(function.parameters.as_ref().unwrap().get()).unwrap();
        assert_eq!(schema["type"], "object", "{kind}");
        let item = item(&request.tool_forms, &chat_call(kind, arguments, "tool_calls"));
        let mut expected = members;
        for (name, value) in [("call_id", json!("c1")), ("status", json!("completed"))] {
            expected[name] = value;
        }
        expected["id"] = item["id"].clone();
        assert_eq!(item, expected);
    }
}

/// Wherever an upstream's bytes are cut, the caller gets the same, each event once.
#[test]
fn cuts_change_nothing() {
    for (tool, arguments, _) in calls() {
        let kind = tool["type"].as_str().unwrap();
        let body = json!({ "model": "m", "input": "x", "tools": [tool] });
        let forms = read("openai-responses", &body).tool_forms;
        let input = chat_call(kind, arguments, "tool_calls");
        let whole = answer("openai-responses", &forms, true, &input, &[]);
        let kinds: Vec<String> =
            payloads(&whole).iter().map(|event| event["type"].as_str().unwrap().into()).collect();
        assert_eq!(
            kinds,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.output_item.done",
                "response.completed"
            ],
            "what is told at once has no deltas"
        );
        for cut in 0..input.len() {
            assert_eq!(answer("openai-responses", &forms, true, &input, &[cut]), whole, "{cut}");
        }
    }
}

/// A model's mistake is never made to look like a command.
#[test]
fn arguments_that_do_not_fit_stay_a_function_call() {
    for (tool, arguments) in [
        ("local_shell", r#"{"command":"ls"}"#),
        ("shell", r#"{"commands":[1]}"#),
        ("shell", ""),
        ("apply_patch", r#"{"type":"update_file","path":"a"}"#),
        ("apply_patch", r#"{"type":"chmod","path":"a","diff":""}"#),
        ("computer", r#"{"actions":[{}]}"#),
        ("apply_patch", r#"{"type":"create_file","path":"a","diff":"cut he"#),
    ] {
        let body = json!({ "model": "m", "input": "x", "tools": [{ "type": tool }] });
        let forms = read("openai-responses", &body).tool_forms;
        let cut = arguments.ends_with("cut he");
        let finish = if cut { "length" } else { "tool_calls" };
        let item = item(&forms, &chat_call(tool, arguments, finish));
        let said = if arguments.is_empty() { "{}" } else { arguments };
        assert_eq!((&item["type"], &item["name"]), (&json!("function_call"), &json!(tool)));
        assert_eq!(item["arguments"], said);
        assert_eq!(item["status"], if cut { "incomplete" } else { "completed" });
        // It comes back as a call of the same function.
        let history = json!({ "model": "m", "tools": [{ "type": tool }], "input": [
            { "role": "user", "content": "x" }, item,
            { "type": "function_call_output", "call_id": "c1", "output": "unsupported" } ] });
        let sent = sent("openai-responses", &history, "openai-chat");
        assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["name"], tool);
    }
}

/// A broken answer tells nothing of a call that is not whole.
#[test]
fn an_incomplete_call_is_not_forwarded() {
    let body = json!({ "model": "m", "input": "x", "tools": [{ "type": "shell" }] });
    let forms = read("openai-responses", &body).tool_forms;
    let input = chat_call("shell", r#"{"commands":["rm -rf build"]}"#, "tool_calls");
    let half = input.len() / 2;
    let out = answer("openai-responses", &forms, true, &input[..half], &[]);
    let events = payloads(&out);
    assert_eq!(events.last().unwrap()["type"], "response.failed");
    assert!(!String::from_utf8_lossy(&out).contains("output_item"), "{events:?}");
}

#[test]
fn a_choice_names_a_tool_in_any_form() {
    let tools = json!([
        { "type": "function", "name": "find" },
        { "type": "namespace", "name": "crm", "description": "", "tools": [
            { "type": "function", "name": "find" }, { "type": "custom", "name": "note" } ] },
        { "type": "shell" }, { "type": "local_shell" }, { "type": "apply_patch" },
        { "type": "computer_use_preview" }, { "type": "tool_search", "execution": "client" },
    ]);
    let chosen = |choice: Value| {
        let body = json!({ "model": "m", "input": "x", "tools": tools, "tool_choice": choice });
        let sent = sent("openai-responses", &body, "openai-chat");
        let names = sent["tools"].as_array().into_iter().flatten();
        let names: Vec<String> =
            names.map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect();
        (sent["tool_choice"].clone(), names)
    };
    for (choice, function) in [
        (json!({ "type": "function", "name": "find" }), "find"),
        (json!({ "type": "function", "name": "find", "namespace": "crm" }), "crm__find"),
        (json!({ "type": "custom", "name": "note", "namespace": "crm" }), "crm__note"),
        (json!({ "type": "custom", "name": "note" }), "crm__note"),
        (json!({ "type": "apply_patch" }), "apply_patch"),
        (json!({ "type": "shell" }), "shell"),
        (json!({ "type": "local_shell" }), "local_shell"),
        (json!({ "type": "computer_use" }), "computer_use_preview"),
        (json!({ "type": "tool_search" }), "tool_search"),
    ] {
        let (told, names) = chosen(choice);
        assert_eq!(told, json!({ "type": "function", "function": { "name": function } }));
        assert_eq!(names.len(), 8);
    }
    let (told, names) = chosen(json!({ "type": "namespace", "name": "crm" }));
    assert_eq!((told, names), (json!("required"), vec!["crm__find".into(), "crm__note".into()]));
    let allowed = json!({ "type": "allowed_tools", "mode": "required", "tools": [
        { "type": "function", "name": "find", "namespace": "crm" }, { "type": "shell" } ] });
    let (told, names) = chosen(allowed);
    assert_eq!((told, names), (json!("required"), vec!["crm__find".into(), "shell".into()]));
    let allowed = json!({ "type": "allowed_tools", "mode": "auto", "tools": [
        { "type": "namespace", "name": "crm" }, { "type": "function", "name": "find" } ] });
    let (told, names) = chosen(allowed);
    assert_eq!(told, "auto");
    assert_eq!(names, ["find", "crm__find", "crm__note"]);
}

#[test]
fn a_refusal_names_the_place_and_the_type() {
    let function = json!({ "type": "function", "name": "f" });
    let ask = |tool: Value| json!({ "model": "m", "input": "x", "tools": [function, tool] });
    let namespace = |tool: Value| {
        ask(json!({ "type": "namespace", "name": "n", "description": "", "tools": [tool] }))
    };
    for (body, param, told) in [
        (ask(json!({ "type": "teleport" })), "tools[1]", "`tools[1]` of type `teleport` is a tool"),
        (ask(json!({ "type": "a secret!" })), "tools[1]", "`tools[1]` is a tool"),
        (ask(json!({ "type": "namespace", "tools": [] })), "tools[1].name", "is missing"),
        (
            namespace(json!({ "type": "teleport" })),
            "tools[1].tools[0]",
            "`tools[1].tools[0]` of type `teleport` cannot stand in a namespace",
        ),
        (namespace(json!({ "type": "function" })), "tools[1].tools[0].name", "is missing"),
        (
            json!({ "model": "m", "input": [{ "type": "additional_tools", "role": "developer",
                "tools": [{ "type": "teleport" }] }] }),
            "input[0].tools[0]",
            "`input[0].tools[0]` of type `teleport`",
        ),
        (
            json!({ "model": "m", "input": [{ "type": "teleport_call" }] }),
            "input[0]",
            "`input[0]` of type `teleport_call` cannot be translated",
        ),
        (
            json!({ "model": "m", "input": "x", "tools": [function], "tool_choice": { "type": "shell" } }),
            "tool_choice",
            "`tool_choice` of type `shell` is not among the `tools`",
        ),
    ] {
        let (field, message) = refused("openai-responses", &body);
        assert_eq!(field, param, "{message}");
        assert!(message.contains(told) && !message.contains("secret"), "{message}");
    }
}
