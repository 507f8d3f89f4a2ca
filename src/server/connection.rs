//! One caller's connection: which HTTP it speaks, what it may cost, and when it is over.

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
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower::ServiceExt;

use super::connection_limit::Place;
use super::head::{Begun, HeadTimer, HeadWatch};
use super::socket::Socket;
use super::stall::{self, Marking, Watched, WatchedExecutor};
use super::transport::{self, Http, Opened, Transport};
use super::{Shutdown, Terms};
use crate::telemetry::RefusalSource;

/// The most streams at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1_000;
/// The most bytes of a request head.
const HEAD: u32 = 32 * 1024;
/// The most bytes that hyper holds per connection, read and not yet taken, or written and unsent.
const BUFFER: usize = 64 * 1024;
/// How often an idle connection is looked at within its idle timeout. It may be kept for one look
/// longer, and no request pays for more than a count.
const LOOKS: u32 = 4;
/// How long an HTTP/2 connection whose responses have ended may stay open while the process stops, for its
/// peer to take the last bytes and to answer the GOAWAY.
const GOODBYE: Duration = Duration::from_secs(5);
/// How often a connection that waits for nothing but its socket is looked at while the process stops.
const LOOK: Duration = Duration::from_millis(20);
/// How long a peer's bytes are read and discarded while the process stops, after its last response.
const LAST_LINGER: Duration = Duration::from_secs(1);
/// How long a connection whose peer hung up may still write what it is about to.
const LAST_WORDS: Duration = Duration::from_millis(5);

/// A connection that was accepted, and on what terms.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Shared with nobody: a pointer, because a connection's future holds it more than once.
    pub(super) terms: Arc<Terms>,
    /// Its place among all connections.
    pub(super) place: Place,
    pub(super) shutdown: Shutdown,
    /// Owns what HTTP/2 runs beside the connection.
    pub(super) tasks: TaskTracker,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The peer may still have to read why.
    Told,
    /// There is nothing to wait for.
    Cut,
}

impl Connection {
    /// Serves it to its end.
    pub(super) async fn serve(self, router: Router) {
        let Self { stream, terms, place, shutdown, tasks } = self;
        let Ok(peer) = stream.peer_addr() else { return };
        let Ok(socket) = Socket::new(stream, terms.write_stall) else { return };
        let opening = transport::open(&socket, terms.tls.clone());
        let opened = tokio::select! {
            opened = timeout(terms.header_timeout, opening) => opened,
            () = place.evicted.cancelled() => return,
            () = shutdown.stopping.cancelled() => return,
        };
        let over = match opened {
            Ok(Ok(Opened::Ready(ready))) => {
                let lookout = lookout(&socket, &terms, (&shutdown, &place), &tasks);
                let asked = place.asked.clone();
                requests(ready, (router, peer, asked), (&*terms, tasks), (&socket, lookout)).await
            }
            Ok(Ok(Opened::WrongPort(reason))) => {
                terms.refusals.record(
                    reason,
                    &RefusalSource { peer: Some(peer), ..RefusalSource::default() },
                );
                Over::Told
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, %peer, "no request came of a connection");
                Over::Told
            }
            Err(_late) => Over::Cut,
        };
        if over == Over::Told {
            let stopped = async {
                shutdown.stopping.cancelled().await;
                sleep(LAST_LINGER).await;
            };
            tokio::select! {
                _bounded = timeout(terms.header_timeout, socket.linger()) => {}
                () = place.evicted.cancelled() => {}
                () = stopped => {}
            }
        }
    }
}

/// What was asked of a connection so far. One pointer, since an idle connection keeps several.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Requests>);

impl Asked {
    /// Whether there was no request yet.
    pub(super) fn is_nothing(&self) -> bool {
        self.0.count.load(Relaxed) == 0
    }

    /// Whether there is no request under way, nor the head of one.
    pub(super) fn is_idle(&self) -> bool {
        self.0.open.is_empty() && !self.0.begun.get()
    }
}

