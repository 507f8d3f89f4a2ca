//! Tests of the protocols' readers.

use proptest::prelude::*;
use serde_json::json;

use super::{Event, PROTOCOLS, named};

fn read(protocol: &str, payload: &str) -> Event {
    (named(protocol).unwrap().read)(payload).unwrap()
}

#[test]
fn text_is_read() {
    for (protocol, payload) in [
        (
            "openai-chat",
            r#"{"choices":[{"index":0,"delta":{"content":"t0 "},"finish_reason":null}]}"#,
        ),
        ("openai-responses", r#"{"type":"response.output_text.delta","delta":"t0 "}"#),
        (
            "anthropic",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"t0 "}}"#,
        ),
        (
            "gemini",
            r#"{"candidates":[{"content":{"parts":[{"text":"r","thought":true},{"text":"t0 "}],"role":"model"}}]}"#,
        ),
        ("ollama", r#"{"message":{"role":"assistant","content":"t0 "},"done":false}"#),
        (
            "cohere",
            r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"t0 "}}}}"#,
        ),
    ] {
        assert_eq!(read(protocol, payload), Event::text("t0 ".to_owned()), "{protocol}");
    }
}

#[test]
fn terminal_events_are_read() {
    for (protocol, payload) in [
        ("openai-chat", "[DONE]"),
        ("openai-responses", r#"{"type":"response.completed","response":{"status":"completed"}}"#),
        ("anthropic", r#"{"type":"message_stop"}"#),
        ("gemini", r#"{"candidates":[{"content":{"parts":[{"text":""}]},"finishReason":"STOP"}]}"#),
        ("ollama", r#"{"message":{"content":""},"done":true,"done_reason":"stop"}"#),
        ("cohere", "[DONE]"),
    ] {
        assert_eq!(read(protocol, payload), Event::end(), "{protocol}");
    }
}

#[test]
fn in_band_errors_are_read() {
    for (protocol, payload) in [
        ("openai-chat", r#"{"error":{"message":"m","type":"server_error"}}"#),
        ("openai-responses", r#"{"type":"error","error":{"message":"m"}}"#),
        ("openai-responses", r#"{"type":"error","code":"server_error","message":"m"}"#),
        (
            "openai-responses",
            r#"{"type":"response.failed","response":{"error":{"code":"c","message":"m"}}}"#,
        ),
        ("anthropic", r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#),
        ("gemini", r#"{"error":{"code":502,"message":"m","status":"INTERNAL"}}"#),
        ("ollama", r#"{"error":"m"}"#),
        ("cohere", r#"{"type":"message-end","delta":{"error":"m","finish_reason":"ERROR"}}"#),
    ] {
        assert_eq!(read(protocol, payload), Event::error("m"), "{protocol}");
    }
}

#[test]
fn error_bodies_have_the_protocol_s_shape() {
    let openai = json!({"error": {"message": "m", "type": "t", "param": null, "code": null}});
    for (protocol, body) in [
        ("openai-chat", openai.clone()),
        ("openai-responses", openai),
        ("anthropic", json!({"type": "error", "error": {"type": "t", "message": "m"}})),
        ("gemini", json!({"error": {"code": 429, "message": "m", "status": "X"}})),
        ("ollama", json!({"error": "m"})),
        ("cohere", json!({"id": "1", "message": "m"})),
    ] {
        let error = named(protocol).unwrap().error;
        assert_eq!(error(&body), Some("m"), "{protocol}");
        for wrong in [json!({}), json!([]), json!("m"), json!({"error": 7}), json!({"message": {}})]
        {
            assert_eq!(error(&wrong), None, "{protocol}: {wrong}");
        }
    }
}

proptest! {
    #[test]
    fn no_payload_panics(payload in ".{0,60}", member in "(type|error|delta|choices|done|candidates)") {
        for protocol in PROTOCOLS {
            drop((protocol.read)(&payload));
            drop((protocol.read)(&json!({member.as_str(): payload}).to_string()));
            drop((protocol.read)(&json!({member.as_str(): [1]}).to_string()));
        }
    }
}
