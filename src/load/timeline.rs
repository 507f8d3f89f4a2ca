//! Timeline of a stage: open streams and tokens a second, sampled. However long a stage is, the
//! timeline keeps a bounded number of points.

use std::time::Duration;

/// The most points; then every two become one.
const MAX_POINTS: usize = 600;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Since the stage began.
    pub at: Duration,
    /// Open streams.
    pub open: u64,
    /// Tokens a second since the point before.
    pub rate: f64,
}

/// The samples of a stage.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    points: Vec<Point>,
    /// The number of samples per point.
    every: u32,
    skipped: u32,
    last: (Duration, u64),
}

impl Timeline {
    /// Adds a sample: the time since the beginning, open streams, and all tokens so far.
    pub fn sample(&mut self, at: Duration, open: u64, tokens: u64) {
        self.skipped = self.skipped.saturating_add(1);
        if self.skipped < self.every {
            return;
        }
        let (since, before) = self.last;
        let elapsed = at.saturating_sub(since);
        let Some(rate) = super::text::per_second(tokens.saturating_sub(before), elapsed) else {
            return;
        };
        self.skipped = 0;
        self.points.push(Point { at, open, rate });
        self.last = (at, tokens);
        if self.points.len() >= MAX_POINTS {
            self.halve();
        }
    }

    /// The points so far, in order.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    fn halve(&mut self) {
        self.every = self.every.max(1).saturating_mul(2);
        let halved = self.points.chunks(2).filter_map(|pair| match pair {
            [first, second] => Some(Point {
                at: second.at,
                open: first.open.max(second.open),
                rate: f64::midpoint(first.rate, second.rate),
            }),
            [only] => Some(*only),
            _ => None,
        });
        self.points = halved.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_bounded_and_finite() {
        let mut timeline = Timeline::default();
        for second in 0..100_000_u64 {
            timeline.sample(Duration::from_secs(second), 3, second * 50);
        }
        let points = timeline.points();
        assert!((MAX_POINTS / 2 - 1..MAX_POINTS).contains(&points.len()), "{}", points.len());
        assert!(points.iter().all(|point| (point.rate - 50.0).abs() < 1e-9 && point.open == 3));
        assert!(points.is_sorted_by_key(|point| point.at));
        assert!(points.last().unwrap().at > Duration::from_hours(27));
    }
}
