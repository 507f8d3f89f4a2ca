//! Requests for durable streams: their headers, the generation that a repeated request attaches to, and responses fed
//! from a log. It must never begin a second generation for a request that has one.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt as _;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::account::Account;
use super::auth::Caller;
use super::delivery::{self, Following};
use super::direct_response::json_response;
use super::inspection::InspectedRequest;
use super::kept_state::{Background, Keep};
use super::lifetime::Lifetime;
use super::opening::Opening;
use super::producer::produce;
use super::production::Production;
use super::reply::{Reply, stream_response};
use super::route::Plan;
use super::state::{Gateway, State};
use super::upstream_request::RequestContext;
use crate::backplane::Backplane;
use crate::config::{self, OnDisconnect};
use crate::error::Error;
use crate::streams::archived::ArchiveRetention;
use crate::streams::event::Framing;
use crate::streams::generation::{Generation, Origin};
use crate::streams::position::Position;
use crate::streams::registry::{Claim, KeySlot};
use crate::streams::viewer::{Form, Viewer};
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::ResponseContext;

const STREAM: HeaderName = HeaderName::from_static("streamgate-stream");
const ON_DISCONNECT: HeaderName = HeaderName::from_static("streamgate-on-disconnect");
const CHAT: HeaderName = HeaderName::from_static("streamgate-chat");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const STREAM_ID: HeaderName = HeaderName::from_static("streamgate-stream-id");
const CONTENT_LOCATION: HeaderName = http::header::CONTENT_LOCATION;

/// The value of the header `streamgate-stream` that asks for a durable stream.
const RESUMABLE: &str = "resumable";

/// The most characters of an idempotency key.
const MAX_KEY: usize = 255;

/// The most characters of a chat's name.
const MAX_CHAT: usize = 128;

/// The reconnection time of viewers in milliseconds. Drawn for each, so that they do not come back together.
const RETRY: std::ops::RangeInclusive<u32> = 2_000..=5_000;

/// The headers of a request that are about durable streams, and the generation that it has begun before.
pub(super) struct Resumption {
    resumable: bool,
    on_disconnect: Option<OnDisconnect>,
    chat: Option<String>,
    /// The position after which the caller wants to go on.
    after: Option<Position>,
    /// The idempotency key.
    key: Option<String>,
    /// Held until the request has begun its generation.
    slot: Option<OwnedMutexGuard<Option<Claim>>>,
    running: Option<Arc<Generation>>,
}

