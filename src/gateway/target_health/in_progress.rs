//! Answers in progress at a target: their effect on its health when they end. They must never count as another start.

use std::sync::Arc;

use tokio::time::Instant;

use super::cell::Effect;
use super::{OpenStream, TargetHealth};
use crate::config::{SlowAction, Target};
use crate::error::Error;
use crate::telemetry::SlowStreamLabels;
use crate::wire::chat::Kind;

/// An answer in progress at a target, as long as it lasts.
#[derive(Debug)]
pub struct InProgress {
    _stream: OpenStream,
    health: Arc<TargetHealth>,
    target: Target,
    label: Arc<str>,
}

impl InProgress {
    /// An answer whose output has begun. `label`: its target in metrics.
    pub fn new(
        stream: OpenStream,
        health: &Arc<TargetHealth>,
        (target, label): (Target, Arc<str>),
    ) -> Self {
        Self { _stream: stream, health: Arc::clone(health), target, label }
    }

    /// The answer is complete, with so many tokens of output.
    pub fn completed(&self, output: u64) {
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
