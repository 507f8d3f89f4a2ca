//! Single events, whole answers and errors.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::grammar::read;
use super::{call, relay};
use crate::chat::{ApiError, Delta, End, Kind, Stop, Usage};
use crate::dialect::anthropic::Anthropic;
use crate::dialect::{CallerDialect, Decode, Dialect, Form, Mode};
use crate::framing::Frame;
use crate::model_list::ModelInfo;

fn frame(payload: &str) -> Frame {
    Frame { event: None, data: Bytes::copy_from_slice(payload.as_bytes()) }
}

/// Decodes payloads and shows the deltas, so that they outlive their frames.
fn decode(payloads: &[&str]) -> (Vec<String>, Option<End>) {
    let mut decoder = Anthropic.decoder(Form::Chat);
    let mut shown = Vec::new();
    for payload in payloads {
        let frame = frame(payload);
        let mut deltas = Vec::new();
        let end = decoder.frame(&frame, &mut deltas);
        shown.extend(deltas.iter().map(|delta| format!("{delta:?}")));
        if end.is_some() {
            return (shown, end);
        }
    }
    (shown, None)
}

fn text(text: &str) -> String {
    format!("{:?}", Delta::Text { choice: 0, text: text.into() })
}

#[test]
fn usage_replaces_and_sums_the_latest_parts() {
    let mut decoder = Anthropic.decoder(Form::Chat);
    let usage = |decoder: &mut Box<dyn Decode>, payload: &str| {
        let frame = frame(payload);
        let mut deltas = Vec::new();
        decoder.frame(&frame, &mut deltas);
        deltas.iter().find_map(|d| if let Delta::Usage(usage) = d { Some(*usage) } else { None })
    };
    let start = r#"{"type":"message_start","message":{"id":"m","model":"x","usage":{"input_tokens":10,"cache_read_input_tokens":100,"cache_creation_input_tokens":1,"output_tokens":2}}}"#;
    assert_eq!(usage(&mut decoder, start).unwrap().input, Some(111));
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":20,"cache_read_input_tokens":null,"output_tokens":7,"output_tokens_details":{"thinking_tokens":3}}}"#;
    let expected = Usage {
        input: Some(121),
        cache_read: Some(100),
        cache_write: Some(1),
        output: Some(7),
        reasoning: Some(3),
    };
    assert_eq!(usage(&mut decoder, delta), Some(expected));
    assert_eq!(decoder.finish(), End::Truncated);
}

#[test]
fn halves_of_a_character_in_two_deltas_are_joined() {
    let delta = |text: &str| {
        format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
        )
    };
    let stop = r#"{"type":"content_block_stop","index":0}"#;
    let joined = decode(&[&delta(r"a\ud83d"), &delta(r"\ude00b"), stop]).0;
    assert_eq!(joined, [text("a"), text("😀b")]);
    let alone = decode(&[&delta(r"a\ud83d"), stop]).0;
    assert_eq!(alone, [text("a"), text("\u{FFFD}")]);
}

#[test]
fn citations_cover_their_block() {
    let shown = decode(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"é1"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":[]}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","url":"u","title":"t","cited_text":"c","encrypted_index":"e"}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"abc"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
    ])
    .0;
    assert_eq!(shown.len(), 3);
    assert!(shown[2].contains("start: Some(2), end: Some(5)"), "{}", shown[2]);
}

