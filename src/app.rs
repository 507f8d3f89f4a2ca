//! Where the parts are joined: a configuration to an [`App`], and an app to its router.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{ACCEPT, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rlimit::Resource;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::admin::{self, MetricsPage};
use crate::config::{Config, Provider, Tls};
use crate::gateway;
use crate::gateway::auth::Callers;
use crate::gateway::auth::jwks::{self, KeySet};
use crate::gateway::egress::{self, Clients};
use crate::gateway::limit::{Gate, Gates, Limit, Scope};
use crate::gateway::memory::MemoryBudget;
use crate::gateway::provider_models::{self, ProviderModels};
use crate::gateway::summary::Sinks;
use crate::gateway::target_health::TargetHealth;
use crate::gateway::{direct_response, fetch, path_alias};
use crate::server::{ConnectionConfig, ConnectionLimit, Shutdown, request_head};
use crate::telemetry::trace::Tracing;
use crate::telemetry::{Limited, Metrics, OTHER, RefusalLog};
use crate::wire::dialect::{self, CallerDialect};

/// The most bytes of a key set.
const MAX_KEY_SET: usize = 1 << 20;

/// Response headers that pages may read besides the ones that they may always, and besides those
/// that tell what is left of a limit: what clients act on.
const EXPOSED: [&str; 11] = [
    "x-request-id",
    "x-upstream-request-id",
    "x-trace-id",
    "x-streamgate-target",
    "x-streamgate-limit",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "www-authenticate",
];

/// Everything that requests share. Each worker has a copy with a client of its own, whose
/// connections live and die on that worker's thread.
#[derive(Clone)]
pub struct App {
    state: Arc<ArcSwap<State>>,
    /// What callers have used of their limits; outlives reloads.
    gates: Arc<Gates>,
    /// What is used of the models' limits; outlives reloads.
    model_gates: Arc<Gates>,
    /// Which targets have just failed; outlives reloads.
    pub health: Arc<TargetHealth>,
    /// The token issuers' keys that [`App::keep_fresh`] keeps fresh.
    key_sets: watch::Sender<Vec<Arc<KeySet>>>,
    /// The models that providers offer.
    pub provider_models: Arc<ProviderModels>,
    /// The memory that request bodies and answers may take.
    pub memory: Arc<MemoryBudget>,
    /// The clients for upstreams.
    pub clients: Arc<Clients>,
    /// What has happened.
    pub metrics: Arc<Metrics>,
    /// The receivers of what requests came to.
    pub sinks: Sinks,
    /// Requests that no endpoint answers.
    pub refusals: Arc<RefusalLog>,
    /// Where spans go, if anywhere.
    pub tracing: Tracing,
    /// The connections of callers.
    connections: Arc<ConnectionLimit>,
    /// The page of metrics; all copies have one.
    pub metrics_page: Arc<MetricsPage>,
    /// The steps of a shutdown.
    pub shutdown: Shutdown,
    /// Owns what outlives a request by a moment.
    pub tasks: TaskTracker,
}

/// What a reload replaces, as a whole.
pub struct State {
    /// The configuration in force.
    pub config: Config,
    /// Who may call.
    pub callers: Callers,
    /// What may be used of those models that have limits.
    pub models: BTreeMap<String, Arc<Gate>>,
}

impl App {
    /// Joins the parts.
    pub fn new(config: Config, shutdown: &Shutdown) -> Result<Self, Failed> {
        let (gates, model_gates) = (Arc::new(Gates::default()), Gates::new(Scope::Model));
        let metrics = Arc::<Metrics>::default();
        metrics.config_loaded(&config, gateway::unix_seconds());
        let callers = Callers::new(&config, &gates, None);
        prepare_clients(&config)?;
        Ok(Self {
            clients: Arc::default(),
            memory: Arc::new(MemoryBudget::new(config.server.memory, &metrics)),
            provider_models: Arc::default(),
            tracing: tracing(&config, &metrics)?,
            key_sets: watch::Sender::new(callers.key_sets()),
            state: Arc::new(ArcSwap::from_pointee(State {
                callers,
                models: models_of(&config, &model_gates),
                config,
            })),
            gates,
            model_gates: Arc::new(model_gates),
            health: Arc::new(TargetHealth::new(Arc::clone(&metrics))),
            refusals: Arc::new(RefusalLog::new(Arc::clone(&metrics))),
            connections: Arc::new(ConnectionLimit::for_callers(descriptors()?, &metrics)),
            sinks: gateway::sinks(&metrics),
            metrics,
            metrics_page: Arc::default(),
            shutdown: shutdown.clone(),
            tasks: TaskTracker::new(),
        })
    }

