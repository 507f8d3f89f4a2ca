//! Load of one target: its answers in progress, and an estimate of its time to first token. Atomics, which an attempt
//! touches when it begins, at its first output and when it ends, and no token does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// The most by which one sample may raise the estimate: a lone outlier must not banish a target.
const MAX_RISE: f64 = 3.0;

/// The weight of a new sample.
const ALPHA: f64 = 0.5;

/// The time after which an estimate without samples counts little.
const FORGET: Duration = Duration::from_secs(30);

/// The load of a target.
#[derive(Debug)]
pub(super) struct Load {
    open: AtomicU32,
    waiting: AtomicU32,
    /// The time to first token in microseconds; 0: unknown.
    ttft: AtomicU64,
    /// Milliseconds since `epoch`: the last sample, and the last output or beginning of a wait.
    sampled: AtomicU64,
    moved: AtomicU64,
    epoch: Instant,
}

impl Load {
    pub(super) fn new(epoch: Instant) -> Self {
        let zero = AtomicU64::default;
        Self {
            open: AtomicU32::default(),
            waiting: AtomicU32::default(),
            ttft: zero(),
            sampled: zero(),
            moved: zero(),
            epoch,
        }
    }

    /// Answers in progress.
    pub(super) fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// The estimated time to first token in seconds, and how much it counts, from 0 to 1. Attempts that wait without
    /// output count before they end, so that a target that hangs is avoided before its timeout.
    pub(super) fn ttft(&self, now: Instant) -> (f64, f64) {
        let known = self.ttft.load(Relaxed);
        let millis = self.millis(now);
        let silent = if self.waiting.load(Relaxed) > 0 {
            Duration::from_millis(millis.saturating_sub(self.moved.load(Relaxed))).as_secs_f64()
        } else {
            0.0
        };
        let seconds = Duration::from_micros(known).as_secs_f64();
        let age = Duration::from_millis(millis.saturating_sub(self.sampled.load(Relaxed)));
        let trust =
            if known == 0 { 0.0 } else { (-age.as_secs_f64() / FORGET.as_secs_f64()).exp() };
        if silent > seconds { (silent, silent.min(1.0).max(trust)) } else { (seconds, trust) }
    }

    /// Takes a sample of the time to first token. Two at once may lose one, which is no harm.
    fn sample(&self, ttft: Duration, now: Instant) {
        let (old, new) = (self.ttft.load(Relaxed), ttft.as_secs_f64());
        let old = Duration::from_micros(old).as_secs_f64();
        let fresh = if old == 0.0 { new } else { old + ALPHA * (new.min(old * MAX_RISE) - old) };
        let micros = Duration::from_secs_f64(fresh.max(1e-6)).as_micros();
        self.ttft.store(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
        self.sampled.store(self.millis(now), Relaxed);
    }
}

/// One answer in progress at a target, from the beginning of its attempt until it is dropped.
#[derive(Debug)]
pub struct OpenStream {
    load: Arc<Load>,
    account: Arc<AtomicU32>,
    begun: Instant,
    waits: bool,
}

impl OpenStream {
    /// `None`: the account has `most` answers in progress.
    pub(super) fn begin(
        load: &Arc<Load>,
        (account, most): (&Arc<AtomicU32>, Option<usize>),
        now: Instant,
    ) -> Option<Self> {
        let most = most.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX));
        let more = |open: u32| (open < most).then_some(open.saturating_add(1));
        account.fetch_update(Relaxed, Relaxed, more).ok()?;
        load.open.fetch_add(1, Relaxed);
        if load.waiting.fetch_add(1, Relaxed) == 0 {
            load.moved.store(load.millis(now), Relaxed);
        }
        let (load, account) = (Arc::clone(load), Arc::clone(account));
        Some(Self { load, account, begun: now, waits: true })
    }

    /// Its first output has come.
    pub fn has_output(&mut self, now: Instant) {
        if self.end_wait() {
            self.load.moved.store(self.load.millis(now), Relaxed);
            self.load.sample(now.saturating_duration_since(self.begun), now);
        }
    }

    fn end_wait(&mut self) -> bool {
        let waited = std::mem::take(&mut self.waits);
        if waited {
            self.load.waiting.fetch_sub(1, Relaxed);
        }
        waited
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.end_wait();
        self.load.open.fetch_sub(1, Relaxed);
        self.account.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(load: &Arc<Load>, account: &Arc<AtomicU32>, now: Instant) -> OpenStream {
        OpenStream::begin(load, (account, None), now).unwrap()
    }

    /// R11: open streams are guards, which every way out returns.
    #[test]
    fn r11_open_streams_are_zero_after_all_are_dropped() {
        let now = Instant::now();
        let (load, account) = (Arc::new(Load::new(now)), Arc::<AtomicU32>::default());
        let mut open: Vec<_> = (0..100).map(|_| guard(&load, &account, now)).collect();
        open.iter_mut().step_by(3).for_each(|stream| stream.has_output(now));
        assert_eq!((load.open(), account.load(Relaxed)), (100, 100));
        assert!(OpenStream::begin(&load, (&account, Some(100)), now).is_none());
        open.truncate(10);
        assert_eq!((load.open(), account.load(Relaxed)), (10, 10));
        open.clear();
        assert_eq!((load.open(), account.load(Relaxed), load.waiting.load(Relaxed)), (0, 0, 0));
    }

    /// R12: the raw time to first token; one outlier at most trebles it.
    #[test]
    fn r12_an_outlier_does_not_banish_a_target() {
        let now = Instant::now();
        let (load, account) = (Arc::new(Load::new(now)), Arc::<AtomicU32>::default());
        let answer = |seconds: f64| {
            let mut stream = guard(&load, &account, now);
            let first = now + Duration::from_secs_f64(seconds);
            stream.has_output(first);
            load.ttft(first).0
        };
        assert!((answer(1.0) - 1.0).abs() < 1e-3);
        assert!((answer(100.0) - 2.0).abs() < 1e-3, "half of the way to three times as much");
        assert!((answer(1.0) - 1.5).abs() < 1e-3);
    }

    /// R13: a target that hangs is slow before its timeout; cancelled attempts teach nothing.
    #[test]
    fn r13_waiting_counts_as_time_to_first_token() {
        let now = Instant::now();
        let (load, account) = (Arc::new(Load::new(now)), Arc::<AtomicU32>::default());
        assert_eq!(load.ttft(now), (0.0, 0.0), "unknown");
        let hanging = guard(&load, &account, now);
        let later = now + Duration::from_secs(2);
        assert_eq!(load.ttft(later), (2.0, 1.0));
        drop(hanging);
        assert_eq!(load.ttft(later), (0.0, 0.0));
    }
}
