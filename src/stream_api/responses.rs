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
            let stream = running(gateway, api, asked.caller, id).ok_or_else(unstreamed)?;
            let read = Following::new((stream, "native"), (&query, asked.head), None)?;
            return read.numbered_from_zero().follow(gateway, asked, account);
        }
        Ok(json_response(current(gateway, api, asked.caller, id)?))
    })
    .await
}

/// A response as it is now.
fn current(gateway: &Gateway, api: Api, caller: &Caller, id: &str) -> Result<String, Error> {
    if let Some(stored) = gateway.stored.get(&caller.name, id) {
        return Ok(stored.response.clone());
    }
    let running = running(gateway, api, caller, id).ok_or_else(|| not_found(id))?;
    Ok(api.1.begun(&running.origin.context))
}

/// The generation of a response.
fn running(gateway: &Gateway, api: Api, caller: &Caller, id: &str) -> Option<Arc<Generation>> {
    let mut all = gateway.streams.of(&caller.name).into_iter();
    all.find(|one| one.origin.dialect.name() == api.0.name() && api.1.id(&one.origin.context) == id)
}

async fn input_items(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let stored = gateway.stored.get(&asked.caller.name, id).ok_or_else(|| not_found(id))?;
        let items: Vec<String> = stored.inputs().into_iter().map(str::to_owned).collect();
        Ok(json_response(api.1.list(&items)))
    })
    .await
}

/// Cancels a response that is under way, and returns it. One that has ended stays as it is.
async fn cancel(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        if let Some(running) = running(gateway, api, asked.caller, id) {
            running.cancel();
            // Without an end by then, the response is shown as it is.
            let _late = timeout(CANCEL_TIMEOUT, running.ended()).await;
        }
        Ok(json_response(current(gateway, api, asked.caller, id)?))
    })
    .await
}

/// Deletes a response; one that is under way is cancelled.
async fn remove(gateway: &Gateway, api: Api, id: &str, request: Request) -> Response {
    respond(gateway, api.0, request, async |asked, _| {
        let running = running(gateway, api, asked.caller, id);
        if let Some(running) = &running {
            running.cancel();
            gateway.streams.remove(&running.id);
        }
        if !gateway.stored.remove(&asked.caller.name, id) && running.is_none() {
            return Err(not_found(id));
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
