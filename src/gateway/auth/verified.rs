//! Tokens that were found good, by digest, so that the next request with the same token costs no
//! signature. Never longer than the token is valid, nor longer than its issuer's keys stay as they
//! were; a reload starts anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::jwt::{Identity, Issuer};

/// The most tokens that are remembered.
const MOST: usize = 4096;

/// The tokens.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<HashMap<[u8; 32], Entry>>);

/// A token that was found good.
#[derive(Debug)]
pub(super) struct Entry {
    /// Whose it is.
    pub(super) identity: Arc<Identity>,
    /// Who vouches for it.
    pub(super) issuer: Arc<Issuer>,
    /// The last second at which it is good.
    pub(super) until: u64,
    /// That of the issuer's keys, read before they were used.
    pub(super) generation: u64,
}

impl Entry {
    fn holds(&self, now: u64) -> bool {
        now <= self.until && self.generation == self.issuer.generation()
    }
}

impl Verified {
    /// Whose a token is, if that is known and still so.
    pub(super) fn get(&self, digest: &[u8; 32], now: u64) -> Option<Arc<Identity>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(digest)?;
        if entry.holds(now) {
            return Some(Arc::clone(&entry.identity));
        }
        entries.remove(digest);
        None
    }

    /// Remembers a token.
    pub(super) fn put(&self, digest: [u8; 32], entry: Entry, now: u64) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.retain(|_, entry| entry.holds(now));
            // Making room for one at a time would look at all of them each time.
            if entries.len() > MOST / 2 {
                entries.clear();
            }
        }
        entries.insert(digest, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, ClaimNames, IssuerKeys, Limits, secret::Secret};

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
            },
            models: vec![],
            limits: Limits::default(),
        };
        Arc::new(Issuer::new(&setting, None))
    }

    fn entry(issuer: &Arc<Issuer>, until: u64) -> Entry {
        let identity = Identity {
            name: "n".into(),
            gate: String::new(),
            models: Arc::from([]),
            limits: Limits::default(),
        };
        Entry { identity: Arc::new(identity), issuer: Arc::clone(issuer), until, generation: 0 }
    }

    fn digest(n: usize) -> [u8; 32] {
        config::digest(&n.to_string())
    }

    #[test]
    fn a_token_is_remembered_until_it_ends_or_its_keys_change() {
        let (verified, issuer) = (Verified::default(), issuer());
        verified.put(digest(1), entry(&issuer, 100), 50);
        assert!(verified.get(&digest(1), 100).is_some());
        assert!(verified.get(&digest(2), 100).is_none());
        assert!(verified.get(&digest(1), 101).is_none());
        verified.put(digest(1), Entry { generation: 7, ..entry(&issuer, 100) }, 50);
        assert!(verified.get(&digest(1), 60).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (verified, issuer) = (Verified::default(), issuer());
        for n in 0..3 * MOST {
            verified.put(digest(n), entry(&issuer, 100), 50);
            assert!(verified.get(&digest(n), 50).is_some());
        }
        assert!(verified.0.lock().unwrap().len() <= MOST);
        // Those that have ended make room first.
        let verified = Verified::default();
        for n in 0..MOST {
            let until = if n < MOST / 2 { 200 } else { 100 };
            verified.put(digest(n), entry(&issuer, until), 50);
        }
        verified.put(digest(MOST), entry(&issuer, 200), 150);
        assert!((0..MOST / 2).all(|n| verified.get(&digest(n), 150).is_some()));
        assert_eq!(verified.0.lock().unwrap().len(), MOST / 2 + 1);
    }
}
