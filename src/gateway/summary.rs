//! Summaries of requests, and the sinks that receive them: metrics, the access log, spans. A summary holds no payload,
//! no key, and no message of an upstream.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Uri};
use tokio::time::Instant;

use super::attempt::Attempt;
use crate::ledger::RecordId;
use crate::prices::Cost;
use crate::telemetry::Sample;
use crate::telemetry::trace::{Span, TraceContext};
use crate::wire::chat::Usage;
use crate::wire::dialect::Endpoint;
use crate::wire::tally::Tally;

/// The most pauses that a span has as events. Later ones are only in the longest gap.
const MAX_PAUSES: usize = 32;

/// A receiver of summaries. It is called once per request, on the thread that serves it, when the answer has ended:
/// it must never block.
pub trait Sink: Send + Sync {
    /// Takes account of one request.
    fn record(&self, summary: &Summary);
}

/// All sinks of the process, in the order in which they are called.
pub type Sinks = Arc<[Box<dyn Sink>]>;

/// The head of a request, as far as records show it.
#[derive(Debug)]
pub struct Head {
    /// Its method.
    pub method: Method,
    /// Its target. Records show the path alone.
    pub uri: Uri,
    /// Its `user-agent`.
    pub user_agent: Option<HeaderValue>,
    /// The caller's address, once it is known.
    pub client: Option<IpAddr>,
}

impl Head {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            client: None,
        }
    }
}

/// The span of a request that a collector will see.
#[derive(Debug)]
pub struct RequestSpan {
    pub(super) span: Span,
    /// The operation by its name in the conventions.
    pub(super) operation: &'static str,
    stall: Duration,
    /// Pauses between outputs of at least `stall`: their beginnings and lengths.
    pub(super) pauses: Vec<(Instant, Duration)>,
}

impl RequestSpan {
    /// `None`: the span is not sampled.
    pub(super) fn new(span: Span, endpoint: &'static Endpoint, stall: Duration) -> Option<Self> {
        if !span.is_recording() {
            return None;
        }
        span.set("http.request.method", "POST");
        span.set("http.route", endpoint.path);
        let operation = endpoint.form.operation().name();
        span.set("gen_ai.operation.name", operation);
        Some(Self { span, operation, stall, pauses: Vec::new() })
    }

    /// Output came `gap` after the last one.
    pub(super) fn pause(&mut self, last: Instant, gap: Duration) {
        if gap >= self.stall && self.pauses.len() < MAX_PAUSES {
            self.pauses.push((last, gap));
        }
    }
}

/// The summary of one request.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub struct Summary {
    /// Its id in the usage ledger.
    pub record_id: RecordId,
    /// The id that the response carries.
    pub request_id: String,
    /// The request's place in a trace.
    pub trace: TraceContext,
    /// Its span, if a collector will see it.
    pub span: Option<RequestSpan>,
    /// Its head.
    pub head: Head,
    /// Whether the access log has room for it.
    pub logged: bool,
    /// The status of the response, once there is one.
    pub status: Option<u16>,
    /// The caller's dialect.
    pub dialect: &'static str,
    /// The caller's name; empty if none was identified.
    pub caller: Arc<str>,
    /// The caller's name as a label.
    pub caller_label: Arc<str>,
    /// The model as the caller named it, shortened.
    pub model: String,
    /// The configured model that this is, or `provider/*`; empty if none was found.
    pub label: Arc<str>,
    /// The model's name at the upstream is the caller's choice.
    pub direct: bool,
    /// Id and version of the prompt that the request named.
    pub prompt: Option<(String, String)>,
    /// Whether the answer was to be streamed.
    pub stream: bool,
    /// Every attempt, in the order in which they began.
    pub attempts: Vec<Attempt>,
    /// The attempt that answered, or whose error the caller got.
    pub served: Option<usize>,
    /// The targets that went on with the answer when it had broken off, as `provider/model`.
    pub continued: Vec<Arc<str>>,
    /// The target has read the prompt, so that its tokens count.
    pub charged: bool,
    /// The outcome: a stable label.
    pub outcome: &'static str,
    /// The error of the log.
    pub error: Option<String>,
    /// The error's stable label.
    pub kind: Option<&'static str>,
    /// The limit that rejected it: its scope and its name.
    pub limit: Option<(&'static str, &'static str)>,
    /// The time at which it came in.
    pub started: Instant,
    /// From then to its end.
    pub duration: Duration,
    /// The time of the first model output.
    pub first_output: Option<Instant>,
    /// The time of the last model output.
    pub last_output: Option<Instant>,
    /// The longest pause between outputs.
    pub longest_gap: Duration,
    /// All pauses between outputs.
    pub gaps: Sample,
    /// Heartbeats that were written to the caller.
    pub heartbeats: u64,
    /// The tokens of the prompt as estimated, for upstreams that do not count them.
    pub input_estimate: u64,
    /// Tokens, output and identity of the answer.
    pub tally: Tally,
    /// The upstream counted more tokens than can be.
    pub implausible: bool,
    /// The cost of its tokens, estimated as they are. `None`: nothing was charged, or there is no price.
    pub cost: Option<Cost>,
}

impl Summary {
    /// The attempt that answered, or whose error the caller got.
    pub fn served(&self) -> Option<&Attempt> {
        self.attempts.get(self.served?)
    }

    /// `provider/model` of that attempt; empty if there is none.
    pub fn target(&self) -> &str {
        self.served().map_or("", |attempt| attempt.target.name())
    }

    /// Whether that attempt's target began to answer.
    pub fn is_answered(&self) -> bool {
        self.served().is_some_and(|attempt| attempt.answered)
    }

    /// Input tokens, and whether they are an estimate.
    pub fn input_tokens(&self) -> (u64, bool) {
        self.tally.usage.input.map_or((self.input_estimate, true), |tokens| (tokens, false))
    }

    /// The cost of its tokens at the prices of a time, in Unix seconds.
    pub(super) fn cost_at(&self, unix: u64) -> Option<Cost> {
        let target = self.served().filter(|_| self.charged)?.target.clone();
        let price = target.price.clone().or_else(|| target.list_price())?;
        let (input, output) = (Some(self.input_tokens().0), Some(self.output_tokens().0));
        price.cost(&Usage { input, output, ..self.tally.usage }, None, unix)
    }

    /// Output tokens, and whether they are an estimate.
    pub fn output_tokens(&self) -> (u64, bool) {
        self.tally.output_tokens()
    }
}
