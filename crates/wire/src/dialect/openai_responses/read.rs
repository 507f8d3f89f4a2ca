//! Request reader: a whole request, for translation.
//!
//! An error names the path of the field that is invalid or cannot be translated, and never repeats a value.
//! Unknown top-level fields are dropped, as are those that only control the vendor's own operation:
//! `store`, `metadata`, `service_tier`, `safety_identifier`, `truncation`, `max_tool_calls`,
//! `context_management`, `stream_options`, `text.verbosity`, and every `include` but log probabilities.
//! Hosted tools are read as such. Rejected, because the answer would not match the request: references to
//! state at the vendor (`previous_response_id`, `conversation`, `prompt`, `background`), tools of unknown
//! types (`read_tools.rs`), and the items listed in `read_turns.rs`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read_choice::tool_choice;
use super::{read_tools, read_turns};
use crate::body::{optional_object, parse, refuse};
use crate::chat::{ApiError, Format, Message, Part, Reasoning, Request, Role};
use crate::json;

type Raw<'a> = Option<&'a RawValue>;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    input: Raw<'a>,
    instructions: Option<String>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    tool_choice: Raw<'a>,
    parallel_tool_calls: Option<bool>,
    max_output_tokens: Option<u64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_logprobs: Option<u64>,
    include: Option<Vec<String>>,
    #[serde(borrow)]
    text: Option<TextBody<'a>>,
    reasoning: Option<ReasoningBody>,
    user: Option<String>,
    prompt_cache_key: Option<String>,
    #[serde(borrow)]
    previous_response_id: Raw<'a>,
    #[serde(borrow)]
    conversation: Raw<'a>,
    #[serde(borrow)]
    prompt: Raw<'a>,
    background: Option<bool>,
}

#[derive(Deserialize)]
struct TextBody<'a> {
    #[serde(borrow)]
    format: Raw<'a>,
}

#[derive(Deserialize)]
struct FormatBody {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    #[serde(default, deserialize_with = "optional_object")]
    schema: Option<Box<RawValue>>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ReasoningBody {
    effort: Option<String>,
    summary: Option<String>,
}

/// Reads the whole request.
pub(super) fn request(json: &str) -> Result<Request, ApiError> {
    let body: Body<'_> = parse("", json)?;
    refuse_state(&body)?;
    let mut messages = Vec::new();
    if let Some(text) = body.instructions.filter(|text| !text.is_empty()) {
        let at = "instructions".to_owned();
        messages.push(Message { at, role: Role::System, parts: vec![Part::Text(text)] });
    }
    let input = body.input.filter(|input| !json::is_null(input));
    let input = input.ok_or_else(|| refuse("input", "is missing: say what is to be answered"))?;
    let items = read_turns::items(input)?;
    let mut tools = read_tools::tools(&body.tools.unwrap_or_default(), &items)?;
    read_turns::messages(items, &tools, &mut messages)?;
    let choice = body.tool_choice.filter(|choice| !json::is_null(choice));
    let tool_choice = choice.map(|choice| tool_choice(choice, &mut tools));
    let tool_choice = tool_choice.transpose()?.flatten();
    let asks = |what: &str| body.include.iter().flatten().any(|included| included == what);
    let top_logprobs = body.top_logprobs.filter(|n| *n > 0);
    Ok(Request {
        messages,
        tools: tools.functions,
        tool_forms: tools.forms,
        hosted: tools.hosted,
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

/// Rejects references to state at the vendor. Without that state the answer would be to a different
/// conversation.
fn refuse_state(body: &Body<'_>) -> Result<(), ApiError> {
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

fn format(raw: &RawValue) -> Result<Option<Format>, ApiError> {
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

/// The reasoning settings. A request for a summary is a request to show the reasoning.
fn reasoning(body: ReasoningBody) -> Option<Reasoning> {
    let enabled = match body.effort.as_deref() {
        Some("none") => Some(false),
        _ => body.summary.map(|_| true),
    };
    let reasoning = Reasoning { enabled, effort: body.effort, budget: None };
    (reasoning != Reasoning::default()).then_some(reasoning)
}
