//! Tests of values, cache marks and hints of a request as written for every upstream.

use serde_json::{Value, json};

use super::super::{settings, write};
use super::{asked, sent, written};
use crate::dialect::{DIALECTS, Form, Quirks, Target, by_name};

#[test]
fn the_limit_on_output_is_the_models_own() {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (upstream, model, asked, path, expected) in [
        ("anthropic", "x", json!({}), "/max_tokens", json!(32_000)),
        ("anthropic", "x", json!({ "reasoning_effort": "high" }), "/max_tokens", json!(64_000)),
        ("anthropic", "claude-opus-4-8", json!({}), "/max_tokens", json!(128_000)),
        (
            "anthropic",
            "claude-opus-4-1",
            json!({ "reasoning_effort": "high" }),
            "/max_tokens",
            json!(32_000),
        ),
        (
            "anthropic",
            "claude-3-5-haiku-latest",
            json!({ "max_tokens": 64_000 }),
            "/max_tokens",
            json!(8192),
        ),
        ("anthropic", "claude-opus-4-8", json!({ "max_tokens": 7 }), "/max_tokens", json!(7)),
        ("openai-responses", "m", json!({ "max_tokens": 9 }), "/max_output_tokens", json!(16)),
        (
            "openai-responses",
            "gpt-4o",
            json!({ "max_tokens": 64_000 }),
            "/max_output_tokens",
            json!(16_384),
        ),
        (
            "gemini",
            "gemini-2.0-flash",
            json!({ "max_tokens": 64_000 }),
            "/generationConfig/maxOutputTokens",
            json!(8192),
        ),
        (
            "bedrock",
            "anthropic.claude-sonnet-4-5",
            json!({ "reasoning_effort": "high" }),
            "/inferenceConfig/maxTokens",
            json!(64_000),
        ),
    ] {
        let mut body = json!({ "messages": messages });
        for (name, value) in asked.as_object().unwrap() {
            body[name] = value.clone();
        }
        let (body, _) = sent("openai-chat", &body, upstream, model);
        assert_eq!(body.pointer(path), Some(&expected), "{model} {asked}: {body}");
    }
    let settings = settings::Settings { max_output: Some(500), ..settings::Settings::default() };
    let quirks = Quirks { settings, ..Quirks::default() };
    for asked in [json!({}), json!({ "max_tokens": 7000 })] {
        let mut body = json!({ "messages": messages });
        for (name, value) in asked.as_object().unwrap() {
            body[name] = value.clone();
        }
        for (upstream, path) in
            [("anthropic", "/max_tokens"), ("openai-responses", "/max_output_tokens")]
        {
            let request = self::asked("openai-chat", &body);
            let (body, _) = written(request, upstream, "claude-opus-5", &quirks);
            assert_eq!(body.pointer(path), Some(&json!(500)), "{upstream}");
        }
    }
}

#[test]
fn marks_of_the_caller_stay_on_their_blocks() {
    let cached = |ttl: Option<&str>| match ttl {
        Some(ttl) => json!({ "type": "ephemeral", "ttl": ttl }),
        None => json!({ "type": "ephemeral" }),
    };
    let parameters = json!({ "type": "object", "properties": {} });
    let body = json!({
        "messages": [
            { "role": "system", "content": [{ "type": "text", "text": "long", "cache_control": cached(None) }] },
            { "role": "user", "content": [{ "type": "text", "text": "q", "cache_control": cached(Some("1h")) }] },
        ],
        "tools": [{ "type": "function", "function": { "name": "f", "parameters": parameters }, "cache_control": cached(None) }],
    });
    let (sent_body, _) = sent("openai-chat", &body, "anthropic", "x");
    assert_eq!(sent_body["system"][0]["cache_control"], cached(None));
    assert_eq!(sent_body["messages"][0]["content"][0]["cache_control"], cached(Some("1h")));
    assert_eq!(sent_body["tools"][0]["cache_control"], cached(None));
    let (sent_body, _) = sent("openai-chat", &body, "bedrock", "anthropic.claude-sonnet-4-5");
    let point = json!({ "cachePoint": { "type": "default" } });
    assert_eq!(sent_body["system"], json!([{ "text": "long" }, point]));
    let long = json!({ "cachePoint": { "type": "default", "ttl": "1h" } });
    assert_eq!(sent_body["messages"][0]["content"], json!([{ "text": "q" }, long]));
    assert_eq!(sent_body["toolConfig"]["tools"][1], point);
    let (sent_body, written) = sent("openai-chat", &body, "openai-responses", "m");
    assert!(!written.body.contains("ephemeral"), "{sent_body}");

    let anthropic = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": [
        { "type": "text", "text": "q", "cache_control": cached(None) }, { "type": "text", "text": "z" } ] }] });
    let (sent_body, _) = sent("anthropic", &anthropic, "bedrock", "anthropic.claude-x");
    assert_eq!(
        sent_body["messages"][0]["content"],
        json!([{ "text": "q" }, point, { "text": "z" }])
    );
}

