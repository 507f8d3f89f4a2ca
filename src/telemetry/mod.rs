//! Every metric, and the names and units of all labels and record fields.
//!
//! Names follow the OpenTelemetry GenAI conventions where one exists (`gen_ai.server.*`), and
//! start with `streamgate` elsewhere. No label takes its value from a caller.

mod histogram;

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
    /// `complete`, `client_gone`, `truncated`, `stalled` ...: `account::Outcome` lists them.
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

/// Who was kept alive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kept {
    /// The caller's dialect.
    pub dialect: &'static str,
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
    /// Heartbeats written.
    pub heartbeats: Family<Kept, Counter<u64, AtomicU64>>,
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
            heartbeats: Family::default(),
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
        registry.register("streamgate_requests", "Requests that have ended", self.requests.clone());
        registry.register("streamgate_open_requests", "Requests under way", self.open.clone());
        for (name, help, family) in [
            (
                "gen_ai_server_time_to_first_token",
                "From the request to the first model output",
                &self.time_to_first_token,
            ),
            (
                "gen_ai_server_time_per_output_token",
                "Between model outputs",
                &self.time_per_output_token,
            ),
            ("streamgate_longest_gap", "Longest pause between model outputs", &self.longest_gap),
            ("gen_ai_server_request_duration", "From the request to its end", &self.duration),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        registry.register("streamgate_tokens", "Tokens by direction", self.tokens.clone());
        registry.register(
            "streamgate_upstream_errors",
            "Attempts that failed, by kind",
            self.upstream_errors.clone(),
        );
        registry.register("streamgate_heartbeats", "Heartbeats written", self.heartbeats.clone());
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
