//! Per-request accounting: the requests and tokens admitted and used, and the summary that the sinks get when it is
//! dropped. It never holds payloads or keys. On every way out of a request, dropping its account settles it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::Instant;

use super::access_log::{chain, short};
use super::attempt::Attempt;
use super::auth::Caller;
use super::clock::unix_seconds;
use super::ids;
use super::limit::{Admission, TokenDemand};
use super::request_metrics::OpenRequest;
use super::route::Plan;
use super::summary::{Head, RequestSpan, Sinks, Summary};
use crate::config::Target;
use crate::error::{self, Error};
use crate::prompts::Prompt;
use crate::telemetry::trace::{TraceContext, Tracing};
use crate::telemetry::{Metrics, Sample};
use crate::wire::chat::End;
use crate::wire::dialect::Endpoint;
use crate::wire::tally::Tally;

/// The account of one request. Dropping it settles the admission and hands the summary to the sinks. One that
/// was never settled belongs to a request whose caller disconnected.
pub struct Account {
    summary: Summary,
    sinks: Sinks,
    /// Settled with the tokens used when the request is over.
    admission: Option<Admission>,
    /// The tokens of output that are reserved.
    covered: u64,
    /// The most tokens that an upstream may count and be believed.
    plausible: u64,
    /// The upstream may work on when the answer has ended.
    background: bool,
    _open: OpenRequest,
}

impl Account {
    /// Opens the account of a request that has just come in.
    pub fn begin<B>(
        (sinks, metrics): (&Sinks, &Metrics),
        (request_id, started): (&str, Instant),
        dialect: &'static str,
        request: &Request<B>,
    ) -> Box<Self> {
        Box::new(Self {
            summary: Summary {
                record_id: ids::record_id(),
                request_id: request_id.to_owned(),
                trace: TraceContext::None,
                span: None,
                head: Head::of(request),
                logged: true,
                status: None,
                dialect,
                caller: Arc::default(),
                caller_label: Arc::default(),
                model: String::new(),
                label: Arc::default(),
                direct: false,
                prompt: None,
                stream: false,
                attempts: Vec::new(),
                served: None,
                continued: Vec::new(),
                charged: false,
                outcome: "client_gone",
                error: None,
                kind: None,
                limit: None,
                started,
                duration: Duration::ZERO,
                first_output: None,
                last_output: None,
                longest_gap: Duration::ZERO,
                gaps: Sample::default(),
                heartbeats: 0,
                input_estimate: 0,
                tally: Tally::default(),
                implausible: false,
                cost: None,
            },
            sinks: Arc::clone(sinks),
            admission: None,
            covered: u64::MAX,
            plausible: u64::MAX,
            background: false,
            _open: OpenRequest::new(metrics, dialect),
        })
    }

    /// Places the request in a trace. A pause between outputs of at least `stall` becomes an event there.
    /// Returns the trace's id, unless the trace is the caller's alone.
    pub fn trace(
        &mut self,
        tracing: &Tracing,
        headers: &HeaderMap,
        endpoint: &'static Endpoint,
        stall: Duration,
    ) -> Option<String> {
        let (place, span) = tracing.begin(headers);
        self.summary.span = span.and_then(|span| RequestSpan::new(span, endpoint, stall));
        self.summary.trace = place;
        let place = &self.summary.trace;
        place.trace_id().filter(|_| place.is_ours())
    }

    /// `provider/model` of the attempt that answered, or whose error the caller gets; empty if there is none.
    pub fn target(&self) -> &str {
        self.summary.target()
    }

    /// The target that answers.
    pub fn served_target(&self) -> Option<&Target> {
        let attempt = self.summary.attempts.get(self.summary.served?)?;
        let last = self.summary.attempts.last().filter(|_| !self.summary.continued.is_empty());
        Some(&last.unwrap_or(attempt).target)
    }

    /// Every attempt so far, in the order in which they began.
    pub fn attempts(&self) -> &[Attempt] {
        &self.summary.attempts
    }

    /// The request's place in a trace.
    pub fn place(&self) -> &TraceContext {
        &self.summary.trace
    }

    /// The caller's name.
    pub fn caller(&self) -> Arc<str> {
        Arc::clone(&self.summary.caller)
    }

    /// The summary so far, for records of a request that is about to be sent.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Sets the status of the response.
    pub fn responded(&mut self, status: u16) {
        self.summary.status = Some(status);
    }

    /// Sets whether the access log has room for the request. It is counted all the same.
    pub fn log(&mut self, room: bool) {
        self.summary.logged = room;
    }

    /// Sets the address that the request comes from.
    pub fn came_from(&mut self, client: IpAddr) {
        self.summary.head.client = Some(client);
    }

    /// Sets the caller.
    pub fn identified(&mut self, caller: &Caller) {
        self.summary.caller = Arc::clone(&caller.name);
        self.summary.caller_label = Arc::clone(&caller.label);
    }

    /// Sets the requested model and form. The estimate of the prompt's tokens counts until the upstream reports them.
    pub fn asked(&mut self, model: &str, stream: bool, prompt_tokens: u64) {
        self.summary.model = short(model).into_owned();
        self.summary.stream = stream;
        self.summary.input_estimate = prompt_tokens;
    }

