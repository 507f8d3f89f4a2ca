//! Process life cycle: starts runtimes and listeners, reloads the configuration, and drains on a signal. It never handles
//! a request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use socket2::{Domain, Socket, Type};
use streamgate::admin;
use streamgate::app::{self, App};
use streamgate::config::{self, Config};
use streamgate::server::shutdown::{
    ARCHIVE_TIMEOUT, SCRAPE_TIMEOUT, SPAN_FLUSH_TIMEOUT, UPSTREAM_DRAIN_TIMEOUT,
};
use streamgate::server::{self, ConnectionConfig, ConnectionLimit, Shutdown};
use streamgate::sim;
use streamgate::telemetry::log::{self, LogFormat, LogGuard};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::field::display;

use crate::cli::Log;
use crate::reload::{self, ConfigSource};
use crate::{CliError, port_holder, print_line};

/// Raises the soft limit of file descriptors as far as the process may. If that fails, the limit stays.
fn raise_descriptors() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the soft limit of file descriptors");
    }
}

/// The length of the kernel's queue of connections that no worker has accepted.
const LISTEN_BACKLOG: i32 = 4096;

/// Runs the gateway until a signal, with the configuration of `file`, or of a first run without one.
pub(crate) fn serve(
    file: Option<PathBuf>,
    address: Option<SocketAddr>,
    log: Log,
) -> Result<(), CliError> {
    let source = file.map(|file| ConfigSource { file, listen: address });
    let configured = source.as_ref().map(ConfigSource::load).transpose()?;
    let logging = start_logging(log)?;
    raise_descriptors();
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // First, so that a signal during the start is not lost.
        let signals = Signals::new()?;
        let shutdown = Shutdown::default();
        let (config, listeners) = match configured {
            Some(config) => {
                let listeners = Listeners::open(&config, address.is_some())?;
                listeners.announce(&config)?;
                (config, listeners)
            }
            None => unconfigured(&shutdown, address)?,
        };
        run(Startup { config, listeners, source, shutdown, signals }, &logging).await
    });
    // A thread that hangs on a file is left behind.
    runtime.shutdown_background();
    served
}

/// Everything that a process starts with.
struct Startup {
    config: Config,
    listeners: Listeners,
    /// `None`: a run without a configuration file.
    source: Option<ConfigSource>,
    shutdown: Shutdown,
    signals: Signals,
}

/// The listeners of the process.
struct Listeners {
    /// For callers.
    public: std::net::TcpListener,
    /// For operators (`server.admin`).
    admin: Option<std::net::TcpListener>,
}

impl Listeners {
    /// `overridden`: the command line has the address of callers, and not the configuration.
    fn open(config: &Config, overridden: bool) -> Result<Self, CliError> {
        let setting = if overridden { "--listen" } else { "server.listen or --listen" };
        let public = listen(config.server.listen, &format!("choose another with {setting}"))?;
        let open = |address| listen(address, "choose another with server.admin");
        Ok(Self { public, admin: config.server.admin.map(open).transpose()? })
    }

    /// Prints the addresses, with the port that the kernel chose for port 0.
    fn announce(&self, config: &Config) -> Result<(), CliError> {
        let scheme = if config.server.tls.is_some() { "https" } else { "http" };
        let out = &mut std::io::stdout();
        print_line(out, &format!("Streamgate on {scheme}://{}", address_of(&self.public)?));
        if let Some(admin) = &self.admin {
            print_line(out, &format!("operators on http://{}", address_of(admin)?));
        }
        Ok(())
    }
}

fn address_of(listener: &std::net::TcpListener) -> Result<SocketAddr, CliError> {
    listener.local_addr().map_err(|error| CliError::new(error.to_string()))
}

/// Runs the simulated upstream until a signal.
pub(crate) fn simulate(listen: SocketAddr, log: Log) -> Result<(), CliError> {
    let _logging = start_logging(log)?;
    raise_descriptors();
    runtime()?.block_on(async {
        let listener = bind(listen, "choose another with --listen")?;
        let signals = Signals::new()?;
        print_line(
            &mut std::io::stdout(),
            &format!("simulated upstream on http://{}", bound(&listener)?),
        );
        let mut stops = signals.stops;
        sim::serve(listener, async move { stops.next().await }).await;
        Ok(())
    })
}

