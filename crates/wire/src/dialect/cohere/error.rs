//! Errors: statuses and bodies for callers, and what the upstream says when it fails.

use serde_json::json;

use super::answer::usage;
use crate::chat::{End, Fault, Kind, Usage};
use crate::error_body;
use crate::json::quoted;
use crate::overflow::Words;

/// Stands for a token that is not valid, beside 401.
const INVALID_TOKEN: u16 = 498;

/// The status of an error.
pub(super) fn status(kind: Kind) -> u16 {
    match kind {
        Kind::Invalid | Kind::Context | Kind::ContentPolicy => 400,
        Kind::Authentication => 401,
        Kind::Billing => 402,
        Kind::Permission => 403,
        Kind::NotFound | Kind::Path => 404,
        Kind::Method => 405,
        Kind::Upgrade => 426,
        Kind::TooSlow => 408,
        Kind::TooLarge => 413,
        Kind::MediaType => 415,
        Kind::RateLimited => 429,
        Kind::Internal => 500,
        Kind::Upstream | Kind::BadGateway => 502,
        Kind::Overloaded => 503,
        Kind::Timeout => 504,
    }
}

/// The vendor's own words.
const OVERFLOW: Words = Words {
    marks: &["too many tokens"],
    counted: "too many tokens: total number of tokens in the prompt cannot exceed {maximum} - received {tokens}.",
    summed: None,
    uncounted: "too many tokens in the prompt.",
};

/// The JSON of an error response.
pub(super) fn body(fault: &Fault, request_id: &str) -> String {
    json!({ "id": request_id, "message": error_body::message(fault, &OVERFLOW) }).to_string()
}

/// The last event of a stream that failed, with the usage so far: clients insist on it.
pub(super) fn event(end: &End, fault: &Fault, used: &Usage) -> String {
    let late = matches!(end, End::TimedOut(_)) || fault.kind == Kind::Timeout;
    let reason = if late { "TIMEOUT" } else { "ERROR" };
    let (error, usage) = (quoted(&error_body::message(fault, &OVERFLOW)), usage(used));
    format!(
        r#"{{"type":"message-end","delta":{{"error":{error},"finish_reason":"{reason}","usage":{usage}}}}}"#
    )
}

/// Reads the body of an error response.
pub(super) fn response(status: u16, body: &[u8]) -> Fault {
    let mut fault = error_body::response(status, body);
    if status == INVALID_TOKEN {
        fault.kind = Kind::Authentication;
    }
    fault
}
