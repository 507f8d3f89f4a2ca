//! The Mercure protocol (draft-dunglas-mercure-08, and the spellings of the drafts before it) over channels: subscribing
//! and publishing at `/.well-known/mercure`. A private update must never reach a caller without a right to one of its
//! topics, whatever topics the caller subscribes to.

mod credential;
mod form;
mod publish;
mod subscribe;

pub use publish::publish;
pub use subscribe::subscribe;

use axum::extract::Request;
use axum::response::Response;
use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ORIGIN};
use http::{HeaderMap, HeaderValue};

use crate::channel_api::ChannelGateway;
use crate::error::Error;
use crate::gateway::direct_response::{self, Identity};
use crate::gateway::own_endpoint::{OwnRequest, answer_as};
use crate::wire::chat::{ApiError, Kind};

/// The address of the hub.
pub const PATH: &str = "/.well-known/mercure";

/// Answers a request to the hub, if it is served.
async fn answer(
    gateway: &ChannelGateway,
    mut request: Request,
    respond: impl AsyncFnOnce(OwnRequest<'_>) -> Result<Response, Error>,
) -> Response {
    if !gateway.hub.settings().mercure {
        return direct_response::not_found(gateway, request).await;
    }
    let credentials = allows_credentials(gateway, request.headers());
    let identity = match credential::present(&mut request, credentials) {
        Ok(()) => Identity::Headers,
        Err(error) => Identity::Known(Err(error)),
    };
    let mut response = answer_as(gateway, (identity, request), respond, |_, _| None).await;
    if credentials {
        let allowed = HeaderValue::from_static("true");
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
    }
    response
}

/// Whether the request comes from a page of an allowed origin, which may send its cookie.
fn allows_credentials(gateway: &ChannelGateway, headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN);
    origin.is_some_and(|origin| gateway.state().config.server.cors_origins.contains(origin))
}

/// The error of a wrong parameter or field.
fn invalid(name: &str, message: String) -> Error {
    let param = Some(name.to_owned());
    Error::caller(ApiError { param, ..ApiError::new(Kind::Invalid, message) })
}
