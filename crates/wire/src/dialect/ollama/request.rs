//! The caller's JSON as it is: what the gateway needs of it, and the few members it changes.
//!
//! Nothing else of a request is read here, and every other byte stays as it was.

use serde::de::DeserializeOwned;

use crate::body::{refuse, syntax};
use crate::chat::Fault;
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

pub(super) fn members(body: &str) -> Result<Members<'_>, Fault> {
    Members::parse(body).map_err(|error| syntax(&error))
}

/// A member if it is there and not null.
fn member<T: DeserializeOwned>(
    members: &Members<'_>,
    (name, what): (&str, &str),
) -> Result<Option<T>, Fault> {
    let Some(value) = members.get(name).filter(|value| !json::is_null(value)) else {
        return Ok(None);
    };
    serde_json::from_str(value.get()).map(Some).map_err(|_| refuse(name, what))
}

/// Unlike elsewhere, who does not say wants a stream.
fn streams(members: &Members<'_>) -> Result<bool, Fault> {
    Ok(member(members, ("stream", "must be true or false"))?.unwrap_or(true))
}

/// Reads what the gateway needs. Usage is part of every last line.
pub(super) fn envelope(asked: &RequestView<'_>) -> Result<Envelope, Fault> {
    let members = members(asked.body)?;
    spelling::check(&members, KNOWN)?;
    let model: Option<String> = member(&members, ("model", "must be a string"))?;
    let model = model
        .filter(|model| !model.is_empty())
        .ok_or_else(|| refuse("model", "is missing: say which model is to answer"))?;
    // What is wrong with a limit is for the upstream to say; it has none at zero and below.
    let options = members.get("options").and_then(|options| Members::parse(options.get()).ok());
    let limit = options.and_then(|options| json::count(options.get("num_predict")?));
    let embeds = is_embedding(asked.form);
    Ok(Envelope {
        model,
        stream: !embeds && streams(&members)?,
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
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, Fault> {
    let members = members(body)?;
    let model = json::quoted(target.model);
    let mut edits = vec![("model", Some(model.as_str()))];
    if !is_embedding(target.form) && streams(&members)? != target.stream {
        edits.push(("stream", Some(if target.stream { "true" } else { "false" })));
    }
    if !target.quirks.settings.keep_alive {
        edits.push((KEEP_ALIVE, None));
    }
    Ok(members.edit(body, &edits))
}