#[test]
fn marks_are_set_for_callers_whose_vendor_caches_by_itself() {
    let body = json!({ "input": "q", "instructions": "s" });
    let (marked, _) = sent("openai-responses", &body, "anthropic", "x");
    assert_eq!(marked["system"][0]["cache_control"], json!({ "type": "ephemeral" }));
    assert_eq!(
        marked["messages"][0]["content"][0]["cache_control"],
        json!({ "type": "ephemeral" })
    );
    let settings = settings::Settings { prompt_cache: false, ..settings::Settings::default() };
    let quirks = Quirks { settings, ..Quirks::default() };
    let (plain, _) = written(asked("openai-responses", &body), "anthropic", "x", &quirks);
    assert!(plain["system"][0].get("cache_control").is_none(), "{plain}");
}

#[test]
fn the_billing_line_goes_to_nobody_else() {
    let line = "x-anthropic-billing-header: cc_version=2.1.197.b1; cch=00000;";
    for system in [
        json!([{ "type": "text", "text": line }, { "type": "text", "text": "You are." }]),
        json!(format!("{line}\nYou are.")),
    ] {
        let body = json!({ "max_tokens": 9, "system": system, "messages": [{ "role": "user", "content": "q" }] });
        for upstream in DIALECTS.iter().map(|dialect| dialect.name()) {
            let (body, written) = sent("anthropic", &body, upstream, "m");
            assert!(!written.body.contains("billing"), "{upstream}: {body}");
            assert!(written.body.contains("You are."), "{upstream}: {body}");
        }
    }
}

#[test]
fn a_forced_call_is_asked_for_where_it_cannot_be_forced() {
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let named = json!({ "type": "function", "function": { "name": "g" } });
    for (choice, tools) in [(json!("required"), 2), (named, 1)] {
        let body = json!({
            "messages": [{ "role": "user", "content": "x" }],
            "tools": [tool("f"), tool("g")], "tool_choice": choice, "parallel_tool_calls": false,
        });
        let (sent_body, written) = sent("openai-chat", &body, "ollama", "llama3.2");
        assert_eq!(sent_body["tools"].as_array().unwrap().len(), tools, "{sent_body}");
        assert!(sent_body["messages"][0]["content"].as_str().unwrap().contains("call"));
        assert_eq!(written.dropped, ["parallel_tool_calls", "tool_choice"]);
        let (sent_body, written) = sent("openai-chat", &body, "cohere", "command-a");
        assert_eq!(sent_body["tools"].as_array().unwrap().len(), tools, "{sent_body}");
        assert_eq!(sent_body["tool_choice"], "REQUIRED");
        assert_eq!(written.dropped, ["parallel_tool_calls"]);
    }
}

