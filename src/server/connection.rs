//! One caller's connection: which HTTP it speaks, what it may cost, and when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::socket::{Http, Socket};
use super::stall::{self, Marking, Watched, WatchedExecutor};
use super::{Bounds, Shutdown};

/// The most streams at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1_000;
/// The most bytes of a request head, and of unsent response bytes that hyper holds per connection.
const BUFFER: usize = 64 * 1024;
/// How long a connection whose peer hung up may still write what it is about to.
const LAST_WORDS: Duration = Duration::from_millis(5);

/// Serves one connection to its end.
pub(super) async fn connection(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    shutdown: Shutdown,
    tasks: TaskTracker,
) {
    let Ok(peer) = stream.peer_addr() else { return };
    let Ok(socket) = Socket::new(stream, bounds.write_stall) else { return };
    let spoken = tokio::select! {
        spoken = timeout(bounds.header_timeout, socket.http()) => spoken,
        () = shutdown.stopping.cancelled() => return,
    };
    let Ok(Ok(http)) = spoken else { return };
    let asked = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&asked);
    let heads = TaskTracker::new();
    let answering = heads.clone();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        first.store(true, Relaxed);
        stall::forget();
        let answered = answering.track_future(router.clone().oneshot(request.map(Body::new)));
        async move {
            answered.await.map(|response: axum::response::Response| response.map(Marking::new))
        }
    });
    let occasions = occasions(&socket, bounds, &shutdown, heads);
    let io = TokioIo::new(socket.clone());
    match http {
        Http::One => {
            let serving =
                one().header_read_timeout(bounds.header_timeout).serve_connection(io, service);
            drive(Watched::new(serving, bounds.write_stall), occasions, &asked).await;
        }
        Http::Two => {
            let executor = WatchedExecutor { tasks, write_stall: bounds.write_stall };
            let serving = two(executor).serve_connection(io, service);
            drive(Watched::new(serving, bounds.write_stall), occasions, &asked).await;
        }
    }
}

/// What may happen to a connection besides its traffic.
#[derive(Debug, Clone, Copy)]
enum Occasion {
    /// The peer has closed its side.
    HungUp,
    /// The time for the first request is over.
    FirstRequestDue,
    /// The process is stopping.
    Stopping,
}

type Occasions = FuturesUnordered<Pin<Box<dyn Future<Output = Occasion> + Send>>>;

/// They are polled only when they have something to say, not with every token.
fn occasions(
    socket: &Socket,
    bounds: Bounds,
    shutdown: &Shutdown,
    heads: TaskTracker,
) -> Occasions {
    let (socket, stopping) = (socket.clone(), shutdown.stopping.clone());
    let occasions = Occasions::new();
    occasions.push(Box::pin(async move {
        socket.hung_up().await;
        Occasion::HungUp
    }));
    occasions.push(Box::pin(async move {
        sleep(bounds.header_timeout).await;
        Occasion::FirstRequestDue
    }));
    occasions.push(Box::pin(async move {
        stopping.cancelled().await;
        // A head written from then on says `connection: close`, past which some clients do not
        // notice that a stream was cut (failure mode 53): requests under way get theirs first.
        heads.close();
        heads.wait().await;
        Occasion::Stopping
    }));
    occasions
}

async fn drive<C: GracefulConnection>(
    mut serving: Watched<C>,
    mut occasions: Occasions,
    asked: &AtomicBool,
) {
    loop {
        let occasion = tokio::select! {
            biased;
            _ = &mut serving => return,
            Some(occasion) = occasions.next() => occasion,
        };
        match occasion {
            Occasion::HungUp => {
                // It may be idle and about to return by itself.
                let _cut = timeout(LAST_WORDS, &mut serving).await;
                return;
            }
            Occasion::FirstRequestDue if !asked.load(Relaxed) => return,
            Occasion::FirstRequestDue => {}
            Occasion::Stopping => serving.inner().graceful_shutdown(),
        }
    }
}

fn one() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // A peer who closes its side is gone, and we watch for that ourselves: hyper's own watch costs
    // a read and a buffer for every request, and does not see past unread bytes.
    builder.timer(TokioTimer::new()).max_buf_size(BUFFER).half_close(true);
    builder
}

fn two(executor: WatchedExecutor) -> http2::Builder<WatchedExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(16 * 1024)
        .max_send_buf_size(BUFFER);
    builder
}
