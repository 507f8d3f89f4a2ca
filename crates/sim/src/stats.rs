//! Counters that show a test what arrived at the upstream, such as a cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde_json::{Value, json};

/// Counters of one simulated upstream.
#[derive(Debug, Default)]
pub(super) struct Stats {
    requests: AtomicU64,
    open: AtomicU64,
    tokens: AtomicU64,
    cancelled: AtomicU64,
}

/// An answer in progress. It counts as cancelled if it is dropped before its end.
#[derive(Debug)]
pub(super) struct OpenStream {
    stats: Arc<Stats>,
    ended: bool,
}

impl Stats {
    /// Counts a request and returns its number, starting at 1.
    pub(super) fn arrived(&self) -> u64 {
        self.requests.fetch_add(1, SeqCst).saturating_add(1)
    }

    /// Counts the start of an answer.
    pub(super) fn begin(self: &Arc<Self>) -> OpenStream {
        self.open.fetch_add(1, SeqCst);
        OpenStream { stats: Arc::clone(self), ended: false }
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
        self.stats.open.fetch_sub(1, SeqCst);
    }
}
