//! `computerUse`, which the client runs, as functions: the vendor declares predefined ones for it, whose
//! calls are plain function calls.
//!
//! Functions and arguments: Google's reference agent (google-gemini/computer-use-preview, 2026-06), those
//! of gemini-3.5-flash and later. Coordinates are in thousandths of the screen.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::request::parse;
use crate::chat::{ApiError, Tool};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComputerUse {
    environment: Option<String>,
    #[serde(alias = "excluded_predefined_functions")]
    excluded_predefined_functions: Option<Vec<String>>,
}

/// Names, arguments and purposes. `?` after an argument: it may be left out.
const FUNCTIONS: [(&str, &[&str], &str); 20] = [
    ("click", &["x", "y"], "Clicks the left mouse button."),
    ("double_click", &["x", "y"], "Clicks twice."),
    ("triple_click", &["x", "y"], "Clicks three times."),
    ("middle_click", &["x", "y"], "Clicks the middle mouse button."),
    ("right_click", &["x", "y"], "Clicks the right mouse button."),
    ("mouse_down", &["x", "y"], "Presses the left mouse button and holds it."),
    ("mouse_up", &["x", "y"], "Releases the left mouse button."),
    ("move", &["x", "y"], "Moves the mouse."),
    ("type", &["text", "press_enter?"], "Types a text."),
    (
        "drag_and_drop",
        &["x", "y", "destination_x", "destination_y"],
        "Drags from a point to another.",
    ),
    ("wait", &["seconds?"], "Waits."),
    ("press_key", &["key"], "Presses a key and releases it."),
    ("key_down", &["key"], "Presses a key and holds it."),
    ("key_up", &["key"], "Releases a key."),
    ("hotkey", &["keys"], "Presses several keys together."),
    ("take_screenshot", &[], "Takes a screenshot."),
    ("scroll", &["x", "y", "direction", "magnitude?"], "Scrolls at a point."),
    ("go_back", &[], "Goes back in the browser's history."),
    ("navigate", &["url"], "Opens an address."),
    ("go_forward", &[], "Goes forward in the browser's history."),
];

/// Reads the member `computerUse` of a tool.
pub(super) fn computer_use(raw: &RawValue, at: &str) -> Result<Vec<Tool>, ApiError> {
    let at = format!("{at}.computerUse");
    let ComputerUse { environment, excluded_predefined_functions: excluded } =
        parse(raw.get(), &at)?;
    let environment = environment.unwrap_or_default().to_ascii_uppercase();
    if !matches!(environment.as_str(), "" | "ENVIRONMENT_UNSPECIFIED" | "ENVIRONMENT_BROWSER") {
        let message = format!(
            "`{at}.environment` must be ENVIRONMENT_BROWSER to be translated; declare the functions \
             in `functionDeclarations` or choose another model"
        );
        return Err(ApiError::field(format!("{at}.environment"), message));
    }
    let excluded = excluded.unwrap_or_default();
    let wanted = FUNCTIONS.iter().filter(|(name, ..)| !excluded.iter().any(|out| out == name));
    Ok(wanted.map(|(name, arguments, about)| function(name, arguments, about)).collect())
}

fn function(name: &str, arguments: &[&str], about: &str) -> Tool {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for argument in arguments {
        let name = argument.trim_end_matches('?');
        if name == *argument {
            required.push(name);
        }
        properties.insert(name.to_owned(), schema(name));
    }
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    Tool {
        name: name.to_owned(),
        description: Some(about.to_owned()),
        parameters: RawValue::from_string(schema.to_string()).ok(),
        ..Tool::default()
    }
}

fn schema(argument: &str) -> Value {
    match argument {
        "x" | "destination_x" => {
            json!({ "type": "integer", "description": "From the left, 0 to 999 over the screen's width" })
        }
        "y" | "destination_y" => {
            json!({ "type": "integer", "description": "From the top, 0 to 999 over the screen's height" })
        }
        "magnitude" => json!({ "type": "integer", "description": "How far, 0 to 999" }),
        "seconds" => json!({ "type": "integer" }),
        "press_enter" => json!({ "type": "boolean", "description": "Presses Enter afterwards" }),
        "direction" => json!({ "type": "string", "enum": ["up", "down", "left", "right"] }),
        "keys" => json!({ "type": "array", "items": { "type": "string" } }),
        _ => json!({ "type": "string" }),
    }
}
