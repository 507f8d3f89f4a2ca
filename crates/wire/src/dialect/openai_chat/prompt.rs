//! Rendered prompts in a caller's JSON. Every byte of the caller's own must stay.

use crate::chat::{ApiError, Rendered};
use crate::codec::prompt::{Name, Parameter, message};
use crate::codec::surface::Surface;

/// The vendor has no `top_k`, and rejects it. The older name of the limit means the same as the newer one.
const NAMES: &[Name] = &[
    (Parameter::Temperature, &["temperature"]),
    (Parameter::TopP, &["top_p"]),
    (Parameter::MaxTokens, &["max_completion_tokens", "max_tokens"]),
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
    surface.add_parameters(prompt, NAMES);
    surface.add_model(prompt);
    Ok(surface.finish())
}
