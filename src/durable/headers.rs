//! Header names of the Durable Streams protocol, those that all its responses have, and the reading of single values.
//! It must never decide a status.

use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::StreamError;
use crate::streams::position::Position;

pub(super) const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
pub(super) const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
pub(super) const CLOSED: HeaderName = HeaderName::from_static("stream-closed");
pub(super) const CURSOR: HeaderName = HeaderName::from_static("stream-cursor");
pub(super) const SEQ: HeaderName = HeaderName::from_static("stream-seq");
pub(super) const TTL: HeaderName = HeaderName::from_static("stream-ttl");
pub(super) const EXPIRES_AT: HeaderName = HeaderName::from_static("stream-expires-at");
pub(super) const FORKED_FROM: HeaderName = HeaderName::from_static("stream-forked-from");
pub(super) const FORK_OFFSET: HeaderName = HeaderName::from_static("stream-fork-offset");
pub(super) const FORK_SUB_OFFSET: HeaderName = HeaderName::from_static("stream-fork-sub-offset");
pub(super) const DATA_ENCODING: HeaderName = HeaderName::from_static("stream-sse-data-encoding");
pub(super) const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
pub(super) const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
pub(super) const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
pub(super) const PRODUCER_EXPECTED: HeaderName = HeaderName::from_static("producer-expected-seq");
pub(super) const PRODUCER_RECEIVED: HeaderName = HeaderName::from_static("producer-received-seq");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Response headers that pages of other origins may read (`access-control-expose-headers`).
pub const EXPOSED: [&str; 13] = [
    "stream-next-offset",
    "stream-up-to-date",
    "stream-closed",
    "stream-cursor",
    "stream-ttl",
    "stream-expires-at",
    "stream-sse-data-encoding",
    "producer-epoch",
    "producer-seq",
    "producer-expected-seq",
    "producer-received-seq",
    "etag",
    "location",
];

pub(super) const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The headers of every response. A stream's content and its type are its writer's: a browser must not guess the type,
/// embed it elsewhere, or run it as a page of this server.
pub(super) fn secure(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    let sandbox = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(CONTENT_SECURITY_POLICY, sandbox);
}

/// Sets the offset to go on from.
pub(super) fn set_next(headers: &mut HeaderMap, next: Position) {
    if let Ok(value) = HeaderValue::try_from(next.to_string()) {
        headers.insert(NEXT_OFFSET, value);
    }
}

/// The one value of a header. An error: it is there twice, or has other characters than visible ASCII.
pub(super) fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, StreamError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(StreamError::invalid(name.as_str(), "is there more than once; send it once"));
    }
    let text = value.to_str().map_err(|_| {
        StreamError::invalid(name.as_str(), "may only have visible ASCII characters")
    })?;
    Ok(Some(text.trim()))
}

/// A whole number in plain decimal digits, without leading zeros.
pub(super) fn number(name: &HeaderName, text: &str) -> Result<u64, StreamError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    let number = text.parse().ok().filter(|_| plain);
    number.ok_or_else(|| {
        StreamError::invalid(
            name.as_str(),
            "must be a whole number in decimal digits, without sign or leading zeros",
        )
    })
}

/// Whether the request closes its stream. Other values than `true` are as good as none.
pub(super) fn closes(headers: &HeaderMap) -> bool {
    headers.get(CLOSED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}
