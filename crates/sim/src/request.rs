//! Requests of the simulator in neutral terms, and parsing of a body's members, as strict as the vendors'.
//!
//! It must never panic on any body, and never repeat a caller's content in an error.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::vendor::Vendor;

/// The parts of a request that affect a simulated answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SimRequest {
    pub(super) model: String,
    pub(super) stream: bool,
    /// Kind and format of the request, in the vendor's own term, if the vendor has several.
    pub(super) form: &'static str,
    /// The stream must end with the usage, if the vendor makes that optional.
    pub(super) usage: bool,
    pub(super) choices: u64,
    pub(super) max_tokens: Option<u64>,
    /// Names of the offered tools.
    pub(super) tools: Vec<String>,
    /// The last message holds tool results.
    pub(super) answers_tools: bool,
    /// Members of the request that the answer repeats, if any.
    pub(super) repeated: Value,
    /// Rough estimate of the prompt's tokens.
    pub(super) prompt_tokens: u64,
}

/// Error response to a rejected request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestError {
    pub(super) status: u16,
    pub(super) message: String,
    /// The seconds of `retry-after`, if they are stated.
    pub(super) retry_after: Option<u64>,
    /// The field at fault.
    pub(super) param: Option<&'static str>,
    /// The vendor's error code, if it has codes.
    pub(super) code: Option<&'static str>,
}

/// The members of a body. Errors use the messages of `vendor`.
pub(super) struct Fields<'v> {
    vendor: &'v dyn Vendor,
    /// The whole body.
    pub(super) value: Value,
    /// One token per four bytes of the request.
    pub(super) prompt_tokens: u64,
}

impl<'v> Fields<'v> {
    /// Reads a body.
    pub(super) fn read(vendor: &'v dyn Vendor, body: &[u8]) -> Result<Self, RequestError> {
        let value = serde_json::from_slice(body).map_err(|_| {
            RequestError::invalid("The body of the request is not valid JSON.".to_owned(), None)
        })?;
        let quarter = u64::try_from(body.len() / 4).unwrap_or(u64::MAX);
        Ok(Self { vendor, value, prompt_tokens: quarter.saturating_add(1) })
    }

    /// A required text, which must not be empty.
    pub(super) fn text(&self, field: &'static str) -> Result<String, RequestError> {
        match self.value.get(field) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::String(_)) | None => Err(self.missing(field)),
            Some(_) => Err(self.wrong_type(field, "a string")),
        }
    }

    /// A required list.
    pub(super) fn list(&self, field: &'static str) -> Result<&[Value], RequestError> {
        match self.value.get(field) {
            Some(Value::Array(items)) => Ok(items),
            None => Err(self.missing(field)),
            Some(_) => Err(self.wrong_type(field, "an array")),
        }
    }

    /// The last turn of a required, non-empty list.
    pub(super) fn last(&self, field: &'static str) -> Result<&Value, RequestError> {
        self.list(field)?.last().ok_or_else(|| {
            RequestError::invalid(format!("{field}: at least one message is required"), Some(field))
        })
    }

    /// Whether a member is present and not null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.value.get(field).is_some_and(|found| !found.is_null())
    }

    /// A boolean. `None` if it is missing.
    pub(super) fn flag(&self, field: &'static str) -> Result<Option<bool>, RequestError> {
        match self.value.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(set)) => Ok(Some(*set)),
            Some(_) => Err(self.wrong_type(field, "a boolean")),
        }
    }

    /// A count. `None` if it is missing.
    pub(super) fn number(&self, field: &'static str) -> Result<Option<u64>, RequestError> {
        match self.value.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(found) => match found.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong_type(field, "a whole number, not negative")),
            },
        }
    }

    /// Names of the offered tools, at `pointer` within each tool.
    pub(super) fn tool_names(&self, pointer: &str) -> Vec<String> {
        let tools = self.value.get("tools").and_then(Value::as_array);
        tools
            .into_iter()
            .flatten()
            .filter_map(|tool| tool.pointer(pointer).and_then(Value::as_str))
            .map(ToOwned::to_owned)
            .collect()
    }

    /// The error for a body without this member.
    pub(super) fn missing(&self, field: &'static str) -> RequestError {
        let code = Some("missing_required_parameter");
        RequestError { code, ..RequestError::invalid(self.vendor.missing(field), Some(field)) }
    }

    fn wrong_type(&self, field: &'static str, wanted: &str) -> RequestError {
        let code = Some("invalid_type");
        RequestError {
            code,
            ..RequestError::invalid(self.vendor.wrong_type(field, wanted), Some(field))
        }
    }
}

impl RequestError {
    /// Creates the error of an invalid request.
    pub(super) fn invalid(message: String, param: Option<&'static str>) -> Self {
        Self { status: 400, message, retry_after: None, param, code: None }
    }

    /// Creates the error of an unknown model.
    pub(super) fn no_model(words: &str) -> Self {
        Self {
            status: 404,
            message: format!(
                "Unknown model of the simulated upstream. A name is made of words, joined with dashes: {words}."
            ),
            retry_after: None,
            param: Some("model"),
            code: Some("model_not_found"),
        }
    }

    /// Creates the error with a status that the program sets.
    pub(super) fn asked(status: u16) -> Self {
        Self {
            status,
            message: format!("The simulated upstream answers {status}, as the model name asks."),
            retry_after: matches!(status, 429 | 503 | 529).then_some(1),
            param: None,
            code: match status {
                401 => Some("invalid_api_key"),
                404 => Some("model_not_found"),
                429 => Some("rate_limit_exceeded"),
                _ => None,
            },
        }
    }

    /// Creates the error of a rate limit.
    pub(super) fn limited(retry_after: Option<u64>) -> Self {
        Self { retry_after, ..Self::asked(429) }
    }

    /// Creates the error of an account without credit.
    pub(super) fn spent() -> Self {
        let message =
            "You exceeded your current quota: your credit balance is too low to access the API.";
        Self { message: message.to_owned(), code: Some("insufficient_quota"), ..Self::asked(402) }
    }

    /// Creates the error of a content filter.
    pub(super) fn filtered() -> Self {
        let message = "The request was blocked by the content filtering policy.".to_owned();
        Self { code: Some("content_filter"), ..Self::invalid(message, None) }
    }

    /// Creates the error of a prompt that is too long.
    pub(super) fn too_long(tokens: u64, room: u64) -> Self {
        let message = format!(
            "prompt is too long: {tokens} tokens > {room} maximum; this model's maximum context length is {room} tokens"
        );
        Self { code: Some("context_length_exceeded"), ..Self::invalid(message, None) }
    }

    /// The error response.
    pub(super) fn response(&self, vendor: &dyn Vendor, request_id: &str) -> Response<Body> {
        let mut response = Response::new(Body::from(vendor.refusal(self, request_id).to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(kind) = vendor.error_type(self) {
            headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The text of an unfinished turn of the model at the end of a request, in any vendor's form.
pub(super) fn prefill(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let lists = ["messages", "contents", "input"];
    let turns = lists.into_iter().find_map(|name| body.get(name)?.as_array())?;
    let last = turns.last()?;
    let role = last.get("role").and_then(Value::as_str)?;
    let content = last.get("content").or_else(|| last.get("parts"))?;
    let of_part = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
    let text = match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(of_part).collect(),
        _ => return None,
    };
    (matches!(role, "assistant" | "model") && !text.is_empty()).then_some(text)
}
