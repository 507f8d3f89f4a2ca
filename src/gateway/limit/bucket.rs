//! Token bucket: one limit per minute, refilled continuously. It takes back unused units, and can go into debt.
//! Pure: the time is an argument. It stores the units used, not those left, so that a new size leaves usage as it is.

use std::time::Duration;

use tokio::time::Instant;

/// The parts of one unit (a request, a token). `per_minute` of them come back each nanosecond, so
/// that nothing is ever rounded.
const UNIT: i128 = 60_000_000_000;

/// Refill rate and capacity of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Units that come back in a minute.
    pub(super) per_minute: u32,
    /// Units that may be taken at once.
    pub(super) burst: u32,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// In parts; never below zero. More than the capacity is a debt.
    used: i128,
    /// The time to which `used` applies.
    at: Instant,
}

/// The status of a bucket, as response headers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStatus {
    /// Its capacity.
    pub limit: u32,
    /// The amount that is left.
    pub remaining: u32,
    /// The time until the bucket is full.
    pub reset: Duration,
}

impl Bucket {
    /// A bucket of which nothing is used.
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, used: 0, at: now }
    }

    /// Changes the rate. Usage and debt stay as they are.
    pub(super) fn change(&mut self, rate: Rate, now: Instant) {
        self.refill(now);
        self.rate = rate;
    }

    /// Takes `amount`, or takes nothing and returns how long to wait. Of more than the capacity
    /// it takes the whole capacity, once the bucket is full: a claim may be large and false, and
    /// must not keep others out for longer. Returns how much it took.
    pub(super) fn take(&mut self, amount: u64, now: Instant) -> Result<u64, Duration> {
        self.refill(now);
        let taken = amount.min(self.rate.burst.into());
        let over = self.used + i128::from(taken) * UNIT - self.capacity();
        if over > 0 {
            return Err(self.time_to_return(over));
        }
        self.used += i128::from(taken) * UNIT;
        Ok(taken)
    }

    /// Takes as much of `amount` as is left. Returns how much that was.
    pub(super) fn take_up_to(&mut self, amount: u64, now: Instant) -> u64 {
        let amount = amount.min(self.window(now).remaining.into());
        self.charge(amount, now);
        amount
    }

    /// Counts units that have been used already, whether they were there or not.
    pub(super) fn charge(&mut self, amount: u64, now: Instant) {
        self.refill(now);
        self.used = self.used.saturating_add(i128::from(amount) * UNIT);
    }

    /// Takes back units that were taken and not used.
    pub(super) fn give_back(&mut self, amount: u64, now: Instant) {
        self.refill(now);
        self.used = (self.used - i128::from(amount) * UNIT).max(0);
    }

    /// Whether nothing of it is used, so that a new bucket would be the same.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.used == 0
    }

    /// The status at a time.
    pub(super) fn window(&mut self, now: Instant) -> LimitStatus {
        self.refill(now);
        let left = (self.capacity() - self.used).max(0) / UNIT;
        LimitStatus {
            limit: self.rate.burst,
            remaining: u32::try_from(left).unwrap_or(u32::MAX),
            reset: self.time_to_return(self.used),
        }
    }

    /// The ratio of it that is used: 1 when nothing is left, more in debt.
    #[expect(clippy::cast_precision_loss, reason = "a ratio to look at")]
    pub(super) fn used_ratio(&mut self, now: Instant) -> f64 {
        self.refill(now);
        self.used as f64 / self.capacity().max(1) as f64
    }

    fn capacity(&self) -> i128 {
        i128::from(self.rate.burst) * UNIT
    }

    /// Threads may come with times that are a little out of order; none counts twice.
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        let back = i128::try_from(passed)
            .unwrap_or(i128::MAX)
            .saturating_mul(i128::from(self.rate.per_minute));
        self.used = (self.used - back).max(0);
        self.at = self.at.max(now);
    }

    fn time_to_return(&self, parts: i128) -> Duration {
        let rate = i128::from(self.rate.per_minute.max(1));
        let nanos = (parts + rate - 1) / rate;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