#[test]
fn a_document_of_the_past_is_left_out_and_one_that_is_asked_about_refused() {
    let pdf = json!({ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "JVBERi0=" } });
    let user = |content: Value| json!({ "role": "user", "content": content });
    let said = json!({ "role": "assistant", "content": "a" });
    let result = json!({ "type": "tool_result", "tool_use_id": "t", "content": [pdf] });
    let call = json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "Read", "input": {} }] });
    let conversations = [
        json!([user(json!([pdf])), said, user(json!("and?"))]),
        json!([user(json!("q")), call, user(json!([result]))]),
        json!([
            user(json!("q")),
            call,
            user(json!([{ "type": "tool_result", "tool_use_id": "t", "content": "r" }, pdf]))
        ]),
    ];
    for messages in conversations {
        for upstream in ["ollama", "cohere"] {
            let body = json!({ "max_tokens": 9, "messages": messages });
            let (_, written) = sent("anthropic", &body, upstream, "m");
            assert!(written.body.contains("[document left out"), "{upstream}: {}", written.body);
            assert_eq!(written.dropped, ["documents"]);
        }
    }
    let mut request =
        asked("anthropic", &json!({ "max_tokens": 9, "messages": [user(json!([pdf]))] }));
    let quirks = Quirks::default();
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks };
    assert!(write(&mut request, by_name("ollama").unwrap(), &target, false).is_err());
}

#[test]
fn a_strict_request_is_refused_instead_of_losing_a_hint() {
    let body = json!({ "messages": [{ "role": "user", "content": "x" }], "logprobs": true });
    let (sent_body, written) = sent("openai-chat", &body, "anthropic", "x");
    assert!(sent_body.get("logprobs").is_none());
    assert_eq!(written.dropped, ["logprobs"]);
    let quirks = Quirks::default();
    let target = Target { model: "x", stream: true, form: Form::Chat, quirks: &quirks };
    let anthropic = by_name("anthropic").unwrap();
    let refused = write(&mut asked("openai-chat", &body), anthropic, &target, true).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("logprobs"));
    let settings = settings::Settings { strict: true, ..settings::Settings::default() };
    let strict = Quirks { settings, ..Quirks::default() };
    let target = Target { quirks: &strict, ..target };
    assert!(write(&mut asked("openai-chat", &body), anthropic, &target, false).is_err());
}

#[test]
fn reasoning_is_said_in_words_that_the_model_takes() {
    for (model, asked, expected) in [
        ("m", json!({ "thinking": { "type": "disabled" } }), Value::Null),
        ("gpt-4o", json!({ "thinking": { "type": "disabled" } }), Value::Null),
        ("gpt-4o", json!({ "output_config": { "effort": "high" } }), Value::Null),
        ("gpt-5.2", json!({ "thinking": { "type": "disabled" } }), json!("none")),
        ("gpt-5.2", json!({ "output_config": { "effort": "max" } }), json!("xhigh")),
        ("gpt-5.6", json!({ "output_config": { "effort": "max" } }), json!("max")),
        ("m", json!({ "output_config": { "effort": "max" } }), json!("high")),
        ("deepseek-v4", json!({ "output_config": { "effort": "medium" } }), json!("low")),
        ("m", json!({ "thinking": { "type": "enabled", "budget_tokens": 9000 } }), json!("medium")),
        (
            "deepseek-v4",
            json!({ "thinking": { "type": "enabled", "budget_tokens": 9000 } }),
            json!("low"),
        ),
    ] {
        let mut body = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
        for (name, value) in asked.as_object().unwrap() {
            body[name] = value.clone();
        }
        let (chat, _) = sent("anthropic", &body, "openai-chat", model);
        let said = chat.get("reasoning_effort").cloned().unwrap_or(Value::Null);
        assert_eq!(said, expected, "{model} {asked}");
        let (responses, _) = sent("anthropic", &body, "openai-responses", model);
        let said = responses.pointer("/reasoning/effort").cloned().unwrap_or(Value::Null);
        assert_eq!(said, expected, "{model} {asked}");
    }
}

#[test]
fn settings_leave_out_and_set_members() {
    let settings = settings::Settings {
        drop: vec!["user".to_owned()],
        set: vec![("chat_template_kwargs.thinking".to_owned(), "false".to_owned())],
        ..settings::Settings::default()
    };
    let quirks = Quirks { settings, ..Quirks::default() };
    let body = json!({ "input": "q", "user": "u1" });
    let (body, _) = written(asked("openai-responses", &body), "openai-chat", "m", &quirks);
    assert!(body.get("user").is_none(), "{body}");
    assert_eq!(body["chat_template_kwargs"], json!({ "thinking": false }));
}

