//! The GraphQL schema: subscriptions to channels and durable streams, and queries of them. A resolver must check the
//! caller's rights as the other interfaces do.

#![expect(clippy::unused_async, reason = "the schema's macros take asynchronous functions only")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{
    Context, EmptyMutation, Error, ID, Object, Schema, SimpleObject, Subscription,
};
use tokio::time::Instant;

use super::events::{self, Events, coded};
use crate::channel_api::own_channel;
use crate::channels::{
    ChannelName, Cursor, Hub, Selector, Start, SubscribeError, SubscriptionRequest,
};
use crate::gateway::auth::Caller;
use crate::gateway::clock::unix_seconds;
use crate::gateway::state::Gateway;
use crate::streams::head::StreamHead;
use crate::wire::format::Format;

/// The most channels and patterns of one subscription.
const MAX_CHANNELS: usize = 100;

/// The deepest nesting of a query, as it is written.
const MAX_DEPTH: usize = 16;

/// The most fields of a query. A subscription's own field weighs more than half of it: there is one of them.
const MAX_COMPLEXITY: usize = 1000;

/// The schema.
pub(super) type SubscriptionSchema = Schema<Query, EmptyMutation, Subscriptions>;

/// Makes the schema.
pub(super) fn build() -> SubscriptionSchema {
    Schema::build(Query, EmptyMutation, Subscriptions)
        .limit_depth(MAX_DEPTH)
        .limit_recursive_depth(2 * MAX_DEPTH)
        .limit_complexity(MAX_COMPLEXITY)
        .limit_directives(MAX_DEPTH)
        .finish()
}

/// The parts that the resolvers of a request read, and its caller.
pub(super) struct Session {
    pub(super) hub: Arc<Hub>,
    pub(super) gateway: Gateway,
    pub(super) caller: Arc<Caller>,
}

impl Session {
    /// The time for which a stream is kept after its end.
    fn keep(&self) -> Duration {
        self.gateway.state().config.streams.keep
    }
}

/// A durable stream of the caller.
#[derive(SimpleObject)]
pub(super) struct DurableStream {
    id: ID,
    /// `streaming`, `complete`, `error`, `cancelled` or `lost`.
    state: &'static str,
    model: String,
    dialect: String,
    chat: Option<String>,
    /// In Unix seconds.
    created_at: u64,
    /// In Unix seconds.
    ended_at: Option<u64>,
    /// The number of its last event.
    events: u64,
}

impl DurableStream {
    fn of(head: StreamHead) -> Self {
        Self {
            id: head.id.into(),
            state: head.state.name(),
            model: head.model,
            dialect: head.dialect,
            chat: head.chat,
            created_at: head.created,
            ended_at: head.ended,
            events: head.events,
        }
    }
}

/// A channel at one moment.
#[derive(SimpleObject)]
pub(super) struct Channel {
    name: String,
    /// The position from which on no event is missing.
    earliest: ID,
    /// The position of its last event.
    tail: ID,
    /// The count of events that it keeps.
    events: u64,
    /// The count of connections that name it.
    subscribers: usize,
}

/// Queries.
pub(super) struct Query;

#[Object]
impl Query {
    /// The caller's durable streams, the newest first.
    async fn streams(
        &self,
        context: &Context<'_>,
        #[graphql(default = 100, validator(minimum = 1, maximum = 1000))] first: usize,
    ) -> Result<Vec<DurableStream>, Error> {
        let session = context.data::<Session>()?;
        let (owner, keep) = (&session.caller.name, session.keep());
        let all = session.gateway.stream_heads(owner, keep, first).await;
        let all = all.map_err(|error| unreachable(&error))?;
        Ok(all.into_iter().rev().take(first).map(DurableStream::of).collect())
    }

    /// A durable stream of the caller.
    async fn stream(&self, context: &Context<'_>, id: ID) -> Result<Option<DurableStream>, Error> {
        let session = context.data::<Session>()?;
        let found = session.gateway.stream(&session.caller.name, &id).await;
        let found = found.map_err(|error| unreachable(&error))?;
        let head = |it: Arc<_>| StreamHead::of(&it, session.keep(), Instant::now(), unix_seconds());
        Ok(found.map(|it| DurableStream::of(head(it))))
    }

    /// A channel that the caller may subscribe or publish to.
    async fn channel(&self, context: &Context<'_>, name: String) -> Result<Channel, Error> {
        let session = context.data::<Session>()?;
        let named: ChannelName = name.parse().map_err(|error| wrong("name", error))?;
        let rights = &session.caller.channels;
        let own = own_channel(&session.caller).is_some_and(|own| own == named);
        if !own && !rights.may_read(&name) && !rights.may_publish(&named) {
            return Err(forbidden(&format!("see channel `{name}`")));
        }
        let view = session.hub.view(&named);
        Ok(Channel {
            name,
            earliest: view.earliest.to_string().into(),
            tail: view.tail.to_string().into(),
            events: view.events,
            subscribers: view.subscribers,
        })
    }
}

