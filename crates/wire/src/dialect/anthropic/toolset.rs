//! The computer toolset, one entry that declares a family of tools, as functions named `computer__MEMBER`.
//! Their calls have the member's name and the toolset's beside it.
//!
//! Members: Anthropic API reference, `computer_toolset_20260801` (beta).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::request::parse;
use crate::cache_control::CacheControl;
use crate::chat::{ApiError, Tool, ToolForm, ToolForms, function_name};

/// Name of the toolset, as calls carry it.
const COMPUTER: &str = "computer";

/// Names and arguments. `?` after an argument: it may be left out.
const MEMBERS: [(&str, &[&str]); 17] = [
    ("screenshot", &[]),
    ("zoom", &["region"]),
    ("left_click", &["coordinate?", "text?"]),
    ("right_click", &["coordinate?", "text?"]),
    ("middle_click", &["coordinate?", "text?"]),
    ("double_click", &["coordinate?", "text?"]),
    ("triple_click", &["coordinate?", "text?"]),
    ("left_click_drag", &["start_coordinate", "coordinate", "text?"]),
    ("mouse_move", &["coordinate"]),
    ("left_mouse_down", &[]),
    ("left_mouse_up", &[]),
    ("cursor_position", &[]),
    ("scroll", &["scroll_direction", "scroll_amount", "coordinate?", "text?"]),
    ("type", &["text"]),
    ("key", &["text", "repeat?"]),
    ("hold_key", &["text", "duration"]),
    ("wait", &["duration"]),
];

#[derive(Debug, Deserialize)]
struct Toolset {
    configs: Option<HashMap<String, Option<Config>>>,
    cache_control: Option<CacheControl>,
}

#[derive(Debug, Deserialize)]
struct Config {
    enabled: Option<bool>,
}

/// Reads the toolset into functions, and adds their forms in this dialect.
pub(super) fn computer(
    raw: &RawValue,
    at: &str,
    tools: &mut Vec<Tool>,
    forms: &mut ToolForms,
) -> Result<(), ApiError> {
    let Toolset { configs, cache_control } = parse(raw.get(), at)?;
    let configs = configs.unwrap_or_default();
    let is_enabled = |name: &str| {
        let config = configs.get(name).and_then(Option::as_ref);
        config.and_then(|config| config.enabled) != Some(false)
    };
    for (name, arguments) in MEMBERS.iter().filter(|(name, _)| is_enabled(name)) {
        let taken = |name: &str| tools.iter().any(|tool| tool.name == name);
        let function = function_name(Some(COMPUTER), name, &taken);
        let namespace = Some(COMPUTER.to_owned());
        let form = ToolForm { kind: "toolset".into(), namespace, name: (*name).to_owned() };
        forms.insert(function.clone(), form);
        tools.push(Tool {
            name: function,
            description: Some(format!("Controls a computer: {}.", name.replace('_', " "))),
            parameters: RawValue::from_string(schema(arguments).to_string()).ok(),
            ..Tool::default()
        });
    }
    if let Some(last) = tools.last_mut() {
        last.cache = last.cache.take().or_else(|| cache_control.map(CacheControl::mark));
    }
    Ok(())
}

fn schema(arguments: &[&str]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for argument in arguments {
        let name = argument.trim_end_matches('?');
        if name == *argument {
            required.push(name);
        }
        properties.insert(name.to_owned(), property(name));
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn property(name: &str) -> Value {
    let numbers = |about: &str| json!({ "type": "array", "items": { "type": "integer" }, "description": about });
    match name {
        "coordinate" | "start_coordinate" => numbers("[x, y] in pixels of the screenshots"),
        "region" => numbers("[x1, y1, x2, y2] in pixels of the screenshots"),
        "duration" => json!({ "type": "number", "description": "Seconds" }),
        "scroll_amount" | "repeat" => json!({ "type": "integer" }),
        "scroll_direction" => json!({ "type": "string", "enum": ["up", "down", "left", "right"] }),
        _ => {
            json!({ "type": "string", "description": "A text; for keys their names, as xdotool has them" })
        }
    }
}
