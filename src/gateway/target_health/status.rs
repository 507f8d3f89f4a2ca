//! State of targets for operators: read and reset. It must never show a credential or an address.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::TargetHealth;
use super::cell::CellState;

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
    /// The estimated time to first token, if it is known.
    pub ttft: Option<Duration>,
}

impl TargetHealth {
    /// The state of all targets, by name and key.
    pub fn status(&self, now: Instant) -> Vec<TargetStatus> {
        let known = self.deployments.load();
        let status = |known: &Arc<super::Deployment>| {
            let (ttft, trust) = known.load.ttft(now);
            TargetStatus {
                target: Arc::clone(&known.name),
                key: known.key.clone(),
                states: known.circuits().map(|circuit| word(circuit.state(now), now)),
                open_streams: known.load.open(),
                ttft: (trust > 0.0).then(|| Duration::from_secs_f64(ttft)),
            }
        };
        let mut all: Vec<_> = known.values().map(status).collect();
        all.sort_by(|a, b| (&a.target, &a.key).cmp(&(&b.target, &b.key)));
        all
    }

    /// Ends the ejections of a target, of its credentials and its host. Returns whether there is such a target.
    pub fn reset(&self, target: &str) -> bool {
        let known = self.deployments.load();
        let mut found = false;
        for deployment in known.values().filter(|known| &*known.name == target) {
            found = true;
            for circuit in deployment.circuits() {
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
