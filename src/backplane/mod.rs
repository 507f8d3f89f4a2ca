//! Backplane: streams that several nodes share through Redis. A node that produces a stream appends it there, under a
//! lease; others keep copies that they follow. It must never delay a stream on the node that produces it: without
//! Redis that node goes on alone, and appends the rest when Redis is back.

mod channels;
mod connection;
mod directory;
mod hints;
mod keys;
mod owner;
mod records;
mod replica;
mod rights;
mod subscriber;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use redis::{RedisError, Script};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Redis;
use crate::streams::generation::Generation;
use crate::streams::registry::Streams;
use crate::streams::stored::StoredResponses;
use crate::telemetry::Metrics;
use crate::wire::dialect::Clock;
use connection::Connection;
use keys::Keys;
use replica::Replica;
use subscriber::{Sink, Subscriber};

pub use channels::SharedChannels;
pub use hints::{HintReceiver, SharedHint, SharedHints};
pub use records::SharedRecords;

/// The characters of a node's name, which it draws when it starts.
const NODE: usize = 16;

/// The replicas that may wait for their followers to begin.
const PENDING: usize = 1024;

/// The streams that this node shares with others.
pub struct Backplane {
    connection: Connection,
    subscriber: Subscriber,
    keys: Keys,
    scripts: Scripts,
    /// The name of this process.
    node: String,
    /// The time after which a silent owner's streams are lost.
    lease: Duration,
    /// The time since which commands have been answered; `None`: they are not.
    answering: Mutex<Option<Instant>>,
    /// The generations that this node produces.
    owned: Arc<Owned>,
    streams: Arc<Streams>,
    replicas: mpsc::Sender<Arc<Replica>>,
    begun: Mutex<Option<mpsc::Receiver<Arc<Replica>>>>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// A failure of Redis, or of the way to it. It is logged where it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackplaneError;

impl std::fmt::Display for BackplaneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redis does not answer; the streams of other nodes cannot be reached now")
    }
}

impl std::error::Error for BackplaneError {}

struct Scripts {
    begin: Script,
    append: Script,
    read: Script,
    lose: Script,
    cancel: Script,
    delete: Script,
    publish: Script,
    alive: Script,
    hint: Script,
    hints: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            begin: Script::new(include_str!("lua/begin.lua")),
            append: Script::new(include_str!("lua/append.lua")),
            read: Script::new(include_str!("lua/read.lua")),
            lose: Script::new(include_str!("lua/lose.lua")),
            cancel: Script::new(include_str!("lua/cancel.lua")),
            delete: Script::new(include_str!("lua/delete.lua")),
            publish: Script::new(include_str!("lua/publish.lua")),
            alive: Script::new(include_str!("lua/alive.lua")),
            hint: Script::new(include_str!("lua/hint.lua")),
            hints: Script::new(include_str!("lua/hints.lua")),
        }
    }
}

/// The generations that this node produces. It receives what other nodes ask of them.
struct Owned {
    by_id: Mutex<HashMap<String, Weak<Generation>>>,
    streams: Arc<Streams>,
    stored: OnceLock<Arc<StoredResponses>>,
}

impl Owned {
    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Weak<Generation>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Owned {
    /// `C{id}`: a generation is to be cancelled; one that is missed is found with the next renewal of the lease. `D{id}`:
    /// it was deleted. `R{id} {share}`: a share of it was revoked. `F{owner}\n{id}`: a stored
    /// response was deleted.
    fn message(&self, payload: &[u8]) {
        let Some((kind, id)) = payload.split_first() else { return };
        let id = String::from_utf8_lossy(id);
        match kind {
            b'C' => {
                let found = self.by_id().get(&*id).and_then(Weak::upgrade);
                if let Some(generation) = found {
                    generation.cancel();
                }
            }
            b'D' => self.streams.remove(&id),
            b'F' => {
                if let (Some((owner, id)), Some(stored)) = (id.split_once('\n'), self.stored.get())
                {
                    stored.remove(&owner.into(), id);
                }
            }
            b'R' => {
                if let Some((stream, share)) = id.split_once(' ')
                    && let Some(stream) = self.streams.any(stream)
                {
                    stream.shares.revoke(share);
                }
            }
            _ => {}
        }
    }

    fn interrupted(&self) {}
}

impl Backplane {
    /// The backplane of a configuration. It connects when it is first used.
    pub fn new(
        config: &Redis,
        streams: &Arc<Streams>,
        (metrics, clock): (&Arc<Metrics>, Clock),
    ) -> Result<Self, RedisError> {
        let (replicas, begun) = mpsc::channel(PENDING);
        Ok(Self {
            connection: Connection::new(config)?,
            subscriber: Subscriber::new(connection::clients(config)?, config.timeout),
            keys: Keys(config.prefix.clone()),
            scripts: Scripts::default(),
            node: Alphanumeric.sample_string(&mut rand::rng(), NODE),
            lease: config.lease,
            answering: Mutex::new(Some(Instant::now())),
            owned: Arc::new(Owned {
                by_id: Mutex::default(),
                streams: Arc::clone(streams),
                stored: OnceLock::new(),
            }),
            streams: Arc::clone(streams),
            replicas,
            begun: Mutex::new(Some(begun)),
            metrics: Arc::clone(metrics),
            clock,
        })
    }

