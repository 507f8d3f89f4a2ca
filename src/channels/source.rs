//! Sources of a subscription: logs whose events one connection follows together. A source must never wait for a
//! reader, nor keep anything for one.

use std::sync::Arc;

use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::name::{ChannelName, ChannelRights};
use super::publication::Frame;
use super::wakeup::Worker;
use crate::streams::position::Epoch;

/// Those who may read an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Callers with a right to its channel.
    Channel,
    /// Callers with a right to its channel, or to one of these.
    Channels(Arc<[ChannelName]>),
    /// All callers.
    Public,
}

/// An event of a source.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number in the sequence of its epoch.
    pub seq: u64,
    /// The channel, or the stream, that it is an event of.
    pub origin: Arc<str>,
    /// The time at which it was published.
    pub published: Instant,
    /// Those who may read it, where a subscription was not checked as a whole.
    pub audience: Audience,
    /// The event as it is sent.
    pub frame: Frame,
}

impl Event {
    /// The type that clients dispatch it as.
    pub fn kind(&self) -> &str {
        self.frame.name().unwrap_or("message")
    }

    /// Whether a caller with these rights may read it.
    pub fn is_readable(&self, rights: &ChannelRights) -> bool {
        match &self.audience {
            Audience::Public => true,
            Audience::Channel => rights.may_read(&self.origin),
            Audience::Channels(others) => {
                let mut others = others.iter();
                rights.may_read(&self.origin) || others.any(|it| rights.may_read(it.as_str()))
            }
        }
    }
}

/// The events of a source after a number.
#[derive(Debug)]
pub enum SourceRead {
    /// The next ones, in order. `more`: there may be others after them.
    Events {
        /// One or more.
        events: Vec<Event>,
        /// Whether reading on may return more.
        more: bool,
    },
    /// None for now.
    Tail,
    /// Some of them have been trimmed. `earliest`: the lowest number from which on none is missing.
    Gone {
        /// That number.
        earliest: u64,
    },
}

/// A log that subscriptions follow.
///
/// Sources of one epoch share one sequence of numbers; an event may be in several of them.
pub trait Source: Send + Sync {
    /// The incarnation of its sequence.
    fn epoch(&self) -> Epoch;

    /// The number up to which all sources of its epoch are complete: a lower number will not appear any more.
    fn complete(&self) -> u64;

    /// The lowest number from which on none is missing.
    fn earliest(&self) -> u64;

    /// Reads the events after a number, up to about `most` bytes, but at least one.
    fn read(&self, after: u64, most: usize) -> SourceRead;

    /// Resolves when something is appended after this call. The reader's subscription began on a worker.
    fn appended(&self, worker: Worker) -> Notified<'_>;
}