impl Resumption {
    /// Reads the headers, and finds the generation that the same request has begun. Waits for a request with the same
    /// idempotency key that is about to begin one.
    pub(super) async fn begin(
        gateway: &Gateway,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<Self, Error> {
        let resumable = match text(headers, &STREAM)? {
            None => false,
            Some(RESUMABLE) => true,
            Some(_) => return Err(invalid(&STREAM, "must be `resumable`")),
        };
        let mut resumption = Self {
            resumable,
            on_disconnect: on_disconnect(headers)?,
            chat: chat(headers)?,
            after: after(headers, resumable)?,
            key: None,
            slot: None,
            running: None,
        };
        if let Some(position) = resumption.after {
            let running = gateway.stream_at(&caller.name, position).await?;
            resumption.running = Some(running.ok_or_else(gone)?);
        } else if let Some(key) = text(headers, &IDEMPOTENCY_KEY)? {
            if key.is_empty() || key.len() > MAX_KEY {
                return Err(invalid(&IDEMPOTENCY_KEY, "must have 1 to 255 characters"));
            }
            let slot: Arc<KeySlot> = gateway.streams.key(&caller.name, key);
            let mut slot = slot.lock_owned().await;
            let is_here = |claim: &Claim| claim.generation.strong_count() > 0;
            if !slot.as_ref().is_some_and(is_here)
                && let Some(claim) = gateway.claim_elsewhere(&caller.name, key).await
            {
                *slot = Some(claim);
            }
            let running = slot.as_ref().and_then(|claim| claim.generation.upgrade());
            resumption.running = running.filter(|running| !running.is_refused());
            resumption.key = Some(key.to_owned());
            resumption.slot = Some(slot);
            resumption.key = Some(key.to_owned());
        }
        Ok(resumption)
    }

    /// Whether the request has begun a generation before.
    pub(super) fn is_repeated(&self) -> bool {
        self.running.is_some()
    }

    /// A viewer of the generation that the same request has begun.
    pub(super) fn attach(self, state: &State, request: &InspectedRequest) -> Result<Viewer, Error> {
        let Some(running) = self.running else {
            return Err(Error::internal("a request without a generation cannot attach"));
        };
        if let Some(claim) = self.slot.as_ref().and_then(|slot| slot.as_ref()) {
            check_digest(claim, digest(request))?;
        }
        let extent = running.extent();
        let seq = self.after.map_or(0, |position| position.seq);
        if seq < extent.earliest {
            return Err(gone());
        }
        if seq > extent.tail {
            return Err(invalid(&LAST_EVENT_ID, "is ahead of the stream"));
        }
        Ok(viewer(running, seq, state))
    }

    /// The settings of the generation that the request is to begin; `None`: it is relayed to its caller alone.
    pub(super) fn settings(
        &self,
        state: &State,
        (request, plan): (&mut InspectedRequest, &Plan),
        background: Option<Background>,
    ) -> Result<Option<Settings>, Error> {
        let model = state.config.model_streams.get(&*plan.label).copied().unwrap_or_default();
        let stream = request.envelope.stream;
        if !(self.resumable || background.is_some() || model.resumable && stream) {
            return Ok(None);
        }
        // An answer in the background is always produced as a stream.
        request.envelope.stream |= background.is_some();
        if !request.envelope.stream {
            let message = "must be true for a resumable stream";
            return Err(Error::caller(ApiError::field("stream", message)));
        }
        let on_disconnect = self.on_disconnect.or(model.on_disconnect);
        Ok(Some(Settings {
            unwatched: !stream,
            background,
            digest: digest(request),
            on_disconnect: on_disconnect.unwrap_or(state.config.streams.on_disconnect),
        }))
    }

    /// The start of a generation. An error: its form has no events, and a durable stream is asked for.
    pub(super) fn start(
        self,
        caller: &Caller,
        settings: Settings,
        (opening, context, keep): (Opening, Arc<RequestContext>, Option<Keep>),
    ) -> Result<Start, Error> {
        let media_type = context.dialect.media_type(&context.call);
        let Some(framing) = Framing::of(media_type) else {
            let message = "is not supported for a stream that is one JSON array; ask for `alt=sse`";
            return Err(invalid(&STREAM, message));
        };
        let owner = Arc::clone(&caller.name);
        Ok(Start { resumption: self, settings, owner, framing, opening, context, keep })
    }
}

/// The settings of a generation.
pub(super) struct Settings {
    /// The digest of the request, which differs for another request with the same idempotency key.
    digest: [u8; 32],
    on_disconnect: OnDisconnect,
    background: Option<Background>,
    /// The caller does not wait for the answer in the background, and gets its beginning.
    unwatched: bool,
}

/// A generation that is about to begin.
pub(super) struct Start {
    resumption: Resumption,
    settings: Settings,
    owner: Arc<str>,
    framing: Framing,
    opening: Opening,
    context: Arc<RequestContext>,
    keep: Option<Keep>,
}

/// The viewer of a generation that a request has begun, or that the same request has begun on another node.
enum Begun {
    Own(Viewer),
    Others(Viewer, Box<Account>),
}

impl Start {
    /// Begins the generation and its production, and responds to its first viewer.
    pub(super) async fn reply(self, gateway: &Gateway, account: Box<Account>) -> Reply {
        let unwatched = self.settings.background.as_ref().filter(|_| self.settings.unwatched);
        let unwatched = unwatched.map(|background| background.api);
        let (viewer, account) = match self.begin(gateway, account).await {
            Ok(Begun::Own(viewer)) => (viewer, None),
            Ok(Begun::Others(viewer, account)) => (viewer, Some(account)),
            Err((error, account)) => return Reply { response: Err(error), account: Some(account) },
        };
        let Some(api) = unwatched else { return reply(gateway, viewer, account).await };
        let mut response = json_response(api.begun(&viewer.generation().origin.context));
        response.headers_mut().extend(location(viewer.generation()));
        Reply { response: Ok(response), account }
    }

