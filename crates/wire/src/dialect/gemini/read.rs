//! Request reader: a whole request, for translation. Members come in camel case or in snake case, as the vendor
//! takes them, and any list may be its only element instead.
//!
//! Rejected by name, because only the vendor supports it: cached content, answers in other media than text.
//! Dropped: `safetySettings`, `labels`, the service tier and the resolution of media, which control the
//! vendor's operation and not the content of the answer.

use std::collections::HashSet;
use std::fmt::Formatter;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::read_turns::{instruction, turns};
use super::request::parse;
use super::schema::{json_schema, plain_schema};
use super::{client_tools, hosted_tools};
use crate::body::{of_type, optional_object};
use crate::chat::{
    ApiError, Format, HostedTool, Message, Part, Reasoning, Request, Role, Tool, ToolChoice,
};
use crate::json::{Members, is_null, text};

/// The members about speech and images in answers.
const SPEECH: &str = "generationConfig.speechConfig";
const IMAGE: &str = "generationConfig.imageConfig";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    contents: &'a RawValue,
    #[serde(borrow, alias = "system_instruction")]
    system_instruction: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(alias = "tool_config")]
    tool_config: Option<ToolConfig>,
    #[serde(borrow, alias = "generation_config")]
    generation_config: Option<Generation<'a>>,
    #[serde(borrow, alias = "cached_content")]
    cached_content: Option<&'a RawValue>,
}

/// One turn.
#[derive(Debug, Deserialize)]
pub(super) struct Turn<'a> {
    pub(super) role: Option<String>,
    #[serde(borrow)]
    pub(super) parts: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig {
    #[serde(alias = "function_calling_config")]
    function_calling_config: Option<Calling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calling {
    mode: Option<String>,
    #[serde(default, deserialize_with = "texts", alias = "allowed_function_names")]
    allowed_function_names: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(default, deserialize_with = "texts", alias = "stop_sequences")]
    stop_sequences: Option<Vec<String>>,
    #[serde(alias = "response_mime_type")]
    response_mime_type: Option<String>,
    #[serde(default, deserialize_with = "optional_object", alias = "response_schema")]
    response_schema: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "optional_object")]
    #[serde(alias = "response_json_schema", alias = "_responseJsonSchema")]
    response_json_schema: Option<Box<RawValue>>,
    #[serde(alias = "response_modalities")]
    response_modalities: Option<Vec<String>>,
    #[serde(borrow, alias = "speech_config")]
    speech_config: Option<&'a RawValue>,
    #[serde(borrow, alias = "image_config")]
    image_config: Option<&'a RawValue>,
    #[serde(alias = "candidate_count")]
    candidate_count: Option<u64>,
    #[serde(alias = "max_output_tokens")]
    max_output_tokens: Option<u64>,
    temperature: Option<f64>,
    #[serde(alias = "top_p")]
    top_p: Option<f64>,
    #[serde(alias = "top_k")]
    top_k: Option<f64>,
    seed: Option<i64>,
    #[serde(alias = "presence_penalty")]
    presence_penalty: Option<f64>,
    #[serde(alias = "frequency_penalty")]
    frequency_penalty: Option<f64>,
    #[serde(alias = "response_logprobs")]
    response_logprobs: Option<bool>,
    logprobs: Option<u64>,
    #[serde(alias = "thinking_config")]
    thinking_config: Option<Thinking>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thinking {
    #[serde(rename = "thinkingBudget", alias = "thinking_budget")]
    budget: Option<i64>,
    #[serde(rename = "thinkingLevel", alias = "thinking_level")]
    level: Option<String>,
    #[serde(alias = "include_thoughts")]
    include_thoughts: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Function {
    name: String,
    description: Option<String>,
    #[serde(default, deserialize_with = "optional_object")]
    parameters: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "optional_object", alias = "parameters_json_schema")]
    parameters_json_schema: Option<Box<RawValue>>,
}

