//! Target health: which targets have just failed hard, so that requests prefer another one for some
//! seconds. One registry for all workers; it outlives reloads.
//!
//! It must never refuse a request: an ejected target comes last in the order and is not left out. Errors that
//! callers cause never count, and no value from a caller becomes a key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::route::Plan;
use crate::config::{Config, Provider, Target};
use crate::error::{self, Blame, Error};
use crate::telemetry::{self, Metrics};

/// The most targets and credentials that are tracked: more are configured nowhere.
const MAX_CELLS: usize = 4096;

/// Failures in a row that eject, where one alone may be chance (5xx, a broken stream).
const IN_A_ROW: u32 = 3;

/// The first ejection of a target, and the longest: each one that follows takes twice as long.
const TARGET_PAUSE: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(2)];

/// The same for a rejected credential or an account without funds, which the operator has to renew.
const CREDENTIAL_PAUSE: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];

/// One that fails and recovers all the time is reported no more often than this.
const REPORT_EVERY: Duration = Duration::from_mins(1);

/// The subject of a health record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// One model at one address.
    Target { provider: String, base_url: String, model: String },
    /// A provider's credential, by digest: another one starts afresh.
    Credential { provider: String, digest: [u8; 32] },
}

impl Key {
    fn target(target: &Target) -> Self {
        let provider = &target.provider;
        Self::Target {
            provider: provider.name.clone(),
            base_url: provider.base_url.as_str().to_owned(),
            model: target.model.clone(),
        }
    }

    fn credential(provider: &Provider) -> Self {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes);
        };
        add(provider.base_url.as_str().as_bytes());
        add(provider.api_key.as_ref().map_or("", |key| key.expose()).as_bytes());
        if let Some(aws) = &provider.aws {
            let token = aws.session_token.as_ref();
            for key in [&aws.access_key_id, &aws.secret_access_key].into_iter().chain(token) {
                add(key.expose().as_bytes());
            }
        }
        for (name, value) in &provider.headers {
            add(name.as_str().as_bytes());
            add(value.as_bytes());
        }
        for (name, value) in &provider.query {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        Self::Credential { provider: provider.name.clone(), digest: hash.finalize().into() }
    }

    /// Its label, as in other metrics.
    fn label(&self) -> String {
        match self {
            Self::Target { provider, model, .. } => format!("{provider}/{model}"),
            Self::Credential { provider, .. } => format!("{provider}/*"),
        }
    }
}

/// The health of one target or credential since it last succeeded. Pure: the time is an argument.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cell {
    /// Failures in a row.
    failures: u32,
    /// Failures since the last report.
    unreported: u64,
    /// The time of the last report.
    reported: Option<Instant>,
    /// This ejection was reported, so that its end is, too.
    told: bool,
    /// Ejections in a row.
    ejections: u32,
    /// The end of the last ejection.
    until: Option<Instant>,
    /// A request is probing whether it is well again.
    probing: bool,
}

/// Whether a target takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellState {
    Open,
    /// It takes this one request as a probe.
    Probe,
    /// Ejected until then, while there are others.
    Ejected(Instant),
}

impl Cell {
    fn state(&self, now: Instant) -> CellState {
        match self.until {
            None => CellState::Open,
            Some(until) if now >= until && !self.probing => CellState::Probe,
            Some(until) => CellState::Ejected(until),
        }
    }

    /// Counts a failure. Returns the length of the ejection, if it causes one.
    fn fail(&mut self, hard: bool, pauses: [Duration; 2], now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        self.unreported = self.unreported.saturating_add(1);
        let ejected = self.until.is_some_and(|until| now < until);
        // Those that were under way when it was ejected add nothing.
        if ejected || !(hard || self.until.is_some() || self.failures >= IN_A_ROW) {
            return None;
        }
        let [shortest, longest] = pauses;
        let doubled = shortest.saturating_mul(1_u32 << self.ejections.min(16));
        let pause = doubled.min(longest);
        self.ejections = self.ejections.saturating_add(1);
        self.until = Some(now + pause);
        Some(pause)
    }

