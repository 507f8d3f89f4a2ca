//! Reads calls of tools that the client runs, and their outputs, from the items of earlier turns. A call
//! that is malformed is no reason to reject a conversation.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client_tools::ClientTool;
use super::read_tools::Tools;
use super::read_turns::{ItemBody, content, image};
use crate::body::{parse, refuse};
use crate::cache_control::marked_result;
use crate::chat::{ApiError, Part};
use crate::{arguments, free_text, json};

#[derive(Deserialize)]
struct Screenshot {
    image_url: Option<String>,
}

#[derive(Deserialize)]
struct Loaded {
    name: Option<String>,
    tools: Option<Vec<Self>>,
}

/// Whether an item of this type is a call.
pub(super) fn is_call(kind: &str) -> bool {
    matches!(kind, "function_call" | "custom_tool_call")
        || ClientTool::of_call(kind).next().is_some()
}

/// Whether it is the output of one.
pub(super) fn is_output(kind: &str) -> bool {
    matches!(kind, "function_call_output" | "custom_tool_call_output")
        || ClientTool::is_output(kind)
}

/// The output of a local shell has one id, which clients take from the call's `id` or its `call_id`. `calls`:
/// the `call_id`s of the calls so far, by their `id`s.
pub(super) fn name_call(body: &mut ItemBody<'_>, calls: &mut HashMap<String, String>) {
    match body.kind.as_deref() {
        Some("local_shell_call") => {
            if let (Some(id), Some(call)) = (&body.id, &body.call_id) {
                calls.insert(id.clone(), call.clone());
            }
        }
        Some("local_shell_call_output") => {
            let named = body.call_id.take().or_else(|| body.id.take());
            body.call_id = named.map(|id| calls.get(&id).cloned().unwrap_or(id));
        }
        _ => {}
    }
}

/// Reads a call.
pub(super) fn call(path: &str, body: ItemBody<'_>, tools: &Tools) -> Result<Part, ApiError> {
    let missing = |name: &str| refuse(&format!("{path}.{name}"), "is missing");
    let kind = body.kind.as_deref().unwrap_or_default();
    let (name, arguments) = if let Some(tool) = typed(kind, &body) {
        let function = tools.typed(tool.kind).unwrap_or(tool.kind).to_owned();
        let member = match tool.member() {
            "action" => body.action,
            "actions" => body.actions,
            "operation" => body.operation,
            _ => body.arguments,
        };
        let inner = member.and_then(|member| tool.arguments(member));
        (function, arguments::object(inner.as_deref()))
    } else {
        let name = body.name.as_deref().ok_or_else(|| missing("name"))?;
        let namespace = body.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        (tools.function(namespace, name), written(path, &body)?)
    };
    let id = body.call_id.or(body.id).ok_or_else(|| missing("call_id"))?;
    Ok(Part::ToolCall { id, name, arguments })
}

/// The type of tool that a call of this type is of. Two have the same calls, but for one member.
fn typed(kind: &str, body: &ItemBody<'_>) -> Option<&'static ClientTool> {
    let said = |tool: &&ClientTool| match tool.member() {
        "actions" => body.actions.is_some_and(|actions| !json::is_null(actions)),
        _ => true,
    };
    ClientTool::of_call(kind).find(said)
}

/// Arguments are a string of JSON, or free text that is put into some.
fn written(path: &str, body: &ItemBody<'_>) -> Result<Box<RawValue>, ApiError> {
    if body.kind.as_deref() != Some("custom_tool_call") {
        return Ok(arguments::object(body.arguments));
    }
    let input = body.input.and_then(json::text);
    let written = input.and_then(|input| free_text::arguments(&input));
    written.ok_or_else(|| refuse(&format!("{path}.input"), "must be a string"))
}

/// Reads the output of a call.
pub(super) fn output(path: &str, body: ItemBody<'_>, tools: &Tools) -> Result<Vec<Part>, ApiError> {
    let at = format!("{path}.output");
    let failed = body.status.and_then(json::text).is_some_and(|status| status == "failed");
    let text = |text: String| vec![Part::Text(text)];
    let parts = match body.kind.as_deref() {
        Some("tool_search_output") => text(loaded(path, &body, tools)),
        Some("computer_call_output") => vec![screenshot(&at, body.output)?],
        // A list of each command's output and exit status.
        Some("shell_call_output") => {
            let told = body.output.map(|raw| json::text(raw).unwrap_or_else(|| raw.get().into()));
            text(told.unwrap_or_default().into_owned())
        }
        Some("apply_patch_call_output") => {
            let told = body.output.and_then(json::text).filter(|told| !told.is_empty());
            text(told.map_or_else(
                || if failed { "failed" } else { "completed" }.to_owned(),
                std::borrow::Cow::into_owned,
            ))
        }
        _ => content(&at, body.output)?,
    };
    let id = body.call_id.ok_or_else(|| refuse(&format!("{path}.call_id"), "is missing"))?;
    Ok(marked_result(id, parts, failed))
}

/// The functions that a search has loaded, by their names. Their definitions are among the request's tools.
fn loaded(path: &str, body: &ItemBody<'_>, tools: &Tools) -> String {
    let read = |raw: &RawValue| parse(&format!("{path}.tools"), raw.get());
    let found: Vec<Loaded> = body.tools.and_then(|raw| read(raw).ok()).unwrap_or_default();
    let mut names = Vec::new();
    for Loaded { name, tools: inside } in found {
        match (name, inside) {
            (Some(namespace), Some(inside)) => {
                let inside = inside.into_iter().filter_map(|tool| tool.name);
                names.extend(inside.map(|name| tools.function(Some(&namespace), &name)));
            }
            (Some(name), None) => names.push(tools.function(None, &name)),
            (None, _) => {}
        }
    }
    if names.is_empty() {
        return "No tools found.".to_owned();
    }
    format!("Tools loaded: {}", names.join(", "))
}

fn screenshot(path: &str, raw: Option<&RawValue>) -> Result<Part, ApiError> {
    let raw = raw.ok_or_else(|| refuse(path, "is missing"))?;
    let Screenshot { image_url } = parse(path, raw.get())?;
    image(path, image_url, None)
}
