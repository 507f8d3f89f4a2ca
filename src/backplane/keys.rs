//! Names of keys and channels in Redis. All keys of one stream share a hash tag, so that a cluster keeps them together.

use crate::config;
use crate::streams::position::Epoch;

/// The names under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys(pub(super) String);

impl Keys {
    /// The fields of a stream.
    pub(super) fn meta(&self, id: &str) -> String {
        format!("{}stream:{{{id}}}:meta", self.0)
    }

    /// The events of a stream.
    pub(super) fn log(&self, id: &str) -> String {
        format!("{}stream:{{{id}}}:log", self.0)
    }

    /// The channel of what is appended to a stream.
    pub(super) fn channel(&self, id: &str) -> String {
        format!("{}stream:{id}", self.0)
    }

    /// The channel of requests to a node.
    pub(super) fn node(&self, node: &str) -> String {
        format!("{}node:{node}", self.0)
    }

    /// The channel of requests to all nodes.
    pub(super) fn nodes(&self) -> String {
        format!("{}nodes", self.0)
    }

    /// The ids of an owner's streams, by the time at which they began.
    pub(super) fn owner(&self, owner: &str) -> String {
        format!("{}owner:{owner}", self.0)
    }

    /// The id of the last stream of a chat.
    pub(super) fn chat(&self, owner: &str, chat: &str) -> String {
        format!("{}chat:{chat}:{owner}", self.0)
    }

    /// The id of the stream of a response.
    pub(super) fn response(&self, owner: &str, response: &str) -> String {
        format!("{}response:{response}:{owner}", self.0)
    }

    /// The id of the stream of an epoch.
    pub(super) fn epoch(&self, epoch: Epoch) -> String {
        format!("{}epoch:{epoch}", self.0)
    }

    /// The stream of an idempotency key, by its SHA-256.
    pub(super) fn claim(&self, owner: &str, key: &str) -> String {
        format!("{}key:{}:{owner}", self.0, hex(config::digest(key)))
    }

    /// The record of a ticket.
    pub(super) fn ticket(&self, digest: [u8; 32]) -> String {
        format!("{}ticket:{}", self.0, hex(digest))
    }

    /// The shares of a stream.
    pub(super) fn shares(&self, id: &str) -> String {
        format!("{}stream:{{{id}}}:shares", self.0)
    }

    /// The channel of what is published to all channels.
    pub(super) fn hub(&self) -> String {
        format!("{}hub", self.0)
    }

    /// The log of all channels.
    pub(super) fn hub_log(&self) -> String {
        format!("{}hub:{{hub}}:log", self.0)
    }

    /// The number of its last entry.
    pub(super) fn hub_last(&self) -> String {
        format!("{}hub:{{hub}}:last", self.0)
    }

    /// The number of the event that a publisher has given an id.
    pub(super) fn hub_id(&self, channel: &str, id: &str) -> String {
        let digest = config::digest(&format!("{channel}\n{id}"));
        format!("{}hub:{{hub}}:id:{}", self.0, hex(digest))
    }

    /// The nodes that are alive.
    pub(super) fn alive(&self) -> String {
        format!("{}alive", self.0)
    }

    /// A hint of target health. All of them share a hash tag, so that they are read together.
    pub(super) fn hint(&self, subject: &str) -> String {
        format!("{}hint:{{hints}}:{subject}", self.0)
    }

    /// The channel of hints.
    pub(super) fn hints(&self) -> String {
        format!("{}hints", self.0)
    }

    /// The key by which capabilities are signed.
    pub(super) fn secret(&self) -> String {
        format!("{}secret", self.0)
    }
}

fn hex(digest: [u8; 32]) -> String {
    digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
