//! Reads a whole request, for translation.
//!
//! It says by its path which field is wrong or cannot be said in another dialect, and never repeats
//! a value. Top-level fields that it does not know are dropped, as are those that only steer the
//! vendor's own plant: `store`, `metadata`, `service_tier`, `safety_identifier`,
//! `truncation`, `max_tool_calls`, `context_management`, `stream_options`, `text.verbosity`, and
//! every `include` but log probabilities. Refused, because the answer would not be what was asked
//! for: what names state at the vendor (`previous_response_id`, `conversation`, `prompt`,
//! `background`), hosted tools, and the items listed in `read_input.rs`.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read_input;
use crate::wire::body::{parse, refuse};
use crate::wire::cache_control::CacheControl;
use crate::wire::chat::{Fault, Format, Message, Part, Reasoning, Request, Role, Tool, ToolChoice};
use crate::wire::{free_text, json};

type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    input: Raw<'a>,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(borrow, default)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    tool_choice: Raw<'a>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    presence_penalty: Option<f64>,
    #[serde(default)]
    frequency_penalty: Option<f64>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    top_logprobs: Option<u64>,
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(borrow, default)]
    text: Option<TextBody<'a>>,
    #[serde(default)]
    reasoning: Option<ReasoningBody>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    prompt_cache_key: Option<String>,
    #[serde(borrow, default)]
    previous_response_id: Raw<'a>,
    #[serde(borrow, default)]
    conversation: Raw<'a>,
    #[serde(borrow, default)]
    prompt: Raw<'a>,
    #[serde(default)]
    background: Option<bool>,
}

#[derive(Deserialize)]
struct TextBody<'a> {
    #[serde(borrow, default)]
    format: Raw<'a>,
}

#[derive(Deserialize)]
struct FormatBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    schema: Option<Box<RawValue>>,
    #[serde(default)]
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ReasoningBody {
    #[serde(default)]
    effort: Option<String>,
    #[serde(default)]
    summary: Option<String>,
}

#[derive(Deserialize)]
struct ToolBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Box<RawValue>>,
    #[serde(default)]
    strict: Option<bool>,
    #[serde(default)]
    format: Option<Box<RawValue>>,
    #[serde(default)]
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct ChoiceBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    mode: Option<String>,
    #[serde(borrow, default)]
    tools: Option<Vec<&'a RawValue>>,
}

/// Reads the whole request.
pub(super) fn request(json: &str) -> Result<Request, Fault> {
    let body: Body<'_> = parse("", json)?;
    refuse_state(&body)?;
    let mut messages = Vec::new();
    if let Some(text) = body.instructions.filter(|text| !text.is_empty()) {
        let at = "instructions".to_owned();
        messages.push(Message { at, role: Role::System, parts: vec![Part::Text(text)] });
    }
    let input = body.input.filter(|input| !json::is_null(input));
    let input = input.ok_or_else(|| refuse("input", "is missing: say what is to be answered"))?;
    read_input::messages(input, &mut messages)?;
    let mut tools = tools(body.tools.unwrap_or_default())?;
    let choice = body.tool_choice.filter(|choice| !json::is_null(choice));
    let tool_choice = choice.map(|choice| tool_choice(choice, &mut tools)).transpose()?;
    let asks = |what: &str| body.include.iter().flatten().any(|included| included == what);
    let top_logprobs = body.top_logprobs.filter(|n| *n > 0);
    Ok(Request {
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: body.parallel_tool_calls,
        max_tokens: body.max_output_tokens,
        temperature: body.temperature,
        presence_penalty: body.presence_penalty,
        frequency_penalty: body.frequency_penalty,
        top_p: body.top_p,
        logprobs: asks("message.output_text.logprobs") || top_logprobs.is_some(),
        top_logprobs,
        format: body.text.and_then(|text| text.format).map(format).transpose()?.flatten(),
        reasoning: body.reasoning.and_then(reasoning),
        user: body.user,
        cache_key: body.prompt_cache_key,
        caches_itself: true,
        ..Request::default()
    })
}

