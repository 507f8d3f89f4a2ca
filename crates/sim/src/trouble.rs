//! Trouble of an account or a model before an answer: rate limits, quotas, prompts that are too long, credentials that
//! are refused, models that fail at first.
//!
//! It must never depend on anything but the request and the requests for the same model before it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::time::Instant;

use super::program::Program;
use super::request::RequestError;
use super::stats::ModelState;

/// The headers and the query parameter in which the vendors expect a credential.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// The time until a limit that is used up has something left again.
const RESET: HeaderValue = HeaderValue::from_static("20s");

/// The trouble of a request, in place of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// An error response.
    Refused(RequestError),
    /// No response head is ever sent.
    Hang,
}

/// The error of a credential that begins with `bad-` or `poor-`.
pub(super) fn credential(headers: &HeaderMap, uri: &Uri) -> Option<RequestError> {
    let sent = CREDENTIALS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
    let asked =
        uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("key=")));
    let sent = sent.or(asked)?.trim_start_matches("Bearer ");
    if sent.starts_with("bad-") {
        return Some(RequestError::asked(401));
    }
    sent.starts_with("poor-").then(RequestError::spent)
}

/// The trouble that a program asks for. `open`: answers of the model in progress, this one included.
pub(super) fn trouble(
    program: &Program,
    (state, open): (&ModelState, u64),
    prompt_tokens: u64,
) -> Option<Trouble> {
    let number = state.arrived();
    let refused = |error| Some(Trouble::Refused(error));
    if let Some(seconds) = program.retry_after {
        return refused(RequestError::limited(Some(seconds)));
    }
    if program.spent {
        return refused(RequestError::spent());
    }
    if program.policy {
        return refused(RequestError::filtered());
    }
    if let Some(room) = program.context.filter(|room| prompt_tokens > *room) {
        return refused(RequestError::too_long(prompt_tokens, room));
    }
    if program.flaky.is_some_and(|most| number <= most) {
        return refused(RequestError::asked(503));
    }
    if program.cap.is_some_and(|most| open > most) {
        return refused(RequestError::limited(None));
    }
    let frozen = |time: &Duration| Instant::now() < state.since + *time;
    program.thaw.filter(frozen).map(|_| Trouble::Hang)
}

/// Adds the headers of a limit that has so many requests left, if a program has one.
pub(super) fn add_quota(headers: &mut HeaderMap, left: Option<u64>) {
    let Some(left) = left else { return };
    let name = HeaderName::from_static;
    headers.insert(name("x-ratelimit-remaining-requests"), left.into());
    headers.insert(name("x-ratelimit-reset-requests"), RESET);
}
