//! Ollama chat: one JSON object a line. The terminal event is the line with `"done": true`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Event, Framing, Protocol, QUESTION, message};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "ollama",
    framing: Framing::Lines,
    media_type: "application/x-ndjson",
    path: |_| "/api/chat".to_owned(),
    request: |model, max_tokens| {
        json!({
            "model": model,
            "stream": true,
            "options": {"num_predict": max_tokens},
            "messages": [{"role": "user", "content": QUESTION}],
        })
    },
    read,
    trailer: None,
    error: |body| body.get("error")?.as_str(),
};

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: Message,
    #[serde(default)]
    done: bool,
    error: Option<Value>,
}

#[derive(Deserialize, Default)]
struct Message {
    #[serde(default)]
    content: String,
}

fn read(payload: &str) -> Result<Event, serde_json::Error> {
    let line: Line = serde_json::from_str(payload)?;
    if let Some(error) = line.error {
        return Ok(Event::error(message(&error)));
    }
    Ok(Event { text: line.message.content, end: line.done, error: None })
}
