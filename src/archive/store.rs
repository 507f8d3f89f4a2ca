//! Tables of the disk archive, in an embedded store of pages with checksums (redb): records, their expiries, and the
//! order in which they expire. A transaction holds a batch of changes; a crash must leave the last committed one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError, Table,
    TableDefinition, WriteTransaction,
};

use super::{Change, Key, Kind, Listed, Range, Record};

/// Values by key.
const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");

/// Expiry, number of the writing, and size of each record.
const META: TableDefinition<'static, &[u8], Meta> = TableDefinition::new("meta");

/// Keys in the order in which their records expire.
const EXPIRIES: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("expiries");

type Meta = (u64, u64, u64);

/// The memory of the store for pages. Most records are read never or once.
const CACHE: usize = 16 << 20;

/// The most expired records that one transaction removes.
const PURGED_AT_ONCE: usize = 1_000;

/// The bytes of values that one scan returns.
const PAGE: usize = 1 << 20;

/// A failure of the store.
pub(super) type StoreError = redb::Error;

/// The file.
pub(super) struct Store {
    database: Database,
    counts: Counts,
    /// The most bytes of all records.
    most: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// The bytes of all keys and values.
    bytes: u64,
    /// The number of the last writing.
    written: u64,
}

/// Tables to read from.
pub(super) struct Tables<R, M> {
    records: R,
    meta: M,
}

type Written<'t> = Tables<Table<'t, &'static [u8], &'static [u8]>, Table<'t, &'static [u8], Meta>>;
type ReadOnly =
    Tables<ReadOnlyTable<&'static [u8], &'static [u8]>, ReadOnlyTable<&'static [u8], Meta>>;

/// Tables within a transaction that changes them.
pub(super) struct Writing<'t> {
    pub(super) tables: Written<'t>,
    expiries: Table<'t, (u64, &'static [u8]), ()>,
    counts: Counts,
    evicted: u64,
}

impl Store {
    /// Opens the file, or makes it, readable for its owner only. `most`: the most bytes of all records.
    pub(super) fn open(path: &Path, most: u64) -> Result<Self, StoreError> {
        let file = file(path).map_err(StorageError::from)?;
        let backend = FileBackend::new(file)?;
        let database = Builder::new()
            .set_cache_size(CACHE)
            // Without it, a file that was damaged elsewhere is trusted.
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)?;
        let transaction = database.begin_write()?;
        let counts = Writing::begin(&transaction, Counts::default())?.tables.count()?;
        transaction.commit()?;
        Ok(Self { database, counts, most })
    }

    /// Changes records in one transaction, removes some that have expired, and while there are too many bytes those that
    /// expire next. Returns what `change` does, and the count of the latter.
    pub(super) fn write<T>(
        &mut self,
        now: u64,
        change: impl FnOnce(&mut Writing<'_>) -> Result<T, StoreError>,
    ) -> Result<(T, u64), StoreError> {
        let transaction = self.database.begin_write()?;
        let (changed, counts, evicted) = {
            let mut writing = Writing::begin(&transaction, self.counts)?;
            let changed = change(&mut writing)?;
            writing.make_room(now, self.most)?;
            (changed, writing.counts, writing.evicted)
        };
        transaction.commit()?;
        self.counts = counts;
        Ok((changed, evicted))
    }

    /// Reads without a change.
    pub(super) fn read(&self) -> Result<ReadOnly, StoreError> {
        let transaction = self.database.begin_read()?;
        Ok(Tables {
            records: transaction.open_table(RECORDS)?,
            meta: transaction.open_table(META)?,
        })
    }

    /// Whether a record has expired.
    pub(super) fn is_due(&self, now: u64) -> Result<bool, StoreError> {
        let expiries = self.database.begin_read()?.open_table(EXPIRIES)?;
        let first = expiries.first()?;
        Ok(first.is_some_and(|(key, _)| key.value().0 <= now))
    }

    /// The bytes of all records.
    pub(super) fn bytes(&self) -> u64 {
        self.counts.bytes
    }

    /// Closes the file.
    pub(super) fn close(self) -> Result<(), StoreError> {
        Ok(self.database.close()?)
    }
}

fn file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

