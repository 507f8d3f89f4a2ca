//! Circuit breakers that requests share: a cell behind a lock, which no request takes while all is well.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use super::cell::{Cell, CellState, Effect, Outage};
use crate::config::Health;
use crate::wire::chat::Kind;

/// The lengths of ejections vary by this share, so that not all targets are probed at once.
const JITTER: f64 = 0.2;

/// The circuit breaker of one target, credential or host.
#[derive(Debug, Clone)]
pub(super) struct Circuit {
    label: Arc<str>,
    settings: Health,
    shared: Arc<Shared>,
}

/// The part that outlives reloads.
#[derive(Debug, Default)]
struct Shared {
    /// Whether the cell has anything to remember.
    disturbed: AtomicBool,
    cell: Mutex<Cell>,
}

/// A failure that was counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ejection {
    /// The length of the ejection.
    pub(super) pause: Duration,
    /// The failures to report; `None`: there has just been a report.
    pub(super) failures: Option<u64>,
}

impl Circuit {
    /// The circuit of a subject; it shares the state of `before`.
    pub(super) fn new(label: &str, settings: Health, before: Option<&Self>) -> Self {
        let shared = before.map(|before| Arc::clone(&before.shared)).unwrap_or_default();
        Self { label: label.into(), settings, shared }
    }

    /// Its label, as in other metrics.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The place of its state: that of another circuit is another one.
    pub(super) fn place(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// Its state at this time.
    pub(super) fn state(&self, now: Instant) -> CellState {
        if !self.shared.disturbed.load(Relaxed) {
            return CellState::Closed(1.0);
        }
        let Ok(cell) = self.shared.cell.lock() else { return CellState::Closed(1.0) };
        cell.state(&self.settings, now)
    }

    /// Counts a failure. `floor`: the wait that the upstream asks for.
    pub(super) fn fail(
        &self,
        (effect, kind): (Effect, Kind),
        floor: Option<Duration>,
        now: Instant,
    ) -> Option<Ejection> {
        let jitter = rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER);
        let mut cell = self.shared.cell.lock().ok()?;
        self.shared.disturbed.store(true, Relaxed);
        let pause = cell.fail((effect, floor), (&self.settings, jitter), now)?;
        cell.caused_by(kind);
        let failures = cell.report(now);
        Some(Ejection { pause, failures })
    }

    /// Takes over an ejection that another node has made. `None`: it is not new here.
    pub(super) fn adopt(
        &self,
        (outage, kind): (Outage, Kind),
        remaining: Duration,
        now: Instant,
    ) -> Option<Ejection> {
        let mut cell = self.shared.cell.lock().ok()?;
        self.shared.disturbed.store(true, Relaxed);
        let pause = cell.adopt((outage, remaining), &self.settings, now)?;
        cell.caused_by(kind);
        let failures = cell.report(now);
        Some(Ejection { pause, failures })
    }

    /// Counts an answer that is complete.
    pub(super) fn complete(&self) {
        if self.is_disturbed()
            && let Ok(mut cell) = self.shared.cell.lock()
        {
            cell.complete();
        }
    }

    /// The kind of error that has ejected it.
    pub(super) fn cause(&self) -> Option<Kind> {
        self.shared.cell.lock().ok()?.cause()
    }

    /// Ends the pause of failures that may be chance. Returns whether there was one.
    pub(super) fn half_open(&self, now: Instant) -> bool {
        self.shared.disturbed.load(Relaxed)
            && self.shared.cell.lock().is_ok_and(|mut cell| cell.half_open(now))
    }

    /// Counts a success. Returns whether it ends an ejection, and one that was reported.
    pub(super) fn succeed(&self, now: Instant) -> (bool, bool) {
        if !self.shared.disturbed.load(Relaxed) {
            return (false, false);
        }
        let Ok(mut cell) = self.shared.cell.lock() else { return (false, false) };
        let ended = cell.succeed(&self.settings, now);
        if cell.is_well(&self.settings, now) {
            *cell = Cell::default();
            self.shared.disturbed.store(false, Relaxed);
        }
        ended
    }

    /// Whether it has anything to remember.
    pub(super) fn is_disturbed(&self) -> bool {
        self.shared.disturbed.load(Relaxed)
    }

    /// Forgets everything.
    pub(super) fn reset(&self) {
        if let Ok(mut cell) = self.shared.cell.lock() {
            *cell = Cell::default();
            self.shared.disturbed.store(false, Relaxed);
        }
    }
}

/// The right to try an ejected target. Dropping it without a verdict leaves the next request the right, some seconds
/// later.
pub struct Probe(Vec<Arc<Shared>>);

impl Probe {
    /// The right to probe all of these that want a probe. `None`: another request has taken one of them.
    pub(super) fn take(circuits: [&Circuit; 3], now: Instant) -> Option<Self> {
        let mut probe = Self(Vec::new());
        for circuit in circuits {
            let Ok(mut cell) = circuit.shared.cell.lock() else { continue };
            match cell.state(&circuit.settings, now) {
                CellState::Closed(_) => {}
                CellState::Out(..) => return None,
                CellState::Probe => {
                    cell.probe();
                    probe.0.push(Arc::clone(&circuit.shared));
                }
            }
        }
        Some(probe)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        for shared in &self.0 {
            if let Ok(mut cell) = shared.cell.lock() {
                cell.end_probe(Instant::now());
            }
        }
    }
}
