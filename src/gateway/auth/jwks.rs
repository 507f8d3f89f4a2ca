//! JWKS: the public keys of an issuer, fetched and refreshed in the background. Only [`keep`] fetches. A server that
//! hangs must never delay a request, except those that need a key which is not cached, and those for a bounded time.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::future::join_all;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, OctetKeyPairParameters, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

use super::super::fetch::FetchError;
use super::auth_error::AuthError;
use crate::config::key_serves;
use crate::telemetry::{KeyFetchLabels, Metrics};

/// The age at which a set is fetched again.
const REFRESH: Duration = Duration::from_mins(5);
/// The pause after a failed fetch; doubled with each further failure, up to `REFRESH`.
const RETRY: Duration = Duration::from_secs(10);
/// The least time between fetches that tokens with unknown keys cause.
const FLOOR: Duration = Duration::from_secs(10);
/// The timeout of one fetch.
const FETCH: Duration = Duration::from_secs(5);
/// The longest that a request waits for a fetch.
const WAIT: Duration = Duration::from_secs(3);
/// The most keys of a set: no issuer has more.
const MOST_KEYS: usize = 100;
/// The most keys that are tried for one token: no more share an id.
const MOST_TRIED: usize = 4;

/// The keys of one issuer.
pub struct KeySet {
    issuer: String,
    url: Url,
    keys: ArcSwapOption<Keys>,
    schedule: Mutex<Schedule>,
    /// The schedule has changed.
    wanted: Notify,
    /// The number of fetches that have ended.
    ended: watch::Sender<u64>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a credential in its query.
        f.debug_struct("KeySet").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Schedule {
    /// The time of the next fetch. In the past: a fetch is under way, or is about to be.
    due: Instant,
    /// The time at which an unknown key last caused one.
    asked: Option<Instant>,
    /// Failed fetches in a row.
    failures: u32,
}

#[derive(Debug)]
struct Keys {
    list: Vec<Key>,
    generation: u64,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The algorithms that the set declares for it; any that fit, if it declares none.
    only: Option<Algorithm>,
    verifier: DecodingKey,
}

impl KeySet {
    /// A set of which nothing is known yet.
    pub(super) fn new(issuer: &str, url: &Url) -> Self {
        let due = Instant::now();
        Self {
            issuer: issuer.to_owned(),
            url: url.clone(),
            keys: ArcSwapOption::empty(),
            schedule: Mutex::new(Schedule { due, asked: None, failures: 0 }),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
        }
    }

    /// Whether it is that set.
    pub(super) fn is(&self, issuer: &str, url: &Url) -> bool {
        self.issuer == issuer && self.url == *url
    }

    /// Changes whenever the keys may have.
    pub(super) fn generation(&self) -> u64 {
        self.keys.load().as_ref().map_or(0, |keys| keys.generation)
    }

    /// The keys that may have signed a token: those with its key id, or the only one there is for
    /// its algorithm. An unknown id waits for a fetch.
    pub(super) async fn keys(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<DecodingKey>, AuthError> {
        let mut ended = self.ended.subscribe();
        match self.pick(id, algorithm) {
            Err(AuthError::UnknownKeyId | AuthError::Unavailable) => {}
            found => return found,
        }
        if self.ask() && timeout(WAIT, ended.changed()).await.is_err() {
            return Err(AuthError::Unavailable);
        }
        self.pick(id, algorithm).map_err(|error| match error {
            // It may be a new key: the last fetch of the set has failed.
            AuthError::UnknownKeyId if self.schedule().failures > 0 => AuthError::Unavailable,
            other => other,
        })
    }

    fn pick(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Vec<DecodingKey>, AuthError> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(AuthError::Unavailable)?;
        let fits = |key: &&Key| {
            (id.is_none() || key.id.as_deref() == id)
                && key.only.is_none_or(|only| only == algorithm)
                && key_serves(&key.verifier, algorithm)
        };
        let fitting = keys.list.iter().filter(fits).take(MOST_TRIED);
        let found: Vec<_> = fitting.map(|key| key.verifier.clone()).collect();
        match (found.len(), id) {
            (0, _) => Err(AuthError::UnknownKeyId),
            (1, _) | (_, Some(_)) => Ok(found),
            (_, None) => Err(AuthError::NoKeyId),
        }
    }

    /// Requests a fetch, unless one was requested just before. Returns whether to wait for one.
    fn ask(&self) -> bool {
        let now = Instant::now();
        let mut schedule = self.schedule();
        if schedule.due <= now {
            return true;
        }
        if schedule.asked.is_some_and(|asked| now < asked + FLOOR) {
            return false;
        }
        schedule.asked = Some(now);
        schedule.due = now;
        self.wanted.notify_one();
        true
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches whenever it is due. Given up in the middle of a fetch, it is due again.
    async fn keep<F, R>(&self, fetch: &F, metrics: &Metrics) -> Infallible
    where
        F: Fn(Url) -> R,
        R: Future<Output = Result<Bytes, FetchError>>,
    {
        loop {
            let due = self.schedule().due;
            if due > Instant::now() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.wanted.notified() => {}
                }
                continue;
            }
            let fetched = timeout(FETCH, fetch(self.url.clone())).await;
            let fetched = fetched.unwrap_or_else(|late| Err(late.into()));
            self.take(fetched.and_then(|body| self.read(&body)), metrics);
        }
    }

