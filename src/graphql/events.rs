//! Events of subscriptions, from channels and from durable streams. A gap must be an error that ends the subscription,
//! never a silence.

use std::sync::Arc;

use async_graphql::{Error, ErrorExtensions, ID, SimpleObject};
use async_stream::stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::channels::{Cursor, Next, Subscription, Wakeup};
use crate::streams::generation::Generation;
use crate::streams::log::Read;
use crate::streams::position::Position;
use crate::streams::track::Track;
use crate::wire::format::Format;

/// The most bytes that one read takes of each source.
const MAX_READ: usize = 64 * 1024;

/// An event of a channel or of a durable stream.
#[derive(Debug, Clone, SimpleObject)]
pub(super) struct Event {
    /// The position after it, for `after`.
    pub(super) id: ID,
    /// The channel that it was published to.
    pub(super) channel: Option<String>,
    /// The durable stream that it is an event of.
    pub(super) stream: Option<ID>,
    /// Its type; `message` without one.
    #[graphql(name = "type")]
    pub(super) kind: String,
    /// Its data as text, which is JSON if it was published so.
    pub(super) data: String,
}

/// Events, or the error that ends them.
pub(super) type Events = BoxStream<'static, Result<Event, Error>>;

/// The error of a position after which events are missing.
pub(super) fn gone(earliest: &str) -> Error {
    let message = "events after this position are no longer kept; go on from `earliest`, and fetch the state anew";
    Error::new(message).extend_with(|_, extensions| {
        extensions.set("code", "position_gone");
        extensions.set("earliest", earliest);
    })
}

/// An error with a code.
pub(super) fn coded(message: String, code: &str) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code))
}

/// The events of a subscription to channels.
pub(super) fn of_channels(mut subscription: Subscription) -> Events {
    let events = stream! {
        let (sources, worker) = (subscription.awaited(), subscription.worker());
        let epoch = subscription.epoch();
        // Before the first read, so that nothing is missed.
        let mut wakeup = Wakeup::new(&sources, worker);
        loop {
            match subscription.next(MAX_READ) {
                Next::Events(batch) => {
                    for delivered in batch.events {
                        let event = &delivered.event;
                        yield Ok(Event {
                            id: delivered.id(epoch).into(),
                            channel: Some(event.origin.to_string()),
                            stream: None,
                            kind: event.kind().to_owned(),
                            data: event.frame.data(),
                        });
                    }
                }
                Next::Reset(cursor) => {
                    yield Err(gone(&cursor.to_string()));
                    break;
                }
                Next::Tail => wakeup.woken().await,
            }
        }
    };
    events.boxed()
}

/// The reading end of a durable stream, which counts as a viewer.
struct Reader {
    generation: Arc<Generation>,
    /// `None`: the native track.
    derived: Option<Arc<Track>>,
    seq: u64,
}

impl Reader {
    fn track(&self) -> &Track {
        self.derived.as_deref().unwrap_or(&self.generation.native)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.generation.left();
    }
}

/// The events of a durable stream in a format, after a position or from its beginning.
pub(super) fn of_stream(
    generation: Arc<Generation>,
    format: Format,
    after: Option<Position>,
) -> Result<Events, Error> {
    generation.joined();
    let derived = generation.in_format(format);
    let mut reader = Reader { generation, derived, seq: 0 };
    reader.track().advance(&reader.generation);
    let (extent, epoch) = (reader.track().log.extent(), reader.track().epoch);
    match after {
        None => {}
        Some(after) if after.epoch != epoch || after.seq < extent.earliest => {
            return Err(gone(&epoch.at(extent.earliest).to_string()));
        }
        Some(after) if after.seq > extent.tail => {
            let message =
                "the position is ahead of the stream; send the `id` of an event".to_owned();
            return Err(coded(message, "position_ahead"));
        }
        Some(after) => reader.seq = after.seq,
    }
    let events = stream! {
        let generation = Arc::clone(&reader.generation);
        loop {
            let appended = generation.native.log.appended();
            reader.track().advance(&generation);
            match reader.track().log.read(reader.seq, MAX_READ) {
                Read::Entries { first, entries } => {
                    for (seq, event) in (first..).zip(&entries) {
                        reader.seq = seq;
                        let (name, data) = event.parts();
                        yield Ok(Event {
                            id: Cursor::new([epoch.at(seq)]).to_string().into(),
                            channel: None,
                            stream: Some(generation.id.clone().into()),
                            kind: name.unwrap_or_else(|| "message".to_owned()),
                            data,
                        });
                    }
                }
                Read::End(_) => break,
                Read::Gone { earliest } => {
                    yield Err(gone(&epoch.at(earliest).to_string()));
                    break;
                }
                Read::Tail | Read::Ahead => appended.await,
            }
        }
    };
    Ok(events.boxed())
}
