//! Counting the tokens of an input: `/responses/input_tokens`, towards both sides.
//!
//! The request never includes options for sealed reasoning or for storage: there is no answer.

use serde::Deserialize;

use crate::body::syntax;
use crate::chat::{ApiError, End};
use crate::count::{self, parsed};

/// Members of a request that the vendor counts.
const MEMBERS: [&str; 9] = [
    "model",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
];

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
    format!(r#"{{"object":"response.input_tokens","input_tokens":{tokens}}}"#)
}
