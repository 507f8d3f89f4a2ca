//! Turns of nothing, single elements in the place of lists, and ids of calls.

use serde_json::{Value, json};

use super::{others, sent};

/// The user's last turn in each dialect.
fn last_text(upstream: &str, body: &Value) -> String {
    let path = match upstream {
        "openai-responses" => "/input",
        "gemini" => "/contents",
        _ => "/messages",
    };
    let turns = body.pointer(path).and_then(Value::as_array).unwrap();
    let turn = turns.last().unwrap_or_else(|| panic!("{upstream}: no turns: {body}"));
    assert_eq!(turn["role"], "user", "{upstream}: {body}");
    let inner = |value: &Value| value["text"].as_str().unwrap_or_default().to_owned();
    match (&turn["content"], &turn["parts"]) {
        (Value::String(text), _) => text.clone(),
        (Value::Array(parts), _) | (_, Value::Array(parts)) => parts.iter().map(inner).collect(),
        _ => String::new(),
    }
}

#[test]
fn what_the_user_says_last_stays_though_it_is_nothing() {
    let said = json!({ "role": "assistant", "content": "a" });
    let user = |content: Value| json!({ "role": "user", "content": content });
    for empty in ["", " \n"] {
        for messages in
            [json!([user(json!(empty))]), json!([user(json!("hi")), said, user(json!(empty))])]
        {
            for upstream in others("openai-chat") {
                let (body, dropped) =
                    sent("openai-chat", &json!({ "messages": messages }), upstream, "m");
                let visible = ["anthropic", "gemini", "bedrock", "cohere"].contains(&upstream);
                let expected = if visible { "[empty message]" } else { empty };
                assert_eq!(last_text(upstream, &body), expected, "{upstream}: {body}");
                assert!(dropped.is_empty());
            }
        }
    }
    for (caller, body) in [
        ("openai-responses", json!({ "input": "" })),
        ("openai-responses", json!({ "input": [{ "role": "user", "content": [] }] })),
        (
            "openai-responses",
            json!({ "input": [{ "role": "user", "content": "hi" }, { "role": "assistant", "content": "a" }, { "role": "user", "content": [] }] }),
        ),
        ("ollama", json!({ "messages": [{ "role": "user", "content": "" }] })),
        ("cohere", json!({ "messages": [{ "role": "user", "content": "" }] })),
    ] {
        for upstream in others(caller) {
            let (body, _) = sent(caller, &body, upstream, "m");
            let visible = ["anthropic", "gemini", "bedrock", "cohere"].contains(&upstream);
            let expected = if visible { "[empty message]" } else { "" };
            assert_eq!(last_text(upstream, &body), expected, "{caller} to {upstream}: {body}");
        }
    }
}

