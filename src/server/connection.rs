//! One connection of a client: its HTTP version, its timeouts, and its end. It never looks into a request: those go to the
//! router.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower::ServiceExt;

use super::connection_limit::ConnectionPermit;
use super::head_timeout::{HeadStarted, HeadTimer, HeadWatch};
use super::socket::Socket;
use super::transport::{self, HttpVersion, Negotiation, Transport};
use super::write_timeout::{self, TrackedBody, WithWriteTimeout, WriteTimeoutExecutor};
use super::{ConnectionConfig, Shutdown};
use crate::telemetry::RefusalSource;

/// The most streams at once on one HTTP/2 connection.
const MAX_HTTP2_STREAMS: u32 = 1_000;
/// The most bytes of a request head.
const MAX_HEAD_BYTES: u32 = 32 * 1024;
/// The most bytes that hyper buffers per connection, unread by the application or unsent.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// The number of times that a connection is examined within its idle timeout. It may be kept for one interval longer,
/// and no request pays for more than a count.
const IDLE_CHECKS: u32 = 4;
/// The longest that an HTTP/2 connection without responses stays open during a shutdown, for its peer to read the
/// last bytes and to acknowledge the GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval at which an HTTP/1.1 connection without responses is examined during a shutdown.
const SHUTDOWN_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// The time for which a peer's bytes are read and discarded during a shutdown, after its last response.
const SHUTDOWN_LINGER: Duration = Duration::from_secs(1);
/// The time that a connection whose peer has closed its side has to write, or to read what has already arrived.
const FLUSH_GRACE: Duration = Duration::from_millis(5);

/// An accepted connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Not shared: a pointer, because a connection's future holds it more than once.
    pub(super) config: Arc<ConnectionConfig>,
    /// Its permit among all connections.
    pub(super) permit: ConnectionPermit,
    pub(super) shutdown: Shutdown,
    /// Owns the tasks that HTTP/2 and the watches run beside the connection.
    pub(super) tasks: TaskTracker,
}

/// The way in which the socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    /// After the peer had time to read the last response.
    Linger,
    /// At once.
    Abort,
}

/// The context that the functions that serve a connection share.
struct Served<'c> {
    socket: &'c Socket,
    config: &'c ConnectionConfig,
    permit: &'c ConnectionPermit,
    shutdown: &'c Shutdown,
    tasks: &'c TaskTracker,
    peer: SocketAddr,
}

impl Connection {
    /// Serves it to its end.
    pub(super) async fn serve(self, router: Router) {
        let Self { stream, config, permit, shutdown, tasks } = self;
        let Ok(peer) = stream.peer_addr() else { return };
        let Ok(socket) = Socket::new(stream, config.write_stall) else { return };
        // Boxed, since the connection would keep room for a TLS handshake for as long as it lives.
        let negotiation = Box::pin(transport::negotiate(&socket, config.tls.clone()));
        let negotiated = tokio::select! {
            negotiated = timeout(config.header_timeout, negotiation) => negotiated,
            () = permit.evicted.cancelled() => return,
            () = shutdown.stopping.cancelled() => return,
        };
        let close = match negotiated {
            Ok(Ok(Negotiation::Ready { transport, version })) => {
                let served = Served {
                    socket: &socket,
                    config: &config,
                    permit: &permit,
                    shutdown: &shutdown,
                    tasks: &tasks,
                    peer,
                };
                served.serve_requests(transport, version, router).await
            }
            Ok(Ok(Negotiation::WrongPort(reason))) => {
                config.refusals.record(
                    reason,
                    &RefusalSource { peer: Some(peer), ..RefusalSource::default() },
                );
                Close::Linger
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, %peer, "connection closed before its first request");
                Close::Linger
            }
            Err(_timeout) => Close::Abort,
        };
        if close == Close::Linger {
            let stopped = async {
                shutdown.stopping.cancelled().await;
                sleep(SHUTDOWN_LINGER).await;
            };
            tokio::select! {
                _bounded = timeout(config.header_timeout, socket.linger()) => {}
                () = permit.evicted.cancelled() => {}
                () = stopped => {}
            }
        }
    }
}

/// Counts the requests of one connection. One pointer, since an idle connection keeps several.
#[derive(Clone, Default)]
pub(super) struct RequestCounters(Arc<Counters>);

impl RequestCounters {
    /// Whether there was no request yet.
    pub(super) fn has_none(&self) -> bool {
        self.0.total.load(Relaxed) == 0
    }

