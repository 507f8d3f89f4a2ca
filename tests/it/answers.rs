//! Finish reasons, usage, tool call ids and reasoning state: payloads of an upstream in, and what callers of
//! each dialect get out. It must never ask the gateway's decoders what is right.

#![expect(clippy::needless_pass_by_value, reason = "JSON literals read best where they stand")]

use serde_json::{Value, json};
use streamgate::wire::chat::End;
use streamgate::wire::dialect::{
    self, CallerDialect, Dialect, Form, Mode, Quirks, ResponseContext, Target,
};
use streamgate::wire::finish::COMMON;

use crate::support::gateway::{Gateway, yaml};
use crate::support::language::Ask;
use crate::support::upstream::{Step, Upstream};
use crate::support::{Ended, Run, call, natural_mode, reader, run};

pub(crate) fn dialect(name: &str) -> &'static dyn Dialect {
    dialect::by_name(name).expect("a dialect")
}

pub(crate) fn towards(name: &str) -> &'static dyn CallerDialect {
    dialect(name).as_caller().expect("callers speak it")
}

pub(crate) fn sse(payloads: &[Value]) -> Vec<u8> {
    let event = |payload: &Value| match payload["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {payload}\n\n"),
        None => format!("data: {payload}\n\n"),
    };
    payloads.iter().map(event).collect::<String>().into_bytes()
}

