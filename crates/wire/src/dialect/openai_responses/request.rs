//! Request surface: the envelope of a caller's JSON, and edits of single members.
//!
//! Nothing else of a request is read here, and every other byte stays as it was, but for reasoning
//! that this gateway has marked as another vendor's: that is taken out.

use serde_json::value::RawValue;

use super::state::RESOLVED;
use crate::chat::ApiError;
use crate::codec::surface::Surface;
use crate::dialect::{Envelope, Form, Target};
use crate::json::{self, Members};
use crate::seal::MARK;
use crate::spelling::{self, Known, member as known};

/// Members that are read or edited here or for a prompt.
const KNOWN: &[Known] = &[
    known(&["model"]),
    known(&["stream"]),
    known(&["max_output_tokens"]),
    known(&["background"]),
    known(&["input"]),
    known(&["instructions"]),
    known(&["prompt"]),
];

/// Reads the envelope that the gateway needs. Usage is part of every stream of this dialect.
pub(super) fn envelope(body: &str) -> Result<Envelope, ApiError> {
    let surface = Surface::parse(body)?;
    let members = &surface.members;
    spelling::check(members, KNOWN)?;
    let model = surface.model()?;
    let stream = surface.streams()?.unwrap_or(false);
    // The upstream reports an invalid limit.
    let max_output = members.get("max_output_tokens").and_then(json::count);
    let background = members.get("background").is_some_and(|value| value.get() == "true");
    let (want_usage, choices) = (true, 1);
    Ok(Envelope { model, stream, want_usage, form: Form::Chat, max_output, choices, background })
}

/// Replaces the model, and `stream` if the upstream request differs from the caller's.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let streams = surface.streams()?.unwrap_or(false);
    surface.retarget(target, streams);
    surface.remove(RESOLVED);
    if let Some(input) = surface.members.get("input").and_then(without_foreign) {
        surface.set("input", input);
    }
    Ok(surface.finish())
}

/// The input without other vendors' reasoning. `None`: there is none in it.
fn without_foreign(input: &RawValue) -> Option<String> {
    memchr::memmem::find(input.get().as_bytes(), MARK.as_bytes())?;
    let items: Vec<&RawValue> = serde_json::from_str(input.get()).ok()?;
    let foreign = |item: &&RawValue| {
        let item = Members::parse(item.get()).unwrap_or_default();
        let text = |name| item.get(name).and_then(json::text).unwrap_or_default();
        text("type") == "reasoning" && text("encrypted_content").starts_with(MARK)
    };
    let kept: Vec<&str> =
        items.iter().filter(|item| !foreign(item)).map(|item| item.get()).collect();
    (kept.len() < items.len()).then(|| format!("[{}]", kept.join(",")))
}
