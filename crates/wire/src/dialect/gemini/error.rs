//! Errors: statuses and bodies for callers, and the errors that upstreams report.
//!
//! Reading never fails: a body that cannot be parsed is reported by its status.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{ApiError, Kind};
use crate::error_body;
use crate::json::{quoted, text};
use crate::overflow::Words;

/// The gRPC status name that the vendor uses for an error.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Authentication => "UNAUTHENTICATED",
        Kind::Permission => "PERMISSION_DENIED",
        Kind::NotFound | Kind::Path | Kind::Gone => "NOT_FOUND",
        Kind::Method | Kind::Upgrade => "UNIMPLEMENTED",
        Kind::Billing => "FAILED_PRECONDITION",
        Kind::TooLarge | Kind::MediaType | Kind::Context | Kind::Invalid | Kind::ContentPolicy => {
            "INVALID_ARGUMENT"
        }
        Kind::Conflict => "ABORTED",
        Kind::RateLimited => "RESOURCE_EXHAUSTED",
        Kind::Overloaded => "UNAVAILABLE",
        Kind::TooSlow | Kind::Timeout => "DEADLINE_EXCEEDED",
        Kind::Upstream | Kind::BadGateway | Kind::Internal => "INTERNAL",
    }
}

/// Clients match `input token count.*exceeds the maximum` (opencode, pi).
const OVERFLOW: Words = Words {
    marks: &["maximum number of tokens allowed"],
    counted: "The input token count ({tokens}) exceeds the maximum number of tokens allowed ({maximum}).",
    summed: None,
    uncounted: "The input token count exceeds the maximum number of tokens allowed.",
};

/// The JSON of an error. Clients look for `error` as the first member. The shape has no place for the
/// field that it is about, so that leads the message, as it does in the vendor's own.
pub(super) fn body(fault: &ApiError) -> String {
    with_details(fault, &[])
}

/// The JSON of an error response. `retry_after`: seconds. The vendor's clients read that in the details and
/// not in a header; Gemini CLI 0.61 gives up on a wait of more than 300 s (`classifyGoogleError` in its
/// `googleQuotaErrors.ts`).
pub(super) fn response(fault: &ApiError, request_id: &str, retry_after: Option<u64>) -> String {
    let detail = |kind: &str, member: &str, value: &str| {
        format!(
            r#"{{"@type":"type.googleapis.com/google.rpc.{kind}","{member}":{}}}"#,
            quoted(value)
        )
    };
    let retry = retry_after.map(|wait| detail("RetryInfo", "retryDelay", &format!("{wait}s")));
    let request = detail("RequestInfo", "requestId", request_id);
    with_details(fault, &retry.into_iter().chain([request]).collect::<Vec<_>>())
}

