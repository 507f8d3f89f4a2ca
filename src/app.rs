//! Where the parts are joined: a configuration to an [`App`], and an app to its router.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, ORIGIN};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use crate::config::Config;
use crate::gateway;
use crate::gateway::auth::Callers;
use crate::gateway::auth::jwks::{self, KeySet, Unfetched};
use crate::gateway::limit::Gates;
use crate::server::{Bounds, Shutdown};
use crate::telemetry::Metrics;
use crate::wire::dialect::{self, CallerDialect};

/// Idle upstream connections are closed before the vendors' servers would (failure mode 46).
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The most bytes of a key set.
const MAX_KEY_SET: usize = 1 << 20;

/// Response headers that pages may read besides the ones that they may always: those that clients
/// act on, ours and the vendors'.
const EXPOSED: [&str; 30] = [
    "x-request-id",
    "x-upstream-request-id",
    "x-streamgate-target",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "www-authenticate",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
];

/// Everything that requests share. Each worker has a copy with a client of its own, whose
/// connections live and die on that worker's thread.
#[derive(Clone)]
pub struct App {
    state: Arc<ArcSwap<State>>,
    /// What callers have used of their limits; outlives reloads.
    gates: Arc<Gates>,
    /// The token issuers' keys that [`App::keep_keys`] keeps fresh.
    key_sets: watch::Sender<Vec<Arc<KeySet>>>,
    /// One client for all upstreams.
    pub client: reqwest::Client,
    /// What has happened.
    pub metrics: Arc<Metrics>,
    /// Cancelled when nothing new may begin.
    pub stopping: CancellationToken,
    /// Cancelled when streams must end.
    pub closing: CancellationToken,
    /// Owns what outlives a request by a moment.
    pub tasks: TaskTracker,
}

/// What a reload replaces, as a whole.
pub struct State {
    /// The configuration in force.
    pub config: Config,
    /// Who may call.
    pub callers: Callers,
}

impl App {
    /// Joins the parts.
    pub fn new(config: Config, shutdown: &Shutdown) -> Result<Self, reqwest::Error> {
        let gates = Arc::new(Gates::default());
        let callers = Callers::new(&config, &gates, None);
        Ok(Self {
            client: client(&config)?,
            key_sets: watch::Sender::new(callers.key_sets()),
            state: Arc::new(ArcSwap::from_pointee(State { config, callers })),
            gates,
            metrics: Arc::default(),
            stopping: shutdown.stopping.clone(),
            closing: shutdown.closing.clone(),
            tasks: TaskTracker::new(),
        })
    }

    /// A copy for a worker.
    pub fn for_worker(&self) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: client(&self.state.load().config)?,
            tasks: TaskTracker::new(),
            ..self.clone()
        })
    }

    /// The configuration in force, and what was made of it.
    pub fn state(&self) -> Guard<Arc<State>> {
        self.state.load()
    }

    /// Puts another configuration in force. Requests under way keep theirs, and callers keep what
    /// they have used of limits that did not change.
    pub fn reload(&self, config: Config) {
        let callers = Callers::new(&config, &self.gates, Some(&self.state().callers));
        self.key_sets.send_replace(callers.key_sets());
        self.state.store(Arc::new(State { config, callers }));
    }

    /// Keeps the token issuers' keys fresh, for as long as it is polled. One does so for all copies.
    pub async fn keep_keys(&self) -> Infallible {
        let fetch = |url| fetch(self.client.clone(), url);
        jwks::keep(self.key_sets.subscribe(), fetch, &self.metrics).await
    }

    /// What bounds new connections.
    pub fn bounds(&self) -> Bounds {
        let state = self.state();
        Bounds {
            header_timeout: state.config.server.header_timeout,
            write_stall: state.config.stream.write_stall,
        }
    }
}

/// The upstream client: HTTP/1.1, so that a slow reader holds up nobody else's stream (failure mode
/// 44); no redirects, which would carry keys and prompts along (61); no total timeout (15).
fn client(config: &Config) -> Result<reqwest::Client, reqwest::Error> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| reqwest::Certificate::from_der(der).ok());
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(config.stream.connect)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(1024)
        .tcp_nodelay(true)
        .tls_certs_merge(roots)
        .build()
}

/// Fetches a key set. The client follows no redirects, which might lead anywhere.
async fn fetch(client: reqwest::Client, url: Url) -> Result<Bytes, Unfetched> {
    let response = client.get(url).header(ACCEPT, "application/json").send().await;
    let mut response = response.map_err(reqwest::Error::without_url)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the server answered with status {}", response.status()).into());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > MAX_KEY_SET {
            return Err("the answer is larger than any key set".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Every path and what answers it. Only pages of other origins need the CORS layer.
pub fn router(app: Arc<App>) -> Router {
    let layer = cors(&app);
    let plain = routes(app);
    let crossing = plain.clone().layer(layer);
    Router::new().fallback_service(tower::service_fn(move |request: Request| {
        let foreign = request.headers().contains_key(ORIGIN);
        if foreign { crossing.clone() } else { plain.clone() }.oneshot(request)
    }))
}

fn routes(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for dialect in dialect::caller_dialects() {
        for endpoint in dialect.endpoints() {
            let answer = move |Shared(app): Shared<Arc<App>>, request: Request| async move {
                gateway::answer(app, (dialect, endpoint), request).await
            };
            router = router.route(endpoint.path, post(answer).fallback(only_post));
        }
    }
    let lists: BTreeSet<_> = dialect::caller_dialects().map(CallerDialect::models_path).collect();
    for path in lists {
        router = router.route(path, get(models).fallback(only_get));
    }
    let operators = Router::new()
        .route("/healthz", get(|| async { "ok\n" }).fallback(only_get))
        .route("/readyz", get(ready).fallback(only_get))
        .route("/metrics", get(metrics).fallback(only_get))
        .layer(from_fn(identified));
    router.merge(operators).fallback(not_found).with_state(app)
}

/// Pages of the configured origins may call, and read the headers that clients act on.
fn cors(app: &Arc<App>) -> CorsLayer {
    let allowed = Arc::clone(app);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin: &HeaderValue, _| {
            allowed.state().config.server.cors_origins.contains(origin)
        }))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_mins(10))
}

/// Gives a response the id that the gateway's own answers have.
async fn identified(request: Request, next: Next) -> Response {
    let id = gateway::request_id(request.headers());
    let mut response = next.run(request).await;
    gateway::stamp(&mut response, &id);
    response
}

async fn models(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    gateway::models(&app, request).await
}

async fn ready(Shared(app): Shared<Arc<App>>) -> Response {
    if app.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(Shared(app): Shared<Arc<App>>) -> Response {
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(CONTENT_TYPE, kind)], app.metrics.render()).into_response()
}

async fn not_found(request: Request) -> Response {
    gateway::not_found(request).await
}

async fn only_post(request: Request) -> Response {
    gateway::wrong_method(request, "POST").await
}

async fn only_get(request: Request) -> Response {
    gateway::wrong_method(request, "GET").await
}
