//! Event stream of a subscriber: replay, then live events, heartbeats, and an end with the subscriber's position. The
//! body is polled, not spawned: the subscriber's reading speed is the backpressure.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use async_stream::stream;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};

use crate::channels::{Next, Subscription, Wakeup};

/// The first bytes: clients know at once that they are connected, and proxies pass the head on.
const FIRST: &[u8] = b": ok\n\n";

/// A comment, which every client ignores.
const HEARTBEAT: &[u8] = b": heartbeat\n\n";

/// The time after which a client reconnects, in milliseconds: each connection has its own, so that a restart is not
/// followed by all of them at once.
const RETRY: std::ops::RangeInclusive<u32> = 2_000..=5_000;

/// The most bytes that one read takes of each source: what the server writes at once.
const MAX_READ: usize = 64 * 1024;

/// The share of the drain time in which all subscribers end, so that the last one has time to read.
const DRAIN_SHARE: f64 = 0.8;

/// The share of its longest lifetime that a connection lives at least.
const SHORTEST_LIFE: f64 = 0.8;

/// The times of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Silence after which a heartbeat is written.
    pub(crate) heartbeat: Duration,
    /// The longest that the connection lives, of which a part is left to chance.
    pub(crate) lifetime: Option<Duration>,
    /// The time until the caller's credential ends.
    pub(crate) credential: Option<Duration>,
}

/// The reason why a connection ends, in its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Connections do not last for ever.
    Lifetime,
    /// The caller's credential is no longer good.
    Credential,
    /// The process is stopping.
    Draining,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Credential => "credential_expired",
            Self::Draining => "draining",
        }
    }
}

/// The form in which events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As they were published, with events of the connection's own.
    Native,
    /// Each in an event that names its channel.
    Enveloped,
    /// As they were published, and nothing else. An id is a URL's fragment.
    Mercure,
}

/// A connection under way.
struct Connection {
    subscription: Subscription,
    framing: Framing,
    heartbeat: Duration,
    /// The time of the last write.
    written: Instant,
    end: Option<(Instant, Reason)>,
    /// The line that the first event carries.
    retry: Option<String>,
    caught_up: bool,
}

/// A step of a connection.
enum Step {
    /// Bytes to write.
    Write(Bytes),
    /// Nothing for now.
    Wait,
    /// The last bytes.
    End(Bytes),
}

/// The body of the response.
pub(crate) fn event_stream(
    subscription: Subscription,
    framing: Framing,
    pace: Pace,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream! {
        yield Ok(Bytes::from_static(FIRST));
        let (sources, worker) = (subscription.awaited(), subscription.worker());
        let mut connection = Connection::new(subscription, framing, pace);
        // Before the first read, so that nothing is missed.
        let mut wakeup = Wakeup::new(&sources, worker);
        let mut timer = pin!(sleep_until(connection.due()));
        loop {
            match connection.step() {
                Step::Write(bytes) => yield Ok(bytes),
                Step::End(bytes) => {
                    if !bytes.is_empty() {
                        yield Ok(bytes);
                    }
                    break;
                }
                Step::Wait => {
                    let due = connection.due();
                    if timer.deadline() > due || timer.is_elapsed() {
                        timer.as_mut().reset(due);
                    }
                    tokio::select! {
                        biased;
                        () = wakeup.woken() => {}
                        () = timer.as_mut() => {}
                    }
                }
            }
        }
    }
}

impl Connection {
    fn new(subscription: Subscription, framing: Framing, pace: Pace) -> Self {
        let (mut rng, now) = (rand::rng(), Instant::now());
        let life = pace.lifetime.map(|longest| {
            (now + longest.mul_f64(rng.random_range(SHORTEST_LIFE..=1.0)), Reason::Lifetime)
        });
        let credential = pace.credential.map(|left| (now + left, Reason::Credential));
        Self {
            subscription,
            framing,
            heartbeat: pace.heartbeat,
            written: now,
            end: [life, credential].into_iter().flatten().min_by_key(|(at, _)| *at),
            retry: Some(format!("retry: {}\n", rng.random_range(RETRY))),
            caught_up: false,
        }
    }

    /// The time of the next step, if nothing is appended before.
    fn due(&self) -> Instant {
        let heartbeat = self.written + self.heartbeat;
        self.end.map_or(heartbeat, |(at, _)| at.min(heartbeat))
    }

    fn step(&mut self) -> Step {
        // Even if there is more to write: a connection that is never at the tail must end as well.
        if let Some((_, reason)) = self.end.filter(|(at, _)| *at <= self.written) {
            return self.end(reason);
        }
        let epoch = self.subscription.epoch();
        loop {
            match self.subscription.next(MAX_READ) {
                Next::Events(batch) if batch.events.is_empty() => {}
                Next::Events(batch) => {
                    return self.write(match self.framing {
                        Framing::Native => batch.bytes(),
                        Framing::Enveloped => batch.enveloped(epoch),
                        Framing::Mercure => batch.with_ids_after("#", epoch),
                    });
                }
                // The client comes back, and its response says that something is missing.
                Next::Reset(_) if self.framing == Framing::Mercure => {
                    return Step::End(Bytes::new());
                }
                Next::Reset(cursor) => {
                    let data = format!(r#"{{"earliest":"{cursor}"}}"#);
                    let block = format!("event: reset\ndata: {data}\nid: {cursor}\n\n");
                    return self.write(block.into());
                }
                Next::Tail if !self.caught_up && self.framing != Framing::Mercure => {
                    self.caught_up = true;
                    // Now the client has a position, even if it gets no event: it can miss none from here on.
                    let block = self.control("caught_up");
                    return self.write(block);
                }
                Next::Tail => return self.at_tail(),
            }
        }
    }

    fn at_tail(&mut self) -> Step {
        let now = Instant::now();
        if let Some((since, within)) = self.subscription.hub().draining()
            && self.end.is_none_or(|(_, reason)| reason != Reason::Draining)
        {
            let share = rand::rng().random_range(0.0..=DRAIN_SHARE);
            self.end = Some((since + within.mul_f64(share), Reason::Draining));
        }
        if let Some((_, reason)) = self.end.filter(|(at, _)| *at <= now) {
            return self.end(reason);
        }
        if self.written + self.heartbeat <= now {
            self.subscription.flush();
            self.written = now;
            return Step::Write(Bytes::from_static(HEARTBEAT));
        }
        Step::Wait
    }

    fn end(&self, reason: Reason) -> Step {
        let own = self.framing != Framing::Mercure;
        Step::End(if own { self.control(reason.word()) } else { Bytes::new() })
    }

    /// An event of the connection itself, with its position.
    fn control(&self, word: &str) -> Bytes {
        let cursor = self.subscription.cursor();
        format!("event: control\ndata: {{\"type\":\"{word}\"}}\nid: {cursor}\n\n").into()
    }

    fn write(&mut self, bytes: Bytes) -> Step {
        self.written = Instant::now();
        let Some(retry) = self.retry.take() else { return Step::Write(bytes) };
        let mut first = BytesMut::with_capacity(retry.len() + bytes.len());
        first.extend_from_slice(retry.as_bytes());
        first.extend_from_slice(&bytes);
        Step::Write(first.freeze())
    }
}