    /// A copy for a worker.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        Self { clients: Arc::default(), tasks: TaskTracker::new(), ..self.clone() }
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
        if let Err(error) = prepare_clients(&config) {
            tracing::error!(%error, "upstream clients cannot be built");
        }
        self.metrics.config_loaded(&config, gateway::unix_seconds());
        self.memory.resize(config.server.memory);
        let callers = Callers::new(&config, &self.gates, Some(&running.callers));
        self.key_sets.send_replace(callers.key_sets());
        let models = models_of(&config, &self.model_gates);
        self.state.store(Arc::new(State { config, callers, models }));
        self.health.retain(&self.state().config);
        self.provider_models.clear();
        self.metrics.limit_used.clear();
    }

    /// Measures how much of its limits everybody has used. Only configured names become labels;
    /// of all other callers it tells the highest.
    pub async fn measure_limits(&self) {
        let now = Instant::now();
        let state = self.state.load_full();
        let keys: BTreeSet<_> =
            state.config.auth.keys.iter().map(|key| key.name.as_str()).collect();
        let mut used = BTreeMap::new();
        let mut look = |scope: Scope, name: &str, gate: &Gate| {
            for (limit, ratio) in gate.used(now) {
                let highest = used.entry((scope.word(), name.to_owned(), limit.word()));
                let highest = highest.or_insert(ratio);
                *highest = highest.max(ratio);
            }
        };
        let callers = self.gates.survey(|name, gate| {
            let shown = if keys.contains(name) { name } else { OTHER };
            look(Scope::Caller, shown, gate);
        });
        callers.await;
        for (name, gate) in &state.models {
            look(Scope::Model, name, gate);
        }
        // Once they are all forgotten, nothing is used.
        for limit in Limit::ALL.map(Limit::word) {
            let (scope, name) = (Scope::Caller.word(), OTHER.to_owned());
            self.metrics.limit_used.remove(&Limited { scope, name, limit });
        }
        for ((scope, name, limit), ratio) in used {
            self.metrics.limit_used.get_or_create(&Limited { scope, name, limit }).set(ratio);
        }
    }

    /// Keeps fresh what is fetched from others, for as long as it is polled: the token issuers' keys, and the
    /// providers' lists of models. One does so for all copies.
    pub async fn keep_fresh(&self) -> Infallible {
        tokio::select! {
            never = self.keep_keys() => never,
            never = self.keep_lists() => never,
        }
    }

    async fn keep_keys(&self) -> Infallible {
        let fetch = |url| {
            let state = self.state();
            let client = self.clients.get(&state.config.egress.to(&url), &state.config.stream);
            let accept = (ACCEPT, HeaderValue::from_static("application/json"));
            let headers = HeaderMap::from_iter([accept]);
            async { fetch::get(client?, url, headers, MAX_KEY_SET).await }
        };
        jwks::keep(self.key_sets.subscribe(), fetch, &self.metrics).await
    }

    async fn keep_lists(&self) -> Infallible {
        let fetch = |provider: Arc<Provider>| {
            let client = self.clients.get(&provider.egress, &self.state().config.stream);
            async move { provider_models::fetch(client?, &provider).await }
        };
        let listed = || provider_models::listed(&self.state().config);
        self.provider_models.keep(listed, fetch, &self.metrics).await
    }

    /// The configuration of new connections.
    pub fn connection_config(&self) -> ConnectionConfig {
        let state = self.state();
        ConnectionConfig {
            header_timeout: state.config.server.header_timeout,
            idle_timeout: state.config.server.idle_timeout,
            write_stall: state.config.stream.write_stall,
            tls: state.config.server.tls.as_ref().map(Tls::server),
            refusals: Arc::clone(&self.refusals),
            connections: Arc::clone(&self.connections),
        }
    }
}

/// Why an app cannot be made.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How many file descriptors the process may open.
fn descriptors() -> Result<u64, Failed> {
    let (soft, _) = Resource::NOFILE.get()?;
    Ok(soft)
}

