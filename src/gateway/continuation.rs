//! Continuation of an answer that broke off: another target, which can, is asked to go on with the text that the caller
//! has. It must never let the caller see more than the original end if that fails.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use tokio::time::Instant;

use super::answer::Answer;
use super::attempt::Attempt;
use super::opening::Opening;
use super::route::Plan;
use super::source::Chunk;
use super::upstream_body::decoded;
use super::upstream_request::UpstreamRequest;
use crate::config::{Continue, Mark, Retry, Target};
use crate::error::Error;
use crate::telemetry::ContinuationLabels;
use crate::wire::chat::{ApiError, Kind, Usage};
use crate::wire::continuation::{self, Unfinished};
use crate::wire::dialect::{Mode, Operation};
use crate::wire::format::continued;

/// The request header by which a caller refuses to have its answer continued.
const CONTINUE: HeaderName = HeaderName::from_static("streamgate-continue");

/// The part of an answer that another target continues.
pub struct Part {
    /// The text that the caller has.
    pub text: String,
    /// Its usage.
    pub usage: Usage,
    /// The words for models that must be asked.
    pub instruction: Arc<str>,
    /// The time at which it broke off.
    pub broken: Instant,
}

impl Part {
    /// A request, as written for a target, that asks it to go on.
    pub(super) fn ask(&self, body: &str, target: &Target) -> Result<String, ApiError> {
        let unfinished = Unfinished {
            text: &self.text,
            method: target.continuation(),
            instruction: &self.instruction,
            spent: self.usage.output.unwrap_or_default(),
        };
        continuation::ask(body, target.provider.dialect, &unfinished)
    }
}

/// The means to continue an answer, for as long as it may be needed.
pub struct Continuable {
    request: Arc<UpstreamRequest>,
    policy: Arc<Continue>,
    /// The upstream requests that are left for it.
    left: u32,
}

/// The answer that goes on, and the attempts at it.
pub struct Outcome {
    pub(super) attempts: Vec<Attempt>,
    pub(super) answer: Result<Box<Answer>, Error>,
}

/// A continuation that is being asked for. Dropping it cancels it.
pub type Asking = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The policy of a request whose answer may be continued.
pub fn policy(request: &UpstreamRequest) -> Option<&Arc<Continue>> {
    let policy = request.plan.on_break.as_ref()?;
    let refused = request.headers.get(CONTINUE).is_some_and(|value| value == "no");
    let chat = request.context.operation() == Operation::Chat && request.context.call.stream;
    (chat && !refused && request.part.is_none()).then_some(policy)
}

impl Continuable {
    /// `None`: answers to this request are not continued.
    pub fn of(request: &Arc<UpstreamRequest>) -> Option<Self> {
        let policy = Arc::clone(policy(request)?);
        let left = policy.most.get();
        Some(Self { request: Arc::clone(request), policy, left })
    }

    /// Asks for the continuation of an answer that has broken off. `None`: there cannot be one. `from`: its attempt.
    pub fn begin(&mut self, answer: &Answer, from: &Target) -> Option<Asking> {
        let text = answer.transcoder.unfinished()?.to_owned();
        let tally = answer.transcoder.tally();
        let spent = tally.output_tokens().0;
        let targets = targets(&self.request, &self.policy, (from, spent));
        let attempts = NonZeroU32::new(self.left).filter(|_| !targets.is_empty());
        let Some(attempts) = attempts else {
            self.count("refused");
            return None;
        };
        let usage = Usage { output: Some(spent), ..tally.usage };
        let (instruction, broken) = (Arc::clone(&self.policy.instruction), Instant::now());
        let part = Arc::new(Part { text, usage, instruction, broken });
        let plan = Plan {
            targets: targets.into(),
            session: None,
            queue: None,
            pick: crate::config::Pick::Order,
            attempts: Some(attempts),
            // An answer that has begun is continued at once, or not at all.
            retry: Retry { same_target: Some(0), ..self.request.plan.retry },
            fallback: None,
            on_break: None,
            ..self.request.plan.clone()
        };
        let (request, tools) = (Arc::clone(&self.request), self.policy.tools);
        Some(Box::pin(async move {
            if let Err(error) = check(&request, tools).await {
                return Outcome { attempts: Vec::new(), answer: Err(error) };
            }
            let mut opening = Opening::new(request.continuing(plan, part));
            let answer = opening.answer().await.map(|(_, answer)| answer);
            Outcome { attempts: opening.into_attempts(), answer }
        }))
    }

