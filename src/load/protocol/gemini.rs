//! Gemini `streamGenerateContent` as server-sent events. The terminal event is the chunk with a
//! `finishReason`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Event, Framing, Protocol, QUESTION, message};

pub(super) const PROTOCOL: Protocol = Protocol {
    name: "gemini",
    framing: Framing::Sse,
    media_type: "text/event-stream",
    path: |model| format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
    request: |_, max_tokens| {
        json!({
            "contents": [{"role": "user", "parts": [{"text": QUESTION}]}],
            "generationConfig": {"maxOutputTokens": max_tokens},
        })
    },
    read,
    trailer: None,
    error: |body| {
        let error = body.get("error")?;
        error.get("code")?.as_u64()?;
        error.get("status")?.as_str()?;
        error.get("message")?.as_str()
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    #[serde(default)]
    candidates: Vec<Candidate>,
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    content: Content,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
    #[serde(default)]
    thought: bool,
}

fn read(payload: &str) -> Result<Event, serde_json::Error> {
    let chunk: Chunk = serde_json::from_str(payload)?;
    if let Some(error) = chunk.error {
        return Ok(Event::error(message(&error)));
    }
    let end = chunk.candidates.iter().any(|candidate| candidate.finish_reason.is_some());
    let parts = chunk.candidates.into_iter().flat_map(|candidate| candidate.content.parts);
    let text = parts.filter(|part| !part.thought).filter_map(|part| part.text).collect();
    Ok(Event { text, end, error: None })
}
