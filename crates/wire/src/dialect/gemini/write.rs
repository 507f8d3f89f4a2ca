//! Request writer: requests from callers of another dialect.
//!
//! Rejected by name, because the answer would not match the request: `logit_bias`, arguments that are no
//! object, media in places that take none. Dropped, since the vendor has no field for them:
//! `parallel_tool_calls`, `strict`, an image's `detail`, the user's identifier. The amount of reasoning is
//! written in the format of the model's generation: a budget in tokens up to the second, a level since.

use serde::Serialize;
use serde_json::value::RawValue;

use super::hosted_tools;
use super::write_turns::{Content, turns};
use crate::chat::{ApiError, Format, Kind, Reasoning, Request, Tool, ToolChoice};
use crate::dialect::Target;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Declared<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Declared<'a> {
    Functions(Tools<'a>),
    Hosted(serde_json::Value),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Function<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Thinking {
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
    #[serde(rename = "thinkingBudget", skip_serializing_if = "Option::is_none")]
    budget: Option<u64>,
    #[serde(rename = "thinkingLevel", skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
}

/// Generations of the vendor's models, by the models' names. They differ in the control of reasoning and in
/// signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generations {
    /// Up to the second: reasoning is limited by a budget in tokens, and signatures are not required.
    Budgets,
    /// Since the third: reasoning is set by levels, and calls of earlier turns require a signature.
    Levels,
}

impl Generations {
    /// The generation by the model's name. Models without Gemini in their name do not use signatures.
    pub(super) fn of(model: &str) -> Self {
        let old = ["gemini-1", "gemini-2"].iter().any(|name| model.contains(name));
        if old || !model.contains("gemini") { Self::Budgets } else { Self::Levels }
    }
}

/// Writes a request. The model and whether to stream stand in the path.
pub(super) fn encode_request(request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
    if request.logit_bias.is_some() {
        let message =
            "this model's provider knows no such thing; leave it out or choose another model";
        return Err(ApiError::field("logit_bias", message));
    }
    let unwritable =
        |_| ApiError::new(Kind::Internal, "the request could not be written for the upstream");
    let (system, contents) = turns(&request.messages, Generations::of(target.model))?;
    let functions = (!request.tools.is_empty()).then(|| {
        let function_declarations = request.tools.iter().map(function).collect();
        Declared::Functions(Tools { function_declarations })
    });
    let hosted = request.hosted.iter().filter_map(hosted_tools::written).map(Declared::Hosted);
    let generation = serde_json::to_string(&generation(request, target)).map_err(unwritable)?;
    let said = (generation != "{}").then(|| RawValue::from_string(generation));
    let body = Body {
        contents,
        system_instruction: system,
        tool_config: tool_config(request),
        tools: functions.into_iter().chain(hosted).collect(),
        generation_config: said.transpose().map_err(unwritable)?,
    };
    serde_json::to_string(&body).map_err(unwritable)
}

fn generation<'a>(request: &'a Request, target: &Target<'_>) -> Generation<'a> {
    let schema = match &request.format {
        Some(Format::Schema { schema, .. }) => Some(schema.as_ref()),
        Some(Format::Json) | None => None,
    };
    Generation {
        stop_sequences: &request.stop,
        response_mime_type: request.format.as_ref().map(|_| "application/json"),
        response_json_schema: schema,
        candidate_count: request.n.filter(|n| *n > 1),
        max_output_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        response_logprobs: request.logprobs.then_some(true),
        logprobs: request.top_logprobs.filter(|_| request.logprobs),
        thinking_config: request.reasoning.as_ref().map(|reasoning| thinking(reasoning, target)),
    }
}

fn function(tool: &Tool) -> Function<'_> {
    Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters_json_schema: tool.parameters.as_deref(),
    }
}

/// A choice is only written beside tools.
fn tool_config(request: &Request) -> Option<ToolConfig<'_>> {
    let (mode, name) = match request.tool_choice.as_ref().filter(|_| !request.tools.is_empty())? {
        ToolChoice::None => ("NONE", None),
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Named(name) => ("ANY", Some([name.as_str()])),
    };
    Some(ToolConfig { function_calling_config: Calling { mode, allowed_function_names: name } })
}

/// The reasoning settings. A request for reasoning also requests that it be shown.
fn thinking(reasoning: &Reasoning, target: &Target<'_>) -> Thinking {
    let effort = reasoning.effort.as_deref();
    let levels = Generations::of(target.model) == Generations::Levels;
    let off =
        reasoning.enabled == Some(false) || reasoning.budget == Some(0) || effort == Some("none");
    let level = effort.filter(|_| levels).map(|effort| match effort {
        "none" | "minimal" => "MINIMAL",
        "low" => "LOW",
        "medium" => "MEDIUM",
        _ => "HIGH",
    });
    if off {
        // It cannot be switched off, but for the older generation: it thinks as little as it can.
        let budget = (!levels).then_some(0);
        return Thinking {
            include_thoughts: None,
            budget,
            level: level.or_else(|| levels.then_some("MINIMAL")),
        };
    }
    // As the vendor's own OpenAI-compatible endpoint has it.
    let budget = effort.filter(|_| !levels).map(|effort| match effort {
        "minimal" | "low" => 1024,
        "medium" => 8192,
        _ => 24_576,
    });
    let budget = reasoning.budget.filter(|_| level.is_none()).or(budget);
    Thinking { include_thoughts: Some(true), budget, level }
}
