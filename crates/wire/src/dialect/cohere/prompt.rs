//! Rendered prompts in a caller's JSON. Every byte of the caller's own must stay.

use crate::chat::{ApiError, Rendered};
use crate::codec::prompt::{Name, Parameter, message};
use crate::codec::surface::Surface;

const NAMES: &[Name] = &[
    (Parameter::Temperature, &["temperature"]),
    (Parameter::TopP, &["p"]),
    (Parameter::TopK, &["k"]),
    (Parameter::MaxTokens, &["max_tokens"]),
    (Parameter::Stop, &["stop_sequences"]),
    (Parameter::PresencePenalty, &["presence_penalty"]),
    (Parameter::FrequencyPenalty, &["frequency_penalty"]),
    (Parameter::Seed, &["seed"]),
];

/// Puts the prompt's messages first, and sets the parameters that the caller does not set.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let messages: Vec<String> = prompt.messages.iter().map(message).collect();
    surface.prepend("messages", &messages, "must be a list")?;
    surface.add_parameters(prompt, NAMES);
    surface.add_model(prompt);
    Ok(surface.finish())
}
