//! Request reader: a whole request, for translation into another dialect.
//!
//! A field without a counterpart in other dialects is a hint and is dropped (`service_tier`,
//! `thinking.display`, `context_management`, `citations` of documents, unknown members). Files by id are
//! read as media that only the vendor can read. Hosted tools, `mcp_servers` and `container` are read as
//! such. No field is rejected for being unknown.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::hosted_tools;
use super::read_block::{BlockContext, blocks};
use super::request::parse;
use super::{client_tools, tool_changes, toolset};
use crate::body::{object, of_type, refuse};
use crate::cache_control::CacheControl;
use crate::chat::{
    ApiError, Format, HostedTool, Message, Part, Reasoning, Request, Role, Tool, ToolChoice,
    ToolForms,
};
use crate::json::is_null;

#[derive(Debug, Deserialize)]
struct Body<'a> {
    max_tokens: u64,
    #[serde(borrow)]
    messages: Vec<Turn<'a>>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    tool_choice: Option<Choice>,
    stop_sequences: Option<Vec<String>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
    metadata: Option<Metadata>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    output_format: Option<OutputFormat>,
    #[serde(borrow)]
    mcp_servers: Option<&'a RawValue>,
    #[serde(borrow)]
    container: Option<&'a RawValue>,
    /// The vendor sets the marks.
    cache_control: Option<CacheControl>,
}