    /// Whether no request, and no head of one, is in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.0.in_progress.is_empty() && !self.0.head_started.get()
    }
}

#[derive(Default)]
struct Counters {
    /// All requests so far.
    total: AtomicU64,
    /// Those without a response head.
    awaiting_head: TaskTracker,
    /// Those whose response has not ended.
    in_progress: TaskTracker,
    /// Whether the head of the next one has started to arrive, over HTTP/1.1.
    head_started: HeadStarted,
}

impl Served<'_> {
    /// Passes all requests of the connection to the router.
    async fn serve_requests(
        &self,
        transport: Transport,
        version: HttpVersion,
        router: Router,
    ) -> Close {
        let watch = self.watch();
        let (peer, requests) = (self.peer, self.permit.requests.clone());
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            requests.0.total.fetch_add(1, Relaxed);
            write_timeout::reset();
            let in_progress = requests.0.in_progress.token();
            // Boxed, since the connection keeps room for this future for as long as it lives.
            let response = Box::pin(router.clone().oneshot(request.map(Body::new)));
            let response = requests.0.awaiting_head.track_future(response);
            async move {
                let response: axum::response::Response = response.await?;
                Ok::<_, Infallible>(response.map(|body| TrackedBody::new(body, in_progress)))
            }
        });
        let header_timeout = self.config.header_timeout;
        let write_stall = self.config.write_stall;
        match version {
            HttpVersion::Http1 => {
                let started = self.permit.requests.0.head_started.clone();
                let timer = HeadTimer { started: started.clone(), timeout: header_timeout };
                let connection = http1_builder(&transport)
                    .timer(timer)
                    .header_read_timeout(header_timeout)
                    .serve_connection(TokioIo::new(HeadWatch { transport, started }), service);
                let connection = WithWriteTimeout::new(connection, write_stall);
                self.run(connection, watch, SHUTDOWN_CHECK_INTERVAL).await
            }
            HttpVersion::Http2 => {
                let executor = WriteTimeoutExecutor { tasks: self.tasks.clone(), write_stall };
                let connection =
                    http2_builder(executor).serve_connection(TokioIo::new(transport), service);
                let connection = WithWriteTimeout::new(connection, write_stall);
                self.run(connection, watch, GOAWAY_TIMEOUT).await
            }
        }
    }

    /// Runs a connection to its end. `linger`: how long it may stay open during a shutdown without a response in
    /// progress.
    async fn run<C: GracefulConnection<Error = hyper::Error>>(
        &self,
        mut connection: WithWriteTimeout<C>,
        mut watch: ConnectionWatch,
        linger: Duration,
    ) -> Close {
        let mut evicted = false;
        loop {
            let event = tokio::select! {
                biased;
                ended = &mut connection => {
                    // If another connection waits for this one's room, there is no time to linger.
                    return if evicted { Close::Abort } else { close_after(ended) };
                }
                // Without tokio's budget, which a peer that sends without a pause has always used up.
                event = unconstrained(&mut watch) => event,
            };
            match event {
                Ok(
                    event @ (ConnectionEvent::Idle
                    | ConnectionEvent::Evicted
                    | ConnectionEvent::Stopping),
                ) => {
                    evicted = matches!(event, ConnectionEvent::Evicted);
                    connection.inner().graceful_shutdown();
                    watch = self.watch_shutdown(linger);
                }
                // A slow reader still gets the end of its response, and a head may just have been completed.
                Ok(ConnectionEvent::Finished)
                    if connection.has_unsent()
                        || !self.permit.requests.0.in_progress.is_empty() =>
                {
                    watch = self.watch_shutdown(linger);
                }
                Ok(ConnectionEvent::HungUp) => {
                    // It may be idle and about to return by itself.
                    let _flushed = timeout(FLUSH_GRACE, &mut connection).await;
                    return Close::Abort;
                }
                Ok(ConnectionEvent::NoRequest | ConnectionEvent::Finished) | Err(_) => {
                    return Close::Abort;
                }
            }
        }
    }
}

/// Events of a connection other than its traffic.
#[derive(Debug, Clone, Copy)]
enum ConnectionEvent {
    /// The peer has closed its side.
    HungUp,
    /// There was no request within the time for the first one.
    NoRequest,
    /// There was no request for the idle timeout.
    Idle,
    /// It is idle, and another connection needs its room.
    Evicted,
    /// The process is stopping.
    Stopping,
    /// The process is stopping, and no response is in progress.
    Finished,
}