#[test]
fn tools_of_the_past_are_declared_where_they_must_be() {
    let call =
        json!({ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let body = json!({ "messages": [
        { "role": "user", "content": "q" },
        { "role": "assistant", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "content": "r" },
    ] });
    let (body, _) = sent("openai-chat", &body, "anthropic", "x");
    assert_eq!(body["tools"][0]["name"], "f");
    assert_eq!(body["tool_choice"], json!({ "type": "none" }));
}

#[test]
fn values_stay_within_bounds() {
    let body = json!({
        "messages": [{ "role": "user", "content": "x" }],
        "temperature": 1.7, "stop": ["a", " ", "b", "c", "d", "e", "f"], "top_logprobs": 50, "logprobs": true,
    });
    let (sent_body, _) = sent("openai-chat", &body, "cohere", "m");
    assert_eq!(
        (&sent_body["temperature"], sent_body["stop_sequences"].as_array().unwrap().len()),
        (&json!(1.0), 5)
    );
    let (sent_body, written) = sent("openai-chat", &body, "anthropic", "x");
    assert_eq!(sent_body["stop_sequences"], json!(["a", "b", "c", "d", "e", "f"]));
    assert_eq!(written.dropped, ["logprobs"]);
    let (sent_body, written) = sent("openai-chat", &body, "gemini", "gemini-2.5-pro");
    assert_eq!(sent_body["generationConfig"]["logprobs"], 20);
    assert_eq!(written.dropped, [""; 0]);
}

/// Stop strings that a target rejects are searched for in its answer: all of them, blank ones, or those beyond
/// its limit.
#[test]
fn stop_strings_that_a_target_does_not_take_are_not_sent() {
    let body = json!({
        "messages": [{ "role": "user", "content": "x" }], "max_tokens": 9,
        "stop_sequences": ["a", "\n", "", "b", "c", "d", "e"],
    });
    let all = ["a", "\n", "b", "c", "d", "e"];
    let none = [""; 0];
    for (upstream, model, place, taken, others) in [
        ("openai-responses", "gpt-4o", "/stop", &none[..], &all[..]),
        ("openai-chat", "gpt-5-mini", "/stop", &none, &all),
        ("openai-chat", "o3", "/stop", &none, &all),
        ("openai-chat", "grok-4-fast-reasoning", "/stop", &none, &all),
        ("openai-chat", "gpt-5-chat-latest", "/stop", &["a", "\n", "b", "c"], &["d", "e"]),
        ("gemini", "g", "/generationConfig/stopSequences", &["a", "\n", "b", "c", "d"], &["e"]),
        ("bedrock", "c", "/inferenceConfig/stopSequences", &["a", "b", "c", "d"], &["\n", "e"]),
        ("ollama", "m", "/options/stop", &all, &none),
    ] {
        let (sent, written) = sent("anthropic", &body, upstream, model);
        let said = sent.pointer(place).cloned().unwrap_or_else(|| json!([]));
        assert_eq!(said, json!(taken), "{upstream} {model}");
        assert_eq!(written.stop_strings.strings(), others, "{upstream} {model}");
        assert_eq!(written.dropped, none, "{upstream} {model}");
    }
    let many: Vec<String> = (0..20).map(|i| format!("s{i}")).collect();
    let body = json!({ "input": "x", "model": "m", "messages": [{ "role": "user", "content": "x" }], "stop": many });
    let (_, written) = sent("openai-chat", &body, "openai-responses", "m");
    assert_eq!(written.stop_strings.strings(), &many[..16]);
    assert_eq!(written.dropped, ["stop"]);
}

#[test]
fn a_wish_for_json_is_said_where_the_word_is_wanted() {
    for (caller, body) in [
        (
            "gemini",
            json!({ "contents": [{ "parts": [{ "text": "x" }] }], "generationConfig": { "responseMimeType": "application/json" } }),
        ),
        ("ollama", json!({ "messages": [{ "role": "user", "content": "x" }], "format": "json" })),
    ] {
        for upstream in ["openai-chat", "openai-responses"] {
            let (_, written) = sent(caller, &body, upstream, "m");
            assert!(written.body.contains("Answer with a JSON object."), "{}", written.body);
        }
    }
    let said = json!({ "messages": [{ "role": "user", "content": "as JSON" }], "format": "json" });
    let (body, _) = sent("ollama", &said, "openai-chat", "m");
    assert_eq!(body["messages"][0]["content"], "as JSON");
}

#[test]
fn a_schema_that_cannot_be_enforced_is_asked_for() {
    let open = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let body = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }],
        "tools": [{ "name": "f", "input_schema": open, "strict": true }] });
    for (upstream, path) in
        [("openai-chat", "/tools/0/function/strict"), ("openai-responses", "/tools/0/strict")]
    {
        let (body, written) = sent("anthropic", &body, upstream, "m");
        assert_eq!(body.pointer(path), Some(&json!(false)), "{body}");
        assert_eq!(written.dropped, ["strict"]);
    }
}

