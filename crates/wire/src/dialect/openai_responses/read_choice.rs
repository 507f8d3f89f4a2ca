//! Reads `tool_choice`: a mode, one tool in any of its forms, or a list of allowed tools.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client_tools::{CUSTOM, ClientTool, FUNCTION};
use super::hosted_tools;
use super::read_tools::Tools;
use crate::body::{of_type, parse, refuse};
use crate::chat::{ApiError, ToolChoice};
use crate::json;

const PATH: &str = "tool_choice";

#[derive(Deserialize)]
struct ChoiceBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    namespace: Option<String>,
    mode: Option<String>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
}

/// Reads the choice. Tools that are not allowed are removed. A hosted tool that is required is marked as
/// such.
pub(super) fn tool_choice(
    raw: &RawValue,
    tools: &mut Tools,
) -> Result<Option<ToolChoice>, ApiError> {
    if let Some(said) = json::text(raw) {
        let what = "must be \"none\", \"auto\", \"required\" or an object";
        return word(&said).map(Some).ok_or_else(|| refuse(PATH, what));
    }
    let choice: ChoiceBody<'_> = parse(PATH, raw.get())?;
    if choice.kind != "allowed_tools" {
        if hosted_tools::force(&choice.kind, &mut tools.hosted) {
            return Ok(None);
        }
        let mut functions = functions(PATH, &choice, tools)?;
        return Ok(Some(match functions.pop() {
            Some(function) if functions.is_empty() => ToolChoice::Named(function),
            last => {
                functions.extend(last);
                retain(tools, &functions.into_iter().collect());
                ToolChoice::Required
            }
        }));
    }
    let hosted: HashSet<String> = tools.hosted.iter().map(|tool| tool.name.clone()).collect();
    let (mut allowed, mut kinds) = (HashSet::new(), HashSet::new());
    let mut namespaces = HashSet::new();
    for (i, raw) in choice.tools.into_iter().flatten().enumerate() {
        let path = format!("{PATH}.tools[{i}]");
        let entry: ChoiceBody<'_> = parse(&path, raw.get())?;
        if hosted.contains(&entry.kind) {
            kinds.insert(entry.kind);
        } else if entry.kind != "namespace" || namespaces.insert(entry.name.clone()) {
            allowed.extend(functions(&path, &entry, tools)?);
        }
    }
    retain(tools, &allowed);
    tools.hosted.retain(|tool| kinds.contains(&*tool.name));
    let mode = choice.mode.unwrap_or_else(|| "auto".to_owned());
    let mode = word(&mode).map(Some);
    mode.ok_or_else(|| refuse("tool_choice.mode", "must be \"auto\" or \"required\""))
}

fn word(word: &str) -> Option<ToolChoice> {
    match word {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

fn retain(tools: &mut Tools, allowed: &HashSet<String>) {
    tools.functions.retain(|tool| allowed.contains(&tool.name));
}

/// The functions that a choice names: one, but for a whole namespace.
fn functions(path: &str, choice: &ChoiceBody<'_>, tools: &Tools) -> Result<Vec<String>, ApiError> {
    let kind = choice.kind.as_str();
    let undeclared = || refuse(path, &format!("{}is not among the `tools`", of_type(kind)));
    match (kind, &choice.name) {
        (FUNCTION | CUSTOM, Some(name)) => {
            Ok(vec![named(choice.namespace.as_deref(), name, tools)])
        }
        (FUNCTION | CUSTOM | "namespace", None) => {
            Err(refuse(&format!("{path}.name"), "is missing"))
        }
        ("namespace", Some(name)) => {
            let inside = tools.inside(name);
            if inside.is_empty() { Err(undeclared()) } else { Ok(inside.to_vec()) }
        }
        ("computer" | "computer_use" | "computer_use_preview", _) => {
            let any = tools.typed("computer").or_else(|| tools.typed("computer_use_preview"));
            Ok(vec![any.ok_or_else(undeclared)?.to_owned()])
        }
        (kind, _) if ClientTool::of_kind(kind).is_some() => {
            Ok(vec![tools.typed(kind).ok_or_else(undeclared)?.to_owned()])
        }
        _ => {
            let what = "cannot be chosen: only a function, a custom tool or another tool that the \
                        client runs can";
            Err(refuse(path, &format!("{}{what}", of_type(kind))))
        }
    }
}

/// A tool by its name: that of its namespace if one is given, else one without a namespace, else the only
/// one of any namespace.
fn named(namespace: Option<&str>, name: &str, tools: &Tools) -> String {
    let function = tools.function(namespace, name);
    if namespace.is_some() || tools.declares(&function) {
        return function;
    }
    tools.only(name).map_or(function, str::to_owned)
}
