//! Counts of the gateway's metrics and of the simulated upstream's statistics, compared with the load test's own. They
//! agree only if nothing else uses either side.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;

use super::check::Check;
use super::client::Client;
use super::plan::{Plan, Scenario};
use super::tally::Tally;

/// The time that both sides have to settle after the last stream has ended here.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval at which they are polled meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Counts of the simulated upstream.
#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
struct Upstream {
    requests: u64,
    open_streams: u64,
    tokens_sent: u64,
    cancelled_streams: u64,
}

/// The maximum age of the gateway's page of metrics.
const MAX_PAGE_AGE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Gateway {
    open: u64,
    complete: u64,
    client_gone: u64,
    rate_limited: u64,
    output_tokens: u64,
}

/// The counts of both, as far as their addresses are known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    upstream: Option<Upstream>,
    gateway: Option<Gateway>,
}

impl Counts {
    /// Reads both sides until nothing is open there any more, or for 20 s.
    pub(super) async fn settled(client: &Client, plan: &Plan) -> Result<Self, String> {
        if plan.metrics.is_some() {
            sleep(MAX_PAGE_AGE).await;
        }
        let until = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let counts = Self {
                upstream: read(client, plan.upstream_stats.as_ref(), upstream).await?,
                gateway: read(client, plan.metrics.as_ref(), gateway).await?,
            };
            if counts.open() == 0 || Instant::now() >= until {
                return Ok(counts);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn open(&self) -> u64 {
        let upstream = self.upstream.map_or(0, |counts| counts.open_streams);
        upstream.saturating_add(self.gateway.map_or(0, |counts| counts.open))
    }

    /// Compares the counts since `before` with `tally`.
    pub(super) fn agree(&self, before: &Self, tally: &Tally, scenario: Scenario) -> Vec<Check> {
        let mut checks = Vec::new();
        if self.upstream.is_some() || self.gateway.is_some() {
            let open = self.open();
            checks.push(Check::new("nothing is left open", open == 0, format!("{open} are open")));
        }
        // A fault's stream ends in other ways on each side.
        if scenario == Scenario::Faults {
            return checks;
        }
        if let (Some(now), Some(before)) = (self.upstream, before.upstream) {
            let since = |now: u64, before: u64| now.saturating_sub(before);
            let cancelled = since(now.cancelled_streams, before.cancelled_streams);
            checks.push(Check::equal("the upstream saw every hang-up", tally.left, cancelled));
            let requests = since(now.requests, before.requests);
            let sent = tally.started.saturating_sub(tally.refused);
            checks.push(Check::equal("the upstream saw every request once", sent, requests));
            if tally.left == 0 {
                let tokens = since(now.tokens_sent, before.tokens_sent);
                checks.push(Check::equal("every token sent has arrived", tally.tokens, tokens));
            }
        }
        if let (Some(now), Some(before)) = (self.gateway, before.gateway) {
            checks.extend(now.agree(before, tally));
        }
        checks
    }
}

impl Gateway {
    fn agree(self, before: Self, tally: &Tally) -> Vec<Check> {
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let mut checks = vec![
            Check::equal(
                "the gateway counts every complete stream",
                tally.complete,
                since(self.complete, before.complete),
            ),
            Check::equal(
                "the gateway counts every hang-up",
                tally.left,
                since(self.client_gone, before.client_gone),
            ),
            Check::equal(
                "the gateway counts every refusal",
                tally.refused,
                since(self.rate_limited, before.rate_limited),
            ),
        ];
        if tally.left == 0 {
            let tokens = since(self.output_tokens, before.output_tokens);
            checks.push(Check::equal("the gateway counts every token", tally.tokens, tokens));
        }
        checks
    }
}

async fn read<T>(
    client: &Client,
    url: Option<&Url>,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>, String> {
    let Some(url) = url else { return Ok(None) };
    let page = client.page(url).await.map_err(|error| format!("{url}: {error}"))?;
    match parse(&page) {
        Some(counts) => Ok(Some(counts)),
        None => Err(format!("{url} has no such counts; is it the right address?")),
    }
}

fn upstream(page: &str) -> Option<Upstream> {
    serde_json::from_str(page).ok()
}

fn gateway(page: &str) -> Option<Gateway> {
    // Without any request yet there are no series of it, but its description is there.
    page.contains("streamgate_open_requests").then(|| {
        let outcome =
            |word: &str| series(page, "streamgate_requests_total", &format!("outcome=\"{word}\""));
        Gateway {
            open: series(page, "streamgate_open_requests", ""),
            complete: outcome("complete"),
            client_gone: outcome("client_gone"),
            rate_limited: outcome("rate_limited"),
            output_tokens: series(page, "streamgate_tokens_total", "gen_ai_token_type=\"output\""),
        }
    })
}

/// The sum of a metric over all its series with this label, whatever other labels they have.
fn series(page: &str, name: &str, label: &str) -> u64 {
    page.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let own = labels.is_empty() || labels.starts_with('{');
            let counted = own && labels.contains(label);
            counted.then(|| value.split('.').next()?.parse::<u64>().ok()).flatten()
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE streamgate_open_requests gauge\n\
        streamgate_open_requests 0\n\
        streamgate_requests_total{dialect=\"openai-chat\",outcome=\"complete\",caller=\"a\"} 7\n\
        streamgate_requests_total{dialect=\"gemini\",outcome=\"complete\",caller=\"b\"} 5\n\
        streamgate_requests_total{dialect=\"gemini\",outcome=\"client_gone\"} 2\n\
        streamgate_tokens_total{gen_ai_token_type=\"input\",estimated=\"false\"} 900\n\
        streamgate_tokens_total{gen_ai_token_type=\"output\",estimated=\"false\"} 40.0\n\
        streamgate_tokens_total_more{gen_ai_token_type=\"output\"} 1\n";

    #[test]
    fn pages_are_read() {
        let read = gateway(PAGE).unwrap();
        let wanted =
            Gateway { open: 0, complete: 12, client_gone: 2, rate_limited: 0, output_tokens: 40 };
        assert_eq!(read, wanted);
        assert_eq!(gateway("<html>"), None);
        assert_eq!(upstream("{}"), None);
        let stats = r#"{"cancelled_streams":1,"open_streams":0,"requests":12,"tokens_sent":480}"#;
        assert_eq!(upstream(stats).unwrap().cancelled_streams, 1);
    }

    #[test]
    fn counts_agree_or_not() {
        let tally = Tally { started: 5, complete: 4, refused: 1, tokens: 40, ..Tally::default() };
        let counts = |requests, tokens_sent| Counts {
            upstream: Some(Upstream { requests, tokens_sent, ..Upstream::default() }),
            gateway: None,
        };
        let failed = |now: Counts| -> Vec<String> {
            let checks = now.agree(&counts(10, 100), &tally, Scenario::Steady);
            checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
        };
        assert_eq!(failed(counts(14, 140)), Vec::<String>::new());
        assert_eq!(failed(counts(15, 140)), ["the upstream saw every request once"]);
        assert_eq!(failed(counts(14, 139)), ["every token sent has arrived"]);
    }
}
