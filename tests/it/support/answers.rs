//! Ready answers of scripted upstreams, in each dialect.

use super::language::language;
use super::upstream::Step;

/// The dialects that callers and upstreams of these tests speak, and the provider of each.
pub(crate) const SPOKEN: [(&str, &str); 2] = [("openai-chat", "oai"), ("anthropic", "ant")];

/// A whole streamed answer that says `text`, as event-stream text.
pub(crate) fn events(dialect: &str, text: &str) -> String {
    [opening(dialect, text), ending(dialect).to_owned()].concat()
}

/// The beginning of a streamed answer, up to its first output.
pub(crate) fn opening(dialect: &str, text: &str) -> String {
    if dialect == "anthropic" {
        return [
            r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

"#,
            &delta(dialect, text),
        ]
        .concat();
    }
    format!(
        "data: {}\n\n",
        r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"TEXT"},"finish_reason":null}]}"#
            .replace("TEXT", text)
    )
}

/// One more piece of text.
pub(crate) fn delta(dialect: &str, text: &str) -> String {
    if dialect == "anthropic" {
        let data = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"TEXT"}}"#;
        return format!("event: content_block_delta\ndata: {}\n\n", data.replace("TEXT", text));
    }
    let data = r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}]}"#;
    format!("data: {}\n\n", data.replace("TEXT", text))
}

/// The end of a streamed answer, after the last output.
pub(crate) fn ending(dialect: &str) -> &'static str {
    if dialect == "anthropic" {
        return r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}

event: message_stop
data: {"type":"message_stop"}

"#;
    }
    r#"data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

"#
}

/// A streamed answer in one chunk.
pub(crate) fn streamed(dialect: &str, text: &str) -> Vec<Step> {
    vec![Step::Sse, Step::chunk(&events(dialect, text)), Step::End]
}

/// An answer that is not streamed.
pub(crate) fn whole(dialect: &str, text: &str) -> String {
    let body = if dialect == "anthropic" {
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"TEXT"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#
    } else {
        r#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"TEXT"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#
    };
    body.replace("TEXT", text)
}

/// A request of a caller.
pub(crate) fn request(model: &str, stream: bool, prompt: &str) -> String {
    format!(
        r#"{{"model":"{model}","stream":{stream},"max_tokens":100,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    )
}

/// The endpoint of a dialect.
pub(crate) fn path(dialect: &str) -> &'static str {
    if dialect == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" }
}

/// The message of an error body, after its shape in the dialect was checked.
pub(crate) fn error_message(dialect: &str, body: &str) -> String {
    let value: serde_json::Value =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let message = (language(dialect).error)(&value);
    message.unwrap_or_else(|| panic!("no error of {dialect}: {body}"))
}

/// Bytes in gzip's envelope, stored as they are.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1));
        }
    }
    let length = u16::try_from(bytes.len()).expect("one stored block");
    [
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1],
        &length.to_le_bytes()[..],
        &(!length).to_le_bytes(),
        bytes,
        &(!crc).to_le_bytes(),
        &u32::from(length).to_le_bytes(),
    ]
    .concat()
}
