//! Model lists of providers, fetched in the background and cached. A list is fetched on demand, so that an idle gateway
//! sends no requests. No request must wait longer than two seconds for one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use url::Url;

use super::credential::credential;
use super::fetch::{self, FetchError};
use crate::config::{Config, Provider};
use crate::error::Error;
use crate::telemetry::{Metrics, ModelListFetchLabels};
use crate::wire::model_list::ModelInfo;

/// The age from which the next request for a list has it fetched again.
const REFRESH: Duration = Duration::from_hours(1);
/// The same after a failure; doubled with each, up to `REFRESH`.
const RETRY: Duration = Duration::from_mins(1);
/// The timeout of one fetch.
const FETCH: Duration = Duration::from_secs(10);
/// The longest that a request waits for lists that were never fetched.
const WAIT: Duration = Duration::from_secs(2);
/// The most bytes of a list: OpenRouter's is below one MiB.
pub(super) const MAX_LIST: usize = 8 << 20;

/// The lists by the provider's name, each in the order of the models' names.
pub type Lists = BTreeMap<String, Arc<[ModelInfo]>>;

/// The cache of lists, which all workers share.
#[derive(Debug, Default)]
pub struct ProviderModels {
    cache: Mutex<Cache>,
    /// A list is due.
    wanted: Notify,
    /// Changes when a fetch has ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Cache {
    lists: BTreeMap<String, CachedList>,
    /// Changes when everything is forgotten, so that a fetch from before leaves nothing behind.
    generation: u64,
}

#[derive(Debug)]
struct CachedList {
    models: Arc<[ModelInfo]>,
    due: Instant,
    fetching: bool,
    /// Whether any fetch has ended.
    known: bool,
    failures: u32,
}

/// The result of a fetch, and its cache.
type Fetched = (Arc<Provider>, u64, Result<Vec<ModelInfo>, FetchError>);

