//! State of the gateway: everything that requests share. A reload replaces the configuration as a whole; the usage of
//! limits and the health of targets outlive it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::access_log::AccessLog;
use super::auth::jwks::{self, KeySet};
use super::auth::tickets::Tickets;
use super::auth::{Caller, Callers};
use super::clock::{unix, unix_seconds};
use super::egress::Clients;
use super::fetch;
use super::ledger_records::LedgerSink;
use super::limit::{Limit, Limiter, LimiterRegistry, Scope};
use super::provider_models::{self, ProviderModels};
use super::request_metrics::RequestMetrics;
use super::request_spans::RequestSpans;
use super::summary::{Sink, Sinks};
use super::target_check;
use super::target_health::TargetHealth;
use crate::archive::{Archive, DiskArchive};
use crate::backplane::{Backplane, HintReceiver, SharedHints, SharedRecords};
use crate::channels::ChannelRights;
use crate::config::{Config, Limits, Provider};
use crate::ledger::Ledger;
use crate::memory::MemoryBudget;
use crate::server::Shutdown;
use crate::streams::archived::ArchivedStreams;
use crate::streams::conversation_archive::ConversationArchive;
use crate::streams::conversations::Conversations;
use crate::streams::registry::{StreamCounts, Streams};
use crate::streams::response_archive::ResponseArchive;
use crate::streams::stored::StoredResponses;
use crate::telemetry::trace::Tracing;
use crate::telemetry::{LimitLabels, Metrics, OTHER, RefusalLog, StreamLabels};
use crate::wire::dialect::Clock;

/// The most bytes of a key set.
const MAX_KEY_SET: usize = 1 << 20;

/// The time between two looks for durable streams and stored responses that have expired.
const SWEEP: Duration = Duration::from_secs(5);

/// Everything that requests share. Each worker has a copy with clients of its own, whose
/// connections live and die on that worker's thread.
#[derive(Clone)]
pub struct Gateway {
    state: Arc<ArcSwap<State>>,
    /// The limiters of callers; they outlive reloads.
    limiters: Arc<LimiterRegistry>,
    /// The limiters of models; they outlive reloads.
    model_limiters: Arc<LimiterRegistry>,
    /// The health of targets; outlives reloads.
    pub health: Arc<TargetHealth>,
    /// The token issuers' keys that [`Gateway::keep_fresh`] keeps fresh.
    key_sets: watch::Sender<Vec<Arc<KeySet>>>,
    /// The models that providers offer.
    pub provider_models: Arc<ProviderModels>,
    /// The memory that request bodies and answers may take.
    pub memory: Arc<MemoryBudget>,
    /// The durable streams.
    pub streams: Arc<Streams>,
    /// The streams that other nodes share, if there are other nodes.
    pub backplane: Option<Arc<Backplane>>,
    /// The records that other nodes share, if there are other nodes.
    records: Option<Arc<SharedRecords>>,
    /// The hints of target health that other nodes share, if there are other nodes.
    hints: Option<Arc<SharedHints>>,
    /// The archive on disk, if there is one.
    pub archive: Option<Arc<dyn Archive>>,
    /// The durable streams that it keeps.
    pub archived: ArchivedStreams,
    /// The responses that requests may refer to.
    pub stored: Arc<StoredResponses>,
    /// The conversations that requests may belong to.
    pub conversations: Arc<Conversations>,
    /// The tickets that callers have made.
    pub tickets: Arc<Tickets>,
    /// The clients for upstreams.
    pub clients: Arc<Clients>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The usage ledger, if there is one.
    pub ledger: Option<Arc<Ledger>>,
    /// The receivers of the summaries of requests.
    pub sinks: Sinks,
    /// Requests that no endpoint answers.
    pub refusals: Arc<RefusalLog>,
    /// The export of spans, if it is configured.
    pub tracing: Tracing,
    /// The steps of a shutdown.
    pub shutdown: Shutdown,
    /// Owns what outlives a request by a moment.
    pub tasks: TaskTracker,
}

/// The part of the state that a reload replaces as a whole.
pub struct State {
    /// The configuration in force.
    pub config: Config,
    /// All callers.
    pub callers: Callers,
    /// The limiters of those models that have limits.
    pub models: BTreeMap<String, Arc<Limiter>>,
}