#[test]
fn a_document_without_a_name_is_called_after_its_type() {
    let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    for (media_type, title, name) in [
        ("application/pdf", None, "document.pdf"),
        (docx, None, "document.docx"),
        (docx, Some(""), "document.docx"),
        ("application/rtf", None, "document.rtf"),
        (docx, Some("plan.docx"), "plan.docx"),
    ] {
        let source = json!({ "type": "base64", "media_type": media_type, "data": "UEsDBA==" });
        let document = json!({ "type": "document", "source": source, "title": title });
        let body =
            json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": [document] }] });
        let (sent_body, _) = sent("anthropic", &body, "openai-responses", "m");
        assert_eq!(sent_body["input"][0]["content"][0]["filename"], name, "{sent_body}");
    }
}

/// Mistral rejects a user turn after results, unknown members, and an answer at the end.
#[test]
fn requests_for_models_of_mistral_are_what_their_vendor_takes() {
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aWE=" } });
    let result = json!({ "type": "tool_result", "tool_use_id": "c1", "content": [{ "type": "text", "text": "r" }, image] });
    let body = json!({ "max_tokens": 9, "metadata": { "user_id": "u1" }, "messages": [
        { "role": "user", "content": "q" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "c1", "name": "f", "input": {} }] },
        { "role": "user", "content": [result, { "type": "text", "text": "go on" }] },
        { "role": "assistant", "content": "half of" },
    ] });
    let roles = |body: &Value| -> Vec<String> {
        let turns = body["messages"].as_array().unwrap().iter();
        turns.map(|turn| turn["role"].as_str().unwrap().to_owned()).collect()
    };
    for model in ["mistral-large-latest", "codestral-2508", "mistralai/devstral-medium"] {
        let (chat, written) = sent("anthropic", &body, "openai-chat", model);
        let expected = ["user", "assistant", "tool", "assistant", "user", "assistant", "user"];
        assert_eq!(roles(&chat), expected, "{model}");
        assert_eq!(chat["messages"][4]["content"][0]["type"], "image_url", "{chat}");
        assert_eq!(chat["messages"][4]["content"][1]["text"], "go on", "{chat}");
        assert_eq!((chat.get("user"), &written.dropped[..]), (None, &["user".into()][..]));
    }
    let (chat, _) = sent("anthropic", &body, "openai-chat", "m");
    assert_eq!(roles(&chat), ["user", "assistant", "tool", "user", "assistant"]);
    let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "q" }] }],
        "generationConfig": { "seed": 7, "responseLogprobs": true, "logprobs": 3 } });
    let (chat, written) = sent("gemini", &body, "openai-chat", "ministral-8b");
    assert_eq!(written.dropped, ["seed", "logprobs"]);
    for name in ["seed", "logprobs", "top_logprobs"] {
        assert!(chat.get(name).is_none(), "{name}: {chat}");
    }
}
