//! Limit of the number of an owner's records: owners who add some are noted, and their oldest ones are looked for later. It
//! must never make a writer wait.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Archive, Kind, Listed};

/// The most owners that are noted at once. Others are noted when they add the next record.
const MOST: usize = 10_000;

/// The limit of records of one kind, and the owners who have added some since the last look.
#[derive(Debug)]
pub struct OwnerLimit {
    kind: Kind,
    owners: Mutex<HashSet<Arc<str>>>,
}

impl OwnerLimit {
    /// Nobody, for records of a kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, owners: Mutex::default() }
    }

    /// Notes that an owner has added a record.
    pub fn added(&self, owner: &Arc<str>) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() < MOST {
            owners.insert(Arc::clone(owner));
        }
    }

    /// The records beyond the newest `most` of each of these owners, who are noted no more. One that cannot be read is
    /// passed over.
    pub async fn surplus(
        &self,
        archive: &dyn Archive,
        most: usize,
    ) -> Vec<(Arc<str>, Vec<Listed>)> {
        let owners = {
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *owners)
        };
        let mut surplus = Vec::new();
        for owner in owners {
            let Ok(mut all) = archive.list(self.kind, &owner).await else { continue };
            all.sort_unstable_by_key(|one| one.written);
            all.truncate(all.len().saturating_sub(most));
            surplus.push((owner, all));
        }
        surplus
    }
}
