//! Records of rejected requests: unknown paths and methods, and pages whose origin is not allowed. It must never change
//! a response.

use http::header::{HOST, ORIGIN};
use http::{HeaderValue, Request};

use super::path_alias::SentPath;
use crate::config::Config;
use crate::telemetry::{RefusalLog, RefusalReason, RefusalSource};

/// Records a request that is refused. An id that the caller gave is the one that the response has.
pub fn record<B>(refusals: &RefusalLog, reason: RefusalReason, request: &Request<B>) {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    // The path as it was sent shows what is wrong with the client's base URL.
    let sent = request.extensions().get::<SentPath>().map(|SentPath(path)| &**path);
    let request = RefusalSource {
        id: text(&super::ids::REQUEST_ID),
        method: Some(request.method().as_str()),
        path: Some(sent.unwrap_or_else(|| request.uri().path())),
        origin: text(&ORIGIN),
        peer: None,
    };
    refusals.record(reason, &request);
}

/// Records a request, or its preflight request, from a page that may not call. A page
/// of this server itself may: its browser sends no preflight request.
pub fn record_origin<B>(refusals: &RefusalLog, config: &Config, request: &Request<B>) {
    let Some(origin) = request.headers().get(ORIGIN) else { return };
    if !config.server.cors_origins.contains(origin) && !is_own(origin, request) {
        record(refusals, RefusalReason::OriginNotAllowed, request);
    }
}

/// Whether an origin is the address that the request was sent to.
fn is_own<B>(origin: &HeaderValue, request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(host);
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    host.zip(origin).is_some_and(|(host, (_, origin))| host.eq_ignore_ascii_case(origin))
}
