//! Request reader: a whole request, for translation.
//!
//! An error names the path of the field that is invalid or cannot be translated, and never repeats a value.
//! Unknown top-level fields are dropped, as are those that only control the vendor's own operation:
//! `store`, `metadata`, `service_tier`, `safety_identifier`, `verbosity`, `prediction`, `stream_options`.
//! Rejected, because the answer would not match the request: `audio` and any modality but text, and the
//! content parts listed in `read_turns.rs`.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::call_form::CallForm;
use super::hosted_tools;
use super::read_turns::{self, MessageBody};
use crate::body::{object, of_type, optional_object, parse, refuse};
use crate::cache_control::CacheControl;
use crate::chat::{ApiError, Format, HostedTool, Reasoning, Request, Tool, ToolChoice, ToolForms};
use crate::{free_text, json};

type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<MessageBody<'a>>,
    #[serde(borrow)]
    tools: Option<Vec<ToolBody<'a>>>,
    #[serde(borrow)]
    tool_choice: Raw<'a>,
    parallel_tool_calls: Option<bool>,
    max_completion_tokens: Option<u64>,
    max_tokens: Option<u64>,
    #[serde(borrow)]
    stop: Raw<'a>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    /// Not part of `OpenAI`'s API, but accepted by most compatible servers; -1 and 0 mean none.
    top_k: Option<i64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    seed: Option<i64>,
    n: Option<u64>,
    logit_bias: Option<Box<RawValue>>,
    logprobs: Option<bool>,
    top_logprobs: Option<u64>,
    #[serde(borrow)]
    response_format: Option<FormatBody<'a>>,
    reasoning_effort: Option<String>,
    reasoning: Option<ReasoningBody>,
    user: Option<String>,
    prompt_cache_key: Option<String>,
    modalities: Option<Vec<String>>,
    #[serde(borrow)]
    functions: Raw<'a>,
    #[serde(borrow)]
    function_call: Raw<'a>,
    #[serde(borrow)]
    audio: Raw<'a>,
    #[serde(borrow)]
    web_search_options: Raw<'a>,
}

#[derive(Deserialize)]
struct ToolBody<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    function: Raw<'a>,
    #[serde(borrow)]
    custom: Raw<'a>,
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct CustomBody {
    name: String,
    description: Option<String>,
    format: Option<GrammarBody>,
}

