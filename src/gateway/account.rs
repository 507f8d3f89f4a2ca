//! What happened: one [`Record`] per request, written and counted when it is dropped.
//!
//! It never sees payloads or keys. Whatever way a request ends, dropping its record settles it.

#[path = "account_log.rs"]
mod log;
#[path = "account_trace.rs"]
mod trace;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::Instant;

use super::auth::Caller;
use super::limit::{Admission, Need};
use super::route::Plan;
use crate::config::Target;
use crate::error::{self, Attempt, Error};
use crate::prompts::Prompt;
use crate::telemetry::trace::{Place, Span, Tracing};
use crate::telemetry::{Ended, Kept, LimitReached, Metrics, Route, Sample, Tokens, Upstream};
use crate::wire::chat::End;
use crate::wire::dialect::{Endpoint, Operation};
use crate::wire::tally::Tally;
use log::{Head, chain};
pub use log::{attempt_failed, short};

/// The account of one request. Writes itself when dropped; a request that nobody settled was left
/// by its caller.
#[derive(Debug)]
pub struct Record(Option<Box<Entry>>);

/// Which attempt is under way, told by whoever makes it: a caller may leave in the middle of one.
#[derive(Debug, Clone, Default)]
pub struct Trying {
    /// Where the request stands in a trace.
    place: Place,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    attempt: Option<Attempt>,
    span: Option<Span>,
    /// Its answer comes all at once, so that nobody sees how far the upstream is.
    whole: bool,
}

impl Trying {
    /// An attempt begins. `whole`: its answer is asked for and passed on in one piece.
    pub fn begin(&self, target: &Target, number: u32, whole: bool) {
        let attempt = Attempt { target: Arc::clone(target.name()), number };
        let span = trace::attempt(&self.place, target, &attempt);
        if let Ok(mut under_way) = self.under_way.lock() {
            *under_way = UnderWay { attempt: Some(attempt), span, whole };
        }
    }

    /// Tells the upstream where in a trace it is asked.
    pub fn pass_on(&self, headers: &mut HeaderMap) {
        if let Ok(under_way) = self.under_way.lock() {
            self.place.pass_on(under_way.span.as_ref(), headers);
        }
    }

    /// The attempt has failed.
    fn failed(&self, error: &Error) {
        if let Some(span) = self.under_way.lock().ok().and_then(|mut now| now.span.take()) {
            trace::failed(span, error);
        }
    }

