//! Request writer for an upstream of this dialect.
//!
//! Fields that this dialect cannot express are rejected by name, with these exceptions, which are dropped:
//! `top_k` (no such parameter here, and callers often set it by default), signatures and sealed reasoning
//! (never for another vendor), the mark that a tool failed (its text contains the error), a reasoning text
//! unless the provider requires it back, and a thinking budget, of which only a rough effort remains.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

use super::ids::fitting;
use super::{answer, hosted_tools};
use crate::chat::{
    ApiError, Document, Format, Image, Kind, Message, Part, Reasoning, Request, Role, Signature,
    Source, Tool, ToolChoice,
};
use crate::dialect::{Quirks, Target};
use crate::json;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Typed<'a, Function<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logit_bias: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    web_search_options: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// `{"type":"function","function":{..}}`.
#[derive(Serialize)]
struct Typed<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    #[serde(rename = "type")]
    kind: &'static str,
    function: T,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Named(Typed<'a, Named<'a>>),
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize, Default)]
struct Turn<'a> {
    role: &'static str,
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Typed<'a, Called<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
    /// The reasoning, under the name and in the form that the provider requires.
    #[serde(flatten)]
    reasoning: BTreeMap<&'a str, Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(String),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
    File { file: File<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct File<'a> {
    filename: Cow<'a, str>,
    file_data: String,
}

/// Writes the whole request.
pub(super) fn request(request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
    let quirks = target.quirks;
    let mut messages = Vec::with_capacity(request.messages.len() + 4);
    for (i, message) in request.messages.iter().enumerate() {
        let path = format!("messages[{i}].content");
        match message.role {
            Role::System => messages.push(system(&path, message)?),
            Role::User => user(&path, message, quirks, &mut messages)?,
            Role::Assistant => messages.push(assistant(&path, message, quirks)?),
        }
    }
    let has_tools = !request.tools.is_empty();
    let body = Body {
        model: target.model,
        messages,
        tools: request.tools.iter().map(tool).collect(),
        tool_choice: request.tool_choice.as_ref().filter(|_| has_tools).map(choice),
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| has_tools),
        max_tokens: request.max_tokens.filter(|_| quirks.legacy_max_tokens),
        max_completion_tokens: request.max_tokens.filter(|_| !quirks.legacy_max_tokens),
        stop: &request.stop,
        temperature: request.temperature,
        top_p: request.top_p,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        seed: request.seed,
        n: request.n,
        logit_bias: request.logit_bias.as_deref(),
        logprobs: request.logprobs,
        top_logprobs: request.top_logprobs,
        response_format: request.format.as_ref().map(format),
        web_search_options: hosted_tools::written(&request.hosted),
        reasoning_effort: request.reasoning.as_ref().and_then(effort),
        user: request.user.as_deref(),
        // Only sent where the newer limit is supported: to the vendor itself and Azure. Others reject
        // unknown fields.
        prompt_cache_key: request.cache_key.as_deref().filter(|_| !quirks.legacy_max_tokens),
        stream: target.stream,
        stream_options: (target.stream && quirks.stream_options)
            .then_some(StreamOptions { include_usage: true }),
    };
    serde_json::to_string(&body).map_err(|_| {
        ApiError::new(Kind::Internal, "the request could not be written for the upstream")
    })
}

fn tool(tool: &Tool) -> Typed<'_, Function<'_>> {
    Typed {
        id: None,
        kind: "function",
        function: Function {
            name: &tool.name,
            description: tool.description.as_deref(),
            parameters: tool.parameters.as_deref(),
            strict: tool.strict,
        },
    }
}

fn choice(choice: &ToolChoice) -> Choice<'_> {
    match choice {
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Named(name) => {
            Choice::Named(Typed { id: None, kind: "function", function: Named { name } })
        }
    }
}

fn format(format: &Format) -> ResponseFormat<'_> {
    match format {
        Format::Json => ResponseFormat { kind: "json_object", json_schema: None },
        Format::Schema { name, schema, strict } => ResponseFormat {
            kind: "json_schema",
            json_schema: Some(JsonSchema {
                name: name.as_deref().unwrap_or("answer"),
                schema,
                strict: *strict,
            }),
        },
    }
}

/// The effort by name, else the level that a budget in tokens roughly amounts to.
fn effort(reasoning: &Reasoning) -> Option<&str> {
    match (reasoning.enabled, &reasoning.effort, reasoning.budget) {
        (Some(false), ..) => Some("none"),
        (_, Some(word), _) => Some(word),
        (_, None, Some(0..=4096)) => Some("low"),
        (_, None, Some(4097..=16384)) => Some("medium"),
        (_, None, Some(_)) => Some("high"),
        (_, None, None) => None,
    }
}

fn misplaced(path: &str, i: usize, who: &str) -> ApiError {
    let path = format!("{path}[{i}]");
    let message =
        format!("`{path}` is of a kind that a {who} message cannot hold for this upstream");
    ApiError::field(path, message)
}

fn system<'a>(path: &str, message: &'a Message) -> Result<Turn<'a>, ApiError> {
    let mut text = Vec::new();
    for (i, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text(piece) => text.push(piece.as_str()),
            Part::Cache(_) => {}
            _ => return Err(misplaced(path, i, "system")),
        }
    }
    Ok(Turn { role: "system", content: Some(Content::Text(text.join("\n\n"))), ..Turn::default() })
}

