//! Subscribing: `GET /v1/events`, as an event stream, by long-poll or once. A refusal must reach a browser's `EventSource`
//! as an event: any status but 200 ends it for good.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use rand::RngExt as _;
use serde_json::json;
use tokio::time::Instant;
use url::form_urlencoded;

use super::ChannelGateway;
use super::event_stream::{Framing, Pace, event_stream};
use super::long_poll::{self, Polled};
use super::publish::json_response;
use super::query::{self, EventsQuery, Form};
use super::{forbidden, own_channel};
use crate::channels::{
    Cursor, LimitError, Selector, Source, StreamSource, SubscribeError, Subscription,
    SubscriptionRequest,
};
use crate::config::Config;
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::gateway::auth::Caller;
use crate::gateway::auth::tickets::{Ticket, bad_ticket};
use crate::gateway::clock::unix_seconds;
use crate::gateway::direct_response::Identity;
use crate::gateway::own_endpoint::{OwnRequest, answer_as};
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::DEFAULT;

const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");

/// The time after which a refused `EventSource` comes back, in milliseconds.
const REFUSED_RETRY: std::ops::RangeInclusive<u32> = 15_000..=60_000;

/// The time after which a caller over its limit of subscriptions may try again.
const LIMIT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// `GET /v1/events`.
pub async fn events(gateway: &ChannelGateway, request: Request) -> Response {
    let ticket = ticket(gateway, request.uri().query().unwrap_or_default()).await;
    let identity = match &ticket {
        None => Identity::Headers,
        Some(ticket) => Identity::Known(ticket.clone().map(|ticket| ticket.caller)),
    };
    let ticket = ticket.and_then(Result::ok);
    let subscribe = async |request: OwnRequest<'_>| {
        let (caller, head) = (&request.caller, request.head);
        let own = own_channel(caller);
        let query = head.uri.query().unwrap_or_default();
        let query = EventsQuery::parse(query, &head.headers, own.as_ref()).map_err(|error| {
            let param = Some(error.parameter);
            Error::caller(ApiError { param, ..ApiError::new(Kind::Invalid, error.message) })
        })?;
        for selector in &query.channels {
            let is_own = matches!(selector, Selector::Name(name) if own.as_ref() == Some(name));
            if !is_own && !caller.channels.may_subscribe(selector) {
                return Err(forbidden(&format!("subscribe to `{selector}`"), "subscribe"));
            }
            let named =
                |ticket: &Ticket| ticket.channels.iter().any(|name| *name == selector.to_string());
            if ticket.as_ref().is_some_and(|ticket| !named(ticket)) {
                let message = format!("the ticket is not for the channel `{selector}`");
                return Err(Error::caller(ApiError::new(Kind::Permission, message)));
            }
        }
        let sources = sources(gateway, &query.streams, caller, ticket.as_ref()).await?;
        let wanted = SubscriptionRequest {
            user: Arc::clone(&caller.name),
            channels: query.channels,
            sources,
            types: query.types,
            start: query.start,
            rights: None,
        };
        let subscription = gateway.hub.subscribe(wanted).await;
        match subscription {
            Ok(subscription) => {
                let mut pace = pace(&request.state.config, gateway, caller);
                if let Some(ticket) = &ticket {
                    let left = ticket.expires.saturating_duration_since(Instant::now());
                    pace.credential = Some(pace.credential.map_or(left, |other| other.min(left)));
                }
                let framing = if query.enveloped { Framing::Enveloped } else { Framing::Native };
                Ok(respond(subscription, (query.form, framing), pace).await)
            }
            Err(error) => refused(error),
        }
    };
    answer_as(gateway, (identity, request), subscribe, refusal).await
}

/// The ticket of a query, if there is one.
async fn ticket(gateway: &ChannelGateway, query: &str) -> Option<Result<Ticket, Error>> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let (_, text) = parameters.find(|(name, _)| name == "ticket")?;
    Some(gateway.redeem_ticket(&text).await.ok_or_else(bad_ticket))
}

