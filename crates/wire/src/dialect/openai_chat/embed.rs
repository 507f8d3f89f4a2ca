//! Embeddings: `/embeddings`, read and written towards both sides.
//!
//! Token ids are only sent to the vendor's own models, since they have no meaning for others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::body::{parse, refuse};
use crate::chat::{ApiError, End};
use crate::dialect::Target;
use crate::embeddings::{self, Answer, EmbedRequest, Reply, Vector, absent, parsed, written};
use crate::error_body;
use crate::json::{is_null, quoted, text};

/// Encoding of vectors in base64, as [`echo`] returns it.
const BASE64: &str = "base64";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
    dimensions: Option<u64>,
    encoding_format: Option<Encoding>,
    user: Option<String>,
}

#[derive(Serialize)]
struct UpstreamBody<'a> {
    model: &'a str,
    input: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Float,
    Base64,
}

/// Reads a caller's request.
pub(super) fn request(body: &str) -> Result<EmbedRequest, ApiError> {
    let Body { input, dimensions, user, .. } = parse("", body)?;
    if holds_token_ids(input) {
        let what = "holds token ids, which mean something to OpenAI's models only; send text";
        return Err(refuse("input", what));
    }
    let inputs = embeddings::texts("input", input)?;
    Ok(EmbedRequest { inputs, dimensions, user, ..EmbedRequest::default() })
}

/// Whether the first item is a number, or a list of them.
fn holds_token_ids(input: &RawValue) -> bool {
    let items: Vec<&RawValue> = serde_json::from_str(input.get()).unwrap_or_default();
    items.first().is_some_and(|item| {
        item.get().starts_with(|first: char| first == '[' || first.is_ascii_digit())
    })
}

/// Encoding of the vectors that the caller requests; empty for numbers.
pub(super) fn echo(body: &str) -> String {
    let encoding = parse::<Body<'_>>("", body).ok().and_then(|body| body.encoding_format);
    if matches!(encoding, Some(Encoding::Base64)) { BASE64.to_owned() } else { String::new() }
}

/// Writes a request for an upstream.
pub(super) fn write(request: &EmbedRequest, target: &Target<'_>) -> String {
    written(&UpstreamBody {
        model: target.model,
        input: &request.inputs,
        dimensions: request.dimensions,
        user: request.user.as_deref(),
    })
}

#[derive(Deserialize)]
struct AnswerBody<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<Vec<Item<'a>>>,
    usage: Option<Usage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    index: Option<usize>,
    #[serde(borrow)]
    embedding: &'a RawValue,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
}

/// Reads an upstream's answer. Its vectors are ordered by their numbers, where they have any.
pub(super) fn answer(json: &str) -> Result<Answer<'_>, End> {
    let body: AnswerBody<'_> = parsed(json)?;
    if body.error.is_some_and(|error| !is_null(error)) {
        return Err(End::Failed(error_body::in_stream(json.as_bytes())));
    }
    let items = body.data.ok_or_else(absent)?.into_iter().enumerate();
    let vectors: BTreeMap<usize, Vector<'_>> =
        items.map(|(at, item)| (item.index.unwrap_or(at), Vector::new(item.embedding))).collect();
    Ok(Answer {
        model: body.model.and_then(text).unwrap_or_default(),
        vectors: vectors.into_values().collect(),
        input_tokens: body.usage.and_then(|usage| usage.prompt_tokens),
    })
}

/// Writes a caller's answer.
pub(super) fn reply(reply: &Reply<'_>) -> String {
    let item = |at: usize, vector: &Vector<'_>| {
        let vector =
            if reply.call.echo == BASE64 { vector.base64().into() } else { vector.numbers() };
        format!(r#"{{"object":"embedding","index":{at},"embedding":{vector}}}"#)
    };
    let (data, model, tokens) = (reply.list(item), quoted(reply.model), reply.input_tokens);
    format!(
        r#"{{"object":"list","data":{data},"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#
    )
}
