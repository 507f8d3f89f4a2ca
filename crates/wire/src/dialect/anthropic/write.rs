//! Request writer: requests from callers of another dialect.
//!
//! Rejected by name, because the answer would not match the request: `n` above 1, `logit_bias`, arguments
//! that are no object, media in places that take none. Dropped, because they only influence the sampling
//! and the vendor has no equivalent: `seed`, the presence and frequency penalties, an image's `detail`;
//! also the sampling parameters that the model does not take, which are listed in `claude.rs`. A request
//! for any JSON object becomes an instruction, since the vendor can only enforce schemas.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::hosted_tools;
use super::write_turns::{Block, CacheControl, Turn, turns};
use crate::chat::{ApiError, Format, Kind, Request, Tool, ToolChoice};
use crate::claude::{self, Thinking};
use crate::codec::unsupported;
use crate::dialect::Target;
use crate::json::{Members, edit};

/// The limit on output, in tokens, for an unknown model; this dialect requires one.
const DEFAULT_MAX_TOKENS: u64 = 32_000;
/// Instruction that replaces `response_format: json_object`.
const JSON_ONLY: &str = "Respond with a single JSON object only.";

#[derive(Debug, Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Declared<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Declared<'a> {
    Function(Function<'a>),
    Hosted(serde_json::Value),
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl<'a>>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Debug, Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Schema<'a>>,
}

#[derive(Debug, Serialize)]
struct Schema<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

/// Writes a request.
pub(super) fn encode_request(request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
    unsupported::reject_choices_and_bias(request)?;
    let (mut system, messages) = turns(&request.messages)?;
    if matches!(request.format, Some(Format::Json)) {
        system.push(Block::text(JSON_ONLY));
    }
    let claude::ClaudeParams { max_tokens, thinking, effort, temperature, top_p, top_k } =
        claude::ask(request, target.model);
    let format = match &request.format {
        Some(Format::Schema { schema, .. }) => {
            Some(Schema { kind: "json_schema", schema: schema.as_ref() })
        }
        Some(Format::Json) | None => None,
    };
    let functions = request.tools.iter().map(|tool| function(tool).map(Declared::Function));
    let hosted = request.hosted.iter().filter_map(hosted_tools::written).map(Declared::Hosted);
    let body = Body {
        model: target.model,
        max_tokens: max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        stream: target.stream,
        system,
        messages,
        tools: functions.chain(hosted.map(Ok)).collect::<Result<_, _>>()?,
        tool_choice: tool_choice(request),
        stop_sequences: &request.stop,
        temperature,
        top_p,
        top_k,
        thinking,
        output_config: (effort.is_some() || format.is_some())
            .then_some(OutputConfig { effort, format }),
        metadata: request.user.as_deref().map(|user_id| Metadata { user_id }),
    };
    serde_json::to_string(&body).map_err(|_| {
        ApiError::new(Kind::Internal, "the request could not be written for the upstream")
    })
}

fn function(tool: &Tool) -> Result<Function<'_>, ApiError> {
    let none = || RawValue::from_string(r#"{"type":"object","properties":{}}"#.to_owned());
    let schema = match tool.parameters.as_deref() {
        None => none().map(Cow::Owned),
        // The vendor requires `type`, which other vendors imply.
        Some(schema) => match Members::parse(schema.get()) {
            Ok(members) if members.get("type").is_some() => Ok(Cow::Borrowed(schema)),
            Ok(_) => edit(schema.get(), &[("type", Some(r#""object""#))])
                .and_then(RawValue::from_string)
                .map(Cow::Owned),
            Err(error) => Err(error),
        },
    };
    let input_schema = schema.map_err(|_| {
        ApiError::field("tools", "the parameters of a tool must be a JSON Schema object")
    })?;
    let description = tool.description.as_deref();
    let cache_control = tool.cache.as_ref().map(CacheControl::new);
    let strict = tool.strict;
    Ok(Function { name: &tool.name, description, input_schema, strict, cache_control })
}

/// A choice is only written beside tools. Forbidding parallel calls requires one.
fn tool_choice(request: &Request) -> Option<Choice<'_>> {
    if !request.has_tools() {
        return None;
    }
    let disable_parallel_tool_use = request.parallel_tool_calls.filter(|on| !on).map(|on| !on);
    let (kind, name) = match &request.tool_choice {
        Some(ToolChoice::None) => {
            return Some(Choice { kind: "none", name: None, disable_parallel_tool_use: None });
        }
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_str())),
        Some(ToolChoice::Auto) => ("auto", None),
        None if request.hosted.iter().any(|tool| tool.forced) => {
            let name = hosted_tools::choice(&request.hosted);
            (if name.is_some() { "tool" } else { "any" }, name)
        }
        None => {
            disable_parallel_tool_use?;
            ("auto", None)
        }
    };
    Some(Choice { kind, name, disable_parallel_tool_use })
}