    /// Goes on with the answer that continues a broken one. Returns whether it can.
    pub fn splice(&mut self, answer: &mut Answer, outcome: &mut Outcome) -> bool {
        let sent = outcome.attempts.iter().filter(|attempt| attempt.sent.is_some()).count();
        self.left = self.left.saturating_sub(u32::try_from(sent).unwrap_or(u32::MAX));
        let failed = || Err(Error::internal("the answer was not continued"));
        let next = std::mem::replace(&mut outcome.answer, failed());
        let Ok(next) = next else {
            self.count(if sent == 0 { "refused" } else { "failed" });
            return false;
        };
        let target = outcome.attempts.last().map(|attempt| Arc::clone(attempt.target.name()));
        let mark = self.mark(&target.unwrap_or_default());
        let context = &self.request.context;
        let encoder = || context.dialect.encoder(&context.call, Mode::Translated);
        let Answer { provider, source, transcoder, lease, in_progress, burst, .. } = *next;
        if !answer.transcoder.splice(transcoder, encoder, &mark, &mut answer.ready) {
            self.count("refused");
            return false;
        }
        (answer.provider, answer.source, answer.lease) = (provider, source, lease);
        (answer.in_progress, answer.burst) = (in_progress, burst);
        self.count("continued");
        true
    }

    /// The words at the seam that only people read.
    fn mark(&self, target: &str) -> Bytes {
        let context = &self.request.context;
        let comments = context.dialect.takes_comments()
            && context.dialect.media_type(&context.call) == "text/event-stream";
        match self.policy.mark {
            Mark::Comment if comments => continued::comment(target),
            Mark::Comment | Mark::None => Bytes::new(),
        }
    }

    fn count(&self, result: &'static str) {
        let model = Arc::clone(&self.request.plan.label);
        let labels = ContinuationLabels { model, result };
        self.request.metrics.continuations.get_or_create(&labels).inc();
    }
}

/// Refuses to continue the answer to a request that asks for more than text.
async fn check(request: &UpstreamRequest, tools: bool) -> Result<(), Error> {
    let chat = decoded(request).await?;
    if continuation::is_continuable(&chat, &request.body, tools) {
        return Ok(());
    }
    let message = "an answer to this request cannot be continued by another target";
    Err(Error::caller(ApiError::new(Kind::Invalid, message)))
}

/// The targets that can continue an answer: those of the same model first, without the one that broke off.
fn targets(
    request: &UpstreamRequest,
    policy: &Continue,
    (from, spent): (&Target, u64),
) -> Vec<Target> {
    let tokens = request.context.call.input_estimate.saturating_add(spent);
    let can = |target: &&Target| {
        policy.may_ask(target)
            && target.identity() != from.identity()
            && target.context.is_none_or(|room| room > tokens)
    };
    let able = request.plan.targets.iter().filter(can);
    let (same, others): (Vec<_>, Vec<_>) =
        able.cloned().partition(|target| target.model == from.model);
    // Each in a tier of its own: the order decides.
    let ordered = same.into_iter().chain(others);
    let place = |(tier, mut target): (u32, Target)| {
        target.tier = tier;
        target
    };
    (1..).zip(ordered).map(place).collect()
}

impl Answer {
    /// Reads a continuation up to its first text behind the seam, or to its end.
    pub(super) async fn read_continuation(&mut self) {
        while self.transcoder.end().is_none() && !self.transcoder.is_underway() {
            let chunk: Chunk = self.source.chunk().await;
            self.take(chunk);
        }
        self.first_output = Instant::now();
    }
}
