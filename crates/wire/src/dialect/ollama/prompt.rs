//! Rendered prompts in a caller's JSON. Every byte of the caller's own must stay.

use crate::body::refuse;
use crate::chat::{ApiError, Rendered};
use crate::codec::prompt::{Name, Parameter, message, with_parameters};
use crate::codec::surface::Surface;
use crate::json;

/// Members of `options`.
const NAMES: &[Name] = &[
    (Parameter::Temperature, &["temperature"]),
    (Parameter::TopP, &["top_p"]),
    (Parameter::TopK, &["top_k"]),
    (Parameter::MaxTokens, &["num_predict"]),
    (Parameter::Stop, &["stop"]),
    (Parameter::PresencePenalty, &["presence_penalty"]),
    (Parameter::FrequencyPenalty, &["frequency_penalty"]),
    (Parameter::Seed, &["seed"]),
];

/// Puts the prompt's messages first, and sets the parameters that the caller does not set.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let messages: Vec<String> = prompt.messages.iter().map(message).collect();
    surface.prepend("messages", &messages, "must be a list")?;
    let options = surface.members.get("options").filter(|own| !json::is_null(own));
    let options = with_parameters(options.map_or("{}", |own| own.get()), prompt, NAMES);
    if let Some(options) = options.map_err(|_| refuse("options", "must be an object"))? {
        surface.set("options", options);
    }
    surface.add_model(prompt);
    Ok(surface.finish())
}
