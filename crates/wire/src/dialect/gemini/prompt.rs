//! A filled-in prompt in the caller's JSON. Everything of the caller's own stays byte for byte.

use serde_json::Value;

use crate::body::syntax;
use crate::chat::{Fault, Rendered, Role};
use crate::json::{self, Members, quoted};

/// Puts the prompt's instructions and turns first, and says what the caller does not. The model
/// stands in the path, so that every request says it.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, Fault> {
    let invalid = |error| syntax(&error);
    let said = Members::parse(body).map_err(invalid)?;
    let own = said.get("contents").filter(|value| !json::is_null(value));
    let turns: Vec<String> = prompt.messages.iter().filter_map(turn).collect();
    // The only element of a list may stand for it.
    let own = own.map_or_else(
        || "[]".to_owned(),
        |own| match own.get() {
            one if one.starts_with('{') => format!("[{one}]"),
            list => list.to_owned(),
        },
    );
    let contents =
        json::prepend(&own, &turns).ok_or_else(|| Fault::field("contents", "must be a list"))?;
    let mut edits = vec![("prompt", None), ("contents", Some(contents))];
    let system = name(&said, "systemInstruction", "system_instruction");
    if let Some(whole) = instructions(&said, system, prompt)? {
        edits.push((system, Some(whole)));
    }
    let config = name(&said, "generationConfig", "generation_config");
    if let Some(whole) = parameters(&said, config, prompt)? {
        edits.push((config, Some(whole)));
    }
    let edits: Vec<_> = edits.iter().map(|(name, json)| (*name, json.as_deref())).collect();
    json::edit(body, &edits).map_err(invalid)
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
) -> Result<Option<String>, Fault> {
    let texts = prompt.messages.iter().filter(|(role, _)| *role == Role::System);
    let parts: Vec<String> = texts.map(|(_, text)| part(text)).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let wrong = || Fault::field(name, "must be an object with a list of parts");
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

/// The parameters that the caller does not say himself, in either spelling. `None`: no change.
fn parameters(said: &Members<'_>, name: &str, prompt: &Rendered) -> Result<Option<String>, Fault> {
    let given = &prompt.parameters;
    let stop = (!given.stop.is_empty()).then(|| given.stop.clone());
    let all = [
        (("temperature", "temperature"), given.temperature.map(Value::from)),
        (("topP", "top_p"), given.top_p.map(Value::from)),
        (("topK", "top_k"), given.top_k.map(Value::from)),
        (("maxOutputTokens", "max_output_tokens"), given.max_tokens.map(Value::from)),
        (("stopSequences", "stop_sequences"), stop.map(Value::from)),
        (("presencePenalty", "presence_penalty"), given.presence_penalty.map(Value::from)),
        (("frequencyPenalty", "frequency_penalty"), given.frequency_penalty.map(Value::from)),
        (("seed", "seed"), given.seed.map(Value::from)),
    ];
    let own = said.get(name).filter(|own| !json::is_null(own)).map_or("{}", |own| own.get());
    let wrong = || Fault::field(name, "must be an object");
    let members = Members::parse(own).map_err(|_| wrong())?;
    let added: Vec<(&str, String)> = all
        .into_iter()
        .filter(|((camel, snake), _)| {
            json::is_unsaid(&members, camel) && json::is_unsaid(&members, snake)
        })
        .filter_map(|((camel, _), value)| Some((camel, value?.to_string())))
        .collect();
    if added.is_empty() {
        return Ok(None);
    }
    let edits: Vec<_> = added.iter().map(|(name, json)| (*name, Some(json.as_str()))).collect();
    json::edit(own, &edits).map(Some).map_err(|_| wrong())
}
