//! Rendered prompts in a caller's JSON. Every byte of the caller's own must stay.

use crate::body::refuse;
use crate::chat::{ApiError, Rendered, Role};
use crate::codec::prompt::{Name, Parameter, message};
use crate::codec::surface::Surface;
use crate::json::{self, Members, quoted};

/// The vendor has no parameter for a seed or for penalties.
const NAMES: &[Name] = &[
    (Parameter::Temperature, &["temperature"]),
    (Parameter::TopP, &["top_p"]),
    (Parameter::TopK, &["top_k"]),
    (Parameter::MaxTokens, &["max_tokens"]),
    (Parameter::Stop, &["stop_sequences"]),
];

/// Puts the prompt's instructions and turns first, and sets the parameters that the caller does not set.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let turns = prompt.messages.iter().filter(|(role, _)| *role != Role::System);
    surface.prepend("messages", &turns.map(message).collect::<Vec<_>>(), "must be a list")?;
    // The scale ends at 1.
    let mut prompt = prompt.clone();
    prompt.parameters.temperature = prompt.parameters.temperature.map(|value| value.min(1.0));
    surface.add_parameters(&prompt, NAMES);
    surface.add_model(&prompt);
    if let Some(system) = system(&surface.members, &prompt)? {
        surface.set("system", system);
    }
    Ok(surface.finish())
}

/// The instructions: the prompt's, then the caller's own, a text or blocks. `None`: no change.
fn system(said: &Members<'_>, prompt: &Rendered) -> Result<Option<String>, ApiError> {
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
    whole.map(Some).ok_or_else(|| refuse("system", "must be a text or a list of blocks"))
}
