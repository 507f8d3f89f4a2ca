//! Request surface: the envelope of a caller's JSON, and edits of single members.
//!
//! Nothing else of a request is read here, and every other byte stays as it was.

use crate::chat::ApiError;
use crate::codec::surface::Surface;
use crate::dialect::{Envelope, Form, Operation, RequestView, Target};
use crate::json::{self, Members};
use crate::spelling::{self, Known, member as known, object};

/// How long the server keeps the model loaded for everybody.
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

/// Unlike elsewhere, who does not say wants a stream.
fn streams(surface: &Surface<'_>) -> Result<bool, ApiError> {
    Ok(surface.streams()?.unwrap_or(true))
}

/// Reads what the gateway needs. Usage is part of every last line.
pub(super) fn envelope(asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
    let surface = Surface::parse(asked.body)?;
    let members = &surface.members;
    spelling::check(members, KNOWN)?;
    let model = surface.model()?;
    // What is wrong with a limit is for the upstream to say; it has none at zero and below.
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

/// Changes the model, and `stream` if the upstream is asked otherwise than we were. How long a model
/// stays loaded, which concerns all callers, is left out unless the operator leaves it to them.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let streams = if is_embedding(target.form) { target.stream } else { streams(&surface)? };
    surface.retarget(target, streams);
    if !target.quirks.settings.keep_alive {
        surface.remove(KEEP_ALIVE);
    }
    Ok(surface.finish())
}