/// What lives at the vendor. Without it the answer would be to something else.
fn refuse_state(body: &Body<'_>) -> Result<(), Fault> {
    let names = |raw: Raw<'_>| raw.is_some_and(|raw| !json::is_null(raw));
    let fields = [
        ("previous_response_id", names(body.previous_response_id)),
        ("conversation", names(body.conversation)),
        ("prompt", names(body.prompt)),
        ("background", body.background == Some(true)),
    ];
    match fields.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(refuse(
            name,
            "needs state that is kept at the vendor, which this model's provider does not have; \
             send the whole conversation in `input`, or choose another model",
        )),
        None => Ok(()),
    }
}

fn tools(bodies: Vec<&RawValue>) -> Result<Vec<Tool>, Fault> {
    let read = |(i, raw): (usize, &RawValue)| {
        let path = format!("tools[{i}]");
        let body: ToolBody = parse(&path, raw.get())?;
        let name = |name: Option<String>| {
            name.ok_or_else(|| refuse(&format!("{path}.name"), "is missing"))
        };
        match body.kind.as_str() {
            "function" => Ok(Tool {
                name: name(body.name)?,
                description: body.description,
                parameters: body.parameters.filter(|schema| !json::is_null(schema)),
                strict: body.strict,
                cache: body.cache_control.map(CacheControl::mark),
            }),
            "custom" => Ok(Tool {
                name: name(body.name)?,
                description: free_text::description(body.description, body.format.as_deref()),
                parameters: free_text::schema(),
                cache: body.cache_control.map(CacheControl::mark),
                strict: None,
            }),
            _ => Err(refuse(
                &path,
                "is a hosted tool, which only its own vendor can run; \
                 leave it out or choose another model",
            )),
        }
    };
    bodies.into_iter().enumerate().map(read).collect()
}

/// Allowed tools are what remains of all tools.
fn tool_choice(raw: &RawValue, tools: &mut Vec<Tool>) -> Result<ToolChoice, Fault> {
    const PATH: &str = "tool_choice";
    let word = |word: &str| match word {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        "required" => Some(ToolChoice::Required),
        _ => None,
    };
    if let Some(said) = json::text(raw) {
        let what = "must be \"none\", \"auto\", \"required\" or an object";
        return word(&said).ok_or_else(|| refuse(PATH, what));
    }
    let choice: ChoiceBody<'_> = parse(PATH, raw.get())?;
    match (choice.kind.as_str(), choice.name) {
        ("function" | "custom", Some(name)) => Ok(ToolChoice::Named(name)),
        ("function" | "custom", None) => Err(refuse("tool_choice.name", "is missing")),
        ("allowed_tools", _) => {
            let mut allowed = HashSet::new();
            for (i, raw) in choice.tools.into_iter().flatten().enumerate() {
                let path = format!("tool_choice.tools[{i}]");
                let body: ToolBody = parse(&path, raw.get())?;
                let what = "is a hosted tool, which only its own vendor can run";
                allowed.insert(body.name.ok_or_else(|| refuse(&path, what))?);
            }
            tools.retain(|tool| allowed.contains(&tool.name));
            let mode = choice.mode.unwrap_or_else(|| "auto".to_owned());
            word(&mode)
                .ok_or_else(|| refuse("tool_choice.mode", "must be \"auto\" or \"required\""))
        }
        _ => Err(refuse(PATH, "can only name a function or a custom tool")),
    }
}

fn format(raw: &RawValue) -> Result<Option<Format>, Fault> {
    if json::is_null(raw) {
        return Ok(None);
    }
    let body: FormatBody = parse("text.format", raw.get())?;
    match (body.kind.as_str(), body.schema) {
        ("text", _) => Ok(None),
        ("json_object", _) => Ok(Some(Format::Json)),
        ("json_schema", Some(schema)) => {
            Ok(Some(Format::Schema { name: body.name, schema, strict: body.strict }))
        }
        ("json_schema", None) => Err(refuse("text.format.schema", "is missing")),
        _ => {
            Err(refuse("text.format.type", "must be \"text\", \"json_object\" or \"json_schema\""))
        }
    }
}

/// Who asks for a summary wants to see the reasoning.
fn reasoning(body: ReasoningBody) -> Option<Reasoning> {
    let enabled = match body.effort.as_deref() {
        Some("none") => Some(false),
        _ => body.summary.map(|_| true),
    };
    let reasoning = Reasoning { enabled, effort: body.effort, budget: None };
    (reasoning != Reasoning::default()).then_some(reasoning)
}
