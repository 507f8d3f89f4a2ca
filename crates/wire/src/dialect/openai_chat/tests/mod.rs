//! Behaviour of this dialect as a whole: payloads in, payloads out, and the ends between.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::OpenAiChat;
use crate::chat::{ApiError, Delta, End, Kind, Part, Stop, ToolForms, Usage};
use crate::dialect::{
    CallerDialect, Clock, Dialect, Envelope, Form, Mode, Quirks, RequestView, ResponseContext,
    Target,
};
use crate::framing::{Frame, Framing};
use crate::recordings_for_tests::recordings;
use crate::transcode::Transcoder;

fn call(stream: bool, want_usage: bool) -> ResponseContext {
    ResponseContext {
        id: "Q".repeat(24),
        created: 7,
        model: "asked".into(),
        stream,
        want_usage,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 7),
    }
}

fn transcoder(framing: Framing, mode: Mode, call: &ResponseContext) -> Transcoder {
    Transcoder::new(
        framing,
        1 << 24,
        OpenAiChat.decoder(Form::Chat),
        OpenAiChat.encoder(call, mode),
        mode,
    )
}

fn sse(payloads: &[&str]) -> Vec<u8> {
    payloads.iter().flat_map(|payload| format!("data: {payload}\n\n").into_bytes()).collect()
}

/// Runs a stream through, in pieces of `step` bytes.
fn run(input: &[u8], step: usize, mode: Mode, call: &ResponseContext) -> (End, String) {
    let mut transcoder = transcoder(Framing::Sse, mode, call);
    let mut out = BytesMut::new();
    for piece in input.chunks(step.max(1)) {
        transcoder.push(Bytes::copy_from_slice(piece), &mut out);
    }
    transcoder.finish(&mut out);
    (transcoder.end().unwrap().clone(), String::from_utf8_lossy(&out).into_owned())
}

fn translated(payloads: &[&str]) -> (End, Vec<Value>) {
    let (end, out) = run(&sse(payloads), usize::MAX, Mode::Translated, &call(true, false));
    let lines = out.lines().filter_map(|line| line.strip_prefix("data: "));
    (end, lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| json!(line))).collect())
}

fn deltas(payloads: &[&str]) -> (Vec<Delta<'static>>, End) {
    let mut decoder = OpenAiChat.decoder(Form::Chat);
    let mut all = Vec::new();
    for payload in payloads {
        let data = Bytes::copy_from_slice(payload.as_bytes());
        let frame: &'static Frame = Box::leak(Box::new(Frame { event: None, data }));
        if let Some(end) = decoder.frame(frame, &mut all) {
            return (all, end);
        }
    }
    (all, decoder.finish())
}

fn text(text: &str) -> String {
    json!({"id": "a", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]})
        .to_string()
}

const STOP: &str = r#"{"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str =
    r#"{"id":"a","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

fn envelope(body: &str) -> Result<Envelope, ApiError> {
    OpenAiChat.envelope(&RequestView {
        form: Form::Chat,
        path: "/v1/chat/completions",
        query: "",
        body,
    })
}

#[test]
fn payloads_stay_as_they_came_and_unasked_usage_is_hidden() {
    let odd = r#"{ "id":"a","x":1.50,"choices":[{"delta":{"content":"\u00e9"}}] }"#;
    let input = sse(&[odd, ": keepalive", STOP, USAGE, "[DONE]", "{}"]);
    let (end, out) = run(&input, 1, Mode::Verbatim, &call(true, false));
    assert_eq!(end, End::Complete);
    assert_eq!(out.into_bytes(), sse(&[odd, STOP, "[DONE]"]));
    let (_, out) = run(&input, 3, Mode::Verbatim, &call(true, true));
    assert_eq!(out.into_bytes(), sse(&[odd, STOP, USAGE, "[DONE]"]));
}

