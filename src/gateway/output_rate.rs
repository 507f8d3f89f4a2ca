//! Output rate of an answer, over the time in which the gateway waits for its upstream, so that a caller who reads slowly
//! makes no upstream slow. Pure: times are passed in. It must never be asked for an answer whose model does not limit it.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Slow, SlowAction};

/// The parts of the time over which the rate is measured: a slow stream is found within one part more.
const SLOTS: usize = 5;

/// The output of an answer in the last time that was spent waiting for it.
#[derive(Debug)]
pub struct OutputRate {
    limit: Slow,
    /// The bytes in each part of the time; the current one is the last.
    slots: [u64; SLOTS],
    /// The full parts so far, up to all.
    full: usize,
    /// The waiting time in the current part.
    waited: Duration,
    /// The beginning of the wait that is under way.
    since: Option<Instant>,
    /// The bytes of the answer so far.
    bytes: u64,
}

impl OutputRate {
    /// The rate of an answer that has had so many bytes of output.
    pub fn new(limit: Slow, bytes: u64) -> Self {
        Self { limit, slots: [0; SLOTS], full: 0, waited: Duration::ZERO, since: None, bytes }
    }

    /// The consequence if it is slow.
    pub fn action(&self) -> SlowAction {
        self.limit.then
    }

    fn slot(&self) -> Duration {
        (self.limit.over / u32::try_from(SLOTS).unwrap_or(1)).max(Duration::from_millis(1))
    }

    /// Begins a wait for the upstream, or goes on with one. Returns the time at which to look without output.
    pub fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        since + self.slot().saturating_sub(self.waited)
    }

    /// Ends or interrupts a wait, after which the answer has had so many bytes. Returns whether it is slow.
    pub fn waited(&mut self, bytes: u64, now: Instant) -> bool {
        let since = self.since.take().unwrap_or(now);
        self.waited += now.saturating_duration_since(since);
        let new = bytes.saturating_sub(std::mem::replace(&mut self.bytes, bytes));
        if let Some(last) = self.slots.last_mut() {
            *last = last.saturating_add(new);
        }
        let mut is_slow = false;
        // More than all of them would change nothing.
        for _ in 0..=SLOTS {
            if self.waited < self.slot() {
                return is_slow;
            }
            self.waited -= self.slot();
            self.full = (self.full + 1).min(SLOTS);
            is_slow |= self.full == SLOTS && self.is_below();
            self.slots.rotate_left(1);
            if let Some(last) = self.slots.last_mut() {
                *last = 0;
            }
        }
        self.waited = Duration::ZERO;
        is_slow
    }

    fn is_below(&self) -> bool {
        let bytes: u128 = self.slots.iter().map(|bytes| u128::from(*bytes)).sum();
        let over = self.slot().as_millis() * SLOTS as u128;
        bytes * 1000 < u128::from(self.limit.bytes_per_second.get()) * over
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate() -> OutputRate {
        let bytes_per_second = NonZeroU32::new(20).unwrap();
        OutputRate::new(Slow { bytes_per_second, over: 5 * SECOND, then: SlowAction::Mark }, 7)
    }

    /// Waits as a production does: output after each pause, looks in between. Returns the time at which it is slow.
    fn slow_after(pauses: impl IntoIterator<Item = (Duration, u64)>) -> Option<Duration> {
        let (mut rate, begun) = (rate(), Instant::now());
        let (mut now, mut bytes) = (begun, 7);
        for (pause, more) in pauses {
            let output = now + pause;
            loop {
                let look = rate.wait(now);
                now = look.min(output);
                if now == output {
                    bytes += more;
                }
                if rate.waited(bytes, now) {
                    return Some(now - begun);
                }
                if now == output {
                    break;
                }
            }
        }
        None
    }

    /// R25: a stream is slow within `over` and a fifth of it, whether it trickles or is silent, and not while it is fast.
    #[test]
    fn r25_slow_streams_are_found_within_over_and_a_second() {
        let trickle = (0..100).map(|_| (SECOND, 10));
        assert_eq!(slow_after(trickle), Some(5 * SECOND));
        let fast = (0..1000).map(|_| (Duration::from_millis(20), 4));
        assert_eq!(slow_after(fast), None);
        let exact = (0..100).map(|_| (SECOND, 20));
        assert_eq!(slow_after(exact), None);
        let fast = || (0..500).map(|_| (Duration::from_millis(20), 4));
        let silent = slow_after(fast().chain([(60 * SECOND, 0)])).expect("slow");
        assert!((14 * SECOND..=16 * SECOND).contains(&silent), "{silent:?}");
        let bursts = (0..20).map(|_| (4 * SECOND, 200));
        assert_eq!(slow_after(bursts), None);
    }

    /// R25: only waiting for the upstream counts, however slowly the caller reads.
    #[test]
    fn r25_a_caller_who_reads_slowly_makes_no_upstream_slow() {
        let mut rate = rate();
        let mut now = Instant::now();
        for bytes in 8..2000 {
            rate.wait(now);
            now += Duration::from_millis(1);
            assert!(!rate.waited(bytes, now), "{bytes}");
            now += SECOND;
        }
    }

    #[test]
    fn a_wait_that_no_look_interrupted_is_slow_at_once() {
        let mut rate = rate();
        let now = Instant::now();
        rate.wait(now);
        assert!(rate.waited(8, now + 1000 * SECOND));
        rate.wait(now + 1001 * SECOND);
        assert!(!rate.waited(10_000, now + 1001 * SECOND));
    }
}
