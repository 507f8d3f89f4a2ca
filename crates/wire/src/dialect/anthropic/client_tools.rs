//! The typed tools that the client runs, as functions: they have a type and a version instead of a schema.
//! Their calls need no form of their own. Tools that the vendor runs are not here.
//!
//! Arguments: Anthropic documentation, tool use (2026-08), and the vendor's Python library.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::request::parse;
use crate::cache_control::CacheControl;
use crate::chat::{ApiError, Tool};

#[derive(Debug, Deserialize)]
struct Typed {
    name: String,
    cache_control: Option<CacheControl>,
    max_characters: Option<u64>,
    display_width_px: Option<u64>,
    display_height_px: Option<u64>,
    enable_zoom: Option<bool>,
}

/// A family of types that differ in their version: the prefix before the version, and the function.
type Family = (&'static str, fn(&Typed, &str) -> (String, Value));

/// Every one. Versions are dates, `20250124`, and compare as texts.
const FAMILIES: [Family; 4] =
    [("bash_", bash), ("text_editor_", text_editor), ("memory_", memory), ("computer_", computer)];

/// Reads a tool of this type. `None`: it is none that the client runs.
pub(super) fn read(kind: &str, raw: &RawValue, at: &str) -> Result<Option<Tool>, ApiError> {
    let family = FAMILIES.iter().find_map(|(prefix, function)| {
        let version = kind.strip_prefix(prefix)?;
        let is_date = version.len() == 8 && version.bytes().all(|byte| byte.is_ascii_digit());
        is_date.then_some((version, function))
    });
    let Some((version, function)) = family else { return Ok(None) };
    let typed: Typed = parse(raw.get(), at)?;
    let (description, schema) = function(&typed, version);
    Ok(Some(Tool {
        name: typed.name,
        description: Some(description),
        parameters: RawValue::from_string(schema.to_string()).ok(),
        strict: None,
        cache: typed.cache_control.map(CacheControl::mark),
    }))
}

fn bash(_: &Typed, _: &str) -> (String, Value) {
    let schema = json!({ "type": "object", "properties": {
        "command": { "type": "string", "description": "The command to run. Required unless `restart` is true" },
        "restart": { "type": "boolean", "description": "Starts the shell anew" },
    } });
    ("Runs a command in a bash session that lasts.".to_owned(), schema)
}

fn text_editor(typed: &Typed, version: &str) -> (String, Value) {
    let mut commands = vec!["view", "create", "str_replace", "insert"];
    let mut properties = json!({
        "command": { "type": "string" },
        "path": { "type": "string", "description": "The file or directory" },
        "view_range": { "type": "array", "items": { "type": "integer" },
            "description": "Of `view`: the first and the last line, from 1; -1: to the end" },
        "file_text": { "type": "string", "description": "Of `create`: the content" },
        "old_str": { "type": "string", "description": "Of `str_replace`: what to replace. It must be there exactly once" },
        "new_str": { "type": "string", "description": "Of `str_replace`: the new text" },
        "insert_line": { "type": "integer", "description": "Of `insert`: the line after which; 0: the beginning" },
    });
    let inserted = json!({ "type": "string", "description": "Of `insert`: the text" });
    if version < "20250429" {
        commands.push("undo_edit");
        let both = "Of `str_replace`: the new text; of `insert`: the text";
        set(&mut properties, "new_str", json!({ "type": "string", "description": both }));
    } else {
        set(&mut properties, "insert_text", inserted);
    }
    set(&mut properties, "command", json!({ "type": "string", "enum": commands }));
    let most = typed.max_characters.map(|most| format!(" A view shows {most} characters at most."));
    let about = "Views, creates and edits text files.".to_owned() + &most.unwrap_or_default();
    let required = ["command", "path"];
    (about, json!({ "type": "object", "properties": properties, "required": required }))
}

fn memory(_: &Typed, _: &str) -> (String, Value) {
    let commands = ["view", "create", "str_replace", "insert", "delete", "rename"];
    let schema = json!({ "type": "object", "properties": {
        "command": { "type": "string", "enum": commands },
        "path": { "type": "string", "description": "A file or directory below /memories; not of `rename`" },
        "view_range": { "type": "array", "items": { "type": "integer" },
            "description": "Of `view`: the first and the last line" },
        "file_text": { "type": "string", "description": "Of `create`: the content" },
        "old_str": { "type": "string", "description": "Of `str_replace`: what to replace" },
        "new_str": { "type": "string", "description": "Of `str_replace`: the new text" },
        "insert_line": { "type": "integer", "description": "Of `insert`: the line after which" },
        "insert_text": { "type": "string", "description": "Of `insert`: the text" },
        "old_path": { "type": "string", "description": "Of `rename`" },
        "new_path": { "type": "string", "description": "Of `rename`" },
    }, "required": ["command"] });
    let about = "Keeps files below /memories between conversations. Look there first for what \
                 earlier ones have found, and write down what later ones need.";
    (about.to_owned(), schema)
}

fn computer(typed: &Typed, version: &str) -> (String, Value) {
    let mut actions = vec![
        "key",
        "type",
        "mouse_move",
        "left_click",
        "left_click_drag",
        "right_click",
        "middle_click",
        "double_click",
        "screenshot",
        "cursor_position",
    ];
    let point = json!({ "type": "array", "items": { "type": "integer" } });
    let mut properties = json!({
        "action": { "type": "string" },
        "coordinate": point,
        "text": { "type": "string", "description": "What to type; of `key` and `hold_key` the keys, as xdotool has them; of clicks the keys that are held" },
    });
    if version >= "20250124" {
        actions.extend([
            "hold_key",
            "left_mouse_down",
            "left_mouse_up",
            "triple_click",
            "scroll",
            "wait",
        ]);
        set(&mut properties, "start_coordinate", point.clone());
        set(&mut properties, "duration", json!({ "type": "number", "description": "Seconds" }));
        set(&mut properties, "scroll_amount", json!({ "type": "integer" }));
        let directions = ["up", "down", "left", "right"];
        let direction = json!({ "type": "string", "enum": directions });
        set(&mut properties, "scroll_direction", direction);
    }
    if typed.enable_zoom == Some(true) {
        actions.push("zoom");
        let mut region = point;
        set(&mut region, "description", json!("Of `zoom`: x1, y1, x2, y2"));
        set(&mut properties, "region", region);
    }
    set(&mut properties, "action", json!({ "type": "string", "enum": actions }));
    let size = typed.display_width_px.zip(typed.display_height_px);
    let size = size.map(|(width, height)| {
        format!(" The screen has {width} x {height} pixels; coordinates are [x, y] from the left and the top.")
    });
    let about =
        "Controls the mouse and the keyboard of a computer, and takes screenshots.".to_owned();
    let schema = json!({ "type": "object", "properties": properties, "required": ["action"] });
    (about + &size.unwrap_or_default(), schema)
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}
