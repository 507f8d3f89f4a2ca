//! Tests of reading an upstream's events and whole answers.

use bytes::Bytes;
use serde_json::json;

use crate::aws_eventstream::EXCEPTION;
use crate::chat::{Citation, Delta, End, Kind, Stop, Usage};
use crate::dialect::bedrock::Bedrock;
use crate::dialect::{Dialect, Form};
use crate::framing::Frame;

fn frame(event: &str, payload: &str) -> Frame {
    Frame {
        event: Some(Bytes::copy_from_slice(event.as_bytes())),
        data: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

/// The deltas that a stream's events are read as, in text form, and the end of the stream.
fn read(events: &[(&str, &str)]) -> (Vec<String>, End) {
    let mut decoder = Bedrock.decoder(Form::Chat);
    let mut said = Vec::new();
    for (event, payload) in events {
        let frame = frame(event, payload);
        let mut out = Vec::new();
        let end = decoder.frame(&frame, &mut out);
        said.extend(out.iter().map(short));
        if let Some(end) = end {
            return (said, end);
        }
    }
    (said, decoder.finish())
}

fn short(delta: &Delta<'_>) -> String {
    match delta {
        Delta::Text { text, .. } => format!("text {text}"),
        Delta::Reasoning { text, .. } => format!("reasoning {text}"),
        Delta::Signature { value, scheme } => format!("signature {value} {scheme:?}"),
        Delta::RedactedReasoning { data, scheme } => format!("redacted {data} {scheme:?}"),
        Delta::ToolStart { call, id, name, .. } => format!("tool {call} {id} {name}"),
        Delta::ToolArguments { call, json, .. } => format!("arguments {call} {json}"),
        Delta::Stop { reason, .. } => format!("stop {reason:?}"),
        Delta::Usage(_) => "usage".to_owned(),
        Delta::Citation(_) => "citation".to_owned(),
        other => format!("{other:?}"),
    }
}

const START: (&str, &str) = ("messageStart", r#"{"role":"assistant","p":"ab"}"#);
const HI: (&str, &str) =
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"Hi"},"p":"abc"}"#);
const CLOSE: (&str, &str) = ("contentBlockStop", r#"{"contentBlockIndex":0,"p":"a"}"#);
const STOP: (&str, &str) = ("messageStop", r#"{"stopReason":"end_turn"}"#);
const METADATA: (&str, &str) =
    ("metadata", r#"{"usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3}}"#);

#[test]
fn usage_comes_after_the_stop_and_ends_the_stream() {
    let (said, end) = read(&[START, HI, CLOSE, STOP, METADATA]);
    assert_eq!(
        (said, end),
        (vec!["text Hi".into(), "stop End".into(), "usage".into()], End::Complete)
    );
    let (said, end) = read(&[START, HI, CLOSE, METADATA, STOP]);
    assert_eq!((said.len(), end), (3, End::Complete), "some servers turn them round");
    assert_eq!(read(&[START, HI, CLOSE, STOP]).1, End::Complete, "it has stopped");
}

/// Failure modes 4 and 12: neither bytes that end nor usage is an end of the answer.
#[test]
fn fm04_an_answer_without_a_stop_event_is_truncated() {
    for events in
        [&[][..], &[START], &[START, HI], &[START, HI, CLOSE], &[START, HI, CLOSE, METADATA]]
    {
        assert_eq!(read(events).1, End::Truncated, "{events:?}");
    }
}

#[test]
fn stops_are_told_apart() {
    for (word, expected) in [
        ("end_turn", Stop::End),
        ("tool_use", Stop::ToolUse),
        ("max_tokens", Stop::MaxTokens),
        ("stop_sequence", Stop::Sequence(None)),
        ("guardrail_intervened", Stop::ContentFilter),
        ("content_filtered", Stop::ContentFilter),
        ("model_context_window_exceeded", Stop::ContextFull),
        ("brand_new", Stop::Other("brand_new".into())),
    ] {
        let payload = json!({ "stopReason": word }).to_string();
        let (said, end) = read(&[START, HI, ("messageStop", &payload), METADATA]);
        assert_eq!(said[1], format!("stop {expected:?}"));
        assert_eq!(end, End::Complete);
    }
    for word in ["malformed_tool_use", "malformed_model_output"] {
        let payload = json!({ "stopReason": word }).to_string();
        let (said, _) = read(&[START, HI, ("messageStop", &payload)]);
        let Some(fault) = said.iter().find(|said| said.starts_with("stop Failed")) else {
            panic!("{word} is no end");
        };
        assert!(fault.contains("kind: Upstream") && fault.contains(word), "{fault}");
    }
}

#[test]
fn fm43_exceptions_end_the_stream() {
    let event = format!("{EXCEPTION}throttlingException");
    let (said, end) = read(&[START, HI, (&event, r#"{"message":"slow down"}"#), STOP]);
    let End::Failed(fault) = end else { panic!("{end:?}") };
    assert_eq!(
        (said.len(), fault.kind, fault.message.as_str()),
        (1, Kind::RateLimited, "slow down")
    );
}

#[test]
fn a_second_message_is_not_mixed_in() {
    assert!(matches!(read(&[START, HI, START]).1, End::Failed(_)));
}

/// Failure modes 24 and 25: ids that are missing or repeated are made unique, and no call goes without arguments.
#[test]
fn fm11_tool_calls_have_distinct_ids() {
    let start = |index: u32, tool: &str| {
        format!(r#"{{"contentBlockIndex":{index},"start":{{"toolUse":{tool}}}}}"#)
    };
    let (one, two, three) = (
        start(0, r#"{"toolUseId":"same","name":"a"}"#),
        start(1, r#"{"toolUseId":"same","name":"b"}"#),
        start(2, r#"{"name":"c"}"#),
    );
    let fragment = r#"{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{\"x\":1.50}"}}}"#;
    let (said, _) = read(&[
        START,
        ("contentBlockStart", &one),
        ("contentBlockStart", &two),
        ("contentBlockDelta", fragment),
        ("contentBlockStart", &three),
        STOP,
    ]);
    assert_eq!(
        said,
        [
            "tool 0 same a",
            "tool 1 same_1 b",
            r#"arguments 1 {"x":1.50}"#,
            "tool 2 tooluse_2 c",
            "arguments 0 {}",
            "arguments 2 {}",
            "stop End",
        ]
    );
}

#[test]
fn what_the_vendor_does_itself_is_progress_only() {
    let (said, end) = read(&[
        START,
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":0,"start":{"toolUse":{"name":"nova_code_interpreter","toolUseId":"t","type":"server_tool_use"}}}"#,
        ),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{}"}}}"#),
        CLOSE,
        (
            "contentBlockStart",
            r#"{"contentBlockIndex":1,"start":{"toolResult":{"toolUseId":"t"}}}"#,
        ),
        ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"toolResult":[{"json":{}}]}}"#),
        STOP,
        METADATA,
    ]);
    assert_eq!(said, ["Opaque", "Opaque", "Opaque", "Opaque", "stop End", "usage"]);
    assert_eq!(end, End::Complete);
}

/// The fast path for payloads that differ only in text and padding never changes the deltas.
#[test]
fn padding_changes_nothing() {
    let delta = |text: &str, padding: &str| {
        format!(r#"{{"contentBlockIndex":0,"delta":{{"text":"{text}"}},"p":"{padding}"}}"#)
    };
    let payloads = [
        delta("one", "abc"),
        delta("two", ""),
        delta("three", "abcdefghijkl"),
        delta("\\u00e9\\n", "a"),
        delta("four", "a\\u0062"),
        r#"{"contentBlockIndex":0,"delta":{"text":"five"}}"#.to_owned(),
        r#"{"contentBlockIndex":0,"delta":{"text":"six","p":"x"}}"#.to_owned(),
        r#"{"contentBlockIndex":0,"delta":{"text":"\",\"p\":\"abc"}}"#.to_owned(),
        delta("seven", "x"),
        r#"{"contentBlockIndex":1,"delta":{"text":"eight"},"p":"x"}"#.to_owned(),
    ];
    let events: Vec<(&str, &str)> =
        payloads.iter().map(|payload| ("contentBlockDelta", payload.as_str())).collect();
    let texts: Vec<String> = read(&events).0;
    let expected =
        ["one", "two", "three", "é\n", "four", "five", "six", "\",\"p\":\"abc", "seven", "eight"];
    assert_eq!(texts, expected.map(|text| format!("text {text}")));
    // A payload that is cut within the padding is not JSON and yields no text.
    let cut = r#"{"contentBlockIndex":0,"delta":{"text":"nine"},"p":"x}"#;
    assert!(matches!(read(&[events[0], ("contentBlockDelta", cut)]).1, End::Failed(_)));
}

#[test]
fn oddities_cost_no_answer() {
    for payload in ["{}", r#"{"delta":null}"#, r#"{"contentBlockIndex":"x","delta":{"text":7}}"#] {
        let (_, end) = read(&[START, ("contentBlockDelta", payload), HI, STOP, METADATA]);
        assert_eq!(end, End::Complete, "{payload}");
    }
    for payload in ["", "[", "7", r#"{"delta":"x"}"#, "\"\\ud800\""] {
        let (_, end) = read(&[START, ("contentBlockDelta", payload), HI]);
        assert!(matches!(end, End::Failed(_)), "{payload}: {end:?}");
    }
    assert_eq!(read(&[("later", "nonsense"), START, HI, STOP, METADATA]).1, End::Complete);
}

#[test]
fn whole_answers_are_read() {
    let body = json!({
        "output": { "message": { "role": "assistant", "content": [
            { "reasoningContent": { "reasoningText": { "text": "Hm", "signature": "c2ln" } } },
            { "reasoningContent": { "redactedContent": "ZGF0YQ==" } },
            { "text": "Hi" },
            { "citationsContent": { "content": [{ "text": "there" }], "citations": [
                { "title": "A", "location": { "web": { "url": "https://a" } },
                  "sourceContent": [{ "text": "q" }] } ] } },
            { "toolUse": { "toolUseId": "t", "name": "f", "input": { "a": 1 } } },
        ] } },
        "stopReason": "tool_use",
        "usage": { "inputTokens": 1, "outputTokens": 2, "totalTokens": 10, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 4 },
        "metrics": { "latencyMs": 1 },
    });
    let frame = Frame { event: None, data: body.to_string().into() };
    let mut out = Vec::new();
    assert_eq!(Bedrock.decoder(Form::Chat).answer(&frame, &mut out), End::Complete);
    let said: Vec<String> = out.iter().map(short).collect();
    assert_eq!(
        said,
        [
            "reasoning Hm",
            "signature c2ln Anthropic",
            "redacted data Anthropic",
            "text Hi",
            "text there",
            "citation",
            "tool 0 t f",
            r#"arguments 0 {"a":1}"#,
            "usage",
            "stop ToolUse",
        ]
    );
    assert!(out.contains(&Delta::Citation(Citation {
        url: Some("https://a".into()),
        title: Some("A".into()),
        cited_text: Some("q".into()),
        start: Some(2),
        end: Some(7),
        ..Citation::default()
    })));
    assert!(out.contains(&Delta::Usage(Usage {
        input: Some(8),
        cache_read: Some(3),
        cache_write: Some(4),
        output: Some(2),
        reasoning: None,
    })));
}

/// Failure mode 43: an error with a status of success is not an empty answer.
#[test]
fn fm43_a_body_without_an_answer_is_an_error() {
    let answer = |body: &str| {
        let frame = Frame { event: None, data: Bytes::copy_from_slice(body.as_bytes()) };
        let mut out = Vec::new();
        Bedrock.decoder(Form::Chat).answer(&frame, &mut out)
    };
    let End::Failed(fault) = answer(r#"{"message":"no such thing"}"#) else { panic!("no answer") };
    assert_eq!(fault.message, "no such thing");
    assert_eq!(answer(" "), End::Truncated);
    assert!(matches!(answer("<html>"), End::Failed(_)));
}
