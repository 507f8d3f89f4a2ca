//! HTTP server: accepts connections, bounds what each may cost, and drains them at a shutdown. It knows no path and
//! no credential: requests go to a router.
//!
//! `axum::serve` has no header timeout, no drain deadline and no hang-up watch (measured), so the
//! accept loop is our own, over hyper-util.

mod connection;
mod connection_limit;
mod head_timeout;
pub mod request_head;
pub mod shutdown;
mod socket;
mod transport;
mod write_timeout;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::TaskTracker;

use crate::telemetry::RefusalLog;
use connection::Connection;
pub use connection_limit::ConnectionLimit;
use shutdown::CLOSE_TIMEOUT;
pub use shutdown::Shutdown;

/// The pause of the accept loop after an error, such as a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The timeouts, TLS settings and limits of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// The time for a request's head, from its first byte, and for the first request of a new connection.
    pub header_timeout: Duration,
    /// The longest idle time of a connection that has served a request.
    pub idle_timeout: Duration,
    /// The longest time for which a peer may leave written bytes unread.
    pub write_stall: Duration,
    /// The TLS configuration; `None` for plain text.
    pub tls: Option<Arc<ServerConfig>>,
    /// Records connections that speak TLS to a plain port, or the reverse.
    pub refusals: Arc<RefusalLog>,
    /// The limit of open connections; further ones wait in the listener's queue.
    pub connections: Arc<ConnectionLimit>,
}

/// Serves until `shutdown.stopping`, then lets streams continue for `drain`, then ends them. Returns
/// when all connections are closed: the part of the drain time that is left. `config` is called for each connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: impl Fn() -> ConnectionConfig,
    shutdown: Shutdown,
    drain: impl Fn() -> Duration,
) -> Duration {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let config = Arc::new(config());
                let permit = tokio::select! {
                    biased;
                    () = shutdown.stopping.cancelled() => break,
                    permit = config.connections.acquire() => permit,
                };
                let Some(permit) = permit else { break };
                let connection = Connection {
                    stream,
                    config,
                    permit,
                    shutdown: shutdown.clone(),
                    tasks: connections.clone(),
                };
                let router = router.clone();
                // Its future is made inside: one that is moved into another is stored twice.
                connections.spawn(async move { connection.serve(router).await });
            }
            // Out of file descriptors, or a peer that left at once: the next one may succeed.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let until = Instant::now() + drain();
    if timeout_at(until, connections.wait()).await.is_err() {
        shutdown.closing.cancel();
        if timeout(CLOSE_TIMEOUT, connections.wait()).await.is_err() {
            tracing::warn!(open = connections.len(), "connections did not close in time");
        }
    }
    until.saturating_duration_since(Instant::now())
}
