//! Target health: which targets have just failed or reached a rate limit, so that requests prefer another one for some
//! time, and the answers that each has in progress. One registry for all workers; it outlives reloads.
//!
//! It must never exclude a target for good: an ejected one comes last. Errors that callers cause never count, and no
//! value from a caller becomes a key: all entries are made from the configuration.

mod cell;
mod circuit;
mod hints;
mod in_progress;
mod learned_limit;
mod load;
mod model_state;
mod report;
mod retry_budget;
mod status;
mod ttft;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::mirror::MirroredBytes;
use super::request_queue::FreedCapacity;
use super::route::Plan;
use super::state_pins::StatePins;
use crate::backplane::SharedHint;
use crate::config::{Config, CredentialDigest, Identity, Provider, Target};
use crate::error::{self, Blame, Error};
use crate::telemetry::{BreakerChangeLabels, Metrics, TargetLabels};
use crate::wire::chat::Kind;
use cell::{CellState, Effect};
use circuit::{Circuit, Ejection};
use learned_limit::AccountStreams;
use load::Load;
use model_state::ModelState;
use report::report;

pub use cell::Outage;
pub use circuit::Probe;
pub use in_progress::InProgress;
pub use load::OpenStream;
pub use retry_budget::RetryBudget;
pub use status::{Refusal, TargetStatus};
pub use ttft::PromptSize;

/// The models of one host or credential that must be in trouble for all of it to be.
const SEVERAL: usize = 2;

/// One target with one of its provider's keys, as all requests share it.
#[derive(Debug)]
struct Deployment {
    name: Arc<str>,
    key: Option<Arc<str>>,
    own: Circuit,
    account: Circuit,
    host: Circuit,
    load: Arc<Load>,
    /// An operator has taken it out.
    drained: Arc<AtomicBool>,
    /// Answers in progress of the credential, over all models, and the most of them.
    streams: (Arc<AccountStreams>, Option<usize>),
    account_id: Identity,
    host_id: Identity,
    /// The name of its credential among nodes.
    credential: CredentialDigest,
}

impl Deployment {
    fn circuits(&self) -> [&Circuit; 3] {
        [&self.own, &self.account, &self.host]
    }

    /// A deployment that shares the state of those that were `known` before.
    fn new((id, target): (Identity, &Target), known: &Known, health: &TargetHealth) -> Self {
        let epoch = health.epoch;
        let provider = &target.provider;
        let (name, account_id, host_id) = (target.name(), provider.account, provider.host());
        let key = provider.key.as_ref().map_or_else(String::new, |key| format!("[{key}]"));
        let same_account = known.accounts.get(&account_id);
        let same_host = known.hosts.get(&host_id);
        let same = known.deployments.get(&id);
        let circuit =
            |label: String, same: Option<&Circuit>| Circuit::new(&label, provider.health, same);
        let (own, account) = (format!("{name}{key}"), format!("{}/*{key}", provider.name));
        let address = format!("{}@{}", provider.name, provider.base_url.authority());
        Self {
            own: circuit(own, same.map(|known| &known.own)),
            account: circuit(account, same_account.map(|known| &known.account)),
            host: circuit(address, same_host.map(|known| &known.host)),
            load: same.map_or_else(|| Arc::new(Load::new(epoch)), |known| Arc::clone(&known.load)),
            drained: same.map(|known| Arc::clone(&known.drained)).unwrap_or_default(),
            streams: (
                same_account.map_or_else(
                    || Arc::new(AccountStreams::new(Arc::clone(&health.freed))),
                    |known| Arc::clone(&known.streams.0),
                ),
                provider.max_streams,
            ),
            name: Arc::clone(name),
            key: provider.key.clone(),
            account_id,
            host_id,
            credential: provider.credential_digest(),
        }
    }
}

/// The deployments whose state others share, by what they share.
#[derive(Default)]
struct Known {
    deployments: Deployments,
    accounts: Deployments,
    hosts: Deployments,
}

impl Known {
    fn add(&mut self, deployment: &Arc<Deployment>) {
        let shared = || Arc::clone(deployment);
        self.accounts.entry(deployment.account_id).or_insert_with(shared);
        self.hosts.entry(deployment.host_id).or_insert_with(shared);
    }
}

