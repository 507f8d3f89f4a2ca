//! Errors of upstreams, in the many shapes of self-declared compatible servers, read into an [`ApiError`].
//!
//! Reading never fails. Of a body, only its message, code and field are repeated.

use std::borrow::Cow;

use serde_json::Value;

use super::chat::{ApiError, Kind};
use super::overflow::{self, Words};

/// The most bytes of an upstream's message that are repeated.
const MAX_MESSAGE: usize = 2000;

/// Reads the body of an error response.
pub(crate) fn response(status: u16, payload: &[u8]) -> ApiError {
    let body = serde_json::from_slice(payload).unwrap_or_default();
    let unsaid = format!("the upstream answered with status {status} and no readable message");
    read(&body, Some(status), unsaid)
}

/// Reads an error in a stream, or in an answer with status 200.
pub(crate) fn in_stream(payload: &[u8]) -> ApiError {
    let body = serde_json::from_slice(payload).unwrap_or_default();
    read(&body, None, "the upstream reported an error without a message".to_owned())
}

fn read(body: &Value, status: Option<u16>, unsaid: String) -> ApiError {
    // Google wraps its errors in a list.
    let body = body.get(0).unwrap_or(body);
    let inner = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
    let word = |name: &str| {
        inner.get(name).and_then(Value::as_str).filter(|word| !word.is_empty()).map(str::to_owned)
    };
    let message = word("message")
        .or_else(|| text(body.get("error")?))
        .or_else(|| text(inner.get("message")?))
        .or_else(|| text(body.get("message")?))
        .or_else(|| text(inner.get("detail")?))
        .or_else(|| text(body))
        .map_or(unsaid, |message| cut(&message));
    let code = word("code").or_else(|| word("status"));
    let kind_word = word("type").unwrap_or_default();
    let status = status.or_else(|| status_in(inner));
    let words = format!("{} {kind_word}", code.as_deref().unwrap_or_default());
    let reasons = inner.get("details").and_then(Value::as_array).into_iter().flatten();
    let reasons = reasons.filter_map(|detail| detail.get("reason")?.as_str());
    let words = reasons.fold(words, |words, reason| format!("{words} {reason}"));
    // OpenRouter sets this for a request that a provider's moderation flagged.
    let flagged = inner.get("metadata").is_some_and(|more| more.get("flagged_input").is_some());
    let kind = if flagged { Kind::ContentPolicy } else { kind(status, &words, &message) };
    let count = |name: &str| inner.get(name).and_then(Value::as_u64);
    // llama.cpp reports the counts beside the message, not in it.
    let message = match (kind, count("n_prompt_tokens"), count("n_ctx")) {
        (Kind::Context, Some(tokens), Some(maximum))
            if overflow::counts(&message).is_none_or(|said| said.tokens.is_none()) =>
        {
            overflow::with_counts(&message, tokens, maximum)
        }
        _ => message,
    };
    ApiError { kind, message, code, param: word("param") }
}

/// The message for callers whose dialect has no field for the parameter at fault: the parameter is put before
/// the message. A prompt that does not fit is reported with the dialect's own `overflow` sentence.
pub(crate) fn message<'f>(fault: &'f ApiError, overflow: &Words) -> Cow<'f, str> {
    match &fault.param {
        _ if fault.kind == Kind::Context => overflow.of(&fault.message),
        Some(param) if !fault.message.contains(param.as_str()) => {
            Cow::Owned(format!("{param}: {}", fault.message))
        }
        _ => Cow::Borrowed(&fault.message),
    }
}

/// A message: a string, or the first entry of a list of errors (pydantic).
fn text(value: &Value) -> Option<String> {
    let first = value.get(0).unwrap_or(value);
    let said = first.as_str().or_else(|| first.get("msg")?.as_str())?;
    (!said.is_empty()).then(|| said.to_owned())
}

fn cut(message: &str) -> String {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    message.get(..end).unwrap_or_default().to_owned()
}

