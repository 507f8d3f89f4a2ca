//! Counts and latencies of the streams of one scenario. Each worker has one; they are merged at the
//! end. It must never hold a payload: failures keep one short example of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::failure::{Kind, LoadError};
use super::histogram::Histogram;

/// Ends of a stream, as its caller observed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every token once, in order, and the terminal event.
    Complete,
    /// The caller hung up, as planned.
    Left,
    /// 429 in the caller's protocol with `retry-after`, where a limit was expected.
    Refused,
    /// An upstream's fault that was reported as expected, with a description of the report.
    Reported(String),
    /// Anything else.
    Failed(LoadError),
}

/// The measurements of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The end.
    pub end: End,
    /// The longest time between two tokens.
    pub longest_gap: Option<Duration>,
    /// From the request to the end.
    pub duration: Duration,
    /// Different tokens.
    pub tokens: u64,
    /// Comments and blank lines between the payloads.
    pub heartbeats: u64,
}

/// The streams of one fault, counted by their ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultCount {
    /// The expected behaviour.
    pub expected: &'static str,
    /// Streams that ended so.
    pub right: u64,
    /// Every end that was seen, and how often.
    pub seen: BTreeMap<String, u64>,
}

/// The sums over many streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests sent.
    pub started: u64,
    /// Streams that were complete.
    pub complete: u64,
    /// Streams that the caller closed early, as planned.
    pub left: u64,
    /// Requests refused with 429, as planned.
    pub refused: u64,
    /// Faults reported as they should be.
    pub reported: u64,
    /// Failures by kind.
    pub failures: BTreeMap<Kind, u64>,
    /// The first failure of each kind.
    pub examples: BTreeMap<Kind, String>,
    /// Different tokens.
    pub tokens: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Time to first token.
    pub ttft: Histogram,
    /// Time between two tokens.
    pub inter_token: Histogram,
    /// Longest time between two tokens of a stream.
    pub longest_gap: Histogram,
    /// From the request to the end of a stream that was complete.
    pub duration: Histogram,
    /// Faults by name.
    pub faults: BTreeMap<&'static str, FaultCount>,
}

impl Tally {
    /// Adds a stream that has ended; its tokens' times were recorded as they arrived.
    pub fn add(&mut self, outcome: &Outcome) {
        self.tokens = self.tokens.saturating_add(outcome.tokens);
        self.heartbeats = self.heartbeats.saturating_add(outcome.heartbeats);
        if let Some(gap) = outcome.longest_gap {
            self.longest_gap.record(gap);
        }
        let count = match &outcome.end {
            End::Complete => {
                self.duration.record(outcome.duration);
                &mut self.complete
            }
            End::Left => &mut self.left,
            End::Refused => &mut self.refused,
            End::Reported(_) => &mut self.reported,
            End::Failed(failure) => {
                self.examples.entry(failure.kind).or_insert_with(|| failure.detail.clone());
                self.failures.entry(failure.kind).or_default()
            }
        };
        *count = count.saturating_add(1);
    }

    /// Adds all that another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.started, other.started),
            (&mut self.complete, other.complete),
            (&mut self.left, other.left),
            (&mut self.refused, other.refused),
            (&mut self.reported, other.reported),
            (&mut self.tokens, other.tokens),
            (&mut self.heartbeats, other.heartbeats),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (kind, count) in &other.failures {
            *self.failures.entry(*kind).or_default() += count;
        }
        for (kind, example) in &other.examples {
            self.examples.entry(*kind).or_insert_with(|| example.clone());
        }
        self.ttft.merge(&other.ttft);
        self.inter_token.merge(&other.inter_token);
        self.longest_gap.merge(&other.longest_gap);
        self.duration.merge(&other.duration);
        for (name, fault) in &other.faults {
            let sum = self.faults.entry(name).or_default();
            sum.expected = fault.expected;
            sum.right = sum.right.saturating_add(fault.right);
            for (end, count) in &fault.seen {
                *sum.seen.entry(end.clone()).or_default() += count;
            }
        }
    }

    /// Streams that failed.
    pub fn errors(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Streams that have ended.
    pub fn ended(&self) -> u64 {
        [self.complete, self.left, self.refused, self.reported, self.errors()].iter().sum()
    }

    /// Streams that were cut off because the run was interrupted.
    pub fn unfinished(&self) -> u64 {
        self.started.saturating_sub(self.ended())
    }
}

/// The number of streams that are open, over all workers, and its maximum.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    open: AtomicU64,
    peak: AtomicU64,
}

/// An open stream; dropping it closes it.
#[derive(Debug)]
pub(super) struct OpenStream<'a>(&'a Gauge);

impl Gauge {
    /// Counts a stream until the guard is dropped.
    pub(super) fn open(&self) -> OpenStream<'_> {
        let open = self.open.fetch_add(1, Relaxed).saturating_add(1);
        self.peak.fetch_max(open, Relaxed);
        OpenStream(self)
    }

    /// The number of open streams.
    pub(super) fn now(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// The most that were open at once.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// The wait for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// From the request to a stream's first token.
    First(Duration),
    /// Since the token before.
    Next(Duration),
}

/// One worker's measurements. Only that worker and the progress display use the lock.
#[derive(Debug, Default)]
pub(super) struct Meter {
    tally: Mutex<Tally>,
    /// Tokens of all streams, ended or not.
    tokens: AtomicU64,
    gauge: Arc<Gauge>,
}

impl Meter {
    /// A meter that counts open streams in `gauge`.
    pub(super) fn new(gauge: &Arc<Gauge>) -> Self {
        Self { gauge: Arc::clone(gauge), ..Self::default() }
    }

    /// The counts so far.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokens arrived together.
    pub(super) fn arrived(&self, tokens: u64, wait: Wait) {
        self.tokens.fetch_add(tokens, Relaxed);
        let mut tally = self.tally();
        match wait {
            Wait::First(ttft) => tally.ttft.record(ttft),
            Wait::Next(gap) => tally.inter_token.record(gap),
        }
        // Those after the first one arrived at the same time.
        for _ in 1..tokens {
            tally.inter_token.record(Duration::ZERO);
        }
    }

    /// Tokens so far.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens.load(Relaxed)
    }

    /// The open streams of all workers.
    pub(super) fn gauge(&self) -> &Gauge {
        &self.gauge
    }
}
