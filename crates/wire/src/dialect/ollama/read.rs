//! Request reader: a whole request of either form, for translation.
//!
//! An error names the path of the field that is invalid or cannot be translated, and never repeats a value.
//! Dropped, because they only control the vendor's own operation: `keep_alive`, `truncate`, `shift`, and
//! every one of `options` that is not listed here (`num_ctx`, `mirostat`, `repeat_penalty` ...). Rejected,
//! because the answer would not match the request: `suffix`, `raw`, `template` and `context`, and a request
//! without a prompt, which loads a model.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read_turns::{self, MessageBody};
use crate::body::{of_type, optional_object, parse, refuse};
use crate::chat::{ApiError, Format, Message, Part, Reasoning, Request, Role, Tool};
use crate::dialect::Form;
use crate::json;

type Raw<'a> = Option<&'a RawValue>;

/// A body of either form.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Option<Vec<MessageBody<'a>>>,
    prompt: Option<String>,
    system: Option<String>,
    images: Option<Vec<String>>,
    suffix: Option<String>,
    template: Option<String>,
    #[serde(borrow)]
    context: Raw<'a>,
    raw: Option<bool>,
    #[serde(borrow)]
    tools: Option<Vec<ToolBody<'a>>>,
    #[serde(borrow)]
    format: Raw<'a>,
    #[serde(borrow)]
    options: Option<Options<'a>>,
    #[serde(borrow)]
    think: Raw<'a>,
    logprobs: Option<bool>,
    top_logprobs: Option<u64>,
}

#[derive(Deserialize)]
struct ToolBody<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    function: Raw<'a>,
}

#[derive(Deserialize)]
struct FunctionBody {
    name: String,
    description: Option<String>,
    #[serde(default, deserialize_with = "optional_object")]
    parameters: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
struct Options<'a> {
    num_predict: Option<serde_json::Number>,
    #[serde(borrow)]
    stop: Raw<'a>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<serde_json::Number>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    seed: Option<serde_json::Number>,
}

/// Reads the whole request.
pub(super) fn request(form: Form, json: &str) -> Result<Request, ApiError> {
    let mut body: Body<'_> = parse("", json)?;
    let messages = if form == Form::Generate { generated(&mut body)? } else { chat(&mut body)? };
    let options = body.options.take().unwrap_or_default();
    // Anything below zero means that there is no limit.
    let count = |number: Option<serde_json::Number>| {
        number.and_then(|number| u64::try_from(whole(&number)?).ok()).filter(|count| *count > 0)
    };
    Ok(Request {
        messages,
        tools: tools(body.tools.unwrap_or_default())?,
        max_tokens: count(options.num_predict),
        stop: options.stop.map(stop).transpose()?.unwrap_or_default(),
        temperature: options.temperature,
        top_p: options.top_p,
        top_k: count(options.top_k),
        presence_penalty: options.presence_penalty,
        frequency_penalty: options.frequency_penalty,
        seed: options.seed.as_ref().and_then(whole),
        logprobs: body.logprobs.unwrap_or(false),
        top_logprobs: body.top_logprobs,
        format: body.format.map(format).transpose()?.flatten(),
        reasoning: body.think.map(think).transpose()?.flatten(),
        caches_itself: true,
        ..Request::default()
    })
}

fn chat(body: &mut Body<'_>) -> Result<Vec<Message>, ApiError> {
    let messages = body.messages.take().unwrap_or_default();
    if messages.is_empty() {
        return Err(refuse(
            "messages",
            "is empty, which loads a model: only Ollama itself does that",
        ));
    }
    read_turns::messages(messages)
}

/// A prompt is a conversation of one turn, with or without a system prompt.
fn generated(body: &mut Body<'_>) -> Result<Vec<Message>, ApiError> {
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let context = body.context.is_some_and(|raw| !matches!(raw.get(), "null" | "[]"));
    let refused = [
        ("suffix", said(&body.suffix), "cannot be translated: other APIs do not fill in text"),
        ("template", said(&body.template), "cannot be translated: it is for Ollama's own models"),
        ("raw", body.raw == Some(true), "cannot be translated: other APIs have no raw prompts"),
        ("context", context, "cannot be translated: its tokens are those of one model"),
    ];
    if let Some((name, _, why)) = refused.iter().find(|(_, present, _)| *present) {
        return Err(refuse(name, why));
    }
    let prompt = body.prompt.take().filter(|prompt| !prompt.is_empty());
    let prompt = prompt.ok_or_else(|| {
        refuse("prompt", "is missing, which loads a model: only Ollama itself does that")
    })?;
    let mut parts = read_turns::images("images", body.images.take().unwrap_or_default())?;
    parts.push(Part::Text(prompt));
    let system = body.system.take().filter(|system| !system.is_empty());
    let system = system.map(|system| message("system", Role::System, vec![Part::Text(system)]));
    Ok(system.into_iter().chain([message("prompt", Role::User, parts)]).collect())
}

fn message(at: &str, role: Role, parts: Vec<Part>) -> Message {
    Message { at: at.to_owned(), role, parts }
}

fn tools(bodies: Vec<ToolBody<'_>>) -> Result<Vec<Tool>, ApiError> {
    let read = |(i, body): (usize, ToolBody<'_>)| {
        let path = format!("tools[{i}]");
        if let Some(kind) = body.kind.as_deref().filter(|kind| *kind != "function") {
            let what = "cannot be translated; only functions can";
            return Err(refuse(&path, &format!("{}{what}", of_type(kind))));
        }
        let path = format!("{path}.function");
        let raw = body.function.ok_or_else(|| refuse(&path, "is missing"))?;
        let function: FunctionBody = parse(&path, raw.get())?;
        Ok(Tool {
            name: function.name,
            description: function.description,
            parameters: function.parameters,
            ..Tool::default()
        })
    };
    bodies.into_iter().enumerate().map(read).collect()
}

fn stop(raw: &RawValue) -> Result<Vec<String>, ApiError> {
    match json::text(raw) {
        Some(text) => Ok(vec![text.into_owned()]),
        None if raw.get().starts_with('[') => parse("options.stop", raw.get()),
        None => Err(refuse("options.stop", "must be a string or an array of strings")),
    }
}

/// The server takes `42.0` for 42, and some clients write it.
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| format!("{:.0}", number.as_f64()?).parse().ok())
}

fn format(raw: &RawValue) -> Result<Option<Format>, ApiError> {
    match raw.get() {
        "null" | "\"\"" => Ok(None),
        "\"json\"" => Ok(Some(Format::Json)),
        object if object.starts_with('{') => {
            Ok(Some(Format::Schema { name: None, schema: raw.to_owned(), strict: None }))
        }
        _ => Err(refuse("format", "must be \"json\" or a JSON Schema")),
    }
}

fn think(raw: &RawValue) -> Result<Option<Reasoning>, ApiError> {
    match raw.get() {
        "null" => Ok(None),
        "true" => Ok(Some(Reasoning { enabled: Some(true), ..Reasoning::default() })),
        "false" | "\"none\"" => {
            Ok(Some(Reasoning { enabled: Some(false), ..Reasoning::default() }))
        }
        "\"low\"" | "\"medium\"" | "\"high\"" | "\"max\"" => {
            let effort = json::text(raw).map(std::borrow::Cow::into_owned);
            Ok(Some(Reasoning { enabled: Some(true), effort, budget: None }))
        }
        _ => Err(refuse("think", "must be true, false, \"low\", \"medium\", \"high\" or \"max\"")),
    }
}