    /// Takes the result of a fetch. Failed ones leave the keys as they are.
    fn take(&self, fetched: Result<Vec<Key>, FetchError>, metrics: &Metrics) {
        let issuer = self.issuer.clone();
        let failed = fetched.is_err();
        {
            let mut schedule = self.schedule();
            let wait = if failed { RETRY * (1 << schedule.failures.min(5)) } else { REFRESH };
            schedule.failures = if failed { schedule.failures + 1 } else { 0 };
            schedule.due = Instant::now() + wait.min(REFRESH);
        }
        match fetched {
            Ok(list) if list.is_empty() => {
                tracing::warn!(issuer, "the issuer's key set has no key that verifies tokens");
                self.put(list);
            }
            Ok(list) => {
                tracing::debug!(issuer, keys = list.len(), "the issuer's key set was fetched");
                self.put(list);
            }
            Err(error) => {
                let error = chain(&*error);
                tracing::warn!(issuer, error, "the issuer's key set could not be fetched");
            }
        }
        let outcome = if failed { "failed" } else { "ok" };
        metrics.key_fetches.get_or_create(&KeyFetchLabels { issuer, outcome }).inc();
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// The keys of a set that verify signatures. One that cannot be used spoils none of the others.
    fn read(&self, body: &[u8]) -> Result<Vec<Key>, FetchError> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let set: Set<'_> =
            serde_json::from_slice(body).map_err(|_| "the answer is not a JSON Web Key Set")?;
        if set.keys.len() > MOST_KEYS {
            let (issuer, keys) = (&self.issuer, set.keys.len());
            tracing::warn!(issuer, keys, "the issuer's key set is cut after {MOST_KEYS} keys");
        }
        let jwk = |raw: &&RawValue| serde_json::from_str::<Jwk>(raw.get()).ok();
        Ok(set.keys.iter().take(MOST_KEYS).filter_map(jwk).filter_map(usable).collect())
    }

    fn put(&self, list: Vec<Key>) {
        let generation = *self.ended.borrow() + 1;
        self.keys.store(Some(Arc::new(Keys { list, generation })));
    }
}

/// Keeps sets fresh, whichever there are at the time, for as long as it is polled. They do not wait
/// for each other, and a set that stays when others come and go does not notice.
pub async fn keep<F, R>(
    mut sets: watch::Receiver<Vec<Arc<KeySet>>>,
    fetch: F,
    metrics: &Metrics,
) -> Infallible
where
    F: Fn(Url) -> R,
    R: Future<Output = Result<Bytes, FetchError>>,
{
    let fetch = &fetch;
    let mut keeping = Vec::new();
    loop {
        let present = sets.borrow_and_update().clone();
        keeping.retain(|(kept, _)| present.iter().any(|set| Arc::ptr_eq(set, kept)));
        for set in present {
            if !keeping.iter().any(|(kept, _)| Arc::ptr_eq(&set, kept)) {
                let kept = Arc::clone(&set);
                keeping.push((set, Box::pin(async move { kept.keep(fetch, metrics).await })));
            }
        }
        let any = !keeping.is_empty();
        let mut all = pin!(join_all(keeping.iter_mut().map(|(_, keeping)| keeping.as_mut())));
        tokio::select! {
            // With no set to keep it is over at once.
            _ = &mut all, if any => {}
            changed = sets.changed() => if changed.is_err() { return pending().await },
        }
    }
}

fn usable(jwk: Jwk) -> Option<Key> {
    let signs = jwk.common.public_key_use.is_none_or(|usage| usage == PublicKeyUse::Signature);
    let operations = jwk.common.key_operations.unwrap_or_else(|| vec![KeyOperations::Verify]);
    // The library would take a symmetric key too; from a public place it is no secret.
    let key = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => DecodingKey::from_rsa_components(&rsa.n, &rsa.e),
        AlgorithmParameters::EllipticCurve(ec) => DecodingKey::from_ec_components(&ec.x, &ec.y),
        AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
            curve: EllipticCurve::Ed25519,
            x,
            ..
        }) => DecodingKey::from_ed_components(x),
        _ => return None,
    };
    let only = jwk.common.key_algorithm.map(Algorithm::try_from).transpose().ok()?;
    (signs && operations.contains(&KeyOperations::Verify)).then_some(Key {
        id: jwk.common.key_id,
        only,
        verifier: key.ok()?,
    })
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
