//! Access log: one line per request, and one per failed attempt. Texts of callers and upstreams are bounded, and no
//! line has a payload or a key.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{Attempt, trail};
use super::summary::{Sink, Summary};
use super::upstream_request::UpstreamRequest;
use crate::error::{self, Blame, Error, Side};
use crate::telemetry::{UpstreamErrorLabels, log};

/// The most characters of a value.
const MAX_WORD: usize = 100;

/// Writes the access log.
#[derive(Debug)]
pub struct AccessLog;

impl Sink for AccessLog {
    fn record(&self, summary: &Summary) {
        if !summary.logged {
            return;
        }
        let (input_tokens, input_estimated) = summary.input_tokens();
        let (output_tokens, output_estimated) = summary.output_tokens();
        let (head, tally, charged) = (&summary.head, &summary.tally, summary.charged);
        let agent = head.user_agent.as_ref().and_then(|agent| agent.to_str().ok());
        let ttft = |first: Instant| ms(first.saturating_duration_since(summary.started));
        tracing::info!(
            target: log::REQUEST,
            status = summary.status,
            method = head.method.as_str(),
            path = &*short(head.uri.path()),
            request_id = summary.request_id,
            trace_id = summary.trace.trace_id(),
            caller = filled(&summary.caller),
            client = head.client.map(tracing::field::display),
            user_agent = agent.map(short).as_deref(),
            dialect = summary.dialect,
            model = filled(&summary.model),
            prompt = summary.prompt.as_ref().map(|(id, _)| id),
            prompt_version = summary.prompt.as_ref().map(|(_, version)| version),
            target = filled(summary.target()).map(short).as_deref(),
            upstream_model = tally.model.as_deref().map(short).as_deref(),
            stream = summary.stream,
            outcome = summary.outcome,
            error = summary.error.as_deref(),
            attempts = summary.attempts.len(),
            trail = trail(&summary.attempts, true),
            continued = filled(&continued(summary)),
            duration_ms = ms(summary.duration),
            ttft_ms = summary.first_output.map(ttft),
            queued_ms = queued(summary),
            longest_gap_ms = summary.first_output.map(|_| ms(summary.longest_gap)),
            input_tokens = charged.then_some(input_tokens),
            output_tokens = charged.then_some(output_tokens),
            cached_tokens = tally.usage.cache_read,
            reasoning_tokens = tally.usage.reasoning,
            cost = summary.cost.map(tracing::field::display),
            estimated = charged.then_some(input_estimated || output_estimated),
            heartbeats = summary.heartbeats,
            "request"
        );
    }
}

/// Logs and counts a failed attempt, whatever the outcome of its request. A request that the upstream rejects is the
/// caller's fault, and does not count as an error of the provider.
pub(super) fn attempt_failed(request: &UpstreamRequest, attempt: &Attempt, error: &Error) {
    let (provider, request_id) = (&attempt.target.provider, &request.request_id);
    let blame = error.blame();
    let address = (blame == Blame::Host).then(|| provider.base_url.authority().to_owned());
    let kind = error::code(error.fault().kind);
    let provider = provider.name.clone();
    let trace_id = request.trace.trace_id();
    let (caller, model) = (&*request.caller, &*short(&request.context.call.model));
    let target = &*short(attempt.target.name());
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
    request.metrics.upstream_errors.get_or_create(&UpstreamErrorLabels { provider, kind }).inc();
}

/// A value from a caller or an upstream for the log, a span or a header: at most 100 characters, and none
/// of them a control character.
pub fn short(word: &str) -> Cow<'_, str> {
    if word.len() <= MAX_WORD && word.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(word.chars().filter(|c| !c.is_control()).take(MAX_WORD).collect())
}

/// An error and its causes on one line. An upstream's own message may repeat the prompt, so of those only the kind and the
/// status are logged (failure mode 64).
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

/// The targets that wrote an answer in turn; empty if there is one.
fn continued(summary: &Summary) -> String {
    if summary.continued.is_empty() {
        return String::new();
    }
    let first = short(summary.target()).into_owned();
    summary.continued.iter().fold(first, |all, target| format!("{all} -> {}", short(target)))
}

/// The milliseconds in the queue of its model, if it was there.
fn queued(summary: &Summary) -> Option<f64> {
    let queued: Duration = summary.attempts.iter().map(|attempt| attempt.queued).sum();
    (!queued.is_zero()).then(|| ms(queued))
}

/// Milliseconds, to the microsecond.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A text, unless it is empty.
fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