/// A configuration that cannot be put in force.
pub type SetupError = Box<dyn std::error::Error + Send + Sync>;

impl Gateway {
    /// A gateway with a configuration.
    pub fn new(config: Config, shutdown: &Shutdown) -> Result<Self, SetupError> {
        let (limiters, model_limiters) =
            (Arc::new(LimiterRegistry::default()), LimiterRegistry::new(Scope::Model));
        let metrics = Arc::<Metrics>::default();
        metrics.config_loaded(&config, unix_seconds());
        let callers = Callers::new(&config, &limiters, None);
        let health = Arc::new(TargetHealth::new(Arc::clone(&metrics), &config));
        prepare_clients(&config)?;
        let memory = Arc::new(MemoryBudget::new(config.server.memory, &metrics));
        let archive = archive(&config, &metrics)?;
        let streams = Arc::new(Streams::new(&memory.streams));
        let backplane = backplane(&config, &streams, &metrics)?;
        let records = backplane.as_ref().map(|backplane| Arc::new(SharedRecords::new(backplane)));
        let hints = backplane.as_ref().map(|backplane| Arc::new(SharedHints::new(backplane)));
        if let Some(hints) = &hints {
            health.share_with(hints.sender());
        }
        let shared = records.clone().map(|records| records as Arc<dyn Archive>);
        let kept = shared.as_ref().or(archive.as_ref());
        let responses = kept.map(|archive| ResponseArchive::new(archive, unix_seconds));
        let stored = StoredResponses::new(&memory.streams).archived(responses);
        let conversed = kept.map(|archive| ConversationArchive::new(archive, unix_seconds));
        let conversations =
            Conversations::new(&memory.streams).archived(conversed).shared(backplane.is_some());
        let stored = Arc::new(stored);
        if let Some(backplane) = &backplane {
            backplane.forget_in(&stored);
        }
        let ledger = config.ledger.as_ref();
        let ledger = ledger.map(|ledger| Ledger::open(ledger, unix, &metrics)).transpose()?;
        let ledger = ledger.map(Arc::new);
        Ok(Self {
            clients: Arc::default(),
            backplane,
            records,
            hints,
            archived: ArchivedStreams::new(archive.clone(), &streams, unix_seconds),
            archive,
            streams,
            stored,
            conversations: Arc::new(conversations),
            tickets: Arc::default(),
            memory,
            provider_models: Arc::default(),
            tracing: tracing(&config, &metrics)?,
            key_sets: watch::Sender::new(callers.key_sets()),
            state: Arc::new(ArcSwap::from_pointee(State {
                callers,
                models: models_of(&config, &model_limiters),
                config,
            })),
            limiters,
            model_limiters: Arc::new(model_limiters),
            health,
            refusals: Arc::new(RefusalLog::new(Arc::clone(&metrics))),
            sinks: sinks(&metrics, ledger.as_ref()),
            ledger,
            metrics,
            shutdown: shutdown.clone(),
            tasks: TaskTracker::new(),
        })
    }

