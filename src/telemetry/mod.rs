//! Telemetry: metrics, each declared and registered in one line; traces in [`trace`]; refused requests in
//! [`RefusalLog`]; the log in [`log`].
//!
//! Names follow the OpenTelemetry GenAI conventions where one exists (`gen_ai.server.*`), those of
//! Prometheus' client libraries for the process, and start with `streamgate` elsewhere. No label takes
//! its value from a caller.

mod context;
mod histogram;
mod initial_series;
mod labels;
pub mod log;
#[cfg_attr(not(feature = "otlp"), path = "otlp_disabled.rs")]
mod otlp;
mod process;
mod refusals;
#[cfg(test)]
mod tests;
pub mod trace;

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::config::{Config, Tls};
pub use histogram::{Histogram, Sample};
pub use labels::{
    AuthFailureLabels, BreakerChangeLabels, BuildLabels, ConfigLabels, ContinuationLabels,
    CostLabels, DialectLabels, HedgeLabels, KeyFetchLabels, LimitLabels, LimitRefusalLabels,
    MemoryLabels, MirrorLabels, ModelLabels, ModelListFetchLabels, NoLabels, OTHER, OutcomeLabels,
    PickLabels, ProviderLabels, QueueLabels, QueueRefusalLabels, RefusedRequestLabels, RetryLabels,
    RouteLabels, SlowStreamLabels, SpanLossLabels, StreamLabels, TargetHintLabels, TargetLabels,
    TargetStateLabels, TokenLabels, UpstreamErrorLabels, WastedTokenLabels,
};
pub use refusals::{RefusalLog, RefusalReason, RefusalSource};

/// Declares and registers the metrics: a line has the field, its type with the label set, the name (a counter's
/// without `_total`; a unit at its end is declared), and the help text, which is also the field's documentation.
macro_rules! metrics {
    ($($field:ident: $kind:ty = $name:literal, $help:literal;)*) => {
        /// All metrics of one process.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::default();
                $(let $field = register::<$kind>(&mut registry, $name, $help);)*
                registry.register_collector(Box::new(process::Process));
                let metrics = Self { registry, $($field,)* };
                metrics.build_info.get_or_create(&BUILD).set(1);
                metrics
            }
        }

        #[cfg(test)]
        impl Metrics {
            /// Makes a series of every metric, so that the page shows all of them with their labels.
            fn make_series(&self) {
                use tests::MakeSeries;
                $(self.$field.make_series();)*
            }
        }
    };
}

