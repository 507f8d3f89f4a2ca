//! Request pipeline: from a caller's request to the caller's response, a file per step. [`answer()`] is the list. No
//! module here must know of the program's composition.

mod accept_encoding;
pub mod access_log;
pub mod account;
pub mod affinity;
pub mod answer;
pub mod attempt;
mod attempt_deadline;
pub mod auth;
mod balancing;
pub mod clock;
pub mod compression;
mod content_encoding;
pub mod continuation;
mod count;
mod credential;
pub mod delivery;
pub mod direct_response;
pub mod durable;
pub mod egress;
pub(crate) mod error_response;
pub(crate) mod exchange;
mod failures;
pub mod fetch;
pub mod ids;
mod inspection;
pub mod kept_state;
mod ledger_records;
pub mod lifetime;
pub mod limit;
mod mirror;
pub(crate) mod offload;
pub mod opening;
mod output_rate;
pub mod own_endpoint;
pub mod path_alias;
mod producer;
pub mod production;
pub mod prompt;
pub mod provider_check;
pub mod provider_models;
mod quota;
pub mod refused;
pub(crate) mod reply;
pub(crate) mod request_body;
pub mod request_metrics;
mod request_queue;
pub mod request_spans;
mod response_headers;
mod retry;
mod retry_after;
mod rotation;
pub mod route;
pub mod route_explanation;
#[cfg(test)]
mod scripted;
pub mod select;
mod shared_rights;
mod sigv4;
pub mod source;
#[cfg(test)]
mod source_script;
pub mod state;
mod state_pins;
mod stream_lookup;
pub mod summary;
mod target_check;
pub mod target_health;
mod unknown_path;
pub mod upstream;
mod upstream_body;
pub mod upstream_request;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, HeaderValue};

use crate::error::Error;
use crate::streams::viewer::Viewer;
use crate::wire::chat::ToolForms;
use crate::wire::dialect::{CallerDialect, Clock, Endpoint, Form, ResponseContext};
use account::Account;
use clock::{since_epoch, unix_seconds};
use durable::Resumption;
use exchange::Exchange;
use inspection::InspectedRequest;
use kept_state::{Keep, KeptState};
use opening::Opening;
use production::Production;
use reply::{Reply, conclude, reply};
use route::Plan;
use state::{Gateway, State};
use upstream_request::{RequestContext, UpstreamRequest};

const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// One request to an endpoint of a dialect.
pub async fn answer(
    gateway: &Gateway,
    (dialect, endpoint): (&'static dyn CallerDialect, &'static Endpoint),
    request: Request,
) -> Response {
    let (mut exchange, mut account) = Exchange::begin(gateway, dialect, request);
    let stall = gateway.state().config.stream.heartbeat;
    let trace_id = account.trace(&gateway.tracing, &exchange.head.headers, endpoint, stall);
    let steps = pipeline(gateway, endpoint.form, &mut exchange, &mut account).await;
    let reply = match steps {
        Ok(Answering::Relayed(opening, context, keep)) => {
            reply(Production::new(opening, context, account).keeping(keep)).await
        }
        Ok(Answering::Durable(start)) => start.reply(gateway, account).await,
        Ok(Answering::Attached(viewer)) => durable::reply(gateway, viewer, Some(account)).await,
        Err(error) => Reply { response: Err(error), account: Some(account) },
    };
    let mut response = conclude(gateway, exchange, reply).await;
    if let Some(value) = trace_id.and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert(TRACE_ID, value);
    }
    response
}

/// The way in which a request is answered.
#[expect(clippy::large_enum_variant, reason = "the large one is the common one")]
enum Answering {
    /// To its caller alone, by attempts of which none has begun.
    Relayed(Opening, Arc<RequestContext>, Option<Keep>),
    /// From the log of a generation that it begins.
    Durable(Box<durable::Start>),
    /// From the log of a generation that it has begun before.
    Attached(Viewer),
}

/// The steps from a request to its attempts, none of which has begun.
async fn pipeline(
    gateway: &Gateway,
    form: Form,
    exchange: &mut Exchange,
    account: &mut Account,
) -> Result<Answering, Error> {
    let state = gateway.state();
    let caller = exchange.identify(gateway, &state, account).await?;
    let resumption = Resumption::begin(gateway, &caller, &exchange.head.headers).await?;
    if resumption.is_repeated() {
        let request = exchange.read(gateway, (&state, &caller), form, account).await?;
        return Ok(Answering::Attached(resumption.attach(&state, &request)?));
    }
    let admission = caller.limiter.admit()?;
    let mut request = exchange.read(gateway, (&state, &caller), form, account).await?;
    let mut plan = exchange.plan((&state, &caller), &request, account).await?;
    let asked = (gateway, &**state, &*caller);
    let KeptState { keep, background } =
        kept_state::resolve(asked, exchange.dialect, &mut request, &plan).await?;
    exchange::pin(gateway, &request, &mut plan).await?;
    exchange.reserve((&state, &plan), &request, admission, account)?;
    exchange::spare_limits(&exchange.limiters, &mut plan);
    let settings = resumption.settings(&state, (&mut request, &plan), background)?;
    ledger_records::begin(gateway, account).await;
    let (opening, context) = attempts((gateway, &state), exchange, request, plan, account);
    Ok(match settings {
        None => Answering::Relayed(opening, context, keep),
        Some(settings) => {
            let start = resumption.start(&caller, settings, (opening, context, keep))?;
            Answering::Durable(Box::new(start))
        }
    })
}

/// The attempts at a request, and what they share with its answer.
fn attempts(
    (gateway, state): (&Gateway, &State),
    exchange: &mut Exchange,
    request: InspectedRequest,
    plan: Plan,
    account: &Account,
) -> (Opening, Arc<RequestContext>) {
    let InspectedRequest { body, envelope, prompt_tokens, side_effects } = request;
    let context = Arc::new(RequestContext {
        dialect: exchange.dialect,
        call: ResponseContext {
            id: ids::random(24),
            created: since_epoch(exchange.time.now()).as_secs(),
            model: envelope.model,
            stream: envelope.stream,
            want_usage: envelope.want_usage,
            form: envelope.form,
            echo: String::new(),
            tool_forms: ToolForms::default(),
            input_estimate: prompt_tokens,
            now: Clock::new(unix_seconds),
        },
        stream: state.config.stream,
        time: exchange.time,
        closing: gateway.shutdown.closing.clone(),
        tasks: gateway.tasks.clone(),
    });
    let opening = Opening::new(UpstreamRequest {
        context: Arc::clone(&context),
        clients: Arc::clone(&gateway.clients),
        metrics: Arc::clone(&gateway.metrics),
        body,
        side_effects,
        headers: std::mem::take(&mut exchange.head.headers),
        caller: account.caller(),
        plan,
        health: Arc::clone(&gateway.health),
        memory: Arc::clone(&gateway.memory.answers),
        request_id: exchange.id.clone(),
        trace: account.place().clone(),
        #[cfg(test)]
        script: None,
        part: None,
    });
    (opening, context)
}
