//! Tests of the engine: publishers and subscribers of one hub, without HTTP. Positions are cut at every event.

mod history;
mod presence;
mod resume;
mod sources;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::*;
use crate::config::{ChannelSettings, Channels};
use crate::telemetry::Metrics;

/// A hub whose channels have these settings.
fn hub(settings: ChannelSettings) -> Arc<Hub> {
    let patterns = vec![("*".parse().unwrap(), settings)];
    hub_with(Channels { patterns, ..Channels::default() })
}

fn hub_with(channels: Channels) -> Arc<Hub> {
    let connections_per_user = NonZeroU32::new(100_000);
    let channels = Channels { connections_per_user, ..channels };
    Arc::new(Hub::new(&channels, &Arc::<Metrics>::default()))
}

fn settings() -> ChannelSettings {
    ChannelSettings::default()
}

fn name(text: &str) -> ChannelName {
    text.parse().unwrap()
}

/// Publishes a text, and returns its number.
fn publish(hub: &Hub, channel: &str, text: &str) -> u64 {
    let event = Publication::own("", text);
    hub.publish(&name(channel), vec![event]).unwrap()[0].seq
}

fn request(channels: &[&str], start: Start) -> SubscriptionRequest {
    SubscriptionRequest {
        user: "alice".into(),
        channels: channels.iter().map(|text| text.parse().unwrap()).collect(),
        sources: Vec::new(),
        types: BTreeSet::new(),
        start,
        rights: None,
    }
}

fn live(hub: &Arc<Hub>, channels: &[&str]) -> Subscription {
    Subscription::new(hub, request(channels, Start::Live { rewind: 0 })).unwrap()
}

fn after(
    hub: &Arc<Hub>,
    channels: &[&str],
    cursor: &str,
    lenient: bool,
) -> Result<Subscription, SubscribeError> {
    let cursor = cursor.parse().unwrap();
    Subscription::new(hub, request(channels, Start::After { cursor, lenient }))
}

/// Everything that there is for a subscriber: ids and texts, or `reset` and the position.
fn read(subscription: &mut Subscription, most: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    loop {
        match subscription.next(most) {
            Next::Tail => return found,
            Next::Reset(cursor) => found.push((cursor.to_string(), "reset".to_owned())),
            Next::Events(batch) => {
                let epoch = subscription.epoch();
                let events = batch.events.iter();
                found.extend(events.map(|it| (it.id(epoch), it.event.frame.data())));
            }
        }
    }
}