/// A run without a configuration: the simulated upstream in this process, and a generated key.
fn unconfigured(
    shutdown: &Shutdown,
    address: Option<SocketAddr>,
) -> Result<(Config, Listeners), CliError> {
    let simulated = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "free some ports")?;
    let upstream = bound(&simulated)?;
    let key =
        config::env("STREAMGATE_KEY").filter(|key| !key.is_empty()).unwrap_or_else(config::new_key);
    let mut config = config::without_file(&config::env, upstream, &key);
    config.server.listen = address.unwrap_or(config.server.listen);
    let remedy = "stop what listens there, or choose another with --listen or with server.listen of a \
                  configuration (--config)";
    let listener = listen(config.server.listen, remedy)?;
    let until = shutdown.closing.clone().cancelled_owned();
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process")]
    tokio::spawn(sim::serve(simulated, until));
    let listen = address_of(&listener)?;
    // A fragment never leaves the browser.
    let encoded = utf8_percent_encode(&key, NON_ALPHANUMERIC);
    let names: Vec<&str> = config.providers.keys().map(String::as_str).collect();
    let is_real = |name: &&str| !name.starts_with("sim");
    let next = if names.iter().any(is_real) {
        "Models of these providers are called PROVIDER/MODEL."
    } else {
        "No real provider: set OPENAI_API_KEY, or another variable that `streamgate --help` names, and start again."
    };
    print_line(
        &mut std::io::stdout(),
        &format!(
            "Streamgate on http://{listen}, without a configuration (see README.md)\n\
             providers: {}\n\
             caller key: {key}\n\n\
             Open http://{listen}/#key={encoded} in a browser, or paste this into a second terminal:\n\n\
             curl -N http://{listen}/v1/chat/completions -H 'authorization: Bearer {key}' \
             -H 'content-type: application/json' \
             -d '{{\"model\":\"sim\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n\n\
             {next}\n",
            names.join(", ")
        ),
    );
    Ok((config, Listeners { public: listener, admin: None }))
}

/// Runs the workers, and the tasks of the whole process: reloads, fetches, the shutdown.
async fn run(startup: Startup, logging: &LogGuard) -> Result<(), CliError> {
    let Startup { config, listeners, source, shutdown, signals } = startup;
    let Signals { stops, mut hangups } = signals;
    let sources = config.sources.clone();
    reload::log_configuration(&config);
    let app = App::new(config, &shutdown).map_err(|error| CliError::new(error.to_string()))?;
    logging.count(app.metrics.log_lines_lost.clone());
    log_start(&app, &listeners, source.as_ref());
    if let Some(otlp) = &app.state().config.otlp {
        tracing::info!(
            collector = otlp.endpoint.host_str(),
            sample = otlp.sample,
            "sending traces"
        );
    }
    let mut workers = pin!(workers(&app, &listeners.public, &shutdown)?);
    let admin = listeners.admin.map(|listener| Admin::start(&app, listener)).transpose()?;
    drop(listeners.public);
    let mut stopping = pin!(stop(&app, &shutdown, stops));
    let mut keeping_fresh = pin!(app.keep_fresh());
    let mut reporting = pin!(app.refusals.report());
    let mut reloads = pin!(reload::keep(&app, source, &sources, &mut hangups));
    tokio::select! {
        () = &mut workers => {}
        never = &mut keeping_fresh => match never {},
        never = &mut reporting => match never {},
        never = &mut reloads => match never {},
        never = &mut stopping => match never {},
    }
    shutdown.closing.cancel();
    // Last, so that the drain can be watched.
    if let Some(admin) = admin {
        admin.stop().await;
    }
    if timeout(ARCHIVE_TIMEOUT, app.close()).await.is_err() {
        tracing::warn!("the disk is too slow to close the archive (streams.path)");
    }
    // Nothing else runs on this thread, so it may block.
    app.tracing.shutdown(SPAN_FLUSH_TIMEOUT);
    tracing::info!("stopped");
    Ok(())
}

/// Waits for a signal and begins the shutdown. A second signal ends the delay.
async fn stop(app: &App, shutdown: &Shutdown, mut stops: StopSignals) -> Infallible {
    stops.next().await;
    tracing::info!("stopping: not ready from now on");
    shutdown.unready.cancel();
    let delay = app.state().config.server.shutdown_delay;
    let _signal = timeout(delay, stops.next()).await;
    tracing::info!("stopping: no new connections, streams run on for the drain time");
    shutdown.stopping.cancel();
    std::future::pending().await
}

/// The operators' listener, on a thread of its own, so that scrapes delay no stream.
struct Admin {
    shutdown: Shutdown,
    done: oneshot::Receiver<()>,
}

impl Admin {
    fn start(app: &App, listener: std::net::TcpListener) -> Result<Self, CliError> {
        let shutdown = Shutdown::default();
        let (app, stop) = (Arc::new(app.for_worker()), shutdown.clone());
        let done = thread("admin", move || serve_admin(app, listener, stop))?;
        Ok(Self { shutdown, done })
    }

    /// Ends it; requests in progress have [`SCRAPE_TIMEOUT`].
    async fn stop(self) {
        self.shutdown.stopping.cancel();
        let _late = timeout(SCRAPE_TIMEOUT, self.done).await;
    }
}

async fn serve_admin(app: Arc<App>, listener: std::net::TcpListener, shutdown: Shutdown) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the operators' listener cannot be served"),
    };
    let router = admin::router(app.admin());
    // A limit of its own: callers cannot use up the operators' connections.
    let connections = Arc::new(ConnectionLimit::for_operators());
    let config = move || ConnectionConfig {
        tls: None,
        connections: Arc::clone(&connections),
        ..app.connection_config()
    };
    let _left = server::serve(listener, router, config, shutdown, || SCRAPE_TIMEOUT).await;
}