#[test]
fn an_end_without_a_finish_is_an_error_and_never_done() {
    for mode in [Mode::Verbatim, Mode::Translated] {
        let (end, out) = run(&sse(&[&text("hi")]), 5, mode, &call(true, false));
        assert_eq!(end, End::Truncated);
        assert!(out.contains(r#"data: {"error":{"#) && !out.contains("[DONE]"));
        assert!(!out.contains(r#""finish_reason":"stop""#));
    }
    let (end, _) = run(&sse(&[&text("hi"), STOP]), 5, Mode::Translated, &call(true, false));
    assert_eq!(end, End::Complete);
}

#[test]
fn errors_in_streams_keep_their_payload_where_sdks_understand_it() {
    let error = r#"{"error":{"message":"no","code":502,"extra":1}}"#;
    let (end, out) = run(&sse(&[&text("a"), error]), 9, Mode::Verbatim, &call(true, false));
    assert!(matches!(end, End::Failed(ref fault) if fault.kind == Kind::Upstream), "{end:?}");
    assert_eq!(out.into_bytes(), sse(&[&text("a"), error]));
    let flat = r#"{"object":"error","message":"too long","type":"BadRequestError","code":400}"#;
    let (end, out) = run(&sse(&[flat]), 9, Mode::Verbatim, &call(true, false));
    assert!(matches!(end, End::Failed(ref fault) if fault.kind == Kind::Invalid));
    assert!(out.starts_with(r#"data: {"error":{"#) && out.contains("too long"));
    let (_, end) = deltas(&["{\"choices\":[{"]);
    assert!(matches!(end, End::Failed(ref fault) if fault.message.contains("not valid JSON")));
}

#[test]
fn calls_are_numbered_and_named_whatever_the_upstream_does() {
    let part =
        |body: &str| format!(r#"{{"id":"ans-1","choices":[{{"delta":{{"tool_calls":{body}}}}}]}}"#);
    let (all, end) = deltas(&[
        &part(r#"[{"index":1,"id":"x","function":{"name":"f","arguments":""}}]"#),
        &part(r#"[{"index":1,"id":"","function":{"name":null,"arguments":"{\"a\":"}}]"#),
        &part(r#"[{"index":1,"id":"x","function":{"arguments":"1}"}}]"#),
        &part(r#"[{"index":1,"id":"y","function":{"name":"g","arguments":{"k": 1.0}}}]"#),
        &part(r#"[{"function":{"name":"h","arguments":"{}"}},{"id":"x","function":{"name":"i"}}]"#),
        STOP,
    ]);
    assert_eq!(end, End::Complete);
    let starts: Vec<_> = (all.iter())
        .filter_map(|delta| match delta {
            Delta::ToolStart { call, id, name, .. } => {
                Some((*call, id.to_string(), name.to_string()))
            }
            _ => None,
        })
        .collect();
    let expected = [(0, "x", "f"), (1, "y", "g"), (2, "call_ans1_2", "h")];
    for (start, (call, id, name)) in starts.iter().zip(expected) {
        assert_eq!(start, &(call, id.to_owned(), name.to_owned()));
    }
    assert!(all.contains(&Delta::ToolArguments {
        choice: 0,
        call: 1,
        json: r#"{"k": 1.0}"#.into()
    }));
    assert!(all.contains(&Delta::Stop { choice: 0, reason: Stop::ToolUse }));
}

#[test]
fn mistral_openrouter_and_xai_have_their_ways() {
    let (all, _) = deltas(&[
        r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"1"}]}}]}"#,
        r#"{"choices":[{"delta":{"reasoning":"r","reasoning_details":[{"type":"reasoning.text","text":"r","signature":"S","format":"anthropic-claude-v1"}]}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":16,"completion_tokens_details":{"reasoning_tokens":5}}}"#,
    ]);
    let told: Vec<&str> = all.iter().map(Delta::output).filter(|text| !text.is_empty()).collect();
    assert_eq!(told, ["hm", "1", "r"]);
    assert!(
        all.iter().any(|delta| matches!(delta, Delta::Signature { value, .. } if value == "S"))
    );
    let usage = Usage { input: Some(10), output: Some(6), reasoning: Some(5), ..Usage::default() };
    assert!(all.contains(&Delta::Usage(usage)));
}

#[test]
fn a_character_cut_in_two_is_joined() {
    let (all, _) = deltas(&[
        r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#,
        r#"{"choices":[{"delta":{"content":"\udd04b"}}]}"#,
        r#"{"choices":[{"delta":{"content":"\ud83d"}}]}"#,
        r#"{"choices":[{"delta":{"content":"c"}}]}"#,
    ]);
    let told: String = all.iter().map(Delta::output).collect();
    assert_eq!(told, "a\u{1F504}b\u{FFFD}c");
}

#[test]
fn a_translated_stream_is_legal() {
    let (end, events) = translated(&[
        r#"{"id":"a","model":"m","choices":[]}"#,
        &text("x"),
        r#"{"choices":[{"index":0,"delta":{"content":"y"},"logprobs":{"content":[{"token":"y"}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":4,"id":"t","function":{"name":"f"}}]}}]}"#,
        STOP,
        STOP,
        USAGE,
        "[DONE]",
    ]);
    assert_eq!(end, End::Complete);
    let roles = events.iter().filter(|event| event["choices"][0]["delta"]["role"] == "assistant");
    assert_eq!(roles.count(), 1);
    let finishes: Vec<&Value> = (events.iter().map(|event| &event["choices"][0]["finish_reason"]))
        .filter(|reason| reason.is_string())
        .collect();
    assert_eq!(finishes, ["tool_calls"]);
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert!(events.iter().all(|event| event["model"] == "m" || event == "[DONE]"));
    let arguments = &events[events.len() - 3]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!(arguments, &json!({"index": 0, "function": {"arguments": "{}"}}));
    assert!(
        events.iter().any(|event| event["choices"][0]["logprobs"]["content"][0]["token"] == "y")
    );
}

#[test]
fn a_whole_answer_is_read_and_written() {
    let body = json!({"id": "a", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": null, "reasoning": "hm",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"b\":1}"}}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}});
    let mut whole = transcoder(Framing::Whole, Mode::Translated, &call(false, false));
    let mut out = BytesMut::new();
    whole.push(Bytes::from(body.to_string()), &mut out);
    whole.finish(&mut out);
    assert_eq!(whole.end(), Some(&End::Complete));
    let answer: Value = serde_json::from_slice(&out).unwrap();
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["reasoning_content"], "hm");
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"b\":1}");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(answer["usage"]["total_tokens"], 3);
    for (body, truncated) in [("", true), ("{\"cho", true), (r#"{"error":"no"}"#, false)] {
        let frame = Frame { event: None, data: Bytes::from_static(body.as_bytes()) };
        let end = OpenAiChat.decoder(Form::Chat).answer(&frame, &mut Vec::new());
        assert_eq!(end == End::Truncated, truncated, "{body}");
        assert_ne!(end, End::Complete);
    }
}

#[test]
fn requests_are_edited_in_place() {
    let quirks = Quirks::default();
    let target = Target { model: "gpt", stream: true, form: Form::Chat, quirks: &quirks };
    let body = r#"{ "model":"x", "n": 1.0, "stream_options":{"include_obfuscation":false}}"#;
    let edited = OpenAiChat.edit_request(body, &target).unwrap();
    assert_eq!(
        edited,
        r#"{ "model":"gpt", "n": 1.0, "stream_options":{"include_obfuscation":false,"include_usage":true},"stream":true}"#
    );
    // A server that takes the older name of the limit only is sent that name.
    let quirks =
        Quirks { only_legacy_max_tokens: true, stream_options: false, ..Quirks::default() };
    let target = Target { model: "gpt", stream: false, form: Form::Chat, quirks: &quirks };
    for (body, edited) in [
        (r#"{"model":"x","max_completion_tokens":5}"#, r#"{"model":"gpt","max_tokens":5}"#),
        (
            r#"{"model":"x","max_tokens":4,"max_completion_tokens":5}"#,
            r#"{"model":"gpt","max_tokens":4}"#,
        ),
        (r#"{"model":"x","max_tokens":4}"#, r#"{"model":"gpt","max_tokens":4}"#),
    ] {
        assert_eq!(OpenAiChat.edit_request(body, &target).unwrap(), edited);
    }
    let fault = envelope(r#"{"model":"m","stream":"yes"}"#).unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("stream"));
    let fault = envelope("{\"model\":\"secret\",}").unwrap_err();
    assert!(fault.message.contains("line 1") && !fault.message.contains("secret"));
}

#[test]
fn the_default_effort_is_none_of_its_own() {
    let body =
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"default"}"#;
    assert_eq!(OpenAiChat.decode_request(Form::Chat, body).unwrap().reasoning, None);
}

#[test]
fn requests_are_translated_both_ways_without_loss() {
    let body = json!({"model": "m", "max_tokens": 9, "stop": "end", "reasoning_effort": "low",
      "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}]},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1.0}"}}]},
        {"role": "tool", "tool_call_id": "t", "content": "42"},
        {"role": "user", "content": "and?"}],
      "tools": [{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2.50}}}],
      "tool_choice": {"type": "function", "function": {"name": "f"}},
      "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}});
    let body = body.to_string().replace("2.5,", "2.50,");
    let request = OpenAiChat.decode_request(Form::Chat, &body).unwrap();
    assert!(matches!(request.messages[3].parts[0], Part::ToolResult { .. }));
    let quirks = Quirks { reasoning_field: Some("reasoning_content".into()), ..Quirks::default() };
    let target = Target { model: "gpt", stream: true, form: Form::Chat, quirks: &quirks };
    let written = OpenAiChat.encode_request(&request, &target).unwrap();
    assert!(written.contains("2.50"), "{written}");
    let value: Value = serde_json::from_str(&written).unwrap();
    let source: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(value["messages"][0], json!({"role": "system", "content": "be brief"}));
    for i in 1..5 {
        assert_eq!(value["messages"][i], source["messages"][i], "message {i}");
    }
    for member in ["tools", "tool_choice", "response_format", "reasoning_effort"] {
        assert_eq!(value[member], source[member], "{member}");
    }
    assert_eq!(value["max_completion_tokens"], 9);
    assert_eq!(value["stop"], json!(["end"]));
    assert_eq!(value["stream_options"], json!({"include_usage": true}));
    // A server that takes ids of one length gets them, and a call and its result meet.
    let quirks = Quirks { call_id_length: Some(9), ..Quirks::default() };
    let target = Target { model: "gpt", stream: true, form: Form::Chat, quirks: &quirks };
    let written = OpenAiChat.encode_request(&request, &target).unwrap();
    let value: Value = serde_json::from_str(&written).unwrap();
    let id = value["messages"][2]["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!(id.len(), 9);
    assert_eq!(value["messages"][3]["tool_call_id"], id);
}

