//! Rendered prompts in a caller's JSON. Every byte of the caller's own must stay.

use crate::body::refuse;
use crate::chat::{ApiError, Rendered, Role};
use crate::codec::prompt::{Name, Parameter, with_parameters};
use crate::codec::surface::Surface;
use crate::json::{self, Members, quoted};

/// Members of `generationConfig`, in both spellings.
const NAMES: &[Name] = &[
    (Parameter::Temperature, &["temperature"]),
    (Parameter::TopP, &["topP", "top_p"]),
    (Parameter::TopK, &["topK", "top_k"]),
    (Parameter::MaxTokens, &["maxOutputTokens", "max_output_tokens"]),
    (Parameter::Stop, &["stopSequences", "stop_sequences"]),
    (Parameter::PresencePenalty, &["presencePenalty", "presence_penalty"]),
    (Parameter::FrequencyPenalty, &["frequencyPenalty", "frequency_penalty"]),
    (Parameter::Seed, &["seed"]),
];

/// Puts the prompt's instructions and turns first, and sets the parameters that the caller does not set.
/// The model stands in the path, so that every request names it.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let own = surface.members.get("contents").filter(|own| !json::is_null(own));
    // The only element of a list may stand for it.
    let own = match own.map_or("[]", |own| own.get()) {
        one if one.starts_with('{') => format!("[{one}]"),
        list => list.to_owned(),
    };
    let turns: Vec<String> = prompt.messages.iter().filter_map(turn).collect();
    let contents =
        json::prepend(&own, &turns).ok_or_else(|| refuse("contents", "must be a list"))?;
    surface.remove("prompt");
    surface.set("contents", contents);
    let system = name(&surface.members, "systemInstruction", "system_instruction");
    if let Some(whole) = instructions(&surface.members, system, prompt)? {
        surface.set(system, whole);
    }
    let config = name(&surface.members, "generationConfig", "generation_config");
    let own = surface.members.get(config).filter(|own| !json::is_null(own));
    let whole = with_parameters(own.map_or("{}", |own| own.get()), prompt, NAMES);
    if let Some(whole) = whole.map_err(|_| refuse(config, "must be an object"))? {
        surface.set(config, whole);
    }
    Ok(surface.finish())
}

/// The spelling that the caller uses of a member's two; the vendor takes both.
fn name(said: &Members<'_>, camel: &'static str, snake: &'static str) -> &'static str {
    if said.get(snake).is_some() { snake } else { camel }
}

/// The instructions: the prompt's, then the caller's own. `None`: no change.
fn instructions(
    said: &Members<'_>,
    name: &str,
    prompt: &Rendered,
) -> Result<Option<String>, ApiError> {
    let texts = prompt.messages.iter().filter(|(role, _)| *role == Role::System);
    let parts: Vec<String> = texts.map(|(_, text)| part(text)).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let wrong = || refuse(name, "must be an object with a list of parts");
    let Some(own) = said.get(name).filter(|own| !json::is_null(own)) else {
        return Ok(Some(format!(r#"{{"parts":[{}]}}"#, parts.join(","))));
    };
    let members = Members::parse(own.get()).map_err(|_| wrong())?;
    let own_parts = members.get("parts").map_or("[]", |parts| parts.get());
    let parts = json::prepend(own_parts, &parts).ok_or_else(wrong)?;
    json::edit(own.get(), &[("parts", Some(&parts))]).map(Some).map_err(|_| wrong())
}

fn turn((role, text): &(Role, String)) -> Option<String> {
    let role = match role {
        Role::System => return None,
        Role::User => "user",
        Role::Assistant => "model",
    };
    Some(format!(r#"{{"role":"{role}","parts":[{}]}}"#, part(text)))
}

fn part(text: &str) -> String {
    format!(r#"{{"text":{}}}"#, quoted(text))
}
