//! Request rate limiter: requests per minute by `governor`, with three things that it lacks: returning what a rejected
//! request took, a new quota without a new burst, and a status that takes nothing. It must never grant a second burst.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, ReasonablyRealtime};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::bucket::LimitStatus;

type Governor = RateLimiter<NotKeyed, InMemoryState, Runtime, StateInformationMiddleware>;

/// The request rate limiter of one caller or model.
pub(super) struct Requests {
    quota: Quota,
    limiter: Governor,
    /// The requests that were left at the last one, and its time.
    left: u32,
    at: Instant,
    /// Requests that were taken and given back.
    credit: u32,
}

/// The runtime's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
struct Runtime(Instant);

impl Clock for Runtime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.elapsed())
    }
}

impl ReasonablyRealtime for Runtime {}

impl Requests {
    /// Requests of which none is used.
    pub(super) fn new(quota: Quota, now: Instant) -> Self {
        let limiter = RateLimiter::direct_with_clock(quota, Runtime(now)).with_middleware();
        Self { quota, limiter, left: quota.burst_size().get(), at: now, credit: 0 }
    }

    /// Changes the quota. Usage stays as it is, as far as the new quota has room for it.
    pub(super) fn change(&mut self, quota: Quota, now: Instant) {
        let used = self.limit() - self.left(now);
        *self = Self::new(quota, now);
        if let Some(used) = NonZeroU32::new(used.min(self.limit()))
            && let Ok(Ok(after)) = self.limiter.check_n(used)
        {
            self.left = after.remaining_burst_capacity();
        }
    }

    /// Takes one request, or takes nothing and returns how long to wait.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        // Never more than a whole burst in all.
        self.credit = self.credit.min(self.limit() - self.refilled(now));
        if self.credit > 0 {
            self.credit -= 1;
            return Ok(());
        }
        let clock = *self.limiter.clock();
        let after = self.limiter.check().map_err(|until| until.wait_time_from(clock.now()))?;
        (self.left, self.at) = (after.remaining_burst_capacity(), now);
        Ok(())
    }

    /// Takes back one request, which was rejected for another reason.
    pub(super) fn give_back(&mut self) {
        self.credit = self.credit.saturating_add(1);
    }

    /// Whether nothing of it is used, so that a new one would be the same.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.left(now) == self.limit()
    }

    /// The status at a time.
    pub(super) fn window(&self, now: Instant) -> LimitStatus {
        let (limit, remaining) = (self.limit(), self.left(now));
        let reset = self.quota.replenish_interval().saturating_mul(limit - remaining);
        LimitStatus { limit, remaining, reset }
    }

    /// The ratio of it that is used: 1 when nothing is left.
    pub(super) fn used_ratio(&self, now: Instant) -> f64 {
        f64::from(self.limit() - self.left(now)) / f64::from(self.limit())
    }

    fn limit(&self) -> u32 {
        self.quota.burst_size().get()
    }

    fn left(&self, now: Instant) -> u32 {
        self.refilled(now).saturating_add(self.credit).min(self.limit())
    }

    /// The requests that the limiter has left, with those that have come back in whole since the last one.
    fn refilled(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        let back = passed / self.quota.replenish_interval().as_nanos().max(1);
        self.left.saturating_add(u32::try_from(back).unwrap_or(u32::MAX)).min(self.limit())
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, credit, .. } = self;
        f.debug_struct("Requests")
            .field("left", left)
            .field("credit", credit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(per_minute: u32, burst: u32) -> Quota {
        let number = |number| NonZeroU32::new(number).unwrap();
        Quota::per_minute(number(per_minute)).allow_burst(number(burst))
    }

    fn left(requests: &Requests) -> u32 {
        requests.window(Instant::now()).remaining
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_the_rate() {
        let mut requests = Requests::new(quota(60, 3), Instant::now());
        for _ in 0..3 {
            requests.take(Instant::now()).unwrap();
        }
        let wait = requests.take(Instant::now()).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        assert_eq!(requests.window(Instant::now()).reset, Duration::from_secs(3));
        tokio::time::advance(wait).await;
        assert_eq!(left(&requests), 1);
        requests.take(Instant::now()).unwrap();
        assert!(requests.take(Instant::now()).is_err());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(requests.is_full(Instant::now()));
    }

    /// A request that is given back can be taken once, and never on top of a whole burst.
    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_is_there_again() {
        let mut requests = Requests::new(quota(60, 2), Instant::now());
        requests.take(Instant::now()).unwrap();
        requests.take(Instant::now()).unwrap();
        requests.give_back();
        assert_eq!(left(&requests), 1);
        requests.take(Instant::now()).unwrap();
        assert!(requests.take(Instant::now()).is_err());
        requests.give_back();
        tokio::time::advance(Duration::from_mins(1)).await;
        for _ in 0..2 {
            requests.take(Instant::now()).unwrap();
        }
        assert!(requests.take(Instant::now()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn another_quota_is_no_new_burst() {
        let mut requests = Requests::new(quota(60, 10), Instant::now());
        for _ in 0..7 {
            requests.take(Instant::now()).unwrap();
        }
        requests.change(quota(60, 20), Instant::now());
        assert_eq!(left(&requests), 13);
        requests.change(quota(60, 5), Instant::now());
        assert_eq!(left(&requests), 0);
        assert!(requests.take(Instant::now()).is_err());
    }
}