/// The durable streams that a request names, which are the caller's own.
async fn sources(
    gateway: &ChannelGateway,
    ids: &BTreeSet<String>,
    caller: &Caller,
    ticket: Option<&Ticket>,
) -> Result<Vec<Arc<dyn Source>>, Error> {
    let mut sources = Vec::with_capacity(ids.len());
    for id in ids {
        let named = ticket.is_none_or(|ticket| ticket.streams.contains(id));
        let found = if named { gateway.stream(&caller.name, id).await? } else { None };
        let source = found.map(|found| Arc::new(StreamSource::new(found)) as Arc<dyn Source>);
        sources.push(source.ok_or_else(|| {
            let message = "names a stream that does not exist, or is no longer kept";
            let code = Some("stream_not_found".to_owned());
            let param = Some("stream".to_owned());
            Error::caller(ApiError { code, param, ..ApiError::new(Kind::NotFound, message) })
        })?);
    }
    Ok(sources)
}

/// The times of a connection of a caller.
pub(crate) fn pace(config: &Config, gateway: &ChannelGateway, caller: &Caller) -> Pace {
    let left = |until: u64| Duration::from_secs(until.saturating_sub(unix_seconds()));
    Pace {
        heartbeat: config.stream.heartbeat,
        lifetime: gateway.hub.settings().lifetime,
        credential: caller.until.map(left),
    }
}

async fn respond(
    mut subscription: Subscription,
    (form, framing): (Form, Framing),
    pace: Pace,
) -> Response {
    let begun = subscription.cursor();
    let polled = match form {
        Form::Stream => {
            let mut response =
                Response::new(Body::from_stream(event_stream(subscription, framing, pace)));
            position(&mut response, &begun);
            stream_headers(&mut response);
            return response;
        }
        Form::LongPoll(wait) => {
            let wait = pace.credential.map_or(wait, |left| left.min(wait));
            long_poll::poll(subscription, wait).await
        }
        Form::Once => long_poll::read(&mut subscription),
    };
    match polled {
        Polled::Gone { earliest } => gone(&earliest, None),
        Polled::Events { events, cursor, up_to_date } => {
            let mut response = if events.is_empty() && form != Form::Once {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            } else {
                json_response(&json!({
                    "events": events,
                    "next_offset": cursor.to_string(),
                    "up_to_date": up_to_date,
                }))
            };
            position(&mut response, &cursor);
            if up_to_date {
                response.headers_mut().insert(UP_TO_DATE, HeaderValue::from_static("true"));
            }
            response
        }
    }
}

fn position(response: &mut Response, cursor: &Cursor) {
    if let Ok(value) = HeaderValue::try_from(cursor.to_string()) {
        response.headers_mut().insert(NEXT_OFFSET, value);
    }
}

/// The headers of an event stream, which no proxy may hold back or change.
pub(crate) fn stream_headers(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
}

/// The response to a subscription that cannot begin.
pub(crate) fn refused(error: SubscribeError) -> Result<Response, Error> {
    let message = error.to_string();
    Err(match error {
        SubscribeError::Gone { earliest, tail } => return Ok(gone(&earliest, Some(&tail))),
        SubscribeError::Ahead { .. } => Error::caller(ApiError::new(Kind::Invalid, message)),
        SubscribeError::Draining | SubscribeError::Hub(_) => {
            Error::unavailable(&message).retry_after(MIN_RETRY_AFTER)
        }
        SubscribeError::Limit(limit) => {
            let (scope, name) = match limit {
                LimitError::User(_) => ("caller", "connections_per_user"),
                LimitError::All(_) => ("channels", "connections"),
            };
            let fault = ApiError::new(Kind::RateLimited, message);
            Error::caller(fault).retry_after(LIMIT_RETRY_AFTER).over(scope, name)
        }
    })
}

/// The response to a position after which events are missing.
fn gone(earliest: &Cursor, tail: Option<&Cursor>) -> Response {
    let tail = tail.unwrap_or(earliest);
    let message = SubscribeError::Gone { earliest: earliest.clone(), tail: tail.clone() };
    let mut response = json_response(&json!({
        "error": { "message": message.to_string(), "type": "gone", "code": "position_gone" },
        "earliest": earliest.to_string(),
        "tail": tail.to_string(),
    }));
    *response.status_mut() = StatusCode::GONE;
    response
}

/// A refusal for an `EventSource`: an event, and a time of its own to come back.
fn refusal(error: &Error, head: &Parts) -> Option<Response> {
    if !query::is_event_source(head.uri.query().unwrap_or_default()) {
        return None;
    }
    let fault = error.shown();
    let data = json!({ "status": DEFAULT.status(fault.kind), "message": fault.message });
    let retry = rand::rng().random_range(REFUSED_RETRY);
    let body = format!("retry: {retry}\nevent: refused\ndata: {data}\n\n");
    let mut response = Response::new(Body::from(body));
    stream_headers(&mut response);
    Some(response)
}
