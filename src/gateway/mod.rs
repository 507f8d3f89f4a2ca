//! One request's life, a file per step. [`answer()`] is the pipeline.

pub mod account;
pub mod answer;
pub mod auth;
mod content_encoding;
mod count;
pub mod direct_response;
pub mod egress;
mod error_response;
mod failover;
pub mod fetch;
mod inspection;
pub mod limit;
pub mod memory;
mod offload;
pub mod path_alias;
pub mod prompt;
pub mod provider_models;
pub mod refused;
pub mod relay;
mod request_body;
mod response_headers;
mod retry_after;
pub mod route;
mod sigv4;
pub mod target_health;
pub mod upstream;
mod upstream_body;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::distr::{Alphanumeric, SampleString};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::config::Config;
use crate::error::Error;
use crate::server::request_head::expects_continue;
use crate::wire::chat::{End, ToolForms};
use crate::wire::dialect::{Call, CallerDialect, Clock, Endpoint};
use account::Record;
use error_response::{discard, error_response};
use inspection::{Read, inspect, refuse_other_models};
use limit::{Allowance, Gate, Need};
use relay::{Session, Start};
use request_body::BodyLimits;
use upstream::Order;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const TARGET: HeaderName = HeaderName::from_static("x-streamgate-target");

/// One request to an endpoint of a dialect, from the caller's bytes to the caller's bytes.
pub async fn answer(
    app: Arc<App>,
    (dialect, endpoint): (&'static dyn CallerDialect, &'static Endpoint),
    request: Request,
) -> Response {
    let id = request_id(request.headers());
    let mut record = Record::begin(&app.metrics, &id, dialect.name(), &request);
    let stall = app.state().config.stream.heartbeat;
    let asked = (endpoint, dialect.operation(endpoint.form));
    let trace_id = record.trace(&app.tracing, request.headers(), asked, stall);
    let (head, mut body) = request.into_parts();
    let spoken = (dialect, endpoint.form);
    let mut gates = Vec::new();
    let waits = expects_continue(&head.headers);
    let parts = (head, &mut body);
    let response = pipeline(&app, spoken, parts, &id, (&mut record, &mut gates)).await;
    let ended = (response, body, waits);
    let mut response = conclude(&app, dialect, &id, (record, &gates), ended).await;
    if let Some(value) = trace_id.and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert(TRACE_ID, value);
    }
    response
}

/// Completes a response: writes its record, adds the headers of the caller's limits and of the request, and
/// discards the unread body of a refused request. `waits`: the caller sends that body only when asked to.
async fn conclude(
    app: &App,
    dialect: &dyn CallerDialect,
    id: &str,
    (mut record, gates): (Record, &[Arc<Gate>]),
    (response, body, waits): (Result<Response, Error>, Body, bool),
) -> Response {
    let (mut response, refused) = match response {
        Ok(response) => (response, None),
        Err(error) => {
            record.failed(&error);
            if gates.is_empty() {
                record.log(app.refusals.has_room());
            }
            (error_response(dialect, &error, id), Some(body))
        }
    };
    record.responded(response.status().as_u16());
    // Settles it, unless the response's body holds it: the headers below count what it gives back.
    drop(record);
    tell_allowance(&mut response, dialect, gates);
    if let Some(body) = refused {
        discard(body, waits, &mut response).await;
    }
    stamp(&mut response, id);
    response
}

async fn pipeline(
    app: &Arc<App>,
    (dialect, form): (&'static dyn CallerDialect, &'static str),
    (head, body): (Parts, &mut Body),
    id: &str,
    (record, gates): (&mut Record, &mut Vec<Arc<Gate>>),
) -> Result<Response, Error> {
    let started = Instant::now();
    let state = app.state();
    let from = origin(&head, &state.config);
    record.came_from(from.address);
    let caller = state.callers.identify(&head.headers, from, &app.metrics).await?;
    record.identified(&caller);
    gates.push(Arc::clone(&caller.gate));
    let mut admission = caller.gate.admit()?;
    request_body::expect_json(&head.headers, dialect)?;
    let body = request_body::read_some(body, &head.headers, &BodyLimits::of(app, &caller)).await?;
    let inspected = inspect((&state, &caller), (dialect, form), &head, body).await?;
    record.prompted(inspected.prompt.as_deref());
    let Read { body, envelope, input } = inspected.read?;
    record.asked(&envelope.model, envelope.stream, input);
    let plan = route::plan(&state.config, &caller, &envelope.model)?;
    if route::is_bound_to_model(&plan, &caller, dialect.name()) {
        refuse_other_models(dialect.name(), &body).await?;
    }
    record.planned(&plan);
    if let Some(gate) = state.models.get(&*plan.label) {
        gates.push(Arc::clone(gate));
        admission.enter(gate)?;
    }
    let operation = dialect.operation(envelope.form);
    let max_output = if operation.generates() { envelope.max_output } else { Some(0) };
    let need = Need { input, max_output, choices: envelope.choices };
    if operation.uses_tokens() {
        admission.reserve(&need)?;
    }
    record.admitted(admission, &need, envelope.background);
    let call = Call {
        id: random(24),
        created: unix().as_secs(),
        model: envelope.model,
        stream: envelope.stream,
        want_usage: envelope.want_usage,
        form: envelope.form,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: input,
        now: Clock(unix_seconds),
    };
    let session = Session {
        dialect,
        call: call.clone(),
        stream: state.config.stream,
        started,
        closing: app.shutdown.closing.clone(),
        tasks: app.tasks.clone(),
    };
    let opening = Box::pin(failover::open(Order {
        clients: Arc::clone(&app.clients),
        metrics: Arc::clone(&app.metrics),
        dialect,
        body,
        headers: head.headers,
        call,
        caller: Arc::clone(&caller.name),
        plan,
        health: Arc::clone(&app.health),
        stream: state.config.stream,
        started,
        memory: Arc::clone(&app.memory.answers),
        request_id: id.to_owned(),
        trying: record.trying(),
    }));
    respond(opening, session, record).await
}

