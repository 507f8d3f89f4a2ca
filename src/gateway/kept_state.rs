//! Kept state of dialects: resolves a request's references to stored responses, and stores its own. It must never
//! touch a request whose upstreams keep that state themselves.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Caller;
use super::ids;
use super::inspection::InspectedRequest;
use super::limit;
use super::offload::BufferedBody;
use super::route::Plan;
use super::state::{Gateway, State};
use crate::error::Error;
use crate::streams::conversations::Conversations;
use crate::streams::stored::{MAX_CHAIN, StoredResponse, StoredResponses};
use crate::wire::chat::{ApiError, End};
use crate::wire::dialect::{CallerDialect, References, StateApi};
use crate::wire::json;

/// The longest id of a response, in bytes.
const MAX_ID: usize = 256;

/// The storing of a response when it is whole.
pub struct Keep {
    store: Arc<StoredResponses>,
    /// The time for which responses are stored, and the most of one owner.
    bounds: (Duration, usize),
    /// Whether the response itself is stored.
    stores: bool,
    api: &'static dyn StateApi,
    owner: Arc<str>,
    input: Vec<String>,
    previous: Option<Arc<StoredResponse>>,
    /// The conversation that its items are added to.
    conversation: Option<(Arc<Conversations>, String)>,
}

/// The state that a request needs and makes.
#[derive(Default)]
pub(super) struct KeptState {
    /// `None`: its response is not stored.
    pub(super) keep: Option<Keep>,
    /// It is answered in the background.
    pub(super) background: Option<Background>,
}

/// A request that is answered in the background.
pub(super) struct Background {
    pub(super) api: &'static dyn StateApi,
    /// The part of the request that its response repeats.
    pub(super) echo: String,
}

/// Resolves the references of a request, if some upstream of its plan keeps no such state.
pub(super) async fn resolve(
    (gateway, state, caller): (&Gateway, &State, &Caller),
    dialect: &dyn CallerDialect,
    request: &mut InspectedRequest,
    plan: &Plan,
) -> Result<KeptState, Error> {
    let Some(api) = dialect.state().filter(|api| api.endpoint().form == request.envelope.form)
    else {
        return Ok(KeptState::default());
    };
    let translated = |name: &str| name != dialect.name();
    if !plan.all_targets().any(|target| translated(target.provider.dialect.name())) {
        return Ok(KeptState::default());
    }
    let references = api.references(&request.body)?;
    let Some(keep) = state.config.streams.store else {
        // Nothing is stored: references are rejected by the translation, which names them.
        return Ok(KeptState::default());
    };
    let previous = previous(gateway, caller, &references).await?;
    let conversed = conversed(gateway, caller, &references).await?;
    let input = api.input(&request.body);
    if !references.is_empty() || references.store || references.background {
        let earlier = match &conversed {
            Some((_, items)) => items.iter().map(String::as_str).collect(),
            None => previous.as_deref().map(StoredResponse::history).unwrap_or_default(),
        };
        let mut items = HashMap::new();
        for id in &references.items {
            let item = gateway.stored.recall_item(&caller.name, id).await?;
            items.extend(item.map(|item| (id.as_str(), item)));
        }
        let item = |id: &str| items.get(id).cloned();
        let text = api.resolve(&request.body, &earlier, &item)?;
        let mut lease = gateway.memory.requests.lease_for(&caller.limiter.memory);
        lease.hold_body(text.len())?;
        request.prompt_tokens = limit::prompt_tokens(&text);
        request.body = BufferedBody { text, lease }.into();
    }
    let echo = || dialect.echo(request.envelope.form, &request.body);
    let background = references.background.then(|| Background { api, echo: echo() });
    // The gateway sees its end, and settles its usage as that of any stream.
    request.envelope.background &= background.is_none();
    if background.is_some() && !references.store {
        let message = "must be true for a response in the background, which is read later";
        return Err(Error::caller(ApiError::field("store", message)));
    }
    let conversation = conversed.map(|(id, _)| (Arc::clone(&gateway.conversations), id));
    let keep = (references.store || conversation.is_some()).then(|| Keep {
        stores: references.store,
        conversation,
        store: Arc::clone(&gateway.stored),
        bounds: (keep, usize::try_from(state.config.streams.per_caller).unwrap_or(usize::MAX)),
        api,
        owner: Arc::clone(&caller.name),
        input,
        previous,
    });
    Ok(KeptState { keep, background })
}

