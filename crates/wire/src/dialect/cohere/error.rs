//! Errors: statuses and bodies for callers, and the errors that the upstream reports.

use serde_json::json;

use super::answer::usage;
use crate::chat::{ApiError, End, Kind, Usage};
use crate::error_body;
use crate::json::quoted;
use crate::overflow::Words;

/// Stands for a token that is not valid, beside 401.
const INVALID_TOKEN: u16 = 498;

/// The vendor's own message for a prompt that is too long.
const OVERFLOW: Words = Words {
    marks: &["too many tokens"],
    counted: "too many tokens: total number of tokens in the prompt cannot exceed {maximum} - received {tokens}.",
    summed: None,
    uncounted: "too many tokens in the prompt.",
};

/// The JSON of an error response.
pub(super) fn body(fault: &ApiError, request_id: &str) -> String {
    json!({ "id": request_id, "message": error_body::message(fault, &OVERFLOW) }).to_string()
}

/// The last event of a stream that failed, with the usage so far: clients require it.
pub(super) fn event(end: &End, fault: &ApiError, used: &Usage) -> String {
    let late = matches!(end, End::TimedOut(_)) || fault.kind == Kind::Timeout;
    let reason = if late { "TIMEOUT" } else { "ERROR" };
    let (error, usage) = (quoted(&error_body::message(fault, &OVERFLOW)), usage(used));
    format!(
        r#"{{"type":"message-end","delta":{{"error":{error},"finish_reason":"{reason}","usage":{usage}}}}}"#
    )
}

/// Reads the body of an error response.
pub(super) fn response(status: u16, body: &[u8]) -> ApiError {
    let mut fault = error_body::response(status, body);
    if status == INVALID_TOKEN {
        fault.kind = Kind::Authentication;
    }
    fault
}
