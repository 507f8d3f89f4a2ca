//! The JSON object of a durable stream. It must never hold any of its events.

use serde_json::{Value, json};

use crate::streams::event::State;
use crate::streams::head::StreamHead;

/// A stream as its owner sees it.
pub(super) fn of(stream: &StreamHead) -> Value {
    let failed = !matches!(stream.state, State::Streaming | State::Complete);
    json!({
        "id": stream.id,
        "object": "stream",
        "state": stream.state.name(),
        "model": stream.model,
        "dialect": stream.dialect,
        "chat": stream.chat,
        "created_at": stream.created,
        "ended_at": stream.ended,
        "expires_at": stream.expires,
        "events": stream.events,
        "bytes": stream.bytes,
        "earliest": stream.earliest.to_string(),
        "tail": stream.tail.to_string(),
        "viewers": stream.viewers,
        "error": failed.then(|| json!({"message": stream.message})),
    })
}
