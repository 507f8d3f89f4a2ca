//! The steps of a shutdown and how long each may take. It decides nothing and ends nothing by itself.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use crate::telemetry::log::LAST_LINES;

/// How long connections have to close after the streams on them were ended.
pub const CLOSING: Duration = Duration::from_secs(5);
/// How long upstreams may take to end bodies whose answers are complete, once all callers have theirs.
pub const LAST_READS: Duration = Duration::from_secs(2);
/// How long a scrape of the operators' listener may take that is under way at the end.
pub const LAST_SCRAPE: Duration = Duration::from_secs(1);
/// How long the collector may take for the last spans, once all callers have their answers.
pub const LAST_SPANS: Duration = Duration::from_secs(5);

/// The steps of a shutdown, shared with whatever depends on them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled first: readiness is denied, and everything else goes on, so that load balancers send
    /// new callers elsewhere before any is refused.
    pub unready: CancellationToken,
    /// Cancelled next: nothing new begins.
    pub stopping: CancellationToken,
    /// Cancelled when the drain time is over: every stream still open ends with an error.
    pub closing: CancellationToken,
}

/// The longest that a shutdown takes from the signal to the end of the process: what a supervisor has to
/// wait before it kills.
pub fn longest(shutdown_delay: Duration, drain: Duration) -> Duration {
    [shutdown_delay, drain, CLOSING, LAST_READS, LAST_SCRAPE, LAST_SPANS, LAST_LINES].iter().sum()
}