/// The HTTP status in one of an error object's fields. Vendors' own error numbers are ignored.
fn status_in(error: &Value) -> Option<u16> {
    ["code", "status_code", "raw_status_code", "status"].iter().find_map(|name| {
        let value = error.get(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(number).ok().filter(|number| (400..600).contains(number))
    })
}

/// Substrings of an error's code, type or reasons that determine its kind if the status does not. The first
/// matching row counts. Messages are not searched, since they may repeat the caller's content.
const SIGNS: &[(&str, Kind)] = &[
    ("context_length_exceeded", Kind::Context),
    ("exceed_context_size", Kind::Context),
    ("too_many_prompt_tokens", Kind::Context),
    ("too_many_tokens", Kind::Context),
    ("insufficient_quota", Kind::Billing),
    ("exceeded_current_quota", Kind::Billing),
    ("insufficient_balance", Kind::Billing),
    ("insufficient_credits", Kind::Billing),
    ("billing_", Kind::Billing),
    ("content_filter", Kind::ContentPolicy),
    ("content_policy", Kind::ContentPolicy),
    ("moderation", Kind::ContentPolicy),
    ("responsibleaipolicy", Kind::ContentPolicy),
    ("data_inspection_failed", Kind::ContentPolicy),
    ("invalid_api_key", Kind::Authentication),
    ("api_key_invalid", Kind::Authentication),
    ("authentication_error", Kind::Authentication),
    ("model_not_found", Kind::NotFound),
    ("model_not_available", Kind::NotFound),
    ("model_decommissioned", Kind::NotFound),
    ("invalid_model", Kind::NotFound),
    ("rate_limit", Kind::RateLimited),
    ("ratelimit", Kind::RateLimited),
    ("resource_exhausted", Kind::RateLimited),
    ("throttling", Kind::RateLimited),
    ("overloaded", Kind::Overloaded),
    ("unavailable", Kind::Overloaded),
];

/// Openings of messages about the gateway's credential, account or model whose status blames the request. Only
/// the opening counts: the rest may be the caller's own content, which must not discredit a provider for every
/// caller.
const OPENINGS: &[(&str, Kind)] = &[
    ("incorrect api key", Kind::Authentication),
    ("invalid api key", Kind::Authentication),
    ("api key ", Kind::Authentication),
    ("no api key", Kind::Authentication),
    ("your api key", Kind::Authentication),
    ("missing or invalid authorization", Kind::Authentication),
    ("unauthorized", Kind::Authentication),
    ("this organization has been disabled", Kind::Authentication),
    ("user location is not supported", Kind::Permission),
    ("your credit balance is too low", Kind::Billing),
    ("insufficient balance", Kind::Billing),
    ("insufficient credits", Kind::Billing),
    ("insufficient account balance", Kind::Billing),
    ("your account is not active", Kind::Billing),
    ("your prepayment credits are depleted", Kind::Billing),
    ("your newly created team doesn't have any credits", Kind::Billing),
    ("billing hard limit", Kind::Billing),
    ("gemini api free tier is not available", Kind::Billing),
    ("model not exist", Kind::NotFound),
    ("invalid model", Kind::NotFound),
];

/// The kind by the message of an error whose status and type are too vague.
pub(crate) fn refined(kind: Kind, status: Option<u16>, message: &str) -> Kind {
    let vague = matches!(status, None | Some(400 | 413 | 422 | 500));
    let message = message.to_ascii_lowercase();
    let opening = OPENINGS.iter().find(|(opening, _)| message.starts_with(opening));
    match (kind, opening) {
        // Vendors report an exhausted balance under the status of a rate limit or of a missing permission.
        (Kind::RateLimited | Kind::Permission, Some((_, Kind::Billing))) => Kind::Billing,
        (Kind::RateLimited | Kind::Permission, _)
            if message.contains("used all available credits") =>
        {
            Kind::Billing
        }
        (Kind::Invalid | Kind::Upstream, Some((_, kind))) if vague => *kind,
        (Kind::Invalid | Kind::Upstream | Kind::TooLarge, _)
            if vague && overflow::is_overflow(&message) =>
        {
            Kind::Context
        }
        (kind, _) => kind,
    }
}

/// The kind by status and words. A status that is unambiguous is not overruled by a word.
fn kind(status: Option<u16>, words: &str, message: &str) -> Kind {
    let words = words.to_ascii_lowercase();
    let sign = SIGNS.iter().find(|(sign, _)| words.contains(sign)).map(|(_, kind)| *kind);
    let kind = match (status, sign) {
        (Some(402 | 403 | 429), Some(Kind::Billing)) => Kind::Billing,
        (Some(403 | 451), Some(Kind::ContentPolicy)) => Kind::ContentPolicy,
        (None | Some(400 | 404 | 413 | 422 | 500), Some(kind)) => kind,
        (Some(status), _) => Kind::of_status(status),
        (None, None) if words.contains("invalid_request") || words.contains("badrequest") => {
            Kind::Invalid
        }
        (None, None) => Kind::Upstream,
    };
    refined(kind, status, message)
}
