//! The conditions of a continuation, one by one, and the request that asks for it.

use serde_json::{Value, json};

use super::*;
use crate::dialect::{self, Form, caller_dialects};

/// R27: each of them alone refuses.
#[test]
fn r27_requests_that_are_not_continued() {
    let chat = caller_dialects().find(|it| it.name() == "openai-chat").unwrap();
    let plain = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let with = |name: &str, value: Value| {
        let mut body = plain.clone();
        body[name] = value;
        body.to_string()
    };
    let continues = |body: &str, tools: bool| {
        chat.decode_request(Form::Chat, body).is_ok_and(|it| is_continuable(&it, body, tools))
    };
    assert!(continues(&plain.to_string(), false));
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    assert!(continues(&with("tools", tools.clone()), true));
    for (name, value) in [
        ("tools", tools),
        ("response_format", json!({"type": "json_object"})),
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("reasoning_effort", json!("high")),
        ("guided_regex", json!("a+")),
        ("grammar", json!("root ::= x")),
        ("audio", json!({"voice": "alloy", "format": "wav"})),
        (
            "messages",
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
        ),
    ] {
        assert!(!continues(&with(name, value), false), "{name}");
    }
}

#[test]
fn ends_that_are_continued() {
    let failed = |kind| End::Failed(ApiError::new(kind, "x"));
    for kind in Kind::ALL {
        let broken = [Kind::Overloaded, Kind::Upstream, Kind::Internal].contains(&kind);
        assert_eq!(is_continuable_end(&failed(kind)), broken, "{kind:?}");
    }
    assert!(
        is_continuable_end(&End::Truncated) && is_continuable_end(&End::TimedOut(Deadline::Stall))
    );
    for end in [End::Complete, End::Cancelled, End::ShuttingDown, End::TimedOut(Deadline::Total)] {
        assert!(!is_continuable_end(&end), "{end:?}");
    }
}

/// R27: the partial answer without its trailing blanks is all that is added.
#[test]
fn r27_nothing_else_is_added_to_the_request() {
    let asked = |dialect: &str, body: &str, method| {
        let unfinished = Unfinished { text: "one two \n", method, instruction: "Go on.", spent: 3 };
        ask(body, dialect::by_name(dialect).unwrap(), &unfinished)
    };
    let user = r#"{"role":"user","content":"hi"}"#;
    let turn = r#"{"content":"one two","role":"assistant"}"#;
    let body = format!(r#"{{"messages":[{user}],"max_tokens":10,"x": 1}}"#);
    for dialect in ["openai-chat", "anthropic", "cohere"] {
        let expected = format!(r#"{{"messages":[{user},{turn}],"max_tokens":7,"x": 1}}"#);
        assert_eq!(asked(dialect, &body, Method::Prefill).unwrap(), expected, "{dialect}");
    }
    let vllm: Value =
        serde_json::from_str(&asked("openai-chat", &body, Method::Vllm).unwrap()).unwrap();
    assert_eq!(
        (&vllm["continue_final_message"], &vllm["add_generation_prompt"]),
        (&json!(true), &json!(false))
    );
    let prefix: Value =
        serde_json::from_str(&asked("openai-chat", &body, Method::Prefix).unwrap()).unwrap();
    assert_eq!(prefix["messages"][1]["prefix"], json!(true));
    let instruct: Value = serde_json::from_str(
        &asked("openai-responses", r#"{"input":"hi"}"#, Method::Instruct).unwrap(),
    )
    .unwrap();
    assert_eq!(
        instruct["input"],
        json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "one two"},
            {"role": "user", "content": "Go on."}
        ])
    );
    let gemini = r#"{"contents":[],"generationConfig":{"maxOutputTokens":5}}"#;
    assert_eq!(
        asked("gemini", gemini, Method::Prefill).unwrap(),
        r#"{"contents":[{"parts":[{"text":"one two"}],"role":"model"}],"generationConfig":{"maxOutputTokens":2}}"#
    );
    let spent = r#"{"messages":[],"max_tokens":3}"#;
    assert!(asked("openai-chat", spent, Method::Prefill).is_err(), "nothing is left");
}

#[test]
fn usage_has_the_prompt_once_and_all_output() {
    let before = Usage { input: None, output: Some(4), ..Usage::default() };
    let after = Usage { input: Some(14), output: Some(6), ..Usage::default() };
    let both = usage_of_both(&before, after);
    assert_eq!((both.input, both.output), (Some(10), Some(10)));
    let known = usage_of_both(&Usage { input: Some(9), ..before }, after);
    assert_eq!((known.input, known.output), (Some(9), Some(10)));
}

/// Anything but text is not continued.
#[test]
fn answers_that_are_not_continued() {
    let text = || Delta::Text { choice: 0, text: "a".into() };
    for other in [
        Delta::Text { choice: 1, text: "b".into() },
        Delta::Reasoning { choice: 0, text: "b".into() },
        Delta::Refusal { choice: 0, text: "b".into() },
        Delta::Logprobs { choice: 0, items: "{}".into() },
        Delta::ToolStart { choice: 0, call: 0, id: "i".into(), name: "f".into() },
        Delta::Opaque,
        Delta::Stop { choice: 0, reason: crate::chat::Stop::End },
        Delta::Text { choice: 0, text: "x".repeat(MAX_TEXT).into() },
    ] {
        let mut record = Record::default();
        record.note(&Frame::default(), &[text()], Mode::Translated);
        assert_eq!(record.text(), Some("a"));
        record.note(&Frame::default(), std::slice::from_ref(&other), Mode::Translated);
        assert_eq!(record.text(), None, "{other:?}");
        record.note(&Frame::default(), &[text()], Mode::Translated);
        assert_eq!(record.text(), None, "{other:?}");
    }
}
