//! The caller's JSON as it is: what the gateway needs of it, and the few members it changes.
//!
//! Nothing else of a request is read here, and every other byte stays as it was, but for reasoning
//! that this gateway has marked as another vendor's: that is taken out.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::body::{refuse, syntax};
use crate::chat::Fault;
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

pub(super) fn members(body: &str) -> Result<Members<'_>, Fault> {
    Members::parse(body).map_err(|error| syntax(&error))
}

/// A member if it is there and not null.
fn member<T: DeserializeOwned>(
    members: &Members<'_>,
    (name, shape): (&str, &str),
) -> Result<Option<T>, Fault> {
    let Some(value) = members.get(name).filter(|value| !json::is_null(value)) else {
        return Ok(None);
    };
    let parsed = serde_json::from_str(value.get());
    parsed.map(Some).map_err(|_| refuse(name, &format!("must be {shape}")))
}

/// Reads what the gateway needs. Usage is part of every stream of this dialect.
pub(super) fn envelope(body: &str) -> Result<Envelope, Fault> {
    let members = members(body)?;
    spelling::check(&members, KNOWN)?;
    let model: Option<String> = member(&members, ("model", "a string"))?;
    let model = model
        .filter(|model| !model.is_empty())
        .ok_or_else(|| refuse("model", "is missing: say which model is to answer"))?;
    let stream = member(&members, ("stream", "true or false"))?.unwrap_or(false);
    // What is wrong with a limit is for the upstream to say.
    let max_output = members.get("max_output_tokens").and_then(json::count);
    let background = members.get("background").is_some_and(|value| value.get() == "true");
    let (want_usage, choices) = (true, 1);
    Ok(Envelope { model, stream, want_usage, form: Form::Chat, max_output, choices, background })
}

/// Changes the model, and `stream` if the upstream is asked otherwise than we were.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, Fault> {
    let members = members(body)?;
    let model = json::quoted(target.model);
    let mut edits = vec![("model", Some(model.as_str()))];
    let streams: bool = member(&members, ("stream", "true or false"))?.unwrap_or(false);
    if streams != target.stream {
        edits.push(("stream", Some(if target.stream { "true" } else { "false" })));
    }
    let input = members.get("input").and_then(without_foreign);
    if let Some(input) = &input {
        edits.push(("input", Some(input)));
    }
    Ok(members.edit(body, &edits))
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
