//! Direct responses of the gateway, without an upstream: lists of models, info endpoints that clients request before
//! they chat, unknown paths and methods. It must never answer a request for a model's output.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::account::Account;
use super::auth::Caller;
use super::error_response::{discard, error_response};
use super::ids::{request_id, set_request_id};
use super::own_endpoint::{Identified, answered};
use super::reply::conclude;
use super::request_body::BodyLimits;
use super::state::{Gateway, State};
use super::{prompt, refused, request_body, route, unknown_path};
use crate::error::Error;
use crate::server::request_head::{HeadError, expects_continue};
use crate::telemetry::RefusalReason;
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::{self, CallerDialect, DEFAULT, InfoEndpoint, is_at_or_below};
use crate::wire::model_list::ModelInfo;

const JSON: &str = "application/json";

/// The models that the caller may use, in the caller's dialect.
pub async fn models(gateway: &Gateway, request: Request) -> Response {
    let dialect = detect_dialect(request.headers(), request.uri().path());
    respond(gateway, dialect, request, async |asked, _| {
        let config = &asked.state.config;
        let lists = gateway.provider_models.lists(config.providers.values()).await;
        let query = asked.head.uri.query().unwrap_or_default();
        let models = route::models(config, asked.caller, &lists);
        Ok(json_response(dialect.models(&models, query)?))
    })
    .await
}

/// One model, whose name follows the prefix in the path.
pub async fn model(gateway: &Gateway, request: Request) -> Response {
    let (headers, path) = (request.headers(), request.uri().path());
    if is_websocket(headers) || is_posted(path) {
        let allowed = allowed(path);
        return method_not_allowed(gateway, request, allowed).await;
    }
    let dialect = detect_dialect(headers, path);
    let name = dialect::caller_dialects()
        .filter_map(CallerDialect::model_prefix)
        .find_map(|prefix| path.strip_prefix(prefix))
        .map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned())
        .unwrap_or_default();
    respond(gateway, dialect, request, async |asked, _| {
        Ok(json_response(dialect.model(&info(gateway, asked, &name).await?)))
    })
    .await
}

/// Whether a path names an action of a model, which takes POST.
fn is_posted(path: &str) -> bool {
    dialect::caller_dialects().any(|dialect| dialect.is_posted(path))
}

/// The method of a path below those that show one model.
pub fn allowed(path: &str) -> &'static str {
    if is_posted(path) { "POST" } else { "GET" }
}

/// The limits of a model, if the caller may use it.
async fn info(gateway: &Gateway, asked: &Asked<'_>, name: &str) -> Result<ModelInfo, Error> {
    let plan = route::plan(&asked.state.config, asked.caller, name)?;
    let providers = plan.all_targets().map(|target| &target.provider);
    let lists = gateway.provider_models.lists(providers).await;
    Ok(route::info(name, (&plan.targets, plan.fallback.as_deref()), &lists))
}

/// The prompts that the caller may use. No vendor has such a list, so that there is one form.
pub async fn prompts(gateway: &Gateway, request: Request) -> Response {
    let dialect = detect_dialect(request.headers(), request.uri().path());
    respond(gateway, dialect, request, async |asked, _| {
        Ok(json_response(prompt::list(&asked.state.config.prompts, asked.caller)))
    })
    .await
}

/// The response of an info endpoint; about a model, for callers who may use it.
pub async fn info_response(
    gateway: &Gateway,
    (dialect, endpoint): (&'static dyn CallerDialect, &'static InfoEndpoint),
    request: Request,
) -> Response {
    if !endpoint.needs_key {
        let id = request_id(request.headers());
        let mut response = body_of(endpoint.media_type, dialect.info_body(endpoint, None));
        set_request_id(&mut response, &id);
        return response;
    }
    respond(gateway, dialect, request, async |asked, _| {
        let model = match dialect.info_model(endpoint, asked.body)? {
            Some(name) => Some(info(gateway, asked, &name).await?),
            None => None,
        };
        Ok(json_response(dialect.info_body(endpoint, model.as_ref())))
    })
    .await
}

/// A request that the gateway answers by itself, of a caller who may call.
pub struct Asked<'a> {
    /// The state in force.
    pub state: &'a State,
    /// The caller.
    pub caller: &'a Arc<Caller>,
    /// The head of the request.
    pub head: &'a Parts,
    /// Its body; empty if it has none.
    pub body: &'a str,
}

/// The account of a request. A response whose body outlives the request takes it along.
pub type AccountSlot = Option<Box<Account>>;

/// The way in which the caller of a request is identified.
pub enum Identity {
    /// By the credential in its headers.
    Headers,
    /// It has been identified, or has not.
    Known(Result<Arc<Caller>, Error>),
}

