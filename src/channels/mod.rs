//! Channels: events that applications publish to their users, in logs that outlive the connections of those who follow.
//! It must never know of HTTP, and never hold a queue for a subscriber.
//!
//! A [`Hub`] has channels by name. A channel is a log of framed events, each framed once for all its subscribers. A
//! subscriber is a position and a wake-up.

mod batch;
mod cursor;
mod directory;
mod history_archive;
mod hub;
mod name;
mod pattern;
mod presence;
mod publication;
mod published_ids;
mod replication;
mod restoration;
mod shared;
mod source;
mod stream_source;
mod subscriber_limit;
mod subscription;
#[cfg(test)]
mod tests;
pub mod topic;
mod track;
mod wakeup;

pub use batch::{Batch, Delivered};
pub use cursor::{Cursor, CursorError};
pub use history_archive::{HistoryArchive, RestoredHistory};
pub use hub::{ChannelView, Hub, HubError};
pub use name::{ChannelName, ChannelRights, NameError, Selector};
pub use pattern::{ChannelPattern, Gap, Placeholders};
pub use publication::{Fields, Frame, Publication, PublicationError, Publications};
pub use replication::Applied;
pub use shared::{Appending, CatchingUp, ChannelLog, ChannelLogError, Entry, Presence};
pub use source::{Audience, Event, Source, SourceRead};
pub use stream_source::StreamSource;
pub use subscriber_limit::LimitError;
pub use subscription::{Next, Start, SubscribeError, Subscription, SubscriptionRequest};
pub use topic::TopicError;
pub use wakeup::{Wakeup, Worker};