/// Waits for the first output, so that errors keep their status, but no longer than `commit_after`.
async fn respond(
    mut opening: relay::Opening,
    session: Session,
    record: &mut Record,
) -> Result<Response, Error> {
    let closing = session.closing.clone();
    let closed = || Error::from_end(&End::ShuttingDown);
    if !session.call.stream {
        let opened = closing.run_until_cancelled(opening).await;
        let answer = opened.ok_or_else(closed)??;
        let (target, headers) = (Arc::clone(answer.target.name()), answer.headers.clone());
        let body = relay::collect(answer, &session, record).await?;
        let mut response = Response::new(Body::from(body));
        *response.headers_mut() = headers;
        name_target(&mut response, &target);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Ok(response);
    }
    let opened = timeout(session.stream.commit_after, &mut opening);
    let opened = closing.run_until_cancelled(opened).await.ok_or_else(closed)?;
    let (start, target) = match opened {
        Ok(answer) => {
            let mut answer = answer?;
            let target = Arc::clone(answer.target.name());
            let headers = std::mem::take(&mut answer.headers);
            (Start::Opened(answer), Some((target, headers)))
        }
        Err(_) => (Start::Opening(opening), None),
    };
    let media_type = session.dialect.media_type(&session.call);
    let body = relay::stream(start, session, record.hand_over());
    let mut response = Response::new(Body::from_stream(body));
    if let Some((target, headers)) = target {
        *response.headers_mut() = headers;
        name_target(&mut response, &target);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Where a request comes from.
fn origin(head: &Parts, config: &Config) -> auth::Origin {
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    auth::origin(peer, &head.headers, &config.server.trusted_proxies)
}

/// Tells a caller what is left of its limits, in its dialect: of those that hold for the request,
/// the one that is reached first.
fn tell_allowance(response: &mut Response, dialect: &dyn CallerDialect, gates: &[Arc<Gate>]) {
    let now = Instant::now();
    let all = gates.iter().map(|gate| gate.allowance(now));
    let Allowance { requests, tokens } = all.fold(Allowance::default(), Allowance::tightest);
    let headers = response.headers_mut();
    for (window, [limit, remaining, reset]) in
        [requests, tokens].into_iter().zip(dialect.allowance_headers())
    {
        let Some(window) = window else { continue };
        headers.insert(HeaderName::from_static(limit), window.limit.into());
        headers.insert(HeaderName::from_static(remaining), window.remaining.into());
        // Rounded up: who comes back when he is told must not be too early.
        let wait = window.reset + Duration::from_nanos(999_999);
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let when = dialect.reset(wait, u64::try_from(unix().as_millis()).unwrap_or(u64::MAX));
        if let Ok(when) = HeaderValue::try_from(when) {
            headers.insert(HeaderName::from_static(reset), when);
        }
    }
}

fn name_target(response: &mut Response, target: &str) {
    if let Ok(value) = HeaderValue::from_str(&account::short(target)) {
        response.headers_mut().insert(TARGET, value);
    }
}

/// Tells a response's id.
pub fn stamp(response: &mut Response, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// The caller's own id if it is a plain word, else a new one.
pub fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| format!("req_{}", random(24)), str::to_owned)
}

fn random(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length)
}

/// The time since 1970.
#[expect(clippy::disallowed_methods, reason = "the one place where an answer gets its date")]
fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What time it is, in seconds since 1970.
pub fn unix_seconds() -> u64 {
    unix().as_secs()
}
