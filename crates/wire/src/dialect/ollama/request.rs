//! Request surface: the envelope of a caller's JSON, and edits of single members.
//!
//! Nothing else of a request is read here, and every other byte stays as it was.

use crate::chat::ApiError;
use crate::codec::surface::Surface;
use crate::dialect::{Envelope, Form, Operation, RequestView, Target};
use crate::json::{self, Members};
use crate::spelling::{self, Known, member as known, object};

/// Member that sets the time for which the server keeps the model loaded, for all callers.
const KEEP_ALIVE: &str = "keep_alive";

/// Members that are read or edited here or for a prompt.
const KNOWN: &[Known] = &[
    known(&["model"]),
    known(&["stream"]),
    object(&["options"], &[known(&["num_predict"])]),
    known(&[KEEP_ALIVE]),
    known(&["messages"]),
    known(&["prompt"]),
    known(&["input"]),
];

/// Whether the request is for a stream. Unlike in other dialects, the default is a stream.
fn streams(surface: &Surface<'_>) -> Result<bool, ApiError> {
    Ok(surface.streams()?.unwrap_or(true))
}

/// Reads the envelope that the gateway needs. Usage is part of every last line.
pub(super) fn envelope(asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
    let surface = Surface::parse(asked.body)?;
    let members = &surface.members;
    spelling::check(members, KNOWN)?;
    let model = surface.model()?;
    // The upstream reports an invalid limit. Zero and below mean no limit.
    let options = members.get("options").and_then(|options| Members::parse(options.get()).ok());
    let limit = options.and_then(|options| json::count(options.get("num_predict")?));
    let embeds = is_embedding(asked.form);
    Ok(Envelope {
        model,
        stream: !embeds && streams(&surface)?,
        want_usage: true,
        form: asked.form,
        max_output: limit.filter(|limit| *limit > 0),
        choices: 1,
        background: false,
    })
}

/// Embeddings are never streamed.
fn is_embedding(form: Form) -> bool {
    form.operation() == Operation::Embeddings
}

/// Replaces the model, and `stream` if the upstream request differs from the caller's. `keep_alive`, which
/// affects all callers, is removed unless the operator allows it.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let streams = if is_embedding(target.form) { target.stream } else { streams(&surface)? };
    surface.retarget(target, streams);
    if !target.quirks.settings.keep_alive {
        surface.remove(KEEP_ALIVE);
    }
    Ok(surface.finish())
}
