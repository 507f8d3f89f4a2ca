//! Publishing: events to one channel, to one user or to everybody; and views of channels. An event must be in the
//! channel's log before its publisher has the response.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};

use super::ChannelGateway;
use super::{forbidden, own_channel, segment, user_channel, wrong_name};
use crate::channels::{ChannelName, ChannelView, Hub, PublicationError, Publications, Selector};
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::gateway::own_endpoint::{OwnRequest, answer};
use crate::wire::chat::{ApiError, Kind};

/// `POST /v1/channels/{channel}`.
pub async fn publish(gateway: &ChannelGateway, request: Request) -> Response {
    let name = segment(&request, 2).and_then(|name| {
        name.parse::<ChannelName>().map_err(|error| wrong_name("the channel's name", error))
    });
    publish_to(gateway, request, name).await
}

/// `POST /v1/users/{user}/notify`.
pub async fn notify(gateway: &ChannelGateway, request: Request) -> Response {
    let name = segment(&request, 2)
        .and_then(|user| user_channel(&user).map_err(|error| wrong_name("the user's name", error)));
    publish_to(gateway, request, name).await
}

/// `POST /v1/broadcast`.
pub async fn broadcast(gateway: &ChannelGateway, request: Request) -> Response {
    let name = Hub::broadcast().ok_or_else(|| Error::internal("there is no channel of broadcasts"));
    publish_to(gateway, request, name).await
}

async fn publish_to(
    gateway: &ChannelGateway,
    request: Request,
    name: Result<ChannelName, Error>,
) -> Response {
    let publish = async |mut request: OwnRequest<'_>| {
        let name = name?;
        if !request.caller.channels.may_publish(&name) {
            return Err(forbidden(&format!("publish to channel `{name}`"), "publish"));
        }
        let most = gateway.hub.settings().max_event;
        let read = request.json(move |body| Publications::parse(body, most)).await?;
        let Publications { events, batch } = read.map_err(|error| refused(&error))?;
        let positions =
            gateway.hub.publish_durably((&name, &[]), events).await.map_err(|error| {
                Error::unavailable(&error.to_string()).because(error).retry_after(MIN_RETRY_AFTER)
            })?;
        let ids: Vec<String> = positions.iter().map(ToString::to_string).collect();
        Ok(json_response(&match ids.as_slice() {
            [id] if !batch => json!({ "id": id }),
            ids => json!({ "ids": ids }),
        }))
    };
    answer(gateway, request, publish, |_, _| None).await
}

/// The error of an event that cannot be published.
pub(crate) fn refused(error: &PublicationError) -> Error {
    let kind = match error {
        PublicationError::Invalid(_) => Kind::Invalid,
        PublicationError::Large { .. } => Kind::TooLarge,
    };
    Error::caller(ApiError::new(kind, error.to_string()))
}

/// `GET /v1/channels/{channel}`.
pub async fn view(gateway: &ChannelGateway, request: Request) -> Response {
    let name = segment(&request, 2).and_then(|name| {
        name.parse::<ChannelName>().map_err(|error| wrong_name("the channel's name", error))
    });
    let view = async |request: OwnRequest<'_>| {
        let (name, caller) = (name?, &request.caller);
        let own = own_channel(caller).is_some_and(|own| own == name);
        let selector = Selector::Name(name.clone());
        let rights = &caller.channels;
        if !own && !rights.may_subscribe(&selector) && !rights.may_publish(&name) {
            return Err(forbidden(&format!("see channel `{name}`"), "subscribe"));
        }
        Ok(json_response(&described(&name, &gateway.hub.view(&name))))
    };
    answer(gateway, request, view, |_, _| None).await
}

fn described(name: &ChannelName, view: &ChannelView) -> Value {
    let user = |(user, connections): &(_, _)| {
        let (user, connections): (&std::sync::Arc<str>, &usize) = (user, connections);
        json!({ "user": **user, "connections": connections })
    };
    let presence =
        view.presence.as_ref().map(|users| users.iter().map(user).collect::<Vec<Value>>());
    json!({
        "channel": name.as_str(),
        "object": "channel",
        "earliest": view.earliest.to_string(),
        "tail": view.tail.to_string(),
        "events": view.events,
        "bytes": view.bytes,
        "subscribers": view.subscribers,
        "presence": presence,
    })
}

/// A response in JSON, which no cache keeps.
pub(super) fn json_response(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
