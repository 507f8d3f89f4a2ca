//! Metrics of requests: counts, durations and tokens, by caller, model, target and outcome. No label takes its value
//! from a caller's text.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::attempt::Attempt;
use super::summary::{Sink, Summary};
use crate::telemetry::{
    CostLabels, DialectLabels, LimitRefusalLabels, Metrics, OutcomeLabels, ProviderLabels,
    RouteLabels, Sample, TargetLabels, TokenLabels,
};

/// Counts requests that have ended.
#[derive(Debug)]
pub struct RequestMetrics(pub Arc<Metrics>);

/// A request under way, as the gauge of open requests counts it. Dropping it takes it off.
#[derive(Debug)]
pub struct OpenRequest(Gauge);

impl OpenRequest {
    /// Counts a request of a caller's dialect.
    pub fn new(metrics: &Metrics, dialect: &'static str) -> Self {
        let gauge = metrics.open_requests.get_or_create(&DialectLabels { dialect }).clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Sink for RequestMetrics {
    fn record(&self, summary: &Summary) {
        let metrics = &self.0;
        let target = summary.served().map(|attempt| label(attempt, summary.direct));
        let route = RouteLabels {
            dialect: summary.dialect,
            model: Arc::clone(&summary.label),
            target: target.unwrap_or_default(),
        };
        let ended = OutcomeLabels {
            dialect: summary.dialect,
            caller: Arc::clone(&summary.caller_label),
            model: Arc::clone(&summary.label),
            target: Arc::clone(&route.target),
            outcome: summary.outcome,
        };
        metrics.requests.get_or_create(&ended).inc();
        metrics.request_duration.get_or_create(&route).merge(&Sample::of(summary.duration));
        if let Some((scope, limit)) = summary.limit {
            metrics.limit_refusals.get_or_create(&LimitRefusalLabels { scope, limit }).inc();
        }
        if summary.heartbeats > 0 {
            let labels = DialectLabels { dialect: summary.dialect };
            metrics.heartbeats.get_or_create(&labels).inc_by(summary.heartbeats);
        }
        let Some(attempt) = summary.served() else { return };
        if summary.implausible {
            count_implausible(metrics, attempt, &summary.request_id);
        }
        if let Some(first) = summary.first_output {
            let ttft = first.saturating_duration_since(summary.started);
            metrics.time_to_first_token.get_or_create(&route).merge(&Sample::of(ttft));
            metrics.time_per_output_token.get_or_create(&route).merge(&summary.gaps);
            let longest = Sample::of(summary.longest_gap);
            metrics.longest_gap.get_or_create(&route).merge(&longest);
        }
        if summary.charged {
            count_cost(metrics, summary, &route);
            count_tokens(metrics, summary, route);
        }
    }
}

/// A target as a label. A name of the caller's choice is none: labels must stay bounded.
fn label(attempt: &Attempt, direct: bool) -> Arc<str> {
    let target = &attempt.target;
    if direct { format!("{}/*", target.provider.name).into() } else { Arc::clone(target.name()) }
}

fn count_cost(metrics: &Metrics, summary: &Summary, route: &RouteLabels) {
    let Some(cost) = summary.cost else {
        let labels = TargetLabels { target: route.target.to_string() };
        metrics.unpriced_requests.get_or_create(&labels).inc();
        return;
    };
    let labels = CostLabels {
        caller: Arc::clone(&summary.caller_label),
        model: Arc::clone(&route.model),
        target: Arc::clone(&route.target),
    };
    metrics.cost.get_or_create(&labels).inc_by(cost.dollars());
}

fn count_tokens(metrics: &Metrics, summary: &Summary, route: RouteLabels) {
    let mut labels = TokenLabels {
        caller: Arc::clone(&summary.caller_label),
        model: route.model,
        target: route.target,
        gen_ai_token_type: "",
        estimated: "",
    };
    let directions = [("input", summary.input_tokens()), ("output", summary.output_tokens())];
    for (direction, (tokens, estimated)) in directions {
        labels.gen_ai_token_type = direction;
        labels.estimated = if estimated { "true" } else { "false" };
        metrics.tokens.get_or_create(&labels).inc_by(tokens);
    }
}

/// Counts a usage that cannot be, and logs it once per provider.
fn count_implausible(metrics: &Metrics, attempt: &Attempt, request_id: &str) {
    let provider = &attempt.target.provider.name;
    let label = ProviderLabels { provider: provider.clone() };
    if metrics.implausible_usage.get_or_create(&label).inc() == 0 {
        tracing::warn!(
            provider,
            request_id,
            "the upstream counted more tokens than the request can have used; estimates replace \
             such counts, and this is logged once per provider"
        );
    }
}
