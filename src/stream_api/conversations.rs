//! Conversations, by the API of the dialect that has them: making, reading, adding items, deleting. They never hold
//! more than callers and responses have put into them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State as Shared};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::only_post;
use super::responses::Api;
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::gateway::clock::unix_seconds;
use crate::gateway::direct_response::{self, Asked, json_response, respond};
use crate::gateway::kept_state::with_ids;
use crate::gateway::state::Gateway;
use crate::streams::conversations::{Conversation, ConversationError};
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::{CallerDialect, StateApi};

/// The body of a request: all members are optional.
#[derive(Default, Deserialize)]
struct Body {
    metadata: Option<Box<RawValue>>,
    #[serde(default)]
    items: Vec<Box<RawValue>>,
}

/// The endpoints of a dialect's conversations.
pub(super) fn routes(
    dialect: &'static dyn CallerDialect,
    state: &'static dyn StateApi,
) -> Router<Arc<Gateway>> {
    let (path, api) = (state.conversations(), Api(dialect, state));
    let begin = move |Shared(gateway): Shared<Arc<Gateway>>, request| async move {
        begin(&gateway, api, request).await
    };
    let read = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        read(&gateway, api, &id, request).await
    };
    let remove = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        remove(&gateway, api, &id, request).await
    };
    let list = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        list(&gateway, api, &id, request).await
    };
    let add = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        add(&gateway, api, &id, request).await
    };
    Router::new()
        .route(path, post(begin).fallback(only_post))
        .route(&format!("{path}/{{id}}"), get(read).delete(remove).fallback(only_read))
        .route(&format!("{path}/{{id}}/items"), get(list).post(add).fallback(only_items))
}

async fn begin(gateway: &Gateway, api: Api, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let streams = asked.state.config.streams;
        let Some(keep) = streams.store else {
            let message = "nothing is stored here (streams.store: none)";
            return Err(Error::caller(ApiError::new(Kind::NotFound, message)));
        };
        let Body { metadata, items } = body(asked)?;
        let metadata = metadata.map_or_else(|| "{}".to_owned(), |raw| raw.get().to_owned());
        let most = usize::try_from(streams.per_caller).unwrap_or(usize::MAX);
        let begun = (unix_seconds(), metadata, own(items));
        let begun = gateway.conversations.begin(&asked.caller.name, begun, (keep, most));
        Ok(json_response(shown(&begun.map_err(|error| refused(error, ""))?)))
    })
    .await
}

async fn read(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let (head, _) = found(gateway, asked, id).await?;
        Ok(json_response(shown(&head)))
    })
    .await
}

async fn list(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let (_, items) = found(gateway, asked, id).await?;
        Ok(json_response(api.1.list(&items)))
    })
    .await
}

async fn add(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let items = own(body(asked)?.items);
        found(gateway, asked, id).await?;
        let added = gateway.conversations.add(&asked.caller.name, id, items.clone());
        added.map_err(|error| refused(error, id))?;
        Ok(json_response(api.1.list(&items)))
    })
    .await
}

async fn remove(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        if !gateway.conversations.forget(&asked.caller.name, id).await? {
            return Err(refused(ConversationError::Unknown, id));
        }
        let deleted = json!({"id": id, "object": "conversation.deleted", "deleted": true});
        Ok(json_response(deleted.to_string()))
    })
    .await
}

async fn found(
    gateway: &Gateway,
    asked: &Asked<'_>,
    id: &str,
) -> Result<(Conversation, Vec<String>), Error> {
    let found = gateway.conversations.recall(&asked.caller.name, id).await?;
    found.ok_or_else(|| refused(ConversationError::Unknown, id))
}

/// The items of a request, each with an id.
fn own(items: Vec<Box<RawValue>>) -> Vec<String> {
    with_ids(items.into_iter().map(|item| item.get().to_owned()).collect())
}

fn body(asked: &Asked<'_>) -> Result<Body, Error> {
    if asked.body.trim().is_empty() {
        return Ok(Body::default());
    }
    serde_json::from_str(asked.body).map_err(|error| {
        let message = format!("the body is not the JSON that is expected: {error}");
        Error::caller(ApiError::new(Kind::Invalid, message))
    })
}

fn shown(Conversation { id, created, metadata }: &Conversation) -> String {
    format!(
        r#"{{"id":"{id}","object":"conversation","created_at":{created},"metadata":{metadata}}}"#
    )
}

/// The error of a request for a conversation.
fn refused(error: ConversationError, id: &str) -> Error {
    match error {
        ConversationError::Unknown => {
            let shown: String = id.chars().take(100).collect();
            let message = format!(
                "there is no conversation `{shown}` of this caller, or it is no longer kept"
            );
            let code = Some("conversation_not_found".to_owned());
            Error::caller(ApiError { code, ..ApiError::new(Kind::NotFound, message) })
        }
        ConversationError::Full => {
            let message = "the conversation has as many items as it may; begin another one";
            let error = Error::caller(ApiError::new(Kind::TooLarge, message));
            error.retry_after(MIN_RETRY_AFTER)
        }
    }
}

async fn only_read(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    direct_response::method_not_allowed(&gateway, request, "GET, DELETE").await
}

async fn only_items(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    direct_response::method_not_allowed(&gateway, request, "GET, POST").await
}