/// The way to the collector, if there is one.
fn tracing(config: &Config, metrics: &Arc<Metrics>) -> Result<Tracing, Failed> {
    let Some(otlp) = &config.otlp else { return Ok(Tracing::default()) };
    let (timeout, egress) = (otlp.timeout, config.egress.to(&otlp.endpoint));
    let build = move || egress::blocking(&egress, timeout);
    let client = std::thread::spawn(build).join().map_err(|_| "cannot make a client")??;
    Tracing::new(otlp, client, metrics)
        .map_err(|error| format!("cannot send traces: {error}").into())
}

/// Builds what upstreams' TLS needs, so that no request waits for it, and everything that is wrong
/// shows at the start.
fn prepare_clients(config: &Config) -> Result<(), Failed> {
    let clients = Clients::default();
    for provider in config.providers.values() {
        clients.get(&provider.egress, &config.stream)?;
    }
    Ok(())
}

/// The gates of all models that have limits.
fn models_of(config: &Config, gates: &Gates) -> BTreeMap<String, Arc<Gate>> {
    let limits = config.model_limits.iter();
    limits.map(|(name, limits)| (name.clone(), gates.of(name, *limits))).collect()
}

/// Every path and what answers it. Only pages of other origins need the CORS layer.
pub fn router(app: Arc<App>) -> Router {
    let layer = cors(&app);
    let plain = routes(Arc::clone(&app));
    let crossing = plain.clone().layer(layer);
    Router::new().fallback_service(tower::service_fn(move |mut request: Request| {
        let malformed = request_head::check(&request).err();
        path_alias::rewrite(&mut request);
        let foreign = request.headers().contains_key(ORIGIN);
        if foreign {
            gateway::refused::record_origin(&app.refusals, &app.state().config, &request);
        }
        let service = if foreign { crossing.clone() } else { plain.clone() };
        let app = Arc::clone(&app);
        async move {
            match malformed {
                Some(error) => Ok(direct_response::malformed(&app, request, error).await),
                None => service.oneshot(request).await,
            }
        }
    }))
}

fn routes(app: Arc<App>) -> Router {
    // The paths that show one model; endpoints may share them.
    let prefixes = dialect::caller_dialects().filter_map(CallerDialect::model_prefix);
    let mut items: BTreeSet<_> = prefixes.map(|prefix| format!("{prefix}{{*rest}}")).collect();
    let mut router = Router::new();
    for dialect in dialect::caller_dialects() {
        for endpoint in dialect.endpoints() {
            let answer = move |Shared(app): Shared<Arc<App>>, request: Request| async move {
                gateway::answer(app, (dialect, endpoint), request).await
            };
            let methods = post(answer).fallback(only_post);
            let methods = if items.remove(endpoint.path) {
                post(answer).get(model).fallback(only_allowed)
            } else {
                methods
            };
            router = router.route(endpoint.path, methods);
        }
        for question in dialect.questions() {
            let answer = move |Shared(app): Shared<Arc<App>>, request: Request| async move {
                direct_response::question(&app, (dialect, question), request).await
            };
            let asked = if question.posted {
                post(answer).fallback(only_post)
            } else {
                get(answer).fallback(only_get)
            };
            router = router.route(question.path, asked);
        }
    }
    for path in items {
        router = router.route(&path, get(model).fallback(only_get));
    }
    let lists: BTreeSet<_> = dialect::caller_dialects().map(CallerDialect::models_path).collect();
    for path in lists {
        router = router.route(path, get(models).fallback(only_get));
    }
    router
        .merge(admin::public_routes())
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
    let allowances = dialect::caller_dialects().flat_map(CallerDialect::allowance_headers);
    // Some dialects share them.
    let names: BTreeSet<_> = EXPOSED.into_iter().chain(allowances.flatten()).collect();
    names.into_iter().map(HeaderName::from_static).collect()
}

async fn models(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::models(&app, request).await
}

async fn model(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::model(&app, request).await
}

async fn prompts(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::prompts(&app, request).await
}

async fn not_found(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::not_found(&app, request).await
}

async fn only_post(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::wrong_method(&app, request, "POST").await
}

async fn only_allowed(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    let allowed = direct_response::allowed(request.uri().path());
    direct_response::wrong_method(&app, request, allowed).await
}

async fn only_get(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::wrong_method(&app, request, "GET").await
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
