//! Cached metrics page: one rendering at a time, shared by all requests, with a pause after each, so that scrapes cost a
//! bounded share of a core however many there are. It never renders on a thread that serves streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::gateway::state::Gateway;

/// The pause after a rendering, in multiples of its duration: rendering costs a tenth of a core at most.
const PAUSE_FACTOR: u32 = 10;
/// The longest such pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The last page, shared by all listeners.
#[derive(Debug, Default)]
pub struct MetricsPage(Mutex<Option<Page>>);

#[derive(Debug)]
struct Page {
    text: Bytes,
    begun: Instant,
    took: Duration,
}

impl MetricsPage {
    /// A page that is at most `max_age` old, or one whose rendering begins after this call, which all callers that
    /// wait share. `None`: it could not be rendered.
    pub async fn get(&self, gateway: &Gateway, max_age: Duration) -> Option<Bytes> {
        let called = Instant::now();
        let mut last = self.0.lock().await;
        if let Some(Page { text, begun, took }) = &*last {
            let rendered = *begun + *took;
            if *begun > called || rendered.elapsed() < max_age {
                return Some(text.clone());
            }
            sleep_until(rendered + (*took * PAUSE_FACTOR).min(MAX_PAUSE)).await;
        }
        let begun = Instant::now();
        gateway.measure_streams();
        gateway.health.measure(Instant::now());
        gateway.measure_limits().await;
        let metrics = Arc::clone(&gateway.metrics);
        let text = tokio::task::spawn_blocking(move || metrics.render()).await.ok()?;
        let text = Bytes::from(text);
        *last = Some(Page { text: text.clone(), begun, took: begun.elapsed() });
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::server::Shutdown;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_metrics_page_is_cached_for_a_second() {
        let gateway = Gateway::new(Config::default(), &Shutdown::default()).unwrap();
        let cached = MetricsPage::default();
        let page = async |at_least| cached.get(&gateway, at_least).await.unwrap();
        let first = page(SECOND).await;
        gateway.metrics.config_rejected();
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(page(SECOND).await.as_ptr(), first.as_ptr(), "not rendered, not copied");
        tokio::time::advance(Duration::from_millis(1)).await;
        let second = page(SECOND).await;
        assert_ne!(second, first);
        // Age zero: another one.
        gateway.metrics.config_loaded(&Config::default(), 1);
        assert_ne!(page(Duration::ZERO).await, second);
    }
}
