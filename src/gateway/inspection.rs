//! Inspection of request bodies before routing: fills in the prompt that a body names and the model that its path
//! names, reads the members that the gateway needs, and estimates its tokens. It must never change anything else of
//! a body, nor choose a target.

use std::sync::Arc;

use http::request::Parts;

use super::auth::Caller;
use super::offload::{self, BufferedBody, RequestBody, is_large};
use super::state::State;
use super::{limit, path_alias, prompt};
use crate::error::Error;
use crate::prompts::Prompt;
use crate::wire::dialect::{CallerDialect, Envelope, Form, RequestView};
use crate::wire::rights;
use crate::wire::side_effects::has_side_effects;

/// The result of an inspection.
pub(super) struct Inspection {
    /// The prompt that the body names, known even if the body is refused for another reason.
    pub(super) prompt: Option<Arc<Prompt>>,
    /// The rest.
    pub(super) request: Result<InspectedRequest, Error>,
}

/// An inspected request.
pub(super) struct InspectedRequest {
    /// The body, its prompt and the model that its path names filled in.
    pub(super) body: RequestBody,
    /// The members of the body that the gateway needs.
    pub(super) envelope: Envelope,
    /// The tokens of its prompt, as estimated.
    pub(super) prompt_tokens: u64,
    /// Whether a large body has side effects at its upstream; a small one is looked at when that matters.
    pub(super) side_effects: Option<bool>,
}

/// Inspects a body that was sent to an endpoint of a dialect, of a form. A large one is read on another
/// thread.
pub(super) async fn inspect(
    (state, caller): (&Arc<State>, &Arc<Caller>),
    (dialect, form): (&'static dyn CallerDialect, Form),
    head: &Parts,
    body: BufferedBody,
) -> Result<Inspection, Error> {
    if !is_large(&body) {
        return Ok(inspected((state, caller), (dialect, form), head, body));
    }
    let (state, caller, head) = (Arc::clone(state), Arc::clone(caller), head.clone());
    offload::run(move || inspected((&state, &caller), (dialect, form), &head, body)).await
}

/// Rejects a body by which an upstream would run other models than the one it names.
pub(super) async fn refuse_other_models(
    dialect: &'static str,
    body: &RequestBody,
) -> Result<(), Error> {
    let checked = body.read(move |body| rights::refuse_other_models(dialect, body)).await?;
    checked.map_err(Error::caller)
}

fn inspected(
    (state, caller): (&State, &Caller),
    (dialect, form): (&'static dyn CallerDialect, Form),
    head: &Parts,
    BufferedBody { text, mut lease }: BufferedBody,
) -> Inspection {
    let (prompt, body) = match form {
        Form::Chat => prompt::fill_in(&state.config.prompts, caller, dialect, text),
        _ => (None, Ok(text)),
    };
    let request = body.and_then(|body| {
        let body = path_alias::with_model(body, &head.extensions);
        // A prompt's template may be longer than the request that names it.
        lease.hold_body(body.len())?;
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let envelope = dialect.envelope(&RequestView { form, path, query, body: &body })?;
        let prompt_tokens = limit::prompt_tokens(&body);
        let side_effects = is_large(&body).then(|| has_side_effects(&body));
        let body = BufferedBody { text: body, lease }.into();
        Ok(InspectedRequest { body, envelope, prompt_tokens, side_effects })
    });
    Inspection { prompt, request }
}
