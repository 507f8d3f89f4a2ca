//! The account in the log: a line for each failed attempt, and a record for each request.
//!
//! Texts of callers and upstreams are bounded, and no line has a payload or a key.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Uri};

use super::Entry;
use crate::config::Target;
use crate::error::{self, Blame, Error, Side};
use crate::gateway::upstream::Order;
use crate::telemetry::{UpstreamError, log};

/// The head of a request, as far as its record shows it.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    uri: Uri,
    user_agent: Option<HeaderValue>,
    /// The caller's address.
    pub(super) client: Option<IpAddr>,
    /// Whether the log has room for the record.
    pub(super) logged: bool,
}

impl Head {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            client: None,
            logged: true,
        }
    }
}

/// Logs and counts one failed attempt, whatever its request comes to. A request that the upstream
/// rejects is its caller's doing and none of the provider's errors.
pub fn attempt_failed(order: &Order, target: &Target, error: &Error) {
    let (metrics, request_id) = (&order.metrics, &order.request_id);
    let blame = error.blame();
    let address = (blame == Blame::Host).then(|| target.provider.base_url.authority().to_owned());
    let kind = error::code(error.fault().kind);
    let provider = target.provider.name.clone();
    let trace_id = order.trying.place.trace_id();
    let (caller, model) = (&*order.caller, &*short(&order.call.model));
    let target = &*short(target.name());
    order.trying.failed(error);
    let error = chain(error);
    if blame == Blame::Caller {
        tracing::debug!(
            request_id,
            trace_id,
            provider,
            target,
            model,
            caller,
            kind,
            error,
            "request rejected by the upstream"
        );
        return;
    }
    tracing::warn!(
        request_id,
        trace_id,
        provider,
        target,
        model,
        caller,
        address,
        kind,
        error,
        "attempt failed"
    );
    metrics.upstream_errors.get_or_create(&UpstreamError { provider, kind }).inc();
}

/// The most characters of a word.
const SHORT: usize = 100;

/// A word of a caller or an upstream for the log, a span or a header: at most 100 characters, and none
/// of them a control character.
pub fn short(word: &str) -> Cow<'_, str> {
    if word.len() <= SHORT && word.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(word.chars().filter(|c| !c.is_control()).take(SHORT).collect())
}

/// An error and its causes on one line, fit for a log: an upstream's own words may repeat the
/// prompt, so of those only the kind and the status are logged (failure mode 64).
pub(super) fn chain(error: &Error) -> String {
    let kind = error::code(error.fault().kind);
    let mut text = match (error.side(), error.upstream_reply()) {
        (Side::Upstream, Some(reply)) => format!("{kind} (status {})", reply.status),
        (Side::Upstream, None) => kind.to_owned(),
        (Side::Caller | Side::Us, _) => format!("{kind}: {error}"),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Entry {
    /// Writes the record.
    pub(super) fn write(&self) {
        let (input_tokens, input_estimated) = self.input_tokens();
        let (output_tokens, output_estimated) = self.tally.output_tokens();
        let used = self.answered;
        tracing::info!(
            target: log::REQUEST,
            status = self.status,
            method = self.head.method.as_str(),
            path = &*short(self.head.uri.path()),
            request_id = self.request_id,
            trace_id = self.trying.place.trace_id(),
            caller = filled(&self.caller),
            client = self.head.client.map(tracing::field::display),
            user_agent = self.head.user_agent.as_ref().and_then(|it| it.to_str().ok()).map(short).as_deref(),
            dialect = self.dialect,
            model = filled(&self.model),
            prompt = self.prompt.as_ref().map(|(id, _)| id),
            prompt_version = self.prompt.as_ref().map(|(_, version)| version),
            target = filled(&self.target).map(short).as_deref(),
            upstream_model = self.tally.model.as_deref().map(short).as_deref(),
            stream = self.stream,
            outcome = self.outcome,
            error = self.error.as_deref(),
            attempts = self.attempts,
            duration_ms = ms(self.started.elapsed()),
            ttft_ms = self.first_output.map(|at| ms(at.saturating_duration_since(self.started))),
            longest_gap_ms = self.first_output.map(|_| ms(self.longest_gap)),
            input_tokens = used.then_some(input_tokens),
            output_tokens = used.then_some(output_tokens),
            cached_tokens = self.tally.usage.cache_read,
            reasoning_tokens = self.tally.usage.reasoning,
            estimated = used.then_some(input_estimated || output_estimated),
            heartbeats = self.heartbeats,
            "request"
        );
    }
}

/// Milliseconds, to the microsecond.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A text that says something.
fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
