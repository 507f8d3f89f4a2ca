//! Failure modes of translation (`docs/failure-modes.md`, by number), as payloads in and the
//! strict readers' view out.

#![expect(clippy::needless_pass_by_value, reason = "JSON literals read best where they stand")]

use serde_json::{Value, json};
use streamgate::wire::chat::{End, Part};
use streamgate::wire::dialect::{
    self, CallerDialect, Dialect, Form, Mode, Quirks, ResponseContext, Target,
};

use crate::support::{Choice, Ended, View, call, events, natural_mode, reader, run, written};

fn dialect(name: &str) -> &'static dyn Dialect {
    dialect::by_name(name).unwrap()
}

fn towards(name: &str) -> &'static dyn CallerDialect {
    dialect(name).as_caller().unwrap()
}

/// Payloads as an event stream of their dialect.
fn stream(payloads: &[Value]) -> Vec<u8> {
    let event = |payload: &Value| match payload["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {payload}\n\n"),
        None => format!("data: {payload}\n\n"),
    };
    payloads.iter().map(event).collect::<Vec<_>>().concat().into_bytes()
}

/// A caller's view of an upstream's stream; checks the grammar on the way.
fn seen(upstream: &str, caller: &str, input: &[u8], want_usage: bool) -> View {
    let (from, to) = (dialect(upstream), towards(caller));
    let run = run(from, to, (&call(true, want_usage), natural_mode(from, to)), input, []);
    (reader(caller).stream)(&run.out, want_usage).unwrap()
}

fn only(view: &View) -> &Choice {
    assert_eq!(view.choices.len(), 1, "{view:?}");
    &view.choices[&0]
}