/// Responds to a caller who may call, within the caller's limits.
pub async fn respond(
    gateway: &Gateway,
    dialect: &'static dyn CallerDialect,
    request: Request,
    answer: impl AsyncFnOnce(&Asked<'_>, &mut AccountSlot) -> Result<Response, Error>,
) -> Response {
    respond_to(gateway, (dialect, Identity::Headers), request, answer).await
}

/// The same for a caller that may be identified otherwise.
pub async fn respond_to(
    gateway: &Gateway,
    (dialect, identity): (&'static dyn CallerDialect, Identity),
    request: Request,
    answer: impl AsyncFnOnce(&Asked<'_>, &mut AccountSlot) -> Result<Response, Error>,
) -> Response {
    let direct = async |request: Identified<'_>| {
        let Identified { caller, state, exchange, account } = request;
        caller.limiter.admit_own()?;
        let limits = BodyLimits::of_info_request(gateway, &caller);
        let (body, head) = (&mut exchange.body, &exchange.head);
        let body = request_body::read(body, &head.headers, &limits).await?;
        let asked = Asked { state, caller: &caller, head, body: &body };
        answer(&asked, account).await
    };
    let (exchange, reply) = answered(gateway, (dialect, identity), request, direct).await;
    conclude(gateway, exchange, reply).await
}

/// A path that does not exist.
pub async fn not_found(gateway: &Gateway, request: Request) -> Response {
    refused::record(&gateway.refusals, RefusalReason::NotFound, &request);
    let tls = gateway.state().config.server.tls.is_some();
    let address = unknown_path::own_address(&request, tls);
    // An alias may have rewritten a path that is misspelt.
    let paths = [unknown_path::sent_path(&request), request.uri().path()];
    let misspelt = paths.into_iter().find_map(|path| Some((path, unknown_path::misspelt(path)?)));
    let (dialect, path) = match misspelt {
        Some((path, (meant, _))) => {
            let mut marked = dialect::caller_dialects();
            (marked.find(|it| is_marked(*it, request.headers())).unwrap_or(meant), path)
        }
        None => (detect_dialect(request.headers(), request.uri().path()), request.uri().path()),
    };
    let message = unknown_path::message(dialect, path, &address);
    reject(dialect, request, ApiError::new(Kind::Path, message)).await
}

/// A request whose head breaks HTTP's rules. Its connection is closed: where the next request begins may
/// be read differently by a proxy in front.
pub async fn malformed(gateway: &Gateway, request: Request, error: HeadError) -> Response {
    refused::record(&gateway.refusals, RefusalReason::MalformedHead, &request);
    let dialect = detect_dialect(request.headers(), request.uri().path());
    let fault = ApiError::new(Kind::Invalid, error.message());
    let mut response = reject(dialect, request, fault).await;
    *response.status_mut() = error.status();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A path that is served on another listener, or to other callers.
pub async fn not_served(gateway: &Gateway, request: Request, message: String) -> Response {
    refused::record(&gateway.refusals, RefusalReason::NotFound, &request);
    let dialect = detect_dialect(request.headers(), request.uri().path());
    reject(dialect, request, ApiError::new(Kind::Path, message)).await
}

/// A path that exists, with another method or an `upgrade`. Codex and other clients that try a WebSocket first fall
/// back to a plain request at status 426, and only there at once.
pub async fn method_not_allowed(
    gateway: &Gateway,
    request: Request,
    allowed: &'static str,
) -> Response {
    let dialect = detect_dialect(request.headers(), request.uri().path());
    if is_websocket(request.headers()) {
        refused::record(&gateway.refusals, RefusalReason::WebSocket, &request);
        let message = format!("WebSockets are not served here; send a plain {allowed} request");
        let mut response = reject(dialect, request, ApiError::new(Kind::Upgrade, message)).await;
        let headers = response.headers_mut();
        // RFC 9110, section 15.5.22: the protocol that is required.
        headers.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    refused::record(&gateway.refusals, RefusalReason::MethodNotAllowed, &request);
    let stream = request.headers().get(ACCEPT).is_some_and(|kinds| kinds == "text/event-stream");
    let hint = match request.method() {
        &Method::GET if stream => {
            "; a browser's EventSource sends GET: read the answer with fetch, or follow a durable stream (docs/streams.md)"
        }
        _ => "",
    };
    let message = format!("this path accepts {allowed} only{hint}");
    let mut response = reject(dialect, request, ApiError::new(Kind::Method, message)).await;
    let allowed = if allowed == "GET" { "GET, HEAD" } else { allowed };
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

async fn reject(dialect: &dyn CallerDialect, request: Request, fault: ApiError) -> Response {
    let id = request_id(request.headers());
    let mut response = error_response(dialect, &Error::caller(fault), &id);
    let (head, body) = request.into_parts();
    discard(body, expects_continue(&head.headers), &mut response).await;
    set_request_id(&mut response, &id);
    response
}

/// Whether a client requests a WebSocket. Over HTTP/2 none can: the extended CONNECT that it needs (RFC 8441) is not
/// offered.
fn is_websocket(headers: &HeaderMap) -> bool {
    let values = headers.get_all(UPGRADE).into_iter().filter_map(|value| value.to_str().ok());
    let mut names = values.flat_map(|value| value.split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case("websocket"))
}

/// The dialect of a request: by its path, by a marker header, else the default.
fn detect_dialect(headers: &HeaderMap, path: &str) -> &'static dyn CallerDialect {
    let marked = |dialect: &&'static dyn CallerDialect| is_marked(*dialect, headers);
    let lists = dialect::caller_dialects().any(|dialect| {
        let prefix = dialect.model_prefix();
        dialect.models_path() == path || prefix.is_some_and(|prefix| path.starts_with(prefix))
    });
    let mut apis = dialect::caller_dialects().flat_map(CallerDialect::unserved);
    let shared = lists || apis.any(|(api, _)| is_at_or_below(path, api));
    // A caller with a marker gets lists and errors in that dialect, on shared paths too.
    let at =
        |dialect: &&'static dyn CallerDialect| dialect.has_path(path) || shared && marked(dialect);
    let found = dialect::caller_dialects().filter(at).find(marked);
    let found = found.or_else(|| dialect::caller_dialects().find(at));
    found.or_else(|| dialect::caller_dialects().find(marked)).unwrap_or(DEFAULT)
}

/// Whether a request has the header that marks a dialect's callers.
fn is_marked(dialect: &dyn CallerDialect, headers: &HeaderMap) -> bool {
    dialect.marker().is_some_and(|name| headers.contains_key(name))
}

/// A response of JSON.
pub fn json_response(body: String) -> Response {
    body_of(JSON, body)
}

fn body_of(media_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
