//! Request reader: a whole request, for translation.
//!
//! An error names the path of the field that is invalid or cannot be translated, and never repeats a value.
//! Dropped, because they only control the vendor's own operation: `priority`, `citation_options` that
//! disable citations, and a `safety_mode` other than the strict one. Dropped and reported to the caller:
//! other `citation_options`, the strict `safety_mode`, `raw_prompting`, and `logprobs`, which this dialect
//! has by token numbers. Documents belong to the last message of the user.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read_turns::{self, MessageBody};
use crate::body::{of_type, optional_object, parse, refuse};
use crate::chat::{ApiError, Format, Reasoning, Request, Tool, ToolChoice};

type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<MessageBody<'a>>,
    #[serde(borrow)]
    tools: Option<Vec<ToolBody<'a>>>,
    strict_tools: Option<bool>,
    tool_choice: Option<String>,
    #[serde(borrow)]
    documents: Option<Vec<&'a RawValue>>,
    citation_options: Option<CitationOptions>,
    safety_mode: Option<String>,
    raw_prompting: Option<bool>,
    response_format: Option<FormatBody>,
    max_tokens: Option<u64>,
    stop_sequences: Option<Vec<String>>,
    temperature: Option<f64>,
    p: Option<f64>,
    k: Option<u64>,
    seed: Option<i64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logprobs: Option<bool>,
    thinking: Option<ThinkingBody>,
}

#[derive(Deserialize)]
struct CitationOptions {
    mode: Option<String>,
}

#[derive(Deserialize)]
struct ThinkingBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    token_budget: Option<u64>,
}

#[derive(Deserialize)]
struct FormatBody {
    #[serde(rename = "type")]
    kind: String,
    /// `schema` is its original name.
    #[serde(default, alias = "schema", deserialize_with = "optional_object")]
    json_schema: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ToolBody<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    function: Raw<'a>,
}

#[derive(Deserialize)]
struct FunctionBody {
    name: String,
    description: Option<String>,
    #[serde(default, deserialize_with = "optional_object")]
    parameters: Option<Box<RawValue>>,
}

/// Reads the whole request.
pub(super) fn request(json: &str) -> Result<Request, ApiError> {
    let body: Body<'_> = parse("", json)?;
    let untranslatable = untranslatable(&body);
    let mut messages = read_turns::messages(body.messages)?;
    let documents = body.documents.unwrap_or_default().into_iter().enumerate();
    let documents = documents.map(|(i, raw)| read_turns::document(&format!("documents[{i}]"), raw));
    read_turns::show(documents.collect::<Result<_, _>>()?, &mut messages);
    Ok(Request {
        messages,
        tools: tools(body.tools.unwrap_or_default(), body.strict_tools)?,
        tool_choice: body.tool_choice.as_deref().map(tool_choice).transpose()?,
        max_tokens: body.max_tokens,
        stop: body.stop_sequences.unwrap_or_default(),
        temperature: body.temperature,
        top_p: body.p,
        // 0 switches it off.
        top_k: body.k.filter(|k| *k > 0),
        presence_penalty: body.presence_penalty,
        frequency_penalty: body.frequency_penalty,
        seed: body.seed,
        format: body.response_format.map(format).transpose()?.flatten(),
        reasoning: body.thinking.map(|thinking| Reasoning {
            enabled: Some(thinking.kind.as_deref() != Some("disabled")),
            effort: None,
            budget: thinking.token_budget,
        }),
        untranslatable,
        ..Request::default()
    })
}

/// The hints that no other dialect has.
fn untranslatable(body: &Body<'_>) -> Vec<&'static str> {
    let is = |word: Option<&str>, words: &[&str]| {
        word.is_some_and(|word| words.iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    let cites = body.citation_options.as_ref().and_then(|options| options.mode.as_deref());
    let hints = [
        ("citation_options", cites.is_some() && !is(cites, &["off", "disabled"])),
        ("safety_mode", is(body.safety_mode.as_deref(), &["strict"])),
        ("raw_prompting", body.raw_prompting == Some(true)),
        ("logprobs", body.logprobs == Some(true)),
    ];
    hints.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect()
}

fn tools(bodies: Vec<ToolBody<'_>>, strict: Option<bool>) -> Result<Vec<Tool>, ApiError> {
    let read = |(i, body): (usize, ToolBody<'_>)| {
        let path = format!("tools[{i}]");
        if let Some(kind) = body.kind.as_deref().filter(|kind| *kind != "function") {
            let what = "cannot be translated; only functions can";
            return Err(refuse(&path, &format!("{}{what}", of_type(kind))));
        }
        let path = format!("{path}.function");
        let raw = body.function.ok_or_else(|| refuse(&path, "is missing"))?;
        let function: FunctionBody = parse(&path, raw.get())?;
        Ok(Tool {
            name: function.name,
            description: function.description,
            parameters: function.parameters,
            strict: strict.filter(|strict| *strict),
            cache: None,
        })
    };
    bodies.into_iter().enumerate().map(read).collect()
}

fn tool_choice(word: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "REQUIRED" => Ok(ToolChoice::Required),
        "NONE" => Ok(ToolChoice::None),
        _ => Err(refuse("tool_choice", "must be \"REQUIRED\" or \"NONE\"")),
    }
}

fn format(body: FormatBody) -> Result<Option<Format>, ApiError> {
    match (body.kind.as_str(), body.json_schema) {
        ("text", _) => Ok(None),
        ("json_object", None) => Ok(Some(Format::Json)),
        ("json_object", Some(schema)) => {
            Ok(Some(Format::Schema { name: None, schema, strict: None }))
        }
        _ => Err(refuse("response_format.type", "must be \"text\" or \"json_object\"")),
    }
}
