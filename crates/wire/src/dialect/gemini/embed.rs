//! Embeddings: `embedContent` for one text and `batchEmbedContents` for several, towards both sides.
//!
//! One upstream request holds all texts. Media are never translated: other vendors embed text.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error;
use super::path::bare;
use super::request::parse;
use crate::body::refuse;
use crate::chat::{ApiError, End};
use crate::dialect::{Form, Target};
use crate::embeddings::{Answer, EmbedRequest, InputType, Reply, Vector, absent, parsed, written};
use crate::json::{Members, is_null, text};

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    requests: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(alias = "task_type")]
    task_type: Option<TaskType>,
    title: Option<String>,
    #[serde(alias = "output_dimensionality")]
    output_dimensionality: Option<u64>,
    #[serde(borrow, alias = "embed_content_config")]
    embed_content_config: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TaskType {
    #[serde(rename = "TASK_TYPE_UNSPECIFIED")]
    Unspecified,
    RetrievalQuery,
    RetrievalDocument,
    SemanticSimilarity,
    Classification,
    Clustering,
    QuestionAnswering,
    FactVerification,
    CodeRetrievalQuery,
}

impl TaskType {
    fn input_type(&self) -> Option<InputType> {
        match self {
            Self::Unspecified => None,
            // Questions, claims to verify and searches are all queries for documents.
            Self::RetrievalQuery
            | Self::QuestionAnswering
            | Self::FactVerification
            | Self::CodeRetrievalQuery => Some(InputType::Query),
            Self::RetrievalDocument => Some(InputType::Document),
            Self::SemanticSimilarity => Some(InputType::Similarity),
            Self::Classification => Some(InputType::Classification),
            Self::Clustering => Some(InputType::Clustering),
        }
    }
}

/// Reads a caller's request.
pub(super) fn request(form: Form, body: &str) -> Result<EmbedRequest, ApiError> {
    if form == Form::Embedding {
        return one("", body);
    }
    let Batch { requests } = parse(body, "")?;
    let mut all = EmbedRequest::default();
    for (at, request) in requests.iter().enumerate() {
        let path = format!("requests[{at}]");
        let mut request = one(&path, request.get())?;
        let mut inputs = std::mem::take(&mut all.inputs);
        inputs.append(&mut request.inputs);
        // A title belongs to one text, and is only a hint.
        request.title = request.title.or_else(|| all.title.take());
        let same = (all.dimensions, all.input_type) == (request.dimensions, request.input_type);
        if at > 0 && !same {
            let what = "must have the `taskType` and the `outputDimensionality` of the first one: this model's provider takes one for all";
            return Err(refuse(&path, what));
        }
        all = EmbedRequest { inputs, ..request };
    }
    if all.inputs.is_empty() {
        return Err(refuse("requests", "must hold at least one text"));
    }
    Ok(all)
}

fn one(path: &str, body: &str) -> Result<EmbedRequest, ApiError> {
    let One { content, task_type, title, output_dimensionality, embed_content_config } =
        parse(body, path)?;
    let dot = if path.is_empty() { "" } else { "." };
    if embed_content_config.is_some_and(|config| !is_null(config)) {
        let what = "has no counterpart at this model's provider; say `taskType` and `outputDimensionality`";
        return Err(refuse(&format!("{path}{dot}embedContentConfig"), what));
    }
    let at = format!("{path}{dot}content");
    let parts = parse::<Content<'_>>(content.get(), &at)?.parts;
    if parts.is_empty() {
        return Err(refuse(&format!("{at}.parts"), "must hold a text"));
    }
    let text = |(number, part): (usize, &&RawValue)| {
        let said = Members::parse(part.get()).ok().and_then(|members| members.get("text"));
        said.and_then(text).map(Cow::into_owned).ok_or_else(|| {
            let what = "is no text, and this model's provider embeds text only";
            refuse(&format!("{at}.parts[{number}]"), what)
        })
    };
    let texts: Vec<String> = parts.iter().enumerate().map(text).collect::<Result<_, _>>()?;
    Ok(EmbedRequest {
        inputs: vec![texts.join("\n")],
        dimensions: output_dimensionality,
        input_type: task_type.and_then(|task| task.input_type()),
        title,
        ..EmbedRequest::default()
    })
}

/// Writes a request for an upstream.
pub(super) fn write(request: &EmbedRequest, target: &Target<'_>) -> String {
    let task_type = request.input_type.map(|kind| match kind {
        InputType::Query => "RETRIEVAL_QUERY",
        InputType::Document => "RETRIEVAL_DOCUMENT",
        InputType::Classification => "CLASSIFICATION",
        InputType::Clustering => "CLUSTERING",
        InputType::Similarity => "SEMANTIC_SIMILARITY",
    });
    let model = format!("models/{}", bare(target.model));
    let one = |text| UpstreamRequest {
        model: &model,
        content: UpstreamContent { parts: [UpstreamPart { text }] },
        task_type,
        output_dimensionality: request.dimensions,
    };
    written(&UpstreamBatch {
        requests: request.inputs.iter().map(String::as_str).map(one).collect(),
    })
}

#[derive(Serialize)]
struct UpstreamBatch<'a> {
    requests: Vec<UpstreamRequest<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UpstreamRequest<'a> {
    model: &'a str,
    content: UpstreamContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
}

#[derive(Serialize)]
struct UpstreamContent<'a> {
    parts: [UpstreamPart<'a>; 1],
}

#[derive(Serialize)]
struct UpstreamPart<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerBody<'a> {
    #[serde(borrow)]
    embedding: Option<Embedding<'a>>,
    #[serde(borrow)]
    embeddings: Option<Vec<Embedding<'a>>>,
    usage_metadata: Option<UsageMetadata>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Embedding<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageMetadata {
    prompt_token_count: Option<u64>,
}

/// Reads an upstream's answer of either form. Most models do not count.
pub(super) fn answer(json: &str) -> Result<Answer<'_>, End> {
    let body: AnswerBody<'_> = parsed(json)?;
    if body.error.is_some() {
        return Err(error::in_stream(json).map_or_else(absent, End::Failed));
    }
    let vectors = match (body.embeddings, body.embedding) {
        (Some(vectors), _) => vectors,
        (None, Some(vector)) => vec![vector],
        (None, None) => return Err(absent()),
    };
    Ok(Answer {
        model: Cow::Borrowed(""),
        vectors: vectors.iter().map(|vector| Vector::new(vector.values)).collect(),
        input_tokens: body.usage_metadata.and_then(|usage| usage.prompt_token_count),
    })
}

/// Writes a caller's answer.
pub(super) fn reply(reply: &Reply<'_>) -> String {
    let values = |vector: &Vector<'_>| format!(r#"{{"values":{}}}"#, vector.numbers());
    if reply.call.form == Form::Embedding {
        let vector = reply.vectors.first().map(values).unwrap_or_default();
        return format!(r#"{{"embedding":{vector}}}"#);
    }
    format!(r#"{{"embeddings":{}}}"#, reply.list(|_, vector| values(vector)))
}
