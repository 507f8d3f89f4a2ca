//! The account as spans: one for the request, one for each attempt. Names follow the OpenTelemetry
//! GenAI conventions where one exists, and start with `streamgate` elsewhere.
//!
//! Like the account, they hold no payload and no key: of an error its kind and status, never its words.

use std::time::Duration;

use tokio::time::Instant;

use super::Entry;
use crate::config::{Provider, Target};
use crate::error::{self, Attempt, Error};
use crate::telemetry::trace::{Place, Span};
use crate::wire::chat::Stop;
use crate::wire::dialect::{Endpoint, Operation};

/// Later pauses than this one are only in the longest gap.
const PAUSES: usize = 32;

/// An upstream's own words are cut to this many characters.
const LONGEST: usize = 200;

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

/// The span of a request that somebody will see, and what only it tells.
#[derive(Debug)]
pub(super) struct Traced {
    span: Span,
    operation: &'static str,
    stall: Duration,
    /// Pauses between outputs of at least `stall`: their beginnings and lengths.
    pauses: Vec<(Instant, Duration)>,
    vendor: Option<String>,
}

impl Traced {
    /// `None`: nobody will see it.
    pub(super) fn new(
        mut span: Span,
        (endpoint, operation): (&'static Endpoint, Operation),
        stall: Duration,
    ) -> Option<Self> {
        if !span.is_recording() {
            return None;
        }
        span.set("http.request.method", "POST");
        span.set("http.route", endpoint.path);
        let operation = operation.name();
        span.set("gen_ai.operation.name", operation);
        Some(Self { span, operation, stall, pauses: Vec::new(), vendor: None })
    }

    /// Output came `gap` after the last one.
    pub(super) fn pause(&mut self, last: Instant, gap: Duration) {
        if gap >= self.stall && self.pauses.len() < PAUSES {
            self.pauses.push((last, gap));
        }
    }

    /// Who answers.
    pub(super) fn served_by(&mut self, target: &Target) {
        self.vendor = Some(vendor(&target.provider));
    }
}

/// Begins the span of an attempt.
pub(super) fn attempt(place: &Place, target: &Target, attempt: &Attempt) -> Option<Span> {
    let mut span = place.child(format!("attempt {}", short(&attempt.target)))?;
    if span.is_recording() {
        let provider = &target.provider;
        span.set("http.request.method", "POST");
        span.set("gen_ai.provider.name", vendor(provider));
        span.set("streamgate.provider", provider.name.clone());
        span.set("streamgate.target", short(&attempt.target));
        span.set("streamgate.attempt", i64::from(attempt.number));
        span.set("server.address", provider.base_url.host_str().unwrap_or_default().to_owned());
        if let Some(port) = provider.base_url.port_or_known_default() {
            span.set("server.port", i64::from(port));
        }
    }
    Some(span)
}

/// Ends the span of an attempt that another one may follow.
pub(super) fn failed(mut span: Span, error: &Error) {
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

impl Entry {
    /// Ends the request's span, and that of the attempt that was under way to the end.
    pub(super) fn end_spans(&mut self, attempt: Option<Span>) {
        let Some(mut traced) = self.traced.take() else { return };
        if let Some(mut span) = attempt {
            self.describe_attempt(&mut span, &traced);
        }
        self.describe(&mut traced);
    }

    /// What the attempt that answered, or that the end met, tells.
    fn describe_attempt(&self, span: &mut Span, traced: &Traced) {
        let now = Instant::now();
        let ago = |at: Instant| now.saturating_duration_since(at);
        if traced.vendor.is_some() {
            span.set("http.response.status_code", 200);
        }
        if let Some(first) = self.first_output {
            span.event("first_token", ago(first), None);
        }
        for (last, gap) in &traced.pauses {
            span.event("stall", ago(*last), Some(*gap));
        }
        // The pause that was one too long.
        if let ("stalled", Some(last)) = (self.outcome, self.last_output) {
            span.event("stall", ago(last), Some(ago(last)));
        }
        self.describe_end(span);
    }

    fn describe_end(&self, span: &mut Span) {
        span.set("streamgate.outcome", self.outcome);
        if let Some(fault) = self.fault {
            span.set("error.type", fault);
        }
        if is_failure(self.outcome) {
            span.fail(self.outcome);
        }
    }

    fn describe(&self, traced: &mut Traced) {
        let Traced { span, operation, vendor, .. } = traced;
        span.rename(format!("{operation} {}", self.model).trim_end().to_owned());
        if let Some(status) = self.status {
            span.set("http.response.status_code", i64::from(status));
        }
        if !self.model.is_empty() {
            span.set("gen_ai.request.model", self.model.clone());
            span.set("gen_ai.request.stream", self.stream);
        }
        span.set("streamgate.request_id", self.request_id.clone());
        span.set("streamgate.dialect", self.dialect);
        span.set("streamgate.attempts", i64::from(self.attempts));
        span.set("streamgate.heartbeats", count(self.heartbeats));
        let words = [("streamgate.caller", &*self.caller), ("streamgate.target", &self.target)];
        for (name, word) in words.into_iter().filter(|(_, word)| !word.is_empty()) {
            span.set(name, short(word));
        }
        if let Some(vendor) = vendor.take() {
            span.set("gen_ai.provider.name", vendor);
        }
        if let Some(first) = self.first_output {
            let seconds = first.saturating_duration_since(self.started).as_secs_f64();
            span.set("gen_ai.response.time_to_first_chunk", seconds);
            span.set("streamgate.longest_gap", self.longest_gap.as_secs_f64());
        }
        if self.answered {
            self.describe_answer(span);
        }
        self.describe_end(span);
    }

    fn describe_answer(&self, span: &mut Span) {
        let usage = &self.tally.usage;
        let words =
            [("gen_ai.response.id", &self.tally.id), ("gen_ai.response.model", &self.tally.model)];
        for (name, word) in words {
            if let Some(word) = word {
                span.set(name, short(word));
            }
        }
        if let Some(stop) = &self.tally.stop {
            span.set_list("gen_ai.response.finish_reasons", &[finish_reason(stop)]);
        }
        let (input, input_estimated) = self.input_tokens();
        let (output, output_estimated) = self.tally.output_tokens();
        let counts = [
            ("gen_ai.usage.input_tokens", Some(input)),
            ("gen_ai.usage.output_tokens", Some(output)),
            ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
            ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
        ];
        for (name, tokens) in counts {
            if let Some(tokens) = tokens {
                span.set(name, count(tokens));
            }
        }
        span.set("streamgate.estimated", input_estimated || output_estimated);
    }
}

/// Whether an outcome is a failure of ours or of the upstream. That a caller left, was refused or
/// was cut off is none of the service's.
fn is_failure(outcome: &str) -> bool {
    !matches!(outcome, "complete" | "client_gone" | "rejected" | "rate_limited" | "cut_off")
}

/// Who is behind a provider: a name of the conventions if its host is known, else the configured one.
fn vendor(provider: &Provider) -> String {
    let host = provider.base_url.host_str().unwrap_or_default();
    let is = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let known = VENDORS.iter().find(|(domain, _)| is(domain));
    known.map_or_else(|| provider.name.clone(), |(_, vendor)| (*vendor).to_owned())
}

/// A reason as the conventions name it. Words that no table knows stay behind: they are not ours.
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

/// A word of somebody else's, short and without control characters.
fn short(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
