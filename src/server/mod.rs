//! The listening side: accepts connections, bounds what each may cost, and drains them at the end.
//!
//! `axum::serve` has no header timeout, no drain deadline and no hang-up watch (measured), so the
//! accept loop is ours, over hyper-util.

mod socket;
mod stall;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use socket::Socket;
use stall::{Marking, Watched, WatchedExecutor};

/// The most connections at once; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 50_000;
/// The most streams at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1_000;
/// The most bytes of a request head, and of unsent response bytes that hyper holds per connection.
const BUFFER: usize = 64 * 1024;
/// How long a connection whose peer hung up may still write what it is about to.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// How long connections have to close after the streams on them were ended.
const CLOSING: Duration = Duration::from_secs(5);

/// What bounds a connection.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a caller may leave written bytes unread.
    pub write_stall: Duration,
}

/// The steps of a shutdown, shared with whoever must know.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled first: nothing new begins.
    pub stopping: CancellationToken,
    /// Cancelled when the drain time is over: every stream still open ends with an error.
    pub closing: CancellationToken,
}

/// Serves until `shutdown.stopping`, then lets streams run on for `drain`, then ends them. Returns
/// when all connections are closed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: impl Fn() -> Bounds,
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
                let serving = connection(
                    stream,
                    router.clone(),
                    bounds(),
                    shutdown.clone(),
                    connections.clone(),
                );
                connections.spawn(async move {
                    serving.await;
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

async fn connection(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    shutdown: Shutdown,
    tasks: TaskTracker,
) {
    let Ok(socket) = Socket::new(stream, bounds.write_stall) else {
        return;
    };
    let asked = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&asked);
    let heads = TaskTracker::new();
    let awaited = heads.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        first.store(true, Relaxed);
        let answered = heads.track_future(router.clone().oneshot(request.map(Body::new)));
        async move { answered.await.map(|response: axum::response::Response| response.map(Marking)) }
    });
    let builder = builder(bounds, tasks);
    let serving = builder.serve_connection(TokioIo::new(socket.clone()), service);
    let mut serving = Watched::new(serving, bounds.write_stall);
    let mut hung_up = pin!(socket.hung_up());
    // A head written from then on says `connection: close`, past which some clients do not notice
    // that a stream was cut (failure mode 53): requests under way get theirs first.
    let mut stopping = pin!(async {
        shutdown.stopping.cancelled().await;
        awaited.close();
        awaited.wait().await;
    });
    let mut first_request = pin!(sleep(bounds.header_timeout));
    let mut stopped = false;
    let mut waiting = true;
    loop {
        tokio::select! {
            biased;
            _ = &mut serving => return,
            () = &mut hung_up => {
                // Hyper mostly knows already and is about to return.
                let _cut = timeout(LAST_WORDS, &mut serving).await;
                return;
            }
            () = &mut first_request, if waiting => {
                waiting = false;
                if !asked.load(Relaxed) {
                    return;
                }
            }
            () = &mut stopping, if !stopped => {
                stopped = true;
                serving.inner().graceful_shutdown();
            }
        }
    }
}

fn builder(bounds: Bounds, tasks: TaskTracker) -> Builder<WatchedExecutor> {
    let mut builder = Builder::new(WatchedExecutor { tasks, write_stall: bounds.write_stall });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_buf_size(BUFFER)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(16 * 1024)
        .max_send_buf_size(BUFFER);
    builder
}
