//! Scripted requests and answers for tests: everything that a production needs, without a socket.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account::Account;
use super::answer::Answer;
use super::clock::RequestTime;
use super::limit::TokenDemand;
use super::offload::BufferedBody;
use super::opening::Opening;
use super::production::Production;
use super::route::Plan;
use super::source::Source;
use super::source_script::{Script, Step};
use super::summary::{Sink, Summary};
use super::target_health::TargetHealth;
use super::upstream::{AttemptDeadline, AttemptError};
use super::upstream_request::{RequestContext, UpstreamRequest};
use crate::config::{Config, Pick, Retry, Stream, Target, without_file};
use crate::memory::MemoryBudget;
use crate::telemetry::Metrics;
use crate::telemetry::trace::TraceContext;
use crate::wire::chat::{ToolForms, Usage};
use crate::wire::dialect::{Clock, DEFAULT, Form, Mode, ResponseContext};
use crate::wire::framing::Framing;
use crate::wire::tally::Tally;
use crate::wire::transcode::Transcoder;

/// The first output of an attempt at a target, or its failure, in place of the exchange with an upstream.
pub(super) type Exchange = Arc<dyn Fn(&Target, AttemptDeadline) -> Attempted + Send + Sync>;

/// The result of such an attempt.
pub(super) type Attempted =
    Pin<Box<dyn Future<Output = Result<Box<Answer>, Box<AttemptError>>> + Send>>;

/// The configuration without a file: one provider of each dialect.
pub(super) fn config() -> Config {
    without_file(&|_| None, ([127, 0, 0, 1], 9).into(), "key")
}

/// A request for these models of a provider of the caller's own dialect, or of another one.
pub(super) fn request(
    stream: bool,
    provider: &str,
    models: &[(&str, Option<u64>)],
) -> UpstreamRequest {
    let mut config = config();
    let metrics = Arc::<Metrics>::default();
    let memory = MemoryBudget::new(config.server.memory, &metrics);
    let target = |(model, context): &(&str, Option<u64>)| {
        let provider = Arc::clone(&config.providers[provider]);
        let mut target = Target::new(provider, (*model).to_owned());
        target.context = *context;
        target
    };
    let targets: Vec<Target> = models.iter().map(target).collect();
    config.models.insert("x".to_owned(), targets.clone().into());
    UpstreamRequest {
        clients: Arc::default(),
        health: Arc::new(TargetHealth::new(Arc::clone(&metrics), &config)),
        metrics,
        context: Arc::new(RequestContext {
            dialect: DEFAULT,
            call: call(stream),
            stream: Stream::default(),
            time: RequestTime::begin(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }),
        body: BufferedBody { text: String::new(), lease: memory.requests.lease() }.into(),
        side_effects: None,
        headers: HeaderMap::new(),
        caller: "test".into(),
        plan: Plan {
            targets: targets.into(),
            label: "x".into(),
            pick: Pick::Order,
            session: None,
            affinity: None,
            pinned: None,
            demand: TokenDemand::default(),
            attempts: None,
            retry: Retry::default(),
            hedge: None,
            slow: None,
            queue: None,
            class: None,
            mirror: None,
            fallback: None,
            on_break: None,
            direct: false,
        },
        memory: memory.answers,
        request_id: String::new(),
        trace: TraceContext::None,
        script: None,
        part: None,
    }
}

fn call(stream: bool) -> ResponseContext {
    ResponseContext {
        id: "0123456789abcdefghijABCD".to_owned(),
        created: 1,
        model: "m".to_owned(),
        stream,
        want_usage: false,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 0),
    }
}

/// An answer of a provider of the caller's own dialect, whose body is a script.
pub(super) fn answer(stream: bool, steps: impl IntoIterator<Item = Step>) -> Box<Answer> {
    let provider = Arc::clone(&config().providers["sim"]);
    let decoder = provider.dialect.decoder(Form::Chat);
    let encoder = DEFAULT.encoder(&call(stream), Mode::Translated);
    let transcoder = Transcoder::new(Framing::Sse, 1 << 20, decoder, encoder, Mode::Translated);
    let lease = MemoryBudget::new(1 << 30, &Metrics::default()).answers.lease();
    let source = Source::Script(Script::new(steps));
    Box::new(Answer::new((provider, HeaderMap::new()), source, transcoder, lease))
}

/// The tally of a complete answer with so many tokens of output.
pub(super) fn tally(output: u64) -> Tally {
    let usage = Usage { output: Some(output), ..Usage::default() };
    Tally { usage, complete: true, ..Tally::default() }
}

/// The surroundings of productions, and the summaries of all that were dropped.
pub(super) struct Scene {
    pub(super) deadlines: Stream,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) metrics: Arc<Metrics>,
    pub(super) summaries: Arc<Mutex<Vec<Settled>>>,
}

/// The parts of a summary that tests examine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) outcome: &'static str,
    pub(super) heartbeats: u64,
    /// Output tokens, and whether they are an estimate.
    pub(super) output: (u64, bool),
    pub(super) target: String,
    pub(super) charged: bool,
}

struct Recorder(Arc<Mutex<Vec<Settled>>>);

impl Sink for Recorder {
    fn record(&self, summary: &Summary) {
        self.0.lock().unwrap().push(Settled {
            outcome: summary.outcome,
            heartbeats: summary.heartbeats,
            output: summary.output_tokens(),
            target: summary.target().to_owned(),
            charged: summary.charged,
        });
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            deadlines: Stream::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            metrics: Arc::default(),
            summaries: Arc::default(),
        }
    }

    pub(super) fn account(&self) -> Box<Account> {
        let sinks = Arc::new([Box::new(Recorder(Arc::clone(&self.summaries))) as Box<dyn Sink>]);
        let sinks = sinks as super::summary::Sinks;
        Account::begin(
            (&sinks, &self.metrics),
            ("req_1", Instant::now()),
            DEFAULT.name(),
            &Request::new(()),
        )
    }

    pub(super) fn context(&self, stream: bool) -> RequestContext {
        RequestContext {
            dialect: DEFAULT,
            call: call(stream),
            stream: self.deadlines,
            time: RequestTime::begin(),
            closing: self.closing.clone(),
            tasks: self.tasks.clone(),
        }
    }

    /// A production whose first attempt gets an answer with this body, up to its first output, at once.
    pub(super) fn production(
        &self,
        stream: bool,
        steps: impl IntoIterator<Item = Step>,
    ) -> Production {
        self.production_of(request(stream, "sim", &[("m", None)]), steps)
    }

    /// The same for a request.
    pub(super) fn production_of(
        &self,
        request: UpstreamRequest,
        steps: impl IntoIterator<Item = Step>,
    ) -> Production {
        let stream = request.context.call.stream;
        let mut answer = answer(stream, steps);
        let opening = Opening::scripted(request, async move {
            answer.read_first(1 << 20, stream).await?;
            Ok(answer)
        });
        Production::new(opening, Arc::new(self.context(stream)), self.account())
    }

    /// The summary of the only production, which was dropped.
    pub(super) fn settled(&self) -> Settled {
        let summaries = self.summaries.lock().unwrap();
        assert_eq!(summaries.len(), 1, "{summaries:?}");
        summaries[0].clone()
    }
}
