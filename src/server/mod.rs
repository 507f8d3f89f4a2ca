//! The listening side: accepts connections, bounds what each may cost, and drains them at the end.
//!
//! `axum::serve` has no header timeout, no drain deadline and no hang-up watch (measured), so the
//! accept loop is ours, over hyper-util.

mod connection;
mod connection_limit;
mod head;
pub mod request_head;
pub mod shutdown;
mod socket;
mod stall;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::TaskTracker;

use crate::telemetry::RefusalLog;
use connection::Connection;
pub use connection_limit::ConnectionLimit;
use shutdown::CLOSING;
pub use shutdown::Shutdown;

/// On what terms a connection is served, from its first byte to its last.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long a request's head may take from its first byte, and how long a new connection may be
    /// without a request.
    pub header_timeout: Duration,
    /// How long a connection that has served a request may be without another.
    pub idle_timeout: Duration,
    /// How long a caller may leave written bytes unread.
    pub write_stall: Duration,
    /// How TLS is spoken; without it, everything is plain text.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where connections of the wrong kind are recorded.
    pub refusals: Arc<RefusalLog>,
    /// How many there may be; further ones wait in the listener's queue.
    pub connections: Arc<ConnectionLimit>,
}

/// Serves until `shutdown.stopping`, then lets streams run on for `drain`, then ends them. Returns
/// when all connections are closed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    terms: impl Fn() -> Terms,
    shutdown: Shutdown,
    drain: impl Fn() -> Duration,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let terms = Arc::new(terms());
                let place = tokio::select! {
                    biased;
                    () = shutdown.stopping.cancelled() => break,
                    place = terms.connections.enter() => place,
                };
                let Some(place) = place else { break };
                let connection = Connection {
                    stream,
                    terms,
                    place,
                    shutdown: shutdown.clone(),
                    tasks: connections.clone(),
                };
                let router = router.clone();
                // Its future is made inside: one that is given to another is kept twice.
                connections.spawn(async move { connection.serve(router).await });
            }
            // Out of file descriptors, or a peer that left at once: the next one may do better.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(drain(), connections.wait()).await.is_err() {
        shutdown.closing.cancel();
        if timeout(CLOSING, connections.wait()).await.is_err() {
            tracing::warn!(open = connections.len(), "connections did not close in time");
        }
    }
}
