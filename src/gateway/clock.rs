//! Wall clock: the date of answers, signatures and limits. No other file of the gateway reads it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The time at which a request came in, by both clocks at once. Later dates are computed from the time elapsed since
/// then, so that a step of the wall clock, or a slow upload, moves no date.
#[derive(Debug, Clone, Copy)]
pub struct RequestTime {
    /// By the clock that never steps.
    pub started: Instant,
    wall: SystemTime,
}

impl RequestTime {
    /// The present, for a request that has just come in.
    pub fn begin() -> Self {
        Self { started: Instant::now(), wall: wall() }
    }

    /// The present.
    pub fn now(&self) -> SystemTime {
        self.wall + self.started.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall() -> SystemTime {
    SystemTime::now()
}

/// The time since 1970.
pub fn unix() -> Duration {
    since_epoch(wall())
}

/// The seconds since 1970.
pub fn unix_seconds() -> u64 {
    unix().as_secs()
}

/// The time from 1970 to a date. Earlier dates, which only a clock that was never set has, count as 1970.
pub fn since_epoch(date: SystemTime) -> Duration {
    date.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The date of a signature after a slow upload: it is not earlier or later by the time that the upload took.
    #[tokio::test(start_paused = true)]
    async fn what_has_passed_moves_the_date_once() {
        let time = RequestTime::begin();
        let begun = time.now();
        assert_eq!(begun, time.wall);
        tokio::time::advance(Duration::from_mins(30)).await;
        assert_eq!(time.now(), begun + Duration::from_mins(30));
        assert_eq!(since_epoch(UNIX_EPOCH + Duration::from_secs(7)), Duration::from_secs(7));
        assert_eq!(since_epoch(UNIX_EPOCH - Duration::from_secs(7)), Duration::ZERO);
    }
}
