//! The labels of every metric. No label takes its value from a caller's words: names come from the
//! configuration, everything else from a list of ours.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

/// The label of callers that the configuration does not name, all together.
pub const OTHER: &str = "other";

/// Which requests a metric is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    /// The caller's dialect.
    pub dialect: &'static str,
    /// A configured model, `provider/*`, or empty when none was resolved.
    pub model: Arc<str>,
    /// `provider/model` for configured targets, `provider/*` otherwise, empty when none served.
    pub target: Arc<str>,
}

/// A [`Route`], its caller, and how its requests ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// The caller's dialect.
    pub dialect: &'static str,
    /// A configured key's name, [`OTHER`] for all other callers, or empty when none was identified.
    pub caller: Arc<str>,
    /// As in [`Route`].
    pub model: Arc<str>,
    /// As in [`Route`].
    pub target: Arc<str>,
    /// `complete`, `client_gone`, `truncated`, `stalled` ...: `error::end_outcome` and
    /// `Error::outcome` list them.
    pub outcome: &'static str,
}

/// Tokens of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Tokens {
    /// As in [`Ended`].
    pub caller: Arc<str>,
    /// As in [`Route`].
    pub model: Arc<str>,
    /// As in [`Route`].
    pub target: Arc<str>,
    /// `input` or `output`.
    pub gen_ai_token_type: &'static str,
    /// `true` when the upstream did not say and we counted ourselves.
    pub estimated: &'static str,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Upstream {
    /// The provider's name in the configuration.
    pub provider: String,
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

/// The caller's dialect alone.
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

/// A limit of ours, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Limited {
    /// `caller` or `model`.
    pub scope: &'static str,
    /// The name of a configured key or model; [`OTHER`] for callers that it does not name.
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

/// A share of the memory budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Memory {
    /// `requests` or `answers`: `gateway::memory` says what is in which.
    pub share: &'static str,
}

/// A fetch of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyFetch {
    /// The issuer's name in the configuration.
    pub issuer: String,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// A fetch of a provider's list of models.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListFetch {
    /// The provider's name in the configuration.
    pub provider: String,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// A request that reached no endpoint, or that came from a page that may not call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedRequest {
    /// `telemetry::RefusalReason` lists them.
    pub reason: &'static str,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Build {
    /// The package's version.
    pub version: &'static str,
    /// The operating system that it was compiled for.
    pub os: &'static str,
    /// The processor architecture that it was compiled for.
    pub arch: &'static str,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConfigDigest {
    /// `config::Sources::digest`.
    pub digest: String,
}

/// No labels, for a metric that may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Unlabelled {}
