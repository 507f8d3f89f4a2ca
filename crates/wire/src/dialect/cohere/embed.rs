//! Embeddings: `/v2/embed`, read and written towards both sides.
//!
//! Images, and vectors of other types than floats, are never translated: no other vendor has them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::body::{parse, refuse};
use crate::chat::{ApiError, End};
use crate::dialect::Target;
use crate::embeddings::{
    self, Answer, EmbedRequest, InputType, Reply, Truncate, Vector, absent, parsed, written,
};
use crate::json::{Members, is_unsaid, quoted};

/// Its path, at callers and at upstreams.
pub(super) const PATH: &str = "/v2/embed";

const FLOAT: &str = "float";
const BASE64: &str = "base64";

#[derive(Deserialize)]
struct Body<'a> {
    input_type: Purpose,
    #[serde(borrow)]
    texts: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<Vec<Input<'a>>>,
    embedding_types: Option<Vec<String>>,
    output_dimension: Option<u64>,
    truncate: Option<Cut>,
}

#[derive(Serialize)]
struct UpstreamBody<'a> {
    model: &'a str,
    texts: &'a [String],
    input_type: Purpose,
    embedding_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<Cut>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    content: Vec<Content<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    text: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Purpose {
    SearchDocument,
    SearchQuery,
    Classification,
    Clustering,
    Image,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Cut {
    None,
    Start,
    End,
}

/// Reads a caller's request.
pub(super) fn request(body: &str) -> Result<EmbedRequest, ApiError> {
    let members = Members::parse(body).unwrap_or_default();
    for name in ["images", "max_tokens"] {
        if !is_unsaid(&members, name) {
            let what = "has no counterpart at this model's provider; leave it out";
            return Err(refuse(name, what));
        }
    }
    let body: Body<'_> = parse("", body)?;
    let types = body.embedding_types.unwrap_or_default();
    if let Some(at) = types.iter().position(|kind| ![FLOAT, BASE64].contains(&kind.as_str())) {
        let what = "must be `float` or `base64`: this model's provider has no other vectors";
        return Err(refuse(&format!("embedding_types[{at}]"), what));
    }
    let input_type = match body.input_type {
        Purpose::SearchDocument => InputType::Document,
        Purpose::SearchQuery => InputType::Query,
        Purpose::Classification => InputType::Classification,
        Purpose::Clustering => InputType::Clustering,
        Purpose::Image => {
            return Err(refuse(
                "input_type",
                "asks for images, and this model's provider embeds text only",
            ));
        }
    };
    let truncate = body.truncate.map(|cut| match cut {
        Cut::None => Truncate::None,
        Cut::Start => Truncate::Start,
        Cut::End => Truncate::End,
    });
    let inputs = match (body.texts, body.inputs) {
        (Some(_), Some(_)) => return Err(refuse("inputs", "must not be given beside `texts`")),
        (Some(texts), None) if texts.get().starts_with('[') => embeddings::texts("texts", texts)?,
        (Some(_), None) => return Err(refuse("texts", "must be an array of strings")),
        (None, Some(inputs)) => mixed(&inputs)?,
        (None, None) => return Err(refuse("texts", "is missing: say what is to be embedded")),
    };
    let dimensions = body.output_dimension;
    let input_type = Some(input_type);
    Ok(EmbedRequest { inputs, dimensions, input_type, truncate, ..EmbedRequest::default() })
}

/// The texts of inputs that might also hold images.
fn mixed(inputs: &[Input<'_>]) -> Result<Vec<String>, ApiError> {
    if inputs.is_empty() {
        return Err(refuse("inputs", "must hold at least one text"));
    }
    let one = |(at, input): (usize, &Input<'_>)| {
        let part = |(number, part): (usize, &Content<'_>)| match (&*part.kind, &part.text) {
            ("text", Some(text)) => Ok(text.clone()),
            ("text", None) => {
                Err(refuse(&format!("inputs[{at}].content[{number}].text"), "is missing"))
            }
            _ => {
                let what = "is no text, and this model's provider embeds text only";
                Err(refuse(&format!("inputs[{at}].content[{number}]"), what))
            }
        };
        let parts: Result<Vec<String>, ApiError> =
            input.content.iter().enumerate().map(part).collect();
        let parts = parts?;
        if parts.is_empty() {
            return Err(refuse(&format!("inputs[{at}].content"), "must hold a text"));
        }
        Ok(parts.join("\n"))
    };
    inputs.iter().enumerate().map(one).collect()
}

/// The members of a request that its answer repeats: the texts, and the types of vectors.
pub(super) fn echo(body: &str) -> String {
    let members = Members::parse(body).unwrap_or_default();
    let own = |name| members.get(name).map_or("null", RawValue::get);
    format!(r#"{{"texts":{},"embedding_types":{}}}"#, own("texts"), own("embedding_types"))
}

/// Writes a request for an upstream. The vendor requires the purpose of the vectors; if the caller does not
/// set it, it is documents.
pub(super) fn write(request: &EmbedRequest, target: &Target<'_>) -> String {
    let input_type = match request.input_type {
        Some(InputType::Query) => Purpose::SearchQuery,
        Some(InputType::Classification) => Purpose::Classification,
        Some(InputType::Clustering) => Purpose::Clustering,
        Some(InputType::Document | InputType::Similarity) | None => Purpose::SearchDocument,
    };
    written(&UpstreamBody {
        model: target.model,
        texts: &request.inputs,
        input_type,
        embedding_types: [FLOAT],
        output_dimension: request.dimensions,
        truncate: request.truncate.map(|truncate| match truncate {
            Truncate::None => Cut::None,
            Truncate::Start => Cut::Start,
            Truncate::End => Cut::End,
        }),
    })
}

#[derive(Deserialize)]
struct AnswerBody<'a> {
    #[serde(borrow)]
    embeddings: Option<Typed<'a>>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    float: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    base64: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Units>,
    tokens: Option<Units>,
}

#[derive(Deserialize)]
struct Units {
    /// The vendor counts in floats.
    input_tokens: Option<f64>,
}

/// Reads an upstream's answer. One without floats is whole, too, to callers of this dialect.
pub(super) fn answer(json: &str) -> Result<Answer<'_>, End> {
    let body: AnswerBody<'_> = parsed(json)?;
    let Typed { float, base64 } = body.embeddings.ok_or_else(absent)?;
    let vectors = float.or(base64).unwrap_or_default();
    let units = body.meta.and_then(|meta| meta.billed_units.or(meta.tokens));
    let tokens = units.and_then(|units| units.input_tokens).filter(|tokens| *tokens >= 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let input_tokens = tokens.map(|tokens| tokens as u64);
    let vectors = vectors.into_iter().map(Vector::new).collect();
    Ok(Answer { model: std::borrow::Cow::Borrowed(""), vectors, input_tokens })
}

#[derive(Deserialize)]
struct Echo<'a> {
    #[serde(borrow)]
    texts: &'a RawValue,
    embedding_types: Option<Vec<String>>,
}

/// Writes a caller's answer.
pub(super) fn reply(reply: &Reply<'_>) -> String {
    let echo = serde_json::from_str::<Echo<'_>>(&reply.call.echo).ok();
    let texts = echo.as_ref().map_or("null", |echo| echo.texts.get());
    let texts = if texts == "null" { "[]" } else { texts };
    let types = echo.as_ref().and_then(|echo| echo.embedding_types.clone()).unwrap_or_default();
    let mut vectors = Vec::new();
    if types.is_empty() || types.iter().any(|kind| kind == FLOAT) {
        let list = reply.list(|_, vector| vector.numbers().into_owned());
        vectors.push(format!(r#""float":{list}"#));
    }
    if types.iter().any(|kind| kind == BASE64) {
        vectors.push(format!(r#""base64":{}"#, reply.list(|_, vector| vector.base64())));
    }
    let (id, vectors, tokens) = (quoted(&reply.call.id), vectors.join(","), reply.input_tokens);
    format!(
        r#"{{"id":{id},"embeddings":{{{vectors}}},"texts":{texts},"meta":{{"api_version":{{"version":"2"}},"billed_units":{{"input_tokens":{tokens}}}}},"response_type":"embeddings_by_type"}}"#
    )
}
