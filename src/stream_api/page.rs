//! Pages of a stream: its events as JSON, for clients without server-sent events, and the headers that name how to go
//! on.

use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::follow::{Following, Place};
use super::no_content;
use crate::error::Error;
use crate::gateway::direct_response::json_response;
use crate::streams::event::{Event, State, StreamEnd};
use crate::streams::log::{Extent, Read};
use crate::streams::track::Track;
use crate::wire::chat::ApiError;
use crate::wire::format::Snapshot;

const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
const REPLAY_FROM: HeaderName = HeaderName::from_static("stream-replay-from");
const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
const CLOSED: HeaderName = HeaderName::from_static("stream-closed");

/// The most bytes of events in one page.
const MAX_PAGE: usize = 1 << 20;

/// The time that a long poll waits, and the longest that a request may ask for, in seconds.
const WAIT: u64 = 25;
const MAX_WAIT: u64 = 60;

/// The events after the position of a request, at once.
pub(super) fn now(read: &Following<'_>) -> Result<Response, Error> {
    let extent = read.extent();
    match read.place(&extent)? {
        Place::After(seq) => Ok(page(read, &extent, seq)),
        Place::Gone(_) => Ok(read.gone(&extent)),
    }
}

/// The whole answer so far as one document, with the position at which the format `events` goes on.
pub(super) fn snapshot(read: &Following<'_>) -> Response {
    let (mut snapshot, mut seq) = (Snapshot::default(), 0);
    let extent = read.extent();
    while let Read::Entries { first, entries } = read.track().log.read(seq, MAX_PAGE) {
        seq = first - 1 + entries.len() as u64;
        for event in &entries {
            snapshot.push(&event.block);
        }
    }
    if extent.earliest > 0 {
        return read.gone(&extent);
    }
    let position = read.track().epoch.at(seq).to_string();
    let mut response = json_response(snapshot.document(&read.stream.id, &position));
    set_headers(response.headers_mut(), read.track(), &extent, seq);
    response
}

/// The same; without events it waits for the first one. 204: none came, or the stream has ended.
pub(super) async fn long_poll(read: &Following<'_>) -> Result<Response, Error> {
    let wait = wait(read)?;
    let extent = read.extent();
    let Place::After(seq) = read.place(&extent)? else { return Ok(read.gone(&extent)) };
    let arrived = async {
        loop {
            let appended = read.stream.native.log.appended();
            let extent = read.extent();
            if extent.tail > seq || extent.end.is_some() {
                return;
            }
            appended.await;
        }
    };
    let _late = timeout(wait, arrived).await;
    let extent = read.extent();
    if extent.tail > seq {
        return Ok(page(read, &extent, seq));
    }
    let mut response = no_content();
    set_headers(response.headers_mut(), read.track(), &extent, seq);
    Ok(response)
}

fn wait(read: &Following<'_>) -> Result<Duration, Error> {
    let Some(text) = read.query.get("timeout") else { return Ok(Duration::from_secs(WAIT)) };
    let seconds = text.parse().ok().filter(|seconds| (1..=MAX_WAIT).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let message = format!("must be 1 to {MAX_WAIT} seconds");
        Error::caller(ApiError::field("timeout", message))
    })
}

fn page(read: &Following<'_>, extent: &Extent<StreamEnd>, seq: u64) -> Response {
    let track = read.track();
    let (events, next) = match track.log.read(seq, MAX_PAGE) {
        Read::Entries { first, entries } => {
            let next = first - 1 + entries.len() as u64;
            let events = (first..).zip(entries).map(|(seq, event)| shown(track, seq, &event));
            (events.collect::<Vec<_>>(), next)
        }
        _ => (Vec::new(), seq),
    };
    let (up_to_date, closed) = reached(extent, next);
    let state = extent.end.as_ref().map_or(State::Streaming, |end| end.state);
    let body = json!({
        "stream": read.stream.id,
        "state": state.name(),
        "events": events,
        "next_offset": track.epoch.at(next).to_string(),
        "up_to_date": up_to_date,
        "closed": closed,
    });
    let mut response = json_response(body.to_string());
    set_headers(response.headers_mut(), track, extent, seq);
    if let Ok(next) = HeaderValue::try_from(track.epoch.at(next).to_string()) {
        response.headers_mut().insert(NEXT_OFFSET, next);
    }
    set_reached(response.headers_mut(), extent, next);
    response
}

/// One event as JSON.
fn shown(track: &Track, seq: u64, event: &Event) -> Value {
    let (name, data) = event.parts();
    let mut shown = json!({"id": track.epoch.at(seq).to_string(), "data": data});
    if let (Some(name), Some(members)) = (name, shown.as_object_mut()) {
        members.insert("event".to_owned(), name.into());
    }
    shown
}

/// Whether a sequence number is the last one so far, and the last one ever.
fn reached(extent: &Extent<StreamEnd>, seq: u64) -> (bool, bool) {
    let up_to_date = seq >= extent.tail;
    (up_to_date, up_to_date && extent.end.is_some())
}

/// Sets the headers of a response that begins after a sequence number.
pub(super) fn set_headers(
    headers: &mut HeaderMap,
    track: &Track,
    extent: &Extent<StreamEnd>,
    seq: u64,
) {
    let position = |seq: u64| HeaderValue::try_from(track.epoch.at(seq).to_string());
    if let Ok(next) = position(seq) {
        headers.insert(REPLAY_FROM, next.clone());
        headers.insert(NEXT_OFFSET, next);
    }
    set_reached(headers, extent, seq);
}

fn set_reached(headers: &mut HeaderMap, extent: &Extent<StreamEnd>, seq: u64) {
    let (up_to_date, closed) = reached(extent, seq);
    for (name, holds) in [(UP_TO_DATE, up_to_date), (CLOSED, closed)] {
        headers.remove(&name);
        if holds {
            headers.insert(name, HeaderValue::from_static("true"));
        }
    }
}
