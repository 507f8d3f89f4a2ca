//! Time to first token of one target: a moving average and a histogram per prompt size. Atomics, which an attempt touches
//! at its first output; two at once may lose one, which is no harm. It must never take a failed attempt's time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The most by which one sample may raise the average: a lone outlier must not banish a target.
const MAX_RISE: f64 = 3.0;

/// The weight of a new sample.
const ALPHA: f64 = 0.5;

/// The time after which an average without samples counts little.
const FORGET: Duration = Duration::from_secs(30);

/// The buckets of a histogram: each is longer than the one before it by the square root of two.
const BUCKETS: usize = 24;

/// The end of the first bucket, in seconds.
const FIRST: f64 = 0.02;

/// The samples that a percentile needs.
const ENOUGH: u32 = 20;

/// The samples after which each counts half, so that the histogram follows its target.
const DECAY: u32 = 256;

/// The size of a prompt, by its estimated tokens: the time to first token follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptSize {
    /// Up to 1,000 tokens.
    Small,
    /// Up to 8,000.
    Medium,
    /// Up to 32,000.
    Large,
    /// More.
    Huge,
}

impl PromptSize {
    /// The number of sizes.
    pub(super) const COUNT: usize = 4;

    /// The size of a prompt with so many tokens.
    pub fn of(tokens: u64) -> Self {
        match tokens {
            0..=1_000 => Self::Small,
            1_001..=8_000 => Self::Medium,
            8_001..=32_000 => Self::Large,
            _ => Self::Huge,
        }
    }
}

/// The times to first token of one target for one prompt size.
#[derive(Debug, Default)]
pub(super) struct FirstTokenTimes {
    /// The moving average in microseconds; 0: unknown.
    average: AtomicU64,
    /// The time of the last sample in milliseconds.
    sampled: AtomicU64,
    histogram: [AtomicU32; BUCKETS],
}

impl FirstTokenTimes {
    /// The average in seconds, and how much it counts at this time (in milliseconds), from 0 to 1.
    pub(super) fn average(&self, millis: u64) -> (f64, f64) {
        let known = self.average.load(Relaxed);
        if known == 0 {
            return (0.0, 0.0);
        }
        let age = Duration::from_millis(millis.saturating_sub(self.sampled.load(Relaxed)));
        let trust = (-age.as_secs_f64() / FORGET.as_secs_f64()).exp();
        (Duration::from_micros(known).as_secs_f64(), trust)
    }

    /// Takes a sample.
    pub(super) fn sample(&self, ttft: Duration, millis: u64) {
        self.move_average(ttft.as_secs_f64(), millis);
        if let Some(bucket) = self.histogram.get(bucket(ttft)) {
            bucket.fetch_add(1, Relaxed);
        }
        if self.samples() > DECAY {
            for bucket in &self.histogram {
                bucket.store(bucket.load(Relaxed) / 2, Relaxed);
            }
        }
    }

    /// Takes a wait that was given up: the time to first token would have been longer.
    pub(super) fn at_least(&self, wait: Duration, millis: u64) {
        if wait.as_secs_f64() > self.average(millis).0 {
            self.move_average(wait.as_secs_f64(), millis);
        }
    }

    fn move_average(&self, new: f64, millis: u64) {
        let old = Duration::from_micros(self.average.load(Relaxed)).as_secs_f64();
        let fresh = if old == 0.0 { new } else { old + ALPHA * (new.min(old * MAX_RISE) - old) };
        let micros = Duration::from_secs_f64(fresh.max(1e-6)).as_micros();
        self.average.store(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
        self.sampled.store(millis, Relaxed);
    }

    fn samples(&self) -> u32 {
        self.histogram.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// The time within which this part of the answers begins. `None`: there are too few samples.
    pub(super) fn percentile(&self, part: f64) -> Option<Duration> {
        let samples = self.samples();
        let wanted = f64::from(samples) * part;
        let mut before = 0.0;
        for (place, bucket) in (1_i32..).zip(&self.histogram) {
            before += f64::from(bucket.load(Relaxed));
            if before >= wanted && samples >= ENOUGH {
                let end = FIRST * 2_f64.powf(f64::from(place - 1) / 2.0);
                return Some(Duration::from_secs_f64(end));
            }
        }
        None
    }
}

/// The bucket that a time belongs to.
fn bucket(ttft: Duration) -> usize {
    let mut end = FIRST;
    let longer = |_: &usize| {
        let longer = ttft.as_secs_f64() > end;
        end *= std::f64::consts::SQRT_2;
        longer
    };
    (0..BUCKETS - 1).take_while(longer).count()
}

#[cfg(test)]
mod tests {
    use super::PromptSize::{Huge, Large, Medium, Small};
    use super::*;

    /// R12: the raw time to first token; one outlier at most trebles it.
    #[test]
    fn r12_an_outlier_does_not_banish_a_target() {
        let times = FirstTokenTimes::default();
        let average_after = |seconds: f64| {
            times.sample(Duration::from_secs_f64(seconds), 0);
            times.average(0).0
        };
        assert!((average_after(1.0) - 1.0).abs() < 1e-3);
        assert!(
            (average_after(100.0) - 2.0).abs() < 1e-3,
            "half of the way to three times as much"
        );
        assert!((average_after(1.0) - 1.5).abs() < 1e-3);
    }

    #[test]
    fn a_wait_that_was_given_up_only_raises() {
        let times = FirstTokenTimes::default();
        times.sample(Duration::from_secs(1), 0);
        times.at_least(Duration::from_millis(10), 0);
        assert!((times.average(0).0 - 1.0).abs() < 1e-6);
        times.at_least(Duration::from_secs(2), 0);
        assert!((times.average(0).0 - 1.5).abs() < 1e-6);
    }

    #[test]
    fn a_percentile_is_the_end_of_its_bucket_and_follows_the_target() {
        let times = FirstTokenTimes::default();
        (0..19).for_each(|_| times.sample(Duration::from_millis(10), 0));
        assert_eq!(times.percentile(0.95), None, "too few");
        times.sample(Duration::from_secs(1), 0);
        let within = |part| times.percentile(part).expect("enough samples").as_secs_f64();
        assert!((within(0.95) - FIRST).abs() < 1e-9);
        assert!((1.0..1.5).contains(&within(1.0)), "{}", within(1.0));
        (0..1000).for_each(|_| times.sample(Duration::from_secs(3), 0));
        assert!((3.0..4.3).contains(&within(0.1)), "{}", within(0.1));
        times.sample(Duration::from_secs(1_000_000), 0);
        assert!(within(1.0) > 50.0);
    }

    #[test]
    fn sizes_of_prompts() {
        let sizes = [0, 1_000, 1_001, 8_000, 8_001, 32_000, 32_001, u64::MAX].map(PromptSize::of);
        assert_eq!(sizes, [Small, Small, Medium, Medium, Large, Large, Huge, Huge]);
    }
}
