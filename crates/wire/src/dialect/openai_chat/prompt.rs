//! A filled-in prompt in the caller's JSON. Everything of the caller's own stays byte for byte.

use serde_json::Value;

use super::request::members;
use crate::body::syntax;
use crate::chat::{Fault, Rendered, Role};
use crate::json::{self, quoted};

/// Puts the prompt's messages first, and says what the caller does not.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, Fault> {
    let said = members(body)?;
    let own = said.get("messages").filter(|value| !json::is_null(value));
    let texts: Vec<String> = prompt.messages.iter().map(message).collect();
    let messages = json::prepend(own.map_or("[]", |own| own.get()), &texts)
        .ok_or_else(|| Fault::field("messages", "`messages` must be a list"))?;
    let mut added = parameters(prompt);
    // The older name says the same.
    if !json::is_unsaid(&said, "max_tokens") {
        added.retain(|(name, _)| *name != "max_completion_tokens");
    }
    added.retain(|(name, _)| json::is_unsaid(&said, name));
    // SDKs demand a model; an empty one is none.
    if let Some(model) = &prompt.model
        && said.get("model").is_none_or(|own| json::is_null(own) || own.get() == r#""""#)
    {
        added.push(("model", quoted(model)));
    }
    let mut edits = vec![("prompt", None), ("messages", Some(messages.as_str()))];
    edits.extend(added.iter().map(|(name, value)| (*name, Some(value.as_str()))));
    json::edit(body, &edits).map_err(|error| syntax(&error))
}

fn message((role, text): &(Role, String)) -> String {
    let role = match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    format!(r#"{{"role":"{role}","content":{}}}"#, quoted(text))
}

/// The vendor has no word for `top_k`, and refuses it.
fn parameters(prompt: &Rendered) -> Vec<(&'static str, String)> {
    let said = &prompt.parameters;
    let stop = (!said.stop.is_empty()).then(|| said.stop.clone());
    let all = [
        ("temperature", said.temperature.map(Value::from)),
        ("top_p", said.top_p.map(Value::from)),
        ("max_completion_tokens", said.max_tokens.map(Value::from)),
        ("stop", stop.map(Value::from)),
        ("presence_penalty", said.presence_penalty.map(Value::from)),
        ("frequency_penalty", said.frequency_penalty.map(Value::from)),
        ("seed", said.seed.map(Value::from)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}
