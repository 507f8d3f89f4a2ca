//! Tests of reasoning and sampling parameters within the bounds of each model. Answers are out of scope.

use serde_json::{Value, json};

use super::super::write;
use super::{asked, sent};
use crate::dialect::{Form, Quirks, Target, by_name};

/// A request of one question with further members.
fn question(members: &Value) -> Value {
    let mut body =
        json!({ "max_tokens": 40_000, "messages": [{ "role": "user", "content": "x" }] });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_budget_is_within_the_models_bounds() {
    let gemini = "/generationConfig/thinkingConfig/thinkingBudget";
    for (upstream, model, limit, budget, path, expected) in [
        ("gemini", "gemini-2.5-flash", 40_000, 31_999, gemini, 24_576),
        ("gemini", "gemini-2.5-flash", 40_000, 9000, gemini, 9000),
        ("gemini", "gemini-2.5-flash-lite", 40_000, 100, gemini, 512),
        ("gemini", "gemini-2.5-pro", 40_000, 100, gemini, 128),
        ("gemini", "gemini-2.5-pro", 40_000, 39_000, gemini, 32_768),
        ("cohere", "command-a-reasoning-08-2025", 40_000, 31_999, "/thinking/token_budget", 31_000),
        ("cohere", "command-a-reasoning-08-2025", 2000, 1999, "/thinking/token_budget", 1999),
        ("cohere", "command-a-reasoning-08-2025", 2000, 9000, "/thinking/token_budget", 1999),
    ] {
        let thinking = json!({ "type": "enabled", "budget_tokens": budget });
        let body = question(&json!({ "max_tokens": limit, "thinking": thinking }));
        let (body, _) = sent("anthropic", &body, upstream, model);
        assert_eq!(body.pointer(path), Some(&json!(expected)), "{model} {budget}: {body}");
    }
}

#[test]
fn a_model_without_reasoning_is_not_asked_for_it() {
    for (upstream, model, place) in [
        ("gemini", "gemini-2.0-flash", "/generationConfig/thinkingConfig"),
        ("gemini", "gemini-1.5-pro", "/generationConfig/thinkingConfig"),
        ("gemini", "gemma-3-27b-it", "/generationConfig/thinkingConfig"),
        ("bedrock", "us.amazon.nova-lite-v1:0", "/outputConfig"),
        ("bedrock", "meta.llama3-1-70b-instruct-v1:0", "/outputConfig"),
        ("bedrock", "mistral.mistral-large-2402-v1:0", "/outputConfig"),
        ("bedrock", "us.deepseek.r1-v1:0", "/outputConfig"),
        ("bedrock", "cohere.command-r-v1:0", "/outputConfig"),
        ("openai-chat", "llama-3.3-70b-versatile", "/reasoning_effort"),
        ("openai-chat", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "/reasoning_effort"),
    ] {
        for (asked, dropped) in [
            (json!({ "output_config": { "effort": "high" } }), &["reasoning"][..]),
            (json!({ "thinking": { "type": "enabled", "budget_tokens": 9000 } }), &["reasoning"]),
            (json!({ "thinking": { "type": "disabled" } }), &[]),
        ] {
            let (body, written) = sent("anthropic", &question(&asked), upstream, model);
            assert_eq!(body.pointer(place), None, "{model} {asked}: {body}");
            assert_eq!(written.dropped, dropped, "{model} {asked}");
        }
    }
}

#[test]
fn what_a_version_of_claude_does_not_take_is_named() {
    let call =
        json!({ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let after_results = json!({ "reasoning_effort": "high", "tools": tools, "messages": [
        { "role": "user", "content": "q" },
        { "role": "assistant", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "content": "r" },
    ] });
    let forced = json!({ "reasoning_effort": "high", "tools": tools, "tool_choice": "required" });
    let both = json!({ "temperature": 0.2, "top_p": 0.5 });
    for (model, asked, dropped) in [
        ("claude-opus-4-7", both.clone(), &["temperature", "top_p"][..]),
        ("claude-opus-4-7", json!({ "temperature": 1, "top_p": 1 }), &[]),
        ("claude-sonnet-4-5", both.clone(), &["top_p"]),
        ("claude-3-haiku-20240307", both, &[]),
        ("claude-3-haiku-20240307", json!({ "reasoning_effort": "high" }), &["reasoning"]),
        ("claude-3-5-sonnet-20241022", json!({ "reasoning_effort": "high" }), &["reasoning"]),
        ("claude-sonnet-4-5", json!({ "reasoning_effort": "high" }), &[]),
        (
            "claude-sonnet-4-5",
            json!({ "reasoning_effort": "high", "max_tokens": 1024 }),
            &["reasoning"],
        ),
        ("claude-sonnet-4-5", forced, &["reasoning"]),
        ("claude-sonnet-4-5", after_results, &["reasoning"]),
    ] {
        for (upstream, model) in
            [("anthropic", model.to_owned()), ("bedrock", format!("anthropic.{model}-v1:0"))]
        {
            let body = question(&asked);
            let (_, written) = sent("openai-chat", &body, upstream, &model);
            assert_eq!(written.dropped, dropped, "{model} {asked}");
            let quirks = Quirks::default();
            let target = Target { model: &model, stream: true, form: Form::Chat, quirks: &quirks };
            let mut request = self::asked("openai-chat", &body);
            let strict = write(&mut request, by_name(upstream).unwrap(), &target, true);
            let refused = strict.err().and_then(|fault| fault.param);
            assert_eq!(refused.as_deref(), dropped.first().copied(), "{model} {asked}");
        }
    }
}

#[test]
fn the_limit_on_output_is_that_of_the_most_specific_name() {
    for (upstream, model, path, expected) in [
        ("openai-chat", "gpt-5-chat-latest", "/max_completion_tokens", 16_384),
        ("openai-responses", "gpt-5-chat-latest", "/max_output_tokens", 16_384),
        ("openai-responses", "gpt-5-mini", "/max_output_tokens", 40_000),
        ("cohere", "command-a-reasoning-08-2025", "/max_tokens", 32_000),
        ("cohere", "command-a-03-2025", "/max_tokens", 8000),
        ("bedrock", "meta.llama3-8b-instruct-v1:0", "/inferenceConfig/maxTokens", 2048),
    ] {
        let (body, _) = sent("anthropic", &question(&json!({})), upstream, model);
        assert_eq!(body.pointer(path), Some(&json!(expected)), "{model}: {body}");
    }
}
