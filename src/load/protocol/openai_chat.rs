//! `OpenAI` chat completions. The terminal event is `[DONE]`, after the chunk with `finish_reason`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Event, Framing, Protocol, QUESTION, message};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "openai-chat",
    framing: Framing::Sse,
    media_type: "text/event-stream",
    path: |_| "/v1/chat/completions".to_owned(),
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
        let error = body.get("error")?;
        error.get("type")?.as_str()?;
        error.get("message")?.as_str()
    },
};

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Delta,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

fn read(payload: &str) -> Result<Event, serde_json::Error> {
    if payload == "[DONE]" {
        return Ok(Event::end());
    }
    let chunk: Chunk = serde_json::from_str(payload)?;
    if let Some(error) = chunk.error {
        return Ok(Event::error(message(&error)));
    }
    Ok(Event::text(chunk.choices.into_iter().filter_map(|choice| choice.delta.content).collect()))
}
