//! Anthropic messages. The terminal event is `message_stop`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Event, Framing, Protocol, QUESTION, message};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "anthropic",
    framing: Framing::Sse,
    media_type: "text/event-stream",
    path: |_| "/v1/messages".to_owned(),
    request: |model, max_tokens| {
        json!({
            "model": model,
            "stream": true,
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": QUESTION}],
        })
    },
    read,
    trailer: None,
    error: |body| {
        let error = body.get("error").filter(|_| body.get("type") == Some(&json!("error")))?;
        error.get("type")?.as_str()?;
        error.get("message")?.as_str()
    },
};

#[derive(Deserialize)]
struct Incoming {
    r#type: String,
    #[serde(default)]
    delta: Delta,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize, Default)]
struct Delta {
    text: Option<String>,
}

fn read(payload: &str) -> Result<Event, serde_json::Error> {
    let event: Incoming = serde_json::from_str(payload)?;
    Ok(match event.r#type.as_str() {
        "content_block_delta" => Event::text(event.delta.text.unwrap_or_default()),
        "message_stop" => Event::end(),
        "error" => Event::error(message(&event.error)),
        _ => Event::default(),
    })
}