    /// A copy for a worker.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        Self { clients: Arc::default(), tasks: TaskTracker::new(), ..self.clone() }
    }

    /// The configuration in force, and the state built from it.
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
        self.metrics.config_loaded(&config, unix_seconds());
        self.memory.resize(config.server.memory);
        let callers = Callers::new(&config, &self.limiters, Some(&running.callers));
        self.key_sets.send_replace(callers.key_sets());
        let models = models_of(&config, &self.model_limiters);
        self.health.configure(&config);
        self.state.store(Arc::new(State { config, callers, models }));
        self.provider_models.clear();
        self.metrics.limit_used.clear();
    }

    /// Whether followers of durable streams find them on another node when this one stops. Without Redis, a follower that
    /// is sent away during a drain would lose the rest.
    pub fn hands_over(&self) -> bool {
        self.reachable_backplane().is_some()
    }

    /// A caller that holds a capability for a stream: it may use no model, and has the default limits.
    pub fn guest(&self, share: &str) -> Arc<Caller> {
        self.bearer(&format!("share:{share}"), ChannelRights::default())
    }

    /// A caller that holds a right of somebody: it may use no model. Its limits are those of the name, or the default
    /// ones.
    pub fn bearer(&self, name: &str, channels: ChannelRights) -> Arc<Caller> {
        Arc::new(Caller {
            limiter: self.limiters.known_or(name, Limits::default()),
            name: name.into(),
            label: OTHER.into(),
            models: Arc::default(),
            class: None,
            channels: Arc::new(channels),
            until: None,
        })
    }

    /// Measures the durable streams.
    pub fn measure_streams(&self) {
        let count = |state, number| {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.metrics.streams.get_or_create(&StreamLabels { state }).set(number);
        };
        let StreamCounts { running, ended, viewers } = self.streams.count();
        count("running", running);
        count("ended", ended);
        self.metrics.stream_viewers.set(i64::try_from(viewers).unwrap_or(i64::MAX));
    }

    /// Measures the usage of all limits. Only configured names become labels; all other callers share one, with the
    /// highest ratio.
    pub async fn measure_limits(&self) {
        let now = Instant::now();
        let state = self.state.load_full();
        let keys: BTreeSet<_> =
            state.config.auth.keys.iter().map(|key| key.name.as_str()).collect();
        let mut used = BTreeMap::new();
        let mut look = |scope: Scope, name: &str, limiter: &Limiter| {
            for (limit, ratio) in limiter.used(now) {
                let highest = used.entry((scope.word(), name.to_owned(), limit.word()));
                let highest = highest.or_insert(ratio);
                *highest = highest.max(ratio);
            }
        };
        let callers = self.limiters.survey(|name, limiter| {
            let shown = if keys.contains(name) { name } else { OTHER };
            look(Scope::Caller, shown, limiter);
        });
        callers.await;
        for (name, limiter) in &state.models {
            look(Scope::Model, name, limiter);
        }
        // Once they are all forgotten, nothing is used.
        for limit in Limit::ALL.map(Limit::word) {
            let (scope, name) = (Scope::Caller.word(), OTHER.to_owned());
            self.metrics.limit_used.remove(&LimitLabels { scope, name, limit });
        }
        for ((scope, name, limit), ratio) in used {
            self.metrics.limit_used.get_or_create(&LimitLabels { scope, name, limit }).set(ratio);
        }
    }

    /// Keeps fetched documents fresh, for as long as it is polled: the token issuers' keys, and the
    /// providers' lists of models. Checks ejected targets. Forgets durable streams that have expired. One does so for all copies.
    pub async fn keep_fresh(&self) -> Infallible {
        tokio::select! {
            never = self.keep_keys() => never,
            never = self.keep_lists() => never,
            never = self.keep_streams() => never,
            never = self.keep_shared() => never,
            never = self.keep_checks() => never,
        }
    }

    async fn keep_checks(&self) -> Infallible {
        let check = |provider: Arc<Provider>| {
            let client = self.clients.get(&provider.egress, &self.state().config.stream);
            async move { target_check::check(client?, &provider).await }
        };
        let checked = || target_check::checked(&self.state().config);
        target_check::keep(&self.health, checked, check).await
    }

    async fn keep_shared(&self) -> Infallible {
        match (&self.backplane, &self.records, &self.hints) {
            (Some(backplane), Some(records), Some(hints)) => {
                let health: Arc<dyn HintReceiver> = Arc::<TargetHealth>::clone(&self.health);
                tokio::select! {
                    never = backplane.run() => never,
                    never = records.run() => never,
                    never = Box::pin(hints.run(health)) => never,
                }
            }
            _ => std::future::pending().await,
        }
    }

    async fn keep_streams(&self) -> Infallible {
        loop {
            sleep(SWEEP).await;
            let (config, now) = (self.state().config.streams, Instant::now());
            self.archived.prolong(config.keep, now);
            self.streams.sweep(config.keep, now);
            self.stored.sweep(config.store.unwrap_or_default(), now);
            self.conversations.sweep(config.store.unwrap_or_default(), now);
            let per_owner = usize::try_from(config.per_caller).unwrap_or(usize::MAX);
            self.stored.trim(per_owner).await;
            self.conversations.trim(per_owner).await;
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
}

/// The streams that other nodes share, if the configuration names Redis.
fn backplane(
    config: &Config,
    streams: &Arc<Streams>,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Backplane>>, SetupError> {
    let Some(redis) = &config.redis else { return Ok(None) };
    let backplane = Backplane::new(redis, streams, (metrics, Clock::new(unix_seconds)))
        .map_err(|error| format!("Redis cannot be used as `redis` says: {error}"))?;
    Ok(Some(Arc::new(backplane)))
}

/// The archive on disk, if one is configured.
fn archive(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<dyn Archive>>, SetupError> {
    let Some(settings) = &config.archive else { return Ok(None) };
    let opened = DiskArchive::open(settings, unix_seconds, metrics)?;
    Ok(Some(Arc::new(opened)))
}

/// The receivers of the summaries of requests.
pub(super) fn sinks(metrics: &Arc<Metrics>, ledger: Option<&Arc<Ledger>>) -> Sinks {
    let metrics = RequestMetrics(Arc::clone(metrics));
    let mut sinks: Vec<Box<dyn Sink>> =
        vec![Box::new(metrics), Box::new(AccessLog), Box::new(RequestSpans)];
    if let Some(ledger) = ledger {
        sinks.push(Box::new(LedgerSink(Arc::clone(ledger))));
    }
    sinks.into()
}

/// The export of traces, if it is configured.
#[cfg(feature = "otlp")]
fn tracing(config: &Config, metrics: &Arc<Metrics>) -> Result<Tracing, SetupError> {
    let Some(otlp) = &config.otlp else { return Ok(Tracing::default()) };
    let (timeout, egress) = (otlp.timeout, config.egress.to(&otlp.endpoint));
    let build = move || super::egress::blocking(&egress, timeout);
    let client = std::thread::spawn(build).join().map_err(|_| "cannot make a client")??;
    Tracing::new(otlp, client, metrics)
        .map_err(|error| format!("cannot send traces: {error}").into())
}

/// A build without the export: the configuration has rejected `telemetry.otlp`.
#[cfg(not(feature = "otlp"))]
#[expect(clippy::unnecessary_wraps, reason = "the signature of the other build")]
fn tracing(_: &Config, _: &Arc<Metrics>) -> Result<Tracing, SetupError> {
    Ok(Tracing::default())
}

/// Builds the TLS clients of upstreams, so that no request waits for them, and every error shows at
/// the start.
fn prepare_clients(config: &Config) -> Result<(), SetupError> {
    let clients = Clients::default();
    for provider in config.providers.values() {
        clients.get(&provider.egress, &config.stream)?;
    }
    Ok(())
}

/// The limiters of all models that have limits.
fn models_of(config: &Config, limiters: &LimiterRegistry) -> BTreeMap<String, Arc<Limiter>> {
    let limits = config.model_limits.iter();
    limits.map(|(name, limits)| (name.clone(), limiters.of(name, *limits))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Limits;

    /// Callers who are not in the configuration are shown together, and not for ever.
    #[tokio::test(start_paused = true)]
    async fn callers_without_a_configured_name_are_others() {
        let gateway = Gateway::new(Config::default(), &Shutdown::default()).unwrap();
        let limits = Limits { concurrent_streams: Some(4), ..Limits::default() };
        let open =
            [gateway.limiters.of("one-canary", limits), gateway.limiters.of("two-canary", limits)]
                .map(|limiter| limiter.admit().unwrap());
        let more = gateway.limiters.of("two-canary", limits).admit().unwrap();
        gateway.measure_limits().await;
        let text = gateway.metrics.render();
        let shown = r#"streamgate_limit_used_ratio{scope="caller",name="other",limit="concurrent_streams"}"#;
        assert!(text.contains(&format!("{shown} 0.5\n")), "{text}");
        assert!(!text.contains("canary"), "{text}");
        drop((open, more));
        tokio::time::advance(Duration::from_mins(1)).await;
        gateway.measure_limits().await;
        assert!(!gateway.metrics.render().contains("other"), "{}", gateway.metrics.render());
    }
}
