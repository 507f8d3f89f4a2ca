//! Errors as upstreams tell them, in the many shapes of those who call themselves compatible, read
//! into a [`Fault`].
//!
//! Reading never fails, and repeats nothing of a body but its own message, code and field.

use serde_json::Value;

use super::chat::{Fault, Kind};

/// The most bytes of an upstream's message that are repeated.
const MAX_MESSAGE: usize = 2000;

/// Reads the body of an error response.
pub fn response(status: u16, payload: &[u8]) -> Fault {
    let body = serde_json::from_slice(payload).unwrap_or_default();
    let unsaid = format!("the upstream answered with status {status} and no readable message");
    read(&body, Some(status), unsaid)
}

/// Reads an error that came in a stream, or in an answer with status 200.
pub fn in_stream(payload: &[u8]) -> Fault {
    let body = serde_json::from_slice(payload).unwrap_or_default();
    read(&body, None, "the upstream reported an error without a message".to_owned())
}

fn read(body: &Value, status: Option<u16>, unsaid: String) -> Fault {
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
    let details = inner.get("details").map(Value::to_string);
    let kind = kind(status, &words, &message, details.as_deref());
    Fault { kind, message, code, param: word("param") }
}

/// A message that is a string, or a list of complaints (pydantic) of which the first is told.
fn text(value: &Value) -> Option<String> {
    let first = value.get(0).unwrap_or(value);
    let said = first.as_str().or_else(|| first.get("msg")?.as_str())?;
    (!said.is_empty()).then(|| said.to_owned())
}

fn cut(message: &str) -> String {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    message.get(..end).unwrap_or_default().to_owned()
}

/// The HTTP status that an error object names in one of its fields. Vendors' own numbers do not count.
fn status_in(error: &Value) -> Option<u16> {
    ["code", "status_code", "raw_status_code", "status"].iter().find_map(|name| {
        let value = error.get(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(number).ok().filter(|number| (400..600).contains(number))
    })
}

/// What marks an error whatever its status, in its code, type, details or message; the first row
/// that is found counts.
const SIGNS: &[(&str, Kind)] = &[
    ("context_length_exceeded", Kind::Context),
    ("exceed_context_size", Kind::Context),
    ("too_many_prompt_tokens", Kind::Context),
    ("too_many_tokens", Kind::Context),
    ("maximum context length", Kind::Context),
    ("maximum number of tokens allowed", Kind::Context),
    ("input tokens exceeded", Kind::Context),
    ("insufficient_quota", Kind::Billing),
    ("insufficient balance", Kind::Billing),
    ("billing_error", Kind::Billing),
    ("invalid_api_key", Kind::Authentication),
    ("api_key_invalid", Kind::Authentication),
    ("authentication_error", Kind::Authentication),
    ("incorrect api key", Kind::Authentication),
    ("model_not_found", Kind::NotFound),
    ("rate_limit", Kind::RateLimited),
    ("ratelimit", Kind::RateLimited),
    ("resource_exhausted", Kind::RateLimited),
    ("throttling", Kind::RateLimited),
    ("overloaded", Kind::Overloaded),
    ("unavailable", Kind::Overloaded),
];

/// Signs in the message count only where they are phrases; a status that is clear by itself is
/// not overruled by a word in a message.
fn kind(status: Option<u16>, words: &str, message: &str, details: Option<&str>) -> Kind {
    let words = format!("{words} {}", details.unwrap_or_default()).to_ascii_lowercase();
    let message = message.to_ascii_lowercase();
    let vague = matches!(status, None | Some(400 | 413 | 422 | 500));
    let sign = SIGNS.iter().find(|(sign, _)| {
        words.contains(sign) || (vague && sign.contains(' ') && message.contains(sign))
    });
    match (status, sign) {
        (Some(429 | 402), Some((_, Kind::Billing))) => Kind::Billing,
        (None | Some(400 | 404 | 413 | 422 | 500), Some((_, kind))) => *kind,
        (Some(status), _) => by_status(status),
        (None, None) if words.contains("invalid_request") || words.contains("badrequest") => {
            Kind::Invalid
        }
        (None, None) => Kind::Upstream,
    }
}

fn by_status(status: u16) -> Kind {
    match status {
        401 => Kind::Authentication,
        402 => Kind::Billing,
        403 => Kind::Permission,
        404 => Kind::NotFound,
        405 => Kind::Method,
        408 | 504 => Kind::Timeout,
        413 => Kind::TooLarge,
        415 => Kind::MediaType,
        429 => Kind::RateLimited,
        // Groq: out of flex capacity. Anthropic: overloaded.
        498 | 503 | 529 => Kind::Overloaded,
        424 | 499 => Kind::Upstream,
        400..=499 => Kind::Invalid,
        _ => Kind::Upstream,
    }
}
