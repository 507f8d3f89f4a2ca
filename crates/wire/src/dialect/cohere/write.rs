//! Request writer for an upstream of this dialect.
//!
//! Fields that this dialect cannot express are rejected by name, with these exceptions, which are dropped:
//! signatures and sealed reasoning (never for another vendor), a reasoning text except for the plan before
//! a call, the mark that a tool failed (its text contains the error), a schema's name, the user's
//! identifier, and the reasoning effort, of which only on or off remains. A `top_p` of 1, which many
//! clients send and which means no limit, becomes the maximum that is allowed here.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::body::refuse;
use crate::chat::{
    ApiError, Document, Format, Image, Kind, Message, Part, Reasoning, Request, Role, Source, Tool,
    ToolChoice,
};
use crate::dialect::Target;

/// The largest `p` that the vendor takes.
const MAX_P: f64 = 0.99;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Typed<'a, Function<'a>>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict_tools: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    stream: bool,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_budget: Option<u64>,
}

/// `{"type":"function","function":{..}}`.
#[derive(Serialize)]
struct Typed<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
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
}

#[derive(Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize, Default)]
struct Turn<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    tool_plan: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Typed<'a, Called<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
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
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// Writes the whole request.
pub(super) fn request(request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
    refuse_unsayable(request)?;
    let mut messages = Vec::with_capacity(request.messages.len() + 4);
    for (i, message) in request.messages.iter().enumerate() {
        let path = format!("messages[{i}].content");
        match message.role {
            Role::System => messages.push(system(&path, message)?),
            Role::User => user(&path, message, &mut messages)?,
            Role::Assistant => messages.push(assistant(&path, message)?),
        }
    }
    let has_tools = !request.tools.is_empty();
    let body = Body {
        model: target.model,
        messages,
        tools: request.tools.iter().map(tool).collect(),
        strict_tools: has_tools && request.tools.iter().all(|tool| tool.strict == Some(true)),
        tool_choice: match &request.tool_choice {
            Some(ToolChoice::Required) if has_tools => Some("REQUIRED"),
            Some(ToolChoice::None) if has_tools => Some("NONE"),
            _ => None,
        },
        max_tokens: request.max_tokens,
        stop_sequences: &request.stop,
        temperature: request.temperature,
        p: request.top_p.map(|p| p.min(MAX_P)),
        k: request.top_k,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        seed: request.seed,
        logprobs: request.logprobs,
        response_format: request.format.as_ref().map(format),
        thinking: request.reasoning.as_ref().map(thinking),
        stream: target.stream,
    };
    serde_json::to_string(&body).map_err(|_| {
        ApiError::new(Kind::Internal, "the request could not be written for the upstream")
    })
}

fn refuse_unsayable(request: &Request) -> Result<(), ApiError> {
    let refused = [
        ("n", request.n.is_some_and(|n| n > 1), "must be 1: this upstream gives one answer"),
        ("logit_bias", request.logit_bias.is_some(), "has no equivalent at this upstream"),
    ];
    match refused.iter().find(|(_, present, _)| *present) {
        Some((name, _, why)) => Err(refuse(name, why)),
        None => Ok(()),
    }
}

fn tool(tool: &Tool) -> Typed<'_, Function<'_>> {
    let function = Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: tool.parameters.as_deref(),
    };
    Typed { id: None, kind: "function", function }
}

fn format(format: &Format) -> ResponseFormat<'_> {
    let json_schema = match format {
        Format::Json => None,
        Format::Schema { schema, .. } => Some(&**schema),
    };
    ResponseFormat { kind: "json_object", json_schema }
}

fn thinking(reasoning: &Reasoning) -> Thinking {
    let off = reasoning.enabled == Some(false) || reasoning.effort.as_deref() == Some("none");
    if off {
        return Thinking { kind: "disabled", token_budget: None };
    }
    Thinking { kind: "enabled", token_budget: reasoning.budget }
}

fn misplaced(path: &str, i: usize, who: &str) -> ApiError {
    refuse(&format!("{path}[{i}]"), &format!("is of a kind that a {who} message cannot hold here"))
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
    let content = Some(Content::Text(text.join("\n\n")));
    Ok(Turn { role: "system", content, ..Turn::default() })
}

/// Results of tools come first, each a message of its own. The other parts follow, with the images of
/// results, which a tool message cannot hold.
fn user<'a>(path: &str, message: &'a Message, out: &mut Vec<Turn<'a>>) -> Result<(), ApiError> {
    let mut pieces = Vec::new();
    let mut results = false;
    for (i, part) in message.parts.iter().enumerate() {
        let Part::ToolResult { id, parts, .. } = part else { continue };
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
        out.push(Turn { role: "tool", content, tool_call_id: Some(id), ..Turn::default() });
        results = true;
    }
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
    let url = match part {
        Part::Text(text) | Part::Document(Document { source: Source::Text(text), .. }) => {
            return Ok(Piece::Text { text });
        }
        Part::Image(Image { source: Source::Url(url), .. }) => url.clone(),
        Part::Image(Image { source: Source::Base64 { media_type, data }, .. }) => {
            format!("data:{media_type};base64,{data}")
        }
        Part::Document(_) => {
            let what = "is a document; this upstream takes text and images only";
            return Err(refuse(&format!("{path}[{i}]"), what));
        }
        _ => return Err(misplaced(path, i, "user")),
    };
    let detail = if let Part::Image(image) = part { image.detail.as_deref() } else { None };
    Ok(Piece::ImageUrl { image_url: ImageUrl { url, detail } })
}

fn assistant<'a>(path: &str, message: &'a Message) -> Result<Turn<'a>, ApiError> {
    let mut turn = Turn { role: "assistant", ..Turn::default() };
    let (mut text, mut plan) = (String::new(), String::new());
    for (i, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text(piece) | Part::Refusal(piece) => text.push_str(piece),
            Part::Reasoning { text, .. } => plan.push_str(text),
            Part::RedactedReasoning { .. } | Part::Cache(_) => {}
            Part::ToolCall { id, name, arguments } => turn.tool_calls.push(Typed {
                id: Some(id),
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
    if !turn.tool_calls.is_empty() {
        turn.tool_plan = plan;
    }
    let silent = text.is_empty() && !turn.tool_calls.is_empty();
    turn.content = (!silent).then_some(Content::Text(text));
    Ok(turn)
}
