//! Composition of the program: a configuration to an [`App`], and an app to its router. No other file joins parts.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{any, get, post};
use http::header::ORIGIN;
use http::{HeaderName, HeaderValue, Method};
use rlimit::Resource;
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::admin::{self, AdminState, MetricsPage};
use crate::backplane::SharedChannels;
use crate::channel_api::{self, ChannelGateway};
use crate::channels::{HistoryArchive, Hub};
use crate::config::{Channels, Config, Tls};
use crate::console;
use crate::durable::{self, Streams};
use crate::gateway;
use crate::gateway::clock::unix_seconds;
use crate::gateway::compression::compress;
use crate::gateway::state::{Gateway, SetupError};
use crate::gateway::{direct_response, path_alias};
use crate::graphql::{self, GraphQl};
use crate::mercure;
use crate::server::{ConnectionConfig, ConnectionLimit, Shutdown, request_head};
use crate::stream_api;
use crate::streams::position::Epoch;
use crate::wire::dialect::{self, CallerDialect};

/// Response headers that pages of other origins may read (`access-control-expose-headers`), besides the dialects'
/// rate limit headers.
const EXPOSED_HEADERS: [&str; 19] = [
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
    "streamgate-stream-id",
    "content-location",
    "stream-next-offset",
    "stream-replay-from",
    "stream-up-to-date",
    "stream-closed",
    "mercure-last-event-id",
    "last-event-id",
];

/// The whole program: the gateway, and what its listeners share. Each worker has a copy.
#[derive(Clone)]
pub struct App {
    gateway: ChannelGateway,
    /// The log by which other nodes share its channels, if there are other nodes.
    shared_channels: Option<Arc<SharedChannels>>,
    /// The streams of the Durable Streams protocol.
    durable: Arc<Streams>,
    /// GraphQL's schema and connections.
    graphql: Arc<GraphQl>,
    /// The limit of callers' connections.
    connections: Arc<ConnectionLimit>,
    /// The metrics page, shared by all copies.
    metrics_page: Arc<MetricsPage>,
}

impl Deref for App {
    type Target = ChannelGateway;

    fn deref(&self) -> &ChannelGateway {
        &self.gateway
    }
}

impl App {
    /// Builds the program's parts from a configuration.
    pub fn new(config: Config, shutdown: &Shutdown) -> Result<Self, SetupError> {
        let (settings, durable) = (config.channels.clone(), config.durable);
        let gateway = Gateway::new(config, shutdown)?;
        let hub = Arc::new(hub(&settings, &gateway)?);
        let shared_channels = gateway.backplane.as_ref().map(SharedChannels::new);
        if let Some(shared) = &shared_channels {
            hub.share(Arc::<SharedChannels>::clone(shared), shared.node());
        }
        let durable = Arc::new(Streams::new(&durable, &gateway.metrics));
        gateway.streams.announce_to(Arc::<Hub>::clone(&hub));
        let (descriptors, _) = Resource::NOFILE.get()?;
        let connections = ConnectionLimit::for_callers(descriptors, &gateway.metrics);
        let connections = Arc::new(connections);
        Ok(Self {
            gateway: ChannelGateway { gateway, hub },
            shared_channels,
            durable,
            graphql: Arc::default(),
            connections,
            metrics_page: Arc::default(),
        })
    }

    /// A copy for a worker.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        let gateway = self.gateway.gateway.for_worker();
        Self { gateway: ChannelGateway { gateway, hub: Arc::clone(&self.hub) }, ..self.clone() }
    }

    /// The state of the admin endpoints.
    pub fn admin(&self) -> Arc<AdminState> {
        let (gateway, page) = (self.gateway.gateway.clone(), Arc::clone(&self.metrics_page));
        Arc::new(AdminState { gateway, page })
    }

    /// Puts another configuration in force.
    pub fn reload(&self, config: Config) {
        self.hub.configure(&config.channels);
        self.durable.resize(&config.durable);
        self.gateway.reload(config);
    }

    /// Completes what the usage ledger and the archive on disk are to keep, and closes them. Afterwards nothing is kept there.
    pub async fn close(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.close().await;
        }
        let Some(archive) = &self.archive else { return };
        if let Err(error) = archive.close().await {
            tracing::warn!(%error, "the archive was not closed cleanly; its file is checked at the next start");
        }
    }

    /// Keeps fetched documents fresh and channels trimmed, for as long as it is polled; and asks subscribers to end
    /// when the process stops. One does so for all copies.
    pub async fn keep_fresh(&self) -> Infallible {
        let draining = async {
            self.shutdown.stopping.cancelled().await;
            self.hub.drain(self.state().config.server.drain);
            std::future::pending().await
        };
        tokio::select! {
            never = self.gateway.keep_fresh() => never,
            never = self.hub.keep_trimmed() => never,
            never = self.durable.keep() => never,
            never = self.graphql.keep() => never,
            never = draining => never,
            never = self.keep_shared_channels() => never,
        }
    }

    async fn keep_shared_channels(&self) -> Infallible {
        match &self.shared_channels {
            Some(shared) => shared.run(&self.hub).await,
            None => std::future::pending().await,
        }
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

/// The hub: with the channels that nodes share, or with those of the archive if there is one.
fn hub(settings: &Channels, gateway: &Gateway) -> Result<Hub, SetupError> {
    if let Some(redis) = &gateway.state().config.redis {
        // The same on every node. Numbers grow even if Redis loses them.
        let epoch = Epoch::named(&redis.prefix);
        return Ok(Hub::of_epoch(epoch, settings, &gateway.metrics));
    }
    let Some(archive) = gateway.archive.clone() else {
        return Ok(Hub::new(settings, &gateway.metrics));
    };
    let restore = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let history = runtime.block_on(HistoryArchive::restore(&archive, unix_seconds))?;
        Ok::<_, SetupError>(history)
    };
    // This thread may run a runtime, in which nothing can be waited for without one.
    let history = std::thread::scope(|scope| scope.spawn(restore).join());
    let history =
        history.map_err(|_| "the history of channels cannot be read (streams.path)")??;
    Ok(Hub::restored(history, settings, &gateway.metrics))
}

