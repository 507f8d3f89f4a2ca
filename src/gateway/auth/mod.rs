//! Authentication: API keys and JWTs to a [`Caller`]. Keys are looked up by digest, and tokens are verified with the
//! configuration of their issuer. Failed attempts are counted, by reason and by address. It must never log a
//! credential.

mod address;
mod attempts;
mod auth_error;
mod claims;
pub mod jwks;
mod jwt;
mod mercure_claims;
pub mod mint;
pub mod tickets;
mod token_cache;

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::clock::unix_seconds;
use super::limit::{Limiter, LimiterRegistry, Scope};
use crate::channels::{ChannelRights, Placeholders};
use crate::config::{self, ChannelRightTemplates, Config, Limits, Origins, matches_pattern};
use crate::error::Error;
use crate::telemetry::{AuthFailureLabels, Metrics, OTHER};
pub use address::{Origin, is_forwarded, origin};
use attempts::Attempts;
use auth_error::AuthError;
pub use auth_error::challenge;
use jwks::KeySet;
use jwt::{Identity, Issuer, Issuers};
use token_cache::TokenCache;

/// An authenticated caller.
#[derive(Debug)]
pub struct Caller {
    /// The name in records.
    pub name: Arc<str>,
    /// The name in metrics: a configured key's, or [`OTHER`].
    pub label: Arc<str>,
    /// Models that it may use: exact names, or patterns with `*`.
    pub models: Arc<[String]>,
    /// Its rate limiter.
    pub limiter: Arc<Limiter>,
    /// The class of its requests in the queues of models.
    pub class: Option<Arc<str>>,
    /// Channels that it may subscribe and publish to, besides its own.
    pub channels: Arc<ChannelRights>,
    /// The last second at which its credential is good, since 1970. `None`: there is none.
    pub until: Option<u64>,
}

impl Caller {
    /// A caller of a command on this machine, who may use these models and has no limits.
    pub fn operator(models: &[String]) -> Self {
        let name: Arc<str> = "operator".into();
        Self {
            label: Arc::clone(&name),
            models: models.into(),
            limiter: LimiterRegistry::new(Scope::Caller).of(&name, Limits::NONE),
            class: None,
            channels: Arc::default(),
            until: None,
            name,
        }
    }

    /// Whether it may use a model.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| matches_pattern(pattern, model))
    }

    /// Whether it may use every model there is.
    pub fn may_use_all(&self) -> bool {
        self.models.iter().any(|pattern| pattern.bytes().all(|byte| byte == b'*'))
    }
}

/// Callers without a credential.
#[derive(Debug)]
struct Anonymous {
    caller: Arc<Caller>,
    from: Vec<IpNet>,
    /// The origins whose pages may call.
    origins: Origins,
}

impl Anonymous {
    fn new(config: &Config, limiters: &LimiterRegistry) -> Option<Self> {
        let setting = config.auth.anonymous.as_ref()?;
        let name: Arc<str> = config::Anonymous::NAME.into();
        let caller = Arc::new(Caller {
            label: Arc::clone(&name),
            models: setting.models.clone().into(),
            limiter: limiters.of(&name, setting.limits),
            class: setting.class.as_deref().map(Arc::from),
            channels: rights(&setting.channels, &name),
            until: None,
            name,
        });
        let origins = config.server.cors_origins.clone();
        Some(Self { caller, from: setting.from.clone(), origins })
    }

    /// Whether a request may come without a credential. A request that a proxy forwards may not, since its callers
    /// may be anywhere. Nor may one that a page of another origin makes a browser on an allowed address send.
    fn admits(&self, headers: &HeaderMap, from: &Origin) -> bool {
        let page = headers.get(ORIGIN).is_none_or(|origin| self.origins.contains(origin));
        let mut networks = self.from.iter();
        page && !is_forwarded(headers) && networks.any(|network| network.contains(&from.address))
    }
}

/// All callers of a configuration.
#[derive(Debug)]
pub struct Callers {
    /// By the SHA-256 of their key.
    keys: HashMap<[u8; 32], Arc<Caller>>,
    anonymous: Option<Anonymous>,
    issuers: Issuers,
    verified: TokenCache,
    attempts: Arc<Attempts>,
    limiters: Arc<LimiterRegistry>,
    /// The label of all callers who have no key.
    other: Arc<str>,
}

impl Callers {
    /// The callers of a configuration. Usage and fetched keys are taken over from `before`, where their configuration
    /// is the same.
    pub fn new(config: &Config, limiters: &Arc<LimiterRegistry>, before: Option<&Self>) -> Self {
        let auth = &config.auth;
        let caller = |key: &config::Key| {
            let name: Arc<str> = key.name.as_str().into();
            Arc::new(Caller {
                label: Arc::clone(&name),
                name,
                models: key.models.clone().into(),
                limiter: limiters.of(&key.name, key.limits),
                class: key.class.as_deref().map(Arc::from),
                channels: rights(&key.channels, &key.name),
                until: None,
            })
        };
        let issuers = before.map(|before| &before.issuers);
        let issuer = |setting: &config::Issuer| {
            let mercure = config.channels.mercure;
            (setting.name.clone(), Arc::new(Issuer::new(setting, mercure, issuers)))
        };
        let attempts = before.map(|before| Arc::clone(&before.attempts));
        Self {
            anonymous: Anonymous::new(config, limiters),
            keys: auth.keys.iter().map(|key| (key.digest, caller(key))).collect(),
            issuers: auth.issuers.iter().map(issuer).collect(),
            verified: TokenCache::default(),
            attempts: attempts
                .filter(|attempts| attempts.setting() == auth.failed_attempts)
                .unwrap_or_else(|| Arc::new(Attempts::new(auth.failed_attempts))),
            limiters: Arc::clone(limiters),
            other: OTHER.into(),
        }
    }