#[derive(Debug, Deserialize)]
struct Turn<'a> {
    role: Speaker,
    #[serde(borrow)]
    content: &'a RawValue,
    /// In a turn that sets the effort of later turns.
    output_config: Option<OutputConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    System,
    User,
    Assistant,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: ChoiceKind,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChoiceKind {
    Auto,
    Any,
    Tool,
    None,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    user_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: ThinkingKind,
    budget_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ThinkingKind {
    Enabled,
    Adaptive,
    Disabled,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<OutputFormat>,
}

#[derive(Debug, Deserialize)]
struct OutputFormat {
    #[serde(rename = "type")]
    _kind: OutputKind,
    #[serde(deserialize_with = "object")]
    schema: Box<RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutputKind {
    JsonSchema,
}

#[derive(Debug, Deserialize)]
struct ToolType {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    description: Option<String>,
    #[serde(deserialize_with = "object")]
    input_schema: Box<RawValue>,
    strict: Option<bool>,
    cache_control: Option<CacheControl>,
}

/// Prefix of the text that one of the vendor's clients puts first for the vendor's billing. The text
/// changes with every conversation, so no other vendor's prompt cache would ever hit.
const BILLING: &str = "x-anthropic-billing-header:";

/// Reads a request.
pub(super) fn decode_request(body: &str) -> Result<Request, ApiError> {
    let mut body: Body<'_> = parse(body, "")?;
    let mut messages = Vec::with_capacity(body.messages.len() + 1);
    if let Some(system) = body.system {
        let parts = unbilled(blocks(system, "system", BlockContext::System)?);
        if !parts.is_empty() {
            messages.push(Message { at: "system".to_owned(), role: Role::System, parts });
        }
    }
    for (i, turn) in body.messages.iter().enumerate() {
        messages.push(message(turn, format!("messages[{i}]"))?);
    }
    let directed =
        body.messages.iter_mut().rev().find_map(|turn| turn.output_config.take()?.effort);
    let parallel_tool_calls = body
        .tool_choice
        .as_ref()
        .and_then(|choice| choice.disable_parallel_tool_use)
        .map(|disabled| !disabled);
    let (mut tools, tool_forms, mut hosted) = tools(body.tools.as_deref().unwrap_or_default())?;
    let turns = body.messages.iter().enumerate();
    let contents = turns.map(|(i, turn)| (format!("messages[{i}].content"), turn.content));
    tool_changes::apply(contents, &mut tools)?;
    hosted.extend(server_state(&body));
    let tool_choice = body.tool_choice.as_ref().map(|choice| tool_choice(choice, &mut hosted));
    let format = body.output_config.as_ref().and_then(|config| config.format.as_ref());
    let format = format.or(body.output_format.as_ref());
    Ok(Request {
        messages,
        tools,
        tool_forms,
        hosted,
        tool_choice: tool_choice.transpose()?.flatten(),
        parallel_tool_calls,
        max_tokens: Some(body.max_tokens),
        stop: body.stop_sequences.unwrap_or_default(),
        temperature: body.temperature,
        top_p: body.top_p,
        top_k: body.top_k,
        // Whether the schema may have optional members differs between vendors, so that `strict`
        // is left to the upstream.
        format: format.map(|format| Format::Schema {
            name: None,
            schema: format.schema.clone(),
            strict: None,
        }),
        reasoning: reasoning(body.thinking.as_ref(), body.output_config, directed),
        caches_itself: body.cache_control.is_some(),
        user: body.metadata.and_then(|metadata| metadata.user_id),
        ..Request::default()
    })
}

/// Members that refer to resources at the vendor, for its hosted tools.
fn server_state(body: &Body<'_>) -> Vec<HostedTool> {
    let said = |value: &&RawValue| {
        let list = serde_json::from_str::<Vec<IgnoredAny>>(value.get());
        !is_null(value) && !list.is_ok_and(|list| list.is_empty())
    };
    [("mcp_servers", body.mcp_servers), ("container", body.container)]
        .into_iter()
        .filter(|(_, value)| value.as_ref().is_some_and(said))
        .map(|(name, _)| hosted_tools::member(name))
        .collect()
}

/// Instructions without the text for the vendor's accounts: a block of its own, or a first line.
fn unbilled(mut parts: Vec<Part>) -> Vec<Part> {
    for part in &mut parts {
        if let Part::Text(text) = part
            && text.starts_with(BILLING)
        {
            *text = text.split_once('\n').map_or("", |(_, rest)| rest).to_owned();
        }
    }
    parts.retain(|part| !matches!(part, Part::Text(text) if text.trim().is_empty()));
    parts
}

fn message(turn: &Turn<'_>, at: String) -> Result<Message, ApiError> {
    let (role, place) = match turn.role {
        Speaker::System => (Role::System, BlockContext::System),
        Speaker::User => (Role::User, BlockContext::User),
        Speaker::Assistant => (Role::Assistant, BlockContext::Assistant),
    };
    let parts = blocks(turn.content, &format!("{at}.content"), place)?;
    Ok(Message { at, role, parts })
}

/// The tools of a request: functions, their forms in this dialect, and those that the vendor runs.
type Tools = (Vec<Tool>, ToolForms, Vec<HostedTool>);

fn tools(tools: &[&RawValue]) -> Result<Tools, ApiError> {
    let mut out = Vec::with_capacity(tools.len());
    let (mut forms, mut hosted) = (ToolForms::default(), Vec::new());
    let mut has_toolset = false;
    for (i, raw) in tools.iter().enumerate() {
        let at = format!("tools[{i}]");
        let ToolType { kind } = parse(raw.get(), &at)?;
        match kind.as_deref() {
            None | Some("custom") => out.push(function(raw, &at)?),
            // One that is declared again is the same.
            Some("computer_toolset_20260801") if has_toolset => {}
            Some("computer_toolset_20260801") => {
                has_toolset = true;
                toolset::computer(raw, &at, &mut out, &mut forms)?;
            }
            Some(kind) => {
                if let Some(tool) = hosted_tools::read(kind, raw, &at)? {
                    hosted.push(tool);
                    continue;
                }
                let known = client_tools::read(kind, raw, &at)?;
                out.push(known.ok_or_else(|| untranslatable(&at, kind))?);
            }
        }
    }
    Ok((out, forms, hosted))
}

/// A tool with a schema. Deferred ones are as good as loaded, and examples are left out.
pub(super) fn function(raw: &RawValue, at: &str) -> Result<Tool, ApiError> {
    let Function { name, description, input_schema, strict, cache_control } = parse(raw.get(), at)?;
    let cache = cache_control.map(CacheControl::mark);
    Ok(Tool { name, description, parameters: Some(input_schema), strict, cache })
}

/// The rejection of a tool of an unknown type.
fn untranslatable(at: &str, kind: &str) -> ApiError {
    let what = "is a tool that cannot be translated; declare it with an `input_schema` instead of a \
                type, leave it out or choose another model";
    refuse(at, &format!("{}{what}", of_type(kind)))
}

/// A hosted tool that is required is marked as such.
fn tool_choice(choice: &Choice, hosted: &mut [HostedTool]) -> Result<Option<ToolChoice>, ApiError> {
    Ok(Some(match choice.kind {
        ChoiceKind::Auto => ToolChoice::Auto,
        ChoiceKind::Any => ToolChoice::Required,
        ChoiceKind::None => ToolChoice::None,
        ChoiceKind::Tool => {
            let name = choice.name.clone();
            let name = name.ok_or_else(|| ApiError::field("tool_choice.name", "is required"))?;
            if hosted_tools::force(&name, hosted) {
                return Ok(None);
            }
            ToolChoice::Named(name)
        }
    }))
}

/// `directed`: the effort in the latest turn that sets one.
fn reasoning(
    thinking: Option<&Thinking>,
    config: Option<OutputConfig>,
    directed: Option<String>,
) -> Option<Reasoning> {
    let effort = directed.or_else(|| config.and_then(|config| config.effort));
    if thinking.is_none() && effort.is_none() {
        return None;
    }
    let enabled = thinking.map(|thinking| !matches!(thinking.kind, ThinkingKind::Disabled));
    let budget = thinking
        .filter(|thinking| matches!(thinking.kind, ThinkingKind::Enabled))
        .and_then(|thinking| thinking.budget_tokens);
    Some(Reasoning { enabled, effort, budget })
}
