//! Records of requests for the usage ledger: before a request is sent, and when it has ended. A request whose caller is not
//! identified must never have one.

use std::sync::Arc;
use std::time::Duration;

use super::access_log::short;
use super::account::Account;
use super::state::Gateway;
use super::summary::{Sink, Summary};
use crate::ledger::{CloseRecord, Ledger, OpenRecord};
use crate::prices::Cost;

/// Writes requests that have ended to the ledger.
pub(super) struct LedgerSink(pub Arc<Ledger>);

impl Sink for LedgerSink {
    fn record(&self, summary: &Summary) {
        if !summary.caller.is_empty() {
            self.0.end(closed(summary));
        }
    }
}

/// Writes a request to the ledger that is about to be sent.
pub(super) async fn begin(gateway: &Gateway, account: &Account) {
    if let Some(ledger) = &gateway.ledger {
        ledger.begin(opened(account.summary())).await;
    }
}

fn opened(summary: &Summary) -> OpenRecord {
    OpenRecord {
        id: summary.record_id,
        caller: Arc::clone(&summary.caller),
        dialect: summary.dialect.into(),
        model: Arc::clone(&summary.label),
        requested: summary.model.clone(),
        streamed: summary.stream,
        input: summary.input_estimate,
        request_id: summary.request_id.clone(),
    }
}

fn closed(summary: &Summary) -> CloseRecord {
    let (input, input_estimated) = summary.input_tokens();
    let (output, output_estimated) = summary.output_tokens();
    let charged = summary.charged;
    let (usage, count) = (&summary.tally.usage, |tokens: u64| if charged { tokens } else { 0 });
    let target = summary.served().map(|attempt| {
        // A name of the caller's choice is no key of a roll-up.
        let provider = &attempt.target.provider.name;
        if summary.direct {
            format!("{provider}/*").into()
        } else {
            Arc::clone(attempt.target.name())
        }
    });
    let first = summary.first_output;
    CloseRecord {
        open: OpenRecord { input: count(input), ..opened(summary) },
        target: target.unwrap_or_default(),
        attempts: summary.attempts.len(),
        outcome: summary.outcome.into(),
        status: summary.status,
        error: summary.kind.map(Arc::from),
        duration_us: Some(micros(summary.duration)),
        ttft_us: first.map(|first| micros(first.saturating_duration_since(summary.started))),
        cache_read: count(usage.cache_read.unwrap_or_default()),
        cache_write: count(usage.cache_write.unwrap_or_default()),
        output: count(output),
        reasoning: count(usage.reasoning.unwrap_or_default()),
        estimated: charged && (input_estimated || output_estimated),
        charged,
        cost_nano: summary.cost.map(Cost::nano),
        upstream_id: summary.tally.id.as_deref().map(|id| short(id).into_owned()),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
