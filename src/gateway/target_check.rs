//! Active checks of targets that are ejected for failures: a GET that costs nothing, whose success ends the ejection
//! early. Failures are judged by traffic alone. It must never request a model's output, nor eject a target.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::HeaderMap;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::fetch::{self, FetchError};
use super::provider_models::{MAX_LIST, list_request, provider_headers};
use super::target_health::TargetHealth;
use crate::config::{Check, Config, Identity, Provider};

/// The time between two looks at the state of targets.
const TICK: Duration = Duration::from_secs(1);

/// Checks the ejected targets of providers that are to be checked, for as long as it is polled.
pub(super) async fn keep<R>(
    health: &TargetHealth,
    providers: impl Fn() -> Vec<Arc<Provider>>,
    check: impl Fn(Arc<Provider>) -> R,
) -> Infallible
where
    R: Future<Output = Result<(), FetchError>>,
{
    let mut checked = HashMap::<Identity, Instant>::new();
    loop {
        sleep(TICK).await;
        let now = Instant::now();
        let providers = providers();
        checked.retain(|account, _| providers.iter().any(|known| known.account == *account));
        let due = providers.into_iter().filter(|provider| {
            let Some(settings) = &provider.check else { return false };
            let last = checked.get(&provider.account);
            health.is_failing(provider, now) && last.is_none_or(|at| now >= *at + settings.every)
        });
        let due: Vec<_> = due.collect();
        checked.extend(due.iter().map(|provider| (provider.account, now)));
        let checks = due.into_iter().map(|provider| {
            let limit = provider.check.as_ref().map_or(TICK, |settings| settings.timeout);
            let running = timeout(limit, check(Arc::clone(&provider)));
            async move {
                if let Ok(Ok(())) = running.await {
                    health.check_succeeded(&provider, Instant::now());
                }
            }
        });
        join_all(checks).await;
    }
}

/// The providers of a configuration that are checked, with each of their keys.
pub(super) fn checked(config: &Config) -> Vec<Arc<Provider>> {
    let keyed = config.providers.values().flat_map(Provider::keyed);
    keyed.filter(|provider| provider.check.is_some()).map(Arc::clone).collect()
}

/// Sends one check, with the provider's credential and headers.
pub(super) async fn check(client: reqwest::Client, provider: &Provider) -> Result<(), FetchError> {
    let (url, headers) = request(provider)?.ok_or("the provider has no list of models")?;
    fetch::get(client, url, headers, MAX_LIST).await?;
    Ok(())
}

/// The address of a provider's check, and its headers. `None`: there is no path for it.
fn request(provider: &Provider) -> Result<Option<(Url, HeaderMap)>, FetchError> {
    let Some(Check { path: Some(path), .. }) = &provider.check else {
        return Ok(list_request(provider)?);
    };
    let mut url = provider.base_url.clone();
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    if !provider.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&provider.query);
    }
    Ok(Some((url, provider_headers(provider)?)))
}

#[cfg(test)]
#[path = "target_check_tests.rs"]
mod tests;
