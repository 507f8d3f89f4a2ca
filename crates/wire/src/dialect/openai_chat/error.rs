//! Error bodies and error events. They must never hold more than a [`ApiError`] does.

use serde_json::json;

use crate::chat::{ApiError, Kind, TOKEN_EXPIRED};
use crate::overflow::OPENAI;

/// `{"error":{..}}`, for bodies and for events.
pub(super) fn body(fault: &ApiError) -> String {
    let (kind, code) = match fault.kind {
        Kind::Authentication => ("invalid_request_error", Some("invalid_api_key")),
        Kind::NotFound => ("invalid_request_error", Some("model_not_found")),
        Kind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        Kind::Context => ("invalid_request_error", Some("context_length_exceeded")),
        Kind::ContentPolicy => ("invalid_request_error", Some("content_policy_violation")),
        Kind::Permission
        | Kind::Path
        | Kind::Method
        | Kind::Upgrade
        | Kind::Conflict
        | Kind::Gone
        | Kind::MediaType
        | Kind::TooSlow
        | Kind::Invalid => ("invalid_request_error", None),
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
    let code = if fixed { code } else { fault.code.as_deref().or(code) };
    let message = match fault.kind {
        Kind::Context => OPENAI.of(&fault.message),
        _ => fault.message.as_str().into(),
    };
    json!({"error": {"message": message, "type": kind, "param": fault.param, "code": code}})
        .to_string()
}
