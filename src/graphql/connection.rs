//! Connections of GraphQL over server-sent events: the results of one operation, or of all that a reservation has, with
//! heartbeats between them. The body is polled, not spawned: the client's reading speed is the backpressure.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::stream::{BoxStream, SelectAll, once};
use futures_util::{Stream, StreamExt};
use rand::RngExt as _;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::execution::Operation;
use super::reservations::{AcceptedOperation, ReservedConnection};
use crate::channel_api::event_stream::Pace;

/// The first bytes: clients know at once that they are connected.
const FIRST: &[u8] = b": ok\n\n";

/// A comment, which every client ignores.
const HEARTBEAT: &[u8] = b": heartbeat\n\n";

/// The share of its longest lifetime that a connection lives at least, and of the drain time that it lives at most.
const SHARE: f64 = 0.8;

/// An event of an operation.
enum OperationEvent {
    /// A result, in JSON.
    Next(Option<Arc<str>>, String),
    /// There are no more.
    Complete(Option<Arc<str>>),
}

/// The operations of a connection.
pub(super) struct Connection {
    running: SelectAll<BoxStream<'static, OperationEvent>>,
    /// `None`: it is that of one operation.
    reserved: Option<ReservedConnection>,
}

impl Connection {
    /// That of one operation, with which it ends.
    pub(super) fn distinct(operation: Operation) -> Self {
        let mut running = SelectAll::new();
        running.push(events(None, operation));
        Self { running, reserved: None }
    }

    /// That of a reservation.
    pub(super) fn reserved(reserved: ReservedConnection) -> Self {
        Self { running: SelectAll::new(), reserved: Some(reserved) }
    }

    /// The next event. Without operations it waits for one.
    async fn next(&mut self) -> OperationEvent {
        let Self { running, reserved } = self;
        loop {
            if let Some(reserved) = reserved {
                for AcceptedOperation { id, operation, stopped } in reserved.take() {
                    let stopped = stopped.cancelled_owned();
                    running.push(events(Some(id.into()), operation).take_until(stopped).boxed());
                }
            }
            let added = async {
                match reserved {
                    Some(reserved) => reserved.reservation().added.notified().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = added => {}
                Some(event) = running.next(), if !running.is_empty() => return event,
            }
        }
    }

    /// The bytes of an event.
    fn write(&self, event: OperationEvent) -> Bytes {
        let text = match event {
            OperationEvent::Next(None, result) => format!("event: next\ndata: {result}\n\n"),
            OperationEvent::Next(Some(id), result) => {
                let id = json!(*id);
                format!("event: next\ndata: {{\"id\":{id},\"payload\":{result}}}\n\n")
            }
            OperationEvent::Complete(None) => "event: complete\ndata: \n\n".to_owned(),
            OperationEvent::Complete(Some(id)) => {
                if let Some(reserved) = &self.reserved {
                    reserved.ended(&id);
                }
                format!("event: complete\ndata: {}\n\n", json!({ "id": *id }))
            }
        };
        text.into()
    }
}

/// The events of an operation.
fn events(id: Option<Arc<str>>, operation: Operation) -> BoxStream<'static, OperationEvent> {
    let last = OperationEvent::Complete(id.clone());
    let results = operation.map(move |result| OperationEvent::Next(id.clone(), result));
    results.chain(once(async move { last })).boxed()
}

/// The body of the response. `stopping`: the process stops, and its connections end within a time.
pub(super) fn event_stream(
    mut connection: Connection,
    pace: Pace,
    (stopping, drain): (CancellationToken, Duration),
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream! {
        yield Ok(Bytes::from_static(FIRST));
        let begun = Instant::now();
        let [life, last] = [rand::rng().random_range(SHARE..=1.0), rand::rng().random_range(0.0..=SHARE)];
        let life = pace.lifetime.map(|longest| begun + longest.mul_f64(life));
        let credential = pace.credential.map(|left| begun + left);
        let mut end = [life, credential].into_iter().flatten().min();
        let (mut written, mut draining) = (begun, false);
        loop {
            let heartbeat = written + pace.heartbeat;
            let due = end.map_or(heartbeat, |end| end.min(heartbeat));
            // A connection that always has something to write must end as well.
            if end.is_some_and(|end| end <= Instant::now()) {
                break;
            }
            tokio::select! {
                biased;
                () = stopping.cancelled(), if !draining => {
                    draining = true;
                    let last = Instant::now() + drain.mul_f64(last);
                    end = Some(end.map_or(last, |end| end.min(last)));
                }
                event = connection.next() => {
                    let ends = matches!(event, OperationEvent::Complete(None));
                    written = Instant::now();
                    yield Ok(connection.write(event));
                    if ends {
                        break;
                    }
                }
                () = sleep_until(due) => {
                    if end.is_none_or(|end| end > Instant::now()) {
                        written = Instant::now();
                        yield Ok(Bytes::from_static(HEARTBEAT));
                    }
                }
            }
        }
    }
}
