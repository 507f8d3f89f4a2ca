//! Embeddings: `/api/embed`, and the older `/api/embeddings` for one text, towards both sides.
//!
//! The older path of an upstream is only used for callers of that path.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::body::{parse, refuse};
use crate::chat::{ApiError, End};
use crate::dialect::{Form, Target};
use crate::embeddings::{self, Answer, EmbedRequest, Reply, Truncate, Vector, parsed, written};
use crate::error_body;
use crate::json::{quoted, text};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
    truncate: Option<bool>,
    dimensions: Option<u64>,
}

#[derive(Serialize)]
struct UpstreamBody<'a> {
    model: &'a str,
    input: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
}

#[derive(Deserialize)]
struct OneBody {
    prompt: String,
}

/// Reads a caller's request.
pub(super) fn request(form: Form, body: &str) -> Result<EmbedRequest, ApiError> {
    if form == Form::Embedding {
        let OneBody { prompt } = parse("", body)?;
        if prompt.is_empty() {
            return Err(refuse("prompt", "must hold a text"));
        }
        return Ok(EmbedRequest { inputs: vec![prompt], ..EmbedRequest::default() });
    }
    let Body { input, truncate, dimensions } = parse("", body)?;
    Ok(EmbedRequest {
        inputs: embeddings::texts("input", input)?,
        dimensions,
        truncate: truncate.map(|truncate| if truncate { Truncate::End } else { Truncate::None }),
        ..EmbedRequest::default()
    })
}

/// Writes a request for an upstream.
pub(super) fn write(request: &EmbedRequest, target: &Target<'_>) -> String {
    written(&UpstreamBody {
        model: target.model,
        input: &request.inputs,
        truncate: request.truncate.map(|truncate| truncate != Truncate::None),
        dimensions: request.dimensions,
    })
}

#[derive(Deserialize)]
struct AnswerBody<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    embeddings: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    embedding: Option<&'a RawValue>,
    prompt_eval_count: Option<u64>,
}

/// Reads an upstream's answer of either form.
pub(super) fn answer(json: &str) -> Result<Answer<'_>, End> {
    let body: AnswerBody<'_> = parsed(json)?;
    let vectors = match (body.embeddings, body.embedding) {
        (Some(vectors), _) => vectors,
        (None, Some(vector)) => vec![vector],
        (None, None) => return Err(End::Failed(error_body::in_stream(json.as_bytes()))),
    };
    Ok(Answer {
        model: body.model.and_then(text).unwrap_or_default(),
        vectors: vectors.into_iter().map(Vector::new).collect(),
        input_tokens: body.prompt_eval_count,
    })
}

/// Writes a caller's answer.
pub(super) fn reply(reply: &Reply<'_>) -> String {
    if reply.call.form == Form::Embedding {
        let vector = reply.vectors.first().map(Vector::numbers).unwrap_or_default();
        return format!(r#"{{"embedding":{vector}}}"#);
    }
    let vectors = reply.list(|_, vector| vector.numbers().into_owned());
    let (model, tokens) = (quoted(reply.model), reply.input_tokens);
    format!(
        r#"{{"model":{model},"embeddings":{vectors},"total_duration":0,"load_duration":0,"prompt_eval_count":{tokens}}}"#
    )
}
