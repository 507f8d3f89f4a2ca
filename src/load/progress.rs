//! Progress of a run: the state of a running stage, as one line. It never delays the stage.

use std::fmt;
use std::time::Duration;

use super::plan::Scenario;
use super::text;

/// The state of a stage at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    /// The scenario.
    pub scenario: Scenario,
    /// Since the stage began.
    pub elapsed: Duration,
    /// The time for which it starts streams.
    pub duration: Duration,
    /// Open streams.
    pub open: u64,
    /// Streams that ended as they should.
    pub ended: u64,
    /// Streams that failed.
    pub errors: u64,
    /// Tokens so far.
    pub tokens: u64,
    /// Tokens a second since the snapshot before.
    pub rate: f64,
    /// The 95th percentile of the time to first token.
    pub ttft_p95: Option<Duration>,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{:<8} {:>4.0} of {:.0} s   {} open   {} done   {} errors   {:.0} tokens/s   TTFT p95 {}",
            self.scenario.name(),
            self.elapsed.as_secs_f64(),
            self.duration.as_secs_f64(),
            text::grouped(self.open),
            text::grouped(self.ended),
            text::grouped(self.errors),
            self.rate,
            self.ttft_p95.map_or_else(|| "-".to_owned(), text::time),
        )
    }
}
