//! Counters that let a test see from outside what arrived, such as a cancel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde_json::{Value, json};

/// The counters of one simulated upstream.
#[derive(Debug, Default)]
pub(super) struct Stats {
    requests: AtomicU64,
    open: AtomicU64,
    tokens: AtomicU64,
    cancelled: AtomicU64,
}

/// An answer under way. Dropped before its end it counts as cancelled.
#[derive(Debug)]
pub(super) struct OpenStream {
    stats: Arc<Stats>,
    ended: bool,
}

impl Stats {
    /// The number of a new request, from one.
    pub(super) fn arrived(&self) -> u64 {
        self.requests.fetch_add(1, SeqCst).saturating_add(1)
    }

    /// An answer begins.
    pub(super) fn begin(self: &Arc<Self>) -> OpenStream {
        self.open.fetch_add(1, SeqCst);
        OpenStream { stats: Arc::clone(self), ended: false }
    }

    /// What `/_sim/stats` says.
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
    /// So many tokens are about to be sent.
    pub(super) fn sent(&self, tokens: u64) {
        self.stats.tokens.fetch_add(tokens, SeqCst);
    }

    /// The answer ends as its program says; nothing that follows is a cancel.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        // Cancelled first: a reader who sees no open stream must already see why.
        if !self.ended {
            self.stats.cancelled.fetch_add(1, SeqCst);
        }
        self.stats.open.fetch_sub(1, SeqCst);
    }
}