#[test]
fn blank_texts_are_left_out_where_they_are_refused() {
    let body = json!({ "messages": [
        { "role": "user", "content": [{ "type": "text", "text": " " }, { "type": "text", "text": "hi" }] },
        { "role": "assistant", "content": "\n" },
        { "role": "user", "content": "again" },
    ] });
    for upstream in ["anthropic", "gemini", "bedrock", "cohere"] {
        let (body, _) = sent("openai-chat", &body, upstream, "m");
        let text = body.to_string();
        assert!(!text.contains(r#"" ""#) && !text.contains(r#""\n""#), "{upstream}: {text}");
    }
}

/// Cohere refuses messages without text, be they of a tool or of the model.
#[test]
fn results_without_text_get_one_and_turns_of_reasoning_alone_are_left_out_where_they_are_refused() {
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aWE=" } });
    for (content, expected) in [
        (json!(""), "[empty result]"),
        (json!([]), "[empty result]"),
        (json!([{ "type": "text", "text": " \n" }]), "[empty result]"),
        (json!([image]), "[result attached]"),
        (json!([{ "type": "text", "text": "r" }, image]), "r"),
    ] {
        let body = json!({ "max_tokens": 9, "messages": [
            { "role": "user", "content": "q" },
            { "role": "assistant", "content": [{ "type": "thinking", "thinking": "hm", "signature": "s" }] },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "c1", "name": "f", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c1", "content": content }] },
        ] });
        let (cohere, _) = sent("anthropic", &body, "cohere", "command-a-03-2025");
        let turns = cohere["messages"].as_array().unwrap();
        let roles: Vec<&str> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
        assert_eq!(roles[..3], ["user", "assistant", "tool"], "{cohere}");
        assert_eq!(turns[2]["content"], expected, "{cohere}");
        assert!(turns.iter().all(|turn| turn["content"] != ""), "{cohere}");
        let (chat, _) = sent("anthropic", &body, "openai-chat", "m");
        let result = chat["messages"].as_array().unwrap().iter().find(|m| m["role"] == "tool");
        assert!(!result.unwrap()["content"].as_str().unwrap().starts_with('['), "{chat}");
    }
}

/// Google's APIs take the only element of any list in its place.
#[test]
fn single_elements_stand_for_lists() {
    let lists = json!({
        "systemInstruction": { "parts": [{ "text": "be kind" }] },
        "contents": [{ "parts": [{ "text": "hi" }] }],
        "tools": [{ "functionDeclarations": [{ "name": "f" }] }],
        "generationConfig": { "stopSequences": ["end"] },
    });
    let tools = |functions: Value| json!({ "functionDeclarations": functions });
    for singles in [
        json!({ "system_instruction": { "parts": { "text": "be kind" } }, "contents": { "parts": { "text": "hi" } },
            "tools": tools(json!({ "name": "f" })), "generationConfig": { "stopSequences": "end" } }),
        json!({ "systemInstruction": [{ "text": "be kind" }], "contents": [{ "parts": { "text": "hi" } }],
            "tools": [tools(json!([{ "name": "f" }]))], "generationConfig": { "stopSequences": ["end"] } }),
        json!({ "systemInstruction": ["be kind"], "contents": { "parts": [{ "text": "hi" }] },
            "tools": tools(json!([{ "name": "f" }])), "generationConfig": { "stopSequences": "end" } }),
    ] {
        for upstream in ["openai-chat", "anthropic", "ollama", "cohere", "bedrock"] {
            let [expected, body] =
                [&lists, &singles].map(|body| sent("gemini", body, upstream, "m"));
            assert_eq!(body, expected, "{upstream}");
        }
    }
}

/// The output of a local shell has one id; clients take it from the call's `id` or from its `call_id`.
#[test]
fn outputs_of_a_local_shell_find_their_call() {
    for id in [json!({ "id": "lsh_1" }), json!({ "id": "call_1" }), json!({ "call_id": "call_1" })]
    {
        let action = json!({ "type": "exec", "command": ["ls"], "env": {} });
        let mut output = json!({ "type": "local_shell_call_output", "output": "files" });
        output.as_object_mut().unwrap().extend(id.as_object().unwrap().clone());
        let body = json!({ "tools": [{ "type": "local_shell" }], "input": [
            { "role": "user", "content": "list" },
            { "type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "action": action, "status": "completed" },
            output,
        ] });
        let (body, _) = sent("openai-responses", &body, "openai-chat", "m");
        let messages = &body["messages"];
        assert_eq!(messages[1]["tool_calls"][0]["id"], "call_1", "{body}");
        assert_eq!(
            (&messages[2]["tool_call_id"], &messages[2]["content"]),
            (&json!("call_1"), &json!("files"))
        );
        assert_eq!(messages.as_array().unwrap().len(), 3, "{body}");
    }
}

/// Tools that a beta feature adds and removes between turns are those of the whole request.
#[test]
fn tools_change_between_turns() {
    let tool = |name: &str, about: &str| json!({ "name": name, "description": about, "input_schema": { "type": "object", "properties": {} } });
    let added = |tool: Value| json!({ "type": "tool_addition", "tool": { "type": "tool_definition", "definition": tool } });
    let named = |kind: &str, name: &str| json!({ "type": kind, "tool": { "type": "tool_reference", "name": name } });
    let changes = json!([{ "type": "text", "text": "changed" }, added(tool("c", "new")), added(tool("b", "second")), named("tool_removal", "a"), named("tool_addition", "d")]);
    let body = json!({ "max_tokens": 9, "tools": [tool("a", "first"), tool("b", "first"), tool("d", "first")], "messages": [
        { "role": "user", "content": "hi" },
        { "role": "system", "content": changes },
        { "role": "assistant", "content": "a" },
        { "role": "user", "content": "and?" },
    ] });
    let (body, _) = sent("anthropic", &body, "openai-chat", "m");
    let tools = body["tools"].as_array().unwrap().iter();
    let tools: Vec<_> =
        tools.map(|tool| [&tool["function"]["name"], &tool["function"]["description"]]).collect();
    let expected =
        [["d", "first"], ["c", "new"], ["b", "second"]].map(|pair| pair.map(|word| json!(word)));
    let expected: Vec<_> = expected.iter().map(|[name, about]| [name, about]).collect();
    assert_eq!(tools, expected);
    assert!(body["messages"].to_string().contains("changed"), "{body}");
}

/// Forms of vendors that call themselves compatible.
#[test]
fn compatible_forms_are_read() {
    let thought = json!({ "type": "thinking", "thinking": [{ "type": "text", "text": "T1" }] });
    let body = json!({ "top_k": -1, "messages": [
        { "role": "user", "content": [
            { "type": "text", "text": "look" },
            { "type": "image_url", "image_url": "https://example.org/a.png" },
            { "type": "document_url", "document_url": "https://example.org/b.pdf" },
        ] },
        { "role": "assistant", "content": [thought, { "type": "text", "text": "seen" }] },
        { "role": "user", "content": "and?" },
    ] });
    let (body, dropped) = sent("openai-chat", &body, "anthropic", "m");
    let content = &body["messages"][0]["content"];
    assert_eq!(content[1]["source"], json!({ "type": "url", "url": "https://example.org/a.png" }));
    assert_eq!(content[2]["source"], json!({ "type": "url", "url": "https://example.org/b.pdf" }));
    assert_eq!(body.get("top_k"), None);
    assert!(dropped.is_empty());
}

/// A turn that the model is to continue gets text at its end, where the vendor requires it.
#[test]
fn a_last_turn_of_the_models_own_ends_with_a_word() {
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }, { "role": "assistant", "content": "So \n" }] });
    for (upstream, model, path) in [
        ("anthropic", "claude-haiku-4-5", "/messages/1/content/0/text"),
        ("bedrock", "anthropic.claude-haiku-4-5-v1", "/messages/1/content/0/text"),
    ] {
        let (body, _) = sent("openai-chat", &body, upstream, model);
        assert_eq!(body.pointer(path), Some(&json!("So")), "{upstream}: {body}");
    }
}