/// Waits for the next event. It is a task, so that passing tokens touch none of it, and it ends with the connection.
type ConnectionWatch = AbortOnDropHandle<ConnectionEvent>;

impl Served<'_> {
    /// Waits for the first event.
    fn watch(&self) -> ConnectionWatch {
        let (socket, requests) = (self.socket.clone(), self.permit.requests.clone());
        let (evicted, stopping) = (self.permit.evicted.clone(), self.shutdown.stopping.clone());
        let (first, timeout) = (self.config.header_timeout, self.config.idle_timeout);
        // The futures are made within it: moved into it, they would take their room twice.
        AbortOnDropHandle::new(self.tasks.spawn(async move {
            tokio::select! {
                () = socket.hung_up() => ConnectionEvent::HungUp,
                event = idle(&requests, first, timeout) => event,
                () = evicted.cancelled() => {
                    if requests.has_none() { ConnectionEvent::NoRequest } else { ConnectionEvent::Evicted }
                }
                () = stopped(&stopping, &requests) => ConnectionEvent::Stopping,
            }
        }))
    }

    /// Waits until no response is in progress and for `linger` after that, or until the peer hangs up.
    fn watch_shutdown(&self, linger: Duration) -> ConnectionWatch {
        let (socket, requests) = (self.socket.clone(), self.permit.requests.clone());
        AbortOnDropHandle::new(self.tasks.spawn(async move {
            tokio::select! {
                () = socket.hung_up() => ConnectionEvent::HungUp,
                () = finished(&requests, linger) => ConnectionEvent::Finished,
            }
        }))
    }
}

/// Waits until the process is stopping and all requests in progress have their heads: a head written from then on has
/// `connection: close`, and some clients do not notice that a stream with it was cut (failure mode 53).
async fn stopped(stopping: &CancellationToken, requests: &RequestCounters) {
    stopping.cancelled().await;
    requests.0.awaiting_head.close();
    requests.0.awaiting_head.wait().await;
}

/// Waits until no response is in progress, and for `linger` after that.
async fn finished(requests: &RequestCounters, linger: Duration) {
    requests.0.in_progress.close();
    requests.0.in_progress.wait().await;
    sleep(linger).await;
}

/// Waits until there was no first request within `first`, or no further one for `timeout`.
async fn idle(requests: &RequestCounters, first: Duration, timeout: Duration) -> ConnectionEvent {
    let Counters { total, in_progress, head_started, .. } = &*requests.0;
    sleep(first).await;
    if total.load(Relaxed) == 0 {
        // A request that arrived while the worker was busy is there, but not yet read.
        sleep(FLUSH_GRACE).await;
    }
    let mut before = total.load(Relaxed);
    if before == 0 {
        return ConnectionEvent::NoRequest;
    }
    in_progress.close();
    let mut quiet = 0;
    while quiet < IDLE_CHECKS {
        in_progress.wait().await;
        sleep(timeout / IDLE_CHECKS).await;
        let now = total.load(Relaxed);
        // A head in progress has a deadline of its own.
        let is_quiet = now == before && in_progress.is_empty() && !head_started.get();
        quiet = if is_quiet { quiet + 1 } else { 0 };
        before = now;
    }
    ConnectionEvent::Idle
}

/// The way to close the socket of a connection that has ended. `None`: the write timeout has ended it.
fn close_after(ended: Option<Result<(), hyper::Error>>) -> Close {
    match ended {
        Some(Err(error)) if error.is_timeout() => Close::Abort,
        // After a response, a GOAWAY, or a hang-up, which `linger` sees at once.
        Some(_) => Close::Linger,
        None => Close::Abort,
    }
}

fn http1_builder(transport: &Transport) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // A peer that closes its side has left, which the watch sees: hyper's own watch costs a read and a buffer for
    // every request, and does not see past unread bytes. But a peer that closes TLS and not the socket is seen
    // only by a read.
    let watched = matches!(transport, Transport::Plain(_));
    builder
        .max_header_size(MAX_HEAD_BYTES as usize)
        .max_buf_size(MAX_BUFFER_BYTES)
        .half_close(watched);
    // Tokens are short: copying one costs less than a list of slices to write.
    builder.writev(false);
    builder
}

fn http2_builder(executor: WriteTimeoutExecutor) -> http2::Builder<WriteTimeoutExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buf_size(MAX_BUFFER_BYTES);
    builder
}
