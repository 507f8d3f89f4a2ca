//! State of targets for operators: read and reset. It must never show a credential or an address.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::cell::{CellState, Outage};
use super::circuit::Circuit;
use super::{PromptSize, TargetHealth};
use crate::config::{Provider, Target};
use crate::telemetry::{TargetLabels, TargetStateLabels};
use crate::wire::chat::Kind;

/// The state of one target with one of its provider's keys.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetStatus {
    /// `provider/model`; `provider/*` for the models that callers name themselves.
    pub target: Arc<str>,
    /// The name of its key, if its provider has several.
    pub key: Option<Arc<str>>,
    /// Its own state, its credential's and its host's, in this order: `closed`, `ramp`, `probe`, `cooling`, `open` or
    /// `hard`, and the time until it takes requests again.
    pub states: [(&'static str, Duration); 3],
    /// Answers in progress.
    pub open_streams: u32,
    /// The most answers that its credential has in progress, if its upstream's refusals have taught a limit.
    pub learned_limit: Option<u32>,
    /// The estimated time to first token after prompts of up to 1,000 tokens, if it is known.
    pub ttft: Option<Duration>,
    /// An operator has taken it out.
    pub drained: bool,
}

/// The reason for which a target gets no requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The state that is to blame.
    pub outage: Outage,
    /// The time until it ends; zero if that is unknown.
    pub wait: Duration,
    /// The kind of error that has caused it.
    pub kind: Kind,
}

impl TargetHealth {
    /// The state of all targets, by name and key.
    pub fn status(&self, now: Instant) -> Vec<TargetStatus> {
        let known = self.deployments.load();
        let status = |known: &Arc<super::Deployment>| {
            let (ttft, trust) = known.load.ttft(PromptSize::Small, now);
            TargetStatus {
                target: Arc::clone(&known.name),
                key: known.key.clone(),
                states: known.circuits().map(|circuit| word(circuit.state(now), now)),
                open_streams: known.load.open(),
                learned_limit: known.streams.0.limit(now),
                drained: known.drained.load(Relaxed),
                ttft: (trust > 0.0).then(|| Duration::from_secs_f64(ttft)),
            }
        };
        let mut all: Vec<_> = known.values().map(status).collect();
        all.sort_by(|a, b| (&a.target, &a.key).cmp(&(&b.target, &b.key)));
        all
    }

    /// Takes a target out, until it is reset: it gets no further requests, and answers in progress go on. Returns whether
    /// there is such a target.
    pub fn drain(&self, target: &str) -> bool {
        let found = self.drain_here(target);
        if found {
            self.share_drain(target);
        }
        found
    }

    /// The same on this node alone.
    pub(super) fn drain_here(&self, target: &str) -> bool {
        let known = self.deployments.load();
        let mut found = false;
        for deployment in known.values().filter(|known| &*known.name == target) {
            found = true;
            if !deployment.drained.swap(true, Relaxed) {
                self.count_change(&deployment.own, Outage::Drained.word(), "operator");
            }
        }
        found
    }

    /// Measures the states of all circuits, and the time until each takes requests again.
    pub fn measure(&self, now: Instant) {
        let (states, cooldowns) = (&self.metrics.target_state, &self.metrics.target_cooldown);
        states.clear();
        cooldowns.clear();
        self.metrics.learned_limit.clear();
        for known in self.deployments.load().values() {
            if let Some(limit) = known.streams.0.limit(now) {
                let labels = TargetLabels { target: known.account.label().to_string() };
                self.metrics.learned_limit.get_or_create(&labels).set(limit.into());
            }
            for (place, circuit) in known.circuits().into_iter().enumerate() {
                let (mut state, wait) = word(circuit.state(now), now);
                if place == 0 && known.drained.load(Relaxed) {
                    state = Outage::Drained.word();
                }
                let target = circuit.label().to_string();
                let labels = TargetStateLabels { target: target.clone(), state };
                states.get_or_create(&labels).set(1);
                cooldowns.get_or_create(&TargetLabels { target }).set(wait.as_secs_f64());
            }
        }
    }

    /// Whether a provider, with its key, has a target or a host that is ejected for failures.
    pub fn is_failing(&self, provider: &Provider, now: Instant) -> bool {
        let is_open = |circuit: &Circuit| matches!(circuit.state(now), CellState::Out(Outage::Open, until) if now < until);
        let known = self.deployments.load();
        let mut own = known.values().filter(|known| known.account_id == provider.account);
        own.any(|known| is_open(&known.own) || is_open(&known.host))
    }

    /// A check of a provider has succeeded: the next request to a target of it that is ejected for failures is a probe.
    pub fn check_succeeded(&self, provider: &Provider, now: Instant) {
        let known = self.deployments.load();
        for known in known.values().filter(|known| known.account_id == provider.account) {
            for circuit in [&known.own, &known.host] {
                if circuit.half_open(now) {
                    let target: &str = circuit.label();
                    tracing::info!(
                        target,
                        "check succeeded: the next request tries the target again"
                    );
                }
            }
        }
    }

    /// The reason for which a target gets no requests, not even as the last resort: the state of its own, of its credential
    /// or of its host that lasts longest. `None`: it gets some.
    pub fn refusal(&self, target: &Target, now: Instant) -> Option<Refusal> {
        self.with(target, |known| {
            if known.drained.load(Relaxed) {
                let (wait, kind) = (Duration::ZERO, Kind::Overloaded);
                return Some(Refusal { outage: Outage::Drained, wait, kind });
            }
            let out = known.circuits().into_iter().filter_map(|circuit| match circuit.state(now) {
                CellState::Out(outage, until) => {
                    let kind = circuit.cause().unwrap_or(Kind::Overloaded);
                    let wait = until.saturating_duration_since(now);
                    Some(Refusal { outage, wait, kind })
                }
                CellState::Closed(_) | CellState::Probe => None,
            });
            out.max_by_key(|refusal| (refusal.outage, refusal.wait))
        })?
    }

    /// Ends the drain and the ejections of a target, of its credentials and its host. Returns whether there is such a target.
    pub fn reset(&self, target: &str) -> bool {
        let found = self.reset_here(target);
        if found {
            self.share_reset(target, Instant::now());
        }
        found
    }

    /// The same on this node alone.
    pub(super) fn reset_here(&self, target: &str) -> bool {
        let known = self.deployments.load();
        let mut found = false;
        for deployment in known.values().filter(|known| &*known.name == target) {
            found = true;
            deployment.drained.store(false, Relaxed);
            for circuit in deployment.circuits() {
                if circuit.is_disturbed() {
                    self.count_change(circuit, "closed", "operator");
                }
                circuit.reset();
                self.set_ejected(circuit, false);
            }
        }
        found
    }
}

fn word(state: CellState, now: Instant) -> (&'static str, Duration) {
    match state {
        CellState::Closed(share) => (if share < 1.0 { "ramp" } else { "closed" }, Duration::ZERO),
        CellState::Probe => ("probe", Duration::ZERO),
        CellState::Out(outage, until) => (outage.word(), until.saturating_duration_since(now)),
    }
}
