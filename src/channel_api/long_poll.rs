//! Long-poll: the events of a subscription as one JSON document, for clients without event streams. A response must
//! never skip an event: what does not fit is for the next request.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::channels::{Cursor, Delivered, Next, Source, Subscription, Wakeup};

/// About the most bytes of events in a response.
const MAX_BYTES: usize = 1 << 20;

/// The most bytes that one read takes of each source.
const MAX_READ: usize = 64 * 1024;

/// The events that one response has.
pub(super) enum Polled {
    /// These, or none, because the time is over.
    Events {
        /// In the order of their positions.
        events: Vec<Value>,
        /// The position after them.
        cursor: Cursor,
        /// Whether there were no more.
        up_to_date: bool,
    },
    /// Some were gone before they were read.
    Gone {
        /// The lowest position from which on none is missing.
        earliest: Cursor,
    },
}

/// Reads the events that there are; if there are none, waits for the first.
pub(super) async fn poll(mut subscription: Subscription, wait: Duration) -> Polled {
    let sources: Vec<Arc<dyn Source>> = subscription.awaited();
    let mut wakeup = Wakeup::new(&sources, subscription.worker());
    let first = async {
        loop {
            let polled = read(&mut subscription);
            let empty = matches!(&polled, Polled::Events { events, .. } if events.is_empty());
            if !empty || subscription.hub().draining().is_some() {
                return polled;
            }
            wakeup.woken().await;
        }
    };
    match timeout(wait, first).await {
        Ok(polled) => polled,
        Err(_) => read(&mut subscription),
    }
}

/// The events that there are now.
pub(super) fn read(subscription: &mut Subscription) -> Polled {
    let epoch = subscription.epoch();
    let (mut events, mut bytes) = (Vec::new(), 0);
    loop {
        let before = subscription.cursor();
        match subscription.next(MAX_READ) {
            Next::Events(batch) => {
                bytes += batch.events.iter().map(|it| it.event.frame.bytes().len()).sum::<usize>();
                events.extend(batch.events.iter().map(|delivered| {
                    let Delivered { event, .. } = delivered;
                    json!({
                        "id": delivered.id(epoch),
                        "channel": *event.origin,
                        "event": event.frame.name(),
                        "data": event.frame.data(),
                    })
                }));
                if bytes >= MAX_BYTES {
                    let cursor = subscription.cursor();
                    return Polled::Events { events, cursor, up_to_date: false };
                }
            }
            Next::Reset(earliest) if events.is_empty() => return Polled::Gone { earliest },
            // The next request finds it out.
            Next::Reset(_) => return Polled::Events { events, cursor: before, up_to_date: false },
            Next::Tail => {
                let cursor = subscription.cursor();
                return Polled::Events { events, cursor, up_to_date: true };
            }
        }
    }
}
