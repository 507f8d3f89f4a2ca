//! Counting the tokens of a prompt: `/v1/messages/count_tokens`, towards both sides.
//!
//! The request never holds an output limit or sampling parameters: the vendor rejects them here.

use serde::Deserialize;

use super::read;
use crate::body::syntax;
use crate::chat::{ApiError, End, Request};
use crate::count::{self, parsed};
use crate::json;

/// Its path, at callers and at upstreams.
pub(super) const PATH: &str = "/v1/messages/count_tokens";

/// Members of a request that the vendor counts.
const MEMBERS: [&str; 8] = [
    "model",
    "system",
    "messages",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
];

/// Reads a caller's request, which has no limit on output.
pub(super) fn request(body: &str) -> Result<Request, ApiError> {
    let body = json::edit(body, &[("max_tokens", Some("1"))]).map_err(|error| syntax(&error))?;
    Ok(Request { max_tokens: None, ..read::decode_request(&body)? })
}

/// Makes a request for an answer one for its count.
pub(super) fn write(request: &str) -> Result<String, ApiError> {
    count::with_members(request, &MEMBERS).map_err(|error| syntax(&error))
}

#[derive(Deserialize)]
struct Body {
    input_tokens: u64,
}

/// Reads an upstream's count.
pub(super) fn read(body: &[u8]) -> Result<u64, End> {
    parsed::<Body>(body).map(|body| body.input_tokens)
}

/// Writes a caller's answer.
pub(super) fn answer(tokens: u64) -> String {
    format!(r#"{{"input_tokens":{tokens}}}"#)
}
