//! Label sets of the metrics. Values come from the configuration or from fixed lists, never from a request.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

/// The label of callers that the configuration does not name, all together.
pub const OTHER: &str = "other";

/// Labels of latency histograms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The caller's dialect.
    pub dialect: &'static str,
    /// A configured model, `provider/*`, or empty if none was resolved.
    pub model: Arc<str>,
    /// `provider/model` for configured targets, `provider/*` otherwise, empty if none served the request.
    pub target: Arc<str>,
}

/// Labels of ended requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The caller's dialect.
    pub dialect: &'static str,
    /// A configured key's name, [`OTHER`] for all other callers, or empty if none was identified.
    pub caller: Arc<str>,
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// As in [`RouteLabels`].
    pub target: Arc<str>,
    /// `complete`, `client_gone`, `truncated`, `stalled` ...: `error::end_outcome` and
    /// `Error::outcome` list them.
    pub outcome: &'static str,
}

/// Labels of token counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TokenLabels {
    /// As in [`OutcomeLabels`].
    pub caller: Arc<str>,
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// As in [`RouteLabels`].
    pub target: Arc<str>,
    /// `input` or `output`.
    pub gen_ai_token_type: &'static str,
    /// `true` if the upstream reported no usage and it was estimated.
    pub estimated: &'static str,
}

/// Labels of the cost of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CostLabels {
    /// As in [`OutcomeLabels`].
    pub caller: Arc<str>,
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// As in [`RouteLabels`].
    pub target: Arc<str>,
}

/// The label of metrics of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProviderLabels {
    /// The provider's name in the configuration.
    pub provider: String,
}

/// Labels of failed attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamErrorLabels {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The error's kind: `error::code` lists them.
    pub kind: &'static str,
}

/// The label of a target's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TargetLabels {
    /// `provider/model` of a configured target, `provider/*` for a provider's credential, `provider@address` for its
    /// host; of a provider with several keys, each with `[key]`.
    pub target: String,
}

/// Labels of the state of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TargetStateLabels {
    /// As in [`TargetLabels`].
    pub target: String,
    /// `closed`, `ramp`, `probe`, `cooling`, `open`, `hard` or `drained`.
    pub state: &'static str,
}

/// Labels of changes of circuit breakers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BreakerChangeLabels {
    /// As in [`TargetLabels`].
    pub target: String,
    /// `closed`, `cooling`, `open`, `hard` or `drained`.
    pub to: &'static str,
    /// The error's kind (`error::code` lists them), `success`, `operator`, or `hint` of another node.
    pub reason: &'static str,
}

/// The label of hints of target health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TargetHintLabels {
    /// `sent`, `received` or `dropped`.
    pub direction: &'static str,
}

/// Labels of choices of targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PickLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// `provider/model` of a configured target; `provider/*` for models that callers name.
    pub target: Arc<str>,
    /// The name of the provider's key, if it has several.
    pub key: Arc<str>,
    /// `order`, `weight`, `load` ...: `gateway::select::PickReason` lists them.
    pub why: &'static str,
}

/// Labels of hedged requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HedgeLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// `not_needed`, `won`, `lost`, `failed`, `no_budget` or `refused`.
    pub result: &'static str,
}

/// Labels of slow streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SlowStreamLabels {
    /// `provider/model`.
    pub target: Arc<str>,
    /// `mark` or `break`.
    pub then: &'static str,
}

/// Labels of tokens that nobody got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WastedTokenLabels {
    /// `provider/model`, or `provider/*` for models that callers name themselves.
    pub target: Arc<str>,
    /// `hedge`: of attempts that another one was faster than; `mirror`: of copies of requests.
    pub purpose: &'static str,
}

/// Labels of mirrored requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MirrorLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// `complete`, `failed`, `timed_out` or `dropped`.
    pub result: &'static str,
}

/// Labels of requests that wait in a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// A configured class.
    pub class: Arc<str>,
}

/// Labels of requests that a queue did not take, or gave up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueRefusalLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// `full`, `caller_full`, `too_long` or `timed_out`.
    pub reason: &'static str,
}

/// Labels of attempts after a failed one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RetryLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// `same_target`, `other_key`, `other_target` or `fallback`.
    pub kind: &'static str,
}

/// The label of metrics of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModelLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
}

/// Labels of continuations of answers that broke off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ContinuationLabels {
    /// As in [`RouteLabels`].
    pub model: Arc<str>,
    /// `continued`, `failed` or `refused`.
    pub result: &'static str,
}

/// The label of metrics of a caller's dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DialectLabels {
    /// The caller's dialect.
    pub dialect: &'static str,
}

/// The label of spans that were not exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SpanLossLabels {
    /// `backlog_full`, `export_failed` or `shutdown`.
    pub reason: &'static str,
}

/// Labels of requests that a rate limit has rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitRefusalLabels {
    /// `caller` or `model`.
    pub scope: &'static str,
    /// The limit's name in the configuration.
    pub limit: &'static str,
}

/// Labels of the use of a rate limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// `caller` or `model`.
    pub scope: &'static str,
    /// The name of a configured key or model; [`OTHER`] for callers that the configuration does not name.
    pub name: String,
    /// The limit's name in the configuration.
    pub limit: &'static str,
}

/// The label of rejected credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AuthFailureLabels {
    /// `missing`, `unknown_key`, `expired` ...: `gateway::auth` lists them.
    pub reason: &'static str,
}

/// The label of the memory budget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MemoryLabels {
    /// `requests`, `answers` or `streams`: `memory` defines them.
    pub share: &'static str,
}

/// The label of durable streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StreamLabels {
    /// `running` or `ended`.
    pub state: &'static str,
}

/// Labels of fetches of an issuer's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyFetchLabels {
    /// The issuer's name in the configuration.
    pub issuer: String,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// Labels of fetches of a provider's model list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModelListFetchLabels {
    /// The provider's name in the configuration.
    pub provider: String,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// The label of requests that matched no endpoint, or came from a page that may not call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedRequestLabels {
    /// `telemetry::RefusalReason` lists them.
    pub reason: &'static str,
}

/// Labels of the running program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildLabels {
    /// The package's version.
    pub version: &'static str,
    /// The operating system of the build's target.
    pub os: &'static str,
    /// The processor architecture of the build's target.
    pub arch: &'static str,
}

/// The label of the configuration in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConfigLabels {
    /// `config::Sources::digest`.
    pub digest: String,
}

/// No labels, for a metric that may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NoLabels {}
