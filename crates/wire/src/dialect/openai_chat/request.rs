//! Request surface: the envelope of a caller's JSON, and edits of single members.
//!
//! Nothing else of a request is read here, and every other byte stays as it was.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::system_first::system_first;
use crate::adapt::settings::Instructions;
use crate::chat::ApiError;
use crate::codec::surface::Surface;
use crate::dialect::{Envelope, Form, RequestView, Target};
use crate::json::{self, Members};
use crate::spelling::{self, Known, member as known, object};

/// Members that are read or edited here or for a prompt.
const KNOWN: &[Known] = &[
    known(&["model"]),
    known(&["stream"]),
    object(&["stream_options"], &[known(&["include_usage"])]),
    known(&[LIMIT]),
    known(&[LEGACY_LIMIT]),
    known(&[LLAMA_LIMIT]),
    known(&["n"]),
    known(&["best_of"]),
    known(&["prompt"]),
    known(&["messages"]),
    known(&["input"]),
];

/// Reads the envelope that the gateway needs.
pub(super) fn envelope(asked: &RequestView<'_>) -> Result<Envelope, ApiError> {
    let surface = Surface::parse(asked.body)?;
    let members = &surface.members;
    spelling::check(members, KNOWN)?;
    let model = surface.model()?;
    let stream = surface.streams()?.unwrap_or(false);
    let want_usage = members
        .get("stream_options")
        .and_then(|options| Members::parse(options.get()).ok()?.get("include_usage"))
        .is_some_and(|value| value.get() == "true");
    let prompts = if asked.form == Form::Completions { prompts(members) } else { 1 };
    // `best_of` are generated, of which `n` are shown.
    let each = number(members, "n").max(number(members, "best_of")).unwrap_or(1);
    Ok(Envelope {
        model,
        stream,
        want_usage,
        form: asked.form,
        max_output: limit(members)?,
        choices: each.max(1).saturating_mul(prompts),
        background: false,
    })
}

/// The limit on output, in tokens: the largest value under any of its names. `max_tokens` and
/// `max_completion_tokens` with different values are rejected, as the vendor rejects any two.
fn limit(members: &Members<'_>) -> Result<Option<u64>, ApiError> {
    let (new, old) = (number(members, LIMIT), number(members, LEGACY_LIMIT));
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        let message =
            format!("`{LEGACY_LIMIT}` and `{LIMIT}` limit the same, and differ; send one of them");
        return Err(ApiError::field(LEGACY_LIMIT, message));
    }
    Ok(new.max(old).max(number(members, LLAMA_LIMIT)))
}

/// Number of prompts in a request of the older form. A list holds texts or lists of tokens, each of which
/// is one prompt, or the tokens of a single prompt.
fn prompts(members: &Members<'_>) -> u64 {
    let Some(list) = members.get("prompt").filter(|prompt| prompt.get().starts_with('[')) else {
        return 1;
    };
    let items: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
    let prompts = items.iter().filter(|item| item.get().starts_with(['"', '[']));
    (prompts.count() as u64).max(1)
}

/// A member as a count; `None` if it is not one, which the upstream reports.
fn number(members: &Members<'_>, name: &str) -> Option<u64> {
    members.get(name).and_then(json::count)
}

/// Replaces the model, and `stream` if the upstream request differs from the caller's, and requests usage
/// if the upstream supports that.
pub(super) fn edit(body: &str, target: &Target<'_>) -> Result<String, ApiError> {
    let mut surface = Surface::parse(body)?;
    let streams = surface.streams()?.unwrap_or(false);
    surface.retarget(target, streams);
    if target.stream && target.quirks.stream_options {
        let options = with_usage(surface.members.get("stream_options"));
        surface.set("stream_options", options);
    } else if streams != target.stream || !target.quirks.stream_options {
        // Without `stream`, or at an upstream that rejects it, the member is an error.
        surface.remove("stream_options");
    }
    // This server takes the older name only. Callers and prompts may use either.
    let limit = surface.members.get(LIMIT).filter(|_| target.quirks.only_legacy_max_tokens);
    if let Some(limit) = limit {
        surface.remove(LIMIT);
        if json::is_unsaid(&surface.members, LEGACY_LIMIT) {
            surface.set(LEGACY_LIMIT, limit.get());
        }
    }
    let first = target.quirks.settings.instructions == Some(Instructions::First);
    let messages = surface.members.get("messages").filter(|_| first).and_then(system_first);
    if let Some(messages) = messages {
        surface.set("messages", messages);
    }
    Ok(surface.finish())
}

/// The limit on output.
const LIMIT: &str = "max_completion_tokens";
/// The older name of [`LIMIT`].
const LEGACY_LIMIT: &str = "max_tokens";
/// llama.cpp's own name, which its server obeys rather than the others.
pub(super) const LLAMA_LIMIT: &str = "n_predict";

/// The caller's options, with usage requested.
fn with_usage(options: Option<&RawValue>) -> Cow<'static, str> {
    const ASKED: &str = r#"{"include_usage":true}"#;
    let edit =
        |options: &RawValue| json::edit(options.get(), &[("include_usage", Some("true"))]).ok();
    options.and_then(edit).map_or(Cow::Borrowed(ASKED), Cow::Owned)
}