metrics! {
    requests: Family<OutcomeLabels, Counter> = "streamgate_requests",
        "Requests that have ended, by caller and by how they ended";
    open_requests: Family<DialectLabels, Gauge> = "streamgate_open_requests",
        "Requests under way: from the request's head to the last byte of its answer";
    time_to_first_token: Family<RouteLabels, Histogram> = "gen_ai_server_time_to_first_token_seconds",
        "From the request to the first model output that was passed on";
    time_per_output_token: Family<RouteLabels, Histogram> = "gen_ai_server_time_per_output_token_seconds",
        "Pauses between model outputs after the first; what arrives together is one output";
    longest_gap: Family<RouteLabels, Histogram> = "streamgate_longest_gap_seconds",
        "The longest pause between model outputs of each answer";
    request_duration: Family<RouteLabels, Histogram> = "gen_ai_server_request_duration_seconds",
        "From the request to the end of its answer, however it ended";
    tokens: Family<TokenLabels, Counter> = "streamgate_tokens",
        "Tokens of answered requests, as the upstream counts them or as we estimate";
    cost: Family<CostLabels, Counter<f64, AtomicU64>> = "streamgate_cost_dollars",
        "Price of the tokens of answered requests, where it is known";
    unpriced_requests: Family<TargetLabels, Counter> = "streamgate_unpriced_requests",
        "Answered requests whose target has no price";
    upstream_errors: Family<UpstreamErrorLabels, Counter> = "streamgate_upstream_errors",
        "Attempts at a provider that failed, by kind, whatever became of the request";
    implausible_usage: Family<ProviderLabels, Counter> = "streamgate_implausible_usage",
        "Answers whose upstream counted more tokens than they can have used, and were estimated instead";
    target_ejected: Family<TargetLabels, Gauge> = "streamgate_target_ejected",
        "1 while a target is passed over because it has failed hard and no request has succeeded since";
    target_state: Family<TargetStateLabels, Gauge> = "streamgate_target_state",
        "1 for the state of each target, credential and host, measured at each scrape";
    target_cooldown: Family<TargetLabels, Gauge<f64, AtomicU64>> = "streamgate_target_cooldown_seconds",
        "Time until a target, credential or host takes requests again, measured at each scrape";
    learned_limit: Family<TargetLabels, Gauge> = "streamgate_target_learned_limit",
        "The most answers in progress of a credential, where its upstream's refusals have taught a limit, measured at each scrape";
    breaker_changes: Family<BreakerChangeLabels, Counter> = "streamgate_breaker_changes",
        "Changes of circuit breakers of targets, credentials and hosts, by the new state and the reason";
    target_hints: Family<TargetHintLabels, Counter> = "streamgate_target_hints",
        "Hints of target health between nodes, by direction";
    picks: Family<PickLabels, Counter> = "streamgate_picks",
        "Choices of targets for attempts, by the reason";
    retries: Family<RetryLabels, Counter> = "streamgate_retries",
        "Attempts that followed a failed one of the same request, by where they went";
    retry_budget_empty: Family<ModelLabels, Counter> = "streamgate_retry_budget_empty",
        "Requests that were given up although another attempt could be made, because the model's retry budget was used up";
    hedges: Family<HedgeLabels, Counter> = "streamgate_hedges",
        "Requests that a second target might be asked for while the first one was silent, by result";
    slow_streams: Family<SlowStreamLabels, Counter> = "streamgate_slow_streams",
        "Answers whose upstream became slower than their model allows, by consequence";
    wasted_tokens: Family<WastedTokenLabels, Counter> = "streamgate_wasted_tokens",
        "Tokens of answers that no caller got: estimated input of attempts that another one was faster than, all tokens of mirrored requests";
    mirrors: Family<MirrorLabels, Counter> = "streamgate_mirrors",
        "Requests of which a copy was to be sent to another target, by result";
    mirror_ttft: Family<RouteLabels, Histogram> = "streamgate_mirror_time_to_first_token_seconds",
        "From the sending of a mirrored request to the first model output";
    queue_length: Family<QueueLabels, Gauge> = "streamgate_queue_length",
        "Requests that wait because all targets of their model are full, by class";
    queue_wait: Family<QueueLabels, Histogram> = "streamgate_queue_wait_seconds",
        "Time that requests waited in the queue of their model before they were sent, by class";
    queue_refusals: Family<QueueRefusalLabels, Counter> = "streamgate_queue_refusals",
        "Requests that the queue of their model did not take, or gave up, by reason";
    continuations: Family<ContinuationLabels, Counter> = "streamgate_continuations",
        "Answers that broke off and might be continued by another target, by result";
    heartbeats: Family<DialectLabels, Counter<u64, AtomicU64>> = "streamgate_heartbeats",
        "Heartbeats written to callers while the upstream was silent";
    spans_lost: Family<SpanLossLabels, Counter> = "streamgate_spans_lost",
        "Spans of traces that no collector took, by reason";
    log_lines_lost: log::LinesLost = "streamgate_log_lines_lost",
        "Log lines that standard error did not take in time";
    limit_refusals: Family<LimitRefusalLabels, Counter> = "streamgate_limit_refusals",
        "Requests refused because of a limit, by whose and which";
    limit_used: Family<LimitLabels, Gauge<f64, AtomicU64>> = "streamgate_limit_used_ratio",
        "How much of a limit is used, measured at each scrape: 1 is all of it, more is a debt";
    refused_credentials: Family<AuthFailureLabels, Counter> = "streamgate_refused_credentials",
        "Credentials that were refused, by reason";
    refused_requests: Family<RefusedRequestLabels, Counter> = "streamgate_refused_requests",
        "Requests that reached no endpoint, or came from a page that may not call, by reason";
    memory_used: Family<MemoryLabels, Gauge> = "streamgate_memory_used_bytes",
        "Memory that request bodies and kept parts of answers take, by share of the budget";
    memory_limit: Family<MemoryLabels, Gauge> = "streamgate_memory_limit_bytes",
        "The most memory of each share of the budget";
    memory_refusals: Family<MemoryLabels, Counter> = "streamgate_memory_refusals",
        "Requests and answers that a share of the memory budget had no room for";
    streams: Family<StreamLabels, Gauge> = "streamgate_streams",
        "Durable streams in memory, measured at each scrape, by whether they are being produced";
    stream_viewers: Gauge = "streamgate_stream_viewers",
        "Viewers of durable streams, measured at each scrape";
    streams_lost: Counter = "streamgate_streams_lost",
        "Durable streams that this node has ended because the one that produced them no longer renewed its lease";
    redis_reachable: Gauge = "streamgate_redis_reachable",
        "Whether Redis answers: 1 or 0; 0 without one";
    redis_errors: Counter = "streamgate_redis_errors",
        "Commands of Redis that failed or were not answered in time";
    channels: Gauge = "streamgate_channels",
        "Channels that have events or subscribers, or had them";
    channel_subscribers: Gauge = "streamgate_channel_subscribers",
        "Subscribers of channels that are connected";
    channel_events_published: Counter = "streamgate_channel_events_published",
        "Events published to channels";
    channel_events_delivered: Counter = "streamgate_channel_events_delivered",
        "Events of channels passed on to subscribers, once for each of them";
    channel_events_evicted: Counter = "streamgate_channel_events_evicted",
        "Events of channels that were forgotten early because their memory was full";
    channel_resets: Counter = "streamgate_channel_resets",
        "Subscribers who have missed events of channels, and were told";
    channel_lag: Histogram = "streamgate_channel_lag_seconds",
        "From publishing an event to passing it on, of one batch in 16";
    channel_memory_used: Gauge = "streamgate_channel_memory_used_bytes",
        "Memory that events of channels take";
    archive_used: Gauge = "streamgate_archive_used_bytes",
        "Bytes of all records in the archive on disk (streams.path)";
    archive_records_lost: Counter = "streamgate_archive_records_lost",
        "Records that the archive on disk did not take, because it has failed or is too slow";
    archive_records_evicted: Counter = "streamgate_archive_records_evicted",
        "Records that the archive on disk removed before they expired, to make room";
    ledger_spool_used: Gauge = "streamgate_ledger_spool_used_bytes",
        "Bytes of the usage ledger's records that wait for its database, and of those that are not yet deleted";
    ledger_requests_aggregated: Counter = "streamgate_ledger_requests_aggregated",
        "Requests that have no row in the usage ledger, because there was no room: they are counted together";
    ledger_errors: Counter = "streamgate_ledger_errors",
        "Writes to the usage ledger's spool or database that failed";
    open_connections: Gauge = "streamgate_open_connections",
        "Connections of callers that are open";
    max_connections: Gauge = "streamgate_max_connections",
        "The most connections of callers that are open at once";
    evicted_connections: Counter = "streamgate_evicted_connections",
        "Idle connections that were closed to make room for new ones";
    key_fetches: Family<KeyFetchLabels, Counter> = "streamgate_key_fetches",
        "Fetches of token issuers' keys";
    model_list_fetches: Family<ModelListFetchLabels, Counter> = "streamgate_model_list_fetches",
        "Fetches of providers' lists of models";
    build_info: Family<BuildLabels, Gauge> = "streamgate_build_info",
        "The running program; the value is 1";
    config_info: Family<ConfigLabels, Gauge> = "streamgate_config_info",
        "The digest of the files of the configuration in force; the value is 1";
    config_successful: Gauge = "streamgate_config_last_reload_successful",
        "Whether all of the configuration's files are in force: 0 after a reload that was rejected";
    config_time: Gauge = "streamgate_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was loaded";
    certificate_expiry: Family<NoLabels, Gauge> =
        "streamgate_tls_certificate_expiry_timestamp_seconds",
        "When the listener's certificate expires, or one that it is signed with, if that is earlier";
}

