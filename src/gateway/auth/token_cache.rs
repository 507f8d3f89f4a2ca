//! Cache of verified JWTs, by digest, so that the next request with the same token costs no signature. It must never
//! keep a token longer than it is valid, nor longer than its issuer's keys stay as they were; a reload empties it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::jwt::{Identity, VerifiedToken};

/// The most tokens that are cached.
const MAX_TOKENS: usize = 4096;

/// The cache.
#[derive(Debug, Default)]
pub(super) struct TokenCache(Mutex<HashMap<[u8; 32], VerifiedToken>>);

impl TokenCache {
    /// The caller of a token, if it is cached and still valid.
    pub(super) fn get(&self, digest: &[u8; 32], now: u64) -> Option<Arc<Identity>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(digest)?;
        if entry.is_valid(now) {
            return Some(Arc::clone(&entry.identity));
        }
        entries.remove(digest);
        None
    }

    /// Caches a token.
    pub(super) fn put(&self, digest: [u8; 32], token: VerifiedToken, now: u64) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_TOKENS {
            entries.retain(|_, entry| entry.is_valid(now));
            // Making room for one at a time would look at all of them each time.
            if entries.len() > MAX_TOKENS / 2 {
                entries.clear();
            }
        }
        entries.insert(digest, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, ClaimNames, IssuerKeys, Limits, secret::Secret};
    use crate::gateway::auth::jwt::Issuer;

    fn issuer() -> Arc<Issuer> {
        let setting = config::Issuer {
            name: "a".to_owned(),
            audience: vec![],
            algorithms: vec![],
            keys: IssuerKeys::Shared(Secret::new("s")),
            leeway: std::time::Duration::ZERO,
            max_lifetime: None,
            claims: ClaimNames {
                subject: String::new(),
                models: String::new(),
                limits: String::new(),
                channels: String::new(),
            },
            models: vec![],
            limits: Limits::default(),
            class: None,
            channels: config::ChannelRightTemplates::default(),
        };
        Arc::new(Issuer::new(&setting, false, None))
    }

    fn entry(issuer: &Arc<Issuer>, until: u64) -> VerifiedToken {
        let identity = Identity {
            name: "n".into(),
            limiter: String::new(),
            models: Arc::from([]),
            limits: Limits::default(),
            class: None,
            channels: Arc::default(),
            until,
        };
        VerifiedToken {
            identity: Arc::new(identity),
            issuer: Arc::clone(issuer),
            until,
            generation: 0,
        }
    }

    fn digest(n: usize) -> [u8; 32] {
        config::digest(&n.to_string())
    }

    #[test]
    fn a_token_is_remembered_until_it_ends_or_its_keys_change() {
        let (verified, issuer) = (TokenCache::default(), issuer());
        verified.put(digest(1), entry(&issuer, 100), 50);
        assert!(verified.get(&digest(1), 100).is_some());
        assert!(verified.get(&digest(2), 100).is_none());
        assert!(verified.get(&digest(1), 101).is_none());
        verified.put(digest(1), VerifiedToken { generation: 7, ..entry(&issuer, 100) }, 50);
        assert!(verified.get(&digest(1), 60).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (verified, issuer) = (TokenCache::default(), issuer());
        for n in 0..3 * MAX_TOKENS {
            verified.put(digest(n), entry(&issuer, 100), 50);
            assert!(verified.get(&digest(n), 50).is_some());
        }
        assert!(verified.0.lock().unwrap().len() <= MAX_TOKENS);
        // Those that have ended make room first.
        let verified = TokenCache::default();
        for n in 0..MAX_TOKENS {
            let until = if n < MAX_TOKENS / 2 { 200 } else { 100 };
            verified.put(digest(n), entry(&issuer, until), 50);
        }
        verified.put(digest(MAX_TOKENS), entry(&issuer, 200), 150);
        assert!((0..MAX_TOKENS / 2).all(|n| verified.get(&digest(n), 150).is_some()));
        assert_eq!(verified.0.lock().unwrap().len(), MAX_TOKENS / 2 + 1);
    }
}
