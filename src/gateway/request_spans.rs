//! Spans of requests and attempts. Names follow the OpenTelemetry GenAI conventions where one exists, and start with
//! `streamgate` elsewhere. They hold no payload and no key: of an error its kind and status, never its message.

use tokio::time::Instant;

use super::attempt::Attempt;
use super::summary::{RequestSpan, Sink, Summary};
use crate::config::Provider;
use crate::error::{self, Error};
use crate::telemetry::trace::{Span, TraceContext};
use crate::wire::chat::Stop;

/// Values from upstreams and callers are cut to this many characters.
const MAX_WORD: usize = 200;

/// The conventions' names of vendors, by the end of their host's name.
const VENDORS: [(&str, &str); 15] = [
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("anthropic.com", "anthropic"),
    ("amazonaws.com", "aws.bedrock"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("mistral.ai", "mistral_ai"),
    ("groq.com", "groq"),
    ("deepseek.com", "deepseek"),
    ("x.ai", "x_ai"),
    ("cohere.ai", "cohere"),
    ("cohere.com", "cohere"),
    ("perplexity.ai", "perplexity"),
    ("watsonx.ai", "ibm.watsonx.ai"),
];

/// Describes the spans of requests when they end.
#[derive(Debug)]
pub struct RequestSpans;

/// Begins the span of an attempt, which is the `number`th of its request.
pub(super) fn begin(place: &TraceContext, attempt: &Attempt, number: usize) -> Option<Span> {
    let span = place.child(format!("attempt {}", short(attempt.target.name())))?;
    if span.is_recording() {
        let provider = &attempt.target.provider;
        span.set("http.request.method", "POST");
        span.set("gen_ai.provider.name", vendor(provider));
        span.set("streamgate.provider", provider.name.clone());
        span.set("streamgate.target", short(attempt.target.name()));
        span.set("streamgate.attempt", i64::try_from(number).unwrap_or(i64::MAX));
        span.set("server.address", provider.base_url.host_str().unwrap_or_default().to_owned());
        if let Some(port) = provider.base_url.port_or_known_default() {
            span.set("server.port", i64::from(port));
        }
    }
    Some(span)
}

/// Describes the span of a failed attempt. Dropping the span ends it.
pub(super) fn fail(span: &Span, error: &Error) {
    let kind = error::code(error.fault().kind);
    span.set("streamgate.outcome", error.outcome());
    span.set("error.type", kind);
    if let Some(reply) = error.upstream_reply() {
        span.set("http.response.status_code", i64::from(reply.status));
    }
    if is_failure(error.outcome()) {
        span.fail(kind);
    }
}

/// Describes the span of an attempt that another one was faster than.
pub(super) fn supersede(span: &Span) {
    span.set("streamgate.outcome", "superseded");
}

impl Sink for RequestSpans {
    /// Ends the span of the attempt that has not failed, then the request's.
    fn record(&self, summary: &Summary) {
        let Some(request) = &summary.span else { return };
        let mut spans = summary.attempts.iter().rev().filter_map(|attempt| attempt.span.as_ref());
        if let Some(span) = spans.next() {
            describe_attempt(summary, span, request);
            span.end();
        }
        describe_request(summary, request);
        request.span.end();
    }
}

/// Describes the attempt that answered, or that was under way at the end.
fn describe_attempt(summary: &Summary, span: &Span, request: &RequestSpan) {
    let now = Instant::now();
    let ago = |at: Instant| now.saturating_duration_since(at);
    if summary.is_answered() {
        span.set("http.response.status_code", 200);
    }
    if let Some(first) = summary.first_output {
        span.event("first_token", ago(first), None);
    }
    for (last, gap) in &request.pauses {
        span.event("stall", ago(*last), Some(*gap));
    }
    // The pause that was one too long.
    if let ("stalled", Some(last)) = (summary.outcome, summary.last_output) {
        span.event("stall", ago(last), Some(ago(last)));
    }
    describe_end(summary, span);
}

fn describe_end(summary: &Summary, span: &Span) {
    span.set("streamgate.outcome", summary.outcome);
    if let Some(kind) = summary.kind {
        span.set("error.type", kind);
    }
    if is_failure(summary.outcome) {
        span.fail(summary.outcome);
    }
}

fn describe_request(summary: &Summary, RequestSpan { span, operation, .. }: &RequestSpan) {
    span.rename(format!("{operation} {}", summary.model).trim_end().to_owned());
    if let Some(status) = summary.status {
        span.set("http.response.status_code", i64::from(status));
    }
    if !summary.model.is_empty() {
        span.set("gen_ai.request.model", summary.model.clone());
        span.set("gen_ai.request.stream", summary.stream);
    }
    span.set("streamgate.request_id", summary.request_id.clone());
    span.set("streamgate.dialect", summary.dialect);
    span.set("streamgate.attempts", i64::try_from(summary.attempts.len()).unwrap_or(i64::MAX));
    span.set("streamgate.heartbeats", count(summary.heartbeats));
    let words = [("streamgate.caller", &*summary.caller), ("streamgate.target", summary.target())];
    for (name, word) in words.into_iter().filter(|(_, word)| !word.is_empty()) {
        span.set(name, short(word));
    }
    if !summary.continued.is_empty() {
        let targets: Vec<String> = summary.continued.iter().map(|target| short(target)).collect();
        span.set("streamgate.continued", targets.join(", "));
    }
    if let Some(attempt) = summary.served().filter(|_| summary.is_answered()) {
        span.set("gen_ai.provider.name", vendor(&attempt.target.provider));
    }
    if let Some(first) = summary.first_output {
        let seconds = first.saturating_duration_since(summary.started).as_secs_f64();
        span.set("gen_ai.response.time_to_first_chunk", seconds);
        span.set("streamgate.longest_gap", summary.longest_gap.as_secs_f64());
    }
    if summary.charged {
        describe_answer(summary, span);
    }
    describe_end(summary, span);
}

fn describe_answer(summary: &Summary, span: &Span) {
    let tally = &summary.tally;
    let words = [("gen_ai.response.id", &tally.id), ("gen_ai.response.model", &tally.model)];
    for (name, word) in words {
        if let Some(word) = word {
            span.set(name, short(word));
        }
    }
    if let Some(stop) = &tally.stop {
        span.set_list("gen_ai.response.finish_reasons", &[finish_reason(stop)]);
    }
    let (input, input_estimated) = summary.input_tokens();
    let (output, output_estimated) = summary.output_tokens();
    let counts = [
        ("gen_ai.usage.input_tokens", Some(input)),
        ("gen_ai.usage.output_tokens", Some(output)),
        ("gen_ai.usage.cache_read.input_tokens", tally.usage.cache_read),
        ("gen_ai.usage.cache_creation.input_tokens", tally.usage.cache_write),
        ("gen_ai.usage.reasoning.output_tokens", tally.usage.reasoning),
    ];
    for (name, tokens) in counts {
        if let Some(tokens) = tokens {
            span.set(name, count(tokens));
        }
    }
    span.set("streamgate.estimated", input_estimated || output_estimated);
}

/// Whether an outcome is a failure of the gateway or of the upstream. A caller that disconnects, is rejected
/// or is cut off is no failure of the service.
fn is_failure(outcome: &str) -> bool {
    !matches!(outcome, "complete" | "client_gone" | "rejected" | "rate_limited" | "cut_off")
}

/// The vendor of a provider: a name of the conventions if its host is known, else the configured one.
fn vendor(provider: &Provider) -> String {
    let host = provider.base_url.host_str().unwrap_or_default();
    let is = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let known = VENDORS.iter().find(|(domain, _)| is(domain));
    known.map_or_else(|| provider.name.clone(), |(_, vendor)| (*vendor).to_owned())
}

/// A finish reason as the conventions name it. Unknown ones become `other`: their text is the upstream's.
fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Sequence(_) => "stop",
        Stop::MaxTokens | Stop::ContextFull => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Refusal(_) | Stop::ContentFilter => "content_filter",
        Stop::Pause => "pause",
        Stop::Failed(_) => "error",
        Stop::Other(_) => "other",
    }
}

/// Text from a caller or an upstream, shortened and without control characters.
fn short(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(MAX_WORD).collect()
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
