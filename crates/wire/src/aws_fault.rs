//! Errors of AWS: error responses, and exceptions within a stream.
//!
//! AWS hosts models of several protocols and reports all errors in its own format, which belongs to none of
//! them. Reading never fails: an error that cannot be parsed is reported by its name or its status.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::aws_eventstream::EXCEPTION;
use super::chat::{ApiError, Kind};
use super::framing::Frame;
use super::json::text;
use super::overflow;

/// The members that are read. Their case differs between services.
#[derive(Debug, Default, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow, rename = "Message")]
    capital: Option<&'a RawValue>,
    #[serde(borrow, rename = "__type")]
    name: Option<&'a RawValue>,
    /// For a model that failed: the message and the status of the model's own server.
    #[serde(borrow, rename = "originalMessage")]
    original_message: Option<&'a RawValue>,
    #[serde(borrow, rename = "originalStatusCode")]
    original_status: Option<&'a RawValue>,
    /// Error object of a proxy or gateway in front of AWS.
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

/// Reads the body of an error response.
pub(crate) fn of_response(status: u16, body: &[u8]) -> ApiError {
    read(None, Some(status), body)
}

/// Reads a frame of a stream. `None` if it is not an exception.
pub(crate) fn of_frame(frame: &Frame) -> Option<ApiError> {
    let name = frame.event.as_deref()?.strip_prefix(EXCEPTION.as_bytes())?;
    Some(read(Some(&String::from_utf8_lossy(name)), None, &frame.data))
}

/// Reads a body that is not an answer, although its status is a success.
pub(crate) fn of_body(body: &[u8]) -> ApiError {
    read(None, None, body)
}

fn read(name: Option<&str>, status: Option<u16>, body: &[u8]) -> ApiError {
    let told: Told<'_> = serde_json::from_slice(body).unwrap_or_default();
    let own = told.name.and_then(text);
    let name = name.or(own.as_deref()).map(short).filter(|name| !name.is_empty());
    let inner = |raw: &'_ RawValue| {
        let told: Told<'_> = serde_json::from_str(raw.get()).unwrap_or_default();
        said(told.message).or_else(|| said(Some(raw)))
    };
    let message = said(told.message)
        .or_else(|| said(told.capital))
        .or_else(|| said(told.original_message))
        .or_else(|| told.error.and_then(inner))
        .or_else(|| said(told.detail))
        .unwrap_or_else(|| match (&name, status) {
            (Some(name), _) => format!("the upstream reported {name} without a reason"),
            (None, Some(status)) => {
                format!("the upstream answered with status {status} and no reason")
            }
            (None, None) => "the upstream reported an error without a reason".to_owned(),
        });
    let original = told.original_status.and_then(|raw| raw.get().parse().ok());
    let kind = kind(name, status, original);
    ApiError { kind: refined(kind, &message), message, code: None, param: None }
}

fn said(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(text).filter(|words| !words.trim().is_empty()).map(std::borrow::Cow::into_owned)
}

/// Shortens an exception name: `com.amazon.coral#ThrottlingException:http://...` becomes `ThrottlingException`.
fn short(name: &str) -> &str {
    let name = name.rsplit_once('#').map_or(name, |(_, name)| name);
    name.split_once(':').map_or(name, |(name, _)| name).trim()
}

fn kind(name: Option<&str>, status: Option<u16>, original: Option<u16>) -> Kind {
    let word = name.map(|name| name.to_ascii_lowercase().replace("exception", ""));
    match word.as_deref() {
        Some("throttling" | "toomanyrequests" | "servicequotaexceeded") => Kind::RateLimited,
        Some("validation" | "serialization") => Kind::Invalid,
        Some("accessdenied") => Kind::Permission,
        Some(
            "unrecognizedclient"
            | "expiredtoken"
            | "invalidsignature"
            | "incompletesignature"
            | "signaturedoesnotmatch"
            | "missingauthenticationtoken"
            | "invalidclienttokenid",
        ) => Kind::Authentication,
        Some("resourcenotfound" | "unknownoperation") => Kind::NotFound,
        Some("modeltimeout") => Kind::Timeout,
        Some("serviceunavailable" | "modelnotready") => Kind::Overloaded,
        Some("internalserver" | "internalfailure" | "conflict") => Kind::Upstream,
        Some("modelstreamerror" | "modelerror") => match original {
            Some(429) => Kind::RateLimited,
            Some(503 | 529) => Kind::Overloaded,
            Some(408 | 504) => Kind::Timeout,
            _ => Kind::Upstream,
        },
        _ => status.map_or(Kind::Upstream, Kind::of_status),
    }
}