    /// Sets the configured prompt that the request names, if it names one.
    pub fn prompted(&mut self, prompt: Option<&Prompt>) {
        if let Some(prompt) = prompt {
            self.summary.prompt = Some((prompt.id.clone(), prompt.version.as_str().to_owned()));
        }
    }

    /// Sets the model of the plan.
    pub fn planned(&mut self, plan: &Plan) {
        self.summary.label = Arc::clone(&plan.label);
        self.summary.direct = plan.direct;
    }

    /// Keeps the admission until the request is over, and settles it then. `background`: the
    /// upstream may work on when the answer has ended.
    pub fn admitted(&mut self, admission: Admission, demand: &TokenDemand, background: bool) {
        self.plausible = demand.plausible();
        self.background = background;
        self.covered = admission.covered();
        self.admission = Some(admission);
    }

    /// Reserves tokens for the output so far. An error: there are none left, and the answer must end.
    pub fn cover(&mut self, tally: &Tally) -> Result<(), Error> {
        let (output, _) = tally.output_tokens();
        if output <= self.covered {
            return Ok(());
        }
        let output = if output > self.plausible { tally.estimated_output() } else { output };
        let Some(admission) = &mut self.admission else { return Ok(()) };
        admission.extend(output)?;
        self.covered = admission.covered();
        Ok(())
    }

    /// Takes the attempts of a request for which there will be no others. Until an answer or an error names another
    /// one, the last that was sent counts: its target has read the prompt.
    pub fn attempted(&mut self, mut attempts: Vec<Attempt>) {
        attempts.pop_if(|attempt| attempt.is_preparing());
        self.summary.served = attempts.iter().rposition(|attempt| attempt.sent.is_some());
        self.summary.attempts = attempts;
    }

    /// Sets the attempt that has begun to answer.
    pub fn served_by(&mut self, index: usize) {
        self.summary.served = Some(index);
        self.summary.charged = true;
    }

    /// Adds the attempts at the rest of an answer that broke off. `continued`: the last one goes on with it.
    pub fn continued(&mut self, attempts: Vec<Attempt>, continued: bool) {
        let summary = &mut self.summary;
        let target = attempts.last().map(|attempt| Arc::clone(attempt.target.name()));
        for attempt in summary.attempts.iter_mut().filter(|_| continued) {
            if let Some(span) = attempt.span.take() {
                span.event("broken", Duration::ZERO, None);
                span.end();
            }
        }
        summary.attempts.extend(attempts);
        summary.continued.extend(target.filter(|_| continued));
    }

    /// Model output was passed on.
    pub fn output(&mut self, now: Instant) {
        let summary = &mut self.summary;
        if let Some(last) = summary.last_output {
            let gap = now.saturating_duration_since(last);
            summary.longest_gap = summary.longest_gap.max(gap);
            summary.gaps.add(gap);
            if let Some(span) = &mut summary.span {
                span.pause(last, gap);
            }
        } else {
            summary.first_output = Some(now);
        }
        summary.last_output = Some(now);
    }

    /// A heartbeat was written.
    pub fn heartbeat(&mut self) {
        self.summary.heartbeats += 1;
    }

    /// The request failed before an answer began, or in its place.
    pub fn failed(&mut self, error: &Error) {
        self.summary.outcome = error.outcome();
        self.summary.limit = error.limit();
        self.summary.error = Some(chain(error));
        self.summary.kind = Some(error::code(error.fault().kind));
        if let Some(attempt) = error.attempt() {
            self.summary.served = Some(attempt.index);
        }
    }

    /// Sets the tally of the answer and its end. `None`: it has none, because its caller disconnected.
    pub fn settle(&mut self, tally: &Tally, end: Option<&End>) {
        let summary = &mut self.summary;
        summary.tally.clone_from(tally);
        summary.tally.usage = tally.usage.within(self.plausible);
        summary.implausible |= summary.tally.usage != tally.usage;
        summary.outcome = end.map_or("client_gone", error::end_outcome);
        summary.kind = end.and_then(End::fault).map(|fault| error::code(fault.kind));
        summary.error = summary.kind.map(str::to_owned);
    }

    /// Settles the admission with the tokens used: of an answer that never began, none.
    fn settle_admission(&mut self) {
        let Some(mut admission) = self.admission.take() else { return };
        let Summary { tally, attempts, .. } = &self.summary;
        if !self.summary.charged {
            return;
        }
        let (input, output) = (self.summary.input_tokens().0, self.summary.output_tokens().0);
        admission.settle(input.saturating_add(output));
        // Left, or answered, before its usage is known.
        let open = !tally.complete;
        let uncounted = open || tally.usage.output.is_none();
        let sent = attempts.iter().rfind(|attempt| attempt.sent.is_some());
        let whole = sent.is_some_and(|attempt| attempt.whole);
        if whole && open || self.background && uncounted {
            admission.settle_reservation();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let summary = &mut self.summary;
        // Left in the middle of an attempt.
        let sent = summary.served().is_some_and(|attempt| attempt.sent.is_some());
        summary.charged |= sent && summary.outcome == "client_gone";
        summary.duration = summary.started.elapsed();
        summary.cost = summary.cost_at(unix_seconds().saturating_sub(summary.duration.as_secs()));
        // Before anything else: no caller waits for a log line to get a permit (failure mode 9).
        self.settle_admission();
        for sink in self.sinks.iter() {
            sink.record(&self.summary);
        }
    }
}
