//! Alarm of a production: its timer, and the signal that the process is stopping. It must never be polled for each token.

use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The timer and the shutdown signal of a production.
pub(super) struct Alarm {
    pub(super) timer: Pin<Box<Sleep>>,
    /// Whether the timer is set to a time that is not too late.
    pub(super) set: bool,
    /// Polled only when it was woken, not with every token.
    pub(super) closing: FuturesUnordered<WaitForCancellationFutureOwned>,
}

impl Alarm {
    pub(super) fn new(closing: &CancellationToken) -> Self {
        Self {
            timer: Box::pin(sleep_until(Instant::now())),
            set: false,
            closing: FuturesUnordered::from_iter([closing.clone().cancelled_owned()]),
        }
    }

    /// Whether the timer must be set, so that it fires by this time. One that fires too early is set again then: output
    /// moves deadlines, and a token sets no timer.
    pub(super) fn is_late(&self, until: Option<Instant>) -> bool {
        !self.set || until.is_some_and(|until| until < self.timer.deadline())
    }

    pub(super) fn set(&mut self, at: Instant) {
        self.timer.as_mut().reset(at);
        self.set = true;
    }

    /// Waits for a future, but no longer than to the time that is given.
    pub(super) async fn wait<T>(
        &mut self,
        future: impl Future<Output = T>,
        until: Option<Instant>,
    ) -> Waited<T> {
        if let Some(until) = until
            && self.is_late(Some(until))
        {
            self.set(until);
        }
        tokio::select! {
            biased;
            done = future => Waited::Done(done),
            Some(()) = self.closing.next() => Waited::Closing,
            () = self.timer.as_mut(), if until.is_some() => {
                self.set = false;
                Waited::Idle
            }
        }
    }
}

/// The end of a wait.
pub(super) enum Waited<T> {
    /// The future has resolved.
    Done(T),
    /// The time is over.
    Idle,
    /// The process is stopping.
    Closing,
}
