//! A filled-in prompt in the caller's JSON. Everything of the caller's own stays byte for byte.

use serde_json::Value;

use super::request::members;
use crate::body::{refuse, syntax};
use crate::chat::{Fault, Rendered, Role};
use crate::json::{self, Members, quoted};

/// Puts the prompt's messages first, and says what the caller does not.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, Fault> {
    let said = members(body)?;
    let own = |name: &str| said.get(name).filter(|value| !json::is_null(value));
    let texts: Vec<String> = prompt.messages.iter().map(message).collect();
    let messages = json::prepend(own("messages").map_or("[]", |own| own.get()), &texts)
        .ok_or_else(|| refuse("messages", "must be a list"))?;
    let options = own("options").map_or("{}", |own| own.get());
    let options = options_with(options, prompt)?;
    // SDKs demand a model; an empty one is none.
    let unnamed = own("model").is_none_or(|own| own.get() == r#""""#);
    let model = prompt.model.as_ref().filter(|_| unnamed).map(|model| quoted(model));
    let mut edits = vec![("prompt", None), ("messages", Some(messages.as_str()))];
    edits.extend(options.as_deref().map(|options| ("options", Some(options))));
    edits.extend(model.as_deref().map(|model| ("model", Some(model))));
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

/// The caller's options with those of the prompt that it does not say. `None`: nothing to add.
fn options_with(own: &str, prompt: &Rendered) -> Result<Option<String>, Fault> {
    let said = Members::parse(own).map_err(|_| refuse("options", "must be an object"))?;
    let mut added = parameters(prompt);
    added.retain(|(name, _)| json::is_unsaid(&said, name));
    if added.is_empty() {
        return Ok(None);
    }
    let edits: Vec<_> = added.iter().map(|(name, value)| (*name, Some(value.as_str()))).collect();
    json::edit(own, &edits).map(Some).map_err(|error| syntax(&error))
}

fn parameters(prompt: &Rendered) -> Vec<(&'static str, String)> {
    let said = &prompt.parameters;
    let stop = (!said.stop.is_empty()).then(|| said.stop.clone());
    let all = [
        ("temperature", said.temperature.map(Value::from)),
        ("top_p", said.top_p.map(Value::from)),
        ("top_k", said.top_k.map(Value::from)),
        ("num_predict", said.max_tokens.map(Value::from)),
        ("stop", stop.map(Value::from)),
        ("presence_penalty", said.presence_penalty.map(Value::from)),
        ("frequency_penalty", said.frequency_penalty.map(Value::from)),
        ("seed", said.seed.map(Value::from)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}