/// Reads a request.
pub(super) fn decode_request(body: &str) -> Result<Request, ApiError> {
    let body: Body<'_> = parse(body, "")?;
    let config = body.generation_config.unwrap_or_default();
    refuse_foreign(body.cached_content, &config)?;
    let mut messages = Vec::new();
    if let Some(raw) = said(body.system_instruction) {
        messages.extend(instructions(raw)?);
    }
    turns(body.contents, &mut messages)?;
    let (mut tools, hosted) = tools(&elements(body.tools, "tools")?)?;
    let calling = body.tool_config.and_then(|config| config.function_calling_config);
    let tool_choice = calling.map(|calling| tool_choice(&calling, &mut tools)).transpose()?;
    let format = format(&config)?;
    let untranslatable = left_out(&config);
    Ok(Request {
        untranslatable,
        messages,
        tools,
        hosted,
        tool_choice: tool_choice.flatten(),
        max_tokens: config.max_output_tokens,
        stop: config.stop_sequences.unwrap_or_default(),
        temperature: config.temperature,
        top_p: config.top_p,
        top_k: whole(config.top_k)?,
        presence_penalty: config.presence_penalty,
        frequency_penalty: config.frequency_penalty,
        seed: config.seed,
        n: config.candidate_count,
        logprobs: config.response_logprobs.unwrap_or(false),
        top_logprobs: config.logprobs,
        format,
        reasoning: config.thinking_config.and_then(reasoning),
        caches_itself: true,
        ..Request::default()
    })
}

/// The elements of a list, or the only one that stands for it.
pub(super) fn elements<'a>(
    raw: Option<&'a RawValue>,
    at: &str,
) -> Result<Vec<&'a RawValue>, ApiError> {
    match said(raw) {
        None => Ok(Vec::new()),
        Some(raw) if raw.get().starts_with('{') => Ok(vec![raw]),
        Some(raw) => parse(raw.get(), at),
    }
}

/// Texts, or the only one.
fn texts<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Texts;
    impl<'de> Visitor<'de> for Texts {
        type Value = Option<Vec<String>>;

        fn expecting(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
            out.write_str("a string or an array of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.to_owned()]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = items.next_element()? {
                texts.push(text);
            }
            Ok(Some(texts))
        }
    }
    source.deserialize_any(Texts)
}

fn said(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| !is_null(raw))
}

/// Whether an object has no content.
fn is_empty(raw: &RawValue) -> bool {
    let inside = raw.get().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| inside.trim().is_empty())
}