    /// The issuers' keys that have to be kept fresh.
    pub fn key_sets(&self) -> Vec<Arc<KeySet>> {
        self.issuers.values().filter_map(|issuer| issuer.key_set()).map(Arc::clone).collect()
    }

    /// Authenticates a request.
    pub async fn identify(
        &self,
        head: &Parts,
        from: Origin,
        metrics: &Metrics,
    ) -> Result<Arc<Caller>, Error> {
        let headers = &head.headers;
        let error = match self.caller(headers).await {
            Ok(caller) => return Ok(caller),
            Err(AuthError::Missing) if head.uri.query().is_some_and(has_key) => {
                AuthError::Misplaced("a key in the address")
            }
            Err(error) => error,
        };
        let none = matches!(error, AuthError::Missing | AuthError::Misplaced(_));
        let anonymous = self.anonymous.as_ref().filter(|_| none);
        if let Some(anonymous) = anonymous.filter(|anonymous| anonymous.admits(headers, &from)) {
            return Ok(Arc::clone(&anonymous.caller));
        }
        metrics
            .refused_credentials
            .get_or_create(&AuthFailureLabels { reason: error.reason() })
            .inc();
        let wait = if error.is_attempt() { self.attempts.failed(from.address).err() } else { None };
        Err(wait.map_or_else(|| error.error(), auth_error::too_many))
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, AuthError> {
        let credential = credential(headers)?;
        let digest = config::digest(credential);
        // By digest, so that the time of the look-up reveals nothing of a key.
        if let Some(caller) = self.keys.get(&digest) {
            return Ok(Arc::clone(caller));
        }
        if credential.split('.').count() != 3 {
            return Err(auth_error::unknown_key(credential));
        }
        if self.issuers.is_empty() {
            return Err(AuthError::NoIssuers);
        }
        if credential.len() > jwt::MAX_TOKEN {
            return Err(AuthError::TooLong);
        }
        let now = unix_seconds();
        if let Some(identity) = self.verified.get(&digest, now) {
            return Ok(self.vouched_for(&identity));
        }
        let entry = jwt::verify(credential, &self.issuers, now).await?;
        let caller = self.vouched_for(&entry.identity);
        self.verified.put(digest, entry, now);
        Ok(caller)
    }

    fn vouched_for(&self, identity: &Identity) -> Arc<Caller> {
        Arc::new(Caller {
            name: Arc::clone(&identity.name),
            label: Arc::clone(&self.other),
            models: Arc::clone(&identity.models),
            limiter: self.limiters.of(&identity.limiter, identity.limits),
            class: identity.class.clone(),
            channels: Arc::clone(&identity.channels),
            until: Some(identity.until),
        })
    }
}

/// The rights of a caller without a token. The configuration has checked the templates.
fn rights(templates: &ChannelRightTemplates, name: &str) -> Arc<ChannelRights> {
    Arc::new(templates.filled(Placeholders { name, sub: name }).unwrap_or_default())
}

/// The credential, from any header in which the vendors' SDKs send it.
fn credential(headers: &HeaderMap) -> Result<&str, AuthError> {
    let text =
        |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(value) = text(AUTHORIZATION) {
        let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() {
            return Ok(key.trim());
        }
        return Err(AuthError::Scheme);
    }
    ["x-api-key", "api-key", "x-goog-api-key"]
        .into_iter()
        .map(HeaderName::from_static)
        .find_map(text)
        .filter(|key| !key.is_empty())
        .ok_or_else(|| {
            let unread = UNREAD_HEADERS.into_iter().find(|(name, _)| headers.contains_key(*name));
            unread.map_or(AuthError::Missing, |(_, shown)| AuthError::Misplaced(shown))
        })
}

/// Headers in which other gateways and services read a key.
const UNREAD_HEADERS: [(&str, &str); 6] = [
    ("x-auth-token", "the header `x-auth-token`"),
    ("x-access-token", "the header `x-access-token`"),
    ("x-auth-key", "the header `x-auth-key`"),
    ("apikey", "the header `apikey`"),
    ("x-litellm-api-key", "the header `x-litellm-api-key`"),
    ("proxy-authorization", "the header `proxy-authorization`"),
];

/// Whether a query has a parameter in which a client may send a key.
fn has_key(query: &str) -> bool {
    let names = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
    let mut names = names.map(str::to_ascii_lowercase);
    names.any(|name| {
        ["key", "api_key", "api-key", "apikey", "token", "access_token"].contains(&&*name)
    })
}
