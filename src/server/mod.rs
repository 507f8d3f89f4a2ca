//! The listening side: accepts connections, bounds what each may cost, and drains them at the end.
//!
//! `axum::serve` has no header timeout, no drain deadline and no hang-up watch (measured), so the
//! accept loop is ours, over hyper-util.

mod connection;
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
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::TaskTracker;

use crate::telemetry::RefusalLog;
use connection::Connection;
use shutdown::CLOSING;
pub use shutdown::Shutdown;

/// The most connections at once; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 50_000;

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
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = Connection {
                    stream,
                    terms: Arc::new(terms()),
                    shutdown: shutdown.clone(),
                    tasks: connections.clone(),
                };
                let router = router.clone();
                // Its future is made inside: one that is given to another is kept twice.
                connections.spawn(async move {
                    connection.serve(router).await;
                    drop(permit);
                });
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
