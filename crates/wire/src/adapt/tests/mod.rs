//! Tests of requests as written for every upstream.

use serde_json::{Value, json};

mod hosted;
mod reasoning;
mod values;

use super::settings::Instructions;
use super::*;
use crate::chat::{Message, Part, Role};
use crate::dialect::{DIALECTS, Form, Quirks, by_name, caller_dialects};

/// A request parsed from a caller's body.
fn asked(caller: &str, body: &Value) -> Request {
    let caller = caller_dialects().find(|dialect| dialect.name() == caller).unwrap();
    let mut whole = json!({ "model": "m" });
    for (name, value) in body.as_object().unwrap() {
        whole[name] = value.clone();
    }
    caller.decode_request(Form::Chat, &whole.to_string()).unwrap()
}

/// The body that is written for an upstream, and the rest of the result.
fn written(mut request: Request, upstream: &str, model: &str, quirks: &Quirks) -> (Value, Written) {
    let target = Target { model, stream: true, form: Form::Chat, quirks };
    let written = write(&mut request, by_name(upstream).unwrap(), &target, false).unwrap();
    (serde_json::from_str(&written.body).unwrap(), written)
}

fn sent(caller: &str, body: &Value, upstream: &str, model: &str) -> (Value, Written) {
    written(asked(caller, body), upstream, model, &Quirks::default())
}

const LONG: &str = "mcp__plugin_deploy_on_cloud__get_pre_deploy_validation_instructions_for_stack";

#[test]
fn long_names_of_tools_are_cut_alike_wherever_they_stand_and_given_back() {
    let parameters = json!({ "type": "object", "properties": {} });
    let tools =
        json!([{ "type": "function", "function": { "name": LONG, "parameters": parameters } }]);
    let call =
        json!({ "id": "c1", "type": "function", "function": { "name": LONG, "arguments": "{}" } });
    let body = json!({
        "tools": tools,
        "tool_choice": { "type": "function", "function": { "name": LONG } },
        "messages": [
            { "role": "user", "content": "q" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": "r" },
        ],
    });
    for upstream in DIALECTS.iter().map(|dialect| dialect.name()) {
        let (_, written) = sent("openai-chat", &body, upstream, "m");
        let long = ["anthropic", "ollama"].contains(&upstream);
        assert_eq!(written.body.contains(LONG), long, "{upstream}: {}", written.body);
        if long {
            continue;
        }
        assert_eq!(written.names.len(), 1, "{:?}", written.names);
        let (short, own) = written.names.iter().next().unwrap();
        assert!(own == LONG && short.len() == 64, "{short}");
        assert!(written.body.matches(short.as_str()).count() >= 2, "{}", written.body);
        let name = Cow::Borrowed(short.as_str());
        let mut deltas = [Delta::ToolStart { choice: 0, call: 0, id: "i".into(), name }];
        restore_names(&mut deltas, &written.names);
        assert!(matches!(&deltas[0], Delta::ToolStart { name, .. } if *name == LONG));
    }
}

#[test]
fn names_hold_what_the_upstream_takes() {
    let body = json!({
        "contents": [{ "role": "user", "parts": [{ "text": "q" }] }],
        "tools": [{ "functionDeclarations": [{ "name": "a.b:c/d" }, { "name": "a_b_c_d" }] }],
    });
    for (upstream, path) in [
        ("openai-chat", "/tools/0/function/name"),
        ("openai-responses", "/tools/0/name"),
        ("anthropic", "/tools/0/name"),
        ("cohere", "/tools/0/function/name"),
        ("bedrock", "/toolConfig/tools/0/toolSpec/name"),
    ] {
        let (body, written) = sent("gemini", &body, upstream, "m");
        let name = body.pointer(path).unwrap().as_str().unwrap();
        assert!(name.starts_with("a_b_c_d_"), "{upstream} {name}");
        assert_eq!(written.names, [(name.to_owned(), "a.b:c/d".to_owned())].into());
    }
}

#[test]
fn ids_are_of_the_length_that_the_upstream_takes() {
    let id = format!("functions.bash:0{}", "x".repeat(80));
    let call = json!({ "id": id, "function": { "name": "f", "arguments": "{}" } });
    let body = json!({ "messages": [
        { "role": "assistant", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": id, "content": "r" },
    ] });
    for (upstream, paths, most) in [
        ("openai-responses", ["/input/0/call_id", "/input/1/call_id"], 64),
        (
            "bedrock",
            [
                "/messages/1/content/0/toolUse/toolUseId",
                "/messages/2/content/0/toolResult/toolUseId",
            ],
            64,
        ),
        ("anthropic", ["/messages/1/content/0/id", "/messages/2/content/0/tool_use_id"], 200),
    ] {
        let (body, _) = sent("openai-chat", &body, upstream, "m");
        let [call, result] = paths.map(|path| body.pointer(path).and_then(Value::as_str));
        assert!(call.is_some_and(|id| id.len() <= most), "{upstream}: {body}");
        assert_eq!(call, result, "{upstream}: {body}");
    }
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t".repeat(41), "name": "f", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t".repeat(41), "content": "r" }] },
    ] });
    let (body, _) = sent("anthropic", &body, "openai-chat", "m");
    let [call, result] = ["/messages/0/tool_calls/0/id", "/messages/1/tool_call_id"]
        .map(|path| body.pointer(path).and_then(Value::as_str));
    assert_eq!((call.map(str::len), call), (Some(40), result));
}

