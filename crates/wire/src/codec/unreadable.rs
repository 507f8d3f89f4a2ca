//! Errors for unreadable upstream payloads. They must never repeat any part of the payload.

use crate::chat::{ApiError, End, Kind};

/// The end of an answer whose payload is not JSON of its dialect.
pub(crate) fn payload(bytes: &[u8]) -> End {
    let length = bytes.len();
    let message =
        format!("the upstream sent {length} bytes that are not valid JSON of its dialect");
    End::Failed(ApiError::new(Kind::Upstream, message))
}

/// The error for a payload that a parser rejects, with the position. `unit` names the payload, such as `an
/// event`.
pub(crate) fn rejected(unit: &str, bytes: &[u8], error: &serde_json::Error) -> ApiError {
    let what = if error.is_data() { "has an unknown shape" } else { "is not valid JSON" };
    let (line, column, length) = (error.line(), error.column(), bytes.len());
    let message = format!(
        "the upstream sent {unit} that {what} (line {line}, column {column} of {length} bytes)"
    );
    ApiError::new(Kind::Upstream, message)
}
