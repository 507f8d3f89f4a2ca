//! A filled-in prompt in the caller's JSON. Everything of the caller's own stays byte for byte.

use serde_json::Value;

use super::request::members;
use crate::body::{refuse, syntax};
use crate::chat::{Fault, Rendered, Role};
use crate::json::{self, Members, quoted};

/// Puts the prompt's messages first, and says what the caller does not. What leads the prompt as
/// instructions leads the caller's `instructions`; what follows leads its `input`.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, Fault> {
    let said = members(body)?;
    let leading = prompt.messages.iter().take_while(|(role, _)| *role == Role::System);
    let mut instructions: Vec<&str> = leading.map(|(_, text)| text.as_str()).collect();
    let items: Vec<String> = prompt.messages.iter().skip(instructions.len()).map(item).collect();
    let input = input(&said, &items)?;
    let own = said.get("instructions").filter(|own| !json::is_null(own)).map(json::text);
    let own = own.map(|own| own.ok_or_else(|| refuse("instructions", "must be a string")));
    let own = own.transpose()?.unwrap_or_default();
    instructions.extend(Some(own.as_ref()).filter(|own| !own.is_empty()));
    let instructions = instructions.join("\n\n");
    let mut added = parameters(prompt);
    added.retain(|(name, _)| json::is_unsaid(&said, name));
    // SDKs demand a model; an empty one is none.
    if let Some(model) = &prompt.model
        && said.get("model").is_none_or(|own| json::is_null(own) || own.get() == r#""""#)
    {
        added.push(("model", quoted(model)));
    }
    if instructions != own {
        added.push(("instructions", quoted(&instructions)));
    }
    let mut edits = vec![("prompt", None), ("input", Some(input.as_str()))];
    edits.extend(added.iter().map(|(name, value)| (*name, Some(value.as_str()))));
    json::edit(body, &edits).map_err(|error| syntax(&error))
}

/// The items, and then the caller's own input, which may be a text.
fn input(said: &Members<'_>, items: &[String]) -> Result<String, Fault> {
    let own = match said.get("input").filter(|own| !json::is_null(own)) {
        None => "[]".to_owned(),
        Some(own) if own.get().starts_with('"') => {
            format!(r#"[{{"role":"user","content":{}}}]"#, own.get())
        }
        Some(own) => own.get().to_owned(),
    };
    json::prepend(&own, items)
        .ok_or_else(|| refuse("input", "must be a string or an array of items"))
}

fn item((role, text): &(Role, String)) -> String {
    let role = match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    format!(r#"{{"role":"{role}","content":{}}}"#, quoted(text))
}

/// The vendor has no word here for `top_k`, for stop strings, penalties or a seed.
fn parameters(prompt: &Rendered) -> Vec<(&'static str, String)> {
    let said = &prompt.parameters;
    let all = [
        ("temperature", said.temperature.map(Value::from)),
        ("top_p", said.top_p.map(Value::from)),
        ("max_output_tokens", said.max_tokens.map(Value::from)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}