impl ProviderModels {
    /// The lists of providers that list their models. Those that were never fetched are waited for, a moment.
    pub async fn lists<'p>(&self, providers: impl Iterator<Item = &'p Arc<Provider>>) -> Lists {
        let names: Vec<&str> =
            providers.filter(|p| is_listed(p)).map(|p| p.name.as_str()).collect();
        let mut ended = self.ended.subscribe();
        if self.want(&names) {
            self.wanted.notify_one();
        }
        let known = async { while !self.are_known(&names) && ended.changed().await.is_ok() {} };
        // The lists that are there by then are the ones returned.
        let _late = timeout(WAIT, known).await;
        let cache = self.cache();
        let list = |name: &&str| {
            cache.lists.get(*name).map(|list| ((*name).to_owned(), Arc::clone(&list.models)))
        };
        names.iter().filter_map(list).collect()
    }

    /// Forgets everything: providers may have become others.
    pub fn clear(&self) {
        let mut cache = self.cache();
        cache.lists.clear();
        cache.generation += 1;
    }

    /// Marks lists as wanted. Returns whether any is due.
    fn want(&self, names: &[&str]) -> bool {
        let now = Instant::now();
        let mut cache = self.cache();
        let mut due = false;
        for name in names {
            if !cache.lists.contains_key(*name) {
                let new = CachedList {
                    models: Arc::default(),
                    due: now,
                    fetching: false,
                    known: false,
                    failures: 0,
                };
                cache.lists.insert((*name).to_owned(), new);
            }
            due |= cache.lists.get(*name).is_some_and(|list| list.is_due(now));
        }
        due
    }

    fn are_known(&self, names: &[&str]) -> bool {
        let cache = self.cache();
        names.iter().all(|name| cache.lists.get(*name).is_some_and(|list| list.known))
    }

    /// Fetches the lists that are wanted and due, for as long as it is polled; no two of one provider at once.
    pub async fn keep<F, R>(
        &self,
        providers: impl Fn() -> Vec<Arc<Provider>>,
        fetch: F,
        metrics: &Metrics,
    ) -> Infallible
    where
        F: Fn(Arc<Provider>) -> R,
        R: Future<Output = Result<Vec<ModelInfo>, FetchError>>,
    {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.wanted.notified() => {
                    for (provider, generation) in self.start(providers()) {
                        let fetching = timeout(FETCH, fetch(Arc::clone(&provider)));
                        running.push(async move {
                            let fetched = fetching.await.unwrap_or_else(|late| Err(late.into()));
                            (provider, generation, fetched)
                        });
                    }
                }
                Some(fetched) = running.next(), if !running.is_empty() => self.take(fetched, metrics),
            }
        }
    }

    /// The providers whose lists are due, from now on under way.
    fn start(&self, providers: Vec<Arc<Provider>>) -> Vec<(Arc<Provider>, u64)> {
        let now = Instant::now();
        let mut cache = self.cache();
        let generation = cache.generation;
        let due = |provider: &Arc<Provider>| {
            let list = cache.lists.get_mut(&provider.name).filter(|list| list.is_due(now));
            list.map(|list| list.fetching = true).is_some()
        };
        providers.into_iter().filter(due).map(|provider| (provider, generation)).collect()
    }

    /// Takes the result of a fetch. A failed one leaves the list as it is.
    fn take(&self, (provider, generation, fetched): Fetched, metrics: &Metrics) {
        let outcome = if fetched.is_ok() { "ok" } else { "failed" };
        let labels = ModelListFetchLabels { provider: provider.name.clone(), outcome };
        metrics.model_list_fetches.get_or_create(&labels).inc();
        let mut cache = self.cache();
        let current = cache.generation == generation;
        let Some(list) = cache.lists.get_mut(&provider.name).filter(|_| current) else { return };
        list.fetching = false;
        list.known = true;
        let wait = match fetched {
            Ok(mut models) => {
                models.sort_by(|a, b| a.id.cmp(&b.id));
                models.dedup_by(|a, b| a.id == b.id);
                list.models = models.into();
                list.failures = 0;
                REFRESH
            }
            Err(error) => {
                list.failures += 1;
                // One line, however long it goes on.
                if list.failures == 1 {
                    let provider = provider.name.as_str();
                    tracing::warn!(
                        provider, %error,
                        "the provider's models cannot be listed; `list_models: false` keeps the gateway from asking"
                    );
                }
                (RETRY * (1 << (list.failures - 1).min(6))).min(REFRESH)
            }
        };
        list.due = Instant::now() + wait;
        drop(cache);
        self.ended.send_modify(|ended| *ended += 1);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedList {
    fn is_due(&self, now: Instant) -> bool {
        !self.fetching && now >= self.due
    }
}

/// The entry of a provider's model.
pub fn find<'l>(lists: &'l Lists, provider: &str, model: &str) -> Option<&'l ModelInfo> {
    let list = lists.get(provider)?;
    let at = list.binary_search_by(|known| known.id.as_str().cmp(model)).ok()?;
    list.get(at)
}

/// Whether a provider's list is fetched.
fn is_listed(provider: &Provider) -> bool {
    provider.list_models && provider.dialect.list_path(&provider.quirks).is_some()
}

/// The providers of a configuration whose lists are fetched.
pub fn listed(config: &Config) -> Vec<Arc<Provider>> {
    config.providers.values().filter(|provider| is_listed(provider)).map(Arc::clone).collect()
}

/// Fetches one list, with the provider's credential and headers.
pub async fn fetch(
    client: reqwest::Client,
    provider: &Provider,
) -> Result<Vec<ModelInfo>, FetchError> {
    let (url, headers) = list_request(provider)?.ok_or("the provider has no list of models")?;
    let body = fetch::get(client, url, headers, MAX_LIST).await?;
    provider.dialect.read_list(&body).map_err(|fault| fault.message.into())
}

/// The address of a provider's list, and the headers of a request for it. `None`: its dialect has no list.
pub(super) fn list_request(provider: &Provider) -> Result<Option<(Url, HeaderMap)>, Error> {
    let Some(path) = provider.dialect.list_path(&provider.quirks) else {
        return Ok(None);
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut url = provider.base_url.clone();
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    url.set_query(Some(query).filter(|query| !query.is_empty()));
    if !provider.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&provider.query);
    }
    let mut headers = provider_headers(provider)?;
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(Some((url, headers)))
}

/// The headers of every request to a provider that is the gateway's own: those of its dialect, the operator's, and the
/// credential.
pub(super) fn provider_headers(provider: &Provider) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in provider.dialect.fixed_headers() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    if let Some((name, value)) = credential(provider)? {
        headers.insert(name, value);
    }
    Ok(headers)
}