/// Refines the kind by the message, since the type is in a header that is not available here.
fn refined(kind: Kind, message: &str) -> Kind {
    let has = |all: &[&str]| all.iter().any(|words| message.contains(words));
    match kind {
        Kind::Permission
            if has(&[
                "security token",
                "signature",
                "Signature",
                "API Key",
                "api key",
                "Authentication Token",
            ]) =>
        {
            Kind::Authentication
        }
        Kind::Permission if has(&["INVALID_PAYMENT_INSTRUMENT"]) => Kind::Billing,
        // An incomplete signature has the status of an invalid request.
        Kind::Invalid if message.starts_with("Authorization header requires") => {
            Kind::Authentication
        }
        Kind::Invalid
            if has(&["model identifier is invalid"])
                || message.starts_with("Invocation of model ID") =>
        {
            Kind::NotFound
        }
        Kind::Invalid if overflow::is_overflow(message) || has(&["exceeds maximum length"]) => {
            Kind::Context
        }
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn responses_are_told_by_type_words_and_status() {
        for (status, body, kind, message) in [
            (400, r#"{"message":"bad"}"#, Kind::Invalid, "bad"),
            (
                400,
                r#"{"message":"Input Tokens Exceeded: too many"}"#,
                Kind::Context,
                "Input Tokens Exceeded: too many",
            ),
            (403, r#"{"Message":"not authorized"}"#, Kind::Permission, "not authorized"),
            (
                403,
                r#"{"message":"The security token included in the request is expired"}"#,
                Kind::Authentication,
                "The security token included in the request is expired",
            ),
            (
                400,
                r#"{"__type":"com.amazon.coral.service#ThrottlingException:x","message":"slow"}"#,
                Kind::RateLimited,
                "slow",
            ),
            (424, "{}", Kind::Upstream, "the upstream answered with status 424 and no reason"),
            (408, r#"{"message":"late"}"#, Kind::Timeout, "late"),
            (
                503,
                "<html>",
                Kind::Overloaded,
                "the upstream answered with status 503 and no reason",
            ),
            (502, r#"{"error":{"message":"proxy"}}"#, Kind::Upstream, "proxy"),
        ] {
            let fault = of_response(status, body.as_bytes());
            assert_eq!((fault.kind, fault.message.as_str()), (kind, message), "{body}");
        }
    }

    #[test]
    fn fm43_exceptions_are_reported_by_name() {
        let fault = |name: &str, body: &'static str| {
            let event = Some(Bytes::from(format!("{EXCEPTION}{name}")));
            of_frame(&Frame { event, data: Bytes::from_static(body.as_bytes()) })
        };
        for (name, body, kind) in [
            ("throttlingException", r#"{"message":"m"}"#, Kind::RateLimited),
            ("validationException", r#"{"message":"m"}"#, Kind::Invalid),
            ("serviceUnavailableException", r#"{"message":"m"}"#, Kind::Overloaded),
            ("internalServerException", r#"{"message":"m"}"#, Kind::Upstream),
            ("modelTimeoutException", r#"{"message":"m"}"#, Kind::Timeout),
            (
                "modelStreamErrorException",
                r#"{"message":"m","originalStatusCode":429}"#,
                Kind::RateLimited,
            ),
            ("modelStreamErrorException", r#"{"originalMessage":"m"}"#, Kind::Upstream),
            ("unheardOfException", r#"{"message":"m"}"#, Kind::Upstream),
        ] {
            let fault = fault(name, body).unwrap();
            assert_eq!((fault.kind, fault.message.as_str()), (kind, "m"), "{name}");
        }
        let silent = fault("throttlingException", "").unwrap();
        assert_eq!(silent.message, "the upstream reported throttlingException without a reason");
        assert_eq!(of_frame(&Frame::default()), None);
    }
}
