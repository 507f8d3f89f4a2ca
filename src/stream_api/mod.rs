//! HTTP endpoints of durable streams: listing, following, reading, cancelling and deleting them. They never send a
//! request to an upstream, and return another caller's stream as one that does not exist.

mod chats;
mod conversations;
mod follow;
mod object;
mod page;
mod position;
mod refused;
mod responses;
mod rights;
mod share;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{delete, get, post};
use follow::Following;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use position::Query;
use rights::Access;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::gateway::clock::unix_seconds;
use crate::gateway::compression::compress;
use crate::gateway::delivery::Right;
use crate::gateway::direct_response::{self, Asked, json_response, respond, respond_to};
use crate::gateway::state::Gateway;
use crate::streams::generation::Generation;
use crate::streams::head::StreamHead;
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::{self, DEFAULT};
use crate::wire::format::Format;

/// The longest that a cancellation waits for the end of the stream.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The endpoints. A new one is a line here; 405 for other methods follows.
pub fn router<S: Clone + Send + Sync + 'static>(gateway: Arc<Gateway>) -> Router<S> {
    let compressed = from_fn_with_state(Arc::clone(&gateway), compress);
    let states = dialect::caller_dialects().filter_map(|one| Some((one, one.state()?)));
    let stored = states.fold(Router::new(), |router, (dialect, state)| {
        let conversations = conversations::routes(dialect, state);
        router.merge(responses::routes(dialect, state)).merge(conversations)
    });
    stored
        .route("/v1/streams", get(list).fallback(only_get))
        .route(
            "/v1/streams/{id}",
            get(read).head(head).delete(remove).fallback(only_read).layer(compressed.clone()),
        )
        .route("/v1/streams/{id}/cancel", post(cancel).fallback(only_post))
        .route("/v1/streams/{id}/share", post(share::share).fallback(only_post))
        .route("/v1/streams/{id}/share/{share}", delete(share::revoke).fallback(only_delete))
        .route("/v1/tickets", post(share::ticket).fallback(only_post))
        .route("/v1/chats/{chat}/stream", get(chats::stream).fallback(only_get).layer(compressed))
        .route("/v1/chats/{chat}/stop", post(chats::stop).fallback(only_post))
        .with_state(gateway)
}

/// The caller's streams, the oldest first.
async fn list(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    respond(&gateway, DEFAULT, request, async |asked, _| {
        let owner = &asked.caller.name;
        let most = usize::try_from(asked.state.config.streams.per_caller).unwrap_or(usize::MAX);
        let all = gateway.stream_heads(owner, asked.state.config.streams.keep, most).await?;
        let data: Vec<_> = all.iter().map(object::of).collect();
        Ok(json_response(json!({"object": "list", "data": data}).to_string()))
    })
    .await
}

/// Follows a stream, or reads a part of it, by the request's `accept` and `live`.
async fn read(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let query = Query::of(request.uri());
    let is_event_source = query.is_event_source();
    let access = Access::of(&gateway, &query, &id).await;
    let identity = access.identity();
    let response = respond_to(&gateway, (DEFAULT, identity), request, async |asked, account| {
        let (stream, right) = access.stream(&gateway, asked, &id).await?;
        respond_with(&gateway, asked, (stream, right), account).await
    })
    .await;
    if is_event_source { refused::for_event_source(response).await } else { response }
}

/// The response to a request for a stream that the caller may read.
async fn respond_with(
    gateway: &Gateway,
    asked: &Asked<'_>,
    (stream, right): (Arc<Generation>, Option<Right>),
    account: &mut direct_response::AccountSlot,
) -> Result<Response, Error> {
    let query = Query::of(&asked.head.uri);
    let wants = Mode::of(asked.head, &query)?;
    stream.read();
    let read = Following::new((stream, query.format()), (&query, asked.head), right)?;
    if read.format == Format::Snapshot {
        return Ok(page::snapshot(&read));
    }
    match wants {
        Mode::Follow => {
            read.within(asked.state.config.streams.lifetime).follow(gateway, asked, account)
        }
        Mode::LongPoll => page::long_poll(&read).await,
        Mode::Page => page::now(&read),
    }
}

/// The forms in which a stream is read.
enum Mode {
    /// As server-sent events.
    Follow,
    /// As JSON, waiting for the first event.
    LongPoll,
    /// As JSON, at once.
    Page,
}

impl Mode {
    fn of(head: &Parts, query: &Query) -> Result<Self, Error> {
        let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        match query.get("live") {
            Some("sse") => Ok(Self::Follow),
            Some("long-poll") => Ok(Self::LongPoll),
            Some(_) => {
                let fault = ApiError::field("live", "must be `sse` or `long-poll`");
                Err(Error::caller(fault))
            }
            None if accept.is_some_and(|accept| accept.contains("text/event-stream")) => {
                Ok(Self::Follow)
            }
            None => Ok(Self::Page),
        }
    }
}

/// The headers of a stream without its events.
async fn head(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    respond(&gateway, DEFAULT, request, async |asked, _| {
        let stream = owned(&gateway, asked, &id).await?;
        let mut response = Response::new(Body::empty());
        let extent = stream.extent();
        page::set_headers(response.headers_mut(), &stream.native, &extent, extent.tail);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    })
    .await
}

/// Cancels a stream, and waits for its end. One that has ended stays as it is.
async fn cancel(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let access = Access::of(&gateway, &Query::of(request.uri()), &id).await;
    let identity = access.identity();
    respond_to(&gateway, (DEFAULT, identity), request, async |asked, _| {
        let stream = access.stream_to_cancel(&gateway, asked, &id).await?;
        Ok(cancelled(&stream, asked).await)
    })
    .await
}

/// Cancels a stream. Returns its final state.
async fn cancelled(stream: &Generation, asked: &Asked<'_>) -> Response {
    stream.cancel();
    // Without an end by then, the response shows the stream as it is.
    let _late = timeout(CANCEL_TIMEOUT, stream.ended()).await;
    let keep = asked.state.config.streams.keep;
    let head = StreamHead::of(stream, keep, Instant::now(), unix_seconds());
    json_response(object::of(&head).to_string())
}

/// Cancels a stream, and forgets it.
async fn remove(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    respond(&gateway, DEFAULT, request, async |asked, _| {
        let stream = owned(&gateway, asked, &id).await?;
        stream.cancel();
        gateway.forget_stream(&asked.caller.name, &id).await?;
        Ok(no_content())
    })
    .await
}

/// The caller's own stream of this id.
async fn owned(gateway: &Gateway, asked: &Asked<'_>, id: &str) -> Result<Arc<Generation>, Error> {
    gateway.stream(&asked.caller.name, id).await?.ok_or_else(not_found)
}

/// The error for a stream that does not exist, and for one that the caller may not see.
fn not_found() -> Error {
    let message = "there is no such stream of this caller, or it is no longer kept; GET /v1/streams lists those that \
                   are";
    let code = Some("stream_not_found".to_owned());
    Error::caller(ApiError { code, ..ApiError::new(Kind::NotFound, message) })
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

async fn only_get(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    direct_response::method_not_allowed(&gateway, request, "GET").await
}

async fn only_post(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    direct_response::method_not_allowed(&gateway, request, "POST").await
}

async fn only_delete(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    direct_response::method_not_allowed(&gateway, request, "DELETE").await
}

async fn only_read(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    direct_response::method_not_allowed(&gateway, request, "GET, HEAD, DELETE").await
}
