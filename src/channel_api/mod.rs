//! HTTP interface of channels: `GET /v1/events`, publishing, and views of channels. The engine is [`crate::channels`].
//! It must never keep an event.

pub(crate) mod event_stream;
pub(crate) mod events;
mod long_poll;
pub(crate) mod publish;
mod query;

pub use events::events;
pub use publish::{broadcast, notify, publish, view};

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::Request;
use percent_encoding::percent_decode_str;

use crate::channels::{ChannelName, Hub, NameError};
use crate::error::Error;
use crate::gateway::auth::Caller;
use crate::gateway::state::Gateway;
use crate::wire::chat::{ApiError, Kind};

/// The gateway with its channels: the state of all endpoints that are about them.
#[derive(Clone)]
pub struct ChannelGateway {
    /// The gateway of a worker.
    pub gateway: Gateway,
    /// Channels, shared by all workers.
    pub hub: Arc<Hub>,
}

impl Deref for ChannelGateway {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

/// The channel of a user.
fn user_channel(user: &str) -> Result<ChannelName, NameError> {
    format!("user:{user}").parse()
}

/// The own channel of a caller. A name that is no part of a channel's, such as `*`, has none.
pub(crate) fn own_channel(caller: &Caller) -> Option<ChannelName> {
    user_channel(&caller.name).ok()
}

/// The segment of a path at a place, counted from 0, decoded.
fn segment(request: &Request, at: usize) -> Result<String, Error> {
    let segment = request.uri().path().split('/').skip(1).nth(at).unwrap_or_default();
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| {
        let message = "the path is not UTF-8; percent-encode the bytes of a name in UTF-8";
        Error::caller(ApiError::new(Kind::Invalid, message))
    })?;
    Ok(decoded.into_owned())
}

/// The error of a wrong name in a path.
fn wrong_name(what: &str, error: NameError) -> Error {
    let message = format!("{what} {error} (percent-encode it in the path)");
    Error::caller(ApiError {
        param: Some(what.to_owned()),
        ..ApiError::new(Kind::Invalid, message)
    })
}

/// The error of a caller without a right. `key`: the setting that grants it.
pub(crate) fn forbidden(what: &str, key: &str) -> Error {
    let message = format!(
        "you may not {what}; the gateway's operator grants that by `channels: {{ {key}: [...] }}` of your key or \
         issuer, or your token's issuer by its claim"
    );
    Error::caller(ApiError::new(Kind::Permission, message))
}
