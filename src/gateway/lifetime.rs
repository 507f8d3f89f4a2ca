//! Lifetimes of connections that follow a stream: each ends at a time of its own, so that clients do not come back
//! together, after a deploy least of all. An end must never lose an event: the client goes on at its position.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::state::Gateway;

/// The share of its longest lifetime that a connection lasts at least.
const SHORTEST: f64 = 0.8;

/// The share of the drain time in which connections are handed over, so that their clients have the rest of it to read
/// elsewhere what this process still produces.
const DRAIN_SHARE: f64 = 0.5;

/// The time for which a connection follows a stream.
#[derive(Debug, Default)]
pub struct Lifetime {
    until: Option<Instant>,
    /// The beginning of a shutdown, and the time from then on after which the connection is handed over.
    handover: Option<(CancellationToken, Duration)>,
}

impl Lifetime {
    /// The lifetime of a connection that begins now, whose client comes back with its position. `longest`: `None` for one
    /// that is not bounded.
    pub fn of_follower(gateway: &Gateway, longest: Option<Duration>) -> Self {
        let mut rng = rand::rng();
        let until = longest
            .map(|longest| Instant::now() + longest.mul_f64(rng.random_range(SHORTEST..=1.0)));
        let handover = gateway.hands_over().then(|| {
            let share = rng.random_range(0.0..=DRAIN_SHARE);
            let within = gateway.state().config.server.drain.mul_f64(share);
            (gateway.shutdown.stopping.clone(), within)
        });
        Self { until, handover }
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Its end, or an earlier time.
    pub fn or(&self, time: Instant) -> Instant {
        self.until.map_or(time, |until| until.min(time))
    }

    /// Resolves when it has become shorter, because the process is stopping.
    pub async fn shortened(&mut self) {
        let Some((stopping, within)) = &self.handover else { return std::future::pending().await };
        stopping.cancelled().await;
        self.until = Some(self.or(Instant::now() + *within));
        self.handover = None;
    }
}

#[cfg(test)]
#[path = "lifetime_tests.rs"]
mod tests;
