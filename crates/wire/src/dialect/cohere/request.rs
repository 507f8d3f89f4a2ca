//! Request surface: the envelope of a caller's JSON, and edits of single members.
//!
//! Nothing else of a request is read here, and every other byte stays as it was.

use crate::chat::ApiError;
use crate::codec::surface::Surface;
use crate::dialect::{Envelope, RequestView, Target};
use crate::json::{self};
use crate::spelling::{self, Known, member as known, object};

/// Members that are read or edited here or for a prompt.
const KNOWN: &[Known] = &[
    known(&["model"]),
    known(&["stream"]),
    known(&["max_tokens"]),
    known(&["messages"]),
    object(&["thinking"], &[known(&["token_budget"])]),
];

/// Reads the envelope that the gateway needs. Usage is part of every last event.
pub(super) fn envelope(asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
    let surface = Surface::parse(asked.body)?;
    let members = &surface.members;
    spelling::check(members, KNOWN)?;
    let model = surface.model()?;
    let stream = surface.streams()?.unwrap_or(false);
    // The upstream reports an invalid value.
    let max_output = members.get("max_tokens").and_then(json::count);
    Ok(Envelope {
        model,
        stream,
        want_usage: true,
        form: asked.form,
        max_output,
        choices: 1,
        background: false,
    })
}

/// Replaces the model, and `stream` if the upstream request differs from the caller's.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let streams = surface.streams()?.unwrap_or(false);
    surface.retarget(target, streams);
    Ok(surface.finish())
}