/// The response that a request continues.
async fn previous(
    gateway: &Gateway,
    caller: &Caller,
    references: &References,
) -> Result<Option<Arc<StoredResponse>>, Error> {
    let Some(id) = &references.previous else { return Ok(None) };
    let Some(previous) = gateway.stored.recall(&caller.name, id).await? else {
        let message = "names a response that is not stored, or no longer; send the whole conversation in `input`";
        let code = Some("previous_response_not_found".to_owned());
        return Err(Error::caller(ApiError {
            code,
            ..ApiError::field("previous_response_id", message)
        }));
    };
    if previous.length() >= MAX_CHAIN {
        let message = format!(
            "continues {MAX_CHAIN} responses, which is the most; begin another conversation"
        );
        return Err(Error::caller(ApiError::field("previous_response_id", message)));
    }
    Ok(Some(previous))
}

/// The conversation that a request belongs to: its id and its items.
async fn conversed(
    gateway: &Gateway,
    caller: &Caller,
    references: &References,
) -> Result<Option<(String, Vec<String>)>, Error> {
    let Some(id) = &references.conversation else { return Ok(None) };
    if references.previous.is_some() {
        let message = "cannot be used together with `previous_response_id`";
        return Err(Error::caller(ApiError::field("conversation", message)));
    }
    let found = gateway.conversations.recall(&caller.name, id).await?;
    let (head, items) = found.ok_or_else(|| {
        let message = "names a conversation that is not stored, or no longer";
        let code = Some("conversation_not_found".to_owned());
        Error::caller(ApiError { code, ..ApiError::field("conversation", message) })
    })?;
    Ok(Some((head.id, items)))
}

/// Items with an id each, as those of a conversation have.
pub fn with_ids(items: Vec<String>) -> Vec<String> {
    let with_id = |item: String| {
        if json::text_member(item.as_bytes(), "id").is_some() {
            return item;
        }
        let id = json::quoted(&format!("msg_{}", ids::random(24)));
        json::edit(&item, &[("id", Some(&id))]).unwrap_or(item)
    };
    items.into_iter().map(with_id).collect()
}

impl Keep {
    /// Stores the response within the last bytes of an answer, under its own id: that of an upstream with such state is
    /// read here as well, since another target may serve the next turn.
    pub fn keep(self, produced: &[u8], end: Option<&End>) {
        let Some(response) = self.api.response(produced) else { return };
        let id = json::text_member(response.as_bytes(), "id");
        let id = id.filter(|id| (1..=MAX_ID).contains(&id.len()));
        let Some(id) = id.map(Cow::into_owned) else { return };
        let cancelled = [("status", Some("\"cancelled\"")), ("error", Some("null"))];
        let response = match end {
            Some(End::Cancelled) => json::edit(&response, &cancelled).unwrap_or(response),
            _ => response,
        };
        let output = self.api.output(&response);
        let Self { input, previous, .. } = self;
        if let (Some((conversations, name)), Some(End::Complete)) = (self.conversation, end) {
            let own = output.iter().map(|(_, item)| item.clone());
            let items = with_ids(input.iter().cloned().chain(own).collect());
            if conversations.add(&self.owner, &name, items).is_err() {
                tracing::warn!(
                    "a conversation was deleted or is full: a response was not added to it"
                );
            }
        }
        if !self.stores {
            return;
        }
        let stored = StoredResponse { id, response, input, output, previous };
        self.store.store(&self.owner, stored, self.bounds);
    }
}
