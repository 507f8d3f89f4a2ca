//! Result of a load test: the measurements of each stage, and the checks that hold.

use std::time::Duration;

use super::check::Check;
use super::plan::{Scenario, Stage};
use super::tally::Tally;
use super::text;
use super::threshold::Threshold;
use super::timeline::Timeline;

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The gateway's address.
    pub target: String,
    /// The time at which the run began, in seconds since 1970.
    pub started: u64,
    /// The stages that were begun.
    pub stages: Vec<StageReport>,
    /// The parts that were omitted, and why.
    pub notes: Vec<String>,
    /// The run was ended by a signal.
    pub interrupted: bool,
}

/// The result of a stage.
#[derive(Debug, Clone)]
pub struct StageReport {
    /// The stage as planned.
    pub stage: Stage,
    /// The time that it took.
    pub elapsed: Duration,
    /// The most streams that were open at once.
    pub most_open: u64,
    /// Counts and latencies.
    pub tally: Tally,
    /// Open streams and tokens a second.
    pub timeline: Timeline,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether every check holds, of at least one.
    pub fn ok(&self) -> bool {
        let mut checks = self.stages.iter().flat_map(|stage| &stage.checks).peekable();
        checks.peek().is_some() && checks.all(|check| check.ok)
    }
}

impl StageReport {
    /// The report of a stage that has not measured anything yet.
    pub(super) fn new(stage: &Stage) -> Self {
        Self {
            stage: stage.clone(),
            elapsed: Duration::ZERO,
            most_open: 0,
            tally: Tally::default(),
            timeline: Timeline::default(),
            checks: Vec::new(),
        }
    }

    /// Adds the checks of what was measured here: completeness, the scenario's own, thresholds.
    pub fn judge(&mut self, thresholds: &[Threshold]) {
        let checks = [
            self.completeness(thresholds),
            self.of_scenario(),
            thresholds.iter().map(|it| it.check(&self.tally, self.elapsed)).collect(),
        ];
        self.checks.splice(0..0, checks.into_iter().flatten());
    }

    fn completeness(&self, thresholds: &[Threshold]) -> Vec<Check> {
        let tally = &self.tally;
        let corrupt = tally.failures.iter().filter(|(kind, _)| kind.is_corruption());
        let corrupt: u64 = corrupt.map(|(_, count)| *count).sum();
        let mut checks = Vec::new();
        if !thresholds.iter().any(Threshold::is_about_failures) {
            let bad = tally.errors() + tally.unfinished();
            let whole = tally.started > 0 && bad == 0;
            let found = format!(
                "{} of {}",
                text::grouped(tally.started.saturating_sub(bad)),
                text::grouped(tally.started)
            );
            checks.push(Check::new("every stream ended as it should", whole, found));
        }
        let found = format!(
            "{corrupt} streams with lost, repeated or late tokens, or completed after a failure"
        );
        checks.push(Check::new("every token once, in order", corrupt == 0, found));
        checks
    }

    fn of_scenario(&self) -> Vec<Check> {
        let Self { stage, tally, .. } = self;
        let some = |name: &str, count: u64| {
            Check::new(name, count > 0, format!("{} of them", text::grouped(count)))
        };
        match stage.scenario {
            Scenario::Steady | Scenario::Mixed => {
                vec![some("streams were complete", tally.complete)]
            }
            Scenario::Ramp => {
                let wanted = stage.requests.map_or(stage.streams, |most| most.min(stage.streams));
                let found = format!("{} of {wanted} at once", self.most_open);
                vec![Check::new("all streams were open at once", self.most_open >= wanted, found)]
            }
            Scenario::HangUps => vec![
                some("callers hung up", tally.left),
                some("the others' streams were complete", tally.complete),
            ],
            Scenario::Limits => vec![
                some("requests over the limit were refused with retry-after", tally.refused),
                some("the others' streams were complete", tally.complete),
            ],
            Scenario::Faults => vec![some("faults were reported", tally.reported)],
        }
    }
}
