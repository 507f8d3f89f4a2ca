//! `functions` and `function_call`, which `tools` replaced: functions for every upstream, and calls come back
//! in the form of their callers.

use serde_json::{Value, json};
use streamgate::wire::chat::ToolForms;
use streamgate::wire::dialect::{self, Mode, ResponseContext};

use super::{asked, others, sent};
use crate::support::{call, events, run};

fn conversation(choice: Value) -> Value {
    let mut body = json!({
        "functions": [{ "name": "look", "description": "Looks.", "parameters": { "type": "object", "properties": { "q": { "type": "string" } } } }],
        "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": null, "function_call": { "name": "look", "arguments": "{\"q\":\"a\"}" } },
            { "role": "function", "name": "look", "content": "found" },
            { "role": "user", "content": "again" },
        ],
    });
    if !choice.is_null() {
        body["function_call"] = choice;
    }
    body
}

#[test]
fn they_are_tools_for_every_upstream() {
    for (upstream, names, choice) in [
        (
            "openai-responses",
            "/tools/0/name",
            ("/tool_choice", json!({ "type": "function", "name": "look" })),
        ),
        ("anthropic", "/tools/0/name", ("/tool_choice/name", json!("look"))),
        (
            "gemini",
            "/tools/0/functionDeclarations/0/name",
            ("/toolConfig/functionCallingConfig/mode", json!("ANY")),
        ),
        ("bedrock", "/toolConfig/tools/0/toolSpec/name", ("/toolConfig/toolChoice", json!(null))),
        ("cohere", "/tools/0/function/name", ("/tool_choice", json!("REQUIRED"))),
        ("ollama", "/tools/0/function/name", ("/tool_choice", json!(null))),
    ] {
        let (body, _) =
            sent("openai-chat", &conversation(json!({ "name": "look" })), upstream, "m");
        assert_eq!(body.pointer(names), Some(&json!("look")), "{upstream}: {body}");
        let (path, expected) = choice;
        if !expected.is_null() {
            assert_eq!(body.pointer(path), Some(&expected), "{upstream}: {body}");
        }
        assert!(body.to_string().contains("found"), "{upstream}: {body}");
    }
    for choice in [json!(null), json!("auto"), json!("none")] {
        for upstream in others("openai-chat") {
            sent("openai-chat", &conversation(choice.clone()), upstream, "m");
        }
    }
    // A result without a call, and a choice without functions.
    let body = json!({ "function_call": "auto", "functions": [], "messages": [{ "role": "function", "name": "f", "content": "r" }] });
    for upstream in others("openai-chat") {
        let (body, _) = sent("openai-chat", &body, upstream, "m");
        assert!(body.to_string().contains("[result of an earlier call]"), "{body}");
    }
    let wrong = conversation(json!("always"));
    let fault = asked("openai-chat", &wrong, "anthropic", "m").unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("function_call"));
}

/// An answer of Anthropic's with two calls.
fn two_calls() -> Vec<u8> {
    let event =
        |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let start = |index: u32, name: &str| {
        let block =
            json!({ "type": "tool_use", "id": format!("t{index}"), "name": name, "input": {} });
        event(json!({ "type": "content_block_start", "index": index, "content_block": block }))
    };
    let more = |index: u32, json: &str| {
        let delta = json!({ "type": "input_json_delta", "partial_json": json });
        event(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
    };
    let stop = |index: u32| event(json!({ "type": "content_block_stop", "index": index }));
    let message = json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let events = [
        event(json!({ "type": "message_start", "message": message })),
        start(0, "look"),
        more(0, "{\"q\":"),
        more(0, "\"b\"}"),
        stop(0),
        start(1, "look"),
        more(1, "{}"),
        stop(1),
        event(
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 5 } }),
        ),
        event(json!({ "type": "message_stop" })),
    ];
    events.concat().into_bytes()
}

fn answered(forms: &ToolForms, stream: bool) -> Vec<u8> {
    let call = ResponseContext { tool_forms: forms.clone(), ..call(stream, true) };
    let [from, to] = ["anthropic", "openai-chat"].map(|name| dialect::by_name(name).unwrap());
    run(from, to.as_caller().unwrap(), (&call, Mode::Translated), &two_calls(), std::iter::empty())
        .out
}

#[test]
fn calls_come_back_in_the_form_of_their_caller() {
    let forms =
        asked("openai-chat", &conversation(json!(null)), "anthropic", "m").unwrap().tool_forms;
    let whole: Value = serde_json::from_slice(&answered(&forms, false)).unwrap();
    let choice = &whole["choices"][0];
    assert_eq!(
        choice["message"]["function_call"],
        json!({ "name": "look", "arguments": "{\"q\":\"b\"}" })
    );
    assert_eq!(choice["message"].get("tool_calls"), None);
    assert_eq!(choice["finish_reason"], "function_call");

    let (mut name, mut arguments, mut finish) = (String::new(), String::new(), Vec::new());
    for (_, data) in events(&answered(&forms, true)).unwrap() {
        let Ok(chunk) = serde_json::from_str::<Value>(&data) else { continue };
        for choice in chunk["choices"].as_array().unwrap() {
            assert_eq!(choice["delta"].get("tool_calls"), None, "{chunk}");
            let part = &choice["delta"]["function_call"];
            name += part["name"].as_str().unwrap_or_default();
            arguments += part["arguments"].as_str().unwrap_or_default();
            finish.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
    }
    assert_eq!((name.as_str(), arguments.as_str()), ("look", "{\"q\":\"b\"}"));
    assert_eq!(finish, ["function_call"]);
}