#[derive(Default)]
struct Requests {
    /// How many requests there were.
    count: AtomicU64,
    /// Those that have no response head yet.
    heads: TaskTracker,
    /// Those whose response has not ended.
    open: TaskTracker,
    /// Whether the head of the next one has begun, over HTTP/1.1.
    begun: Begun,
}

/// Answers all requests of a connection.
async fn requests(
    (transport, http): (Transport, Http),
    (router, peer, asked): (Router, SocketAddr, Asked),
    (terms, tasks): (&Terms, TaskTracker),
    (socket, lookout): (&Socket, Lookout),
) -> Over {
    let begun = asked.0.begun.clone();
    let under_way = asked.clone();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        asked.0.count.fetch_add(1, Relaxed);
        stall::forget();
        let open = asked.0.open.token();
        // Boxed, since the connection keeps this future's place for as long as it lives.
        let answered = Box::pin(router.clone().oneshot(request.map(Body::new)));
        let answered = asked.0.heads.track_future(answered);
        async move {
            let response: axum::response::Response = answered.await?;
            Ok::<_, Infallible>(response.map(|body| Marking::new(body, open)))
        }
    });
    match http {
        Http::One => {
            let timer = HeadTimer { begun: begun.clone(), timeout: terms.header_timeout };
            let ending = Ending { asked: under_way, wait: LOOK };
            let serving = one(&transport)
                .timer(timer)
                .header_read_timeout(terms.header_timeout)
                .serve_connection(TokioIo::new(HeadWatch { transport, begun }), service);
            let watched = Watched::new(serving, terms.write_stall);
            drive(watched, (lookout, ending), (socket, &tasks)).await
        }
        Http::Two => {
            let ending = Ending { asked: under_way, wait: GOODBYE };
            let executor = WatchedExecutor { tasks: tasks.clone(), write_stall: terms.write_stall };
            let serving = two(executor).serve_connection(TokioIo::new(transport), service);
            let watched = Watched::new(serving, terms.write_stall);
            drive(watched, (lookout, ending), (socket, &tasks)).await
        }
    }
}

/// How a connection ends while the process stops.
struct Ending {
    asked: Asked,
    /// How long it may stay open without a response under way.
    wait: Duration,
}

impl Ending {
    /// Waits until no response is under way, and then for its peer, or until that hangs up.
    fn watch(&self, socket: &Socket, tasks: &TaskTracker) -> Lookout {
        let (asked, wait, hung_up) = (self.asked.clone(), self.wait, hung_up(socket));
        let finished = async move {
            asked.0.open.close();
            asked.0.open.wait().await;
            sleep(wait).await;
            Occasion::Finished
        };
        AbortOnDropHandle::new(tasks.spawn(async move {
            tokio::select! {
                occasion = hung_up => occasion,
                occasion = finished => occasion,
            }
        }))
    }
}

/// What may happen to a connection besides its traffic.
#[derive(Debug, Clone, Copy)]
enum Occasion {
    /// The peer has closed its side.
    HungUp,
    /// The time for the first request is over.
    NothingAsked,
    /// There has been no request for long.
    Idle,
    /// There is none, and another connection needs the place.
    Evicted,
    /// The process is stopping.
    Stopping,
    /// The process is stopping, and no response is under way.
    Finished,
}

/// Waits for the next occasion. It is a task, so that tokens that pass touch none of it, and it ends
/// with the connection.
type Lookout = AbortOnDropHandle<Occasion>;