    /// The number of failures to report now; `None`: there has just been a report.
    fn report(&mut self, now: Instant) -> Option<u64> {
        if self.was_reported_at(now) {
            return None;
        }
        self.reported = Some(now);
        self.told = true;
        Some(std::mem::take(&mut self.unreported))
    }

    fn was_reported_at(&self, now: Instant) -> bool {
        self.reported.is_some_and(|at| now < at + REPORT_EVERY)
    }

    /// A success ends an ejection. Returns whether one that was reported has ended.
    fn recover(&mut self) -> bool {
        let reported = self.told;
        *self = Self { reported: self.reported, unreported: self.unreported, ..Self::default() };
        reported
    }
}

/// The health of all targets, for all requests of a process.
#[derive(Debug)]
pub struct TargetHealth {
    cells: Mutex<HashMap<Key, Cell>>,
    /// The number of cells: while it is 0, no request touches the lock.
    tracked: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// Whether a target is tried in its turn.
pub enum TargetState {
    /// The target is tried.
    Open,
    /// The target is tried by this request alone, which finds out whether it is well again.
    Probe(Probe),
    /// The target is tried after all others.
    Ejected(Instant),
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

/// The right to try an ejected target. Dropping it without a verdict leaves the next request the right.
pub struct Probe {
    health: Arc<TargetHealth>,
    keys: [Key; 2],
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Ok(mut cells) = self.health.cells.lock() {
            for key in &self.keys {
                if let Some(cell) = cells.get_mut(key) {
                    cell.probing = false;
                }
            }
        }
    }
}

impl TargetHealth {
    /// All targets are well.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { cells: Mutex::default(), tracked: AtomicUsize::new(0), metrics }
    }

    fn is_quiet(&self) -> bool {
        self.tracked.load(Ordering::Relaxed) == 0
    }

    /// Whether a target is tried in its turn at this time.
    pub fn admit(self: &Arc<Self>, target: &Target, now: Instant) -> TargetState {
        if self.is_quiet() {
            return TargetState::Open;
        }
        let keys = [Key::target(target), Key::credential(&target.provider)];
        let Ok(mut cells) = self.cells.lock() else { return TargetState::Open };
        let states = keys
            .each_ref()
            .map(|key| cells.get(key).map_or(CellState::Open, |cell| cell.state(now)));
        let ejected = states.iter().filter_map(|state| match state {
            CellState::Ejected(until) => Some(*until),
            CellState::Open | CellState::Probe => None,
        });
        if let Some(until) = ejected.max() {
            return TargetState::Ejected(until);
        }
        if states == [CellState::Open, CellState::Open] {
            return TargetState::Open;
        }
        for (key, state) in keys.iter().zip(states) {
            if let (CellState::Probe, Some(cell)) = (state, cells.get_mut(key)) {
                cell.probing = true;
            }
        }
        drop(cells);
        TargetState::Probe(Probe { health: Arc::clone(self), keys })
    }

    /// Whether others are preferred to a target at this time.
    pub fn is_ejected(&self, target: &Target, now: Instant) -> bool {
        if self.is_quiet() {
            return false;
        }
        let keys = [Key::target(target), Key::credential(&target.provider)];
        let Ok(cells) = self.cells.lock() else { return false };
        keys.iter().any(|key| cells.get(key).is_some_and(|cell| cell.state(now) != CellState::Open))
    }

    /// A target has begun to answer.
    pub fn succeeded(&self, target: &Target, now: Instant) {
        if self.is_quiet() {
            return;
        }
        for key in [Key::target(target), Key::credential(&target.provider)] {
            let Ok(mut cells) = self.cells.lock() else { return };
            let Some(cell) = cells.get_mut(&key) else { continue };
            let ejected = cell.until.is_some();
            let reported = cell.recover();
            if !cell.was_reported_at(now) {
                cells.remove(&key);
                self.tracked.store(cells.len(), Ordering::Relaxed);
            }
            drop(cells);
            let target = key.label();
            if reported {
                tracing::info!(target, "target recovered: requests go to it again");
            }
            if ejected {
                self.metrics
                    .target_ejected
                    .get_or_create(&telemetry::TargetLabels { target })
                    .set(0);
            }
        }
    }

