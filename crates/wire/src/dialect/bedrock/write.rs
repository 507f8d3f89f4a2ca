//! Request writer: requests from callers of another dialect.
//!
//! Rejected by name, because the answer would not match the request: `n` above 1, `logit_bias`, arguments
//! that are no object, media from the web or of unsupported kinds. Dropped, because they only influence the
//! sampling and the vendor has no equivalent: `seed`, the presence and frequency penalties, an image's
//! `detail`, the end user's name, and, except for models of Anthropic, `top_k`, a ban on parallel calls and
//! a budget for reasoning. `claude.rs` lists the parameters that models of Anthropic do not take. A request
//! for any JSON object becomes an instruction, since the vendor can only enforce schemas.

use serde::Serialize;

use super::tools::{NativeChoice, ToolConfig, tools};
use super::write_turns::{Instruction, Turn, Turns};
use crate::chat::{ApiError, Format, Kind, Request};
use crate::claude::{self, Thinking};
use crate::codec::unsupported;
use crate::dialect::{Target, must_be_segment};

/// Instruction that replaces `response_format: json_object`.
const JSON_ONLY: &str = "Respond with a single JSON object only.";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Instruction<'a>>,
    #[serde(skip_serializing_if = "Inference::is_empty")]
    inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Native::is_empty")]
    additional_model_request_fields: Native<'a>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
}

impl Inference<'_> {
    fn is_empty(&self) -> bool {
        let Self { max_tokens, temperature, top_p, stop_sequences } = self;
        max_tokens.is_none()
            && temperature.is_none()
            && top_p.is_none()
            && stop_sequences.is_empty()
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text_format: Option<TextFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct TextFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    structure: Structure<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: JsonSchema<'a>,
}

#[derive(Debug, Serialize)]
struct JsonSchema<'a> {
    /// The schema's JSON, as a string.
    schema: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// Model-specific fields (`additionalModelRequestFields`), in Anthropic's format.
#[derive(Debug, Default, Serialize)]
struct Native<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<NativeChoice<'a>>,
}

impl Native<'_> {
    fn is_empty(&self) -> bool {
        self.thinking.is_none() && self.top_k.is_none() && self.tool_choice.is_none()
    }
}

/// Writes a request.
pub(super) fn encode_request(request: &Request, target: &Target<'_>) -> Result<String, ApiError> {
    must_be_segment(target.model)?;
    unsupported::reject_choices_and_bias(request)?;
    let native = is_anthropic(target.model);
    let mut turns = Turns::new(&request.messages, native)?;
    let (tool_config, tool_choice) = tools(request, native)?;
    let claude::ClaudeParams { max_tokens, thinking, effort, temperature, top_p, top_k } =
        asked(request, target.model);
    let text_format = match &request.format {
        Some(Format::Schema { name, schema, .. }) => {
            let json_schema = JsonSchema { schema: schema.get(), name: name.as_deref() };
            Some(TextFormat { kind: "json_schema", structure: Structure { json_schema } })
        }
        Some(Format::Json) => {
            turns.system.push(Instruction::Text(JSON_ONLY));
            None
        }
        None => None,
    };
    let body = Body {
        messages: turns.conversation,
        system: turns.system,
        inference_config: Inference {
            max_tokens,
            temperature,
            top_p,
            stop_sequences: &request.stop,
        },
        tool_config,
        output_config: (effort.is_some() || text_format.is_some())
            .then_some(OutputConfig { text_format, effort }),
        additional_model_request_fields: Native { thinking, top_k, tool_choice },
    };
    serde_json::to_string(&body).map_err(|_| {
        ApiError::new(Kind::Internal, "the request could not be written for the upstream")
    })
}

/// Whether a model is one of Anthropic's, by its id: `us.anthropic.claude-...`, or the profile's or
/// model's resource name with such an id in it.
fn is_anthropic(model: &str) -> bool {
    model.contains("anthropic.") || model.contains("claude")
}

/// The parameters of a request: the common ones, or for a model of Anthropic those that it takes.
fn asked<'a>(request: &'a Request, model: &str) -> claude::ClaudeParams<'a> {
    if is_anthropic(model) {
        return claude::ask(request, model);
    }
    let reasoning = request.reasoning.as_ref();
    let off = reasoning.is_none_or(|said| said.enabled == Some(false) || said.budget == Some(0));
    let effort = reasoning.and_then(|said| said.effort.as_deref()).filter(|_| !off);
    claude::ClaudeParams {
        max_tokens: request.max_tokens,
        thinking: None,
        effort: match effort {
            Some("none") => None,
            Some("minimal") => Some("low"),
            other => other,
        },
        temperature: request.temperature.map(|value| value.clamp(0.0, 1.0)),
        top_p: request.top_p,
        top_k: None,
    }
}
