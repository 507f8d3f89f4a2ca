//! Request ids: the caller's own or a new one, and the header that carries them. An id must never hold characters that
//! need escaping in a log.

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use rand::distr::{Alphanumeric, SampleString};

use super::clock::unix;
use crate::ledger::RecordId;

/// The header of requests and responses.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The caller's own id if it is 1 to 64 ASCII letters, digits, `-` and `_`, else a new one.
pub fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| format!("req_{}", random(24)), str::to_owned)
}

/// Sets the id of a response.
pub fn set_request_id<B>(response: &mut Response<B>, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// A new id for the usage ledger.
pub(super) fn record_id() -> RecordId {
    RecordId::new(unix(), rand::random())
}

/// Random ASCII letters and digits.
pub(super) fn random(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length)
}