#[derive(Deserialize)]
struct GrammarBody {
    grammar: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct FunctionBody {
    name: String,
    description: Option<String>,
    #[serde(default, deserialize_with = "optional_object")]
    parameters: Option<Box<RawValue>>,
    strict: Option<bool>,
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct FormatBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    json_schema: Raw<'a>,
}

#[derive(Deserialize)]
struct SchemaBody {
    name: Option<String>,
    #[serde(deserialize_with = "object")]
    schema: Box<RawValue>,
    strict: Option<bool>,
}

/// `OpenRouter`'s form of the reasoning settings.
#[derive(Deserialize)]
struct ReasoningBody {
    effort: Option<String>,
    max_tokens: Option<u64>,
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct ChoiceBody {
    #[serde(rename = "type")]
    kind: String,
    function: Option<ChoiceFunction>,
    custom: Option<ChoiceFunction>,
    allowed_tools: Option<AllowedBody>,
}

impl ChoiceBody {
    fn name(&self) -> Option<&String> {
        self.function.as_ref().or(self.custom.as_ref()).map(|named| &named.name)
    }
}

#[derive(Deserialize)]
struct AllowedBody {
    mode: Option<String>,
    tools: Vec<ChoiceBody>,
}

#[derive(Deserialize)]
struct ChoiceFunction {
    name: String,
}

/// Reads the whole request.
pub(super) fn request(json: &str) -> Result<Request, ApiError> {
    let body: Body<'_> = parse("", json)?;
    refuse_untranslatable(&body)?;
    let (mut tools, mut tool_forms, mut hosted) = tools(body.tools.unwrap_or_default())?;
    let legacy = legacy(body.functions, body.function_call, &mut tools, &mut tool_forms)?;
    let searched = body.web_search_options.filter(|options| !json::is_null(options));
    hosted.extend(searched.map(hosted_tools::options).transpose()?);
    let tool_choice = body.tool_choice.map(|raw| tool_choice(raw, &mut tools, &mut hosted));
    Ok(Request {
        messages: read_turns::messages(body.messages)?,
        tools,
        tool_forms,
        hosted,
        tool_choice: tool_choice.transpose()?.flatten().or(legacy.choice),
        parallel_tool_calls: body.parallel_tool_calls.or(legacy.parallel),
        max_tokens: body.max_completion_tokens.or(body.max_tokens),
        stop: body.stop.map(stop).transpose()?.unwrap_or_default(),
        temperature: body.temperature,
        top_p: body.top_p,
        top_k: body.top_k.and_then(|k| u64::try_from(k).ok()).filter(|k| *k > 0),
        presence_penalty: body.presence_penalty,
        frequency_penalty: body.frequency_penalty,
        seed: body.seed,
        n: body.n,
        logit_bias: body.logit_bias.filter(|bias| !matches!(bias.get(), "null" | "{}")),
        logprobs: body.logprobs.unwrap_or(false),
        top_logprobs: body.top_logprobs,
        format: body.response_format.as_ref().map(format).transpose()?.flatten(),
        reasoning: reasoning(body.reasoning_effort, body.reasoning),
        user: body.user,
        cache_key: body.prompt_cache_key,
        caches_itself: true,
        ..Request::default()
    })
}

fn refuse_untranslatable(body: &Body<'_>) -> Result<(), ApiError> {
    let refused = [
        ("audio", body.audio.is_some(), "cannot be translated: the upstream answers in text only"),
        (
            "modalities",
            body.modalities.iter().flatten().any(|modality| modality != "text"),
            "may only hold \"text\": the upstream answers in text only",
        ),
    ];
    match refused.iter().find(|(_, present, _)| *present) {
        Some((name, _, why)) => Err(refuse(name, why)),
        None => Ok(()),
    }
}

/// Settings of functions in the form that `tools` replaced.
#[derive(Default)]
struct Legacy {
    choice: Option<ToolChoice>,
    /// A message of this form has one call.
    parallel: Option<bool>,
}

/// Reads `functions` and `function_call`.
fn legacy(
    functions: Raw<'_>,
    choice: Raw<'_>,
    tools: &mut Vec<Tool>,
    forms: &mut ToolForms,
) -> Result<Legacy, ApiError> {
    let functions = functions.filter(|raw| !json::is_null(raw));
    let functions = functions.map(|raw| parse("functions", raw.get())).transpose()?;
    let functions: Vec<FunctionBody> = functions.unwrap_or_default();
    let choice = choice.filter(|raw| !json::is_null(raw)).map(function_choice).transpose()?;
    if functions.is_empty() {
        return Ok(Legacy::default());
    }
    for function in functions {
        forms.insert(function.name.clone(), CallForm::Legacy.tool(&function.name));
        tools.push(function.tool(None));
    }
    Ok(Legacy { choice, parallel: Some(false) })
}

/// Reads `function_call`, whether or not there are functions.
fn function_choice(raw: &RawValue) -> Result<ToolChoice, ApiError> {
    match raw.get() {
        r#""none""# => Ok(ToolChoice::None),
        r#""auto""# => Ok(ToolChoice::Auto),
        json if json.starts_with('{') => {
            let ChoiceFunction { name } = parse("function_call", json)?;
            Ok(ToolChoice::Named(name))
        }
        _ => {
            let what = "must be \"none\", \"auto\" or an object with a `name`";
            Err(refuse("function_call", what))
        }
    }
}

impl FunctionBody {
    fn tool(self, cache: Option<CacheControl>) -> Tool {
        Tool {
            name: self.name,
            description: self.description,
            parameters: self.parameters,
            strict: self.strict,
            cache: cache.or(self.cache_control).map(CacheControl::mark),
        }
    }
}

/// The tools of a request: functions, their forms in this dialect, and those that the vendor runs.
type Tools = (Vec<Tool>, ToolForms, Vec<HostedTool>);

fn tools(bodies: Vec<ToolBody<'_>>) -> Result<Tools, ApiError> {
    let (mut forms, mut hosted) = (ToolForms::default(), Vec::new());
    let read = |(i, body): (usize, ToolBody<'_>)| {
        let path = format!("tools[{i}]");
        if let Some(tool) = body.kind.as_deref().and_then(|kind| hosted_tools::read(kind, &path)) {
            hosted.push(tool);
            return Ok(None);
        }
        match body.kind.as_deref() {
            None | Some("function") => {}
            Some("custom") => {
                let cache = body.cache_control.map(CacheControl::mark);
                let tool = Tool { cache, ..custom(&format!("{path}.custom"), body.custom)? };
                forms.insert(tool.name.clone(), CallForm::Custom.tool(&tool.name));
                return Ok(Some(tool));
            }
            Some(kind) => {
                let what = "is neither a `function` nor a `custom` tool, and cannot be translated; \
                            leave it out or choose another model";
                return Err(refuse(&path, &format!("{}{what}", of_type(kind))));
            }
        }
        let path = format!("{path}.function");
        let raw = body.function.ok_or_else(|| refuse(&path, "is missing"))?;
        let function: FunctionBody = parse(&path, raw.get())?;
        Ok(Some(function.tool(body.cache_control)))
    };
    let tools: Result<Vec<_>, _> = bodies.into_iter().enumerate().map(read).collect();
    Ok((tools?.into_iter().flatten().collect(), forms, hosted))
}

/// A tool that takes free text is translated as a function with one text argument.
fn custom(path: &str, raw: Raw<'_>) -> Result<Tool, ApiError> {
    let raw = raw.ok_or_else(|| refuse(path, "is missing"))?;
    let CustomBody { name, description, format } = parse(path, raw.get())?;
    let grammar = format.and_then(|format| format.grammar);
    let description = free_text::description(description, grammar.as_deref());
    Ok(Tool { name, description, parameters: free_text::schema(), ..Tool::default() })
}

/// Reads the choice. Tools that are not allowed are removed. A hosted tool that is required is marked as
/// such.
fn tool_choice(
    raw: &RawValue,
    tools: &mut Vec<Tool>,
    hosted: &mut Vec<HostedTool>,
) -> Result<Option<ToolChoice>, ApiError> {
    const PATH: &str = "tool_choice";
    let word = |word: &str| match word {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        // `any` is Mistral's name for `required`.
        "required" | "any" => Some(ToolChoice::Required),
        _ => None,
    };
    if let Some(said) = json::text(raw) {
        let what = "must be \"none\", \"auto\", \"required\" or an object";
        return word(&said).map(Some).ok_or_else(|| refuse(PATH, what));
    }
    let choice: ChoiceBody = parse(PATH, raw.get())?;
    match (choice.kind.as_str(), choice.allowed_tools) {
        ("allowed_tools", Some(allowed)) => {
            let names: HashSet<_> = allowed.tools.iter().filter_map(ChoiceBody::name).collect();
            let kinds: HashSet<_> = allowed.tools.iter().map(|body| body.kind.as_str()).collect();
            let declared: HashSet<_> = hosted.iter().map(|tool| tool.name.as_str()).collect();
            let known =
                |body: &ChoiceBody| body.name().is_some() || declared.contains(body.kind.as_str());
            if !allowed.tools.iter().all(known) {
                let what = "may only name what is among `tools`";
                return Err(refuse("tool_choice.allowed_tools.tools", what));
            }
            tools.retain(|tool| names.contains(&tool.name));
            hosted.retain(|tool| kinds.contains(tool.name.as_str()));
            let mode = allowed.mode.as_deref().unwrap_or("auto");
            let what = "must be \"auto\" or \"required\"";
            word(mode).map(Some).ok_or_else(|| refuse("tool_choice.allowed_tools.mode", what))
        }
        ("allowed_tools", None) => Err(refuse("tool_choice.allowed_tools", "is missing")),
        (kind @ ("function" | "custom"), _) => match choice.function.or(choice.custom) {
            Some(named) => Ok(Some(ToolChoice::Named(named.name))),
            None => Err(refuse(&format!("tool_choice.{kind}"), "is missing")),
        },
        (kind, _) if hosted_tools::force(kind, hosted) => Ok(None),
        _ => Err(refuse(PATH, "can only name one of `tools`")),
    }
}

fn stop(raw: &RawValue) -> Result<Vec<String>, ApiError> {
    match raw.get().as_bytes() {
        [b'"', ..] => Ok(vec![parse("stop", raw.get())?]),
        [b'[', ..] => parse("stop", raw.get()),
        _ => Err(refuse("stop", "must be a string or an array of strings")),
    }
}

fn format(body: &FormatBody<'_>) -> Result<Option<Format>, ApiError> {
    match (body.kind.as_str(), body.json_schema) {
        ("text", _) => Ok(None),
        ("json_object", _) => Ok(Some(Format::Json)),
        ("json_schema", Some(raw)) => {
            let body: SchemaBody = parse("response_format.json_schema", raw.get())?;
            Ok(Some(Format::Schema { name: body.name, schema: body.schema, strict: body.strict }))
        }
        ("json_schema", None) => Err(refuse("response_format.json_schema", "is missing")),
        _ => Err(refuse(
            "response_format.type",
            "must be \"text\", \"json_object\" or \"json_schema\"",
        )),
    }
}

fn reasoning(effort: Option<String>, body: Option<ReasoningBody>) -> Option<Reasoning> {
    let (inner, budget, enabled) =
        body.map_or((None, None, None), |body| (body.effort, body.max_tokens, body.enabled));
    // Groq API reference: `default` lets a model that can reason do so.
    let effort = effort.or(inner).filter(|effort| effort != "default");
    let enabled = if effort.as_deref() == Some("none") { Some(false) } else { enabled };
    let reasoning = Reasoning { enabled, effort, budget };
    (reasoning != Reasoning::default()).then_some(reasoning)
}
