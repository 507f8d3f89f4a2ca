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
