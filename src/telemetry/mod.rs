//! Every metric, and the names and units of all labels and record fields; traces in [`trace`].
//!
//! Names follow the OpenTelemetry GenAI conventions where one exists (`gen_ai.server.*`), and
//! start with `streamgate` elsewhere. No label takes its value from a caller.

mod context;
mod histogram;
mod otlp;
pub mod trace;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

pub use histogram::{Histogram, Sample};

/// Which requests a metric is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    /// The caller's dialect.
    pub dialect: &'static str,
    /// A configured model, `provider/*`, or empty when none was resolved.
    pub model: String,
    /// `provider/model` for configured targets, `provider/*` otherwise, empty when none served.
    pub target: String,
}

/// A [`Route`] and how its requests ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// The caller's dialect.
    pub dialect: &'static str,
    /// As in [`Route`].
    pub model: String,
    /// As in [`Route`].
    pub target: String,
    /// `complete`, `client_gone`, `truncated`, `stalled` ...: `error::end_outcome` and
    /// `Error::outcome` list them.
    pub outcome: &'static str,
}

/// Tokens of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Tokens {
    /// As in [`Route`].
    pub model: String,
    /// As in [`Route`].
    pub target: String,
    /// `input` or `output`.
    pub gen_ai_token_type: &'static str,
    /// `true` when the upstream did not say and we counted ourselves.
    pub estimated: &'static str,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamError {
    /// The provider's name in the configuration.
    pub provider: String,
    /// `error::code` of what it was.
    pub kind: &'static str,
}

/// A target that is ejected, or was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ejected {
    /// `provider/model` of a configured target; `provider/*` for a provider's credential.
    pub target: String,
}

/// Who was kept alive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kept {
    /// The caller's dialect.
    pub dialect: &'static str,
}

/// Spans that no collector took.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Lost {
    /// `backlog_full`, `export_failed` or `shutdown`.
    pub reason: &'static str,
}

/// A request that was refused because of a limit of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitReached {
    /// `caller` or `model`.
    pub scope: &'static str,
    /// The limit's name in the configuration.
    pub limit: &'static str,
}

/// Who may come near a limit of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Limited {
    /// `caller` or `model`.
    pub scope: &'static str,
    /// The name of a configured key or model; `other` for callers who are not in the configuration.
    pub name: String,
    /// The limit's name in the configuration.
    pub limit: &'static str,
}

/// A credential that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refused {
    /// `missing`, `unknown_key`, `expired` ...: `gateway::auth` lists them.
    pub reason: &'static str,
}

/// A fetch of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyFetch {
    /// The issuer's name in the configuration.
    pub issuer: String,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

type Histograms = Family<Route, Histogram, fn() -> Histogram>;

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests that have ended.
    pub requests: Family<Ended, Counter>,
    /// Requests under way.
    pub open: Family<Kept, Gauge>,
    /// Seconds from the request to the first model output.
    pub time_to_first_token: Histograms,
    /// Seconds between model outputs.
    pub time_per_output_token: Histograms,
    /// The longest such pause of each stream, in seconds.
    pub longest_gap: Histograms,
    /// Seconds from the request to the end of the answer.
    pub duration: Histograms,
    /// Tokens.
    pub tokens: Family<Tokens, Counter>,
    /// Failed attempts.
    pub upstream_errors: Family<UpstreamError, Counter>,
    /// 1 for a target that others are preferred to, because it has just failed.
    pub target_ejected: Family<Ejected, Gauge>,
    /// Heartbeats written.
    pub heartbeats: Family<Kept, Counter<u64, AtomicU64>>,
    /// Spans that no collector took.
    pub spans_lost: Family<Lost, Counter>,
    /// Requests refused because of a limit of ours.
    pub limit_refusals: Family<LimitReached, Counter>,
    /// How much of each limit is used: computed when somebody looks.
    pub limit_used: Family<Limited, Gauge<f64, AtomicU64>>,
    /// Refused credentials.
    pub refused: Family<Refused, Counter>,
    /// Fetches of issuers' keys.
    pub key_fetches: Family<KeyFetch, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let histograms = || Histograms::new_with_constructor(Histogram::default);
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            open: Family::default(),
            time_to_first_token: histograms(),
            time_per_output_token: histograms(),
            longest_gap: histograms(),
            duration: histograms(),
            tokens: Family::default(),
            upstream_errors: Family::default(),
            target_ejected: Family::default(),
            heartbeats: Family::default(),
            spans_lost: Family::default(),
            limit_refusals: Family::default(),
            limit_used: Family::default(),
            refused: Family::default(),
            key_fetches: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "streamgate_requests",
            "Requests that have ended, by how they ended",
            self.requests.clone(),
        );
        registry.register(
            "streamgate_open_requests",
            "Requests under way: from the request's head to the last byte of its answer",
            self.open.clone(),
        );
        for (name, help, family) in [
            (
                "gen_ai_server_time_to_first_token",
                "From the request to the first model output that was passed on",
                &self.time_to_first_token,
            ),
            (
                "gen_ai_server_time_per_output_token",
                "Pauses between model outputs after the first; what arrives together is one output",
                &self.time_per_output_token,
            ),
            (
                "streamgate_longest_gap",
                "The longest pause between model outputs of each answer",
                &self.longest_gap,
            ),
            (
                "gen_ai_server_request_duration",
                "From the request to the end of its answer, however it ended",
                &self.duration,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        self.register_counts();
    }

    fn register_counts(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "streamgate_tokens",
            "Tokens of answered requests, as the upstream counts them or as we estimate",
            self.tokens.clone(),
        );
        registry.register(
            "streamgate_upstream_errors",
            "Attempts at a provider that failed, by kind, whatever became of the request",
            self.upstream_errors.clone(),
        );
        registry.register(
            "streamgate_target_ejected",
            "1 while a target is passed over because it has failed hard and no request has succeeded since",
            self.target_ejected.clone(),
        );
        registry.register(
            "streamgate_heartbeats",
            "Heartbeats written to callers while the upstream was silent",
            self.heartbeats.clone(),
        );
        self.register_refusals();
    }

    fn register_refusals(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "streamgate_spans_lost",
            "Spans of traces that no collector took, by reason",
            self.spans_lost.clone(),
        );
        registry.register(
            "streamgate_limit_refusals",
            "Requests refused because of a limit, by whose and which",
            self.limit_refusals.clone(),
        );
        registry.register(
            "streamgate_limit_used_ratio",
            "How much of a limit is used: 1 is all of it, more is a debt",
            self.limit_used.clone(),
        );
        registry.register(
            "streamgate_refused_credentials",
            "Credentials that were refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "streamgate_key_fetches",
            "Fetches of token issuers' keys",
            self.key_fetches.clone(),
        );
    }

    /// The Prometheus (`OpenMetrics`) text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(),
        }
    }
}