fn lookout(
    socket: &Socket,
    terms: &Terms,
    (shutdown, place): (&Shutdown, &Place),
    tasks: &TaskTracker,
) -> Lookout {
    let (stopping, evicted) = (shutdown.stopping.clone(), place.evicted.clone());
    let (first, idle) = (terms.header_timeout, terms.idle_timeout);
    let [asked, under_way, unused] = [(); 3].map(|()| place.asked.clone());
    let hung_up = hung_up(socket);
    let idle = async move {
        let Requests { count, open, begun, .. } = &*asked.0;
        sleep(first).await;
        if count.load(Relaxed) == 0 {
            // What came while the worker was held up is there, but not yet read.
            sleep(LAST_WORDS).await;
        }
        let mut before = count.load(Relaxed);
        if before == 0 {
            return Occasion::NothingAsked;
        }
        open.close();
        let mut quiet = 0;
        while quiet < LOOKS {
            open.wait().await;
            sleep(idle / LOOKS).await;
            let now = count.load(Relaxed);
            // A head under way has a deadline of its own.
            let is_quiet = now == before && open.is_empty() && !begun.get();
            quiet = if is_quiet { quiet + 1 } else { 0 };
            before = now;
        }
        Occasion::Idle
    };
    let stopped = async move {
        stopping.cancelled().await;
        // A head written from then on says `connection: close`, past which some clients do not
        // notice that a stream was cut (failure mode 53): requests under way get theirs first.
        under_way.0.heads.close();
        under_way.0.heads.wait().await;
        Occasion::Stopping
    };
    let evicted = async move {
        evicted.cancelled().await;
        if unused.is_nothing() { Occasion::NothingAsked } else { Occasion::Evicted }
    };
    AbortOnDropHandle::new(tasks.spawn(async move {
        tokio::select! {
            occasion = hung_up => occasion,
            occasion = idle => occasion,
            occasion = evicted => occasion,
            occasion = stopped => occasion,
        }
    }))
}

fn hung_up(socket: &Socket) -> impl Future<Output = Occasion> + use<> {
    let socket = socket.clone();
    async move {
        socket.hung_up().await;
        Occasion::HungUp
    }
}

async fn drive<C: GracefulConnection<Error = hyper::Error>>(
    mut serving: Watched<C>,
    (mut lookout, ending): (Lookout, Ending),
    (socket, tasks): (&Socket, &TaskTracker),
) -> Over {
    let mut evicted = false;
    loop {
        let occasion = tokio::select! {
            biased;
            // Where another connection waits for the place, the peer's last bytes are not waited for.
            served = &mut serving => return if evicted { Over::Cut } else { over(served) },
            // Out of the task's budget, which a peer who sends without a pause has always used up.
            occasion = unconstrained(&mut lookout) => occasion,
        };
        match occasion {
            Ok(occasion @ (Occasion::Idle | Occasion::Evicted | Occasion::Stopping)) => {
                evicted = matches!(occasion, Occasion::Evicted);
                serving.inner().graceful_shutdown();
                lookout = ending.watch(socket, tasks);
            }
            // A slow reader still takes the end of its response, and a head may just have been completed.
            Ok(Occasion::Finished) if serving.has_unsent() || !ending.asked.0.open.is_empty() => {
                lookout = ending.watch(socket, tasks);
            }
            Ok(Occasion::HungUp) => {
                // It may be idle and about to return by itself.
                let _cut = timeout(LAST_WORDS, &mut serving).await;
                return Over::Cut;
            }
            Ok(Occasion::NothingAsked | Occasion::Finished) | Err(_) => return Over::Cut,
        }
    }
}

/// `served`: `None` if the peer did not read.
fn over(served: Option<Result<(), hyper::Error>>) -> Over {
    match served {
        Some(Err(error)) if error.is_timeout() => Over::Cut,
        // With an answer, a GOAWAY, or by a peer who is gone, which shows at once.
        Some(_) => Over::Told,
        None => Over::Cut,
    }
}

fn one(transport: &Transport) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // A peer who closes its side is gone, and we watch for that ourselves: hyper's own watch costs
    // a read and a buffer for every request, and does not see past unread bytes. But a peer who
    // closes TLS and not the socket is seen only by who reads.
    let watched = matches!(transport, Transport::Plain(_));
    builder.max_header_size(HEAD as usize).max_buf_size(BUFFER).half_close(watched);
    // Tokens are short: to copy one costs less than to keep a list of pieces to write.
    builder.writev(false);
    builder
}

fn two(executor: WatchedExecutor) -> http2::Builder<WatchedExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEAD)
        .max_send_buf_size(BUFFER);
    builder
}