/// The router of the callers' listener. Only requests of other origins pass through the CORS layer.
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
    // The paths of single models; other endpoints may have the same path.
    let prefixes = dialect::caller_dialects().filter_map(CallerDialect::model_prefix);
    let mut items: BTreeSet<_> = prefixes.map(|prefix| format!("{prefix}{{*rest}}")).collect();
    let mut router = Router::new();
    for dialect in dialect::caller_dialects() {
        for endpoint in dialect.endpoints() {
            let answer = move |Shared(app): Shared<Arc<App>>, request: Request| async move {
                gateway::answer(&app, (dialect, endpoint), request).await
            };
            let methods = post(answer).fallback(only_post);
            let methods = if items.remove(endpoint.path) {
                post(answer).get(model).fallback(only_allowed)
            } else {
                methods
            };
            router = router.route(endpoint.path, methods);
        }
        for endpoint in dialect.info_endpoints() {
            let answer = move |Shared(app): Shared<Arc<App>>, request: Request| async move {
                match console::page(&app, &request) {
                    Some(page) => page,
                    None => {
                        direct_response::info_response(&app, (dialect, endpoint), request).await
                    }
                }
            };
            let asked = if endpoint.posted {
                post(answer).fallback(only_post)
            } else {
                get(answer).fallback(only_get)
            };
            router = router.route(endpoint.path, asked);
        }
    }
    for path in items {
        router = router.route(&path, get(model).fallback(only_get));
    }
    let lists: BTreeSet<_> = dialect::caller_dialects().map(CallerDialect::models_path).collect();
    for path in lists {
        router = router.route(path, get(models).fallback(only_get));
    }
    let gateway = Arc::new(Gateway::clone(&app));
    router
        .merge(admin::public_routes(app.admin()))
        .merge(stream_api::router(Arc::clone(&gateway)))
        .merge(console::routes(Arc::clone(&gateway)))
        .route("/v1/prompts", get(prompts).fallback(only_get))
        .merge(channels(gateway))
        .route(
            graphql::PATH,
            get(graphql).post(graphql).put(graphql).delete(graphql).fallback(only_graphql),
        )
        .route(
            mercure::PATH,
            get(mercure_subscribe).post(mercure_publish).fallback(only_get_or_post),
        )
        .route(durable::ROUTE, any(durable_stream))
        .fallback(not_found)
        .with_state(app)
}

/// The routes of channels.
fn channels(gateway: Arc<Gateway>) -> Router<Arc<App>> {
    let view = async |Shared(app): Shared<Arc<App>>, request: Request| {
        channel_api::view(&app, request).await
    };
    let publish = async |Shared(app): Shared<Arc<App>>, request: Request| {
        channel_api::publish(&app, request).await
    };
    let broadcast = async |Shared(app): Shared<Arc<App>>, request: Request| {
        channel_api::broadcast(&app, request).await
    };
    let notify = async |Shared(app): Shared<Arc<App>>, request: Request| {
        channel_api::notify(&app, request).await
    };
    let events = async |Shared(app): Shared<Arc<App>>, request: Request| {
        channel_api::events(&app, request).await
    };
    let compressed = from_fn_with_state(gateway, compress);
    Router::new()
        .route("/v1/events", get(events).fallback(only_get).layer(compressed))
        .route("/v1/channels/{channel}", get(view).post(publish).fallback(only_get_or_post))
        .route("/v1/broadcast", post(broadcast).fallback(only_post))
        .route("/v1/users/{user}/notify", post(notify).fallback(only_post))
}

/// The CORS layer: pages of the configured origins may call, and read [`EXPOSED_HEADERS`].
fn cors(app: &Arc<App>) -> CorsLayer {
    let allowed = Arc::clone(app);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin: &HeaderValue, _| {
            allowed.state().config.server.cors_origins.contains(origin)
        }))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers(exposed())
        .max_age(Duration::from_mins(10))
}

/// All exposed headers.
fn exposed() -> Vec<HeaderName> {
    let allowances = dialect::caller_dialects().flat_map(CallerDialect::allowance_headers);
    // Dialects share some of them.
    let own = EXPOSED_HEADERS.into_iter().chain(durable::EXPOSED_HEADERS);
    let names: BTreeSet<_> = own.chain(allowances.flatten()).collect();
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

async fn durable_stream(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    durable::answer(&app, &app.durable, request).await
}

async fn mercure_subscribe(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    mercure::subscribe(&app, request).await
}

async fn mercure_publish(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    mercure::publish(&app, request).await
}

async fn graphql(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    graphql::answer(&app, &app.graphql, request).await
}

async fn only_graphql(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::method_not_allowed(&app, request, "GET, POST, PUT, DELETE").await
}

async fn not_found(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::not_found(&app, request).await
}

async fn only_post(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::method_not_allowed(&app, request, "POST").await
}

async fn only_allowed(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    let allowed = direct_response::allowed(request.uri().path());
    direct_response::method_not_allowed(&app, request, allowed).await
}

async fn only_get_or_post(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::method_not_allowed(&app, request, "GET, POST").await
}

async fn only_get(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::method_not_allowed(&app, request, "GET").await
}