type Deployments = HashMap<Identity, Arc<Deployment>>;

/// The health of all targets, for all requests of a process.
#[derive(Debug)]
pub struct TargetHealth {
    deployments: ArcSwap<Deployments>,
    /// The state that all requests to a model share.
    models: ArcSwap<HashMap<Arc<str>, Arc<ModelState>>>,
    /// Reports that a target may have room again.
    freed: Arc<FreedCapacity>,
    /// The bytes of all mirrored requests.
    mirrored_bytes: Arc<MirroredBytes>,
    /// The accounts that have issued encrypted state.
    pub pins: StatePins,
    /// The queue of hints for other nodes, if there are other nodes.
    hints: OnceLock<mpsc::Sender<SharedHint>>,
    /// Notified when there may be other targets.
    changed: Notify,
    metrics: Arc<Metrics>,
    epoch: Instant,
}

/// Whether a target takes a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetState {
    /// It does, at this share of its weight.
    Ready(f64),
    /// It takes one request, which finds out whether it is well again.
    Probe,
    /// It is tried after all others; it may be well then.
    Out(Outage, Instant),
}

/// An attempt that has failed.
#[derive(Debug, Clone, Copy)]
pub struct FailedAttempt<'a> {
    /// The target that failed.
    pub target: &'a Target,
    /// The error.
    pub error: &'a Error,
    /// It had a fair time to answer.
    pub timed: bool,
}

impl TargetHealth {
    /// All targets of a configuration are well.
    pub fn new(metrics: Arc<Metrics>, config: &Config) -> Self {
        let epoch = Instant::now();
        let (deployments, models) = (ArcSwap::default(), ArcSwap::default());
        let health = Self {
            deployments,
            models,
            freed: Arc::default(),
            mirrored_bytes: Arc::default(),
            pins: StatePins::default(),
            hints: OnceLock::new(),
            changed: Notify::new(),
            metrics,
            epoch,
        };
        health.configure(config);
        health
    }

    /// Takes the targets of a configuration. What is known of those that it still has is kept.
    pub fn configure(&self, config: &Config) {
        let before = self.deployments.load();
        let mut known = Known { deployments: (**before).clone(), ..Known::default() };
        before.values().for_each(|deployment| known.add(deployment));
        let mut next = Deployments::new();
        let mut add = |id: Identity, target: &Target| {
            next.entry(id).or_insert_with(|| {
                let made = Arc::new(Deployment::new((id, target), &known, self));
                known.add(&made);
                made
            });
        };
        // Models that callers name themselves have no entry of their own.
        for provider in config.providers.values().flat_map(Provider::keyed) {
            add(provider.account, &Target::new(Arc::clone(provider), "*".to_owned()));
        }
        let patterns = config.patterns.iter().flat_map(|pattern| &pattern.targets);
        let fallbacks = config.fallbacks.values().flat_map(|fallback| fallback.targets());
        let fallbacks = fallbacks.chain(config.mirrors.values().map(|mirror| &mirror.to));
        for target in
            config.models.values().flat_map(|targets| &**targets).chain(patterns).chain(fallbacks)
        {
            add(target.identity(), target);
        }
        let kept = labels(&next);
        for (target, _) in labels(&before).difference(&kept) {
            self.metrics.target_ejected.remove(&TargetLabels { target: target.to_string() });
        }
        self.deployments.store(Arc::new(next));
        self.keep_models(config);
        self.changed.notify_one();
    }

    fn with<T>(&self, target: &Target, look: impl FnOnce(&Deployment) -> T) -> Option<T> {
        let known = self.deployments.load();
        let own = known.get(&target.identity());
        own.or_else(|| known.get(&target.provider.account)).map(|found| look(found))
    }