/// The members about other media that are there without saying anything, and are left out.
fn left_out(config: &Generation<'_>) -> Vec<&'static str> {
    let members = [(SPEECH, config.speech_config), (IMAGE, config.image_config)];
    let there = members.into_iter().filter(|(_, raw)| said(*raw).is_some_and(is_empty));
    there.map(|(name, _)| name).collect()
}

fn refuse_foreign(cached: Option<&RawValue>, config: &Generation<'_>) -> Result<(), ApiError> {
    let modalities = config.response_modalities.iter().flatten();
    let mut media = modalities.filter(|modality| !modality.eq_ignore_ascii_case("TEXT"));
    let fields = [
        ("cachedContent", said(cached).is_some()),
        ("generationConfig.responseModalities", media.next().is_some()),
        (SPEECH, said(config.speech_config).is_some_and(|raw| !is_empty(raw))),
        (IMAGE, said(config.image_config).is_some_and(|raw| !is_empty(raw))),
    ];
    match fields.into_iter().find(|(_, there)| *there) {
        None => Ok(()),
        Some((name, _)) => {
            let message = "is for its own vendor and cannot be translated for this model's \
                           provider; leave it out or choose another model";
            Err(ApiError::field(name, message))
        }
    }
}

/// Numbers are numbers here; this one is whole all the same.
fn whole(top_k: Option<f64>) -> Result<Option<u64>, ApiError> {
    let Some(value) = top_k else { return Ok(None) };
    let text = format!("{value:.0}");
    text.parse().map(Some).map_err(|_| {
        ApiError::field("generationConfig.topK", "must be a whole number of 0 or more")
    })
}

/// A text, a list of parts, or an object with parts. Media in it cannot be translated.
fn instructions(raw: &RawValue) -> Result<Option<Message>, ApiError> {
    let at = "systemInstruction";
    if let Some(words) = text(raw) {
        return Ok(system(vec![Part::Text(words.into_owned())]));
    }
    let (raw, at) = if raw.get().starts_with('[') {
        (Some(raw), at.to_owned())
    } else {
        let Turn { parts, .. } = parse(raw.get(), at)?;
        (parts, format!("{at}.parts"))
    };
    let mut parts = Vec::new();
    for (i, raw) in elements(raw, &at)?.into_iter().enumerate() {
        parts.push(instruction(raw, &format!("{at}[{i}]"))?);
    }
    Ok(system(parts))
}

fn system(mut parts: Vec<Part>) -> Option<Message> {
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    let at = "systemInstruction".to_owned();
    (!parts.is_empty()).then_some(Message { at, role: Role::System, parts })
}

fn tools(tools: &[&RawValue]) -> Result<(Vec<Tool>, Vec<HostedTool>), ApiError> {
    let (mut out, mut predefined, mut hosted) = (Vec::new(), Vec::new(), Vec::new());
    for (i, raw) in tools.iter().enumerate() {
        let at = format!("tools[{i}]");
        let members: Members<'_> = parse(raw.get(), &at)?;
        for (name, value) in &members.0 {
            match name.as_ref() {
                _ if is_null(value) => {}
                "functionDeclarations" | "function_declarations" => {
                    let at = format!("{at}.functionDeclarations");
                    for (i, raw) in elements(Some(value), &at)?.into_iter().enumerate() {
                        out.push(tool(parse(raw.get(), &format!("{at}[{i}]"))?));
                    }
                }
                "computerUse" | "computer_use" => {
                    predefined.extend(client_tools::computer_use(value, &at)?);
                }
                kind => {
                    let message = format!(
                        "`{at}` {}cannot be translated for this model; \
                         leave it out or choose another model",
                        of_type(kind)
                    );
                    let tool = hosted_tools::read(kind, value, &at)?;
                    hosted.push(tool.ok_or_else(|| ApiError::field(at.as_str(), message))?);
                }
            }
        }
    }
    // The caller's own function of that name replaces a predefined one.
    let own: HashSet<String> = out.iter().map(|tool: &Tool| tool.name.clone()).collect();
    predefined.retain(|tool: &Tool| !own.contains(&tool.name));
    out.extend(predefined);
    Ok((out, hosted))
}

fn tool(function: Function) -> Tool {
    let plain = function.parameters_json_schema.as_deref().map(plain_schema);
    let parameters = plain.or_else(|| function.parameters.as_deref().map(json_schema));
    Tool { name: function.name, description: function.description, parameters, ..Tool::default() }
}

/// Several allowed names leave only those tools; a single one forces the call of that tool.
fn tool_choice(calling: &Calling, tools: &mut Vec<Tool>) -> Result<Option<ToolChoice>, ApiError> {
    let names = calling.allowed_function_names.as_deref().unwrap_or_default();
    let choice = match calling.mode.as_deref().unwrap_or("AUTO").to_ascii_uppercase().as_str() {
        "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED" => ToolChoice::Auto,
        "NONE" => ToolChoice::None,
        "ANY" => match names {
            [name] => return Ok(Some(ToolChoice::Named(name.clone()))),
            _ => ToolChoice::Required,
        },
        _ => {
            let message = "must be AUTO, ANY, NONE or VALIDATED";
            return Err(ApiError::field("toolConfig.functionCallingConfig.mode", message));
        }
    };
    if !names.is_empty() && choice != ToolChoice::None {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        tools.retain(|tool| names.contains(tool.name.as_str()));
    }
    Ok((!tools.is_empty()).then_some(choice))
}

fn format(config: &Generation<'_>) -> Result<Option<Format>, ApiError> {
    let plain = config.response_json_schema.as_deref().map(plain_schema);
    if let Some(schema) = plain.or_else(|| config.response_schema.as_deref().map(json_schema)) {
        return Ok(Some(Format::Schema { name: None, schema, strict: None }));
    }
    match config.response_mime_type.as_deref() {
        None | Some("" | "text/plain") => Ok(None),
        Some("application/json") => Ok(Some(Format::Json)),
        Some(_) => {
            let message = "must be text/plain or application/json to be translated";
            Err(ApiError::field("generationConfig.responseMimeType", message))
        }
    }
}

/// A budget of -1 leaves it to the model, 0 is none at all.
fn reasoning(thinking: Thinking) -> Option<Reasoning> {
    let effort = thinking
        .level
        .map(|level| level.to_ascii_lowercase())
        .filter(|level| !level.ends_with("unspecified"));
    let budget = thinking.budget.and_then(|budget| u64::try_from(budget).ok());
    let wanted = thinking.include_thoughts == Some(true) || thinking.budget == Some(-1);
    let enabled = if budget == Some(0) { Some(false) } else { wanted.then_some(true) };
    let budget = budget.filter(|budget| *budget > 0);
    (effort.is_some() || budget.is_some() || enabled.is_some()).then_some(Reasoning {
        enabled,
        effort,
        budget,
    })
}
