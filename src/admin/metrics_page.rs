//! The metrics page: rendered at most once at a time, and reused, so that scrapes cost a bounded share of
//! a core however many there are. It never renders on a thread that serves streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::app::App;

/// A page is reused for this many times the time that it took: a twentieth of a core is the most that
/// rendering costs.
const COST: u32 = 20;
/// The longest that a page is reused.
const OLDEST: Duration = Duration::from_secs(1);

/// The last page, shared by all listeners.
#[derive(Debug, Default)]
pub struct MetricsPage(Mutex<Option<Page>>);

#[derive(Debug)]
struct Page {
    text: Bytes,
    rendered: Instant,
    took: Duration,
}

impl MetricsPage {
    /// The page, not older than a second; one that is not older than `at_least` is not rendered anew.
    /// `None`: it could not be rendered.
    pub async fn get(&self, app: &App, at_least: Duration) -> Option<Bytes> {
        let mut last = self.0.lock().await;
        if let Some(Page { text, rendered, took }) = &*last
            && rendered.elapsed() < at_least.max(*took * COST).min(OLDEST)
        {
            return Some(text.clone());
        }
        let begun = Instant::now();
        app.measure_limits().await;
        let metrics = Arc::clone(&app.metrics);
        let text = tokio::task::spawn_blocking(move || metrics.render()).await.ok()?;
        let text = Bytes::from(text);
        let rendered = Instant::now();
        *last = Some(Page { text: text.clone(), rendered, took: rendered - begun });
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::server::Shutdown;

    #[tokio::test(start_paused = true)]
    async fn f11_a_page_is_reused_for_a_second() {
        let app = App::new(Config::default(), &Shutdown::default()).unwrap();
        let page = async |at_least| app.metrics_page.get(&app, at_least).await.unwrap();
        let first = page(OLDEST).await;
        app.metrics.config_rejected();
        tokio::time::advance(OLDEST - Duration::from_millis(1)).await;
        assert_eq!(page(OLDEST).await.as_ptr(), first.as_ptr(), "not rendered, not copied");
        tokio::time::advance(Duration::from_millis(1)).await;
        let second = page(OLDEST).await;
        assert_ne!(second, first);
        // It took no time, so that who must not miss anything pays for another one.
        app.metrics.config_loaded(&Config::default(), 1);
        assert_ne!(page(Duration::ZERO).await, second);
    }
}
