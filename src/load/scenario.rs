//! Behaviour of the callers in each scenario: when they connect, what they request, when they disconnect.
//! Everything runs on the worker's own runtime, and ends when the stage's future is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep, sleep_until};

use super::client::{Ask, Client};
use super::failure::{Kind, LoadError};
use super::fault::{FAULTS, Fault};
use super::plan::{Scenario, Stage};
use super::protocol::Protocol;
use super::tally::{End, Meter, Outcome};

/// Requests per second of the caller over its limits.
const LIMITED_RATE: u64 = 20;
/// Tokens of its answers, where it gets one.
const LIMITED_TOKENS: u64 = 20;
/// The most tokens after which a caller disconnects.
const MAX_TOKENS_BEFORE_HANGUP: u64 = 50;
/// Tokens of a response that its caller does not read to the end: it must not end first.
const ABANDONED_RESPONSE_TOKENS: u64 = 10_000;
/// The pause of a caller after a failure, so that a target that is down is not flooded.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// State shared by the callers of a stage, over all workers.
#[derive(Debug)]
pub(super) struct Shared {
    /// The stage.
    pub stage: Stage,
    /// The key of callers without limits.
    pub key: String,
    /// The key of the caller over its limits.
    pub limited_key: String,
    /// The gateway's name for the simulated upstream.
    pub provider: String,
    /// The time at which the stage began.
    pub begin: Instant,
    /// Requests that may still be sent.
    budget: AtomicU64,
}

/// One worker's part in a stage.
#[derive(Debug)]
pub(super) struct Share {
    /// The state shared by all workers.
    pub shared: Arc<Shared>,
    /// This worker's connections.
    pub client: Client,
    /// This worker's measurements.
    pub meter: Arc<Meter>,
    /// The worker's index, and the number of workers.
    pub worker: (u64, u64),
}

impl Shared {
    /// A stage that begins now.
    pub(super) fn new(stage: Stage, keys: (String, String), provider: String) -> Self {
        let budget = AtomicU64::new(stage.requests.unwrap_or(u64::MAX));
        let (key, limited_key) = keys;
        Self { stage, key, limited_key, provider, begin: Instant::now(), budget }
    }

    /// Whether another request may be sent.
    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.budget.fetch_update(Relaxed, Relaxed, less).is_ok()
    }

    fn until(&self) -> Instant {
        self.begin + self.stage.duration
    }

    fn protocol(&self, number: u64) -> Option<&'static Protocol> {
        let count = u64::try_from(self.stage.protocols.len()).ok()?;
        let at = usize::try_from(number.checked_rem(count)?).ok()?;
        self.stage.protocols.get(at).copied()
    }

    /// A request for `program` by a caller without limits.
    fn ask(&self, protocol: &'static Protocol, program: &str, tokens: u64) -> Ask<'_> {
        Ask {
            protocol,
            model: format!("{}/{program}", self.provider),
            key: &self.key,
            tokens,
            planned: self.stage.lasts(tokens),
            leave_after: None,
        }
    }
}

impl Share {
    /// Runs this worker's callers until all are done.
    pub(super) async fn run(self) {
        let share = Arc::new(self);
        let (worker, workers) = share.worker;
        let mut callers = JoinSet::new();
        let mine = |number: &u64| number.checked_rem(workers) == Some(worker);
        if share.shared.stage.scenario == Scenario::Faults {
            let count = share.shared.stage.most_open();
            for number in (0..count).filter(mine) {
                callers.spawn(Arc::clone(&share).fault(number));
            }
        } else {
            for number in (0..share.shared.stage.streams).filter(mine) {
                callers.spawn(Arc::clone(&share).caller(number));
            }
        }
        if share.shared.stage.scenario == Scenario::Limits && worker == 0 {
            callers.spawn(Arc::clone(&share).over_the_limit());
        }
        while callers.join_next().await.is_some() {}
    }

