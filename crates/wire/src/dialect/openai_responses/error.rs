//! Error bodies and error events. They must never hold more than a [`ApiError`] does.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::chat::{ApiError, Kind, TOKEN_EXPIRED};
use crate::overflow::OPENAI;

/// `{"error":{..}}`, for bodies.
pub(super) fn body(fault: &ApiError) -> String {
    json!({"error": object(fault)}).to_string()
}

/// The payload of an `error` event. SDKs raise for the object in `error`; the vendor's own types define the
/// same members at the top level, so both are written.
pub(super) fn event(fault: &ApiError, sequence: u64) -> String {
    let (_, code) = words(fault);
    json!({
        "type": "error",
        "sequence_number": sequence,
        "code": code,
        "message": message(fault),
        "param": fault.param,
        "error": object(fault),
    })
    .to_string()
}

/// The `error` of a response that failed.
pub(super) fn of_response(fault: &ApiError) -> String {
    let (_, code) = words(fault);
    json!({"code": code.unwrap_or("server_error"), "message": message(fault)}).to_string()
}

fn object(fault: &ApiError) -> Value {
    let (kind, code) = words(fault);
    json!({"type": kind, "code": code, "message": message(fault), "param": fault.param})
}

fn message(fault: &ApiError) -> Cow<'_, str> {
    match fault.kind {
        Kind::Context => OPENAI.of(&fault.message),
        _ => Cow::Borrowed(&fault.message),
    }
}

/// Type and code.
fn words(fault: &ApiError) -> (&'static str, Option<&str>) {
    const INVALID: &str = "invalid_request_error";
    let (kind, code) = match fault.kind {
        Kind::Authentication => (INVALID, Some("invalid_api_key")),
        Kind::NotFound => (INVALID, Some("model_not_found")),
        Kind::TooLarge => (INVALID, Some("request_too_large")),
        Kind::Context => (INVALID, Some("context_length_exceeded")),
        Kind::ContentPolicy => (INVALID, Some("content_policy_violation")),
        Kind::Permission
        | Kind::Path
        | Kind::Method
        | Kind::Upgrade
        | Kind::Conflict
        | Kind::Gone
        | Kind::MediaType
        | Kind::TooSlow
        | Kind::Invalid => (INVALID, None),
        Kind::Billing => ("insufficient_quota", Some("insufficient_quota")),
        Kind::RateLimited => ("rate_limit_error", Some("rate_limit_exceeded")),
        Kind::Overloaded => ("server_error", Some("overloaded")),
        Kind::Timeout => ("server_error", Some("timeout")),
        Kind::Upstream | Kind::BadGateway => ("server_error", Some("upstream_error")),
        Kind::Internal => ("server_error", None),
    };
    // SDKs branch on these codes, so they outrank other vendors' codes for the same error.
    let fixed = match fault.kind {
        Kind::Authentication => fault.code.as_deref() != Some(TOKEN_EXPIRED),
        kind => matches!(kind, Kind::Context | Kind::Billing | Kind::RateLimited),
    };
    (kind, if fixed { code } else { fault.code.as_deref().or(code) })
}
