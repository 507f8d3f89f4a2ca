//! One request's life, a file per step. [`answer()`] is the pipeline.

pub mod account;
pub mod answer;
pub mod auth;
pub mod egress;
mod error_response;
mod failover;
pub mod limit;
pub mod prompt;
pub mod refused;
pub mod relay;
mod request_body;
pub mod route;
mod sigv4;
pub mod target_health;
pub mod upstream;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rand::distr::{Alphanumeric, SampleString};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::config::Config;
use crate::error::Error;
use crate::telemetry::RefusalReason;
use crate::wire::chat::{End, Fault, Kind};
use crate::wire::dialect::{
    self, Asked, CHAT, Call, CallerDialect, Clock, DEFAULT, Endpoint, Envelope, Question,
};
use account::Record;
use auth::Caller;
use error_response::{discard, error_response};
use limit::{Allowance, Gate, Need};
use relay::{Session, Start};
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
    let trace_id = record.trace(&app.tracing, request.headers(), endpoint, stall);
    let (head, mut body) = request.into_parts();
    let spoken = (dialect, endpoint.form);
    let mut gates = Vec::new();
    let parts = (head, &mut body);
    let response = pipeline(&app, spoken, parts, &id, (&mut record, &mut gates)).await;
    let (mut response, refused) = match response {
        Ok(response) => (response, None),
        Err(error) => {
            record.failed(&error);
            if gates.is_empty() {
                record.log(app.refusals.has_room());
            }
            (error_response(dialect, &error, &id), Some(body))
        }
    };
    record.responded(response.status().as_u16());
    // Settles it, unless the body has it: what it gives back is there to be told, and to be used.
    drop(record);
    tell_allowance(&mut response, dialect, &gates);
    if let Some(body) = refused {
        discard(body, &mut response).await;
    }
    stamp(&mut response, &id);
    if let Some(value) = trace_id.and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert(TRACE_ID, value);
    }
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
    record.came_from(from);
    let caller = state.callers.identify(&head.headers, from, &app.metrics).await?;
    record.identified(&caller);
    gates.push(Arc::clone(&caller.gate));
    let mut admission = caller.gate.admit()?;
    request_body::expect_json(&head.headers, dialect)?;
    let body = request_body::read(body, &state.config.server).await?;
    let body = match form {
        CHAT => prompt::fill_in(&state.config.prompts, &caller, dialect, body, record)?,
        _ => body,
    };
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    let envelope = dialect.envelope(&Asked { form, path, query, body: &body })?;
    let input = limit::prompt_tokens(&body);
    record.asked(&envelope.model, envelope.stream, input);
    let plan = route::plan(&state.config, &caller, &envelope.model)?;
    route::permit_members(&plan, &caller, dialect.name(), &body)?;
    record.planned(&plan);
    if let Some(gate) = state.models.get(&envelope.model) {
        gates.push(Arc::clone(gate));
        admission.enter(gate)?;
    }
    let Envelope { max_output, choices, background, .. } = envelope;
    let need = Need { input, max_output, choices };
    admission.reserve(&need)?;
    record.admitted(admission, &need, background);
    let call = Call {
        id: random(24),
        created: unix().as_secs(),
        model: envelope.model,
        stream: envelope.stream,
        want_usage: envelope.want_usage,
        form: envelope.form,
        echo: String::new(),
        input_estimate: input,
        now: Clock(unix_seconds),
    };
    let session = Session {
        dialect,
        call: call.clone(),
        stream: state.config.stream,
        started,
        closing: app.closing.clone(),
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
        let (target, headers) = (answer.target.to_string(), answer.headers.clone());
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
            let target = answer.target.to_string();
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

/// The list of models that the caller may use, in the caller's dialect.
pub async fn models(app: &App, request: Request) -> Response {
    let list = |config: &Config, caller: &Caller, dialect: &dyn CallerDialect, _: &str| {
        Ok(dialect.models(&route::models(config, caller)))
    };
    told(app, request, list).await
}

/// The list of prompts that the caller may use. No vendor has such a list, so that there is one form.
pub async fn prompts(app: &App, request: Request) -> Response {
    told(app, request, |config, caller, _, _| Ok(prompt::list(&config.prompts, caller))).await
}

/// The answer to a question of the caller's dialect; about a model, for those who may use it.
pub async fn question(app: &App, question: &'static Question, request: Request) -> Response {
    told(app, request, |config, caller, dialect, body| {
        if let Some(model) = dialect.asks_about(question, body)? {
            route::plan(config, caller, &model)?;
        }
        Ok(dialect.reply(question))
    })
    .await
}

/// What the gateway itself tells a caller.
async fn told(
    app: &App,
    request: Request,
    tell: impl FnOnce(&Config, &Caller, &dyn CallerDialect, &str) -> Result<String, Error>,
) -> Response {
    let (head, mut body) = request.into_parts();
    let id = request_id(&head.headers);
    let dialect = spoken(&head.headers, head.uri.path());
    let state = app.state();
    let from = origin(&head, &state.config);
    let reply = async {
        let caller = state.callers.identify(&head.headers, from, &app.metrics).await?;
        let body = request_body::read(&mut body, &state.config.server).await?;
        let text = tell(&state.config, &caller, dialect, &body)?;
        Ok::<_, Error>((caller, text))
    };
    let mut response = match reply.await {
        Ok((caller, text)) => {
            let mut response = json(StatusCode::OK, text);
            tell_allowance(&mut response, dialect, &[Arc::clone(&caller.gate)]);
            response
        }
        Err(error) => {
            let mut response = error_response(dialect, &error, &id);
            discard(body, &mut response).await;
            response
        }
    };
    stamp(&mut response, &id);
    response
}

/// Where a request comes from.
fn origin(head: &Parts, config: &Config) -> IpAddr {
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    auth::origin(peer, &head.headers, &config.server.trusted_proxies)
}

/// A path that does not exist.
pub async fn not_found(app: &App, request: Request) -> Response {
    refused::record(&app.refusals, RefusalReason::NotFound, &request);
    let endpoints =
        dialect::caller_dialects().flat_map(CallerDialect::endpoints).map(|endpoint| endpoint.path);
    let endpoints = endpoints.collect::<Vec<_>>().join(", ");
    let message = format!("there is no such path here; callers post to one of {endpoints}");
    refused(request, Fault::new(Kind::NotFound, message)).await
}

/// A path that exists, with another method.
pub async fn wrong_method(app: &App, request: Request, allowed: &'static str) -> Response {
    refused::record(&app.refusals, RefusalReason::MethodNotAllowed, &request);
    let message = format!("this path accepts {allowed} only");
    let mut response = refused(request, Fault::new(Kind::Method, message)).await;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

async fn refused(request: Request, fault: Fault) -> Response {
    let id = request_id(request.headers());
    let dialect = spoken(request.headers(), request.uri().path());
    let mut response = error_response(dialect, &Error::caller(fault), &id);
    discard(request.into_body(), &mut response).await;
    stamp(&mut response, &id);
    response
}

/// The dialect of a caller on a path that may be nobody's: by the path, by its marker, else the
/// default.
fn spoken(headers: &HeaderMap, path: &str) -> &'static dyn CallerDialect {
    let marked = |dialect: &&'static dyn CallerDialect| {
        dialect.marker().is_some_and(|name| headers.contains_key(name))
    };
    let lists = dialect::caller_dialects().any(|dialect| dialect.models_path() == path);
    let at = |dialect: &&'static dyn CallerDialect| {
        dialect.endpoints().iter().any(|endpoint| path.starts_with(endpoint.prefix()))
            || dialect.models_path() == path
            || dialect.questions().iter().any(|question| question.path == path)
            // Whoever says what it speaks is told of models in that, wherever lists are.
            || lists && marked(dialect)
    };
    let found = dialect::caller_dialects().filter(at).find(marked);
    let found = found.or_else(|| dialect::caller_dialects().find(at));
    found.or_else(|| dialect::caller_dialects().find(marked)).unwrap_or(DEFAULT)
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

fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
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
