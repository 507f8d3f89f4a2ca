//! Deadlines of an answer that its upstream does not end. They must never read a clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::chat::Deadline;

/// The deadlines at which an answer must end although its upstream has not.
pub(super) struct Deadlines {
    /// The time of the last model output.
    pub(super) output: Instant,
    pub(super) stall: Duration,
    pub(super) total: Option<Instant>,
}

impl Deadlines {
    /// The next moment at which to look. Output in the meantime only makes the look too early.
    pub(super) fn next(&self, until: Option<Instant>) -> Instant {
        let stalled = self.output + self.stall;
        [self.total, until].into_iter().flatten().fold(stalled, Instant::min)
    }

    pub(super) fn passed(&self, now: Instant) -> Option<Deadline> {
        if self.total.is_some_and(|total| now >= total) {
            return Some(Deadline::Total);
        }
        (now >= self.output + self.stall).then_some(Deadline::Stall)
    }
}
