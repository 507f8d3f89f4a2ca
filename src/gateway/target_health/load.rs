//! Load of one target: its answers in progress, and an estimate of its time to first token. Atomics, which an attempt
//! touches when it begins, at its first output and when it ends, and no token does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::learned_limit::AccountStreams;
use super::ttft::{FirstTokenTimes, PromptSize};
use super::{Deployment, TargetHealth};
use crate::config::Target;

/// An answer weighs this much in the average of outputs: one in so many.
const OUTPUTS: u64 = 8;

/// The load of a target.
#[derive(Debug)]
pub(super) struct Load {
    open: AtomicU32,
    waiting: AtomicU32,
    ttft: [FirstTokenTimes; PromptSize::COUNT],
    /// The last output or beginning of a wait, in milliseconds since `epoch`.
    moved: AtomicU64,
    /// The average output of complete answers in tokens; 0: unknown.
    output: AtomicU64,
    epoch: Instant,
}

impl Load {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            open: AtomicU32::default(),
            waiting: AtomicU32::default(),
            ttft: Default::default(),
            moved: AtomicU64::default(),
            output: AtomicU64::default(),
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

    fn times(&self, prompt: PromptSize) -> &FirstTokenTimes {
        let [small, medium, large, huge] = &self.ttft;
        match prompt {
            PromptSize::Small => small,
            PromptSize::Medium => medium,
            PromptSize::Large => large,
            PromptSize::Huge => huge,
        }
    }

    /// The estimated time to first token in seconds, and how much it counts, from 0 to 1. Attempts that wait without
    /// output count before they end, so that a target that hangs is avoided before its timeout.
    pub(super) fn ttft(&self, prompt: PromptSize, now: Instant) -> (f64, f64) {
        let millis = self.millis(now);
        let silent = if self.waiting.load(Relaxed) > 0 {
            Duration::from_millis(millis.saturating_sub(self.moved.load(Relaxed))).as_secs_f64()
        } else {
            0.0
        };
        let (seconds, trust) = self.times(prompt).average(millis);
        if silent > seconds { (silent, silent.min(1.0).max(trust)) } else { (seconds, trust) }
    }

    /// The time within which this part of its answers to such prompts begins, if it is known.
    pub(super) fn percentile(&self, prompt: PromptSize, part: f64) -> Option<Duration> {
        self.times(prompt).percentile(part)
    }

    /// The output of a typical answer in tokens, if it is known.
    pub(super) fn typical_output(&self) -> Option<u64> {
        Some(self.output.load(Relaxed)).filter(|tokens| *tokens > 0)
    }

    /// A complete answer had so many tokens. Two at once may lose one, which is no harm.
    pub(super) fn completed(&self, output: u64) {
        let before = self.typical_output().unwrap_or(output);
        let average = before - before / OUTPUTS + output / OUTPUTS;
        self.output.store(average.max(1), Relaxed);
    }
}

/// One answer in progress at a target, from the beginning of its attempt until it is dropped.
#[derive(Debug)]
pub struct OpenStream {
    load: Arc<Load>,
    account: Arc<AccountStreams>,
    begun: Instant,
    prompt: PromptSize,
    waits: bool,
}

impl OpenStream {
    /// `None`: the account has `most` answers in progress, or as many as its upstream takes.
    pub(super) fn begin(
        load: &Arc<Load>,
        (account, most): (&Arc<AccountStreams>, (Option<usize>, bool)),
        (prompt, now): (PromptSize, Instant),
    ) -> Option<Self> {
        if !account.begin(most, now) {
            return None;
        }
        load.open.fetch_add(1, Relaxed);
        if load.waiting.fetch_add(1, Relaxed) == 0 {
            load.moved.store(load.millis(now), Relaxed);
        }
        let (load, account) = (Arc::clone(load), Arc::clone(account));
        Some(Self { load, account, begun: now, prompt, waits: true })
    }

    /// Its first output has come. `whole`: it is all of the answer, whose time says nothing of the first token.
    pub fn has_output(&mut self, whole: bool, now: Instant) {
        if self.end_wait() {
            let millis = self.load.millis(now);
            self.load.moved.store(millis, Relaxed);
            if !whole {
                let ttft = now.saturating_duration_since(self.begun);
                self.load.times(self.prompt).sample(ttft, millis);
            }
        }
    }

    /// Another attempt has answered first: it would have taken longer than this.
    pub fn superseded(&mut self, now: Instant) {
        if self.end_wait() {
            let waited = now.saturating_duration_since(self.begun);
            self.load.times(self.prompt).at_least(waited, self.load.millis(now));
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
        self.account.end();
    }
}

impl TargetHealth {
    /// Begins an answer at a target, which is `alone` if no other one could serve the request. `None`: its credential has
    /// as many in progress as it may.
    pub fn begin(
        &self,
        (target, alone): (&Target, bool),
        (prompt, now): (PromptSize, Instant),
    ) -> Option<OpenStream> {
        let begin = |known: &Deployment| {
            OpenStream::begin(
                &known.load,
                (&known.streams.0, (known.streams.1, alone)),
                (prompt, now),
            )
        };
        // One that a reload has just removed is counted nowhere else.
        let unknown = || {
            let load = Arc::new(Load::new(self.epoch));
            OpenStream::begin(&load, (&Arc::default(), (None, alone)), (prompt, now))
        };
        self.with(target, begin).unwrap_or_else(unknown)
    }

