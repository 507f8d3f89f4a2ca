//! Shared channels: one log of the events of all channels in Redis, which every node applies to its hub. Events are
//! pushed; a gap in their numbers, or a lost connection, makes a node read what it has missed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::owner::millis;
use super::subscriber::Sink;
use super::{Backplane, BackplaneError};
use crate::channels::{Appending, Applied, CatchingUp, ChannelLog, ChannelLogError, Entry, Hub};

/// The most entries of the log. A node that starts reads all of it.
const MAX_ENTRIES: usize = 100_000;

/// The most entries of one read.
const PAGE: usize = 500;

/// The entries that may wait to be appended without their sender.
const OFFERED: usize = 4096;

/// The longest that an entry stays in the log. No channel keeps its events for longer where nodes share channels.
const MAX_AGE: Duration = Duration::from_hours(24);

/// The time between two repetitions of who is subscribed here.
const PRESENCE_INTERVAL: Duration = Duration::from_mins(10);

/// The shared log, of which the backplane is the transport.
pub struct SharedChannels {
    backplane: Arc<Backplane>,
    offers: mpsc::Sender<Entry>,
    offered: Mutex<Option<mpsc::Receiver<Entry>>>,
}

/// Entries as they are read: an id, and names and values of fields.
type Page = Vec<(String, Vec<Vec<u8>>)>;

/// The receiver of what is appended.
struct Feed {
    hub: Arc<Hub>,
    behind: Notify,
}

impl SharedChannels {
    /// The channels of a backplane.
    pub fn new(backplane: &Arc<Backplane>) -> Arc<Self> {
        let (offers, offered) = mpsc::channel(OFFERED);
        let (backplane, offered) = (Arc::clone(backplane), Mutex::new(Some(offered)));
        Arc::new(Self { backplane, offers, offered })
    }

    /// The name of this node.
    pub fn node(&self) -> &str {
        &self.backplane.node
    }

    /// Applies the log to the hub, for as long as it is polled. One does so for the process.
    pub async fn run(&self, hub: &Arc<Hub>) -> Infallible {
        let feed = Arc::new(Feed { hub: Arc::clone(hub), behind: Notify::new() });
        let sink: Arc<dyn Sink> = Arc::<Feed>::clone(&feed);
        let weak: Weak<dyn Sink> = Arc::downgrade(&sink);
        self.backplane.subscriber.subscribe(&self.backplane.keys.hub(), weak).await;
        tokio::select! {
            never = self.follow(&feed) => never,
            never = self.append_offers() => never,
            never = self.keep_presence(hub) => never,
        }
    }

    async fn follow(&self, feed: &Feed) -> Infallible {
        loop {
            feed.behind.notified().await;
            while self.read_on(&feed.hub).await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            // Offers of the time without Redis have been left out.
            feed.hub.renew_presence();
        }
    }

