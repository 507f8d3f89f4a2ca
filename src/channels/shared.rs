//! Channels that several nodes share: one log of all their events, in one order, that every node applies to its own hub.
//! A node must never give an event a number of its own: the log does, and what is not in the log has not happened.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::hub::Hub;
use super::name::ChannelName;
use super::publication::Publication;

/// The text of an event that every subscriber may read.
const PUBLIC: &[u8] = b"1";

/// The log of the events of all channels.
pub trait ChannelLog: Send + Sync {
    /// Appends entries, which are applied on every node. Returns their numbers; an entry with the id of an earlier one of
    /// its channel has that one's.
    fn append(&self, entries: Vec<Entry>) -> Appending<'_>;

    /// Applies all entries that there are to a hub. Resolves to whether the log could be reached.
    fn catch_up<'a>(&'a self, hub: &'a Hub) -> CatchingUp<'a>;

    /// Appends an entry without waiting. It is left out where the log cannot be reached.
    fn offer(&self, entry: Entry);
}

/// The numbers of entries, once they are appended.
pub type Appending<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<u64>, ChannelLogError>> + Send + 'a>>;

/// Whether a hub is up to the log.
pub type CatchingUp<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// A log that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLogError;

/// The log of a hub, and the name of its node there.
pub(super) struct SharedLog {
    pub(super) log: Arc<dyn ChannelLog>,
    pub(super) node: Arc<str>,
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An event of a channel, and of others.
    Event(ChannelName, Vec<ChannelName>, Publication),
    /// A user is subscribed to a channel, on a node.
    Joined(ChannelName, Presence),
    /// A user is no longer subscribed to a channel, on a node.
    Left(ChannelName, Presence),
}

/// A user on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The node.
    pub node: String,
    /// The user.
    pub user: String,
}

impl Entry {
    /// Its channel and its publisher's id, by which a repetition is found.
    pub fn key(&self) -> Option<(&str, &str)> {
        match self {
            Self::Event(channel, _, event) => Some((channel.as_str(), event.id.as_deref()?)),
            Self::Joined(..) | Self::Left(..) => None,
        }
    }

    /// Its bytes: a letter, then texts, each after its length in four bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut write = |kind: u8, texts: &[&[u8]]| {
            out.put_u8(kind);
            for text in texts {
                out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                out.put_slice(text);
            }
        };
        match self {
            Self::Event(channel, others, event) => {
                let id = event.id.as_deref().unwrap_or_default().as_bytes();
                let public: &[u8] = if event.public { PUBLIC } else { b"" };
                let own = [channel.as_str().as_bytes(), id, event.body(), public];
                let others = others.iter().map(|other| other.as_str().as_bytes());
                write(b'E', &own.into_iter().chain(others).collect::<Vec<_>>());
            }
            Self::Joined(channel, Presence { node, user }) => {
                write(b'J', &[channel.as_str().as_bytes(), node.as_bytes(), user.as_bytes()]);
            }
            Self::Left(channel, Presence { node, user }) => {
                write(b'L', &[channel.as_str().as_bytes(), node.as_bytes(), user.as_bytes()]);
            }
        }
        out.freeze()
    }

    /// Reads an entry. `None`: it was written by another version, or is damaged.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let mut texts = Vec::new();
        while bytes.has_remaining() {
            let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
            texts.push((length <= bytes.len()).then(|| bytes.split_to(length))?);
        }
        let text = |at: usize| std::str::from_utf8(texts.get(at)?).ok();
        let presence = || Some(Presence { node: text(1)?.to_owned(), user: text(2)?.to_owned() });
        let channel = || text(0)?.parse::<ChannelName>().ok();
        match (kind, texts.len()) {
            (b'E', 4..) => {
                let id = text(1).filter(|id| !id.is_empty()).map(Into::into);
                let mut event = Publication::of_body(id, texts.get(2)?)?;
                event.public = texts.get(3)? == PUBLIC;
                let others = (4..texts.len()).map(|at| text(at)?.parse().ok());
                let others = others.collect::<Option<_>>()?;
                Some(Self::Event(channel()?, others, event))
            }
            (b'J', 3) => Some(Self::Joined(channel()?, presence()?)),
            (b'L', 3) => Some(Self::Left(channel()?, presence()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_never_in_part() {
        let channel = || "room:\u{e9}".parse::<ChannelName>().unwrap();
        let presence = || Presence { node: "n1".to_owned(), user: "zo\u{eb}".to_owned() };
        let mut event = Publication::own("news", "one\ntwo");
        event.id = Some("id-1".into());
        let mut public = event.clone();
        public.public = true;
        for entry in [
            Entry::Event(channel(), Vec::new(), event),
            Entry::Event(channel(), Vec::new(), Publication::own("", "")),
            Entry::Event(channel(), vec![channel(), channel()], public),
            Entry::Joined(channel(), presence()),
            Entry::Left(channel(), presence()),
        ] {
            let bytes = entry.encode();
            let read = Entry::decode(bytes.clone()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{entry:?}"));
            for cut in 0..bytes.len() {
                // Without one of its other channels it is another whole entry.
                let read = Entry::decode(bytes.slice(..cut)).map(|read| read.encode());
                assert!(read.is_none_or(|read| read == bytes.slice(..cut)), "{entry:?} at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _read = Entry::decode(bytes.into());
        }
    }
}