fn with_details(fault: &ApiError, details: &[String]) -> String {
    let message = quoted(&error_body::message(fault, &OVERFLOW));
    let (code, word) = (fault.kind.status(), word(fault.kind));
    let details = match details {
        [] => String::new(),
        details => format!(r#","details":[{}]"#, details.join(",")),
    };
    format!(r#"{{"error":{{"code":{code},"message":{message},"status":"{word}"{details}}}}}"#)
}

/// Reads the body of an error response.
pub(super) fn decode(status: u16, body: &[u8]) -> ApiError {
    let told = std::str::from_utf8(body).ok().and_then(Told::read).unwrap_or_default();
    told.fault(Some(status))
}

/// Reads an error that arrived within a stream, or as an answer with a status of success. `None`:
/// there is none.
pub(super) fn in_stream(payload: &str) -> Option<ApiError> {
    Told::read(payload).map(|told| told.fault(None))
}

/// Seconds to wait before a retry, rounded up, from `"retryDelay": "17.3s"`.
pub(super) fn retry_after(body: &[u8]) -> Option<u64> {
    let told = std::str::from_utf8(body).ok().and_then(Told::read)?;
    let seconds = told.retry_delay?;
    let (whole, rest) =
        seconds.strip_suffix('s')?.split_once('.').unwrap_or((seconds.strip_suffix('s')?, ""));
    let more = rest.bytes().any(|digit| digit != b'0');
    whole.parse::<u64>().ok().map(|whole| whole.saturating_add(u64::from(more)))
}

#[derive(Debug, Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// The object in `error`.
#[derive(Debug, Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    retry_delay: Option<&'a RawValue>,
}

/// The texts of an error.
#[derive(Debug, Default)]
struct Told {
    message: Option<String>,
    status: Option<String>,
    code: Option<u16>,
    reason: Option<String>,
    retry_delay: Option<String>,
}

impl Told {
    /// The error in a body: an object, or one in a list.
    fn read(body: &str) -> Option<Self> {
        let body = body.trim();
        let outer: Outer<'_> = match serde_json::from_str(body) {
            Ok(outer) => outer,
            Err(_) => serde_json::from_str::<Vec<Outer<'_>>>(body).ok()?.into_iter().next()?,
        };
        let owned = |raw: Option<&RawValue>| raw.and_then(text).map(Cow::into_owned);
        let Some(raw) = outer.error else {
            let message = owned(outer.message);
            return message.is_some().then(|| Self { message, ..Self::default() });
        };
        let Ok(inner) = serde_json::from_str::<Inner<'_>>(raw.get()) else {
            return Some(Self { message: text(raw).map(Cow::into_owned), ..Self::default() });
        };
        let details = inner.details.map(|raw| serde_json::from_str::<Vec<Detail<'_>>>(raw.get()));
        let details = details.and_then(Result::ok).unwrap_or_default();
        Some(Self {
            message: owned(inner.message),
            status: owned(inner.status),
            code: inner.code.and_then(|raw| raw.get().parse().ok()),
            reason: details.iter().find_map(|detail| owned(detail.reason)),
            retry_delay: details.iter().find_map(|detail| owned(detail.retry_delay)),
        })
    }

    fn fault(self, status: Option<u16>) -> ApiError {
        let kind = self.kind(status.or(self.code).unwrap_or(500));
        let word = self.status.as_deref().unwrap_or_default();
        let message = self.message.filter(|message| !message.is_empty()).unwrap_or_else(|| {
            status.map_or_else(
                || {
                    format!("the upstream reported an error without a message {word}")
                        .trim_end()
                        .to_owned()
                },
                |status| format!("the upstream answered with status {status}"),
            )
        });
        // The status is left out: it only repeats the kind, under a name that only this vendor's callers
        // know.
        ApiError { kind, message, code: self.reason, param: None }
    }

    fn kind(&self, status: u16) -> Kind {
        let message = self.message.as_deref().unwrap_or_default();
        let reason = self.reason.as_deref().unwrap_or_default();
        // The vendor reports a bad key as an invalid argument.
        if ["API_KEY_", "ACCESS_TOKEN_"].iter().any(|prefix| reason.starts_with(prefix)) {
            return Kind::Authentication;
        }
        if reason == "BILLING_DISABLED" {
            return Kind::Billing;
        }
        let kind = match self.status.as_deref().unwrap_or_default() {
            "INVALID_ARGUMENT" | "OUT_OF_RANGE" if status < 500 => Kind::of_status(status),
            "INVALID_ARGUMENT" | "OUT_OF_RANGE" => Kind::Invalid,
            "UNAUTHENTICATED" => Kind::Authentication,
            "PERMISSION_DENIED" => Kind::Permission,
            "NOT_FOUND" => Kind::NotFound,
            "RESOURCE_EXHAUSTED" => Kind::RateLimited,
            "UNAVAILABLE" => Kind::Overloaded,
            "DEADLINE_EXCEEDED" => Kind::Timeout,
            "INTERNAL" | "UNKNOWN" | "DATA_LOSS" | "CANCELLED" | "ABORTED" => Kind::Upstream,
            _ => Kind::of_status(status),
        };
        error_body::refined(kind, Some(status), message)
    }
}