const BUILD: BuildLabels = BuildLabels {
    version: env!("CARGO_PKG_VERSION"),
    os: std::env::consts::OS,
    arch: std::env::consts::ARCH,
};

/// Registers a new metric. A unit at the end of its name is declared as its unit.
fn register<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> M {
    let metric = M::default();
    let dollars = ("_dollars", Unit::Other("dollars".to_owned()));
    let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes), dollars];
    let with_unit = units.into_iter().find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)));
    match with_unit {
        Some((name, unit)) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

impl Metrics {
    /// Records that a configuration was put in force, at `now` in seconds since 1970.
    pub fn config_loaded(&self, config: &Config, now: u64) {
        self.config_successful.set(1);
        self.config_time.set(i64::try_from(now).unwrap_or(i64::MAX));
        self.config_info.clear();
        if let Some(digest) = config.sources.digest() {
            self.config_info.get_or_create(&ConfigLabels { digest }).set(1);
        }
        self.certificate_expiry.clear();
        if let Some(expiry) = config.server.tls.as_ref().and_then(Tls::expiry) {
            self.certificate_expiry.get_or_create(&NoLabels {}).set(expiry);
        }
        self.begin_at_zero(config);
    }

    /// Records that a reload was rejected, as a whole or in part.
    pub fn config_rejected(&self) {
        self.config_successful.set(0);
    }

    /// Renders the `OpenMetrics` text. It reads `/proc` and visits every series: too slow for a thread that
    /// serves streams.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(),
        }
    }
}