    async fn begin(
        mut self,
        gateway: &Gateway,
        account: Box<Account>,
    ) -> Result<Begun, (Error, Box<Account>)> {
        let state = gateway.state();
        let config = state.config.streams;
        let per_caller = usize::try_from(config.per_caller).unwrap_or(usize::MAX);
        let generation = match gateway.streams.begin(self.origin(config.max_stream), per_caller) {
            Ok(generation) => generation,
            Err(error) => return Err((error, account)),
        };
        let backplane = gateway.reachable_backplane();
        if let Some(backplane) = backplane {
            match share(backplane, &generation, config.keep).await {
                Ok(None) => {}
                Ok(Some(other)) => {
                    gateway.streams.remove(&generation.id);
                    return Ok(Begun::Others(viewer(other, 0, &state), account));
                }
                Err(error) => {
                    gateway.streams.remove(&generation.id);
                    return Err((error, account));
                }
            }
        }
        gateway.streams.started(&generation);
        let Self { mut resumption, settings, opening, context, keep, .. } = self;
        if let Some(slot) = &mut resumption.slot {
            let generation = Arc::downgrade(&generation);
            **slot = Some(Claim { digest: settings.digest, generation });
        }
        if settings.unwatched {
            generation.promise();
        }
        // Before the production begins, which a lack of viewers may end.
        let viewer = viewer(Arc::clone(&generation), 0, &state);
        let production = Production::new(opening, context, account).keeping(keep);
        let streams = Arc::clone(&gateway.streams);
        let retention = ArchiveRetention { keep: config.keep, per_owner: per_caller };
        let archived = (gateway.archived.clone(), retention);
        let producing = produce(production, Arc::clone(&generation), streams, archived);
        match &gateway.backplane {
            None => gateway.tasks.spawn(producing),
            Some(backplane) => {
                let owning = Arc::clone(backplane).own(generation, config.keep, producing);
                gateway.tasks.spawn(owning)
            }
        };
        Ok(Begun::Own(viewer))
    }

    fn origin(&mut self, max_bytes: usize) -> Origin {
        let Self { resumption, settings, owner, framing, context, .. } = self;
        Origin {
            owner: Arc::clone(owner),
            dialect: context.dialect,
            framing: *framing,
            context: ResponseContext {
                echo: settings.background.as_ref().map(|one| one.echo.clone()).unwrap_or_default(),
                now: context.call.now.stopping(),
                ..context.call.clone()
            },
            chat: resumption.chat.take(),
            on_disconnect: settings.on_disconnect,
            max_bytes,
            key: resumption.key.clone().map(|key| (key, settings.digest)),
        }
    }
}

/// Makes a generation known to other nodes. Returns the one that the same request has begun on another node: then this
/// one must not begin.
async fn share(
    backplane: &Backplane,
    generation: &Generation,
    keep: Duration,
) -> Result<Option<Arc<Generation>>, Error> {
    // Without Redis, this node goes on alone.
    if backplane.begin(generation, keep).await.is_err() {
        return Ok(None);
    }
    let Some((key, digest)) = &generation.origin.key else { return Ok(None) };
    let Ok(Some(claim)) = backplane.claim((key, *digest), generation, keep).await else {
        return Ok(None);
    };
    let _gone = backplane.delete(&generation.id).await;
    check_digest(&claim, *digest)?;
    Ok(claim.generation.upgrade())
}

/// Checks that a repeated idempotency key is that of the same request.
fn check_digest(claim: &Claim, digest: [u8; 32]) -> Result<(), Error> {
    if claim.digest == digest {
        return Ok(());
    }
    let message = "was used for another request; use one key for each request";
    let code = Some("idempotency_key_reused".to_owned());
    Err(Error::caller(ApiError { code, ..fault(&IDEMPOTENCY_KEY, message) }))
}

fn digest(request: &InspectedRequest) -> [u8; 32] {
    config::digest(&request.body)
}

/// Waits for the head of the answer, but no longer than `commit_after`.
pub(super) async fn reply(
    gateway: &Gateway,
    viewer: Viewer,
    account: Option<Box<Account>>,
) -> Reply {
    let stream = gateway.state().config.stream;
    let generation = Arc::clone(viewer.generation());
    let headers = match timeout(stream.commit_after, generation.head()).await {
        Ok(Err(error)) => return Reply { response: Err(error), account },
        Ok(Ok(headers)) => headers,
        Err(_late) => {
            generation.promise();
            HeaderMap::new()
        }
    };
    Reply { response: Ok(response(viewer, headers, stream, account)), account: None }
}

/// The response of a viewer in the generation's own dialect.
fn response(
    viewer: Viewer,
    headers: HeaderMap,
    stream: config::Stream,
    mut account: Option<Box<Account>>,
) -> Response {
    let generation = Arc::clone(viewer.generation());
    let Origin { dialect, context, framing, .. } = &generation.origin;
    if let Some(account) = &mut account {
        account.responded(200);
    }
    let preamble = match framing {
        Framing::Sse => retry(),
        Framing::Ndjson => Bytes::new(),
    };
    let heartbeat = dialect.heartbeat(context);
    let every = stream.heartbeat;
    // The client of a request that generates does not know how to resume.
    let (right, lifetime) = (None, Lifetime::default());
    let following = Following { viewer, preamble, heartbeat, every, account, right, lifetime };
    let body = delivery::follow(following);
    let mut response =
        stream_response(headers, dialect.media_type(context), Body::from_stream(body));
    response.headers_mut().extend(location(&generation));
    response
}

/// The headers that name a generation.
pub fn location(generation: &Generation) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let id = HeaderValue::from_str(&generation.id).ok();
    let path = HeaderValue::from_str(&format!("/v1/streams/{}", generation.id)).ok();
    [id.map(|id| (STREAM_ID, id)), path.map(|path| (CONTENT_LOCATION, path))].into_iter().flatten()
}

