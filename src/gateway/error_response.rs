//! Error responses: an error to a status, headers and a body in the caller's dialect. It must never show a caller an
//! upstream's message about the operator's account.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::response_headers::target_header;
use super::{auth, content_encoding};
use crate::error::{Error, Side};
use crate::wire::dialect::CallerDialect;

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const LIMIT: HeaderName = HeaderName::from_static("x-streamgate-limit");

/// The statuses of the gateway's own errors that the same request gets again, whenever it is sent. Clients repeat
/// some of them all the same: Claude Code a 401 ten times, unless `x-should-retry` is `false`, which Anthropic's and
/// OpenAI's libraries read (`shouldRetry` in their `client.ts`).
const FINAL_STATUSES: [u16; 11] = [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 426];

/// The longest that a caller may go on sending after its request was rejected.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// An error as a response, in the caller's dialect.
pub(crate) fn error_response(dialect: &dyn CallerDialect, error: &Error, id: &str) -> Response {
    let fault = error.shown();
    let (status, body) = match error.shown_reply() {
        // The upstream's own body, for callers of the same dialect.
        Some(reply) if reply.dialect == dialect.name() && reply.body.starts_with(b"{") => {
            (reply.status, Body::from(reply.body.clone()))
        }
        _ => {
            let body = dialect.error_body(&fault, id, wait(error));
            (dialect.status(fault.kind), Body::from(body))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    if let Some(reply) = error.shown_reply() {
        response.headers_mut().extend(reply.headers.clone());
    }
    if let Some(attempt) = error.attempt() {
        response.headers_mut().extend(target_header(&attempt.target));
    }
    let headers = response.headers_mut();
    if error.is_final() || error.side() == Side::Caller && FINAL_STATUSES.contains(&status) {
        // Another try changes nothing until the operator, the caller, or the upstream has.
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if fault.code.as_deref() == Some(content_encoding::UNSUPPORTED) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(content_encoding::ACCEPTED));
    }
    if let Some(seconds) = wait(error) {
        headers.entry(RETRY_AFTER).or_insert_with(|| seconds.into());
    }
    if let Some((scope, limit)) = error.limit() {
        // Both are names of the gateway's.
        headers.extend(HeaderValue::from_str(&format!("{scope} {limit}")).map(|of| (LIMIT, of)));
    }
    if let Some(challenge) = auth::challenge(error) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Reads the bytes that a rejected caller is still sending. A connection that is closed over unread bytes is
/// reset, which can cost the caller the response or, without notice, the next request. A caller that
/// `waits` for `100 Continue` has sent nothing, and reading would make it send.
pub(super) async fn discard(mut body: Body, waits: bool, response: &mut Response) {
    if waits && !body.is_end_stream() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return;
    }
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    if timeout(DISCARD_TIMEOUT, rest).await.is_err() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The seconds to wait before a retry, if known. Rounded up: an early retry would only be rejected again.
fn wait(error: &Error) -> Option<u64> {
    let wait = error.wait()?;
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}