fn texts(subscription: &mut Subscription) -> Vec<String> {
    read(subscription, usize::MAX).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn subscribers_get_the_events_of_their_channels_in_order() {
    let hub = hub(settings());
    publish(&hub, "a", "before");
    let mut one = live(&hub, &["a"]);
    let mut several = live(&hub, &["a", "b", "c*"]);
    let mut all = live(&hub, &["*", "a"]);
    for (channel, text) in [("a", "1"), ("b", "2"), ("c1", "3"), ("d", "4"), ("a", "5")] {
        publish(&hub, channel, text);
    }
    assert_eq!(texts(&mut one), ["1", "5"]);
    assert_eq!(texts(&mut several), ["1", "2", "3", "5"]);
    // Each once, although two sources have those of `a`.
    assert_eq!(texts(&mut all), ["1", "2", "3", "4", "5"]);
    assert_eq!(texts(&mut all), [""; 0]);
}

#[test]
fn the_position_is_the_same_for_all_and_in_the_frame() {
    let hub = hub(settings());
    let [mut one, mut several] = [live(&hub, &["a"]), live(&hub, &["a", "b"])];
    publish(&hub, "a", "x");
    for subscription in [&mut one, &mut several] {
        let Next::Events(batch) = subscription.next(usize::MAX) else { panic!("an event") };
        let text = String::from_utf8(batch.bytes().to_vec()).unwrap();
        assert_eq!(text, format!("data: x\nid: {}\n\n", hub.tail()));
    }
    assert_eq!(one.cursor(), several.cursor());
}

#[test]
fn only_wanted_types_are_delivered_and_the_position_goes_on() {
    let hub = hub(settings());
    let types = ["tick", "message"].map(str::to_owned).into();
    let wanted = SubscriptionRequest { types, ..request(&["a"], Start::Live { rewind: 0 }) };
    let mut subscription = Subscription::new(&hub, wanted).unwrap();
    let event = |kind: &str| Publication::own(kind, kind);
    hub.publish(&name("a"), ["tick", "tock", "", "tock"].map(event).into()).unwrap();
    assert_eq!(texts(&mut subscription), ["tick", ""]);
    assert_eq!(subscription.cursor(), hub.tail());
}

#[test]
fn broadcasts_reach_every_subscriber_and_are_counted_once() {
    let hub = hub(settings());
    let mut one = live(&hub, &["a"]);
    let mut pattern = live(&hub, &["b*"]);
    let mut only = live(&hub, &["broadcast"]);
    publish(&hub, "a", "1");
    publish(&hub, "broadcast", "2");
    publish(&hub, "b1", "3");
    assert_eq!(texts(&mut one), ["1", "2"]);
    assert_eq!(texts(&mut pattern), ["2", "3"]);
    assert_eq!(texts(&mut only), ["2"]);
    assert_eq!(hub.view(&name("broadcast")).events, 1);
}

#[tokio::test]
async fn a_subscriber_is_woken_by_each_of_its_channels_and_by_broadcasts() {
    let hub = hub(settings());
    for (channels, publisher) in [
        (&["a"][..], "a"),
        (&["a"], "broadcast"),
        (&["broadcast"], "broadcast"),
        (&["a", "b", "c*"], "b"),
        (&["a", "b", "c*"], "c-new"),
        (&["a", "c*"], "broadcast"),
    ] {
        let mut subscription = live(&hub, channels);
        let sources = subscription.awaited();
        let mut wakeup = Wakeup::new(&sources, subscription.worker());
        for text in ["between the look and the wait", "again"] {
            assert!(matches!(subscription.next(usize::MAX), Next::Tail));
            publish(&hub, publisher, text);
            wakeup.woken().await;
            assert_eq!(texts(&mut subscription), [text], "{channels:?} {publisher}");
        }
    }
}

/// A reader over many channels may look while an event is in one of them and not yet in another.
#[test]
fn publishers_on_other_threads_lose_nothing_and_keep_their_order() {
    let hub = hub(ChannelSettings { events: 100_000, ..settings() });
    let (threads, each) = (4, 2_000);
    let mut readers = [live(&hub, &["a", "b", "c", "d"]), live(&hub, &["*"]), live(&hub, &["a"])];
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let hub = &hub;
            scope.spawn(move || {
                for at in 0..each {
                    let channel = ["a", "b", "c", "d"][(thread + at) % 4];
                    publish(hub, channel, &format!("{thread} {at}"));
                }
            });
        }
        for (reader, expected) in readers.iter_mut().zip([threads * each, threads * each, each]) {
            let mut found = Vec::new();
            while found.len() < expected {
                found.extend(read(reader, 1_000));
            }
            assert!(found.is_sorted(), "in the order of their positions");
            let ids: BTreeSet<_> = found.iter().map(|(id, _)| id).collect();
            assert_eq!(ids.len(), expected, "each once");
            for thread in 0..threads {
                let own = found.iter().filter_map(|(_, text)| {
                    let (of, at) = text.split_once(' ')?;
                    (of == thread.to_string()).then(|| at.parse::<usize>().unwrap())
                });
                assert!(own.is_sorted(), "in the order of each publisher");
            }
        }
    });
}

/// Publishers on any thread wake subscribers on any worker, of which some read nothing at all.
#[test]
fn subscribers_of_other_workers_are_woken_by_their_relay() {
    const EVENTS: usize = 200;
    let hub = hub(settings());
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (hub, ready) = (&hub, ready.clone());
            let follow = async move || {
                let [mut one, mut pattern] = [live(hub, &["a"]), live(hub, &["a*", "b"])];
                // Waits, and is never polled again.
                let stuck = live(hub, &["a"]);
                let sources = stuck.awaited();
                let mut wakeup = Wakeup::new(&sources, stuck.worker());
                tokio::select! {
                    biased;
                    () = wakeup.woken() => panic!("nothing was published"),
                    () = std::future::ready(()) => {}
                }
                ready.send(()).unwrap();
                for subscription in [&mut one, &mut pattern] {
                    let sources = subscription.awaited();
                    let mut wakeup = Wakeup::new(&sources, subscription.worker());
                    let mut count = 0;
                    while count < EVENTS {
                        match texts(subscription).len() {
                            0 => wakeup.woken().await,
                            found => count += found,
                        }
                    }
                }
            };
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        never = hub.relay(worker) => match never {},
                        () = follow() => {}
                    }
                });
            });
        }
        for _ in 0..2 {
            is_ready.recv().unwrap();
        }
        for at in 0..EVENTS {
            publish(&hub, "a", &at.to_string());
        }
    });
}

#[test]
fn no_subscription_begins_while_the_process_stops() {
    let hub = hub(settings());
    hub.drain(std::time::Duration::from_secs(1));
    let begun = Subscription::new(&hub, request(&["a"], Start::Live { rewind: 0 }));
    assert_eq!(begun.err(), Some(SubscribeError::Draining));
}