#[test]
fn a_users_id_that_is_too_long_is_hashed_and_its_session_names_the_cache() {
    let id = json!({ "device_id": "a".repeat(64), "session_id": "1111-2222" }).to_string();
    let body = json!({ "max_tokens": 9, "metadata": { "user_id": id }, "messages": [{ "role": "user", "content": "hi" }] });
    for upstream in ["openai-chat", "openai-responses"] {
        let (first, written) = sent("anthropic", &body, upstream, "m");
        let user = first["user"].as_str().unwrap();
        assert!(user.len() == 64 && user.bytes().all(|b| b.is_ascii_hexdigit()), "{user}");
        assert_eq!(sent("anthropic", &body, upstream, "m").0["user"], user);
        assert!(written.dropped.is_empty(), "it is there, hashed");
        assert_eq!(first["prompt_cache_key"], "1111-2222", "{first}");
    }
    let short = json!({ "user": "u1", "prompt_cache_key": "k".repeat(65), "messages": [{ "role": "user", "content": "hi" }] });
    let (body, _) = sent("openai-chat", &short, "openai-responses", "m");
    assert_eq!(body["user"], "u1");
    assert_eq!(body["prompt_cache_key"].as_str().unwrap().len(), 64);
}

#[test]
fn arguments_of_earlier_calls_are_objects_everywhere() {
    for (written, expected) in [
        ("{\"path\": \"a", json!({ "_truncated": "{\"path\": \"a" })),
        ("null", json!({})),
        ("", json!({})),
        ("[]", json!({ "_truncated": "[]" })),
    ] {
        let call = json!({ "id": "t1", "type": "function", "function": { "name": "f", "arguments": written } });
        let body = json!({ "messages": [
            { "role": "user", "content": "q" },
            { "role": "assistant", "content": "", "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "t1", "content": "error" },
        ] });
        for (upstream, path) in [
            ("anthropic", "/messages/1/content/0/input"),
            ("gemini", "/contents/1/parts/0/functionCall/args"),
            ("bedrock", "/messages/1/content/0/toolUse/input"),
            ("ollama", "/messages/1/tool_calls/0/function/arguments"),
        ] {
            let (body, _) = sent("openai-chat", &body, upstream, "m");
            assert_eq!(body.pointer(path), Some(&expected), "{upstream}: {body}");
        }
    }
}

fn instructed() -> Request {
    let turn = |role, text: &str| Message {
        at: String::new(),
        role,
        parts: vec![Part::Text(text.to_owned())],
    };
    Request {
        messages: vec![
            turn(Role::System, "S1"),
            turn(Role::System, "S2"),
            turn(Role::User, "q"),
            turn(Role::Assistant, "a"),
            turn(Role::System, "mid"),
            turn(Role::User, "r"),
            turn(Role::System, "end"),
        ],
        ..Request::default()
    }
}

#[test]
fn instructions_stand_where_the_upstream_takes_them() {
    let mid = "<system-reminder>\nmid\n</system-reminder>";
    let end = "<system-reminder>\nend\n</system-reminder>";
    let quirks = Quirks::default();
    let (body, _) = written(instructed(), "openai-chat", "m", &quirks);
    let roles: Vec<&str> =
        body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "system", "user", "system"]);
    assert_eq!(body["messages"][0]["content"], "S1\n\nS2");

    let settings = settings::Settings {
        instructions: Some(Instructions::First),
        ..settings::Settings::default()
    };
    let first = Quirks { settings, ..Quirks::default() };
    for (upstream, quirks) in [("openai-chat", &first), ("ollama", &quirks)] {
        let (body, _) = written(instructed(), upstream, "m", quirks);
        let said: Vec<(&str, &str)> = body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
            .collect();
        let last = format!("{mid}\n\nr\n\n{end}");
        let expected =
            [("system", "S1\n\nS2"), ("user", "q"), ("assistant", "a"), ("user", last.as_str())];
        assert_eq!(said, expected, "{upstream}");
    }

    let plain = Quirks {
        settings: settings::Settings { prompt_cache: false, ..settings::Settings::default() },
        ..Quirks::default()
    };
    let block = |text: &str| json!({ "type": "text", "text": text });
    let (body, _) = written(instructed(), "anthropic", "claude-sonnet-4-5", &plain);
    assert_eq!(body["system"], json!([block("S1"), block("S2")]));
    assert_eq!(body["messages"][2]["content"], json!([block(mid), block("r"), block(end)]));
    let (body, _) = written(instructed(), "anthropic", "claude-opus-5", &plain);
    assert_eq!(body["messages"][2]["content"], json!([block("r")]));
    assert_eq!(body["messages"][3]["role"], "system");
    assert_eq!(body["messages"][3]["content"], json!([block("mid"), block("end")]));

    let (body, _) = written(instructed(), "gemini", "gemini-2.5-pro", &plain);
    assert_eq!(
        body["contents"][2]["parts"],
        json!([{ "text": mid }, { "text": "r" }, { "text": end }])
    );
    let (body, _) = written(instructed(), "bedrock", "amazon.nova-pro", &plain);
    assert_eq!(
        body["messages"][2]["content"],
        json!([{ "text": mid }, { "text": "r" }, { "text": end }])
    );
}

