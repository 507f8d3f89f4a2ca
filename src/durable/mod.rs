//! Durable Streams protocol: append-only streams at `/v1/stream/{path}`, which applications create, append to, close,
//! read and follow (docs/durable-streams.md). It must never serve a stream to another caller than its own.

mod content_type;
mod cursor;
mod error;
mod etag;
mod expiry;
mod follow;
mod fork;
mod headers;
mod json_mode;
mod offset;
mod producer;
mod read;
mod sse;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Durable};
use crate::gateway::account::Account;
use crate::gateway::direct_response;
use crate::gateway::error_response::error_response;
use crate::gateway::exchange::Exchange;
use crate::gateway::limit::Admission;
use crate::gateway::reply::{Reply, conclude};
use crate::gateway::request_body::{self, BodyLimits};
use crate::gateway::state::Gateway;
use crate::wire::chat::End;
use crate::wire::dialect::DEFAULT;
use crate::wire::tally::Tally;
use error::StreamError;
use follow::Follower;
use read::{Live, Query};

pub use headers::EXPOSED as EXPOSED_HEADERS;
pub use store::Streams;

/// The route of all streams.
pub const ROUTE: &str = "/v1/stream/{*path}";

/// The path of all streams.
const ROOT: &str = "/v1/stream/";

/// Where the protocol has its subscriptions, which are not served.
const RESERVED: &str = "__ds";

/// The longest path of a stream, below [`ROOT`].
const MAX_PATH: usize = 1024;

/// The methods that are served.
const METHODS: &str = "GET, HEAD, PUT, POST, DELETE";

/// The name of the protocol in records and metrics, where others have their dialect.
const LABEL: &str = "durable-streams";

/// One request to a stream.
struct Call<'a> {
    streams: &'a Streams,
    settings: Durable,
    heartbeat: Duration,
    /// The caller's name.
    owner: Arc<str>,
    /// The stream's path, below [`ROOT`].
    path: &'a str,
    head: &'a Parts,
    /// `https` or `http`, as far as it is known.
    scheme: &'static str,
    /// Cancelled when live reads must end.
    stopping: &'a CancellationToken,
}

/// The head of a response.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

/// A response before it has its account.
enum Answer {
    Whole(Head, Bytes),
    Followed(Box<Follower>),
}

/// The response to a request for a stream.
pub async fn answer(gateway: &Gateway, streams: &Streams, request: Request) -> Response {
    if !gateway.state().config.durable.enabled {
        return direct_response::not_found(gateway, request).await;
    }
    let served = METHODS.split(", ").any(|method| request.method() == method);
    let mut response = if served {
        served_method(gateway, streams, request).await
    } else {
        direct_response::method_not_allowed(gateway, request, METHODS).await
    };
    headers::secure(response.headers_mut());
    response
}

async fn served_method(gateway: &Gateway, streams: &Streams, request: Request) -> Response {
    let (mut exchange, mut account) = Exchange::begin_as(gateway, (DEFAULT, LABEL), request);
    let answer = handle(gateway, streams, &mut exchange, &mut account).await;
    let reply = match answer {
        Ok(Answer::Whole(head, body)) => {
            account.settle(&Tally::default(), Some(&End::Complete));
            Reply { response: Ok(response(head, Body::from(body))), account: Some(account) }
        }
        Ok(Answer::Followed(follower)) => {
            let head = Head { status: StatusCode::OK, headers: follower.headers() };
            account.responded(head.status.as_u16());
            let body = Body::from_stream(follow::body(*follower, account));
            Reply { response: Ok(response(head, body)), account: None }
        }
        // The body may be unread, which is discarded with the error.
        Err(StreamError::Gateway(error)) => Reply { response: Err(error), account: Some(account) },
        Err(refusal) => refused(&exchange, account, refusal),
    };
    conclude(gateway, exchange, reply).await
}

/// The response to a request that the protocol refuses.
fn refused(exchange: &Exchange, mut account: Box<Account>, refusal: StreamError) -> Reply {
    let mut marks = Response::new(Body::empty());
    refusal.mark(&mut marks);
    let error = refusal.into_error();
    account.failed(&error);
    let mut response = error_response(exchange.dialect, &error, &exchange.id);
    *response.status_mut() = marks.status();
    response.headers_mut().extend(std::mem::take(marks.headers_mut()));
    Reply { response: Ok(response), account: Some(account) }
}