/// Results of tools come first, each a message of its own. The other parts follow, with the images of
/// results, which a tool message cannot hold.
fn user<'a>(
    path: &str,
    message: &'a Message,
    quirks: &Quirks,
    out: &mut Vec<Turn<'a>>,
) -> Result<(), ApiError> {
    let mut pieces = Vec::new();
    for (i, part) in message.parts.iter().enumerate() {
        let Part::ToolResult { id, parts, .. } = part else {
            continue;
        };
        let path = format!("{path}[{i}].content");
        let mut text = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            match part {
                Part::Text(piece) => text.push(piece.as_str()),
                Part::Cache(_) => {}
                other => pieces.push(piece(&path, i, other)?),
            }
        }
        let content = Some(Content::Text(text.join("\n")));
        let tool_call_id = Some(fitting(id, quirks.call_id_length));
        out.push(Turn { role: "tool", content, tool_call_id, ..Turn::default() });
    }
    let results = message.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }));
    for (i, part) in message.parts.iter().enumerate() {
        if !matches!(part, Part::ToolResult { .. } | Part::Cache(_)) {
            pieces.push(piece(path, i, part)?);
        }
    }
    if pieces.is_empty() && results {
        return Ok(());
    }
    let content = match pieces.as_slice() {
        [] => Content::Text(String::new()),
        [Piece::Text { text }] => Content::Text((*text).to_owned()),
        _ => Content::Parts(pieces),
    };
    out.push(Turn { role: "user", content: Some(content), ..Turn::default() });
    Ok(())
}

fn piece<'a>(path: &str, i: usize, part: &'a Part) -> Result<Piece<'a>, ApiError> {
    match part {
        Part::Text(text) | Part::Document(Document { source: Source::Text(text), .. }) => {
            Ok(Piece::Text { text })
        }
        Part::Image(Image { source: Source::Text(_), .. }) => Err(misplaced(path, i, "user")),
        Part::Image(Image { source, detail }) => Ok(Piece::ImageUrl {
            image_url: ImageUrl { url: url(source), detail: detail.as_deref() },
        }),
        Part::Document(Document { source: Source::Url(_), .. }) => {
            let path = format!("{path}[{i}].source");
            let message =
                format!("`{path}` is an address; this upstream takes documents inline only");
            Err(ApiError::field(path, message))
        }
        Part::Document(document) => {
            let file_data = url(&document.source);
            Ok(Piece::File { file: File { filename: document.file_name(), file_data } })
        }
        _ => Err(misplaced(path, i, "user")),
    }
}

/// The address of a medium, `data:` if it is inline.
fn url(source: &Source) -> String {
    match source {
        Source::Url(text) | Source::Text(text) => text.clone(),
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
    }
}

/// An upstream that requires earlier reasoning under this name takes state of any vendor with it
/// (`OpenRouter`).
const DETAILS: &str = "reasoning_details";

/// Reasoning as a list of texts with their signatures, and of state. `None`: there is none.
fn details(parts: &[Part]) -> Option<String> {
    let mut list = BytesMut::from(&b"["[..]);
    for part in parts {
        let index = u32::from(list.len() > 1);
        let mut entry = BytesMut::new();
        match part {
            Part::Reasoning { text, signature: Some(Signature { value, scheme }) } => {
                answer::signed(text, (value, *scheme), index, &mut entry);
            }
            Part::Reasoning { text, signature: None } if !text.is_empty() => {
                entry.put_slice(br#"{"type":"reasoning.text","#);
                answer::string_member(b"text", text, &mut entry);
                entry.put_u8(b'}');
            }
            Part::RedactedReasoning { data, scheme } => {
                answer::sealed(data, *scheme, index, &mut entry);
            }
            _ => continue,
        }
        if list.len() > 1 {
            list.put_u8(b',');
        }
        list.put_slice(&entry);
    }
    list.put_u8(b']');
    (list.len() > 2).then(|| String::from_utf8_lossy(&list).into_owned())
}

fn assistant<'a>(
    path: &str,
    message: &'a Message,
    quirks: &'a Quirks,
) -> Result<Turn<'a>, ApiError> {
    let mut turn = Turn { role: "assistant", ..Turn::default() };
    let (mut text, mut refusal, mut reasoning) = (String::new(), String::new(), String::new());
    for (i, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text(piece) => text.push_str(piece),
            Part::Refusal(piece) => refusal.push_str(piece),
            Part::Reasoning { text, .. } => reasoning.push_str(text),
            Part::RedactedReasoning { .. } | Part::Cache(_) => {}
            Part::ToolCall { id, name, arguments } => turn.tool_calls.push(Typed {
                id: Some(fitting(id, quirks.call_id_length)),
                kind: "function",
                function: Called { name, arguments: arguments.get() },
            }),
            Part::Image(_)
            | Part::Document(_)
            | Part::Unreadable { .. }
            | Part::Summary(_)
            | Part::ToolResult { .. } => {
                return Err(misplaced(path, i, "assistant"));
            }
        }
    }
    let field = quirks.reasoning_field.as_deref();
    let value = match field {
        Some(DETAILS) => details(&message.parts),
        _ => (!reasoning.is_empty()).then(|| json::quoted(&reasoning)),
    };
    let value = value.and_then(|value| RawValue::from_string(value).ok());
    if let Some((field, value)) = field.zip(value) {
        turn.reasoning.insert(field, value);
    }
    turn.refusal = Some(refusal).filter(|refusal| !refusal.is_empty());
    // Without text, null is for calls and refusals only; other turns must have content.
    let silent = text.is_empty() && !(turn.tool_calls.is_empty() && turn.refusal.is_none());
    turn.content = (!silent).then_some(Content::Text(text));
    Ok(turn)
}
