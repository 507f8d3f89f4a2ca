//! Request writer for an upstream of this dialect.
//!
//! The request disables storage, and includes the full reasoning, sealed, in the answer, so that the next
//! turn can send it back. Rejected by field, because the answer would not match the request: `n` above 1
//! and `logit_bias`. Dropped, because they only influence the sampling and the vendor has no equivalent
//! here: `top_k`, `seed` and the penalties; of a thinking budget only a rough effort remains.

use serde::Serialize;
use serde_json::value::RawValue;

use super::hosted_tools;
use super::write_turns::{Item, items};
use crate::chat::{ApiError, Format, HostedKind, Kind, Reasoning, Request, Tool, ToolChoice};
use crate::codec::unsupported;
use crate::dialect::Target;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<String>,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Declared<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tool_calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Thinking<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    store: bool,
    stream: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Declared<'a> {
    Function(Function<'a>),
    Hosted(serde_json::Value),
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// The vendor requires the member, and `null` for no arguments.
    parameters: Option<&'a RawValue>,
    /// Always written: the vendor's default is `true`, for which it rejects schemas that do not fit.
    strict: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Named {
        #[serde(rename = "type")]
        kind: &'static str,
        name: &'a str,
    },
    Hosted {
        #[serde(rename = "type")]
        kind: &'static str,
    },
}

#[derive(Serialize)]
struct Text<'a> {
    format: TextFormat<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum TextFormat<'a> {
    JsonObject,
    JsonSchema {
        name: &'a str,
        schema: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

#[derive(Serialize)]
struct Thinking<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

/// Writes the whole request.
pub(super) fn request(request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
    unsupported::reject_choices_and_bias(request)?;
    let (instructions, input) = items(request, target.quirks.reasoning_field.is_some())?;
    let has_tools = request.has_tools();
    let reasoning = request.reasoning.as_ref().map(thinking);
    let mut include = Vec::new();
    if reasoning.as_ref().is_some_and(|thinking| thinking.effort != Some("none")) {
        include.push("reasoning.encrypted_content");
    }
    if request.logprobs {
        include.push("message.output_text.logprobs");
    }
    if request.hosted.iter().any(|tool| matches!(tool.kind, HostedKind::WebSearch(_))) {
        include.push("web_search_call.action.sources");
    }
    let functions = request.tools.iter().map(|tool| Declared::Function(function(tool)));
    let hosted = request.hosted.iter().filter_map(hosted_tools::written).map(Declared::Hosted);
    let body = Body {
        model: target.model,
        instructions,
        input,
        tools: functions.chain(hosted).collect(),
        tool_choice: choice(request).filter(|_| has_tools),
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| has_tools),
        max_tool_calls: hosted_tools::most_calls(&request.hosted),
        max_output_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_logprobs: request.top_logprobs.filter(|_| request.logprobs),
        text: request.format.as_ref().map(|format| Text { format: text_format(format) }),
        reasoning,
        include,
        user: request.user.as_deref(),
        prompt_cache_key: request.cache_key.as_deref(),
        store: false,
        stream: target.stream,
    };
    serde_json::to_string(&body).map_err(|_| {
        ApiError::new(Kind::Internal, "the request could not be written for the upstream")
    })
}

fn function(tool: &Tool) -> Function<'_> {
    Function {
        kind: "function",
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: tool.parameters.as_deref(),
        strict: tool.strict.unwrap_or(false),
    }
}

fn choice(request: &Request) -> Option<Choice<'_>> {
    match hosted_tools::choice(&request.hosted) {
        Some("required") => return Some(Choice::Word("required")),
        Some(kind) => return Some(Choice::Hosted { kind }),
        None => {}
    }
    Some(match request.tool_choice.as_ref()? {
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Named(name) => Choice::Named { kind: "function", name },
    })
}

fn text_format(format: &Format) -> TextFormat<'_> {
    match format {
        Format::Json => TextFormat::JsonObject,
        Format::Schema { name, schema, strict } => TextFormat::JsonSchema {
            name: name.as_deref().unwrap_or("answer"),
            schema,
            strict: *strict,
        },
    }
}

/// The effort by name, else the level that a budget in tokens roughly amounts to. A request that enables
/// reasoning expects to see it, which the vendor only shows with `summary`; a request that only sets an
/// effort does not.
fn thinking(reasoning: &Reasoning) -> Thinking<'_> {
    let effort = match (reasoning.enabled, &reasoning.effort, reasoning.budget) {
        (Some(false), ..) => Some("none"),
        (_, Some(word), _) => Some(word.as_str()),
        (_, None, Some(0..=4096)) => Some("low"),
        (_, None, Some(4097..=16384)) => Some("medium"),
        (_, None, Some(_)) => Some("high"),
        (_, None, None) => None,
    };
    let shown = reasoning.enabled == Some(true) || reasoning.budget.is_some_and(|most| most > 0);
    Thinking { effort, summary: (shown && effort != Some("none")).then_some("auto") }
}
