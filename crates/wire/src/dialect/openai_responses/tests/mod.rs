//! Tests of cases that fixtures and recordings do not cover: failure modes by number, and many shapes.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

mod requests;

use super::OpenAiResponses;
use crate::chat::{Delta, End, Kind, Stop, ToolForms, Usage};
use crate::dialect::{CallerDialect, Clock, Dialect, Form, Mode, ResponseContext};
use crate::framing::{Frame, Framing};
use crate::tally::Tally;
use crate::transcode::Transcoder;

fn call(stream: bool) -> ResponseContext {
    ResponseContext {
        id: "Q".repeat(24),
        created: 7,
        model: "asked".into(),
        stream,
        want_usage: true,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 7),
    }
}

/// Payloads as an event stream without names.
fn stream(payloads: &[Value]) -> String {
    let event = |payload| format!("data: {payload}\n\n");
    payloads.iter().map(event).collect::<Vec<_>>().concat()
}

struct Ran {
    events: Vec<Value>,
    end: End,
    tally: Tally,
}

fn run(mode: Mode, input: &str) -> Ran {
    let encoder = OpenAiResponses.encoder(&call(true), mode);
    let decoder = OpenAiResponses.decoder(Form::Chat);
    let mut codec = Transcoder::new(Framing::Sse, 1 << 20, decoder, encoder, mode);
    let mut out = BytesMut::new();
    codec.push(Bytes::copy_from_slice(input.as_bytes()), &mut out);
    codec.finish(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let payloads = data.filter(|data| *data != "[DONE]");
    let events = payloads.map(|data| serde_json::from_str(data).unwrap()).collect();
    Ran { events, end: codec.end().unwrap().clone(), tally: codec.tally().clone() }
}

fn kinds(ran: &Ran) -> Vec<&str> {
    ran.events.iter().map(|event| event["type"].as_str().unwrap_or("none")).collect()
}

fn created() -> Value {
    json!({ "type": "response.created", "sequence_number": 0, "response": { "id": "resp_up", "model": "m", "status": "in_progress" } })
}

fn text(delta: &str) -> Value {
    json!({ "type": "response.output_text.delta", "sequence_number": 1, "output_index": 0, "content_index": 0, "item_id": "msg", "delta": delta })
}

fn terminal(word: &str, more: &Value) -> Value {
    let mut response = json!({ "id": "resp_up", "status": word, "output": [],
        "usage": { "input_tokens": 5, "input_tokens_details": null, "output_tokens": 3 } });
    for (name, value) in more.as_object().unwrap() {
        response[name] = value.clone();
    }
    json!({ "type": format!("response.{word}"), "sequence_number": 2, "response": response })
}

const TERMINALS: [&str; 3] = ["response.completed", "response.incomplete", "response.failed"];

/// Failure mode 41: for any end of an answer, there is one terminal event, it is the last, and its usage
/// counts.
#[test]
fn fm41_one_terminal_event_and_its_usage() {
    let reason = json!({ "incomplete_details": { "reason": "max_output_tokens" } });
    let error = json!({ "error": { "code": "server_error", "message": "broken" } });
    for (word, more, stop) in [
        ("completed", json!({}), Some(Stop::End)),
        ("incomplete", reason, Some(Stop::MaxTokens)),
        ("incomplete", json!({}), Some(Stop::MaxTokens)),
        ("failed", error, None),
        ("failed", json!({ "error": null }), None),
        ("cancelled", json!({}), None),
    ] {
        let input = stream(&[created(), text("hi"), terminal(word, &more), text("late")]);
        for mode in [Mode::Verbatim, Mode::Translated] {
            let ran = run(mode, &input);
            let kinds = kinds(&ran);
            let last = kinds.last().unwrap();
            let ends = kinds.iter().filter(|kind| TERMINALS.contains(kind)).count();
            assert!(TERMINALS.contains(last) && ends == 1, "{word} {mode:?}: {kinds:?}");
            assert_eq!(ran.tally.usage.output, Some(3), "{word} {mode:?}");
            assert_eq!(ran.tally.stop, stop, "{word} {mode:?}");
            assert_eq!(ran.end == End::Complete, stop.is_some(), "{word} {mode:?}");
        }
    }
    let ran = run(Mode::Translated, &stream(&[created(), terminal("completed", &json!({}))]));
    assert_eq!(ran.events.last().unwrap()["response"]["usage"]["total_tokens"], 8);
}

/// Failure mode 4: the end of the bytes is not the end of the answer, nor is `[DONE]`, nor an item that is done.
#[test]
fn fm04_only_a_terminal_event_completes() {
    let done = json!({ "type": "response.output_item.done", "output_index": 0,
        "item": { "type": "message", "content": [{ "type": "output_text", "text": "hi" }] } });
    for tail in ["", "data: [DONE]\n\n"] {
        let input = stream(&[created(), text("hi"), done.clone()]) + tail;
        for mode in [Mode::Verbatim, Mode::Translated] {
            let ran = run(mode, &input);
            assert_eq!(ran.end, End::Truncated, "{tail:?}");
            let told: Vec<&str> = kinds(&ran).into_iter().rev().take(2).collect();
            assert_eq!(told, ["response.failed", "error"], "{mode:?}");
            // Events of the gateway continue the upstream's numbering.
            let numbers: Vec<u64> = ran
                .events
                .iter()
                .rev()
                .take(2)
                .filter_map(|e| e["sequence_number"].as_u64())
                .collect();
            assert_eq!(numbers[0], numbers[1] + 1, "{:?}", ran.events);
        }
    }
}

/// Failure mode 12: an error in any of its shapes reaches the caller where SDKs look for it, once.
#[test]
fn fm12_errors_in_the_stream_are_reported_once() {
    let nested = json!({ "type": "error", "sequence_number": 2, "error": { "type": "insufficient_quota", "code": "insufficient_quota", "message": "broken", "param": null } });
    let flat = json!({ "type": "error", "sequence_number": 2, "code": "server_error", "message": "broken", "param": null });
    let bare =
        json!({ "error": { "code": 503, "message": "broken", "type": "unavailable_error" } });
    let failed = terminal(
        "failed",
        &json!({ "error": { "code": "rate_limit_exceeded", "message": "broken" } }),
    );
    for (name, ends, kind) in [
        ("nested, then failed", vec![nested.clone(), failed.clone()], Kind::Billing),
        ("nested", vec![nested], Kind::Billing),
        ("flat", vec![flat], Kind::Upstream),
        ("bare", vec![bare], Kind::Overloaded),
        ("failed", vec![failed], Kind::RateLimited),
    ] {
        let input = stream(&[vec![created(), text("hi")], ends].concat());
        for mode in [Mode::Verbatim, Mode::Translated] {
            let ran = run(mode, &input);
            let End::Failed(fault) = &ran.end else { panic!("{name}: {:?}", ran.end) };
            assert_eq!((fault.message.as_str(), fault.kind), ("broken", kind), "{name}");
            let errors = ran.events.iter().filter(|event| event["type"] == "error").count();
            assert!(errors <= 1, "{name} {mode:?}: {:?}", kinds(&ran));
            let last = ran.events.last().unwrap();
            let told = if name == "bare" && mode == Mode::Verbatim {
                &last["error"]
            } else {
                assert_eq!(last["type"], "response.failed", "{name} {mode:?}");
                &last["response"]["error"]
            };
            // The vendor's message about the gateway's account is not passed on.
            let words = told["message"].as_str().unwrap_or_default();
            let ours = words.ends_with("(upstream_billing)");
            assert!(if kind == Kind::Billing { ours } else { words == "broken" }, "{name} {told}");
        }
        let translated = run(Mode::Translated, &input);
        let error = translated.events.iter().find(|event| event["type"] == "error").unwrap();
        assert_eq!(error["message"], error["error"]["message"]);
        assert_eq!(error["message"] == "broken", kind != Kind::Billing, "{error}");
    }
}

fn write(deltas: &[Delta<'_>], body: &str) -> Value {
    let call = match body {
        "" => call(false),
        body => {
            let tool_forms = OpenAiResponses.decode_request(Form::Chat, body).unwrap().tool_forms;
            ResponseContext {
                echo: OpenAiResponses.echo(Form::Chat, body),
                tool_forms,
                ..call(false)
            }
        }
    };
    let mut encoder = OpenAiResponses.encoder(&call, Mode::Translated);
    let mut out = BytesMut::new();
    encoder.frame(&Frame::default(), deltas, &mut out);
    encoder.finish(&End::Complete, None, &mut out);
    serde_json::from_slice(&out).unwrap()
}

/// Failure mode 40: the caller's tools are recognised by the form of their calls: free text for custom ones.
#[test]
fn custom_tools_are_called_with_free_text() {
    let body = "{\"model\":\"m\",\"input\":\"x\",\n\"tools\":[\r\n{\"type\":\"custom\",\"name\":\"sh\"},{\"type\":\"function\",\"name\":\"f\"}],\"temperature\":0.25}";
    let echo = OpenAiResponses.echo(Form::Chat, body);
    assert!(!echo.contains(['\n', '\r']), "{echo}");
    let start = |call, name: &'static str| Delta::ToolStart {
        choice: 0,
        call,
        id: name.into(),
        name: name.into(),
    };
    let json =
        |call, json: &'static str| Delta::ToolArguments { choice: 0, call, json: json.into() };
    let answer = write(
        &[start(0, "sh"), json(0, r#"{"input":"a \"b\" \u00e9"}"#), start(1, "f"), json(1, "{}")],
        body,
    );
    assert_eq!(answer["output"][0]["type"], "custom_tool_call");
    assert_eq!(answer["output"][0]["input"], "a \"b\" é");
    assert_eq!(answer["output"][1]["arguments"], "{}");
    assert_eq!((&answer["temperature"], &answer["tools"][1]["name"]), (&json!(0.25), &json!("f")));
    assert_eq!(
        (&answer["parallel_tool_calls"], &answer["truncation"]),
        (&json!(true), &json!("disabled"))
    );
}

/// A source that comes when its text is whole is written with the whole; one that comes before any
/// text, with the first.
#[test]
fn sources_find_their_text() {
    let source = |url: &str| {
        Delta::Citation(crate::chat::Citation {
            url: Some(url.into()),
            start: Some(3),
            end: Some(4),
            ..Default::default()
        })
    };
    let say = |text: &'static str| Delta::Text { choice: 0, text: text.into() };
    let tool = [
        Delta::ToolStart { choice: 0, call: 0, id: "t".into(), name: "f".into() },
        Delta::ToolArguments { choice: 0, call: 0, json: "{}".into() },
    ];
    let deltas = [
        vec![source("early"), say("abc")],
        tool.to_vec(),
        vec![source("late"), say("def"), source("own")],
    ]
    .concat();
    let output = write(&deltas, "")["output"].clone();
    let urls = |item: usize| -> Vec<(Value, Value)> {
        let list = output[item]["content"][0]["annotations"].as_array().unwrap();
        list.iter().map(|source| (source["url"].clone(), source["start_index"].clone())).collect()
    };
    assert_eq!(urls(0), [(json!("early"), json!(3)), (json!("late"), json!(3))]);
    assert_eq!(
        urls(2),
        [(json!("own"), json!(0))],
        "offsets count from the beginning of the answer"
    );
}

/// Answers that are not streamed: their content, and bodies that are not answers.
#[test]
fn whole_answers() {
    let read = |body: &str| {
        let frame = Frame { event: None, data: Bytes::copy_from_slice(body.as_bytes()) };
        let mut out = Vec::new();
        let end = OpenAiResponses.decoder(Form::Chat).answer(&frame, &mut out);
        (end, out.iter().map(|delta| delta.output().to_owned()).collect::<String>())
    };
    let body = json!({ "id": "r", "status": "completed", "error": null, "output": [
        { "type": "message", "content": [{ "type": "output_text", "text": "hi" }] } ] });
    assert_eq!(read(&body.to_string()), (End::Complete, "hi".into()));
    // In the background it is an answer that there is none yet.
    assert_eq!(read(r#"{"id":"r","status":"queued","output":[]}"#).0, End::Complete);
    assert_eq!(read("").0, End::Truncated);
    assert_eq!(read(r#"{"id":"r","output":[{"#).0, End::Truncated);
    for body in [
        "[]",
        "{}",
        "nothing",
        "{\"output\":[],\"status\":\"failed\"}",
        "{\"error\":\"no\"}",
        "{\"error\":{\"message\":\"no\"},\"output\":[]}",
    ] {
        assert!(matches!(read(body).0, End::Failed(_)), "{body}");
    }
}

/// Wrong types in every field of every event: read leniently or rejected, never a panic, and never a
/// clean end that the upstream did not write.
#[test]
fn wrong_types_do_no_harm() {
    let fields = [
        "output_index",
        "content_index",
        "summary_index",
        "item_id",
        "delta",
        "text",
        "refusal",
        "arguments",
        "input",
        "logprobs",
        "annotation",
        "item",
        "response",
        "error",
    ];
    let kinds = [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.refusal.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.delta",
        "response.output_text.annotation.added",
        "response.failed",
        "response.unheard_of",
        "error",
        "keepalive",
    ];
    let values = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!("x"),
        json!([1]),
        json!({ "type": "function_call", "name": 7, "content": 3 }),
        json!({ "type": "message", "content": [{ "text": {} }, 4], "output": 4, "usage": "many" }),
    ];
    for kind in kinds {
        for field in fields {
            for value in &values {
                let event = json!({ "type": kind, field: value });
                let ran = run(Mode::Translated, &stream(&[created(), event.clone()]));
                assert_ne!(ran.end, End::Complete, "{event}");
                run(Mode::Verbatim, &stream(&[event]));
            }
        }
    }
}

/// A missing count is never reported as zero.
#[test]
fn usage_is_never_made_up() {
    assert_eq!(write(&[Delta::Text { choice: 0, text: "x".into() }], "")["usage"], Value::Null);
    let usage = Delta::Usage(Usage { output: Some(4), ..Usage::default() });
    let counted = write(&[usage], "")["usage"].clone();
    assert_eq!((&counted["output_tokens"], &counted["total_tokens"]), (&json!(4), &json!(4)));
    assert_eq!(counted["input_tokens_details"]["cached_tokens"], 0);
}

/// JSON that an upstream writes on several lines is put on one line, or the event would end within it.
#[test]
fn log_probabilities_are_on_one_line() {
    let body = json!({ "id": "r", "model": "m", "status": "completed", "output": [] });
    let logprobs = "[{\"token\":\r\n\"a\",\n\"logprob\": -1}]";
    let item = format!(
        r#"{{"type":"message","content":[{{"type":"output_text","text":"a","logprobs":{logprobs}}}]}}"#
    );
    let body = body.to_string().replace("[]", &format!("[{item}]"));
    let encoder = OpenAiResponses.encoder(&call(true), Mode::Translated);
    let decoder = OpenAiResponses.decoder(Form::Chat);
    let mut codec = Transcoder::new(Framing::Whole, 1 << 20, decoder, encoder, Mode::Translated);
    let mut out = BytesMut::new();
    codec.push(Bytes::from(body), &mut out);
    codec.finish(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data = data.filter(|data| *data != "[DONE]");
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(
        events.last().unwrap()["response"]["output"][0]["content"][0]["logprobs"][0]["token"],
        "a"
    );
}

/// Items without an end do not make looking for one expensive.
#[test]
fn items_that_never_end_are_forgotten() {
    let mut decoder = OpenAiResponses.decoder(Form::Chat);
    for index in 0..20_000 {
        let event =
            json!({ "type": "response.output_text.delta", "output_index": index, "delta": "x" });
        let frame = Frame { event: None, data: Bytes::from(event.to_string()) };
        let mut out = Vec::new();
        assert_eq!(decoder.frame(&frame, &mut out), None);
        assert_eq!(out.len(), 1);
    }
}