    /// Has deletions on other nodes take effect on these responses. Only the first ones count.
    pub fn forget_in(&self, stored: &Arc<StoredResponses>) {
        self.owned.stored.get_or_init(|| Arc::clone(stored));
    }

    /// Asks all nodes to forget a stored response. One that is missed is forgotten when it expires.
    pub async fn forget_response(&self, owner: &str, id: &str) {
        let message = format!("F{owner}\n{id}");
        let publish = redis::cmd("PUBLISH").arg(self.keys.nodes()).arg(message).take();
        let _missed = self.command(&publish).await;
    }

    /// Keeps the subscriptions and follows the streams of other nodes, for as long as it is polled. One does so for the
    /// process.
    pub async fn run(self: &Arc<Self>) -> Infallible {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut begun) = begun else { return std::future::pending().await };
        let owned: Arc<dyn Sink> = Arc::<Owned>::clone(&self.owned);
        let following = async {
            for channel in [self.keys.node(&self.node), self.keys.nodes()] {
                self.subscriber.subscribe(&channel, Arc::downgrade(&owned)).await;
            }
            // Owns the followers: they end with this future.
            let mut followers = JoinSet::new();
            loop {
                tokio::select! {
                    replica = begun.recv() => match replica {
                        Some(replica) => {
                            let backplane = Arc::clone(self);
                            followers.spawn(async move { backplane.follow(replica).await });
                        }
                        None => return std::future::pending().await,
                    },
                    _ended = followers.join_next(), if !followers.is_empty() => {}
                }
            }
        };
        tokio::select! {
            never = self.subscriber.run(|failed| match failed {
                None => self.answers(),
                Some(error) => self.fails(error),
            }) => never,
            never = following => never,
            never = self.share_secret() => never,
        }
    }

    /// Whether commands have been answered of late. Without, nobody waits for one.
    pub fn is_reachable(&self) -> bool {
        self.answering().is_some()
    }

    /// The time for which Redis has answered without a break.
    fn reachable_for(&self) -> Duration {
        self.answering().map(|since| since.elapsed()).unwrap_or_default()
    }

    fn answering(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that Redis answers.
    fn answers(&self) {
        self.metrics.redis_reachable.set(1);
        let mut answering = self.answering();
        if answering.is_none() {
            *answering = Some(Instant::now());
            tracing::info!("Redis answers again");
        }
    }

    /// Notes that Redis does not answer.
    fn fails(&self, error: &dyn std::fmt::Display) {
        self.metrics.redis_reachable.set(0);
        if self.answering().take().is_some() {
            tracing::warn!(%error, "Redis does not answer: this node goes on alone until it does");
        }
    }

    /// The answer of Redis, and a note of whether there was one.
    fn answered<T>(&self, answer: Result<T, RedisError>) -> Result<T, BackplaneError> {
        match answer {
            Ok(answer) => {
                self.answers();
                Ok(answer)
            }
            Err(error) => {
                self.metrics.redis_errors.inc();
                if error.code().is_some_and(|code| code != "LOADING") {
                    // An answer nevertheless: it is full, or a command is not permitted.
                    tracing::warn!(%error, "a command of Redis failed");
                    self.answers();
                } else {
                    self.fails(&error);
                }
                Err(BackplaneError)
            }
        }
    }
}

impl std::fmt::Debug for Backplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backplane").field("node", &self.node).finish_non_exhaustive()
    }
}
