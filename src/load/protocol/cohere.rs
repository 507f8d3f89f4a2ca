//! Cohere chat, version 2. The terminal event is `[DONE]`, after `message-end`; a `message-end` with
//! an `error` is an error.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Event, Framing, Protocol, QUESTION, message};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "cohere",
    framing: Framing::Sse,
    media_type: "text/event-stream",
    path: |_| "/v2/chat".to_owned(),
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
    error: |body| body.get("message")?.as_str(),
};

#[derive(Deserialize)]
struct Incoming {
    r#type: String,
    #[serde(default)]
    delta: Delta,
}

#[derive(Deserialize, Default)]
struct Delta {
    #[serde(default)]
    message: Value,
    error: Option<Value>,
}

fn read(payload: &str) -> Result<Event, serde_json::Error> {
    if payload == "[DONE]" {
        return Ok(Event::end());
    }
    let event: Incoming = serde_json::from_str(payload)?;
    if let Some(error) = event.delta.error {
        return Ok(Event::error(message(&error)));
    }
    if event.r#type != "content-delta" {
        return Ok(Event::default());
    }
    let text = event.delta.message.pointer("/content/text").and_then(Value::as_str);
    Ok(Event::text(text.unwrap_or_default().to_owned()))
}