/// Subscriptions.
pub(super) struct Subscriptions;

#[Subscription]
impl Subscriptions {
    /// Events of channels, which are names and patterns with `*`. `types`: only events of these. `after`: the `id` of the
    /// last event that was received; without it, events from now on.
    #[graphql(complexity = "600 + child_complexity")]
    async fn channel(
        &self,
        context: &Context<'_>,
        name: Vec<String>,
        types: Option<Vec<String>>,
        after: Option<ID>,
    ) -> Result<Events, Error> {
        let session = context.data::<Session>()?;
        let caller = &session.caller;
        let channels = selectors(&name, caller)?;
        let types: BTreeSet<String> = types.unwrap_or_default().into_iter().collect();
        if types.len() > MAX_CHANNELS {
            return Err(wrong("types", format!("has more than {MAX_CHANNELS} types")));
        }
        let start = match after {
            None => Start::Live { rewind: 0 },
            Some(id) => {
                let cursor: Cursor = id.parse().map_err(|error| wrong("after", error))?;
                Start::After { cursor, lenient: false }
            }
        };
        let request = SubscriptionRequest {
            user: Arc::clone(&caller.name),
            channels,
            sources: Vec::new(),
            types,
            start,
            rights: None,
        };
        let begun = session.hub.subscribe(request).await;
        Ok(events::of_channels(begun.map_err(|error| refused(&error))?))
    }

    /// Events of a durable stream of the caller. `format`: one of those of `GET /v1/streams/ID`, without `snapshot`. `after`:
    /// the `id` of the last event that was received; without it, events from the beginning.
    #[graphql(complexity = "600 + child_complexity")]
    async fn stream(
        &self,
        context: &Context<'_>,
        id: ID,
        format: Option<String>,
        after: Option<ID>,
    ) -> Result<Events, Error> {
        let session = context.data::<Session>()?;
        let named = format.as_deref().unwrap_or("native");
        let format = Format::parse(named).filter(|format| *format != Format::Snapshot);
        let format = format.ok_or_else(|| {
            let others = Format::all().filter(|format| *format != Format::Snapshot);
            let names: Vec<_> = others.map(Format::name).collect();
            wrong("format", format!("must be one of {}", names.join(", ")))
        })?;
        let found = session.gateway.stream(&session.caller.name, &id).await;
        let found = found.map_err(|error| unreachable(&error))?.ok_or_else(|| {
            let message = "the stream does not exist, or is no longer kept".to_owned();
            coded(message, "stream_not_found")
        })?;
        let after = after.map(|id| id.parse().map_err(|error| wrong("after", error)));
        events::of_stream(found, format, after.transpose()?)
    }
}

/// The error of a stream that may be in a place that cannot be reached.
fn unreachable(error: &crate::error::Error) -> Error {
    coded(error.shown().message.clone(), "overloaded")
}

/// The channels that a caller names, to all of which it must have a right.
fn selectors(names: &[String], caller: &Caller) -> Result<BTreeSet<Selector>, Error> {
    if names.is_empty() || names.len() > MAX_CHANNELS {
        return Err(wrong("name", format!("must have 1 to {MAX_CHANNELS} channels and patterns")));
    }
    let own = own_channel(caller);
    let mut selectors = BTreeSet::new();
    for (at, text) in names.iter().enumerate() {
        let selector: Selector =
            text.parse().map_err(|error| wrong("name", format!("number {} {error}", at + 1)))?;
        let is_own = matches!(&selector, Selector::Name(name) if own.as_ref() == Some(name));
        if !is_own && !caller.channels.may_subscribe(&selector) {
            return Err(forbidden(&format!("subscribe to `{selector}`")));
        }
        selectors.insert(selector);
    }
    Ok(selectors)
}

fn wrong(name: &str, problem: impl std::fmt::Display) -> Error {
    coded(format!("`{name}` {problem}"), "invalid_request")
}

fn forbidden(what: &str) -> Error {
    let message = format!(
        "you may not {what}; the gateway's operator grants that by `channels: {{ subscribe: [...] }}` of your key or issuer, or \
         your token's issuer by its claim"
    );
    coded(message, "permission_denied")
}

fn refused(error: &SubscribeError) -> Error {
    match error {
        SubscribeError::Gone { earliest, .. } => events::gone(&earliest.to_string()),
        SubscribeError::Ahead { .. } => coded(error.to_string(), "position_ahead"),
        SubscribeError::Limit(_) => coded(error.to_string(), "rate_limit_exceeded"),
        SubscribeError::Hub(_) | SubscribeError::Draining => {
            coded(error.to_string(), "unavailable")
        }
    }
}