pub(crate) fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({ "id": "x", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
}

pub(crate) fn chat(chunks: &[Value]) -> Vec<u8> {
    [sse(chunks), b"data: [DONE]\n\n".to_vec()].concat()
}

pub(crate) fn to(upstream: &str, caller: &str, stream: bool, input: &[u8]) -> Run {
    let (from, to) = (dialect(upstream), towards(caller));
    run(from, to, (&call(stream, true), natural_mode(from, to)), input, [])
}

/// The JSON of a caller's events, and a whole answer as one.
pub(crate) fn values(run: &Run) -> Vec<Value> {
    let text = String::from_utf8(run.out.clone()).expect("UTF-8");
    if let Ok(whole) = serde_json::from_str(&text) {
        return vec![whole];
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

const CALLERS: [&str; 6] =
    ["openai-chat", "openai-responses", "anthropic", "gemini", "ollama", "cohere"];

/// The neutral name of a word's meaning, or that it is a failure.
#[test]
fn finish_reasons_are_mapped_by_their_meaning() {
    for (word, neutral) in [
        ("abort", None),
        ("network_error", None),
        ("timeout", None),
        ("cancelled", None),
        ("no word of anybody's", None),
        ("repetition", Some("length")),
        ("max_tokens", Some("length")),
        ("MAX_TOKENS", Some("length")),
        ("model_length", Some("context")),
        ("model_context_window_exceeded", Some("context")),
        ("sensitive", Some("filter")),
        ("SAFETY", Some("filter")),
        ("end_turn", Some("end")),
        ("eos", Some("end")),
    ] {
        let input =
            chat(&[chunk(json!({ "content": "Half" }), None), chunk(json!({}), Some(word))]);
        for caller in CALLERS {
            let run = to("openai-chat", caller, true, &input);
            if caller == "openai-chat" {
                assert_eq!(run.out, input, "{word}: passed through as it came");
                continue;
            }
            let view = (reader(caller).stream)(&run.out, true).expect(word);
            match neutral {
                None => assert!(matches!(view.ended, Ended::Error(_)), "{word} {caller}: {view:?}"),
                Some(neutral) => {
                    let told = view.choices[&0].stop.as_deref();
                    assert_eq!(told, Some((reader(caller).stop)(neutral)), "{word} {caller}");
                }
            }
        }
    }
}

/// An upstream's answer that ends with a word.
type Answer<'a> = &'a dyn Fn(&str) -> Vec<u8>;

/// The same of every other upstream: a word that nobody knows is no end.
#[test]
fn unknown_finish_reasons_are_errors() {
    let anthropic = |word: &str| {
        sse(&[
            json!({ "type": "message_start", "message": { "id": "m", "type": "message", "role": "assistant",
                "model": "m", "content": [], "usage": { "input_tokens": 1, "output_tokens": 1 } } }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "Half" } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": word }, "usage": { "output_tokens": 2 } }),
            json!({ "type": "message_stop" }),
        ])
    };
    let cohere = |word: &str| {
        sse(&[
            json!({ "type": "message-start", "id": "x", "delta": { "message": { "role": "assistant" } } }),
            json!({ "type": "content-delta", "index": 0, "delta": { "message": { "content": { "text": "Half" } } } }),
            json!({ "type": "message-end", "delta": { "finish_reason": word } }),
        ])
    };
    let gemini = |word: &str| {
        sse(&[json!({ "candidates": [{ "index": 0, "finishReason": word,
            "content": { "role": "model", "parts": [{ "text": "Half" }] } }] })])
    };
    let ollama = |word: &str| {
        let line = json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": true,
            "message": { "role": "assistant", "content": "Half" }, "done_reason": word });
        format!("{line}\n").into_bytes()
    };
    let responses = |word: &str| {
        let item = json!({ "id": "m1", "type": "message", "role": "assistant",
            "content": [{ "type": "output_text", "text": "Half", "annotations": [] }] });
        sse(&[json!({ "type": "response.incomplete", "response": { "id": "r", "model": "m",
            "status": "incomplete", "incomplete_details": { "reason": word }, "output": [item] } })])
    };
    let upstreams: [(&str, Answer<'_>, &[&str]); 5] = [
        ("anthropic", &anthropic, &[]),
        ("cohere", &cohere, &["USER_CANCEL"]),
        ("gemini", &gemini, &["NO_IMAGE", "OTHER"]),
        ("ollama", &ollama, &[]),
        ("openai-responses", &responses, &[]),
    ];
    for (upstream, input, failing) in upstreams {
        for word in failing.iter().chain(&["brand_new", "abort"]) {
            for caller in CALLERS.iter().filter(|caller| **caller != upstream) {
                let run = to(upstream, caller, true, &input(word));
                let view = (reader(caller).stream)(&run.out, true).expect(caller);
                assert!(
                    matches!(view.ended, Ended::Error(_)),
                    "{upstream} {word} {caller}: {view:?}"
                );
            }
            let same = to(upstream, upstream, true, &input(word));
            assert_eq!(same.end, End::Complete, "{upstream} {word}");
        }
        let limit = to(upstream, "openai-chat", true, &input("length"));
        let view = (reader("openai-chat").stream)(&limit.out, true).expect(upstream);
        assert_eq!(view.choices[&0].stop.as_deref(), Some("length"), "{upstream}");
    }
    assert!(COMMON.iter().all(|row| !row.source.is_empty()));
}

/// `[DONE]` ends whole calls without a reason, in every language; half a call it does not.
#[test]
fn done_ends_whole_calls() {
    let part = |json: &str| {
        let call = json!([{ "index": 0, "id": "0", "type": "function",
            "function": { "name": "f", "arguments": json } }]);
        chunk(json!({ "tool_calls": call }), None)
    };
    let whole = chat(&[part(r#"{"city":"#), part(r#""Rome"}"#)]);
    for caller in CALLERS {
        let run = to("openai-chat", caller, true, &whole);
        assert_eq!(run.end, End::Complete, "{caller}");
        if caller == "openai-chat" {
            assert_eq!(run.out, whole);
            continue;
        }
        let view = (reader(caller).stream)(&run.out, true).expect(caller);
        let told = view.choices[&0].stop.as_deref();
        assert_eq!(told, Some((reader(caller).stop)("tools")), "{caller}");
    }
    let half = to("openai-chat", "anthropic", true, &chat(&[part(r#"{"city":"#)]));
    assert_eq!(half.end, End::Truncated);
}

#[test]
fn ids_of_calls_are_not_touched() {
    let call = json!([{ "index": 0, "id": "functions.weather:0", "type": "function",
        "function": { "name": "weather", "arguments": "{}" } }]);
    let input = chat(&[chunk(json!({ "tool_calls": call }), Some("tool_calls"))]);
    for caller in CALLERS {
        for stream in [true, false] {
            let run = to("openai-chat", caller, stream, &input);
            let out = String::from_utf8(run.out).expect("UTF-8");
            assert!(
                out.contains("\"functions.weather:0\"") || caller == "openai-chat",
                "{caller} {out}"
            );
        }
    }
}

#[test]
fn parts_of_usage_are_part_of_the_whole() {
    let usage = json!({ "prompt_tokens": 57, "completion_tokens": 10, "total_tokens": 67,
        "prompt_tokens_details": { "cached_tokens": 64 },
        "completion_tokens_details": { "reasoning_tokens": 37 } });
    let input = chat(&[
        chunk(json!({ "content": "a" }), Some("stop")),
        json!({ "id": "x", "choices": [], "usage": usage }),
    ]);
    let last = |caller| values(&to("openai-chat", caller, false, &input)).remove(0);
    let told = &last("gemini")["usageMetadata"];
    let expected = json!({ "promptTokenCount": 57, "candidatesTokenCount": 0, "totalTokenCount": 67,
        "cachedContentTokenCount": 57, "thoughtsTokenCount": 10 });
    assert_eq!(*told, expected);
    let anthropic = &last("anthropic")["usage"];
    assert_eq!(
        (&anthropic["input_tokens"], &anthropic["cache_read_input_tokens"]),
        (&json!(0), &json!(57))
    );
    let responses = &last("openai-responses")["usage"];
    assert_eq!(responses["output_tokens_details"]["reasoning_tokens"], json!(10));
    assert_eq!(responses["total_tokens"], json!(67));
}

/// xAI's seal behind OpenRouter, after the text, is an item of its own.
#[test]
fn sealed_reasoning_after_the_text_is_kept() {
    let detail = json!([{ "type": "reasoning.encrypted", "data": "SEALED", "format": "xai-responses-v1", "index": 0 }]);
    let input = chat(&[
        chunk(json!({ "reasoning": "Hm." }), None),
        chunk(json!({ "content": "Hello" }), None),
        chunk(json!({ "content": "", "reasoning_details": detail }), None),
        chunk(json!({}), Some("stop")),
    ]);
    let whole = values(&to("openai-chat", "openai-responses", false, &input)).remove(0);
    assert_eq!(whole["output"][2]["encrypted_content"], json!("streamgate:xai:data:SEALED"));
}

/// Reasoning state that a caller sends back reaches the vendor that created it, and no other.
#[test]
fn seals_come_home() {
    let quirks = Quirks::default();
    let target = |model| Target { model, stream: true, form: Form::Chat, quirks: &quirks };
    let function =
        json!({ "functionCall": { "name": "f", "args": {} }, "thoughtSignature": "U0lHTg==" });
    let gemini = sse(&[
        json!({ "modelVersion": "m", "candidates": [{ "index": 0, "finishReason": "STOP",
        "content": { "role": "model", "parts": [{ "text": "Hm.", "thought": true }, function] } }] }),
    ]);
    let shown = values(&to("gemini", "anthropic", false, &gemini)).remove(0);
    assert_eq!(shown["content"][0]["signature"], json!("streamgate:gemini:signature:U0lHTg=="));
    let id = &shown["content"][1]["id"];
    let next = json!({ "model": "m", "max_tokens": 10, "messages": [
        { "role": "user", "content": "x" },
        { "role": "assistant", "content": shown["content"] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": id, "content": "y" }] },
    ] })
    .to_string();
    let request = towards("anthropic").decode_request(Form::Chat, &next).expect("a request");
    let written = dialect("gemini").encode_request(&request, &target("gemini-3-pro"));
    assert!(written.expect("a body").contains(r#""thoughtSignature":"U0lHTg==""#));
    let same = dialect("anthropic").edit_request(&next, &target("claude-sonnet-4-5"));
    assert!(!same.expect("a body").contains("streamgate:"));

    let anthropic = sse(&[
        json!({ "type": "message_start", "message": { "id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": [], "usage": { "input_tokens": 1, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "thinking", "thinking": "Hm.", "signature": "EqQB" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "tool_use", "id": "toolu_1", "name": "f", "input": {} } }),
        json!({ "type": "content_block_stop", "index": 1 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 2 } }),
        json!({ "type": "message_stop" }),
    ]);
    let shown = values(&to("anthropic", "gemini", false, &anthropic)).remove(0);
    let content = &shown["candidates"][0]["content"];
    // Some clients leave thoughts out of the history.
    for parts in [content["parts"].clone(), json!([content["parts"][1]])] {
        let next = json!({ "contents": [
            { "role": "user", "parts": [{ "text": "x" }] },
            { "role": "model", "parts": parts },
            { "role": "user", "parts": [{ "functionResponse": { "id": "toolu_1", "name": "f", "response": {} } }] },
        ] })
        .to_string();
        let request = towards("gemini").decode_request(Form::Chat, &next).expect("a request");
        let written = dialect("anthropic").encode_request(&request, &target("claude-sonnet-4-5"));
        let body: Value = serde_json::from_str(&written.expect("a body")).expect("JSON");
        let thinking = json!({ "type": "thinking", "thinking": "Hm.", "signature": "EqQB" });
        assert_eq!(body["messages"][1]["content"][0], thinking);
        let same = dialect("gemini").edit_request(&next, &target("gemini-3-pro")).expect("a body");
        assert!(
            same.contains("skip_thought_signature_validator") && !same.contains("c3RyZWFtZ2F0")
        );
    }
}

/// OpenRouter takes state of any vendor back under a name of its own.
#[test]
fn reasoning_details_go_back() {
    let quirks = Quirks { reasoning_field: Some("reasoning_details".into()), ..Quirks::default() };
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks };
    let body = json!({ "model": "m", "input": [
        { "role": "user", "content": "x" },
        { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "streamgate:xai:data:SEALED" },
        { "type": "item_reference", "id": "rs_0" },
        { "role": "assistant", "content": "y" },
        { "role": "user", "content": "z" },
    ] });
    let request = towards("openai-responses").decode_request(Form::Chat, &body.to_string());
    let written = dialect("openai-chat").encode_request(&request.expect("a request"), &target);
    let written: Value = serde_json::from_str(&written.expect("a body")).expect("JSON");
    let details: Vec<&Value> = written["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .filter_map(|message| message.get("reasoning_details"))
        .collect();
    let expected = json!([{ "type": "reasoning.encrypted", "data": "SEALED", "format": "xai-responses-v1", "index": 0 }]);
    assert_eq!(details, [&expected]);
}

#[test]
fn a_message_starts_with_the_estimate() {
    let input = chat(&[
        chunk(json!({ "content": "a" }), Some("stop")),
        json!({ "id": "x", "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 1 } }),
    ]);
    let asked = ResponseContext { input_estimate: 42, ..call(true, true) };
    let run =
        run(dialect("openai-chat"), towards("anthropic"), (&asked, Mode::Translated), &input, []);
    let values = values(&run);
    assert_eq!(values[0]["message"]["usage"]["input_tokens"], json!(42));
    let counted = values.iter().find(|value| value["type"] == "message_delta").expect("a delta");
    assert_eq!(counted["usage"]["input_tokens"], json!(7));
}

/// Clients decide by the last usage whether to compact, so a count that never came must not be 0 there.
#[test]
fn the_estimate_of_input_stays_where_the_upstream_counts_nothing() {
    let input = chat(&[chunk(json!({ "content": "a" }), Some("stop"))]);
    for stream in [true, false] {
        let asked = ResponseContext { input_estimate: 42, ..call(stream, true) };
        let way = (&asked, Mode::Translated);
        let run = run(dialect("openai-chat"), towards("anthropic"), way, &input, []);
        assert_eq!(run.end, End::Complete);
        let last = if stream {
            let values = values(&run);
            let delta = values.iter().find(|value| value["type"] == "message_delta");
            delta.expect("a delta")["usage"].clone()
        } else {
            let message: Value = serde_json::from_slice(&run.out).expect("a message");
            message["usage"].clone()
        };
        assert_eq!(last["input_tokens"], json!(42), "stream: {stream}");
    }
}

/// The framing is detected from the body where its content type is wrong: streams called JSON, whole bodies called
/// streams or nothing, streams in answer to requests for none, several objects in one body.
#[tokio::test]
async fn bodies_are_read_as_what_they_are() {
    const JSON: &str = "content-type: application/json\r\n";
    const TEXT: &str = "content-type: text/plain\r\n";
    const EVENTS: &str = "content-type: text/event-stream\r\n";
    let chunks = [chunk(json!({ "content": "hi" }), None), chunk(json!({}), Some("stop"))];
    let events = chat(&chunks);
    let lines = format!("{}\n{}\n", chunks[0], chunks[1]).into_bytes();
    let whole = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }] });
    let whole = whole.to_string().into_bytes();
    let blank = [b"\n\n  ".to_vec(), whole.clone()].concat();
    for (label, body, streams) in [
        (JSON, &events, [true, false]),
        (TEXT, &events, [true, false]),
        ("", &events, [true, false]),
        (EVENTS, &whole, [true, false]),
        (TEXT, &whole, [true, false]),
        ("", &blank, [true, false]),
        (EVENTS, &lines, [true, false]),
        (JSON, &lines, [true, false]),
        ("content-type: application/x-ndjson\r\n", &lines, [true, false]),
    ] {
        let upstream = Upstream::new(vec![Step::Whole(200, label, body.clone())]).await;
        let provider =
            format!("  up: {{ dialect: openai-chat, base_url: \"{}/v1\" }}\n", upstream.url);
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &provider)).await;
        for stream in streams {
            for caller in CALLERS {
                let ask = Ask { model: "up/m".into(), stream, ..Ask::default() };
                let (path, body) = ((reader(caller).path)(&ask), (reader(caller).request)(&ask));
                let response = gateway.post(&path, &body.to_string()).send().await.expect("sent");
                let (status, text) = (response.status().as_u16(), response.text().await);
                let text = text.expect("a body");
                let what = format!("{label} {caller} {stream}: {text}");
                assert_eq!(status, 200, "{what}");
                let view = if stream {
                    (reader(caller).stream)(text.as_bytes(), true)
                } else {
                    (reader(caller).answer)(text.as_bytes())
                };
                if caller != "openai-chat" {
                    assert_eq!(view.expect(&what).choices[&0].text, "hi", "{what}");
                }
                assert!(text.contains("\"hi\""), "{what}");
                assert!(caller != "openai-chat" || text.contains("[DONE]") == stream, "{what}");
            }
        }
    }
}
