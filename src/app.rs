//! Where the parts are joined: a configuration to an [`App`], and an app to its router.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::{Config, Tls};
use crate::gateway;
use crate::gateway::auth::{Caller, Callers};
use crate::gateway::limit::{Gate, Gates, Limit, Scope};
use crate::server::{Shutdown, Terms};
use crate::telemetry::trace::Tracing;
use crate::telemetry::{Limited, Metrics};
use crate::wire::dialect::{self, CallerDialect};

/// Idle upstream connections are closed before the vendors' servers would (failure mode 46).
const POOL_IDLE: Duration = Duration::from_secs(30);

/// Everything that requests share. Each worker has a copy with a client of its own, whose
/// connections live and die on that worker's thread.
#[derive(Clone)]
pub struct App {
    state: Arc<ArcSwap<State>>,
    /// What callers have used of their limits; outlives reloads.
    gates: Arc<Gates>,
    /// What is used of the models' limits; outlives reloads.
    model_gates: Arc<Gates>,
    /// One client for all upstreams.
    pub client: reqwest::Client,
    /// What has happened.
    pub metrics: Arc<Metrics>,
    /// Where spans go, if anywhere.
    pub tracing: Tracing,
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
    /// Callers by the digest of their key.
    pub callers: Callers,
    /// What may be used of those models that have limits.
    pub models: BTreeMap<String, Arc<Gate>>,
}

impl App {
    /// Joins the parts.
    pub fn new(config: Config, shutdown: &Shutdown) -> Result<Self, Failed> {
        let (gates, model_gates) = (Gates::default(), Gates::new(Scope::Model));
        let metrics = Arc::<Metrics>::default();
        Ok(Self {
            client: client(&config)?,
            tracing: tracing(&config, &metrics)?,
            state: Arc::new(ArcSwap::from_pointee(State {
                callers: callers(&config, &gates),
                models: models_of(&config, &model_gates),
                config,
            })),
            gates: Arc::new(gates),
            model_gates: Arc::new(model_gates),
            metrics,
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

    /// Puts another configuration in force. Requests under way keep theirs, and what callers have
    /// used of their limits stays used, whatever the limits are now.
    pub fn reload(&self, mut config: Config) {
        let running = self.state();
        config.server.tls =
            config.server.tls.map(|tls| tls.or_same(running.config.server.tls.as_ref()));
        let callers = callers(&config, &self.gates);
        let models = models_of(&config, &self.model_gates);
        self.state.store(Arc::new(State { config, callers, models }));
        self.metrics.limit_used.clear();
    }

    /// Measures how much of its limits everybody has used. Only configured names become labels;
    /// of all other callers it tells the highest.
    async fn measure_limits(&self) {
        let now = Instant::now();
        let state = self.state.load_full();
        let keys: BTreeSet<_> = state.config.keys.iter().map(|key| key.name.as_str()).collect();
        let mut used = BTreeMap::new();
        let mut look = |scope: Scope, name: &str, gate: &Gate| {
            for (limit, ratio) in gate.used(now) {
                let highest = used.entry((scope.word(), name.to_owned(), limit.word()));
                let highest = highest.or_insert(ratio);
                *highest = highest.max(ratio);
            }
        };
        let callers = self.gates.survey(|name, gate| {
            let shown = if keys.contains(name) { name } else { "other" };
            look(Scope::Caller, shown, gate);
        });
        callers.await;
        for (name, gate) in &state.models {
            look(Scope::Model, name, gate);
        }
        // Once they are all forgotten, nothing is used.
        for limit in Limit::ALL.map(Limit::word) {
            let (scope, name) = (Scope::Caller.word(), "other".to_owned());
            self.metrics.limit_used.remove(&Limited { scope, name, limit });
        }
        for ((scope, name, limit), ratio) in used {
            self.metrics.limit_used.get_or_create(&Limited { scope, name, limit }).set(ratio);
        }
    }

    /// The terms of new connections.
    pub fn terms(&self) -> Terms {
        let state = self.state();
        Terms {
            header_timeout: state.config.server.header_timeout,
            write_stall: state.config.stream.write_stall,
            tls: state.config.server.tls.as_ref().map(Tls::server),
        }
    }
}

/// All callers of a configuration.
fn callers(config: &Config, gates: &Gates) -> Callers {
    let caller = |key: &crate::config::Key| {
        Arc::new(Caller {
            name: key.name.clone(),
            models: key.models.clone(),
            gate: gates.of(&key.name, key.limits),
        })
    };
    config.keys.iter().map(|key| (key.digest, caller(key))).collect()
}

/// Why an app cannot be made.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The way to the collector, if there is one. Its client blocks, so it may only be made, used and
/// dropped on threads without a runtime. No redirects, which would carry keys along.
fn tracing(config: &Config, metrics: &Arc<Metrics>) -> Result<Tracing, Failed> {
    let Some(otlp) = &config.otlp else { return Ok(Tracing::default()) };
    let timeout = otlp.timeout;
    let build = move || {
        reqwest::blocking::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(timeout)
            .tls_certs_merge(roots())
            .build()
    };
    let client = std::thread::spawn(build).join().map_err(|_| "cannot make a client")??;
    Tracing::new(otlp, client, metrics)
        .map_err(|error| format!("cannot send traces: {error}").into())
}

fn roots() -> impl Iterator<Item = reqwest::Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| reqwest::Certificate::from_der(der).ok())
}

/// The gates of all models that have limits.
fn models_of(config: &Config, gates: &Gates) -> BTreeMap<String, Arc<Gate>> {
    let limits = config.model_limits.iter();
    limits.map(|(name, limits)| (name.clone(), gates.of(name, *limits))).collect()
}

/// The upstream client: HTTP/1.1, so that a slow reader holds up nobody else's stream (failure mode
/// 44); no redirects, which would carry keys and prompts along (61); no total timeout (15).
fn client(config: &Config) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(config.stream.connect)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(1024)
        .tcp_nodelay(true)
        .tls_certs_merge(roots())
        .build()
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
    router
        .merge(operators)
        .route("/v1/prompts", get(prompts).fallback(only_get))
        .fallback(not_found)
        .with_state(app)
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
        .expose_headers(exposed())
        .max_age(Duration::from_mins(10))
}