impl<R, M> Tables<R, M>
where
    R: ReadableTable<&'static [u8], &'static [u8]>,
    M: ReadableTable<&'static [u8], Meta>,
{
    fn count(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        for entry in self.meta.iter()? {
            let (_, written, size) = entry?.1.value();
            counts.bytes += size;
            counts.written = counts.written.max(written);
        }
        Ok(counts)
    }

    /// The value of a record.
    pub(super) fn get(&self, now: u64, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let key = encoded(key);
        let expires = self.meta.get(&*key)?.map(|meta| meta.value().0);
        if expires.is_none_or(|expires| expires <= now) {
            return Ok(None);
        }
        Ok(self.records.get(&*key)?.map(|value| Bytes::copy_from_slice(value.value())))
    }

    /// The records of a kind and owner.
    pub(super) fn list(
        &self,
        now: u64,
        kind: Kind,
        owner: &Arc<str>,
    ) -> Result<Vec<Listed>, StoreError> {
        let prefix = encoded(&Key::new(kind, owner, ""));
        let mut listed = Vec::new();
        for entry in self.meta.range(&*prefix..)? {
            let (key, meta) = entry?;
            let Some(id) = key.value().strip_prefix(&*prefix) else { break };
            let (expires, written, _) = meta.value();
            if expires > now {
                let id = String::from_utf8_lossy(id).into_owned();
                listed.push(Listed { id, written });
            }
        }
        Ok(listed)
    }

    /// The next records of a range.
    pub(super) fn scan(&self, now: u64, range: &Range) -> Result<Vec<Record>, StoreError> {
        let prefix = match &range.owner {
            Some(owner) => encoded(&Key::new(range.kind, owner, range.prefix.as_str())),
            None => vec![range.kind as u8],
        };
        let after = range.after.as_ref().map(encoded);
        let start = after.as_ref().unwrap_or(&prefix);
        let (mut records, mut bytes) = (Vec::new(), 0);
        for entry in self.meta.range(&**start..)? {
            let (key, meta) = entry?;
            let key = key.value();
            if !key.starts_with(&prefix) || bytes >= PAGE {
                break;
            }
            let (expires, written, _) = meta.value();
            if after.as_deref() == Some(key) || expires <= now {
                continue;
            }
            let (Some(value), Some(key)) = (self.records.get(key)?, decoded(range.kind, key))
            else {
                continue;
            };
            let value = Bytes::copy_from_slice(value.value());
            bytes += value.len();
            records.push(Record { key, value, written, expires });
        }
        Ok(records)
    }
}

impl<'t> Writing<'t> {
    fn begin(transaction: &'t WriteTransaction, counts: Counts) -> Result<Self, StoreError> {
        Ok(Self {
            tables: Tables {
                records: transaction.open_table(RECORDS)?,
                meta: transaction.open_table(META)?,
            },
            expiries: transaction.open_table(EXPIRIES)?,
            counts,
            evicted: 0,
        })
    }

    /// Makes a change.
    pub(super) fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Put { key, value, expires } => self.put(&encoded(key), value, *expires),
            Change::Prolong { key, expires } => self.prolong(&encoded(key), *expires),
            Change::Remove(key) => self.remove(&encoded(key)),
            Change::RemoveUpTo(key) => {
                let last = encoded(key);
                let first = encoded(&Key::new(key.kind, &key.owner, ""));
                let keys = self.keys(&first, |key| key <= &*last)?;
                keys.iter().try_for_each(|key| self.remove(key))
            }
            Change::RemovePrefixed(key) => {
                let prefix = encoded(key);
                let keys = self.keys(&prefix, |key| key.starts_with(&prefix))?;
                keys.iter().try_for_each(|key| self.remove(key))
            }
        }
    }

    /// The keys from one on, for as long as a condition holds.
    fn keys(
        &self,
        first: &[u8],
        is_within: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = Vec::new();
        for entry in self.tables.meta.range(first..)? {
            let (key, _) = entry?;
            if !is_within(key.value()) {
                break;
            }
            keys.push(key.value().to_vec());
        }
        Ok(keys)
    }

    fn put(&mut self, key: &[u8], value: &[u8], expires: u64) -> Result<(), StoreError> {
        self.remove(key)?;
        let size = (key.len() + value.len()) as u64;
        self.counts.written += 1;
        self.tables.records.insert(key, value)?;
        self.tables.meta.insert(key, (expires, self.counts.written, size))?;
        self.expiries.insert((expires, key), ())?;
        self.counts.bytes += size;
        Ok(())
    }

    fn prolong(&mut self, key: &[u8], expires: u64) -> Result<(), StoreError> {
        let meta = self.tables.meta.get(key)?.map(|meta| meta.value());
        let Some((before, written, size)) = meta.filter(|(before, ..)| *before < expires) else {
            return Ok(());
        };
        self.tables.meta.insert(key, (expires, written, size))?;
        self.expiries.remove((before, key))?;
        self.expiries.insert((expires, key), ())?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let meta = self.tables.meta.remove(key)?.map(|meta| meta.value());
        let Some((expires, _, size)) = meta else { return Ok(()) };
        self.tables.records.remove(key)?;
        self.expiries.remove((expires, key))?;
        self.counts.bytes = self.counts.bytes.saturating_sub(size);
        Ok(())
    }

    fn make_room(&mut self, now: u64, most: u64) -> Result<(), StoreError> {
        let mut purged = 0;
        loop {
            let first = self.expiries.first()?.map(|(key, _)| {
                let (expires, key) = key.value();
                (expires, key.to_vec())
            });
            let Some((expires, key)) = first else { return Ok(()) };
            let is_full = self.counts.bytes > most;
            if !is_full && (expires > now || purged == PURGED_AT_ONCE) {
                return Ok(());
            }
            purged += 1;
            self.evicted += u64::from(expires > now);
            self.remove(&key)?;
        }
    }
}

/// A key in bytes: its kind, the length of its owner in two bytes, its owner, and its id.
fn encoded(key: &Key) -> Vec<u8> {
    let owner = key.owner.as_bytes();
    let mut bytes = Vec::with_capacity(3 + owner.len() + key.id.len());
    bytes.push(key.kind as u8);
    // Names of callers and channels are far shorter than 64 KiB.
    bytes.extend_from_slice(&u16::try_from(owner.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(owner);
    bytes.extend_from_slice(key.id.as_bytes());
    bytes
}

fn decoded(kind: Kind, key: &[u8]) -> Option<Key> {
    let (length, rest) = key.get(1..)?.split_first_chunk::<2>()?;
    let (owner, id) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some(Key { kind, owner: text(owner)?.into(), id: text(id)? })
}
