//! Shares and tickets: rights of others to a stream, and credentials for URLs. Only the owner of a stream grants them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State as Shared};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{no_content, owned};
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::gateway::clock::unix_seconds;
use crate::gateway::direct_response::{json_response, respond};
use crate::gateway::state::Gateway;
use crate::streams::capability::{Capability, Rights};
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::DEFAULT;

/// The longest life of a share, and of a ticket, in seconds.
const MAX_SHARE: u64 = 7 * 24 * 3600;
const MAX_TICKET: u64 = 3600;

/// The most viewers of one share at once.
const MAX_VIEWERS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ShareRequest {
    rights: String,
    expires_in: u64,
    viewers: usize,
}

impl Default for ShareRequest {
    fn default() -> Self {
        Self { rights: "read".to_owned(), expires_in: 3600, viewers: 10 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TicketRequest {
    streams: Vec<String>,
    channels: Vec<String>,
    expires_in: u64,
}

impl Default for TicketRequest {
    fn default() -> Self {
        Self { streams: Vec::new(), channels: Vec::new(), expires_in: 300 }
    }
}

/// Shares a stream: returns a capability, as a token and within a URL.
pub(super) async fn share(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    respond(&gateway, DEFAULT, request, async |asked, _| {
        let stream = owned(&gateway, asked, &id).await?;
        let ShareRequest { rights, expires_in, viewers } = read(asked.body)?;
        let rights = Rights::parse(&rights)
            .ok_or_else(|| field("rights", "must be `read` or `read,cancel`"))?;
        check_time(expires_in, MAX_SHARE)?;
        if !(1..=MAX_VIEWERS).contains(&viewers) {
            return Err(field("viewers", &format!("must be 1 to {MAX_VIEWERS}")));
        }
        let expires = unix_seconds() + expires_in;
        let time = Duration::from_secs(expires_in);
        let Some(share) = gateway.add_share(&stream, viewers, time).await? else {
            let message = "this stream has as many shares as it may; revoke one";
            return Err(Error::caller(ApiError::new(Kind::Conflict, message)));
        };
        let capability = Capability { share, rights, expires };
        let token = gateway.streams.sign(&id, &capability);
        let body = json!({
            "id": capability.share,
            "share": token,
            "url": format!("/v1/streams/{id}?share={token}"),
            "expires_at": expires,
        });
        Ok(created(&body))
    })
    .await
}

/// Revokes a share. Its viewers are closed.
pub(super) async fn revoke(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path((id, share)): Path<(String, String)>,
    request: Request,
) -> Response {
    respond(&gateway, DEFAULT, request, async |asked, _| {
        let stream = owned(&gateway, asked, &id).await?;
        if gateway.revoke_share(&stream, &share).await? {
            return Ok(no_content());
        }
        let message = "this stream has no such share";
        Err(Error::caller(ApiError::new(Kind::NotFound, message)))
    })
    .await
}

/// Makes a ticket for streams of the caller, and for channels.
pub(super) async fn ticket(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    respond(&gateway, DEFAULT, request, async |asked, _| {
        let TicketRequest { streams, channels, expires_in } = read(asked.body)?;
        check_time(expires_in, MAX_TICKET)?;
        if streams.is_empty() && channels.is_empty() {
            return Err(field("streams", "must name a stream, or `channels` a channel"));
        }
        for id in &streams {
            owned(&gateway, asked, id).await?;
        }
        let time = Duration::from_secs(expires_in);
        let named = (streams, channels);
        let Some(ticket) = gateway.issue_ticket(asked.caller, named, time).await else {
            let message = "this caller has too many tickets at once; use one for several streams";
            let error = Error::caller(ApiError::new(Kind::RateLimited, message));
            return Err(error.retry_after(MIN_RETRY_AFTER));
        };
        let expires = unix_seconds() + expires_in;
        Ok(created(&json!({"ticket": ticket, "expires_at": expires})))
    })
    .await
}

/// Reads a body; an empty one has all defaults.
fn read<T: for<'de> Deserialize<'de> + Default>(body: &str) -> Result<T, Error> {
    if body.trim().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(body).map_err(|error| {
        let message = format!("the body is not the JSON that is expected: {error}");
        Error::caller(ApiError::new(Kind::Invalid, message))
    })
}

fn check_time(seconds: u64, most: u64) -> Result<(), Error> {
    if (1..=most).contains(&seconds) {
        return Ok(());
    }
    Err(field("expires_in", &format!("must be 1 to {most} seconds")))
}

fn field(name: &str, message: &str) -> Error {
    Error::caller(ApiError::field(name, message))
}

fn created(body: &serde_json::Value) -> Response {
    let mut response = json_response(body.to_string());
    *response.status_mut() = StatusCode::CREATED;
    response
}
