//! Wake-up of a subscriber: one wait for all its sources. It must never allocate for an event.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::futures::Notified;

use super::source::Source;

/// A wait for several sources. It is armed as soon as it is made: read after that, and nothing is missed.
pub struct Wakeup<'s> {
    waits: Vec<(&'s Arc<dyn Source>, Pin<Box<Notified<'s>>>)>,
}

impl<'s> Wakeup<'s> {
    /// Waits for these sources.
    pub fn new(sources: impl IntoIterator<Item = &'s Arc<dyn Source>>) -> Self {
        let wait = |source: &'s Arc<dyn Source>| (source, Box::pin(source.appended()));
        Self { waits: sources.into_iter().map(wait).collect() }
    }

    /// Resolves when one of the sources has been appended to since this was made, or resolved last. It is armed again
    /// before it resolves.
    pub async fn woken(&mut self) {
        poll_fn(|cx| self.poll_woken(cx)).await;
    }

    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut woken = Poll::Pending;
        for (source, wait) in &mut self.waits {
            if wait.as_mut().poll(cx).is_ready() {
                wait.set(source.appended());
                woken = Poll::Ready(());
            }
        }
        woken
    }
}