/// Runs a future on a thread with a runtime of its own. The channel is closed when the thread ends, or panics.
fn thread<F: Future<Output = ()>>(
    name: &str,
    serve: impl FnOnce() -> F + Send + 'static,
) -> Result<oneshot::Receiver<()>, CliError> {
    let runtime = runtime()?;
    let (done, end) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            runtime.block_on(serve());
            drop(done);
        })
        .map_err(|error| CliError::new(format!("cannot start the thread {name}: {error}")))?;
    Ok(end)
}

/// Starts one worker per core: a thread with a runtime of its own, so that no token crosses
/// threads. All accept from the same listener. Resolves when all have drained.
fn workers(
    app: &App,
    listener: &std::net::TcpListener,
    shutdown: &Shutdown,
) -> Result<impl Future<Output = ()> + use<>, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut finished = Vec::with_capacity(cores);
    for number in 0..cores {
        let app = Arc::new(app.for_worker());
        let listener = listener
            .try_clone()
            .map_err(|error| CliError::new(format!("cannot start a worker: {error}")))?;
        let shutdown = shutdown.clone();
        let work = move || work(app, number, listener, shutdown);
        finished.push(thread(&format!("worker-{number}"), work)?);
    }
    Ok(async {
        for end in finished {
            let _dropped = end.await;
        }
    })
}

async fn work(app: Arc<App>, number: usize, listener: std::net::TcpListener, shutdown: Shutdown) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a worker cannot accept connections"),
    };
    let router = app::router(Arc::clone(&app));
    let config = || app.connection_config();
    let drain = || app.state().config.server.drain;
    let closing = shutdown.closing.clone();
    let left = tokio::select! {
        left = server::serve(listener, router, config, shutdown, drain) => left,
        never = app.hub.relay(number) => match never {},
    };
    app.tasks.close();
    // Other nodes follow the streams that are produced here.
    if app.backplane.is_some() && timeout(left, app.tasks.wait()).await.is_err() {
        closing.cancel();
    }
    let _unfinished = timeout(UPSTREAM_DRAIN_TIMEOUT, app.tasks.wait()).await;
}

/// Logs the version, the addresses and the configuration.
fn log_start(app: &App, listeners: &Listeners, source: Option<&ConfigSource>) {
    let shown = |listener: &std::net::TcpListener| listener.local_addr().ok().map(display);
    let state = app.state();
    let config = &state.config;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = shown(&listeners.public),
        admin = listeners.admin.as_ref().and_then(shown),
        tls = config.server.tls.is_some(),
        config = source.map(|source| display(source.file.display())),
        config_digest = config.sources.digest(),
        providers = config.providers.len(),
        models = config.models.len(),
        keys = config.auth.keys.len(),
        issuers = config.auth.issuers.len(),
        "started"
    );
}

/// The signals that the process handles.
struct Signals {
    stops: StopSignals,
    /// SIGHUP: reload.
    hangups: Signal,
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CliError::new(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            stops: StopSignals {
                terminate: listen(SignalKind::terminate())?,
                interrupt: listen(SignalKind::interrupt())?,
            },
            hangups: listen(SignalKind::hangup())?,
        })
    }
}

impl StopSignals {
    /// Resolves at the next signal.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The ready sockets that a worker polls before it runs the tasks that they woke. With few, a token is written before
/// the next connections are read, which saves latency when hundreds of streams are busy; with 4, short requests cost a
/// tenth more CPU than with 16, and with 1,024 the latency of a token is half as much again.
const IO_EVENTS_PER_TICK: usize = 16;

pub(crate) fn runtime() -> Result<Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(IO_EVENTS_PER_TICK)
        .build()
        .map_err(|error| CliError::new(format!("cannot start the runtime: {error}")))
}

/// Opens a non-blocking listener, which several runtimes may share. `remedy`: the advice of its error.
fn listen(address: SocketAddr, remedy: &str) -> Result<std::net::TcpListener, CliError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A restart must not wait for connections of the previous process.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        std::io::Result::Ok(socket.into())
    };
    open().map_err(|error| {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let holder = in_use.then(|| port_holder::holder(address.port())).flatten();
        let holder = holder.map_or_else(String::new, |holder| format!(" by {holder}"));
        CliError::new(format!("cannot listen on {address}: {error}{holder}; {remedy}"))
    })
}

fn bind(address: SocketAddr, remedy: &str) -> Result<TcpListener, CliError> {
    TcpListener::from_std(listen(address, remedy)?)
        .map_err(|error| CliError::new(error.to_string()))
}

fn bound(listener: &TcpListener) -> Result<SocketAddr, CliError> {
    listener.local_addr().map_err(|error| CliError::new(error.to_string()))
}

fn start_logging(log: Log) -> Result<LogGuard, CliError> {
    let format = match log {
        Log::Text => LogFormat::Text,
        Log::Json => LogFormat::Json,
    };
    log::start(format, config::env("RUST_LOG").as_deref())
        .map_err(|error| CliError::new(format!("cannot start the log's writer: {error}")))
}