/// The line that sets a viewer's reconnection time. It begins the block of the first event.
pub fn retry() -> Bytes {
    format!("retry: {}\n", rand::rng().random_range(RETRY)).into()
}

fn viewer(generation: Arc<Generation>, seq: u64, state: &State) -> Viewer {
    let form = match generation.origin.framing {
        Framing::Sse => Form::Blocks,
        Framing::Ndjson => Form::Produced,
    };
    Viewer::new(generation, None, seq, (form, state.config.streams.coalesce))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| invalid(name, "must be visible ASCII characters"))?;
    Ok(Some(text.trim()))
}

fn on_disconnect(headers: &HeaderMap) -> Result<Option<OnDisconnect>, Error> {
    let Some(text) = text(headers, &ON_DISCONNECT)? else { return Ok(None) };
    let parsed = OnDisconnect::parse(text);
    let expected = "must be `cancel`, `continue` or a grace period such as `grace(30s)`";
    parsed.map(Some).ok_or_else(|| invalid(&ON_DISCONNECT, expected))
}

fn chat(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(text) = text(headers, &CHAT)? else { return Ok(None) };
    if is_chat(text) {
        return Ok(Some(text.to_owned()));
    }
    Err(invalid(&CHAT, "must be 1 to 128 letters, digits and `._~:-`"))
}

/// Whether a text is the name of a chat.
pub fn is_chat(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:-".contains(&byte);
    (1..=MAX_CHAT).contains(&text.len()) && text.bytes().all(plain)
}

/// The position of `last-event-id`. Other servers' ids are of no meaning here, unless a durable stream is asked for.
fn after(headers: &HeaderMap, resumable: bool) -> Result<Option<Position>, Error> {
    let Some(text) = text(headers, &LAST_EVENT_ID)? else { return Ok(None) };
    match text.parse::<Position>() {
        Ok(position) => Ok(Some(position)),
        Err(error) if resumable && !text.is_empty() => {
            Err(invalid(&LAST_EVENT_ID, &error.to_string()))
        }
        Err(_) => Ok(None),
    }
}

fn fault(header: &HeaderName, message: &str) -> ApiError {
    ApiError::field(header.as_str(), message)
}

fn invalid(header: &HeaderName, message: &str) -> Error {
    Error::caller(fault(header, message))
}

/// The error for a position that cannot be read from, whether its stream was somebody else's, has expired, or was
/// trimmed.
fn gone() -> Error {
    let message = "the stream of this last-event-id is no longer kept, or is not this caller's; send the request \
                   without last-event-id to generate again";
    let code = Some("position_gone".to_owned());
    Error::caller(ApiError { code, ..ApiError::new(Kind::Gone, message) })
}
