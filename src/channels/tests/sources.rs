//! Other sources beside channels: logs with an epoch of their own, followed over the same connection.

use std::convert::Infallible;

use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::*;
use crate::streams::log::{Entry, Log, Read, Retention};
use crate::streams::position::Epoch;

/// A log of texts, as a generation would be.
struct Texts {
    epoch: Epoch,
    log: Log<Text>,
}

#[derive(Clone)]
struct Text(String);

impl Entry for Text {
    type End = Infallible;

    fn size(&self) -> usize {
        self.0.len()
    }
}

impl Texts {
    fn new(entries: usize) -> Arc<Self> {
        let retention = Retention { bytes: usize::MAX, entries };
        Arc::new(Self { epoch: Epoch::random(), log: Log::new(retention) })
    }

    fn append(&self, text: &str) {
        self.log.append(|_| [Text(text.to_owned())]).unwrap();
    }
}

impl Source for Texts {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn complete(&self) -> u64 {
        self.log.extent().tail
    }

    fn earliest(&self) -> u64 {
        self.log.extent().earliest
    }

    fn read(&self, after: u64, most: usize) -> SourceRead {
        match self.log.read(after, most) {
            Read::Entries { first, entries } => {
                let more = first + entries.len() as u64 <= self.complete();
                let events = entries.into_iter().zip(first..).map(|(text, seq)| Event {
                    audience: Audience::Channel,
                    seq,
                    origin: "text".into(),
                    published: Instant::now(),
                    frame: Publication::own("stream", &text.0).frame("0"),
                });
                SourceRead::Events { events: events.collect(), more }
            }
            Read::Gone { earliest } => SourceRead::Gone { earliest },
            Read::Tail | Read::Ahead => SourceRead::Tail,
            Read::End(never) => match never {},
        }
    }

    fn appended(&self, _: Worker) -> Notified<'_> {
        self.log.appended()
    }
}

fn follow(hub: &Arc<Hub>, sources: &[&Arc<Texts>], start: Start) -> Subscription {
    let sources = sources.iter().map(|source| Arc::clone(source) as Arc<dyn Source>).collect();
    Subscription::new(hub, SubscriptionRequest { sources, ..request(&["a"], start) }).unwrap()
}

#[test]
fn one_cursor_covers_channels_and_other_logs_at_every_cut() {
    let hub = hub(settings());
    let [one, two] = [Texts::new(100), Texts::new(100)];
    let mut subscription = follow(&hub, &[&one, &two], Start::Live { rewind: 0 });
    let start = subscription.cursor().to_string();
    for at in 0..5 {
        publish(&hub, "a", &format!("a{at}"));
        one.append(&format!("one{at}"));
        two.append(&format!("two{at}"));
    }
    let all = read(&mut subscription, 3);
    assert_eq!(all.len(), 15);
    let mut expected: Vec<_> = all.iter().map(|(_, text)| text.clone()).collect();
    expected.sort();
    for cut in 0..=all.len() {
        let last = if cut == 0 { &start } else { &all[cut - 1].0 };
        let cursor = last.parse().unwrap();
        let mut resumed = follow(&hub, &[&two, &one], Start::After { cursor, lenient: false });
        let mut found: Vec<_> = all[..cut].iter().map(|(_, text)| text.clone()).collect();
        found.extend(texts(&mut resumed));
        found.sort();
        assert_eq!(found, expected, "cut at {cut}");
    }
    let Next::Events(batch) = follow(&hub, &[&one], Start::Live { rewind: 0 }).next(usize::MAX)
    else {
        panic!("events of the log")
    };
    let text = String::from_utf8(batch.bytes().to_vec()).unwrap();
    let id = format!("event: stream\ndata: one0\nid: {}.{}\n\n", hub.tail(), one.epoch.at(1));
    assert!(text.starts_with(&id), "{text}");
}

#[test]
fn a_log_that_the_position_does_not_name_is_read_from_its_beginning() {
    let hub = hub(settings());
    let [known, new] = [Texts::new(100), Texts::new(100)];
    known.append("known");
    new.append("new");
    let mut subscription = follow(&hub, &[&known], Start::Live { rewind: 0 });
    assert_eq!(texts(&mut subscription), ["known"]);
    let start = Start::After { cursor: subscription.cursor(), lenient: false };
    assert_eq!(texts(&mut follow(&hub, &[&known, &new], start)), ["new"]);
}

#[test]
fn a_log_that_is_trimmed_resets_its_own_position_alone() {
    let hub = hub(settings());
    let log = Texts::new(2);
    let mut subscription = follow(&hub, &[&log], Start::Live { rewind: 0 });
    publish(&hub, "a", "a");
    for text in ["1", "2", "3"] {
        log.append(text);
    }
    assert_eq!(texts(&mut subscription), ["a", "reset", "2", "3"]);
    publish(&hub, "a", "b");
    assert_eq!(texts(&mut subscription), ["b"]);
}
