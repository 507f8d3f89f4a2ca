//! Streams of chats: the running generation of a conversation, as the AI SDK's `useChat({ resume: true })` asks for it,
//! and its cancellation.

use std::sync::Arc;

use axum::extract::{Path, Request, State as Shared};
use axum::response::Response;
use serde_json::Value;

use super::follow::Following;
use super::position::Query;
use super::{cancelled, no_content};
use crate::error::Error;
use crate::gateway::direct_response::respond;
use crate::gateway::durable::is_chat;
use crate::gateway::state::Gateway;
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::DEFAULT;

/// The format of a chat's stream where the request names none.
const FORMAT: &str = "ui";

/// Follows the running generation of a chat from its first event on; 204: none is running.
pub(super) async fn stream(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(chat): Path<String>,
    request: Request,
) -> Response {
    let query = Query::of(request.uri());
    respond(&gateway, DEFAULT, request, async |asked, account| {
        check(&chat)?;
        let running = gateway.stream_of_chat(&asked.caller.name, &chat).await?;
        let Some(stream) = running else {
            return Ok(no_content());
        };
        let format = query.get("format").unwrap_or(FORMAT);
        let read = Following::new((stream, format), (&query, asked.head), None)?;
        read.follow(&gateway, asked, account)
    })
    .await
}

/// Cancels the running generation of a chat; 204: none is running. With `{"stream": ID}` in the body only that one, so
/// that a late request does not stop the next generation.
pub(super) async fn stop(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(chat): Path<String>,
    request: Request,
) -> Response {
    respond(&gateway, DEFAULT, request, async |asked, _| {
        check(&chat)?;
        let wanted = wanted(asked.body)?;
        let running = gateway.stream_of_chat(&asked.caller.name, &chat).await?;
        let Some(stream) = running else {
            return Ok(no_content());
        };
        if wanted.is_some_and(|id| id != stream.id) {
            let message = "another stream of this chat is running; it was not cancelled";
            return Err(Error::caller(ApiError::new(Kind::Conflict, message)));
        }
        Ok(cancelled(&stream, asked).await)
    })
    .await
}

fn check(chat: &str) -> Result<(), Error> {
    if is_chat(chat) {
        return Ok(());
    }
    let message = "must be 1 to 128 letters, digits and `._~:-`";
    Err(Error::caller(ApiError::field("chat", message)))
}

/// The stream that a body names.
fn wanted(body: &str) -> Result<Option<String>, Error> {
    if body.trim().is_empty() {
        return Ok(None);
    }
    let fault = |message: &str| Error::caller(ApiError::field("stream", message));
    let body: Value = serde_json::from_str(body).map_err(|error| {
        Error::caller(ApiError::new(Kind::Invalid, format!("the body is not JSON: {error}")))
    })?;
    match body.get("stream") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(_) => Err(fault("must be the id of a stream")),
    }
}