    /// One caller: starts at its time, and sends requests until the stage's time is over.
    async fn caller(self: Arc<Self>, number: u64) {
        let shared = &self.shared;
        let stage = &shared.stage;
        let share = number.saturating_mul(1_000_000).checked_div(stage.streams.max(1));
        let share = u32::try_from(share.unwrap_or_default()).unwrap_or_default();
        sleep_until(shared.begin + stage.ramp * share / 1_000_000).await;
        for turn in 0_u64.. {
            if Instant::now() >= shared.until() || !shared.take() {
                return;
            }
            let Some(protocol) = shared.protocol(number.wrapping_add(turn)) else { return };
            let leaves = stage.scenario == Scenario::HangUps && !(number + turn).is_multiple_of(2);
            let outcome = if leaves {
                self.leave(protocol).await
            } else {
                let ask = shared.ask(protocol, &stage.program(), stage.tokens);
                self.client.ask(&ask, &self.meter).await
            };
            let failed = self.note(&unlimited(outcome));
            if stage.scenario == Scenario::Ramp {
                return;
            }
            if failed {
                sleep(FAILURE_PAUSE).await;
            }
        }
    }

    /// Requests a long answer, and hangs up early in it.
    async fn leave(&self, protocol: &'static Protocol) -> Outcome {
        let program =
            format!("n{ABANDONED_RESPONSE_TOKENS}-i{}", self.shared.stage.interval.as_micros());
        let mut ask = self.shared.ask(protocol, &program, ABANDONED_RESPONSE_TOKENS);
        ask.leave_after = Some(rand::random_range(1..=MAX_TOKENS_BEFORE_HANGUP));
        self.client.ask(&ask, &self.meter).await
    }

    /// Sends requests at a fixed rate, whatever the responses.
    async fn over_the_limit(self: Arc<Self>) {
        let period = Duration::from_millis(1000 / LIMITED_RATE);
        let mut tick = interval_at(self.shared.begin, period);
        let mut requests = JoinSet::new();
        loop {
            tick.tick().await;
            if Instant::now() >= self.shared.until() {
                break;
            }
            while requests.try_join_next().is_some() {}
            requests.spawn(Arc::clone(&self).limited());
        }
        while requests.join_next().await.is_some() {}
    }

    async fn limited(self: Arc<Self>) {
        let stage = &self.shared.stage;
        let program = format!("n{LIMITED_TOKENS}-i{}", stage.interval.as_micros());
        let Some(protocol) = self.shared.protocol(0) else { return };
        let mut ask = self.shared.ask(protocol, &program, LIMITED_TOKENS);
        ask.key = &self.shared.limited_key;
        let outcome = self.client.ask(&ask, &self.meter).await;
        self.note(&outcome);
    }

    /// One fault in one protocol.
    async fn fault(self: Arc<Self>, number: u64) {
        let (shared, stage) = (&self.shared, &self.shared.stage);
        let faults = u64::try_from(FAULTS.len()).unwrap_or(u64::MAX);
        let fault = usize::try_from(number % faults.max(1)).ok().and_then(|at| FAULTS.get(at));
        let (Some(fault), Some(protocol)) = (fault, shared.protocol(number / faults.max(1))) else {
            return;
        };
        if !shared.take() {
            return;
        }
        let program = fault.program(stage.tokens, stage.interval.as_micros());
        let ask = shared.ask(protocol, &program, stage.tokens);
        let outcome = self.client.ask(&ask, &self.meter).await;
        let seen = Fault::seen(&outcome);
        let outcome = fault.judge(&outcome, stage.tokens);
        let mut tally = self.meter.tally();
        let count = tally.faults.entry(fault.word).or_default();
        count.expected = fault.expected();
        count.right += u64::from(matches!(outcome.end, End::Reported(_)));
        *count.seen.entry(format!("{seen}, {}", protocol.name)).or_default() += 1;
        tally.add(&outcome);
    }

    /// Counts a stream; returns whether it failed.
    fn note(&self, outcome: &Outcome) -> bool {
        self.meter.tally().add(outcome);
        matches!(outcome.end, End::Failed(_))
    }
}

/// A caller without limits must not meet one.
fn unlimited(outcome: Outcome) -> Outcome {
    if outcome.end != End::Refused {
        return outcome;
    }
    let detail = "a rate limit: give the key `limits: none`, or use fewer --streams";
    Outcome { end: End::Failed(LoadError::new(Kind::Status(429), detail)), ..outcome }
}
