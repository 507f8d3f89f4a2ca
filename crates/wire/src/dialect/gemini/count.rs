//! Counting the tokens of a prompt: `countTokens`, read and written towards both sides.
//!
//! Members that only affect the answer are never sent to Vertex AI, whose count does not take them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::path::bare;
use super::read;
use crate::body::{refuse, syntax};
use crate::chat::{ApiError, End, Request};
use crate::count::{self, parsed};
use crate::dialect::Target;
use crate::json::{self, Members, is_unsaid, quoted};

/// The request as it would be for an answer, in a member of its own.
const INNER: &str = "generateContentRequest";
/// Its name in snake case.
const INNER_SNAKE: &str = "generate_content_request";
/// Members of a request that Vertex AI counts.
const ON_VERTEX: [&str; 4] = ["contents", "systemInstruction", "tools", "generationConfig"];

/// Reads a caller's request: a prompt, or a whole request within it.
pub(super) fn request(body: &str) -> Result<Request, ApiError> {
    let members = Members::parse(body).map_err(|error| syntax(&error))?;
    let inner = [INNER, INNER_SNAKE].into_iter().find(|name| !is_unsaid(&members, name));
    let Some(name) = inner else { return read::decode_request(body) };
    if !is_unsaid(&members, "contents") {
        return Err(refuse("contents", &format!("must not be given beside `{name}`")));
    }
    let request = members.get(name).map_or("", RawValue::get);
    read::decode_request(request).map_err(|fault| {
        let Some(param) = &fault.param else { return refuse(name, "must be an object") };
        let own = format!("{name}.{param}");
        let message = fault.message.replacen(&format!("`{param}`"), &format!("`{own}`"), 1);
        ApiError { message, param: Some(own), ..fault }
    })
}

/// Makes a request for an answer one for its count.
pub(super) fn write(request: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let wrong = |error: serde_json::Error| syntax(&error);
    if target.quirks.vertex {
        return count::with_members(request, &ON_VERTEX).map_err(wrong);
    }
    let model = quoted(&format!("models/{}", bare(target.model)));
    let request = json::edit(request, &[("model", Some(&model))]).map_err(wrong)?;
    Ok(format!(r#"{{"{INNER}":{request}}}"#))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    total_tokens: u64,
}

/// Reads an upstream's count.
pub(super) fn read(body: &[u8]) -> Result<u64, End> {
    parsed::<Body>(body).map(|body| body.total_tokens)
}

/// Writes a caller's answer.
pub(super) fn answer(tokens: u64) -> String {
    format!(r#"{{"totalTokens":{tokens}}}"#)
}
