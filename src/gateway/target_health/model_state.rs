//! State of models, which all their requests share: the position in the rotation of their targets, the retry budget, the
//! queue, the mirrored requests. It must never hold a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::super::mirror::{Mirrored, MirroredBytes};
use super::super::request_queue::RequestQueue;
use super::{RetryBudget, TargetHealth};
use crate::config::Config;

/// The state of one model.
#[derive(Debug)]
pub(super) struct ModelState {
    turn: AtomicUsize,
    budget: Arc<RetryBudget>,
    queue: Arc<RequestQueue>,
    mirrored: Arc<Mirrored>,
}

impl TargetHealth {
    /// Makes the state of new models; that of the others goes on.
    pub(super) fn keep_models(&self, config: &Config) {
        let before = self.models.load();
        let patterns = config.patterns.iter().map(|pattern| &pattern.pattern);
        let state = |model: &String| {
            let known = before.get(model.as_str()).map(Arc::clone);
            let new = || ModelState {
                turn: AtomicUsize::default(),
                budget: Arc::new(RetryBudget::new(self.epoch)),
                queue: Arc::new(RequestQueue::new(Arc::clone(&self.freed))),
                mirrored: Arc::default(),
            };
            (model.as_str().into(), known.unwrap_or_else(|| Arc::new(new())))
        };
        let models = config.models.keys().chain(patterns).map(state).collect();
        self.models.store(Arc::new(models));
    }

    /// The retry budget of a model. `None`: callers name the target themselves.
    pub fn budget(&self, model: &str) -> Option<Arc<RetryBudget>> {
        self.models.load().get(model).map(|state| Arc::clone(&state.budget))
    }

    /// The queue of a model. `None`: callers name the target themselves.
    pub fn queue(&self, model: &str) -> Option<Arc<RequestQueue>> {
        self.models.load().get(model).map(|state| Arc::clone(&state.queue))
    }

    /// The mirrored requests of a model, and the bytes of those of all. `None`: callers name the target themselves.
    pub fn mirrored(&self, model: &str) -> Option<(Arc<Mirrored>, Arc<MirroredBytes>)> {
        let models = self.models.load();
        Some((Arc::clone(&models.get(model)?.mirrored), Arc::clone(&self.mirrored_bytes)))
    }

    /// The next position in the rotation of a model.
    pub fn turn(&self, model: &str) -> usize {
        self.models.load().get(model).map_or(0, |state| state.turn.fetch_add(1, Relaxed))
    }
}