#[test]
fn a_wrong_request_is_told_by_its_field_and_not_by_its_content() {
    let cases = [
        (r#"{"messages":"SECRET"}"#, "messages"),
        (r#"{"messages":[{"content":"SECRET"}]}"#, "messages[0].role"),
        (r#"{"messages":[{"role":"SECRET"}]}"#, "messages[0].role"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"input_audio","x":"SECRET"}]}]}"#,
            "messages[0].content[0].input_audio",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":7}]}]}"#,
            "messages[0].content[0].text",
        ),
        (r#"{"messages":[],"temperature":"SECRET, expected x"}"#, "temperature"),
        (r#"{"messages":[],"tools":[{"type":"teleport","to":"SECRET"}]}"#, "tools[0]"),
        (
            r#"{"messages":[],"tools":[{"type":"custom","custom":{"name":7}}]}"#,
            "tools[0].custom.name",
        ),
        (
            r#"{"messages":[],"tools":[{"type":"function","function":{}}]}"#,
            "tools[0].function.name",
        ),
        (r#"{"messages":[],"tool_choice":{"type":"allowed_tools"}}"#, "tool_choice.allowed_tools"),
        (r#"{"messages":[],"functions":[{"title":"SECRET"}]}"#, "functions[0].name"),
    ];
    for (body, param) in cases {
        let fault = OpenAiChat.decode_request(Form::Chat, body).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(param), "{}", fault.message);
        assert!(fault.message.contains(param) && !fault.message.contains("SECRET"));
    }
    let fault = OpenAiChat.decode_request(Form::Chat, "{\"messages\":SECRET}").unwrap_err();
    assert!(fault.param.is_none() && fault.message.contains("column"));
}

#[test]
fn every_recorded_error_has_a_message_and_a_kind() {
    for path in recordings("errors") {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".request.json") {
            continue;
        }
        let status: u16 = name.split("__").nth(1).unwrap().parse().unwrap();
        let fault = OpenAiChat.decode_error(status, &std::fs::read(&path).unwrap());
        assert!(!fault.message.is_empty(), "{name}");
        assert!(!fault.message.contains("no readable message"), "{name}");
        let told: Value = serde_json::from_str(&OpenAiChat.error_body(&fault, "r", None)).unwrap();
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains(&fault.message), "{message}");
        let expected = match name {
            _ if name.contains("context-size") || name.contains("too-many-prompt") => Kind::Context,
            _ if name.starts_with("xai__400") || name.contains("__401__") => Kind::Authentication,
            _ if name.starts_with("google-gemini__400") => Kind::Authentication,
            _ if name.contains("__429__") => Kind::RateLimited,
            _ => continue,
        };
        assert_eq!(fault.kind, expected, "{name}: {fault:?}");
    }
    assert_eq!(OpenAiChat.decode_error(502, b"<html>").kind, Kind::Upstream);
}

#[test]
fn every_recorded_stream_passes_through() {
    for path in recordings("openai-chat") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sse") => std::fs::read(&path).unwrap(),
            Some("ndjson") => {
                let lines = std::fs::read_to_string(&path).unwrap();
                let mut payloads: Vec<&str> =
                    lines.lines().filter(|line| !line.is_empty()).collect();
                payloads.push("[DONE]");
                sse(&payloads)
            }
            _ => continue,
        };
        let (end, verbatim) = run(&bytes, usize::MAX, Mode::Verbatim, &call(true, true));
        for step in [1, 7, 1000] {
            for mode in [Mode::Verbatim, Mode::Translated] {
                let (cut, out) = run(&bytes, step, mode, &call(true, true));
                assert_eq!(cut, end, "{name} in steps of {step}");
                assert_eq!(out.ends_with("data: [DONE]\n\n"), end == End::Complete, "{name}");
                assert!(mode == Mode::Translated || out == verbatim, "{name} in steps of {step}");
            }
        }
        for line in verbatim.lines().filter(|line| line.starts_with("data: {")) {
            let payload = line.strip_prefix("data: ").unwrap().as_bytes();
            assert!(memchr::memmem::find(&bytes, payload).is_some(), "{name}");
        }
        let failed = memchr::memmem::find(&bytes, br#""error":{"#).is_some();
        assert_eq!(matches!(end, End::Failed(_)), failed, "{name}: {end:?}");
        assert!(failed || end == End::Complete, "{name}: {end:?}");
    }
}

#[test]
fn an_envelope_tells_the_most_that_an_answer_may_be() {
    for (fields, max_output, choices) in [
        ("", None, 1),
        (r#","max_tokens":7"#, Some(7), 1),
        (r#","max_completion_tokens":9,"n":3"#, Some(9), 3),
        (r#","max_completion_tokens":9,"max_tokens":9"#, Some(9), 1),
        (r#","max_completion_tokens":9,"max_tokens":null"#, Some(9), 1),
        // Of these names, llama.cpp's server obeys its own.
        (r#","max_tokens":9,"n_predict":70"#, Some(70), 1),
        (r#","max_tokens":null,"n":null"#, None, 1),
        // The upstream reports these as invalid.
        (r#","max_tokens":-1,"n":"many""#, None, 1),
        (r#","max_tokens":99999999999999999999999"#, Some(u64::MAX), 1),
        // Lenient servers take these.
        (r#","max_tokens":"90","n":50.0"#, Some(90), 50),
        (r#","max_tokens":9e1,"n":"50""#, Some(90), 50),
        (r#","n":2,"best_of":20"#, None, 20),
        (r#","n":0,"best_of":null"#, None, 1),
    ] {
        let body = format!(r#"{{"model":"m"{fields}}}"#);
        let asked = |form| RequestView { form, path: "", query: "", body: &body };
        let envelope = OpenAiChat.envelope(&asked(Form::Chat)).unwrap();
        assert_eq!((envelope.max_output, envelope.choices), (max_output, choices), "{fields}");
    }
}

#[test]
fn every_prompt_of_a_list_is_answered() {
    for (prompt, choices) in [
        (r#""a""#, 4),
        ("[1,2,3]", 4),
        (r#"["a","b","c"]"#, 12),
        ("[[1,2],[3]]", 8),
        ("[]", 4),
        ("7", 4),
    ] {
        let body = format!(r#"{{"model":"m","n":2,"best_of":4,"prompt":{prompt}}}"#);
        let asked = |form| RequestView { form, path: "", query: "", body: &body };
        let envelope = OpenAiChat.envelope(&asked(Form::Completions)).unwrap();
        assert_eq!(envelope.choices, choices, "{prompt}");
    }
}

#[test]
fn limits_on_output_that_differ_are_refused() {
    let body = r#"{"model":"m","max_completion_tokens":9,"max_tokens":70}"#;
    let asked = RequestView { form: Form::Chat, path: "", query: "", body };
    let fault = OpenAiChat.envelope(&asked).unwrap_err();
    assert_eq!((fault.kind, fault.param.as_deref()), (Kind::Invalid, Some("max_tokens")));
}
