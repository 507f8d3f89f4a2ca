//! Latency histogram: logarithmic buckets of microseconds with a relative error below 1 %, an exact
//! maximum and an exact sum. It must never invent a value: without observations there is no quantile.

use std::time::Duration;

/// Buckets for each power of two; the relative error is at most one part in as many.
const STEPS: u64 = 128;
/// The number of bits that distinguish the buckets of one power of two.
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of durations. The memory grows with the largest value, to 60 KB at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

/// The bucket of a value in microseconds.
fn bucket(micros: u64) -> usize {
    let bits = u64::BITS.saturating_sub(micros.leading_zeros());
    let shift = bits.saturating_sub(STEP_BITS.saturating_add(1));
    let index = u64::from(shift).saturating_mul(STEPS).saturating_add(micros >> shift);
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest value that a bucket holds, in microseconds.
fn upper_bound(bucket: usize) -> u64 {
    let index = u64::try_from(bucket).unwrap_or(u64::MAX);
    if index < 2 * STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let step = u128::from(index - shift * STEPS);
    let bound = ((step + 1) << shift) - 1;
    u64::try_from(bound).unwrap_or(u64::MAX)
}

impl Histogram {
    /// Adds one observation.
    pub fn record(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket.saturating_add(1), 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(u128::from(micros));
        self.max = self.max.max(micros);
    }

    /// Adds all observations of another one.
    pub fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count = count.saturating_add(*more);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest observation.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_micros(self.max))
    }

    /// The mean of all observations.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.sum.checked_div(u128::from(self.count))?;
        Some(Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The value that `percent` of the observations do not exceed, by the nearest rank.
    pub fn quantile(&self, percent: u64) -> Option<Duration> {
        let rank = u128::from(self.count) * u128::from(percent.min(100));
        let rank = rank.div_ceil(100).max(1);
        let mut seen = 0_u128;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return Some(Duration::from_micros(upper_bound(bucket).min(self.max)));
            }
        }
        None
    }

    /// The number of observations in each of the ranges that `bounds` (microseconds, ascending)
    /// delimit: up to the first one, up to the second one, and so on; the last range has no end.
    pub fn distribution(&self, bounds: &[u64]) -> Vec<u64> {
        let mut counts = vec![0_u64; bounds.len().saturating_add(1)];
        for (bucket, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let value = upper_bound(bucket).min(self.max);
            let range = bounds.partition_point(|bound| *bound < value);
            if let Some(sum) = counts.get_mut(range) {
                *sum = sum.saturating_add(*count);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(Duration::from_micros(*value));
        }
        histogram
    }

    #[test]
    fn nothing_observed_has_no_quantile() {
        let empty = Histogram::default();
        assert_eq!((empty.quantile(50), empty.max(), empty.mean()), (None, None, None));
        assert_eq!(empty.distribution(&[10]), [0, 0]);
    }

    #[test]
    fn small_values_are_exact() {
        let histogram = of(&(1..=100).collect::<Vec<u64>>());
        for (percent, micros) in [(1, 1), (50, 50), (95, 95), (99, 99), (100, 100)] {
            assert_eq!(histogram.quantile(percent), Some(Duration::from_micros(micros)));
        }
        assert_eq!(histogram.mean(), Some(Duration::from_micros(50)));
        assert_eq!(histogram.distribution(&[10, 60]), [10, 50, 40]);
    }

    #[test]
    fn the_largest_duration_is_held() {
        let mut histogram = of(&[u64::MAX]);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.max(), Some(Duration::from_micros(u64::MAX)));
        assert_eq!(histogram.quantile(99), Some(Duration::from_micros(u64::MAX)));
    }

    proptest! {
        #[test]
        fn quantiles_are_near_the_exact_ones(
            mut values in prop::collection::vec(0_u64..10_000_000_000, 1..200),
            percent in 1_u64..=100,
        ) {
            let histogram = of(&values);
            values.sort_unstable();
            let rank = usize::try_from((values.len() as u64 * percent).div_ceil(100)).unwrap();
            let exact = values[rank - 1];
            let found = u64::try_from(histogram.quantile(percent).unwrap().as_micros()).unwrap();
            prop_assert!(found >= exact && found - exact <= exact / 100, "{found} for {exact}");
            prop_assert_eq!(histogram.max(), Some(Duration::from_micros(*values.last().unwrap())));
        }

        #[test]
        fn merged_is_recorded_together(
            left in prop::collection::vec(any::<u64>(), 0..50),
            right in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            prop_assert_eq!(merged, of(&[left, right].concat()));
        }

        #[test]
        fn buckets_cover_every_value_once(value in any::<u64>()) {
            let at = bucket(value);
            prop_assert!(upper_bound(at) >= value);
            prop_assert!(at == 0 || upper_bound(at - 1) < value);
        }
    }
}