/// A chat chunk with one choice.
fn chunk(delta: Value, finish: Option<&str>) -> Value {
    json!({ "id": "x", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
}

fn chat(chunks: &[Value]) -> Vec<u8> {
    [stream(chunks), b"data: [DONE]\n\n".to_vec()].concat()
}

fn part(index: Option<u64>, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    let mut part = json!({ "function": { "arguments": arguments } });
    if let Some(index) = index {
        part["index"] = index.into();
    }
    if let Some(id) = id {
        part["id"] = id.into();
    }
    if let Some(name) = name {
        part["function"]["name"] = name.into();
    }
    chunk(json!({ "tool_calls": [part] }), None)
}

/// Same index with two ids or with none, no index at all, indices from 1, and fragments that interleave: two
/// calls arrive, each with its own name and arguments, whichever way.
#[test]
fn fm11_tool_calls_are_kept_apart() {
    let shapes: [Vec<Value>; 6] = [
        vec![
            part(Some(0), None, Some("f"), r#"{"x":1}"#),
            part(Some(0), None, Some("g"), r#"{"y":2}"#),
        ],
        // The name may be repeated with every fragment.
        vec![
            part(Some(0), None, Some("f"), r#"{"x":"#),
            part(Some(0), None, Some("f"), "1}"),
            part(Some(1), None, Some("g"), ""),
            part(Some(1), None, Some("g"), r#"{"y":2}"#),
        ],
        vec![
            part(Some(0), Some("a"), Some("f"), r#"{"x":1}"#),
            part(Some(0), Some("b"), Some("g"), r#"{"y":2}"#),
        ],
        vec![
            part(None, Some("a"), Some("f"), r#"{"x":"#),
            part(None, None, None, "1}"),
            part(None, Some("b"), Some("g"), r#"{"y":2}"#),
        ],
        vec![
            part(Some(1), Some("a"), Some("f"), r#"{"x":1}"#),
            part(Some(2), Some("b"), Some("g"), r#"{"y":2}"#),
        ],
        vec![
            part(Some(0), Some("a"), Some("f"), r#"{"x":"#),
            part(Some(1), Some("b"), Some("g"), r#"{"y":"#),
            part(Some(0), None, None, "1}"),
            part(Some(1), None, None, "2}"),
        ],
    ];
    for mut chunks in shapes {
        chunks.push(chunk(json!({}), Some("tool_calls")));
        let view = seen("openai-chat", "anthropic", &chat(&chunks), true);
        let calls: Vec<_> =
            only(&view).tools.iter().map(|tool| (tool.name.as_str(), tool.value())).collect();
        assert_eq!(calls, [("f", json!({ "x": 1 })), ("g", json!({ "y": 2 }))], "{chunks:?}");
    }
}

/// Usage on its own chunk, on the finish chunk, before the last chunk, and repeated by a null: it
/// is counted once, and shown only to who asked.
#[test]
fn fm24_usage_may_be_anywhere() {
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12 });
    let text = chunk(json!({ "content": "hi" }), None);
    let stop = chunk(json!({}), Some("stop"));
    let own = json!({ "id": "x", "model": "m", "choices": [], "usage": usage });
    let with = |mut chunk: Value, usage: &Value| {
        chunk["usage"] = usage.clone();
        chunk
    };
    let shapes = [
        vec![text.clone(), stop.clone(), own.clone()],
        vec![text.clone(), with(stop.clone(), &usage)],
        vec![with(text.clone(), &usage), stop.clone()],
        vec![text.clone(), with(stop.clone(), &usage), with(own.clone(), &Value::Null)],
        // Some count in fractions, and what is odd about the details costs no more than them.
        vec![
            text.clone(),
            with(
                stop.clone(),
                &json!({ "prompt_tokens": 9.0, "completion_tokens": 3, "prompt_tokens_details": [7] }),
            ),
        ],
    ];
    for chunks in shapes {
        let tokens = seen("openai-chat", "anthropic", &chat(&chunks), true).usage.unwrap();
        assert_eq!((tokens.input, tokens.output), (9, 3), "{chunks:?}");
    }
    // The vendor's own shape, to a caller who did not ask: no chunk without choices.
    let (from, input) = (dialect("openai-chat"), chat(&[text, stop, own]));
    let output =
        run(from, towards("openai-chat"), (&call(true, false), Mode::Verbatim), &input, []).out;
    assert!(!String::from_utf8(output).unwrap().contains("\"choices\":[]"));
}

fn start(usage: Value) -> Value {
    json!({ "type": "message_start", "message": { "id": "m", "type": "message", "role": "assistant",
        "model": "c", "content": [], "usage": usage } })
}

fn block(index: u64, content: Value, deltas: &[Value]) -> Vec<Value> {
    let mut events =
        vec![json!({ "type": "content_block_start", "index": index, "content_block": content })];
    events.extend(
        deltas
            .iter()
            .map(|delta| json!({ "type": "content_block_delta", "index": index, "delta": delta })),
    );
    events.push(json!({ "type": "content_block_stop", "index": index }));
    events
}

fn ending(stop: &str, usage: Value) -> Vec<Value> {
    vec![
        json!({ "type": "message_delta", "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": usage }),
        json!({ "type": "message_stop" }),
    ]
}

/// Said at the start only, at the end only, and at both with other values: the latest explicit
/// value of each field counts, and nothing is added up.
#[test]
fn fm25_anthropic_usage_replaces() {
    let text = block(
        0,
        json!({ "type": "text", "text": "" }),
        &[json!({ "type": "text_delta", "text": "hi" })],
    );
    for (first, last, expected) in [
        (json!({ "input_tokens": 10, "output_tokens": 1 }), json!({ "output_tokens": 7 }), (10, 7)),
        (
            json!({ "input_tokens": 0, "output_tokens": 0 }),
            json!({ "input_tokens": 8, "cache_read_input_tokens": 4, "output_tokens": 7 }),
            (12, 7),
        ),
        (
            json!({ "input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1 }),
            json!({ "input_tokens": 11, "output_tokens": 7 }),
            (16, 7),
        ),
    ] {
        let events = [vec![start(first)], text.clone(), ending("end_turn", last)].concat();
        let tokens = seen("anthropic", "openai-chat", &stream(&events), true).usage.unwrap();
        assert_eq!((tokens.input, tokens.output), expected);
    }
}

/// In whatever order an upstream sends its events, an Anthropic caller gets one start, blocks that do not
/// overlap and are numbered from 0, one stop with usage, and one end: the reader checks all that.
#[test]
fn fm27_anthropic_events_are_in_order() {
    let chunks = [
        chunk(json!({ "content": "a" }), None),
        part(Some(0), Some("t"), Some("f"), r#"{"x":"#),
        chunk(json!({ "content": "b" }), None),
        part(Some(0), None, None, "1}"),
        chunk(json!({ "reasoning_content": "hm" }), None),
        chunk(json!({}), Some("tool_calls")),
    ];
    let view = seen("openai-chat", "anthropic", &chat(&chunks), true);
    assert_eq!(view.ended, Ended::Complete);
    assert_eq!(only(&view).text, "ab");
    assert_eq!(only(&view).tools[0].value(), json!({ "x": 1 }));
}

/// A signature reaches a caller of another dialect and comes back to its origin unchanged; one of
/// another vendor, or none, is never made up.
#[test]
fn fm28_signatures_round_trip_and_are_never_made_up() {
    let signature = "EqQBCgIYAhIM+/=";
    let thinking = block(
        0,
        json!({ "type": "thinking", "thinking": "", "signature": "" }),
        &[
            json!({ "type": "thinking_delta", "thinking": "because" }),
            json!({ "type": "signature_delta", "signature": signature }),
        ],
    );
    let tool = block(1, json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} }), &[]);
    let events = [
        vec![start(json!({ "input_tokens": 1, "output_tokens": 1 }))],
        thinking,
        tool,
        ending("tool_use", json!({ "output_tokens": 5 })),
    ]
    .concat();
    let (anthropic, chat) = (dialect("anthropic"), towards("openai-chat"));
    let answer =
        run(anthropic, chat, (&call(false, true), Mode::Translated), &stream(&events), []).out;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let next = json!({ "model": "m", "messages": [
        { "role": "user", "content": "go" },
        answer["choices"][0]["message"],
        { "role": "tool", "tool_call_id": answer["choices"][0]["message"]["tool_calls"][0]["id"], "content": "done" },
    ] });
    let mut request = chat.decode_request(Form::Chat, &next.to_string()).unwrap();
    let target = Target { model: "c", stream: true, form: Form::Chat, quirks: &Quirks::default() };
    let sent: Value =
        serde_json::from_str(&written(&mut request, anthropic, &target).unwrap()).unwrap();
    assert_eq!(
        sent["messages"][1]["content"][0],
        json!({ "type": "thinking", "thinking": "because", "signature": signature })
    );

    let chunks = self::chat(&[
        chunk(json!({ "reasoning_content": "hm" }), None),
        chunk(json!({ "content": "x" }), Some("stop")),
    ]);
    let output = run(
        dialect("openai-chat"),
        towards("anthropic"),
        (&call(true, true), Mode::Translated),
        &chunks,
        [],
    )
    .out;
    assert!(!String::from_utf8(output).unwrap().contains("signature_delta"));
}

/// The role is said once per alternative, on its first delta, for alternatives that interleave, and
/// for answers that are all tools or all refusal.
#[test]
fn fm30_one_role_for_each_alternative() {
    let text = block(
        0,
        json!({ "type": "text", "text": "" }),
        &[json!({ "type": "text_delta", "text": "hi" })],
    );
    let tool = block(0, json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} }), &[]);
    for content in [text, tool, Vec::new()] {
        let usage = json!({ "input_tokens": 1, "output_tokens": 1 });
        let input =
            stream(&[vec![start(usage.clone())], content, ending("end_turn", usage)].concat());
        let (from, to) = (dialect("anthropic"), towards("openai-chat"));
        let output = run(from, to, (&call(true, false), Mode::Translated), &input, []).out;
        let roles =
            events(&output).unwrap().iter().filter(|(_, data)| data.contains("\"role\"")).count();
        assert_eq!(roles, 1);
        (reader("openai-chat").stream)(&output, false).unwrap();
    }
}

/// Keys that nobody here knows survive, in streams and in requests, byte for byte.
#[test]
fn fm31_unknown_fields_survive() {
    let payload = r#"{"id":"x","new":{"deep":[1,2.50,"\u00e9"]},"choices":[{"index":0,"delta":{"content":"hi","later":null},"finish_reason":"stop","more":1e400}]}"#;
    let chat = dialect("openai-chat");
    let input = format!("data: {payload}\n\ndata: [DONE]\n\n");
    let output = run(
        chat,
        towards("openai-chat"),
        (&call(true, true), Mode::Verbatim),
        input.as_bytes(),
        [],
    )
    .out;
    assert_eq!(String::from_utf8(output).unwrap(), input);

    let request = r#"{ "model": "a/b", "unknown": {"n": 12345678901234567890123, "s": "\ud83d"}, "stream":true , "messages":[] }"#;
    let target = Target { model: "b", stream: true, form: Form::Chat, quirks: &Quirks::default() };
    let edited = chat.edit_request(request, &target).unwrap();
    assert!(
        edited.contains(r#""unknown": {"n": 12345678901234567890123, "s": "\ud83d"}"#),
        "{edited}"
    );
}

/// Tools were called, so the stop says so, although the upstream said `stop`, or said it before the
/// calls; an empty finish reason is none.
#[test]
fn fm40_the_finish_reason_fits_the_answer() {
    let call = part(Some(0), Some("t"), Some("f"), "{}");
    for chunks in [
        vec![call.clone(), chunk(json!({}), Some("stop"))],
        vec![chunk(json!({}), Some("stop")), call.clone()],
        vec![
            chunk(json!({ "content": "a" }), Some("")),
            call,
            chunk(json!({}), Some("tool_calls")),
        ],
    ] {
        let view = seen("openai-chat", "anthropic", &chat(&chunks), true);
        assert_eq!(only(&view).stop.as_deref(), Some("tool_use"), "{chunks:?}");
    }
    let chat_only = chat(&[chunk(json!({ "content": "a" }), Some(""))]);
    let openai = dialect("openai-chat");
    let cut = run(
        openai,
        towards("openai-chat"),
        (&self::call(true, true), Mode::Verbatim),
        chat_only.strip_suffix(b"data: [DONE]\n\n").unwrap(),
        [],
    );
    assert_eq!(cut.end, End::Truncated);
}

/// A vendor's word for an answer that it broke off is no end of one.
#[test]
fn fm04_a_truncated_answer_gets_no_done_marker() {
    let chunks = [
        chunk(json!({ "content": "a" }), None),
        chunk(json!({}), Some("insufficient_system_resource")),
    ];
    let view = seen("openai-chat", "anthropic", &chat(&chunks), true);
    assert!(matches!(&view.ended, Ended::Error(said) if said.contains("insufficient")), "{view:?}");
}

/// `[DONE]` without a finish ends a text (some vendors do that), but neither an answer that never
/// began nor a tool call that may have been cut.
#[test]
fn fm04_done_alone_does_not_finish_a_tool_call() {
    let openai = dialect("openai-chat");
    let end = |chunks: &[Value]| {
        run(openai, towards("openai-chat"), (&call(true, true), Mode::Verbatim), &chat(chunks), [])
            .end
    };
    assert_eq!(end(&[chunk(json!({ "content": "a" }), None)]), End::Complete);
    assert_eq!(end(&[]), End::Truncated);
    assert_eq!(end(&[part(Some(0), Some("t"), Some("f"), r#"{"x":"#)]), End::Truncated);
}

/// An event without data keeps a connection alive, in any dialect.
#[test]
fn fm23_an_event_without_data_is_ignored() {
    let usage = json!({ "input_tokens": 1, "output_tokens": 1 });
    let text = block(
        0,
        json!({ "type": "text", "text": "" }),
        &[json!({ "type": "text_delta", "text": "hi" })],
    );
    let input = [
        stream(&[start(usage.clone())]),
        b"event: ping\ndata:\n\n".to_vec(),
        stream(&[text, ending("end_turn", usage)].concat()),
    ]
    .concat();
    assert_eq!(seen("anthropic", "openai-chat", &input, false).ended, Ended::Complete);
}

/// A tool that takes free text, called by a vendor that only knows functions: its caller is told the
/// text, as it comes, and gives the call back as it was told.
#[test]
fn free_form_arguments_are_streamed() {
    let pieces = ["{\"inp", "ut\": \"1 + ", "1 \\", "u00e", "9\"}"];
    let deltas = pieces.map(|piece| json!({ "type": "input_json_delta", "partial_json": piece }));
    let usage = json!({ "input_tokens": 1, "output_tokens": 1 });
    let tool = json!({ "type": "tool_use", "id": "t", "name": "calc", "input": {} });
    let input = stream(
        &[vec![start(usage.clone())], block(0, tool, &deltas), ending("tool_use", usage)].concat(),
    );
    let chat_tool = json!({ "type": "custom", "custom": { "name": "calc" } });
    let free_tool = json!({ "type": "custom", "name": "calc" });
    for (caller, tool) in [("openai-chat", chat_tool), ("openai-responses", free_tool)] {
        let to = towards(caller);
        let body =
            json!({ "model": "m", "messages": [], "input": "x", "tools": [tool] }).to_string();
        let request = to.decode_request(Form::Chat, &body).unwrap();
        assert!(request.tools[0].parameters.as_ref().unwrap().get().contains("input"));
        let way = |stream| ResponseContext {
            echo: to.echo(Form::Chat, &body),
            tool_forms: request.tool_forms.clone(),
            ..call(stream, false)
        };
        let out = run(dialect("anthropic"), to, (&way(true), Mode::Translated), &input, []).out;
        let mut told = Vec::new();
        for (_, data) in events(&out).unwrap().iter().filter(|(_, data)| data.starts_with('{')) {
            let value: Value = serde_json::from_str(data).unwrap();
            let custom = &value["choices"][0]["delta"]["tool_calls"][0]["custom"]["input"];
            let free = value["type"] == "response.custom_tool_call_input.delta";
            let text = if free { &value["delta"] } else { custom };
            told.extend(text.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned));
        }
        assert_eq!(told, ["1 + ", "1 ", "\u{e9}"], "{caller}");
        let out = run(dialect("anthropic"), to, (&way(false), Mode::Translated), &input, []).out;
        let whole: Value = serde_json::from_slice(&out).unwrap();
        let message = &whole["choices"][0]["message"];
        let said = if caller == "openai-chat" {
            assert_eq!(message["tool_calls"][0]["type"], "custom");
            &message["tool_calls"][0]["custom"]["input"]
        } else {
            assert_eq!(whole["output"][0]["type"], "custom_tool_call");
            &whole["output"][0]["input"]
        };
        assert_eq!(said, "1 + 1 \u{e9}", "{caller}");
        let next = json!({ "model": "m", "messages": [message], "input": whole["output"] });
        let request = to.decode_request(Form::Chat, &next.to_string()).unwrap();
        let Part::ToolCall { arguments, .. } = request.messages[0].parts.last().unwrap() else {
            panic!("{caller}: no call")
        };
        assert_eq!(arguments.get(), "{\"input\":\"1 + 1 \u{e9}\"}");
    }
}
