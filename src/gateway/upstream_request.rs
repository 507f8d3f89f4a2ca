//! Upstream requests: the context that attempts share, and the form that each target gets. It must never send
//! anything.

use std::sync::Arc;

use http::HeaderMap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::RequestTime;
use super::continuation::Part;
use super::egress::Clients;
use super::offload::RequestBody;
use super::route::Plan;
use super::select::PickReason;
use super::target_health::TargetHealth;
use crate::config::{self, Provider, Target};
use crate::memory::MemoryShare;
use crate::telemetry::trace::TraceContext;
use crate::telemetry::{Metrics, PickLabels, RetryLabels};
use crate::wire::dialect::{self, CallerDialect, Form, Operation, ResponseContext};
use crate::wire::side_effects::has_side_effects;

/// The context that the attempts at a request, its production and its delivery share.
pub struct RequestContext {
    /// The caller's dialect.
    pub dialect: &'static dyn CallerDialect,
    /// The identity of the answer.
    pub call: ResponseContext,
    /// The deadlines.
    pub stream: config::Stream,
    /// The time at which the request came in.
    pub time: RequestTime,
    /// Cancelled when streams must end because the process does.
    pub closing: CancellationToken,
    /// Owns what outlives a request by a moment.
    pub tasks: TaskTracker,
}

impl RequestContext {
    /// The same for a request that begins now.
    pub(super) fn renewed(&self) -> Self {
        Self {
            dialect: self.dialect,
            call: self.call.clone(),
            stream: self.stream,
            time: RequestTime::begin(),
            closing: self.closing.clone(),
            tasks: self.tasks.clone(),
        }
    }

    /// The requested operation.
    pub fn operation(&self) -> Operation {
        self.call.form.operation()
    }
}

/// Everything that the attempts at one request share.
pub struct UpstreamRequest {
    /// The context that it shares with its answer.
    pub context: Arc<RequestContext>,
    /// This worker's clients.
    pub clients: Arc<Clients>,
    /// The metrics that count failed attempts.
    pub metrics: Arc<Metrics>,
    /// The caller's request, as it came.
    pub body: RequestBody,
    /// Whether a large body has side effects at its upstream.
    pub side_effects: Option<bool>,
    /// The caller's headers.
    pub headers: HeaderMap,
    /// The caller's name in records.
    pub caller: Arc<str>,
    /// The targets that it may be sent to.
    pub plan: Plan,
    /// The health of targets, by other requests' attempts.
    pub health: Arc<TargetHealth>,
    /// The memory share of buffered answers.
    pub memory: Arc<MemoryShare>,
    /// The gateway's id of the request.
    pub request_id: String,
    /// The request's place in a trace.
    pub trace: TraceContext,
    /// The exchange with an upstream, in its place.
    #[cfg(test)]
    pub(super) script: Option<super::scripted::Exchange>,
    /// The part of its answer that broke off and is to be continued.
    pub part: Option<Arc<Part>>,
}

impl UpstreamRequest {
    /// The same request once more.
    pub(super) fn copy(&self) -> Self {
        Self {
            context: Arc::clone(&self.context),
            clients: Arc::clone(&self.clients),
            metrics: Arc::clone(&self.metrics),
            body: self.body.clone(),
            side_effects: self.side_effects,
            headers: self.headers.clone(),
            caller: Arc::clone(&self.caller),
            plan: self.plan.clone(),
            health: Arc::clone(&self.health),
            memory: Arc::clone(&self.memory),
            request_id: self.request_id.clone(),
            trace: self.trace.clone(),
            #[cfg(test)]
            script: None,
            part: None,
        }
    }

    /// The same request for the rest of its answer.
    pub(super) fn continuing(&self, plan: Plan, part: Arc<Part>) -> Self {
        Self { plan, part: Some(part), ..self.copy() }
    }

    /// Whether a provider uses the caller's dialect, so that requests and answers are passed through.
    pub fn is_verbatim(&self, provider: &Provider) -> bool {
        self.context.dialect.name() == provider.dialect.name()
    }

    /// Whether a provider answers in one piece: there is no output before all of it is there.
    pub fn is_whole(&self, provider: &Provider) -> bool {
        let translated_chat =
            self.context.operation() == Operation::Chat && !self.is_verbatim(provider);
        !self.context.call.stream && !translated_chat
    }

    /// Whether it may change something at its upstream, besides an answer, so that it is not sent again once an upstream
    /// may have worked on it.
    pub(super) fn has_side_effects(&self) -> bool {
        self.side_effects.unwrap_or_else(|| has_side_effects(&self.body))
    }

    /// A target in metrics: models that callers name themselves are one.
    pub(super) fn target_label(&self, target: &Target) -> Arc<str> {
        if self.plan.direct {
            return format!("{}/*", target.provider.name).into();
        }
        Arc::clone(target.name())
    }

    /// Counts the choice of a target.
    pub(super) fn count_pick(&self, target: &Target, why: PickReason) {
        let key = target.provider.key.clone().unwrap_or_default();
        let target = self.target_label(target);
        let model = Arc::clone(&self.plan.label);
        let labels = PickLabels { model, target, key, why: why.word() };
        self.metrics.picks.get_or_create(&labels).inc();
    }

    /// Counts an attempt that follows a failed one.
    pub(super) fn count_retry(&self, before: &Target, (target, why): (&Target, PickReason)) {
        let kind = if why == PickReason::Fallback {
            "fallback"
        } else if before.identity() == target.identity() {
            "same_target"
        } else if before.name() == target.name() {
            "other_key"
        } else {
            "other_target"
        };
        let labels = RetryLabels { model: Arc::clone(&self.plan.label), kind };
        self.metrics.retries.get_or_create(&labels).inc();
    }

    /// The wire-level request for a target.
    pub(super) fn wanted<'a>(&self, target: &'a Target) -> dialect::Target<'a> {
        let RequestContext { dialect, call, .. } = &*self.context;
        wanted((*dialect, call.form, call.stream), target)
    }
}

/// The wire-level request for a target on behalf of a caller: its dialect, the form of its request, and `stream`.
pub(super) fn wanted<'a>(
    (caller, form, stream): (&dyn CallerDialect, Form, bool),
    target: &'a Target,
) -> dialect::Target<'a> {
    let own = target.provider.dialect;
    let operation = form.operation();
    let verbatim = caller.name() == own.name();
    dialect::Target {
        model: &target.model,
        // A translated chat is always streamed: its deadlines work, and its caller's leaving is
        // noticed. It is collected on our side if need be.
        stream: stream || operation == Operation::Chat && !verbatim,
        form: if verbatim { form } else { own.form_of(operation).unwrap_or(Form::Chat) },
        quirks: &target.quirks,
    }
}
