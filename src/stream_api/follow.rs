//! Following of a stream as server-sent events: replay, then live, then the end. A gap is always reported, never
//! skipped.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::no_content;
use super::page::set_headers;
use super::position::{From, Query};
use crate::error::Error;
use crate::gateway::delivery::{self, Right};
use crate::gateway::direct_response::{AccountSlot, Asked, json_response};
use crate::gateway::durable::{location, retry};
use crate::gateway::lifetime::Lifetime;
use crate::gateway::reply::stream_response;
use crate::gateway::state::Gateway;
use crate::streams::event::StreamEnd;
use crate::streams::generation::Generation;
use crate::streams::log::Extent;
use crate::streams::track::Track;
use crate::streams::viewer::{Form, Viewer};
use crate::wire::chat::{ApiError, Kind};
use crate::wire::format::Format;

/// The heartbeat of formats that are no vendor's.
const HEARTBEAT: Bytes = Bytes::from_static(b": ping\n\n");

/// The first bytes of a response: its client learns at once that it is served.
const GREETING: &[u8] = b": ok\n";

/// A request for the events of a stream in one format.
pub(super) struct Following<'a> {
    pub(super) stream: Arc<Generation>,
    pub(super) format: Format,
    /// `None`: the native track.
    pub(super) track: Option<Arc<Track>>,
    pub(super) query: &'a Query,
    pub(super) head: &'a Parts,
    /// The right by which it is read, if it is not the owner's own.
    pub(super) right: Option<Right>,
    /// The number of the first event in `starting_after`.
    pub(super) first: u64,
    /// The longest that a connection lasts. `None`: as long as the stream.
    pub(super) longest: Option<Duration>,
}

/// The place in a track at which a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// After this sequence number.
    After(u64),
    /// Its position is gone; this one is the earliest that is left.
    Gone(u64),
}

/// The format that a request names.
pub(super) fn format(name: &str) -> Result<Format, Error> {
    Format::parse(name).ok_or_else(|| {
        let names: Vec<_> = Format::all().map(Format::name).collect();
        let message = format!("must be one of {}", names.join(", "));
        Error::caller(ApiError::field("format", message))
    })
}

impl<'a> Following<'a> {
    /// A request for the events of a stream. `named`: its format.
    pub(super) fn new(
        (stream, named): (Arc<Generation>, &str),
        (query, head): (&'a Query, &'a Parts),
        right: Option<Right>,
    ) -> Result<Self, Error> {
        let format = format(named)?;
        let track = match format {
            Format::Snapshot => stream.in_format(Format::Events),
            _ => stream.in_format(format),
        };
        Ok(Self { format, track, stream, query, head, right, first: 1, longest: None })
    }

    /// The same for clients that come back with their position when the connection ends before the stream.
    pub(super) fn within(self, longest: Option<Duration>) -> Self {
        Self { longest, ..self }
    }

    /// The same whose events are numbered from 0 in `starting_after`.
    pub(super) fn numbered_from_zero(self) -> Self {
        Self { first: 0, ..self }
    }

    /// The track.
    pub(super) fn track(&self) -> &Track {
        self.track.as_deref().unwrap_or(&self.stream.native)
    }

    /// The track's extent, as far as the stream has come.
    pub(super) fn extent(&self) -> Extent<StreamEnd> {
        self.track().advance(&self.stream);
        self.track().log.extent()
    }

    /// The place at which the request begins. An error: its position is malformed or ahead of the stream.
    pub(super) fn place(&self, extent: &Extent<StreamEnd>) -> Result<Place, Error> {
        let asked = self.query.position(self.head)?;
        let seq = match asked {
            From::Start => 0,
            From::Now => extent.tail,
            From::Seq(number) => number.saturating_add(1 - self.first),
            From::After(position) if position.epoch == self.track().epoch => position.seq,
            From::After(_) => return Ok(Place::Gone(extent.earliest)),
        };
        if seq > extent.tail {
            let message = "the position is ahead of the stream; read from `stream-next-offset`";
            let code = Some("position_ahead".to_owned());
            return Err(Error::caller(ApiError { code, ..ApiError::new(Kind::Invalid, message) }));
        }
        Ok(if seq < extent.earliest { Place::Gone(extent.earliest) } else { Place::After(seq) })
    }

    /// The response that follows the stream.
    pub(super) fn follow(
        self,
        gateway: &Gateway,
        asked: &Asked<'_>,
        account: &mut AccountSlot,
    ) -> Result<Response, Error> {
        let extent = self.extent();
        let (seq, reset) = match self.place(&extent) {
            Ok(Place::After(seq)) => (seq, false),
            Ok(Place::Gone(earliest)) if self.query.is_event_source() => (earliest, true),
            Err(_) if self.query.is_event_source() => (extent.earliest, true),
            Ok(Place::Gone(_)) => return Ok(self.gone(&extent)),
            Err(error) => return Err(error),
        };
        if extent.end.is_some() && seq == extent.tail && !reset {
            let mut response = no_content();
            set_headers(response.headers_mut(), self.track(), &extent, seq);
            return Ok(response);
        }
        let settings = asked.state.config.stream;
        let preamble = self.preamble(reset.then_some(extent.earliest));
        let viewer = Viewer::new(
            Arc::clone(&self.stream),
            self.track.clone(),
            seq,
            (Form::Blocks, asked.state.config.streams.coalesce),
        );
        if let Some(account) = account {
            account.responded(200);
        }
        let heartbeat = self.heartbeat();
        let mut headers = http::HeaderMap::new();
        set_headers(&mut headers, self.track(), &extent, seq);
        headers.extend(location(&self.stream));
        headers.extend(
            self.format.headers().iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            }),
        );
        let body = delivery::follow(delivery::Following {
            viewer,
            preamble,
            heartbeat,
            every: settings.heartbeat,
            account: account.take(),
            right: self.right,
            lifetime: Lifetime::of_follower(gateway, self.longest),
        });
        Ok(stream_response(headers, "text/event-stream", Body::from_stream(body)))
    }

    /// The bytes before the first event. `earliest`: the position that was asked for is gone, and this is the first
    /// one that is left.
    fn preamble(&self, earliest: Option<u64>) -> Bytes {
        let retry = retry();
        let mut bytes = Vec::from(GREETING);
        if let Some(earliest) = earliest {
            let earliest = self.track().epoch.at(earliest);
            let reset = format!("event: reset\ndata: {{\"earliest\":\"{earliest}\"}}\n\n");
            bytes.extend_from_slice(reset.as_bytes());
        }
        bytes.extend_from_slice(&retry);
        bytes.into()
    }

    fn heartbeat(&self) -> Bytes {
        let origin = &self.stream.origin;
        let native = self.track.is_none();
        if native && origin.dialect.media_type(&origin.context) == "text/event-stream" {
            origin.dialect.heartbeat(&origin.context)
        } else {
            HEARTBEAT
        }
    }

    /// The response to a position that has been trimmed, or belongs to another stream or format.
    pub(super) fn gone(&self, extent: &Extent<StreamEnd>) -> Response {
        let at = |seq: u64| self.track().epoch.at(seq).to_string();
        let (earliest, tail) = (at(extent.earliest), at(extent.tail));
        let message = format!(
            "the position is gone, or belongs to another stream or format; what is left goes from {earliest} to {tail}"
        );
        let error = json!({
            "message": message,
            "type": "invalid_request_error",
            "param": null,
            "code": "position_gone",
        });
        let body = json!({"error": error, "earliest": earliest, "tail": tail});
        let mut response = json_response(body.to_string());
        *response.status_mut() = StatusCode::GONE;
        response
    }
}