    /// The state of a target at this time.
    pub fn state(&self, target: &Target, now: Instant) -> TargetState {
        let states = |known: &Deployment| {
            let drained = known.drained.load(Relaxed);
            (drained, known.circuits().map(|circuit| circuit.state(now)))
        };
        let Some((drained, states)) = self.with(target, states) else {
            return TargetState::Ready(1.0);
        };
        if drained {
            return TargetState::Out(Outage::Drained, now);
        }
        let mut share = 1.0_f64;
        let mut probe = false;
        let mut out: Option<(Outage, Instant)> = None;
        for state in states {
            match state {
                CellState::Closed(weight) => share = share.min(weight),
                CellState::Probe => probe = true,
                CellState::Out(outage, until) => {
                    let (was, end) = out.unwrap_or((outage, until));
                    out = Some((was.max(outage), end.max(until)));
                }
            }
        }
        match out {
            Some((outage, until)) => TargetState::Out(outage, until),
            None if probe => TargetState::Probe,
            None => TargetState::Ready(share),
        }
    }

    /// Takes the right to probe a target. `None`: another request has it.
    pub fn probe(&self, target: &Target, now: Instant) -> Option<Probe> {
        self.with(target, |known| Probe::take(known.circuits(), now))?
    }

    /// Whether others are preferred to a target at this time.
    pub fn is_ejected(&self, target: &Target, now: Instant) -> bool {
        !matches!(self.state(target, now), TargetState::Ready(_))
    }

    /// A target has begun to answer.
    pub fn succeeded(&self, target: &Target, now: Instant) {
        let succeed = |known: &Deployment| {
            for circuit in known.circuits() {
                let (ended, reported) = circuit.succeed(now);
                let target: &str = circuit.label();
                if reported {
                    tracing::info!(target, "target recovered: requests go to it again");
                }
                if ended {
                    self.set_ejected(circuit, false);
                    self.count_change(circuit, "closed", "success");
                }
            }
        };
        self.with(target, succeed);
    }

    /// A target has reached a rate limit, or is about to: others are preferred for this time.
    pub fn limited(&self, target: &Target, wait: Duration, now: Instant) {
        let known = self.deployments.load();
        let Some(own) = known.get(&target.identity()) else { return };
        self.cool(&own.own, wait, now);
        let cooling = |other: &&Arc<Deployment>| {
            other.account_id == own.account_id
                && matches!(other.own.state(now), CellState::Out(Outage::Cooling, _))
        };
        let cooling = known.values().filter(cooling);
        let models: HashSet<&str> = cooling.map(|other| &*other.name).collect();
        if models.len() >= SEVERAL && self.cool(&own.account, wait, now) {
            self.share_outage(own, Kind::RateLimited, now);
        }
    }

    /// Passes over a target or a credential until its rate limit is over. Returns whether that is new.
    fn cool(&self, circuit: &Circuit, wait: Duration, now: Instant) -> bool {
        let limited = (Effect::Limited, Kind::RateLimited);
        let Some(Ejection { pause, failures }) = circuit.fail(limited, Some(wait), now) else {
            return false;
        };
        self.count_change(circuit, Outage::Cooling.word(), error::code(Kind::RateLimited));
        if failures.is_some() {
            let (target, again_after_s): (&str, _) = (circuit.label(), pause.as_secs());
            tracing::info!(
                target,
                kind = "rate_limited",
                again_after_s,
                "a rate limit of this target is reached; requests prefer others until it is over"
            );
        }
        true
    }

    /// An attempt has failed.
    pub fn failed(&self, plan: &Plan, attempt: &FailedAttempt<'_>, now: Instant) {
        let FailedAttempt { target, error, timed } = *attempt;
        let effect = match error.blame() {
            Blame::Credential | Blame::Account | Blame::Configuration => Effect::Hard,
            Blame::Host => Effect::Dead,
            Blame::Target if error.is_first_token_timeout() => {
                if !timed {
                    return;
                }
                Effect::Dead
            }
            Blame::Target if is_minor(error) => Effect::Minor,
            Blame::Target => Effect::Failure,
            Blame::RateLimit => {
                // Without a time, it is too many requests at once: the next one may pass.
                match error.cooldown().filter(|_| !plan.direct) {
                    Some(wait) => self.limited(target, wait, now),
                    None if plan.direct => {}
                    None => _ = self.with(target, |known| known.streams.0.refused(now)),
                }
                return;
            }
            Blame::Caller | Blame::Gateway => return,
        };
        let floor = error.cooldown();
        let known = self.deployments.load();
        let own = known.get(&target.identity()).filter(|_| !plan.direct);
        let Some(found) = own.or_else(|| known.get(&target.provider.account)) else { return };
        let circuit = match error.blame() {
            Blame::Credential | Blame::Account => &found.account,
            Blame::Host => &found.host,
            // The caller chose its model, and no other target is there to be preferred.
            _ if own.is_none() => return,
            _ => &found.own,
        };
        let kind = error.fault().kind;
        let Some(ejection) = circuit.fail((effect, kind), floor, now) else { return };
        self.eject(circuit, effect, kind);
        if matches!(error.blame(), Blame::Credential | Blame::Account) {
            self.share_outage(found, kind, now);
        }
        if let Some(failures) = ejection.failures {
            report(plan, target, error, (failures, ejection.pause));
        }
        if effect != Effect::Hard && error.blame() == Blame::Target {
            self.judge_host(&known, (found, kind), now);
        }
    }

