//! A filled-in prompt in the caller's JSON. Everything of the caller's own stays byte for byte.

use serde_json::Value;

use crate::body::syntax;
use crate::chat::{Fault, Rendered, Role};
use crate::json::{self, Members, quoted};

/// Puts the prompt's instructions and turns first, and says what the caller does not.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, Fault> {
    let invalid = |error| syntax(&error);
    let said = Members::parse(body).map_err(invalid)?;
    let own = said.get("messages").filter(|value| !json::is_null(value));
    let turns: Vec<String> = prompt.messages.iter().filter_map(turn).collect();
    let messages = json::prepend(own.map_or("[]", |own| own.get()), &turns)
        .ok_or_else(|| Fault::field("messages", "must be a list"))?;
    let mut added = parameters(prompt);
    added.retain(|(name, _)| json::is_unsaid(&said, name));
    // SDKs demand a model; an empty one is none.
    if let Some(model) = &prompt.model
        && said.get("model").is_none_or(|own| json::is_null(own) || own.get() == r#""""#)
    {
        added.push(("model", quoted(model)));
    }
    added.extend(system(&said, prompt)?.map(|system| ("system", system)));
    let mut edits = vec![("prompt", None), ("messages", Some(messages.as_str()))];
    edits.extend(added.iter().map(|(name, value)| (*name, Some(value.as_str()))));
    json::edit(body, &edits).map_err(invalid)
}

/// The instructions: the prompt's, then the caller's own, a text or blocks. `None`: no change.
fn system(said: &Members<'_>, prompt: &Rendered) -> Result<Option<String>, Fault> {
    let block = |literal: &str| format!(r#"{{"type":"text","text":{literal}}}"#);
    let texts = prompt.messages.iter().filter(|(role, _)| *role == Role::System);
    let blocks: Vec<String> = texts.map(|(_, text)| block(&quoted(text))).collect();
    if blocks.is_empty() {
        return Ok(None);
    }
    let own = match said.get("system").filter(|own| !json::is_null(own)) {
        // Blocks may not be empty.
        None => "[]".to_owned(),
        Some(own) if own.get() == r#""""# => "[]".to_owned(),
        Some(own) if own.get().starts_with('"') => format!("[{}]", block(own.get())),
        Some(own) => own.get().to_owned(),
    };
    let whole = json::prepend(&own, &blocks);
    whole.map(Some).ok_or_else(|| Fault::field("system", "must be a text or a list of blocks"))
}

fn turn((role, text): &(Role, String)) -> Option<String> {
    let role = match role {
        Role::System => return None,
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    Some(format!(r#"{{"role":"{role}","content":{}}}"#, quoted(text)))
}

/// The vendor has no word for a seed or for penalties.
fn parameters(prompt: &Rendered) -> Vec<(&'static str, String)> {
    let said = &prompt.parameters;
    let stop = (!said.stop.is_empty()).then(|| said.stop.clone());
    let all = [
        // Its scale ends at 1.
        ("temperature", said.temperature.map(|value| Value::from(value.min(1.0)))),
        ("top_p", said.top_p.map(Value::from)),
        ("top_k", said.top_k.map(Value::from)),
        ("max_tokens", said.max_tokens.map(Value::from)),
        ("stop_sequences", stop.map(Value::from)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}
