//! The JSON object of a durable stream. It must never hold any of its events.

use serde_json::{Value, json};

use super::{now, seconds_left};
use crate::gateway::clock::unix_seconds;
use crate::gateway::state::State;
use crate::streams::archived::ArchivedStream;
use crate::streams::event::State as StreamState;
use crate::streams::generation::Generation;

/// A stream that only the archive has, as its owner sees it.
pub(super) fn archived((stream, expires): &(ArchivedStream, u64)) -> Value {
    let ArchivedStream { meta, end, extent } = stream;
    let error = (end.state() != StreamState::Complete).then(|| json!({"message": end.message}));
    json!({
        "id": meta.id,
        "object": "stream",
        "state": end.state().name(),
        "model": meta.context.model,
        "dialect": meta.dialect,
        "chat": meta.chat,
        "created_at": meta.context.created,
        "ended_at": end.ended,
        "expires_at": expires,
        "events": extent.tail,
        "bytes": extent.bytes,
        "earliest": meta.epoch().at(extent.earliest).to_string(),
        "tail": meta.epoch().at(extent.tail).to_string(),
        "viewers": 0,
        "error": error,
    })
}

/// A stream as its owner sees it.
pub(super) fn of(stream: &Generation, state: &State) -> Value {
    let extent = stream.extent();
    let epoch = stream.native.epoch;
    let left = stream.expires_in(state.config.streams.keep, now());
    let error = extent.end.as_ref().filter(|end| end.state != StreamState::Complete);
    json!({
        "id": stream.id,
        "object": "stream",
        "state": stream.state().name(),
        "model": stream.origin.context.model,
        "dialect": stream.origin.dialect.name(),
        "chat": stream.origin.chat,
        "created_at": stream.origin.context.created,
        "ended_at": stream.ended_at(),
        "expires_at": left.map(|left| seconds_left(left, unix_seconds())),
        "events": extent.tail,
        "bytes": extent.bytes,
        "earliest": epoch.at(extent.earliest).to_string(),
        "tail": epoch.at(extent.tail).to_string(),
        "viewers": stream.viewers(),
        "error": error.map(|end| json!({"message": end.message})),
    })
}
