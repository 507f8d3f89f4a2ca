//! Heads of streams: state, extent and times of a stream, wherever it is kept. It must never hold any of its events.

use std::time::Duration;

use tokio::time::Instant;

use super::event::State;
use super::generation::Generation;
use super::position::Position;
use super::record::{EndRecord, GenerationMeta};

/// A stream without its events. Times are in Unix seconds.
#[derive(Debug)]
pub struct StreamHead {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: State,
    /// The model of its request.
    pub model: String,
    /// The name of its dialect.
    pub dialect: String,
    /// The conversation that it belongs to.
    pub chat: Option<String>,
    /// The time of its request.
    pub created: u64,
    /// The time of its end.
    pub ended: Option<u64>,
    /// The time until which it is kept, unless it is read again. `None`: it has not ended.
    pub expires: Option<u64>,
    /// The cause of an end that is not complete.
    pub message: Option<String>,
    /// The number of its last event.
    pub events: u64,
    /// The bytes of the events that are kept.
    pub bytes: usize,
    /// The lowest position that can be read from.
    pub earliest: Position,
    /// The position of its last event.
    pub tail: Position,
    /// Those who follow it on this node.
    pub viewers: usize,
}

/// The extent of a recorded stream: the lowest position that can be read from, its last event, and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct RecordedExtent {
    /// The sequence number before the first event that is kept.
    pub earliest: u64,
    /// The sequence number of the last event.
    pub tail: u64,
    /// The bytes of the events that are kept.
    pub bytes: usize,
}

impl StreamHead {
    /// The head of a generation in memory. `keep`: the time for which it is kept after its end.
    pub fn of(generation: &Generation, keep: Duration, now: Instant, unix: u64) -> Self {
        let (extent, origin) = (generation.extent(), &generation.origin);
        let epoch = generation.native.epoch;
        let left = generation.expires_in(keep, now);
        Self {
            id: generation.id.clone(),
            state: generation.state(),
            model: origin.context.model.clone(),
            dialect: origin.dialect.name().to_owned(),
            chat: origin.chat.clone(),
            created: origin.context.created,
            ended: generation.ended_at(),
            expires: left.map(|left| unix + left.as_secs() + u64::from(left.subsec_nanos() > 0)),
            message: extent.end.and_then(|end| end.message),
            events: extent.tail,
            bytes: extent.bytes,
            earliest: epoch.at(extent.earliest),
            tail: epoch.at(extent.tail),
            viewers: generation.viewers(),
        }
    }

    /// The head of a stream of which there are records.
    pub fn recorded(
        meta: GenerationMeta,
        end: Option<EndRecord>,
        extent: RecordedExtent,
        expires: u64,
    ) -> Self {
        let epoch = meta.epoch();
        let ended = end.as_ref().map(|end| end.ended);
        Self {
            id: meta.id,
            state: end.as_ref().map_or(State::Streaming, EndRecord::state),
            model: meta.context.model,
            dialect: meta.dialect,
            chat: meta.chat,
            created: meta.context.created,
            ended,
            expires: ended.map(|_| expires),
            message: end.and_then(|end| end.message),
            events: extent.tail,
            bytes: extent.bytes,
            earliest: epoch.at(extent.earliest),
            tail: epoch.at(extent.tail),
            viewers: 0,
        }
    }
}