    /// An attempt has failed.
    pub fn failed(&self, plan: &Plan, attempt: &FailedAttempt<'_>, now: Instant) {
        let FailedAttempt { target, error, timed } = *attempt;
        let of_credential = matches!(error.blame(), Blame::Credential | Blame::Account);
        let hard = match error.blame() {
            Blame::Credential | Blame::Account | Blame::Configuration | Blame::Host => true,
            Blame::Target if error.is_first_token_timeout() => {
                if !timed {
                    return;
                }
                true
            }
            Blame::Target => false,
            Blame::Caller | Blame::RateLimit | Blame::Gateway => return,
        };
        let (key, pauses) = if of_credential {
            (Key::credential(&target.provider), CREDENTIAL_PAUSE)
        } else if plan.direct {
            // The caller chose its model, and no other target is there to be preferred.
            return;
        } else {
            (Key::target(target), TARGET_PAUSE)
        };
        let Ok(mut cells) = self.cells.lock() else { return };
        if cells.len() >= MAX_CELLS && !cells.contains_key(&key) {
            return;
        }
        let label = key.label();
        let cell = cells.entry(key).or_default();
        let pause = cell.fail(hard, pauses, now);
        let failures = pause.and_then(|_| cell.report(now));
        self.tracked.store(cells.len(), Ordering::Relaxed);
        drop(cells);
        if let Some(pause) = pause {
            let ejected = telemetry::TargetLabels { target: label };
            self.metrics.target_ejected.get_or_create(&ejected).set(1);
            if let Some(failures) = failures {
                report(plan, target, error, (failures, pause));
            }
        }
    }

    /// Removes the records of targets and credentials that are no longer configured.
    pub fn retain(&self, config: &Config) {
        let patterns = config.patterns.iter().flat_map(|pattern| &pattern.targets);
        let targets = config.models.values().flatten().chain(patterns).map(Key::target);
        let credentials = config.providers.values().map(|provider| Key::credential(provider));
        let known: std::collections::HashSet<Key> = targets.chain(credentials).collect();
        let Ok(mut cells) = self.cells.lock() else { return };
        cells.retain(|key, _| {
            let keep = known.contains(key);
            if !keep {
                let ejected = telemetry::TargetLabels { target: key.label() };
                self.metrics.target_ejected.remove(&ejected);
            }
            keep
        });
        self.tracked.store(cells.len(), Ordering::Relaxed);
    }
}

/// One log line for an ejection, however many requests meet it. A failure that only the operator can fix is
/// an error and names the place.
fn report(plan: &Plan, target: &Target, error: &Error, (failures, pause): (u64, Duration)) {
    let kind = error::code(error.fault().kind);
    let (provider, model) = (target.provider.name.as_str(), &*plan.label);
    let credential = &target.provider.credential;
    let status = error.upstream_reply().map(|reply| reply.status);
    let again_after_s = pause.as_secs();
    match (error.blame(), kind) {
        (Blame::Credential, _) => tracing::error!(
            provider, %credential, kind, status, failures, again_after_s,
            "provider `{provider}` rejects the gateway's credential; renew {credential}"
        ),
        (Blame::Account, _) => tracing::error!(
            provider, %credential, kind, status, failures, again_after_s,
            "the account at provider `{provider}` cannot pay or has used up its quota; it is that of {credential}"
        ),
        (Blame::Configuration, "not_found") => tracing::error!(
            provider, target = %target, model, kind, status, failures, again_after_s,
            "target {target} of model `{model}` does not exist at the provider"
        ),
        (Blame::Configuration, "permission") => tracing::error!(
            provider, target = %target, model, %credential, kind, status, failures, again_after_s,
            "provider `{provider}` denies access to target {target} of model `{model}`; check the rights of {credential}"
        ),
        (Blame::Configuration, _) => tracing::error!(
            provider, target = %target, model, kind, status, failures, again_after_s,
            "provider `{provider}` does not serve the API that it is configured with; check its base_url and dialect"
        ),
        _ => tracing::warn!(
            provider, target = %target, model, kind, status, failures, again_after_s,
            "target {target} is failing; requests prefer others until it answers again"
        ),
    }
}

#[cfg(test)]
#[path = "target_health_tests.rs"]
mod tests;