    /// Reads and applies what follows the hub's last entry.
    async fn read_on(&self, hub: &Hub) -> Result<(), BackplaneError> {
        let backplane = &self.backplane;
        loop {
            let after = hub.last();
            let from = format!("{}-0", after + 1);
            let read = redis::cmd("XRANGE")
                .arg(backplane.keys.hub_log())
                .arg(from)
                .arg("+")
                .arg("COUNT")
                .arg(PAGE)
                .take();
            let page = backplane.connection.query::<Page>(&read).await;
            let page = backplane.answered(page)?;
            for (_, fields) in &page {
                let Some(payload) = fields.get(1) else { continue };
                if self.apply(hub, payload) == Some(Applied::Gap) {
                    self.apply_after_gap(hub, payload);
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn apply(&self, hub: &Hub, payload: &[u8]) -> Option<Applied> {
        let (seq, previous, entry) = parse(payload)?;
        Some(hub.apply((seq, previous), entry, self.age(seq)))
    }

    /// Applies an entry whose predecessors can no longer be read: they were trimmed, or Redis has lost its data, and then
    /// the log names none.
    fn apply_after_gap(&self, hub: &Hub, payload: &[u8]) {
        let Some((seq, _, entry)) = parse(payload) else { return };
        hub.skip_to(seq - 1);
        hub.apply((seq, seq - 1), entry, self.age(seq));
    }

    /// The time since an entry was appended: its number is its time in microseconds.
    fn age(&self, seq: u64) -> Duration {
        let now = self.backplane.clock.unix();
        Duration::from_secs(now.saturating_sub(seq / 1_000_000))
    }

    async fn append_offers(&self) -> Infallible {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut offered) = offered else { return std::future::pending().await };
        let mut entries = Vec::new();
        while offered.recv_many(&mut entries, PAGE).await > 0 {
            let _left_out = self.append(std::mem::take(&mut entries)).await;
        }
        std::future::pending().await
    }

    /// Renews this node's entry in the list of nodes, and removes the users of nodes that are gone.
    async fn keep_presence(&self, hub: &Hub) -> Infallible {
        let lease = self.backplane.lease;
        let mut renewal = interval(lease / 3);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut repetition = interval(PRESENCE_INTERVAL);
        loop {
            tokio::select! {
                _ = renewal.tick() => {
                    if let Ok(alive) = self.alive().await
                        && self.backplane.reachable_for() >= lease
                    {
                        hub.remove_presence(|node| !alive.iter().any(|other| other == node));
                    }
                }
                _ = repetition.tick() => hub.renew_presence(),
            }
        }
    }

    /// The nodes that are alive, this one among them.
    async fn alive(&self) -> Result<Vec<String>, BackplaneError> {
        let backplane = &self.backplane;
        let mut invocation = backplane.scripts.alive.prepare_invoke();
        invocation.key(backplane.keys.alive()).arg(&backplane.node).arg(millis(backplane.lease));
        backplane.answered(backplane.connection.run(&invocation).await)
    }
}

impl ChannelLog for SharedChannels {
    fn append(&self, entries: Vec<Entry>) -> Appending<'_> {
        Box::pin(async move {
            let backplane = &self.backplane;
            let log = backplane.keys.hub_log();
            let mut invocation = backplane.scripts.publish.prepare_invoke();
            invocation.key(&log).key(backplane.keys.hub_last());
            for entry in &entries {
                let id = entry.key().map(|(channel, id)| backplane.keys.hub_id(channel, id));
                invocation.key(id.as_ref().unwrap_or(&log));
            }
            invocation.arg(backplane.keys.hub()).arg(MAX_ENTRIES);
            invocation.arg(u64::try_from(MAX_AGE.as_micros()).unwrap_or(u64::MAX));
            invocation.arg(millis(MAX_AGE));
            for entry in &entries {
                invocation.arg(&entry.encode()[..]);
            }
            let numbers = backplane.connection.run::<Vec<u64>>(&invocation).await;
            backplane.answered(numbers).map_err(|BackplaneError| ChannelLogError)
        })
    }

    fn catch_up<'a>(&'a self, hub: &'a Hub) -> CatchingUp<'a> {
        Box::pin(async { self.read_on(hub).await.is_ok() })
    }

    fn offer(&self, entry: Entry) {
        if self.offers.try_send(entry).is_err() {
            tracing::debug!("an entry of the shared log of channels was left out");
        }
    }
}

impl Feed {
    fn take(&self, payload: &[u8]) -> Option<Applied> {
        let (seq, previous, entry) = parse(payload)?;
        Some(self.hub.apply((seq, previous), entry, Duration::ZERO))
    }
}

impl Sink for Feed {
    fn message(&self, payload: &[u8]) {
        if self.take(payload) == Some(Applied::Gap) {
            self.behind.notify_one();
        }
    }

    fn interrupted(&self) {
        self.behind.notify_one();
    }
}

/// The number of an entry, that of the one before it, and the entry: `{number} {previous}\n{entry}`.
fn parse(payload: &[u8]) -> Option<(u64, u64, Entry)> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let (head, entry) = payload.split_at_checked(end)?;
    let (seq, previous) = std::str::from_utf8(head).ok()?.split_once(' ')?;
    let entry = Entry::decode(Bytes::copy_from_slice(entry.get(1..)?))?;
    Some((seq.parse().ok()?, previous.parse().ok()?, entry))
}