fn response(head: Head, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// Authentication, the caller's limits, and the request itself.
async fn handle(
    gateway: &Gateway,
    streams: &Streams,
    exchange: &mut Exchange,
    account: &mut Account,
) -> Result<Answer, StreamError> {
    let state = gateway.state();
    let caller = exchange.identify(gateway, &state, account).await?;
    let admission = caller.limiter.admit()?;
    let writes = [Method::PUT, Method::POST].contains(&exchange.head.method);
    let limits = BodyLimits::of(gateway, &caller);
    let limits = if writes { limits } else { BodyLimits::of_info_request(gateway, &caller) };
    let reading = request_body::read_bytes(&mut exchange.body, &exchange.head.headers, &limits);
    let (body, _lease) = reading.await?;
    let call = Call {
        streams,
        settings: state.config.durable,
        heartbeat: state.config.stream.heartbeat,
        owner: Arc::clone(&caller.name),
        path: path(&exchange.head)?,
        scheme: scheme(&exchange.head, &state.config),
        head: &exchange.head,
        stopping: &gateway.shutdown.stopping,
    };
    drop(state);
    let whole = |head| Answer::Whole(head, Bytes::new());
    match exchange.head.method {
        Method::GET => get(&call, admission, account).await,
        Method::HEAD => read::metadata(&call).map(whole),
        Method::PUT => write::create(&call, exact(body)).await.map(whole),
        Method::POST => write::append(&call, exact(body)).await.map(whole),
        _ => write::delete(&call).map(whole),
    }
}

/// A body without unused capacity, because it may be kept for long.
fn exact(mut body: Vec<u8>) -> Bytes {
    body.shrink_to_fit();
    body.into()
}

/// A read in one of the three modes.
async fn get(
    call: &Call<'_>,
    admission: Admission,
    account: &mut Account,
) -> Result<Answer, StreamError> {
    let query = Query::of(call.head.uri.query(), &call.head.headers)?;
    let Some(live) = query.live else {
        return read::catch_up(call, &query).map(|(head, body)| Answer::Whole(head, body));
    };
    let stream = call.streams.find(&call.owner, call.path)?;
    let reader = call.streams.reader(&call.owner, call.settings.live_reads)?;
    stream.touch()?;
    // It waits, and does nothing: it takes none of the caller's `concurrent_streams`.
    drop(admission);
    if live == Live::LongPoll {
        let read = read::long_poll(call, &query, &stream).await;
        return read.map(|(head, body)| Answer::Whole(head, body));
    }
    account.asked("", true, 0);
    Follower::new(call, &query, (stream, reader))
        .map(|follower| Answer::Followed(Box::new(follower)))
}

/// The path of a stream, below [`ROOT`].
fn path(head: &Parts) -> Result<&str, StreamError> {
    let path = head.uri.path().strip_prefix(ROOT).unwrap_or_default();
    if path.len() > MAX_PATH {
        let message = format!("has more than {MAX_PATH} characters");
        return Err(StreamError::invalid("path", message));
    }
    if path.split('/').next() == Some(RESERVED) {
        return Err(StreamError::Reserved);
    }
    Ok(path)
}

/// The scheme of the caller's connection: that of a trusted proxy's caller, if one reports it.
fn scheme(head: &Parts, config: &Config) -> &'static str {
    let peer =
        head.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip().to_canonical());
    let mut trusted = config.server.trusted_proxies.iter();
    let is_trusted = peer.is_some_and(|peer| trusted.any(|network| network.contains(&peer)));
    let reported = head.headers.get("x-forwarded-proto").filter(|_| is_trusted);
    let is_https = reported.map_or_else(|| config.server.tls.is_some(), |scheme| scheme == "https");
    if is_https { "https" } else { "http" }
}

impl Call<'_> {
    /// The address of the stream. `None`: the request names no host.
    fn location(&self) -> Option<HeaderValue> {
        let host = self.head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = self.head.uri.authority().map(http::uri::Authority::as_str).or(host);
        let host = host.filter(|host| !host.is_empty())?;
        format!("{}://{host}{}", self.scheme, self.head.uri.path()).try_into().ok()
    }
}
