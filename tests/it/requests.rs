//! Requests in translation: what of tools and of thinking a vendor is asked for, where it depends on
//! more than the field itself.

use crate::support::written;
use serde_json::{Value, json};
use streamgate::wire::chat::ToolChoice;
use streamgate::wire::dialect::{CallerDialect, Form, Quirks, Target, by_name};

fn chat() -> &'static dyn CallerDialect {
    by_name("openai-chat").unwrap().as_caller().unwrap()
}

/// Of the tools that a caller allows, the others are left out.
#[test]
fn allowed_tools_are_what_remains() {
    let function = |name| json!({ "type": "function", "function": { "name": name } });
    let custom = json!({ "type": "custom", "custom": { "name": "c" } });
    let body = |allowed: Value| {
        json!({ "model": "m", "messages": [], "tools": [function("a"), function("b"), custom],
            "tool_choice": { "type": "allowed_tools", "allowed_tools": allowed } })
        .to_string()
    };
    let chat = chat();
    let allowed = json!({ "mode": "required", "tools": [function("b"), custom] });
    let request = chat.decode_request(Form::Chat, &body(allowed)).unwrap();
    let names: Vec<_> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!((names, request.tool_choice), (vec!["b", "c"], Some(ToolChoice::Required)));
    for (allowed, field) in [
        (json!({ "mode": "never", "tools": [] }), "tool_choice.allowed_tools.mode"),
        (
            json!({ "mode": "auto", "tools": [{ "type": "mcp" }] }),
            "tool_choice.allowed_tools.tools",
        ),
        (Value::Null, "tool_choice.allowed_tools"),
    ] {
        let fault = chat.decode_request(Form::Chat, &body(allowed)).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(field));
    }
}

/// Anthropic's models refuse a budget for thinking where earlier calls come without the thoughts that
/// led to them, which most languages cannot give back, and where a call is forced: then they answer
/// without it. With the thoughts, and with none to be given, the budget stays.
#[test]
fn fm28_the_thinking_budget_is_omitted_without_signed_reasoning() {
    let call =
        json!({ "id": "t", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let called = json!({ "role": "assistant", "tool_calls": [call] });
    let mut signed = called.clone();
    signed["reasoning_details"] =
        json!([{ "text": "hm", "signature": "c2ln", "format": "anthropic-claude-v1" }]);
    let result = json!({ "role": "tool", "tool_call_id": "t", "content": "ok" });
    let ask = json!({ "role": "user", "content": "go" });
    let said = json!({ "role": "assistant", "content": "done" });
    let forced = json!("required");
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    for upstream in ["anthropic", "bedrock"] {
        for (messages, choice, kept) in [
            (vec![&ask], Value::Null, true),
            (vec![&ask, &signed, &result], Value::Null, true),
            (vec![&ask, &called, &result], Value::Null, false),
            (vec![&ask, &called, &result, &ask], Value::Null, false),
            (vec![&ask, &called, &result, &said, &ask], Value::Null, true),
            (vec![&ask], forced.clone(), false),
        ] {
            let mut body = json!({ "model": "m", "messages": messages, "tools": tools,
                "temperature": 0.5, "reasoning": { "max_tokens": 2048 } });
            if !choice.is_null() {
                body["tool_choice"] = choice;
            }
            let mut request = chat().decode_request(Form::Chat, &body.to_string()).unwrap();
            let quirks = Quirks::default();
            let target =
                Target { model: "claude", stream: true, form: Form::Chat, quirks: &quirks };
            let sent = written(&mut request, by_name(upstream).unwrap(), &target).unwrap();
            assert_eq!(sent.contains("budget_tokens"), kept, "{upstream}: {sent}");
            // Members that only reasoning forbids are sent again without it.
            assert_eq!(sent.contains("temperature"), !kept, "{upstream}: {sent}");
        }
    }
}