    /// An answer has broken off after its first output.
    pub fn broke(&self, target: &Target, error: &Error, now: Instant) {
        if error.blame() == Blame::Target {
            self.degraded(target, (Effect::Broken, error.fault().kind), now);
        }
    }

    /// An answer has broken off, or become slow, after its first output.
    fn degraded(&self, target: &Target, (effect, kind): (Effect, Kind), now: Instant) {
        let known = self.deployments.load();
        let Some(found) = known.get(&target.identity()) else { return };
        let failed = found.own.fail((effect, kind), None, now);
        let Some(Ejection { pause, failures }) = failed else { return };
        self.eject(&found.own, effect, kind);
        if let Some(failures) = failures {
            let (target, again_after_s): (&str, _) = (found.own.label(), pause.as_secs());
            tracing::warn!(
                target,
                kind = error::code(kind),
                failures,
                again_after_s,
                "answers of this target break off or are slow; requests prefer others until it answers again"
            );
        }
    }

    /// A host fails if several of its models do.
    fn judge_host(&self, known: &Deployments, (failed, kind): (&Deployment, Kind), now: Instant) {
        let open = |other: &&Arc<Deployment>| {
            other.host_id == failed.host_id
                && matches!(other.own.state(now), CellState::Out(Outage::Open, _))
        };
        let models: HashSet<&str> = known.values().filter(open).map(|other| &*other.name).collect();
        if models.len() < SEVERAL {
            return;
        }
        let dead = failed.host.fail((Effect::Dead, kind), None, now);
        let Some(Ejection { pause, failures }) = dead else { return };
        self.eject(&failed.host, Effect::Dead, kind);
        if failures.is_some() {
            let (target, again_after_s): (&str, _) = (failed.host.label(), pause.as_secs());
            tracing::warn!(
                target,
                kind = error::code(kind),
                again_after_s,
                "several models of this host fail; requests prefer others until it answers again"
            );
        }
    }

    /// Records that a circuit has opened.
    fn eject(&self, circuit: &Circuit, effect: Effect, kind: Kind) {
        self.set_ejected(circuit, true);
        let outage = if effect == Effect::Hard { Outage::Hard } else { Outage::Open };
        self.count_change(circuit, outage.word(), error::code(kind));
    }

    fn count_change(&self, circuit: &Circuit, to: &'static str, reason: &'static str) {
        let labels = BreakerChangeLabels { target: circuit.label().to_string(), to, reason };
        self.metrics.breaker_changes.get_or_create(&labels).inc();
    }

    fn set_ejected(&self, circuit: &Circuit, ejected: bool) {
        let labels = TargetLabels { target: circuit.label().to_string() };
        self.metrics.target_ejected.get_or_create(&labels).set(i64::from(ejected));
    }
}

/// Statuses that say little about the target: a timeout of the request, a conflict, too early.
const MINOR: [u16; 3] = [408, 409, 425];

/// Whether a failure counts half.
fn is_minor(error: &Error) -> bool {
    error.upstream_reply().is_some_and(|reply| MINOR.contains(&reply.status))
}

/// The labels of all circuits, each with the place of its state.
fn labels(deployments: &Deployments) -> HashSet<(Arc<str>, usize)> {
    let circuits = deployments.values().flat_map(|known| known.circuits());
    circuits.map(|circuit| (Arc::clone(circuit.label()), circuit.place())).collect()
}