#[test]
fn a_directive_leaves_no_message_and_its_effort_stays() {
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": "q" },
        { "role": "system", "content": [], "output_config": { "effort": "low" } },
        { "role": "user", "content": "r" },
    ] });
    let (body, _) = sent("anthropic", &body, "openai-chat", "m");
    assert_eq!(body["messages"].as_array().unwrap().len(), 2);
    assert_eq!(body["reasoning_effort"], "low");
}

#[test]
fn instructions_alone_are_a_conversation() {
    let body = json!({ "messages": [{ "role": "system", "content": "be" }] });
    for (upstream, path) in [
        ("openai-responses", "/input/0"),
        ("anthropic", "/messages/0"),
        ("gemini", "/contents/0"),
        ("bedrock", "/messages/0"),
    ] {
        let (body, _) = sent("openai-chat", &body, upstream, "m");
        assert!(body.pointer(path).is_some(), "{upstream}: {body}");
    }
}

#[test]
fn media_in_results_stand_behind_them_for_older_models() {
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" } });
    let result = json!({ "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "r" }, image] });
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": "q" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "f", "input": {} }] },
        { "role": "user", "content": [result, { "type": "text", "text": "and" }] },
    ] });
    let (old, _) = sent("anthropic", &body, "gemini", "gemini-2.5-pro");
    let parts = &old["contents"][2]["parts"];
    assert!(parts[0]["functionResponse"].get("parts").is_none(), "{old}");
    assert_eq!(
        (&parts[1]["inlineData"]["mimeType"], &parts[2]["text"]),
        (&json!("image/png"), &json!("and"))
    );
    let (new, _) = sent("anthropic", &body, "gemini", "gemini-3-pro");
    assert!(
        new["contents"][2]["parts"][0]["functionResponse"]["parts"][0].get("inlineData").is_some(),
        "{new}"
    );
}
