//! Reading a request as strictly as the vendors do, and refusing it in their shape.
//!
//! It must never panic on any body, and never repeat a caller's content in an error.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// Whose protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    OpenAi,
    Anthropic,
}

/// What a request asks for, as far as a simulated answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) stream: bool,
    /// The stream must end with the usage (`OpenAI`).
    pub(super) usage: bool,
    pub(super) choices: u64,
    pub(super) max_tokens: Option<u64>,
    /// The names of the tools offered.
    pub(super) tools: Vec<String>,
    /// The last message carries tool results.
    pub(super) answers_tools: bool,
    /// A rough estimate.
    pub(super) prompt_tokens: u64,
}

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
    /// The field at fault.
    pub(super) param: Option<&'static str>,
    /// The vendor's code, where it has codes.
    pub(super) code: Option<&'static str>,
}

impl Ask {
    /// Reads a body.
    pub(super) fn read(vendor: Vendor, body: &[u8]) -> Result<Self, Refused> {
        let value: Value = serde_json::from_slice(body).map_err(|_| {
            Refused::invalid("The body of the request is not valid JSON.".to_owned(), None)
        })?;
        let model = match value.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            Some(Value::String(_)) | None => return Err(missing(vendor, "model")),
            Some(_) => return Err(wrong_type(vendor, "model", "a string")),
        };
        let messages = match value.get("messages") {
            Some(Value::Array(messages)) => messages,
            None => return Err(missing(vendor, "messages")),
            Some(_) => return Err(wrong_type(vendor, "messages", "an array")),
        };
        let Some(last) = messages.last() else {
            return Err(Refused::invalid(
                "messages: at least one message is required".to_owned(),
                Some("messages"),
            ));
        };
        let stream = flag(vendor, &value, "stream")?;
        let choices = number(vendor, &value, "n")?.unwrap_or(1);
        if !(1..=128).contains(&choices) {
            let message = "Invalid 'n': it must be between 1 and 128.".to_owned();
            return Err(Refused::invalid(message, Some("n")));
        }
        if vendor == Vendor::OpenAi && !stream && has(&value, "stream_options") {
            return Err(Refused::invalid(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled."
                    .to_owned(),
                Some("stream_options"),
            ));
        }
        Ok(Self {
            model,
            stream,
            usage: value.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)),
            choices: if vendor == Vendor::OpenAi { choices } else { 1 },
            max_tokens: max_tokens(vendor, &value)?,
            tools: tool_names(vendor, &value),
            answers_tools: answers_tools(vendor, last),
            prompt_tokens: estimate(body),
        })
    }
}

/// A token for every four bytes of the request.
fn estimate(body: &[u8]) -> u64 {
    u64::try_from(body.len() / 4).map_or(u64::MAX, |quarter| quarter.saturating_add(1))
}

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|found| !found.is_null())
}

fn flag(vendor: Vendor, value: &Value, field: &'static str) -> Result<bool, Refused> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        Some(_) => Err(wrong_type(vendor, field, "a boolean")),
    }
}

fn number(vendor: Vendor, value: &Value, field: &'static str) -> Result<Option<u64>, Refused> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(found) => match found.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(wrong_type(vendor, field, "a whole number, not negative")),
        },
    }
}

fn max_tokens(vendor: Vendor, value: &Value) -> Result<Option<u64>, Refused> {
    let given = number(vendor, value, "max_tokens")?;
    match vendor {
        Vendor::OpenAi => Ok(number(vendor, value, "max_completion_tokens")?.or(given)),
        Vendor::Anthropic if given.is_none() => Err(missing(vendor, "max_tokens")),
        Vendor::Anthropic => Ok(given),
    }
}

fn tool_names(vendor: Vendor, value: &Value) -> Vec<String> {
    let path = match vendor {
        Vendor::OpenAi => "/function/name",
        Vendor::Anthropic => "/name",
    };
    let tools = value.get("tools").and_then(Value::as_array);
    tools
        .into_iter()
        .flatten()
        .filter_map(|tool| tool.pointer(path).and_then(Value::as_str))
        .map(ToOwned::to_owned)
        .collect()
}

fn answers_tools(vendor: Vendor, last: &Value) -> bool {
    match vendor {
        Vendor::OpenAi => last.get("role").and_then(Value::as_str) == Some("tool"),
        Vendor::Anthropic => last
            .get("content")
            .and_then(Value::as_array)
            .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result")),
    }
}

fn missing(vendor: Vendor, field: &'static str) -> Refused {
    let message = match vendor {
        Vendor::OpenAi => format!("Missing required parameter: '{field}'."),
        Vendor::Anthropic => format!("{field}: Field required"),
    };
    let code = Some("missing_required_parameter");
    Refused { code, ..Refused::invalid(message, Some(field)) }
}

fn wrong_type(vendor: Vendor, field: &'static str, wanted: &str) -> Refused {
    let message = match vendor {
        Vendor::OpenAi => format!("Invalid type for '{field}': expected {wanted}."),
        Vendor::Anthropic => format!("{field}: Input should be {wanted}"),
    };
    let code = Some("invalid_type");
    Refused { code, ..Refused::invalid(message, Some(field)) }
}

impl Refused {
    /// A request that is wrong in itself.
    pub(super) fn invalid(message: String, param: Option<&'static str>) -> Self {
        Self { status: 400, message, param, code: None }
    }

    /// A model that does not exist.
    pub(super) fn no_model(words: &str) -> Self {
        Self {
            status: 404,
            message: format!("The model is no program of the simulated upstream. Words: {words}."),
            param: Some("model"),
            code: Some("model_not_found"),
        }
    }

    /// A status that the program asks for.
    pub(super) fn asked(status: u16) -> Self {
        Self {
            status,
            message: format!("The simulated upstream answers {status}, as the model name asks."),
            param: None,
            code: match status {
                401 => Some("invalid_api_key"),
                404 => Some("model_not_found"),
                429 => Some("rate_limit_exceeded"),
                _ => None,
            },
        }
    }

    /// The vendor's own words for it.
    pub(super) fn body(&self, vendor: Vendor, request_id: &str) -> Value {
        match vendor {
            Vendor::OpenAi => json!({"error": {
                "message": self.message,
                "type": openai_type(self.status),
                "param": self.param,
                "code": self.code,
            }}),
            Vendor::Anthropic => json!({
                "type": "error",
                "error": {"type": anthropic_type(self.status), "message": self.message},
                "request_id": request_id,
            }),
        }
    }

    /// The response that refuses.
    pub(super) fn response(&self, vendor: Vendor, request_id: &str) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body(vendor, request_id).to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self.status, 429 | 503 | 529) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn openai_type(status: u16) -> &'static str {
    match status {
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}
