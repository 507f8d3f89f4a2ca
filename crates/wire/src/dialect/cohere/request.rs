//! The caller's JSON as it is: what the gateway needs of it, and the few members it changes.
//!
//! Nothing else of a request is read here, and every other byte stays as it was.

use serde::de::DeserializeOwned;

use crate::body::{refuse, syntax};
use crate::chat::Fault;
use crate::dialect::{Envelope, RequestView, Target};
use crate::json::{self, Members};
use crate::spelling::{self, Known, member as known, object};

/// Members that are read or edited here or for a prompt.
const KNOWN: &[Known] = &[
    known(&["model"]),
    known(&["stream"]),
    known(&["max_tokens"]),
    known(&["messages"]),
    object(&["thinking"], &[known(&["token_budget"])]),
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

/// Reads what the gateway needs. Usage is part of every last event.
pub(super) fn envelope(asked: &RequestView<'_>) -> Result<Envelope, Fault> {
    let members = members(asked.body)?;
    spelling::check(&members, KNOWN)?;
    let model: Option<String> = member(&members, ("model", "must be a string"))?;
    let model = model
        .filter(|model| !model.is_empty())
        .ok_or_else(|| refuse("model", "is missing: say which model is to answer"))?;
    let stream = member(&members, ("stream", "must be true or false"))?.unwrap_or(false);
    // What is wrong with it is for the upstream to say.
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

/// Changes the model, and `stream` if the upstream is asked otherwise than we were.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, Fault> {
    let members = members(body)?;
    let model = json::quoted(target.model);
    let mut edits = vec![("model", Some(model.as_str()))];
    let streams: bool = member(&members, ("stream", "must be true or false"))?.unwrap_or(false);
    if streams != target.stream {
        edits.push(("stream", Some(if target.stream { "true" } else { "false" })));
    }
    Ok(members.edit(body, &edits))
}
