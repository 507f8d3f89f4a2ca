//! Answers in progress at a target: their effect on its health when they end. They must never count as another start.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::request_queue::QueueShare;
use super::cell::Effect;
use super::{OpenStream, TargetHealth};
use crate::config::{SlowAction, Target};
use crate::error::Error;
use crate::telemetry::SlowStreamLabels;
use crate::wire::chat::Kind;
use crate::wire::encrypted_state::StateDigest;
use crate::wire::tally::Tally;

/// An answer in progress at a target, as long as it lasts.
#[derive(Debug)]
pub struct InProgress {
    _stream: OpenStream,
    health: Arc<TargetHealth>,
    target: Target,
    label: Arc<str>,
    /// Its upstream may store it, under an id that its caller gets.
    is_stored: bool,
    /// Its tokens in the queue that it has waited in.
    share: Option<Box<QueueShare>>,
}

impl InProgress {
    /// An answer whose output has begun. `label`: its target in metrics.
    pub fn new(
        stream: OpenStream,
        health: &Arc<TargetHealth>,
        (target, label): (Target, Arc<str>),
    ) -> Self {
        let health = Arc::clone(health);
        Self { _stream: stream, health, target, label, is_stored: false, share: None }
    }

    /// The same for an answer that its upstream may store, under an id that its caller gets.
    #[must_use]
    pub fn stored(mut self, is_stored: bool) -> Self {
        self.is_stored = is_stored;
        self
    }

    /// The same for a request that has waited in a queue, where its tokens count.
    #[must_use]
    pub fn queued(mut self, share: Option<Box<QueueShare>>) -> Self {
        self.share = share;
        if let Some(share) = &mut self.share {
            share.begun();
        }
        self
    }

    /// The answer is complete.
    pub fn completed(&self, tally: &Tally) {
        let (output, _) = tally.output_tokens();
        let id = tally.id.as_deref().filter(|_| self.is_stored).map(StateDigest::of_response);
        let states = tally.states.iter().copied().chain(id);
        self.health.pins.pin(states, self.target.provider.account, Instant::now());
        if let Some(share) = &self.share {
            share.settle(output);
        }
        self.health.with(&self.target, |known| {
            known.own.complete();
            known.load.completed(output);
            known.streams.0.completed(Instant::now());
        });
    }

    /// The answer has become slow. One that breaks off for it counts as broken.
    pub fn slowed(&self, action: SlowAction, now: Instant) {
        let target = Arc::clone(&self.label);
        let labels = SlowStreamLabels { target, then: action.word() };
        self.health.metrics.slow_streams.get_or_create(&labels).inc();
        if action == SlowAction::Mark {
            self.health.degraded(&self.target, (Effect::Minor, Kind::Timeout), now);
        }
    }

    /// The answer has broken off: it counts against its target, but not as another start.
    pub fn broke(&self, error: &Error) {
        self.health.broke(&self.target, error, Instant::now());
    }
}