    /// Whether a target has as many answers in progress as its credential may.
    pub fn is_full(&self, target: &Target) -> bool {
        let has_room = |known: &Deployment| known.streams.0.has_room(known.streams.1);
        self.with(target, has_room) == Some(false)
    }

    /// The answers in progress at a target.
    pub fn open_streams(&self, target: &Target) -> u32 {
        self.with(target, |known| known.load.open()).unwrap_or_default()
    }

    /// The estimated time to first token of a target in seconds, for prompts of a size, and how much it counts, from 0
    /// to 1.
    pub fn ttft(&self, target: &Target, prompt: PromptSize, now: Instant) -> (f64, f64) {
        self.with(target, |known| known.load.ttft(prompt, now)).unwrap_or_default()
    }

    /// The time within which this part of a target's answers begins, for prompts of a size, if it is known.
    pub fn ttft_percentile(
        &self,
        target: &Target,
        (prompt, part): (PromptSize, f64),
    ) -> Option<Duration> {
        self.with(target, |known| known.load.percentile(prompt, part))?
    }

    /// The output of a typical answer of a target in tokens, if it is known.
    pub fn typical_output(&self, target: &Target) -> Option<u64> {
        self.with(target, |known| known.load.typical_output())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(load: &Arc<Load>, account: &Arc<AccountStreams>, now: Instant) -> OpenStream {
        OpenStream::begin(load, (account, (None, false)), (PromptSize::Small, now)).unwrap()
    }

    /// R11: open streams are guards, which every way out returns.
    #[test]
    fn r11_open_streams_are_zero_after_all_are_dropped() {
        let now = Instant::now();
        let (load, account) = (Arc::new(Load::new(now)), Arc::<AccountStreams>::default());
        let mut open: Vec<_> = (0..100).map(|_| guard(&load, &account, now)).collect();
        open.iter_mut().step_by(3).for_each(|stream| stream.has_output(false, now));
        assert_eq!((load.open(), account.open()), (100, 100));
        assert!(
            OpenStream::begin(&load, (&account, (Some(100), false)), (PromptSize::Small, now))
                .is_none()
        );
        open.truncate(10);
        assert_eq!((load.open(), account.open()), (10, 10));
        open.clear();
        assert_eq!((load.open(), account.open(), load.waiting.load(Relaxed)), (0, 0, 0));
    }

    /// R12: a whole answer says nothing of the time to first token, and times are kept apart by prompt size.
    #[test]
    fn r12_times_are_those_of_first_tokens_to_prompts_of_a_size() {
        let now = Instant::now();
        let (load, account) = (Arc::new(Load::new(now)), Arc::<AccountStreams>::default());
        let later = now + Duration::from_secs(2);
        guard(&load, &account, now).has_output(true, later);
        assert_eq!(load.ttft(PromptSize::Small, later), (0.0, 0.0));
        guard(&load, &account, now).has_output(false, later);
        assert_eq!(load.ttft(PromptSize::Small, later), (2.0, 1.0));
        assert_eq!(load.ttft(PromptSize::Huge, later), (0.0, 0.0));
        let mut lost = guard(&load, &account, now);
        lost.superseded(now + Duration::from_secs(4));
        drop(lost);
        assert!((load.ttft(PromptSize::Small, later).0 - 3.0).abs() < 1e-6);
    }

    #[test]
    fn the_typical_output_follows_complete_answers() {
        let load = Load::new(Instant::now());
        assert_eq!(load.typical_output(), None);
        load.completed(800);
        assert_eq!(load.typical_output(), Some(800));
        load.completed(0);
        assert_eq!(load.typical_output(), Some(700));
    }

    /// R13: a target that hangs is slow before its timeout; cancelled attempts teach nothing.
    #[test]
    fn r13_waiting_counts_as_time_to_first_token() {
        let now = Instant::now();
        let (load, account) = (Arc::new(Load::new(now)), Arc::<AccountStreams>::default());
        assert_eq!(load.ttft(PromptSize::Small, now), (0.0, 0.0), "unknown");
        let hanging = guard(&load, &account, now);
        let later = now + Duration::from_secs(2);
        assert_eq!(load.ttft(PromptSize::Small, later), (2.0, 1.0));
        drop(hanging);
        assert_eq!(load.ttft(PromptSize::Small, later), (0.0, 0.0));
    }
}
