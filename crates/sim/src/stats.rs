//! Counters that show a test what arrived at the upstream, such as a cancellation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

/// The most models whose requests are counted; others are new each time.
const MOST_MODELS: usize = 1024;

/// Counters of one simulated upstream.
#[derive(Debug, Default)]
pub(super) struct Stats {
    requests: AtomicU64,
    open: AtomicU64,
    tokens: AtomicU64,
    cancelled: AtomicU64,
    models: Mutex<HashMap<String, Arc<ModelState>>>,
}

/// The requests for one model so far.
#[derive(Debug)]
pub(super) struct ModelState {
    requests: AtomicU64,
    open: AtomicU64,
    /// The time of the first one.
    pub(super) since: Instant,
}

impl ModelState {
    /// Counts a request and returns its number, starting at 1.
    pub(super) fn arrived(&self) -> u64 {
        self.requests.fetch_add(1, SeqCst).saturating_add(1)
    }
}

/// An answer in progress. It counts as cancelled if it is dropped before its end.
#[derive(Debug)]
pub(super) struct OpenStream {
    stats: Arc<Stats>,
    model: Arc<ModelState>,
    ended: bool,
}

impl Stats {
    /// Counts a request and returns its number, starting at 1.
    pub(super) fn arrived(&self) -> u64 {
        self.requests.fetch_add(1, SeqCst).saturating_add(1)
    }

    /// Counts the start of an answer.
    pub(super) fn begin(self: &Arc<Self>, model: &Arc<ModelState>) -> OpenStream {
        self.open.fetch_add(1, SeqCst);
        model.open.fetch_add(1, SeqCst);
        OpenStream { stats: Arc::clone(self), model: Arc::clone(model), ended: false }
    }

    /// The requests for a model so far.
    pub(super) fn model(&self, name: &str) -> Arc<ModelState> {
        let new = || {
            let (requests, open) = (AtomicU64::default(), AtomicU64::default());
            Arc::new(ModelState { requests, open, since: Instant::now() })
        };
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if !models.contains_key(name) && models.len() >= MOST_MODELS {
            return new();
        }
        Arc::clone(models.entry(name.to_owned()).or_insert_with(new))
    }

    /// JSON of `/_sim/stats`.
    pub(super) fn report(&self) -> Value {
        json!({
            "requests": self.requests.load(SeqCst),
            "open_streams": self.open.load(SeqCst),
            "tokens_sent": self.tokens.load(SeqCst),
            "cancelled_streams": self.cancelled.load(SeqCst),
        })
    }
}

impl OpenStream {
    /// The answers of its model in progress.
    pub(super) fn of_model(&self) -> u64 {
        self.model.open.load(SeqCst)
    }

    /// Counts tokens that are about to be sent.
    pub(super) fn sent(&self, tokens: u64) {
        self.stats.tokens.fetch_add(tokens, SeqCst);
    }

    /// Marks the end of the answer by its program. A later drop does not count as cancelled.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        // The cancellation is counted first, so that a reader who sees no open stream already sees the reason.
        if !self.ended {
            self.stats.cancelled.fetch_add(1, SeqCst);
        }
        self.model.open.fetch_sub(1, SeqCst);
        self.stats.open.fetch_sub(1, SeqCst);
    }
}
