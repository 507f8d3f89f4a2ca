//! Overflow of the ledger: sums of the requests for which the channel or the spool has no room. Bounded; it must never lose
//! an amount.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{AggregateRecord, CloseRecord, Record, RecordId, RollupKey, Sums};

/// The most keys. Requests beyond them are counted together, per quarter hour.
const KEYS: usize = 4096;

/// The most ids of one key. The frame of an aggregate must have room for them.
const IDS: usize = 16_384;

/// Stands for all callers, models and targets beyond [`KEYS`].
const OTHER: &str = "other";

/// Sums in memory.
#[derive(Debug, Default)]
pub(super) struct Overflow(Mutex<BTreeMap<RollupKey, (Sums, Vec<RecordId>)>>);

impl Overflow {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RollupKey, (Sums, Vec<RecordId>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request.
    pub(super) fn add(&self, close: &CloseRecord) {
        self.add_all(close.key(), &close.sums(), &[close.open.id]);
    }

    fn add_all(&self, mut key: RollupKey, more: &Sums, closed: &[RecordId]) {
        let mut map = self.lock();
        if map.len() >= KEYS && !map.contains_key(&key) {
            let other = || Arc::from(OTHER);
            key = RollupKey { caller: other(), model: other(), target: other(), ..key };
        }
        let (sums, ids) = map.entry(key).or_default();
        sums.add(more);
        let room = IDS.saturating_sub(ids.len());
        ids.extend(closed.iter().take(room));
    }

    /// Takes the sums out, as records.
    pub(super) fn take(&self, mut id: impl FnMut() -> RecordId) -> Vec<Record> {
        let map = std::mem::take(&mut *self.lock());
        let record = |(key, (sums, closed))| {
            Record::Aggregate(AggregateRecord { id: id(), key, sums, closed })
        };
        map.into_iter().map(record).collect()
    }

    /// Puts records back that could not be written.
    pub(super) fn put_back(&self, records: &[Record]) {
        for record in records {
            match record {
                Record::Aggregate(AggregateRecord { key, sums, closed, .. }) => {
                    self.add_all(key.clone(), sums, closed);
                }
                Record::Close(close) => self.add(close),
                // Its close counts it.
                Record::Open(_) => {}
            }
        }
    }
}