/// What pages may read of a response.
fn exposed() -> Vec<HeaderName> {
    let ours = [
        "x-request-id",
        "x-trace-id",
        "x-streamgate-target",
        "x-streamgate-limit",
        "retry-after",
        "request-id",
    ];
    let allowances = dialect::caller_dialects().flat_map(CallerDialect::allowance_headers);
    // Some dialects share them.
    let names: BTreeSet<_> = ours.into_iter().chain(allowances.flatten()).collect();
    names.into_iter().map(HeaderName::from_static).collect()
}

/// Gives a response the id that the gateway's own answers have.
async fn identified(request: Request, next: Next) -> Response {
    let id = gateway::request_id(request.headers());
    let mut response = next.run(request).await;
    gateway::stamp(&mut response, &id);
    response
}

async fn models(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    gateway::models(&app, &request)
}

async fn prompts(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    gateway::prompts(&app, &request)
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
    app.measure_limits().await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    /// Callers who are not in the configuration are shown together, and not for ever.
    #[tokio::test(start_paused = true)]
    async fn callers_without_a_configured_name_are_others() {
        let app = App::new(Config::default(), &Shutdown::default()).unwrap();
        let limits = Limits { concurrent_streams: Some(4), ..Limits::default() };
        let open = [app.gates.of("one-canary", limits), app.gates.of("two-canary", limits)]
            .map(|gate| gate.admit().unwrap());
        let more = app.gates.of("two-canary", limits).admit().unwrap();
        app.measure_limits().await;
        let text = app.metrics.render();
        let shown = r#"streamgate_limit_used_ratio{scope="caller",name="other",limit="concurrent_streams"}"#;
        assert!(text.contains(&format!("{shown} 0.5\n")), "{text}");
        assert!(!text.contains("canary"), "{text}");
        drop((open, more));
        tokio::time::advance(Duration::from_mins(1)).await;
        app.measure_limits().await;
        assert!(!app.metrics.render().contains("other"), "{}", app.metrics.render());
    }
}
