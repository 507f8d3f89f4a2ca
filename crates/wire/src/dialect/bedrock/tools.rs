//! Tools, and how the model may use them.
//!
//! The vendor requires the tools' descriptions wherever the conversation holds a call, even when the model
//! may not call any tool, and has no value for that choice. Models of Anthropic have one of their own,
//! which is passed through to them.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;

use super::write_turns::CachePoint;
use crate::chat::{ApiError, Part, Request, Tool, ToolChoice};
use crate::json::{Members, edit};

/// The schema of a tool that takes no arguments, or of which none is known.
const NOTHING: &str = r#"{"type":"object","properties":{}}"#;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    tools: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Entry<'a> {
    ToolSpec(Specification<'a>),
    CachePoint(CachePoint<'a>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Specification<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Schema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Schema<'a> {
    json: Cow<'a, RawValue>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    /// `{"auto":{}}` and not `"auto"`.
    Auto {},
    Any {},
    Tool {
        name: &'a str,
    },
}

/// Fields for models of Anthropic that this dialect has no field for.
#[derive(Debug, Serialize)]
pub(super) struct NativeChoice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

/// The tools, and the fields for models of Anthropic (`native`) besides.
pub(super) fn tools(
    request: &Request,
    native: bool,
) -> Result<(Option<ToolConfig<'_>>, Option<NativeChoice<'_>>), ApiError> {
    let called = called(request);
    let none = request.tools.is_empty() || request.tool_choice == Some(ToolChoice::None);
    if none && called.is_empty() {
        return Ok((None, None));
    }
    let mut tools = Vec::with_capacity(request.tools.len() + 1);
    for tool in &request.tools {
        tools.push(entry(tool)?);
        let mark = tool.cache.as_ref().map(CachePoint::new);
        tools.extend(mark.map(Entry::CachePoint));
    }
    if tools.is_empty() {
        for name in called {
            let input_schema = Schema { json: Cow::Owned(nothing()?) };
            let spec = Specification { name, description: None, input_schema, strict: None };
            tools.push(Entry::ToolSpec(spec));
        }
    }
    let one_by_one = native && request.parallel_tool_calls == Some(false);
    let native_choice = |kind, name, disable_parallel_tool_use| {
        Some(NativeChoice { kind, name, disable_parallel_tool_use })
    };
    let (tool_choice, native) = match &request.tool_choice {
        _ if none => (None, if native { native_choice("none", None, false) } else { None }),
        // Written once only, so that two choices cannot contradict each other.
        Some(ToolChoice::Required) if one_by_one => (None, native_choice("any", None, true)),
        Some(ToolChoice::Named(name)) if one_by_one => {
            (None, native_choice("tool", Some(name.as_str()), true))
        }
        _ if one_by_one => (None, native_choice("auto", None, true)),
        Some(ToolChoice::Required) => (Some(Choice::Any {}), None),
        Some(ToolChoice::Named(name)) => (Some(Choice::Tool { name }), None),
        Some(ToolChoice::Auto) => (Some(Choice::Auto {}), None),
        Some(ToolChoice::None) | None => (None, None),
    };
    Ok((Some(ToolConfig { tools, tool_choice }), native))
}

/// The names of the tools that the conversation holds calls of, each once.
fn called(request: &Request) -> Vec<&str> {
    let (mut names, mut known) = (Vec::new(), HashSet::new());
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        if let Part::ToolCall { name, .. } = part
            && known.insert(name.as_str())
        {
            names.push(name.as_str());
        }
    }
    names
}

fn nothing() -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(NOTHING.to_owned()).map_err(|_| unfit())
}

fn unfit() -> ApiError {
    ApiError::field("tools", "the parameters of a tool must be a JSON Schema object")
}

fn entry(tool: &Tool) -> Result<Entry<'_>, ApiError> {
    let json = match tool.parameters.as_deref() {
        None => Cow::Owned(nothing()?),
        // The vendor requires `type`, which other vendors imply.
        Some(schema) => match Members::parse(schema.get()).map_err(|_| unfit())?.get("type") {
            Some(_) => Cow::Borrowed(schema),
            None => edit(schema.get(), &[("type", Some(r#""object""#))])
                .and_then(RawValue::from_string)
                .map(Cow::Owned)
                .map_err(|_| unfit())?,
        },
    };
    let description = tool.description.as_deref().filter(|words| !words.is_empty());
    let input_schema = Schema { json };
    let (name, strict) = (tool.name.as_str(), tool.strict);
    Ok(Entry::ToolSpec(Specification { name, description, input_schema, strict }))
}
