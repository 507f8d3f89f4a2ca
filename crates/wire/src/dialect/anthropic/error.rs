//! Errors: statuses and bodies for callers, and the errors that upstreams report.
//!
//! Reading never fails: a body that cannot be parsed is reported by its status.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{ApiError, Kind};
use crate::error_body;
use crate::json::{Members, quoted, text};
use crate::overflow::Words;

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Authentication => "authentication_error",
        Kind::Permission => "permission_error",
        Kind::NotFound | Kind::Path | Kind::Gone => "not_found_error",
        Kind::TooLarge => "request_too_large",
        Kind::Method
        | Kind::Upgrade
        | Kind::Conflict
        | Kind::MediaType
        | Kind::Context
        | Kind::TooSlow
        | Kind::Invalid
        | Kind::ContentPolicy => "invalid_request_error",
        Kind::Billing => "billing_error",
        Kind::RateLimited => "rate_limit_error",
        Kind::Overloaded => "overloaded_error",
        Kind::Timeout => "timeout_error",
        Kind::Upstream | Kind::BadGateway | Kind::Internal => "api_error",
    }
}

/// Claude Code compacts its history when a message matches this (2.1.197: `prompt is too
/// long[^0-9]*(\d+)\s* tokens?\s*>\s*(\d+)`, in any case; without counts it compacts by an unknown amount).
const OVERFLOW: Words = Words {
    marks: &[" tokens > ", "exceed context limit: "],
    counted: "prompt is too long: {tokens} tokens > {maximum} maximum",
    // Claude Code retries with a smaller `max_tokens` when it reads this.
    summed: Some(
        "input length and `max_tokens` exceed context limit: {tokens} + {output} > {maximum}, decrease input length or `max_tokens` and try again",
    ),
    uncounted: "prompt is too long",
};

/// The JSON of an error. The shape has no place for the field that it is about, so that leads the
/// message, as it does in the vendor's own.
pub(super) fn body(fault: &ApiError, request_id: Option<&str>) -> String {
    let message = quoted(&error_body::message(fault, &OVERFLOW));
    let kind = type_of(fault.kind);
    let id = request_id.map_or_else(String::new, |id| format!(r#","request_id":{}"#, quoted(id)));
    format!(r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}}{id}}}"#)
}

/// Reads the body of an error response.
pub(super) fn decode(status: u16, body: &[u8]) -> ApiError {
    let told = std::str::from_utf8(body).ok().and_then(|body| Members::parse(body).ok());
    let told = told.map(|members| Told::read(&members)).unwrap_or_default();
    told.fault(Some(status))
}

/// Reads an error that arrived within a stream, or as an answer with a status of success.
pub(super) fn in_stream(payload: &str) -> ApiError {
    let told = Members::parse(payload).map(|members| Told::read(&members)).unwrap_or_default();
    told.fault(None)
}

/// The texts of an error, read from any of the shapes in use.
#[derive(Debug, Default)]
struct Told {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
}

/// The object in `error`, of this vendor and of those that imitate others.
#[derive(Debug, Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    param: Option<&'a RawValue>,
}

impl Told {
    fn read(members: &Members<'_>) -> Self {
        let owned = |raw: Option<&RawValue>| {
            raw.and_then(text).filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned)
        };
        let error = members.get("error");
        let inner: Inner<'_> =
            error.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        Self {
            message: owned(inner.message)
                .or_else(|| owned(error))
                .or_else(|| owned(members.get("message")))
                .or_else(|| owned(members.get("detail"))),
            kind: owned(inner.kind),
            code: owned(inner.code),
            param: owned(inner.param),
        }
    }

    fn fault(self, status: Option<u16>) -> ApiError {
        let message = self.message.unwrap_or_else(|| match status {
            Some(status) => format!("the upstream answered with status {status} and no reason"),
            None => "the upstream reported an error without a reason".to_owned(),
        });
        let by_status = status.map_or(Kind::Upstream, Kind::of_status);
        // Compatible servers report everything below 500 as an invalid request: then their code or the
        // status decides.
        let words = [&self.kind, &self.code].map(|word| kind_of(word.as_deref()?));
        let mut clear = words.into_iter().flatten().filter(|kind| *kind != Kind::Invalid);
        let said = clear.next().or_else(|| match status {
            None => words.into_iter().flatten().next(),
            Some(_) => None,
        });
        let kind = error_body::refined(said.unwrap_or(by_status), status, &message);
        ApiError { kind, message, code: self.code, param: self.param }
    }
}

fn kind_of(error_type: &str) -> Option<Kind> {
    Some(match error_type {
        "authentication_error" | "invalid_api_key" => Kind::Authentication,
        "permission_error" => Kind::Permission,
        "not_found_error" | "model_not_found" => Kind::NotFound,
        "request_too_large" => Kind::TooLarge,
        "invalid_request_error" | "BadRequestError" => Kind::Invalid,
        "exceed_context_size_error" | "context_length_exceeded" => Kind::Context,
        "billing_error" | "insufficient_quota" | "billing_not_active" => Kind::Billing,
        "rate_limit_error" | "rate_limit_exceeded" => Kind::RateLimited,
        "overloaded_error" | "unavailable_error" => Kind::Overloaded,
        "timeout_error" => Kind::Timeout,
        "api_error" | "server_error" => Kind::Upstream,
        _ => return None,
    })
}
