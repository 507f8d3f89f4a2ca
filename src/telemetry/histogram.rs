//! Histogram of durations without locks, fed with samples that each stream collects on its own. A token never touches
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in microseconds: the GenAI conventions' buckets (0.01 s to 81.92 s, doubling),
/// preceded by finer ones that pauses between tokens need, and one for very long answers.
const BOUNDS: [u64; BUCKETS - 1] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    20_000,
    40_000,
    80_000,
    160_000,
    320_000,
    640_000,
    1_280_000,
    2_560_000,
    5_120_000,
    10_240_000,
    20_480_000,
    40_960_000,
    81_920_000,
    600_000_000,
];
const BUCKETS: usize = 21;

/// The durations of one stream, in plain counters.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    counts: [u32; BUCKETS],
    total: Duration,
}

impl Sample {
    /// A sample of one.
    pub fn of(duration: Duration) -> Self {
        let mut sample = Self::default();
        sample.add(duration);
        sample
    }

    /// Adds a duration.
    pub fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.total += duration;
    }
}

/// A shared histogram of seconds.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Histogram {
    /// Adds a stream's sample.
    pub fn merge(&self, sample: &Sample) {
        for (shared, count) in self.0.counts.iter().zip(sample.counts) {
            if count > 0 {
                shared.fetch_add(u64::from(count), Relaxed);
            }
        }
        self.0.micros.fetch_add(u64::try_from(sample.total.as_micros()).unwrap_or(0), Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds and sums are far below 2^52 microseconds")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts: Vec<u64> = self.0.counts.iter().map(|count| count.load(Relaxed)).collect();
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        encoder.encode_histogram::<NoLabelSet>(
            seconds(self.0.micros.load(Relaxed)),
            counts.iter().sum(),
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}
