//! Initial series: those whose first increment an alert rule must see. Labels come from the configuration and from fixed
//! lists. It must never count anything.

use std::sync::Arc;

use super::{
    ContinuationLabels, HedgeLabels, Metrics, MirrorLabels, ModelLabels, ProviderLabels,
    QueueLabels, QueueRefusalLabels, RefusalReason, RefusedRequestLabels, RetryLabels,
    SlowStreamLabels, TargetHintLabels, UpstreamErrorLabels, WastedTokenLabels,
};
use crate::config::{Config, ModelRouting};

/// The ways of hints.
const HINT_DIRECTIONS: [&str; 3] = ["sent", "received", "dropped"];

/// The kinds of failed attempts that concern the gateway's own credential or account, as in `error::code`.
const CREDENTIAL_KINDS: [&str; 3] = ["authentication", "permission", "billing"];

/// The results of hedged requests.
const HEDGE_RESULTS: [&str; 6] = ["not_needed", "won", "lost", "failed", "no_budget", "refused"];

/// The reasons for which a queue does not take a request, or gives it up.
const QUEUE_REFUSALS: [&str; 4] = ["full", "caller_full", "too_long", "timed_out"];

/// The results of mirrored requests.
const MIRROR_RESULTS: [&str; 4] = ["complete", "failed", "timed_out", "dropped"];

/// The results of continuations.
const CONTINUATION_RESULTS: [&str; 3] = ["continued", "failed", "refused"];

/// The kinds of attempts after a failed one.
const RETRY_KINDS: [&str; 4] = ["same_target", "other_key", "other_target", "fallback"];

impl Metrics {
    /// Creates the series whose first increment an alert rule must see: to `PromQL`, a series that begins
    /// with 1 has not increased.
    pub(super) fn begin_at_zero(&self, config: &Config) {
        for direction in HINT_DIRECTIONS {
            self.target_hints.get_or_create(&TargetHintLabels { direction }).inc_by(0);
        }
        for provider in config.providers.keys() {
            let labels = ProviderLabels { provider: provider.clone() };
            self.implausible_usage.get_or_create(&labels).inc_by(0);
            for kind in CREDENTIAL_KINDS {
                let provider = provider.clone();
                self.upstream_errors
                    .get_or_create(&UpstreamErrorLabels { provider, kind })
                    .inc_by(0);
            }
        }
        let models = config.models.keys().chain(config.patterns.iter().map(|found| &found.pattern));
        for model in models {
            let model: Arc<str> = model.as_str().into();
            for kind in RETRY_KINDS {
                let labels = RetryLabels { model: Arc::clone(&model), kind };
                self.retries.get_or_create(&labels).inc_by(0);
            }
            self.retry_budget_empty.get_or_create(&ModelLabels { model }).inc_by(0);
        }
        for (model, routing) in &config.model_routing {
            self.begin_routing(config, (model, routing));
        }
        for (model, mirror) in &config.mirrors {
            for result in MIRROR_RESULTS {
                let labels = MirrorLabels { model: model.as_str().into(), result };
                self.mirrors.get_or_create(&labels).inc_by(0);
            }
            let (target, purpose) = (Arc::clone(mirror.to.name()), "mirror");
            self.wasted_tokens.get_or_create(&WastedTokenLabels { target, purpose }).inc_by(0);
        }
        for model in config.on_break.keys() {
            for result in CONTINUATION_RESULTS {
                let labels = ContinuationLabels { model: model.as_str().into(), result };
                self.continuations.get_or_create(&labels).inc_by(0);
            }
        }
        for reason in RefusalReason::ALL.map(RefusalReason::word) {
            self.refused_requests.get_or_create(&RefusedRequestLabels { reason }).inc_by(0);
        }
    }

    /// The series of the parts of routing that a model has.
    fn begin_routing(&self, config: &Config, (model, routing): (&String, &ModelRouting)) {
        let pattern = config.patterns.iter().find(|found| found.pattern == *model);
        let named = config.models.get(model).map(|targets| &**targets);
        let targets = named.or_else(|| pattern.map(|found| &*found.targets)).unwrap_or_default();
        let names = || targets.iter().map(|target| Arc::clone(target.name()));
        if routing.hedge.is_some() {
            for result in HEDGE_RESULTS {
                let labels = HedgeLabels { model: model.as_str().into(), result };
                self.hedges.get_or_create(&labels).inc_by(0);
            }
            for target in names() {
                let labels = WastedTokenLabels { target, purpose: "hedge" };
                self.wasted_tokens.get_or_create(&labels).inc_by(0);
            }
        }
        if let Some(queue) = &routing.queue {
            let model: Arc<str> = model.as_str().into();
            for class in &queue.classes {
                let (model, class) = (Arc::clone(&model), Arc::clone(&class.name));
                self.queue_length.get_or_create(&QueueLabels { model, class }).inc_by(0);
            }
            for reason in QUEUE_REFUSALS {
                let labels = QueueRefusalLabels { model: Arc::clone(&model), reason };
                self.queue_refusals.get_or_create(&labels).inc_by(0);
            }
        }
        if let Some(slow) = routing.slow {
            for target in names() {
                let labels = SlowStreamLabels { target, then: slow.then.word() };
                self.slow_streams.get_or_create(&labels).inc_by(0);
            }
        }
    }
}
