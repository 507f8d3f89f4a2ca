//! Responses to callers: from a production or an error to a status, headers and a body. The head is sent with the first
//! output, or after `commit_after` without any.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout};

use super::account::Account;
use super::clock::unix;
use super::delivery;
use super::error_response::{discard, error_response};
use super::exchange::Exchange;
use super::ids::set_request_id;
use super::limit::RateLimitStatus;
use super::production::Production;
use super::response_headers::{attempts_header, target_header};
use super::state::Gateway;
use crate::error::Error;
use crate::wire::dialect::CallerDialect;

/// A response without the headers that all responses have.
pub(crate) struct Reply {
    /// The response, or the error in its place.
    pub(crate) response: Result<Response, Error>,
    /// The account, unless the response's body holds it.
    pub(crate) account: Option<Box<Account>>,
}

/// Waits for the first output, so that errors keep their status, but no longer than `commit_after`.
pub(super) async fn reply(mut production: Production) -> Reply {
    let context = production.context();
    let (dialect, commit_after) = (context.dialect, context.stream.commit_after);
    if !context.call.stream {
        let response = collected(&mut production).await;
        return Reply { response, account: production.into_account() };
    }
    let media_type = dialect.media_type(&context.call);
    // Later, the status is 200, and an error is written in-band.
    if let Ok(Err(error)) = timeout(commit_after, production.open()).await {
        return Reply { response: Err(error), account: production.into_account() };
    }
    let headers = answer_headers(&mut production);
    if let Some(account) = production.account() {
        account.responded(200);
    }
    let body = Body::from_stream(delivery::stream(production));
    Reply { response: Ok(stream_response(headers, media_type, body)), account: None }
}

/// The response of a stream, which no proxy may hold back or change.
pub(crate) fn stream_response(
    mut headers: HeaderMap,
    media_type: &'static str,
    body: Body,
) -> Response {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// The response to a request without `stream`.
async fn collected(production: &mut Production) -> Result<Response, Error> {
    production.open().await?;
    let mut headers = answer_headers(production);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = Response::new(Body::from(delivery::collect(production).await?));
    *response.headers_mut() = headers;
    Ok(response)
}

/// The upstream's headers that are passed on, and the one that names the target; none before a target answers.
pub(super) fn answer_headers(production: &mut Production) -> HeaderMap {
    let Some((target, mut headers)) = production.take_head() else { return HeaderMap::new() };
    headers.extend(target_header(target));
    headers.extend(production.account().and_then(|account| attempts_header(account.attempts())));
    headers
}

/// Completes a response: settles its account, adds the headers of the caller's limits and of the request, and
/// discards the unread body of a rejected request.
pub(crate) async fn conclude(
    gateway: &Gateway,
    exchange: Exchange,
    Reply { response, mut account }: Reply,
) -> Response {
    let Exchange { id, dialect, body, limiters, expects_continue, .. } = exchange;
    let (mut response, unread) = match response {
        Ok(response) => (response, None),
        Err(error) => {
            if let Some(account) = &mut account {
                account.failed(&error);
                if limiters.is_empty() {
                    account.log(gateway.refusals.has_room());
                }
            }
            let mut response = error_response(dialect, &error, &id);
            let attempts = account.as_ref().and_then(|account| attempts_header(account.attempts()));
            response.headers_mut().extend(attempts);
            (response, Some(body))
        }
    };
    if let Some(account) = &mut account {
        account.responded(response.status().as_u16());
    }
    // Settles it: the headers below count the tokens that it releases.
    drop(account);
    let now = Instant::now();
    let all = limiters.iter().map(|limiter| limiter.status(now));
    let tightest = all.fold(RateLimitStatus::default(), RateLimitStatus::tightest);
    set_rate_limit_headers(&mut response, dialect, tightest);
    if let Some(body) = unread {
        discard(body, expects_continue, &mut response).await;
    }
    set_request_id(&mut response, &id);
    response
}

/// Sets the headers of the caller's remaining limits, in its dialect.
fn set_rate_limit_headers(
    response: &mut Response,
    dialect: &dyn CallerDialect,
    RateLimitStatus { requests, tokens }: RateLimitStatus,
) {
    let headers = response.headers_mut();
    for (window, [limit, remaining, reset]) in
        [requests, tokens].into_iter().zip(dialect.allowance_headers())
    {
        let Some(window) = window else { continue };
        headers.insert(HeaderName::from_static(limit), window.limit.into());
        headers.insert(HeaderName::from_static(remaining), window.remaining.into());
        // Rounded up: a request at the time that is given must not be too early.
        let wait = window.reset + Duration::from_nanos(999_999);
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let when = dialect.reset(wait, u64::try_from(unix().as_millis()).unwrap_or(u64::MAX));
        if let Ok(when) = HeaderValue::try_from(when) {
            headers.insert(HeaderName::from_static(reset), when);
        }
    }
}
