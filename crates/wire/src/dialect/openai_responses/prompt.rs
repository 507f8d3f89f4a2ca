//! Rendered prompts in a caller's JSON. Every byte of the caller's own must stay.

use crate::body::refuse;
use crate::chat::{ApiError, Rendered, Role};
use crate::codec::prompt::{Name, Parameter, message};
use crate::codec::surface::Surface;
use crate::json::{self, quoted};

/// The vendor has no parameter here for `top_k`, stop strings, penalties or a seed.
const NAMES: &[Name] = &[
    (Parameter::Temperature, &["temperature"]),
    (Parameter::TopP, &["top_p"]),
    (Parameter::MaxTokens, &["max_output_tokens"]),
];

/// Puts the prompt's messages first, and sets the parameters that the caller does not set. Leading system
/// messages of the prompt are put before the caller's `instructions`, the others before its `input`.
pub(super) fn prepend(body: &str, prompt: &Rendered) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let leading = prompt.messages.iter().take_while(|(role, _)| *role == Role::System);
    let mut instructions: Vec<&str> = leading.map(|(_, text)| text.as_str()).collect();
    let items: Vec<String> = prompt.messages.iter().skip(instructions.len()).map(message).collect();
    let input = input(&surface, &items)?;
    let own = surface.members.get("instructions").filter(|own| !json::is_null(own)).map(json::text);
    let own = own.map(|own| own.ok_or_else(|| refuse("instructions", "must be a string")));
    let own = own.transpose()?.unwrap_or_default().into_owned();
    instructions.extend(Some(own.as_str()).filter(|own| !own.is_empty()));
    let instructions = instructions.join("\n\n");
    surface.remove("prompt");
    surface.set("input", input);
    surface.add_parameters(prompt, NAMES);
    surface.add_model(prompt);
    if instructions != own {
        surface.set("instructions", quoted(&instructions));
    }
    Ok(surface.finish())
}

/// The items, and then the caller's own input, which may be a text.
fn input(surface: &Surface<'_>, items: &[String]) -> Result<String, ApiError> {
    let own = match surface.members.get("input").filter(|own| !json::is_null(own)) {
        None => "[]".to_owned(),
        Some(own) if own.get().starts_with('"') => {
            format!(r#"[{{"role":"user","content":{}}}]"#, own.get())
        }
        Some(own) => own.get().to_owned(),
    };
    json::prepend(&own, items)
        .ok_or_else(|| refuse("input", "must be a string or an array of items"))
}
