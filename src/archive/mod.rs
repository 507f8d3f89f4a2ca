//! Archive: records that outlive the process, by kind, owner and id, each until its expiry. It must never read a record:
//! a value is bytes, and means something only to its writer.
//!
//! [`DiskArchive`] keeps them in a file, for one node. Records refer to each other by id and never by place, so that a
//! store on the network can keep them as well.

mod disk;
mod owner_limit;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub use disk::DiskArchive;
pub use owner_limit::OwnerLimit;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A durable stream that has ended, without its events.
    Stream = 1,
    /// The events of a durable stream.
    StreamEvents = 2,
    /// The id of a durable stream by another name of it.
    StreamName = 3,
    /// A stored response.
    Response = 4,
    /// The id of a stored response by the id of an item of it.
    ResponseItem = 5,
    /// A conversation without its items.
    Conversation = 6,
    /// Items of a conversation.
    ConversationItems = 7,
    /// The last number of a channel.
    Channel = 8,
    /// An event of a channel.
    ChannelEvent = 9,
    /// The sequence of all channels.
    ChannelSequence = 10,
}

/// The key of a record. Ids of one kind and owner are in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its owner: nobody else's key is equal to it.
    pub owner: Arc<str>,
    /// Its id.
    pub id: String,
}

impl Key {
    /// A key.
    pub fn new(kind: Kind, owner: &Arc<str>, id: impl Into<String>) -> Self {
        Self { kind, owner: Arc::clone(owner), id: id.into() }
    }
}

/// A change of an archive.
#[derive(Debug, Clone)]
pub enum Change {
    /// Puts a record, in the place of one with the same key.
    Put {
        /// Its key.
        key: Key,
        /// Its bytes.
        value: Bytes,
        /// The Unix second from which on there is no such record any more.
        expires: u64,
    },
    /// Prolongs a record, if there is one that expires earlier.
    Prolong {
        /// Its key.
        key: Key,
        /// The Unix second from which on there is no such record any more.
        expires: u64,
    },
    /// Removes a record, if there is one.
    Remove(Key),
    /// Removes the records of a kind and owner up to an id.
    RemoveUpTo(Key),
    /// Removes the records of a kind and owner whose ids begin so.
    RemovePrefixed(Key),
}

/// A record in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// The number of its writing: later ones have higher numbers.
    pub written: u64,
}

/// A record as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Key,
    /// Its bytes.
    pub value: Bytes,
    /// The number of its writing: later ones have higher numbers.
    pub written: u64,
    /// The Unix second from which on there is no such record any more.
    pub expires: u64,
}

/// The records of a scan.
#[derive(Debug, Clone)]
pub struct Range {
    /// Their kind.
    pub kind: Kind,
    /// Their owner; `None`: all owners.
    pub owner: Option<Arc<str>>,
    /// The beginning of their ids; only with an owner.
    pub prefix: String,
    /// The key of the last record that was read; `None`: none was.
    pub after: Option<Key>,
}

impl Range {
    /// The records of an owner.
    pub fn of(kind: Kind, owner: &Arc<str>, prefix: &str) -> Self {
        Self { kind, owner: Some(Arc::clone(owner)), prefix: prefix.to_owned(), after: None }
    }

    /// The records of all owners.
    pub fn all(kind: Kind) -> Self {
        Self { kind, owner: None, prefix: String::new(), after: None }
    }
}

/// A failure of an archive. Its text has no key and no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveError {
    /// It has more to do than it may have waiting.
    Busy,
    /// It was closed.
    Closed,
    /// Its storage has failed, for this reason.
    Storage(String),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the archive is too slow for what it is to write"),
            Self::Closed => f.write_str("the archive is closed"),
            Self::Storage(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for ArchiveError {}

/// The result of an operation, later.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, ArchiveError>> + Send>>;

/// Records by kind, owner and id. Operations take effect in the order in which their methods are called, and also if
/// nobody awaits them.
pub trait Archive: Send + Sync {
    /// Makes all of these changes or none. Resolves when they are durable.
    fn write(&self, changes: Vec<Change>) -> Pending<()>;
    /// The value of a record.
    fn get(&self, key: Key) -> Pending<Option<Bytes>>;
    /// The records of a kind and owner, by id.
    fn list(&self, kind: Kind, owner: &Arc<str>) -> Pending<Vec<Listed>>;
    /// The next records of a range, by key, about 1 MiB of them; none: there are no more.
    fn scan(&self, range: Range) -> Pending<Vec<Record>>;
    /// Completes what was begun, and closes it.
    fn close(&self) -> Pending<()>;
}
