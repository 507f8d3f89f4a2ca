//! Stored responses and responses in the background, by the API of the dialect that has them: reading, input items,
//! cancelling, deleting, and following from a sequence number.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State as Shared};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;
use tokio::time::timeout;

use super::follow::Following;
use super::position::Query;
use super::{CANCEL_TIMEOUT, only_post};
use crate::error::Error;
use crate::gateway::auth::Caller;
use crate::gateway::direct_response::{self, json_response, respond};
use crate::gateway::state::Gateway;
use crate::streams::generation::Generation;
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::{CallerDialect, StateApi};

/// A dialect, and its API of kept state.
#[derive(Clone, Copy)]
pub(super) struct Api(pub(super) &'static dyn CallerDialect, pub(super) &'static dyn StateApi);

/// The endpoints of a dialect's kept state.
pub(super) fn routes(
    dialect: &'static dyn CallerDialect,
    state: &'static dyn StateApi,
) -> Router<Arc<Gateway>> {
    let (path, api) = (state.endpoint().path, Api(dialect, state));
    let read = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        read(&gateway, api, &id, request).await
    };
    let remove = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        remove(&gateway, api, &id, request).await
    };
    let items = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        input_items(&gateway, api, &id, request).await
    };
    let cancel = move |Shared(gateway): Shared<Arc<Gateway>>, Path(id): Path<String>, request| async move {
        cancel(&gateway, api, &id, request).await
    };
    Router::new()
        .route(&format!("{path}/{{id}}"), get(read).delete(remove).fallback(only_read))
        .route(&format!("{path}/{{id}}/input_items"), get(items).fallback(super::only_get))
        .route(&format!("{path}/{{id}}/cancel"), post(cancel).fallback(only_post))
}

/// A response: stored, or under way. With `stream=true`, the events of one that was answered in the background or as a
/// durable stream.
async fn read(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    let query = Query::of(request.uri());
    respond(gateway, api.0, request, async |asked, account| {
        if query.get("stream") == Some("true") {
            let stream = generation(gateway, api, asked.caller, id).await?;
            let stream = stream.ok_or_else(unstreamed)?;
            let read = Following::new((stream, "native"), (&query, asked.head), None)?;
            return read.numbered_from_zero().follow(gateway, asked, account);
        }
        Ok(json_response(current(gateway, api, asked.caller, id).await?))
    })
    .await
}

/// A response as it is now.
async fn current(gateway: &Gateway, api: Api, caller: &Caller, id: &str) -> Result<String, Error> {
    if let Some(stored) = gateway.stored.text(&caller.name, id).await? {
        return Ok(stored);
    }
    let running = generation(gateway, api, caller, id).await?.ok_or_else(|| not_found(id))?;
    Ok(api.1.begun(&running.origin.context))
}

/// The generation of a response.
async fn generation(
    gateway: &Gateway,
    api: Api,
    caller: &Caller,
    id: &str,
) -> Result<Option<Arc<Generation>>, Error> {
    let found = gateway.stream_of_response(&caller.name, api.1, id).await?;
    Ok(found.filter(|one| one.origin.dialect.name() == api.0.name()))
}

async fn input_items(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let stored = gateway.stored.recall(&asked.caller.name, id).await?;
        let stored = stored.ok_or_else(|| not_found(id))?;
        let items: Vec<String> = stored.inputs().into_iter().map(str::to_owned).collect();
        Ok(json_response(api.1.list(&items)))
    })
    .await
}

/// Cancels a response that is under way, and returns it. One that has ended stays as it is.
async fn cancel(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        if let Some(running) = generation(gateway, api, asked.caller, id).await? {
            running.cancel();
            // Without an end by then, the response is shown as it is.
            let _late = timeout(CANCEL_TIMEOUT, running.ended()).await;
        }
        Ok(json_response(current(gateway, api, asked.caller, id).await?))
    })
    .await
}

/// Deletes a response; one that is under way is cancelled.
async fn remove(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let running = generation(gateway, api, asked.caller, id).await?;
        if let Some(running) = &running {
            running.cancel();
            gateway.forget_stream(&asked.caller.name, &running.id).await?;
        }
        if !gateway.stored.forget(&asked.caller.name, id).await? && running.is_none() {
            return Err(not_found(id));
        }
        if let Some(backplane) = gateway.reachable_backplane() {
            backplane.forget_response(&asked.caller.name, id).await;
        }
        let deleted = json!({"id": id, "object": "response", "deleted": true});
        Ok(json_response(deleted.to_string()))
    })
    .await
}

fn unstreamed() -> Error {
    let message = "is only for responses that were begun with `background: true` and are kept";
    Error::caller(ApiError::field("stream", message))
}

fn not_found(id: &str) -> Error {
    let shown: String = id.chars().take(100).collect();
    let message =
        format!("there is no stored response `{shown}` of this caller, or it is no longer kept");
    let code = Some("response_not_found".to_owned());
    Error::caller(ApiError { code, ..ApiError::new(Kind::NotFound, message) })
}

async fn only_read(Shared(gateway): Shared<Arc<Gateway>>, request: Request) -> Response {
    direct_response::method_not_allowed(&gateway, request, "GET, DELETE").await
}
