//! Hints between nodes: short texts that Redis keeps for as long as each holds, and publishes to all nodes. Nothing may wait
//! for one to be sent, and a node must never receive its own.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::owner::millis;
use super::subscriber::Sink;
use super::{Backplane, BackplaneError};
use crate::telemetry::TargetHintLabels;

/// The hints that may wait for Redis.
const WAITING: usize = 256;

/// The hints of one read.
const PAGE: usize = 256;

/// The longest message. A longer one is not of this program.
const MAX_MESSAGE: usize = 4096;

/// The time between two attempts while Redis does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// A hint for other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedHint {
    /// Its key: a later hint with the same subject replaces it.
    pub subject: String,
    /// Its text, as other nodes receive it.
    pub text: String,
    /// The time until which it holds. `None`: until another one replaces it.
    pub until: Option<Instant>,
    /// The subjects of hints that it ends.
    pub ends: Vec<String>,
}

/// The receiver of other nodes' hints. Its methods run on the connection's task, and must never block.
pub trait HintReceiver: Send + Sync {
    /// The subjects of all hints that have a meaning here.
    fn subjects(&self) -> Vec<String>;
    /// Notified when there are other subjects, so that hints about them are read.
    fn changed(&self) -> &Notify;
    /// Receives a hint. `remaining`: the time for which it holds; `None`: it has no end. Both may be anything.
    fn receive(&self, text: &str, remaining: Option<Duration>);
}

/// The hints of all nodes.
pub struct SharedHints {
    backplane: Arc<Backplane>,
    sender: mpsc::Sender<SharedHint>,
    waiting: Mutex<Option<mpsc::Receiver<SharedHint>>>,
}

/// The subscriber to hints.
struct Feed {
    node: String,
    receiver: Arc<dyn HintReceiver>,
    interrupted: Notify,
}

impl SharedHints {
    /// The hints of a backplane.
    pub fn new(backplane: &Arc<Backplane>) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING);
        Self { backplane: Arc::clone(backplane), sender, waiting: Mutex::new(Some(waiting)) }
    }

    /// The queue of hints that are to be sent, in their order.
    pub fn sender(&self) -> mpsc::Sender<SharedHint> {
        self.sender.clone()
    }

    /// Sends the hints that wait and receives those of other nodes, for as long as it is polled. One does so for the process.
    pub async fn run(&self, receiver: Arc<dyn HintReceiver>) -> Infallible {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return std::future::pending().await };
        let node = self.backplane.node.clone();
        let feed =
            Arc::new(Feed { node, receiver: Arc::clone(&receiver), interrupted: Notify::new() });
        let sink: Arc<dyn Sink> = Arc::<Feed>::clone(&feed);
        let weak: Weak<dyn Sink> = Arc::downgrade(&sink);
        self.backplane.subscriber.subscribe(&self.backplane.keys.hints(), weak).await;
        loop {
            // Own hints first: what is read must not undo them.
            tokio::select! {
                biased;
                hint = waiting.recv() => match hint {
                    Some(hint) => self.send(&hint).await,
                    None => return std::future::pending().await,
                },
                () = receiver.changed().notified() => feed.interrupted.notify_one(),
                () = feed.interrupted.notified() => match self.read(&feed).await {
                    Ok(found) if waiting.is_empty() => {
                        for (message, left) in &found {
                            feed.take(message, Some(*left));
                        }
                    }
                    // A refusal of Redis stands until it is connected again.
                    Err(BackplaneError) if self.backplane.is_reachable() => {}
                    Ok(_) | Err(BackplaneError) => {
                        feed.interrupted.notify_one();
                        sleep(RETRY).await;
                    }
                },
            }
        }
    }

    /// Sends a hint, when Redis answers. One that Redis refuses, or that no longer holds, is dropped.
    async fn send(&self, hint: &SharedHint) {
        let (backplane, keys) = (&self.backplane, &self.backplane.keys);
        loop {
            let now = Instant::now();
            let time = hint.until.map(|until| until.saturating_duration_since(now));
            if time.is_some_and(|time| time.is_zero()) {
                break;
            }
            let time = time.map_or(0, millis);
            let mut invocation = backplane.scripts.hint.prepare_invoke();
            for subject in std::iter::once(&hint.subject).chain(&hint.ends) {
                invocation.key(keys.hint(subject));
            }
            let message = format!("{} {time}\n{}", backplane.node, hint.text);
            invocation.arg(message).arg(time).arg(keys.hints());
            let sent = backplane.connection.run::<redis::Value>(&invocation).await;
            match backplane.answered(sent) {
                Ok(_) => return self.count("sent"),
                Err(BackplaneError) if backplane.is_reachable() => break,
                Err(BackplaneError) => sleep(RETRY).await,
            }
        }
        self.count("dropped");
    }

    /// The hints that there are about subjects of this node, each with its remaining time in milliseconds.
    async fn read(&self, feed: &Feed) -> Result<Vec<(Vec<u8>, i64)>, BackplaneError> {
        let (backplane, mut found) = (&self.backplane, Vec::new());
        for subjects in feed.receiver.subjects().chunks(PAGE) {
            let mut invocation = backplane.scripts.hints.prepare_invoke();
            for subject in subjects {
                invocation.key(backplane.keys.hint(subject));
            }
            let page = backplane.connection.run::<Vec<(Vec<u8>, i64)>>(&invocation).await;
            found.extend(backplane.answered(page)?);
        }
        Ok(found)
    }

    fn count(&self, direction: &'static str) {
        self.backplane.metrics.target_hints.get_or_create(&TargetHintLabels { direction }).inc();
    }
}