#[test]
fn tools_with_their_input_in_the_start_or_without_any() {
    let start = |index: u32, input: &str| {
        format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"tool_use","id":"same","name":"f"{input}}}}}"#
        )
    };
    let (shown, _) = decode(&[
        &start(0, r#","input":{"b":1,"a":2}"#),
        r#"{"type":"content_block_stop","index":0}"#,
        &start(1, ""),
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
    ]);
    assert_eq!(shown.len(), 4);
    assert!(shown[3].contains(r#"json: "{}""#), "{}", shown[3]);
    assert!(shown[1].contains(r#"{\"b\":1,\"a\":2}"#), "{}", shown[1]);
    assert!(shown[2].contains("call: 1") && !shown[2].contains("\"same\""), "{}", shown[2]);
}

#[test]
fn ends_are_told_apart() {
    let stop = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{}}"#;
    assert_eq!(decode(&[stop, "[DONE]"]).1, Some(End::Complete));
    assert_eq!(decode(&["[DONE]"]).1, Some(End::Truncated));
    assert_eq!(decode(&[r#"{"type":"message_stop"}"#]).1, Some(End::Complete));
    let start = r#"{"type":"message_start","message":{}}"#;
    assert!(matches!(decode(&[start, start]).1, Some(End::Failed(_))));
    assert!(matches!(decode(&[r#"{"type":"content_blo"#]).1, Some(End::Failed(_))));
    assert_eq!(decode(&[r#"{"type":"later","delta":"odd","usage":7}"#]).1, None);
    let Some(End::Failed(fault)) =
        decode(&[r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#])
            .1
    else {
        panic!("an error must fail")
    };
    assert_eq!((fault.kind, fault.message.as_str()), (Kind::Overloaded, "Overloaded"));
}

#[test]
fn verbatim_streams_get_names_and_one_end() {
    let start = "data: {\"type\":\"message_start\", \"message\":{},\"new\":1}\n\n";
    let (out, end) = relay(start.as_bytes(), Mode::Verbatim, 5);
    assert_eq!(end, End::Truncated);
    assert!(
        out.starts_with("event: message_start\ndata: {\"type\":\"message_start\", \"mess"),
        "{out}"
    );
    assert!(out.contains("event: error\n") && !out.contains("message_stop"), "{out}");

    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"x\",\"details\":null}}\n\n";
    let (out, _) = relay(
        format!("event: ping\ndata: {{\"type\":\"ping\"}}\n\n{error}").as_bytes(),
        Mode::Verbatim,
        1,
    );
    assert_eq!(out, error);

    let done = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{}}\n\ndata: [DONE]\n\n";
    let (out, end) = relay(done.as_bytes(), Mode::Verbatim, 7);
    assert_eq!(end, End::Complete);
    assert!(out.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{out}");
}

#[test]
fn whole_answers_are_read_and_written() {
    let body = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"hi"},{"type":"tool_use","id":"t","name":"f","input":{"z":1.0,"a":2}}],"stop_reason":"refusal","stop_sequence":null,"stop_details":{"type":"refusal","explanation":"no"},"usage":{"input_tokens":1,"output_tokens":2}}"#;
    let frame = frame(body);
    let mut deltas = Vec::new();
    assert_eq!(Anthropic.decoder(Form::Chat).answer(&frame, &mut deltas), End::Complete);
    let stop = Stop::Refusal(Some("no".to_owned()));
    assert_eq!(deltas.last(), Some(&Delta::Stop { choice: 0, reason: stop }));

    let mut encoder = Anthropic.encoder(&call(false), Mode::Translated);
    let mut out = BytesMut::new();
    encoder.frame(&frame, &deltas, &mut out);
    encoder.finish(&End::Complete, None, &mut out);
    let out = String::from_utf8(out.to_vec()).unwrap();
    assert!(out.contains(r#""input":{"z":1.0,"a":2}"#), "{out}");
    let (written, sent): (Value, Value) =
        (serde_json::from_str(&out).unwrap(), serde_json::from_str(body).unwrap());
    assert_eq!(written["content"], sent["content"]);
    assert_eq!(written["usage"], sent["usage"]);
    assert_eq!(written["stop_reason"], "refusal");

    let mut none = Vec::new();
    let mut answer = |body: &str| {
        let frame = self::frame(body);
        let mut deltas = Vec::new();
        let end = Anthropic.decoder(Form::Chat).answer(&frame, &mut deltas);
        none.push(deltas.len());
        end
    };
    assert_eq!(answer(" \n"), End::Truncated);
    assert!(matches!(answer("<html>"), End::Failed(_)));
    assert!(matches!(answer("{}"), End::Failed(_)));
    assert!(matches!(answer(r#"{"type":"error","error":{}}"#), End::Failed(_)));
}

#[test]
fn an_answer_without_content_is_still_whole() {
    let mut encoder = Anthropic.encoder(&call(true), Mode::Translated);
    let mut out = BytesMut::new();
    encoder.finish(&End::Complete, None, &mut out);
    let read = read(std::str::from_utf8(&out).unwrap()).unwrap();
    assert_eq!(read.stop_reason.as_deref(), Some("end_turn"));
}

#[test]
fn broken_arguments_do_not_pass_for_whole_ones() {
    let mut encoder = Anthropic.encoder(&call(false), Mode::Translated);
    let mut out = BytesMut::new();
    let deltas = [
        Delta::ToolStart { choice: 0, call: 0, id: "a".into(), name: "f".into() },
        Delta::ToolArguments { choice: 0, call: 0, json: "{\"a\":".into() },
    ];
    encoder.frame(&Frame::default(), &deltas, &mut out);
    encoder.finish(&End::Complete, None, &mut out);
    let message: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(message["content"][0]["input"], json!({ "_truncated": "{\"a\":" }));
}

#[test]
fn errors_of_all_shapes_are_read() {
    let cases = [
        (
            401,
            r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#,
            Kind::Authentication,
            "no",
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 2 > 1"}}"#,
            Kind::Context,
            "prompt is too long: 2 > 1",
        ),
        (529, r#"{"error":"busy"}"#, Kind::Overloaded, "busy"),
        (422, r#"{"detail":"odd"}"#, Kind::Invalid, "odd"),
        (429, r#"{"message":"slow"}"#, Kind::RateLimited, "slow"),
        (500, "<html>", Kind::Upstream, "the upstream answered with status 500 and no reason"),
    ];
    for (status, body, kind, message) in cases {
        let fault = Anthropic.decode_error(status, body.as_bytes());
        assert_eq!((fault.kind, fault.message.as_str()), (kind, message));
    }
}

#[test]
fn errors_and_models_are_written() {
    let fault = ApiError::field("messages[0]", "is \"odd\"");
    let body: Value = serde_json::from_str(&Anthropic.error_body(&fault, "req_1", None)).unwrap();
    let error = json!({ "type": "invalid_request_error", "message": "messages[0]: is \"odd\"" });
    assert_eq!(body, json!({ "type": "error", "error": error, "request_id": "req_1" }));
    assert_eq!(Anthropic.status(Kind::Overloaded), 529);
    let list = |models: &[&str], query: &str| -> Value {
        let models: Vec<_> = models.iter().map(|name| ModelInfo::named(*name)).collect();
        serde_json::from_str(&Anthropic.models(&models, query).unwrap()).unwrap()
    };
    let models = list(&["a", "b"], "");
    assert_eq!((&models["first_id"], &models["data"][1]["id"]), (&json!("a"), &json!("b")));
    let none = list(&[], "");
    assert_eq!(none["first_id"], Value::Null);
}

/// A type is not a code: written as one, it would hide the codes that other dialects' callers branch on.
#[test]
fn the_type_of_an_error_is_not_its_code() {
    let body = r#"{"type":"error","error":{"type":"not_found_error","message":"no model"}}"#;
    assert_eq!(Anthropic.decode_error(404, body.as_bytes()).code, None);
    let body =
        r#"{"error":{"type":"invalid_request_error","code":"model_not_found","message":"m"}}"#;
    let fault = Anthropic.decode_error(404, body.as_bytes());
    assert_eq!(fault.code.as_deref(), Some("model_not_found"));
}
