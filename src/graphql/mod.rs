//! GraphQL over server-sent events (the protocol `graphql-sse`): subscriptions to channels and durable streams at
//! `/v1/graphql`, each over a connection of its own or all over one. An operation must never outlive its connection.

mod connection;
mod events;
mod execution;
mod reservations;
mod schema;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::channel_api::ChannelGateway;
use crate::channel_api::events::{pace, stream_headers};
use crate::error::Error;
use crate::gateway::direct_response::{self, Identity, json_response};
use crate::gateway::own_endpoint::{OwnRequest, answer_as};
use crate::gateway::state::Gateway;
use crate::wire::chat::{ApiError, Kind};
use connection::{Connection, event_stream};
use execution::{Operation, OperationRequest};
use reservations::{Reservation, Reservations};
use schema::{Session, SubscriptionSchema};

/// The address of the endpoint.
pub const PATH: &str = "/v1/graphql";

/// The header with the token of a reservation.
const TOKEN: &str = "x-graphql-event-stream-token";

/// The schema, and the connections that clients have reserved.
pub struct GraphQl {
    schema: SubscriptionSchema,
    reservations: Reservations,
}

impl GraphQl {
    /// Without reservations.
    pub fn new() -> Self {
        Self { schema: schema::build(), reservations: Reservations::default() }
    }

    /// Drops reservations that nobody connects to, for as long as it is polled.
    pub async fn keep(&self) -> Infallible {
        self.reservations.keep().await
    }
}

impl Default for GraphQl {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers a request, if the endpoint is served.
pub async fn answer(gateway: &ChannelGateway, graphql: &GraphQl, request: Request) -> Response {
    if !gateway.hub.settings().graphql {
        return direct_response::not_found(gateway, request).await;
    }
    // A client that reserves again may still send the token of before.
    let token = token(&request).filter(|_| request.method() != Method::PUT);
    let reservation =
        token.map(|token| graphql.reservations.find(&token).ok_or_else(unknown_token));
    // An `EventSource` sends no header: the token stands for the caller that has reserved it.
    let connects = request.method() == Method::GET && !has_credential(&request);
    let identity = match &reservation {
        Some(Ok(reservation)) if connects => Identity::Known(Ok(Arc::clone(reservation.caller()))),
        _ => Identity::Headers,
    };
    let respond = async |mut request: OwnRequest<'_>| {
        let reservation = reservation.transpose()?;
        let own = |it: &Arc<Reservation>| it.caller().name == request.caller.name;
        if reservation.as_ref().is_some_and(|reservation| !own(reservation)) {
            return Err(unknown_token());
        }
        let reserved = reservation.as_ref();
        match (request.head.method.clone(), reserved) {
            (Method::PUT, _) => reserve(graphql, &request),
            (Method::GET, Some(reservation)) => connect(gateway, graphql, reservation, &request),
            (Method::DELETE, Some(reservation)) => stop(reservation, request.head),
            (Method::POST, Some(reservation)) => {
                let asked = OperationRequest::posted(&mut request).await?;
                accept(gateway, graphql, (reservation, &request), asked)
            }
            (method @ (Method::GET | Method::POST), None) => {
                let asked = if method == Method::GET {
                    OperationRequest::queried(request.head)?
                } else {
                    OperationRequest::posted(&mut request).await?
                };
                let session = session(gateway, &request);
                if accepts_stream(request.head) {
                    let operation = Operation::begin(&graphql.schema, session, asked);
                    return Ok(streamed(gateway, &request, Connection::distinct(operation)));
                }
                Ok(execute(graphql, session, asked).await)
            }
            _ => Err(invalid(
                "the request has no reservation's token; send `x-graphql-event-stream-token`",
            )),
        }
    };
    answer_as(gateway, (identity, request), respond, |_, _| None).await
}

/// The token of a reservation, in the header or the query.
fn token(request: &Request) -> Option<String> {
    let header = request.headers().get(TOKEN).map(|value| value.to_str().unwrap_or("?").to_owned());
    header.or_else(|| execution::parameter(request.uri(), "token"))
}

fn has_credential(request: &Request) -> bool {
    ["authorization", "x-api-key", "api-key", "x-goog-api-key"]
        .iter()
        .any(|name| request.headers().contains_key(*name))
}

/// Reserves a connection.
fn reserve(graphql: &GraphQl, request: &OwnRequest<'_>) -> Result<Response, Error> {
    let token = graphql.reservations.reserve(&request.caller)?;
    let mut response = Response::new(Body::from(token));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Connects to a reservation.
fn connect(
    gateway: &ChannelGateway,
    graphql: &GraphQl,
    reservation: &Arc<Reservation>,
    request: &OwnRequest<'_>,
) -> Result<Response, Error> {
    let reserved = graphql.reservations.connect(reservation)?;
    Ok(streamed(gateway, request, Connection::reserved(reserved)))
}

/// Accepts an operation whose results go over a reserved connection.
fn accept(
    gateway: &ChannelGateway,
    graphql: &GraphQl,
    (reservation, request): (&Arc<Reservation>, &OwnRequest<'_>),
    asked: OperationRequest,
) -> Result<Response, Error> {
    let Some(id) = asked.id.clone() else {
        return Err(invalid(
            "the request has no text `extensions.operationId`; send an id of your own",
        ));
    };
    let mut operation = Operation::begin(&graphql.schema, session(gateway, request), asked);
    if let Some(refused) = operation.refusal() {
        let mut response = json_response(refused);
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    reservation.add(id, operation)?;
    let mut response = json_response(String::new());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Stops an operation. One that has ended, or never was, is stopped.
fn stop(reservation: &Reservation, head: &Parts) -> Result<Response, Error> {
    let id = execution::parameter(&head.uri, "operationId");
    let id =
        id.ok_or_else(|| invalid("the query has no `operationId`; name the operation to stop"))?;
    reservation.stop(&id);
    Ok(json_response(String::new()))
}

/// Whether a client wants an event stream.
fn accepts_stream(head: &Parts) -> bool {
    let accepted = head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

/// Runs a query, and returns its result as JSON.
async fn execute(graphql: &GraphQl, session: Session, asked: OperationRequest) -> Response {
    let result = graphql.schema.execute(asked.request(session)).await;
    let refused = result.is_err() && result.data == async_graphql::Value::Null;
    let mut response = json_response(execution::text(&result));
    if refused {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

fn session(gateway: &ChannelGateway, request: &OwnRequest<'_>) -> Session {
    Session {
        hub: Arc::clone(&gateway.hub),
        gateway: Gateway::clone(gateway),
        caller: Arc::clone(&request.caller),
    }
}

fn streamed(
    gateway: &ChannelGateway,
    request: &OwnRequest<'_>,
    connection: Connection,
) -> Response {
    let config = &request.state.config;
    let pace = pace(config, gateway, &request.caller);
    let stopping = (gateway.shutdown.stopping.clone(), config.server.drain);
    let mut response = Response::new(Body::from_stream(event_stream(connection, pace, stopping)));
    stream_headers(&mut response);
    response
}

fn invalid(message: &str) -> Error {
    Error::caller(ApiError::new(Kind::Invalid, message))
}

fn unknown_token() -> Error {
    let message = "there is no such reservation, or it has ended; make one with PUT /v1/graphql";
    Error::caller(ApiError::new(Kind::NotFound, message))
}

/// Errors in GraphQL's form, for a result in the place of one of the schema's.
fn errors(message: &str) -> Value {
    json!({ "errors": [{ "message": message }] })
}