impl Feed {
    /// Hands a message on. `left`: the remaining time in milliseconds, where the message is an old one; -1 without an end.
    fn take(&self, message: &[u8], left: Option<i64>) {
        let Some((node, time, text)) = parse(message) else { return };
        if node == self.node {
            return;
        }
        let remaining = match left {
            None => (time > 0).then_some(time),
            Some(left) => u64::try_from(left).ok(),
        };
        self.receiver.receive(text, remaining.map(Duration::from_millis));
    }
}

impl Sink for Feed {
    fn message(&self, payload: &[u8]) {
        self.take(payload, None);
    }

    fn interrupted(&self) {
        self.interrupted.notify_one();
    }
}

/// The node that has sent a hint, the time for which it holds in milliseconds, and its text: `{node} {time}\n{text}`.
fn parse(message: &[u8]) -> Option<(&str, u64, &str)> {
    let message = message.get(..MAX_MESSAGE).is_none().then_some(message)?;
    let (head, text) = std::str::from_utf8(message).ok()?.split_once('\n')?;
    let (node, time) = head.split_once(' ')?;
    Some((node, time.parse().ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Received(Mutex<Vec<(String, Option<Duration>)>>, Notify);

    impl HintReceiver for Received {
        fn subjects(&self) -> Vec<String> {
            Vec::new()
        }

        fn changed(&self) -> &Notify {
            &self.1
        }

        fn receive(&self, text: &str, remaining: Option<Duration>) {
            self.0.lock().unwrap().push((text.to_owned(), remaining));
        }
    }

    fn received(message: &[u8], left: Option<i64>) -> Option<(String, Option<Duration>)> {
        let received = Arc::<Received>::default();
        let receiver: Arc<dyn HintReceiver> = Arc::<Received>::clone(&received);
        let feed = Feed { node: "own".to_owned(), receiver, interrupted: Notify::new() };
        feed.take(message, left);
        let mut all = received.0.lock().unwrap();
        assert!(all.len() <= 1);
        all.pop()
    }

    #[test]
    fn a_message_has_a_node_a_time_and_a_text() {
        let millis = |millis| Some(Duration::from_millis(millis));
        let text = |remaining| Some(("drain a/b c\nd".to_owned(), remaining));
        assert_eq!(received(b"other 1500\ndrain a/b c\nd", None), text(millis(1500)));
        assert_eq!(received(b"other 0\ndrain a/b c\nd", None), text(None));
        assert_eq!(received(b"other 1500\ndrain a/b c\nd", Some(700)), text(millis(700)));
        assert_eq!(received(b"other 1500\ndrain a/b c\nd", Some(-1)), text(None));
        let most = format!("other {}\n", u64::MAX);
        assert_eq!(received(most.as_bytes(), None), Some((String::new(), millis(u64::MAX))));
    }

    #[test]
    fn own_messages_and_others_texts_are_ignored() {
        let long = format!("other 1\n{}", "x".repeat(MAX_MESSAGE));
        for message in [
            b"own 1500\ndrain a/b".as_slice(),
            b"",
            b"\n",
            b"other\ndrain a/b",
            b"other -1\ndrain a/b",
            b"other 1e3\ndrain a/b",
            b"other 99999999999999999999\ndrain a/b",
            b"other 1500 drain a/b",
            b"other 1500\n\xff",
            long.as_bytes(),
        ] {
            assert_eq!(received(message, None), None, "{message:?}");
            assert_eq!(received(message, Some(5)), None, "{message:?}");
        }
    }
}