    fn take(&self) -> UnderWay {
        self.under_way.lock().map(|mut now| std::mem::take(&mut *now)).unwrap_or_default()
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
struct Entry {
    trying: Trying,
    head: Head,
    /// The status of the response head, once there is one.
    status: Option<u16>,
    /// Kept only while somebody will see it.
    traced: Option<trace::Traced>,
    /// An upstream has begun to answer.
    answered: bool,
    metrics: Arc<Metrics>,
    request_id: String,
    dialect: &'static str,
    stream: bool,
    caller: Arc<str>,
    caller_label: Arc<str>,
    /// As the caller named it, shortened.
    model: String,
    /// Id and version of the prompt.
    prompt: Option<(String, String)>,
    label: Arc<str>,
    /// The model's name at the upstream is the caller's choice.
    direct: bool,
    target: Arc<str>,
    target_label: Arc<str>,
    outcome: &'static str,
    error: Option<String>,
    /// The error's stable word.
    fault: Option<&'static str>,
    attempts: u32,
    started: Instant,
    first_output: Option<Instant>,
    last_output: Option<Instant>,
    longest_gap: Duration,
    gaps: Sample,
    heartbeats: u64,
    /// A guess at the prompt's tokens, used when the upstream does not say.
    input_estimate: u64,
    tally: Tally,
    /// The most tokens that an upstream may count and be believed.
    plausible: u64,
    /// It counted more.
    implausible: bool,
    /// The upstream may work on when the answer has ended.
    background: bool,
    /// The answer comes all at once.
    whole: bool,
    /// Settled with what was used when the request is over.
    admission: Option<Admission>,
    /// The tokens of output that are reserved.
    covered: u64,
}

impl Record {
    /// Opens the account of a request that has just come in.
    pub fn begin<B>(
        metrics: &Arc<Metrics>,
        request_id: &str,
        dialect: &'static str,
        request: &Request<B>,
    ) -> Self {
        metrics.open.get_or_create(&Kept { dialect }).inc();
        Self(Some(Box::new(Entry {
            trying: Trying::default(),
            head: Head::of(request),
            status: None,
            traced: None,
            answered: false,
            metrics: Arc::clone(metrics),
            request_id: request_id.to_owned(),
            dialect,
            stream: false,
            caller: Arc::default(),
            caller_label: Arc::default(),
            model: String::new(),
            prompt: None,
            label: Arc::default(),
            direct: false,
            target: Arc::default(),
            target_label: Arc::default(),
            outcome: "client_gone",
            error: None,
            fault: None,
            attempts: 0,
            started: Instant::now(),
            first_output: None,
            last_output: None,
            longest_gap: Duration::ZERO,
            gaps: Sample::default(),
            heartbeats: 0,
            input_estimate: 0,
            tally: Tally::default(),
            plausible: u64::MAX,
            implausible: false,
            background: false,
            whole: false,
            admission: None,
            covered: u64::MAX,
        })))
    }

    /// Places a request in a trace. A pause as long as `stall` is told there.
    /// Returns the trace's id if it is ours to show.
    pub fn trace(
        &mut self,
        tracing: &Tracing,
        headers: &HeaderMap,
        asked: (&'static Endpoint, Operation),
        stall: Duration,
    ) -> Option<String> {
        let entry = self.0.as_mut()?;
        let (place, span) = tracing.begin(headers);
        entry.traced = span.and_then(|span| trace::Traced::new(span, asked, stall));
        entry.trying.place = place;
        let place = &entry.trying.place;
        place.trace_id().filter(|_| place.is_ours())
    }

    /// The status that the response head says.
    pub fn responded(&mut self, status: u16) {
        if let Some(entry) = &mut self.0 {
            entry.status = Some(status);
        }
    }

    /// Whether the log has room for it. It is counted all the same.
    pub fn log(&mut self, room: bool) {
        if let Some(entry) = &mut self.0 {
            entry.head.logged = room;
        }
    }

    /// The address that the request comes from.
    pub fn came_from(&mut self, client: IpAddr) {
        if let Some(entry) = &mut self.0 {
            entry.head.client = Some(client);
        }
    }

    /// Moves the account to whoever carries the request on, after a response head that says 200;
    /// nothing is written here any more.
    #[must_use]
    pub fn hand_over(&mut self) -> Self {
        self.responded(200);
        self.take()
    }

    /// Moves the account.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Who calls.
    pub fn identified(&mut self, caller: &Caller) {
        if let Some(entry) = &mut self.0 {
            entry.caller = Arc::clone(&caller.name);
            entry.caller_label = Arc::clone(&caller.label);
        }
    }

    /// What was asked for. The prompt's tokens are a guess that counts until the upstream says.
    pub fn asked(&mut self, model: &str, stream: bool, prompt_tokens: u64) {
        if let Some(entry) = &mut self.0 {
            entry.model = short(model).into_owned();
            entry.stream = stream;
            entry.input_estimate = prompt_tokens;
        }
    }

    /// Which prompt it names, if any: a configured one, so that its name is bounded.
    pub fn prompted(&mut self, prompt: Option<&Prompt>) {
        if let (Some(entry), Some(prompt)) = (&mut self.0, prompt) {
            entry.prompt = Some((prompt.id.clone(), prompt.version.as_str().to_owned()));
        }
    }

    /// Keeps what was admitted until the request is over, and settles it then. `background`: the
    /// upstream may work on when the answer has ended.
    pub fn admitted(&mut self, admission: Admission, need: &Need, background: bool) {
        if let Some(entry) = &mut self.0 {
            entry.plausible = need.plausible();
            entry.background = background;
            entry.covered = admission.covered();
            entry.admission = Some(admission);
        }
    }

    /// Sees that the output so far is paid for. An error: it is not, and the answer must end.
    pub fn cover(&mut self, tally: &Tally) -> Result<(), Error> {
        let Some(entry) = &mut self.0 else { return Ok(()) };
        let (output, _) = tally.output_tokens();
        if output <= entry.covered {
            return Ok(());
        }
        let output = if output > entry.plausible { tally.estimated_output() } else { output };
        let Some(admission) = &mut entry.admission else { return Ok(()) };
        admission.extend(output)?;
        entry.covered = admission.covered();
        Ok(())
    }

    /// Where it may go.
    pub fn planned(&mut self, plan: &Plan) {
        if let Some(entry) = &mut self.0 {
            entry.label = Arc::clone(&plan.label);
            entry.direct = plan.direct;
        }
    }

    /// Where to tell which attempt is under way.
    pub fn trying(&self) -> Trying {
        self.0.as_ref().map(|entry| entry.trying.clone()).unwrap_or_default()
    }

    /// Who answers, after how many attempts.
    pub fn served_by(&mut self, target: &Target, attempts: u32) {
        if let Some(entry) = &mut self.0 {
            entry.answered = true;
            entry.attempted(Arc::clone(target.name()), attempts);
            if let Some(traced) = &mut entry.traced {
                traced.served_by(target);
            }
        }
    }

    /// Model output was passed on.
    pub fn output(&mut self, now: Instant) {
        let Some(entry) = &mut self.0 else { return };
        if let Some(last) = entry.last_output {
            let gap = now.saturating_duration_since(last);
            entry.longest_gap = entry.longest_gap.max(gap);
            entry.gaps.add(gap);
            if let Some(traced) = &mut entry.traced {
                traced.pause(last, gap);
            }
        } else {
            entry.first_output = Some(now);
        }
        entry.last_output = Some(now);
    }

    /// A heartbeat was written.
    pub fn heartbeat(&mut self) {
        if let Some(entry) = &mut self.0 {
            entry.heartbeats += 1;
        }
    }

    /// The request failed before an answer began, or in its place.
    pub fn failed(&mut self, error: &Error) {
        if let Some(entry) = &mut self.0 {
            entry.outcome = error.outcome();
            if let Some((scope, limit)) = error.limit() {
                entry.metrics.limit_refusals.get_or_create(&LimitReached { scope, limit }).inc();
            }
            entry.error = Some(chain(error));
            entry.fault = Some(error::code(error.fault().kind));
            if let Some(attempt) = error.attempt() {
                entry.attempted(Arc::clone(&attempt.target), attempt.number);
            }
        }
    }

    /// What the answer amounted to, and how it ended. `None`: it did not, its caller left.
    pub fn settle(&mut self, tally: &Tally, end: Option<&End>) {
        let Some(entry) = &mut self.0 else { return };
        entry.tally.clone_from(tally);
        entry.tally.usage = tally.usage.within(entry.plausible);
        entry.implausible |= entry.tally.usage != tally.usage;
        entry.outcome = end.map_or("client_gone", error::end_outcome);
        entry.fault = end.and_then(End::fault).map(|fault| error::code(fault.kind));
        entry.error = entry.fault.map(str::to_owned);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut entry) = self.0.take() {
            let under_way = entry.trying.take();
            entry.whole = under_way.whole;
            // Left in the middle of an attempt: its target has read the prompt.
            if let (true, Some(attempt)) = (entry.target.is_empty(), under_way.attempt) {
                entry.attempted(attempt.target, attempt.number);
                entry.answered = entry.outcome == "client_gone";
            }
            // Before anything else: nobody waits for a log line to get a permit (failure mode 9).
            drop(entry.settled());
            entry.count();
            if entry.head.logged {
                entry.write();
            }
            entry.end_spans(under_way.span);
        }
    }
}

impl Entry {
    fn attempted(&mut self, target: Arc<str>, attempts: u32) {
        // A name of the caller's choice is no label: those must stay bounded.
        self.target_label = match target.split_once('/') {
            Some((provider, _)) if self.direct => format!("{provider}/*").into(),
            _ => Arc::clone(&target),
        };
        self.target = target;
        self.attempts = attempts;
    }

    /// Input tokens, and whether they are a guess.
    fn input_tokens(&self) -> (u64, bool) {
        self.tally.usage.input.map_or((self.input_estimate, true), |tokens| (tokens, false))
    }

    /// The admission, told what was used: of an answer that never began, nothing.
    fn settled(&mut self) -> Option<Admission> {
        let mut admission = self.admission.take()?;
        if self.answered {
            admission.settle(self.input_tokens().0.saturating_add(self.tally.output_tokens().0));
            // Left, or answered, before anybody knows what it comes to.
            let open = !self.tally.complete;
            let uncounted = open || self.tally.usage.output.is_none();
            if self.whole && open || self.background && uncounted {
                admission.settle_reservation();
            }
        }
        Some(admission)
    }

    fn count(&self) {
        let metrics = &self.metrics;
        metrics.open.get_or_create(&Kept { dialect: self.dialect }).dec();
        let route = Route {
            dialect: self.dialect,
            model: Arc::clone(&self.label),
            target: Arc::clone(&self.target_label),
        };
        let ended = Ended {
            dialect: self.dialect,
            caller: Arc::clone(&self.caller_label),
            model: Arc::clone(&self.label),
            target: Arc::clone(&self.target_label),
            outcome: self.outcome,
        };
        metrics.requests.get_or_create(&ended).inc();
        metrics.duration.get_or_create(&route).merge(&Sample::of(self.started.elapsed()));
        if self.heartbeats > 0 {
            metrics
                .heartbeats
                .get_or_create(&Kept { dialect: self.dialect })
                .inc_by(self.heartbeats);
        }
        if self.target.is_empty() {
            return;
        }
        if self.implausible {
            self.count_implausible();
        }
        if let Some(first) = self.first_output {
            let ttft = first.saturating_duration_since(self.started);
            metrics.time_to_first_token.get_or_create(&route).merge(&Sample::of(ttft));
            metrics.time_per_output_token.get_or_create(&route).merge(&self.gaps);
            metrics.longest_gap.get_or_create(&route).merge(&Sample::of(self.longest_gap));
        }
        if !self.answered {
            return;
        }
        let directions = [("input", self.input_tokens()), ("output", self.tally.output_tokens())];
        for (gen_ai_token_type, (tokens, estimated)) in directions {
            let labels = Tokens {
                caller: Arc::clone(&self.caller_label),
                model: Arc::clone(&self.label),
                target: Arc::clone(&self.target_label),
                gen_ai_token_type,
                estimated: if estimated { "true" } else { "false" },
            };
            metrics.tokens.get_or_create(&labels).inc_by(tokens);
        }
    }
    /// An upstream has counted what cannot be. The log says so once for each provider.
    fn count_implausible(&self) {
        let provider = self.target.split('/').next().unwrap_or_default();
        let label = Upstream { provider: provider.to_owned() };
        if self.metrics.implausible_usage.get_or_create(&label).inc() == 0 {
            tracing::warn!(
                provider,
                request_id = self.request_id,
                "the upstream counted more tokens than the request can have used; estimates replace \
                 such counts, and this is logged once per provider"
            );
        }
    }
}
