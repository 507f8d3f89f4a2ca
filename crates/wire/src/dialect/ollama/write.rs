//! Request writer for an upstream of this dialect, always for `/api/chat`.
//!
//! Fields that this dialect cannot express are rejected by name, with these exceptions, which are dropped:
//! signatures and sealed reasoning (never for another vendor), the mark that a tool failed (its text
//! contains the error),
//! `strict` of tools and schemas, a schema's name, an image's detail and the user's identifier. Of a
//! thinking budget only a rough effort remains.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::body::refuse;
use crate::chat::{
    ApiError, Document, Format, Image, Kind, Message, Part, Reasoning, Request, Role, Source, Tool,
    ToolChoice,
};
use crate::dialect::Target;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Shape<'a>>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Think>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    stream: bool,
}

#[derive(Serialize, Default, PartialEq)]
struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
}

impl Options<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shape<'a> {
    Word(&'static str),
    Schema(&'a RawValue),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think {
    Whether(bool),
    Level(&'static str),
}

#[derive(Serialize)]
struct ToolBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
}

#[derive(Serialize, Default)]
struct Turn<'a> {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct CallBody<'a> {
    id: &'a str,
    function: Called<'a>,
}

#[derive(Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

/// Writes the whole request.
pub(super) fn request(request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
    refuse_unsayable(request)?;
    let mut messages = Vec::with_capacity(request.messages.len() + 4);
    // The names of the tools, by the ids of their calls so far.
    let mut called = HashMap::new();
    for (i, message) in request.messages.iter().enumerate() {
        let path = format!("messages[{i}].content");
        match message.role {
            Role::System => messages.push(spoken("system", &path, message)?),
            Role::User => user(&path, message, &called, &mut messages)?,
            Role::Assistant => messages.push(assistant(&path, message)?),
        }
        called.extend(message.parts.iter().filter_map(|part| match part {
            Part::ToolCall { id, name, .. } => Some((id.as_str(), name.as_str())),
            _ => None,
        }));
    }
    // The vendor has no choice of no tool, so the tools are left out.
    let offered = request.tool_choice != Some(ToolChoice::None);
    let body = Body {
        model: target.model,
        messages,
        tools: request.tools.iter().filter(|_| offered).map(tool).collect(),
        format: request.format.as_ref().map(format),
        options: Options {
            num_predict: request.max_tokens,
            stop: &request.stop,
            temperature: request.temperature,
            top_p: request.top_p,
            top_k: request.top_k,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            seed: request.seed,
        },
        think: request.reasoning.as_ref().and_then(think),
        logprobs: request.logprobs,
        top_logprobs: request.top_logprobs,
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

fn tool(tool: &Tool) -> ToolBody<'_> {
    let function = Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: tool.parameters.as_deref(),
    };
    ToolBody { kind: "function", function }
}

fn format(format: &Format) -> Shape<'_> {
    match format {
        Format::Json => Shape::Word("json"),
        Format::Schema { schema, .. } => Shape::Schema(schema),
    }
}

/// The effort by name, else the level that a budget in tokens roughly amounts to.
fn think(reasoning: &Reasoning) -> Option<Think> {
    match (reasoning.enabled, reasoning.effort.as_deref(), reasoning.budget) {
        (Some(false), ..) | (_, Some("none"), _) => Some(Think::Whether(false)),
        (_, Some("minimal" | "low"), _) | (_, None, Some(0..=4096)) => Some(Think::Level("low")),
        (_, Some("medium"), _) | (_, None, Some(4097..=16384)) => Some(Think::Level("medium")),
        (_, Some("xhigh" | "max"), _) => Some(Think::Level("max")),
        (_, Some("high"), _) | (_, None, Some(_)) => Some(Think::Level("high")),
        (Some(true), ..) | (_, Some(_), _) => Some(Think::Whether(true)),
        (None, None, None) => None,
    }
}

fn misplaced(path: &str, i: usize, who: &str) -> ApiError {
    refuse(&format!("{path}[{i}]"), &format!("is of a kind that a {who} message cannot hold here"))
}

/// Text and images of one message.
fn spoken<'a>(role: &'static str, path: &str, message: &'a Message) -> Result<Turn<'a>, ApiError> {
    let mut turn = Turn { role, ..Turn::default() };
    for (i, part) in message.parts.iter().enumerate() {
        if !matches!(part, Part::ToolResult { .. } | Part::Cache(_)) {
            add((role, path, i), part, &mut turn)?;
        }
    }
    Ok(turn)
}

fn add<'a>(
    (role, path, i): (&'static str, &str, usize),
    part: &'a Part,
    turn: &mut Turn<'a>,
) -> Result<(), ApiError> {
    match part {
        Part::Text(text) | Part::Document(Document { source: Source::Text(text), .. }) => {
            if !turn.content.is_empty() {
                turn.content.push_str("\n\n");
            }
            turn.content.push_str(text);
            Ok(())
        }
        Part::Image(Image { source: Source::Base64 { data, .. }, .. }) => {
            turn.images.push(data);
            Ok(())
        }
        Part::Image(_) => Err(refuse(
            &format!("{path}[{i}]"),
            "is the address of an image; this upstream takes images inline only, in base64",
        )),
        Part::Document(_) => Err(refuse(
            &format!("{path}[{i}]"),
            "is a document; this upstream takes text and images only",
        )),
        _ => Err(misplaced(path, i, role)),
    }
}

/// Results of tools come first, each a message of its own. The other parts follow.
fn user<'a>(
    path: &str,
    message: &'a Message,
    called: &HashMap<&str, &'a str>,
    out: &mut Vec<Turn<'a>>,
) -> Result<(), ApiError> {
    let mut results = false;
    for (i, part) in message.parts.iter().enumerate() {
        let Part::ToolResult { id, parts, .. } = part else { continue };
        let path = format!("{path}[{i}].content");
        let mut turn = Turn { role: "tool", tool_call_id: Some(id), ..Turn::default() };
        for (i, part) in parts.iter().enumerate() {
            if !matches!(part, Part::Cache(_)) {
                add(("tool", &path, i), part, &mut turn)?;
            }
        }
        turn.tool_name = called.get(id.as_str()).copied();
        out.push(turn);
        results = true;
    }
    let turn = spoken("user", path, message)?;
    if !results || !turn.content.is_empty() || !turn.images.is_empty() {
        out.push(turn);
    }
    Ok(())
}

fn assistant<'a>(path: &str, message: &'a Message) -> Result<Turn<'a>, ApiError> {
    let mut turn = Turn { role: "assistant", ..Turn::default() };
    for (i, part) in message.parts.iter().enumerate() {
        match part {
            Part::Text(text) | Part::Refusal(text) => turn.content.push_str(text),
            Part::Reasoning { text, .. } => turn.thinking.push_str(text),
            Part::RedactedReasoning { .. } | Part::Cache(_) => {}
            Part::ToolCall { id, name, arguments } => {
                turn.tool_calls.push(CallBody { id, function: Called { name, arguments } });
            }
            Part::Image(_)
            | Part::Document(_)
            | Part::Unreadable { .. }
            | Part::Summary(_)
            | Part::ToolResult { .. } => {
                return Err(misplaced(path, i, "assistant"));
            }
        }
    }
    Ok(turn)
}
