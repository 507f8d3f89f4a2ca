//! Subscriptions to channels of Redis: one connection for all of them. A message may be lost with its connection;
//! every subscriber is then asked to read again what it follows, so that nothing is missed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::{Client, Cmd, FromRedisValue, PushInfo, PushKind, RedisResult};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::connection::subscriber;

/// The changes that may wait for the connection.
const PENDING: usize = 1024;

/// The shortest and the longest time between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A receiver of the messages of a channel. Its methods run on the connection's task, and must never block.
pub(super) trait Sink: Send + Sync {
    /// A message.
    fn message(&self, payload: &[u8]);
    /// Messages may have been missed up to now; from now on none is, until this is called again.
    fn interrupted(&self);
}

/// All subscriptions of the process.
pub(super) struct Subscriber {
    sinks: Arc<Sinks>,
    changes: mpsc::Sender<Change>,
    received: Mutex<Option<mpsc::Receiver<Change>>>,
    clients: Vec<Client>,
    /// Timeout of a command, and the longest silence of the connection.
    timeout: Duration,
}

/// The receivers by channel. One that has been dropped has unsubscribed.
#[derive(Default)]
struct Sinks {
    by_channel: Mutex<HashMap<Vec<u8>, Weak<dyn Sink>>>,
}

enum Change {
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
}

impl Subscriber {
    pub(super) fn new(clients: Vec<Client>, timeout: Duration) -> Self {
        let (changes, received) = mpsc::channel(PENDING);
        let received = Mutex::new(Some(received));
        Self { sinks: Arc::default(), changes, received, clients, timeout }
    }

    /// Subscribes to a channel. [`Sink::interrupted`] is called when it is in effect.
    pub(super) async fn subscribe(&self, channel: &str, sink: Weak<dyn Sink>) {
        self.sinks.lock().insert(channel.as_bytes().to_vec(), sink);
        // An error: the process is stopping.
        let _stopped = self.changes.send(Change::Subscribe(channel.as_bytes().to_vec())).await;
    }

    /// Ends the subscription to a channel.
    pub(super) async fn unsubscribe(&self, channel: &str) {
        self.sinks.lock().remove(channel.as_bytes());
        let _stopped = self.changes.send(Change::Unsubscribe(channel.as_bytes().to_vec())).await;
    }

    /// Keeps the connection, for as long as it is polled. `failed`: called with each failure,
    /// and without one when it is connected.
    pub(super) async fn run(&self, failed: impl Fn(Option<&dyn std::fmt::Display>)) -> Infallible {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut changes) = received else { return std::future::pending().await };
        let (shortest, longest) = RETRY;
        let mut pause = shortest;
        for client in self.clients.iter().cycle() {
            let disconnected = Arc::new(Notify::new());
            let sinks = Arc::clone(&self.sinks);
            let pushes = Pushes { sinks, disconnected: Arc::clone(&disconnected) };
            match subscriber(client, self.timeout, pushes).await {
                Ok(mut connection) => {
                    let ended = tokio::select! {
                        ended = self.keep(&mut connection, &mut changes, &failed) => ended,
                        () = disconnected.notified() => Ok(()),
                    };
                    match ended {
                        Ok(()) => failed(Some(&"the connection was closed")),
                        Err(error) => failed(Some(&error)),
                    }
                    pause = shortest;
                }
                Err(error) => failed(Some(&error)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        std::future::pending().await
    }

    /// Subscribes to every channel, and then to others as they come, until the connection fails.
    async fn keep(
        &self,
        connection: &mut MultiplexedConnection,
        changes: &mut mpsc::Receiver<Change>,
        failed: &impl Fn(Option<&dyn std::fmt::Display>),
    ) -> RedisResult<()> {
        let channels: Vec<_> = self.sinks.lock().keys().cloned().collect();
        for channels in channels.chunks(PENDING) {
            connection.subscribe(channels).await?;
        }
        failed(None);
        for channel in &channels {
            self.sinks.interrupted(channel);
        }
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    None => return std::future::pending().await,
                    Some(Change::Subscribe(channel)) => {
                        connection.subscribe(&channel[..]).await?;
                        self.sinks.interrupted(&channel);
                    }
                    // It may have been subscribed to again.
                    Some(Change::Unsubscribe(channel)) if !self.sinks.has(&channel) => {
                        connection.unsubscribe(&channel[..]).await?;
                    }
                    Some(Change::Unsubscribe(_)) => {}
                },
                // A connection that is silent may be half open.
                () = sleep(self.timeout) => {
                    let ping = Cmd::new().arg("PING").take();
                    let pinged = timeout(self.timeout, ping.query_async::<()>(connection)).await;
                    pinged.unwrap_or_else(|late| Err(std::io::Error::from(late).into()))?;
                }
            }
        }
    }
}

impl Sinks {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Weak<dyn Sink>>> {
        self.by_channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, channel: &[u8]) -> bool {
        self.lock().contains_key(channel)
    }

    fn get(&self, channel: &[u8]) -> Option<Arc<dyn Sink>> {
        self.lock().get(channel)?.upgrade()
    }

    fn interrupted(&self, channel: &[u8]) {
        if let Some(sink) = self.get(channel) {
            sink.interrupted();
        }
    }
}

/// The receiver of what the connection brings. It hands messages on at once, so that none waits in a queue.
struct Pushes {
    sinks: Arc<Sinks>,
    disconnected: Arc<Notify>,
}

impl AsyncPushSender for Pushes {
    fn send(&self, info: PushInfo) -> Result<(), SendError> {
        match info.kind {
            PushKind::Message => {
                let mut data = info.data.into_iter().map(Vec::<u8>::from_redis_value);
                if let (Some(Ok(channel)), Some(Ok(payload))) = (data.next(), data.next())
                    && let Some(sink) = self.sinks.get(&channel)
                {
                    sink.message(&payload);
                }
            }
            PushKind::Disconnection => self.disconnected.notify_one(),
            _ => {}
        }
        Ok(())
    }
}
