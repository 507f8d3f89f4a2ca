//! `OpenAI` Responses. The terminal event is `response.completed`; `response.incomplete`,
//! `response.failed` and `error` are errors to a caller who wants the whole answer. `[DONE]` may follow it,
//! as the Open Responses specification has it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Event, Framing, Protocol, QUESTION, message};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "openai-responses",
    framing: Framing::Sse,
    media_type: "text/event-stream",
    path: |_| "/v1/responses".to_owned(),
    request: |model, max_tokens| {
        json!({
            "model": model,
            "stream": true,
            "max_output_tokens": max_tokens,
            "input": QUESTION,
        })
    },
    read,
    trailer: Some("[DONE]"),
    error: |body| {
        let error = body.get("error")?;
        error.get("type")?.as_str()?;
        error.get("message")?.as_str()
    },
};

#[derive(Deserialize)]
struct Incoming {
    r#type: String,
    /// A string in text events, an object in others.
    #[serde(default)]
    delta: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    response: Ended,
}

#[derive(Deserialize, Default)]
struct Ended {
    #[serde(default)]
    error: Value,
}

fn read(payload: &str) -> Result<Event, serde_json::Error> {
    let event: Incoming = serde_json::from_str(payload)?;
    Ok(match event.r#type.as_str() {
        "response.output_text.delta" => Event::text(match event.delta {
            Value::String(text) => text,
            _ => String::new(),
        }),
        "response.completed" => Event::end(),
        "response.incomplete" => Event::error("the response is incomplete"),
        "response.failed" => Event::error(message(&event.response.error)),
        // The object of the SDK's types, or the members beside the type, as the vendor sends them.
        "error" if event.error.is_object() => Event::error(message(&event.error)),
        "error" => Event::error(message(&event.message)),
        _ => Event::default(),
    })
}
