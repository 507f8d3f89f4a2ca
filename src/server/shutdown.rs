//! Graceful shutdown: its steps, and how long each may take. It decides nothing and ends nothing by itself.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use crate::telemetry::log::LOG_FLUSH_TIMEOUT;

/// The time that connections have to close after their streams were ended.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that upstreams have to end bodies of complete responses, once all callers have theirs.
pub const UPSTREAM_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The time that requests of the operators' listener have if they are in progress at the end.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout of the disk, which takes what the archive is to keep once all streams have ended.
pub const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of the export of the last spans, once all callers have their responses.
pub const SPAN_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The steps of a shutdown, shared by everything that depends on them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled first: `/readyz` returns 503 and everything else goes on, so that load balancers send
    /// new callers elsewhere before any connection is rejected.
    pub unready: CancellationToken,
    /// Cancelled next: no new connections, no new requests on idle ones.
    pub stopping: CancellationToken,
    /// Cancelled when the drain time is over: every stream still open ends with an error.
    pub closing: CancellationToken,
}

/// The longest time from the signal to the end of the process: how long a supervisor has to wait before it kills
/// the process.
pub fn longest(shutdown_delay: Duration, drain: Duration) -> Duration {
    [
        shutdown_delay,
        drain,
        CLOSE_TIMEOUT,
        UPSTREAM_DRAIN_TIMEOUT,
        SCRAPE_TIMEOUT,
        ARCHIVE_TIMEOUT,
        SPAN_FLUSH_TIMEOUT,
        LOG_FLUSH_TIMEOUT,
    ]
    .iter()
    .sum()
}
