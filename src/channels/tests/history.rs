//! History: rewinding, last values, publishers' ids, and what is forgotten by count, bytes, age and memory.

use std::time::Duration;

use super::*;

fn rewound(hub: &Arc<Hub>, channels: &[&str], rewind: usize) -> Vec<String> {
    let start = Start::Live { rewind };
    texts(&mut Subscription::new(hub, request(channels, start)).unwrap())
}

#[test]
fn a_new_subscriber_gets_the_last_events_that_it_asks_for() {
    let hub = hub(settings());
    for (channel, text) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"), ("c", "c1")] {
        publish(&hub, channel, text);
    }
    assert_eq!(rewound(&hub, &["a", "b"], 0), [""; 0]);
    assert_eq!(rewound(&hub, &["a", "b"], 1), ["a2", "b2"]);
    assert_eq!(rewound(&hub, &["*", "a"], 1), ["a2", "b2", "c1"]);
    assert_eq!(rewound(&hub, &["a"], usize::MAX), ["a1", "a2"]);
    assert_eq!(rewound(&hub, &["none"], 5), [""; 0]);
}

/// The first events have positions of their own: a cut between them skips none.
#[test]
fn a_cut_within_the_first_events_skips_none() {
    let hub = hub(settings());
    for (channel, text) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")] {
        publish(&hub, channel, text);
    }
    let start = Start::Live { rewind: 1 };
    let mut subscription = Subscription::new(&hub, request(&["a", "b"], start)).unwrap();
    let cursor = subscription.cursor().to_string();
    assert_eq!(texts(&mut after(&hub, &["a", "b"], &cursor, false).unwrap()), ["a2", "b2"]);
    // One at a time.
    let Next::Events(first) = subscription.next(1) else { panic!("an event") };
    assert_eq!(first.events.len(), 1);
    let cursor = subscription.cursor().to_string();
    assert_eq!(cursor, first.events[0].id(subscription.epoch()));
    assert_eq!(texts(&mut after(&hub, &["a", "b"], &cursor, false).unwrap()), ["b2"]);
}

#[test]
fn the_last_value_is_delivered_where_it_is_configured() {
    let value = ChannelSettings { last_value: true, ..settings() };
    let patterns = vec![("price.*".parse().unwrap(), value)];
    let hub = hub_with(Channels { patterns, ..Channels::default() });
    for (channel, text) in [("price.a", "1"), ("price.a", "2"), ("price.b", "3"), ("news", "4")] {
        publish(&hub, channel, text);
    }
    assert_eq!(rewound(&hub, &["price.a", "news"], 0), ["2"]);
    assert_eq!(rewound(&hub, &["price.*"], 0), ["2", "3"]);
    assert_eq!(rewound(&hub, &["price.a"], 2), ["1", "2"]);
}

#[test]
fn an_event_with_the_id_of_an_earlier_one_is_not_published_again() {
    let hub = hub(ChannelSettings { events: 2, ..settings() });
    let event = |id: &str, data: &str| {
        let mut event = Publication::own("", data);
        event.id = Some(id.into());
        event
    };
    let mut subscription = live(&hub, &["a"]);
    let publish = |events: Vec<Publication>| {
        let positions = hub.publish(&name("a"), events).unwrap();
        positions.iter().map(|position| position.seq).collect::<Vec<_>>()
    };
    assert_eq!(publish(vec![event("x", "1"), event("y", "2"), event("x", "3")]), [1, 2, 1]);
    assert_eq!(publish(vec![event("y", "4")]), [2]);
    // Another channel has ids of its own.
    assert_eq!(hub.publish(&name("b"), vec![event("x", "5")]).unwrap()[0].seq, 3);
    assert_eq!(texts(&mut subscription), ["1", "2"]);
    // As far back as events are kept.
    assert_eq!(publish(vec![event("z", "6")]), [4]);
    assert_eq!(publish(vec![event("x", "7")]), [5]);
    assert_eq!(texts(&mut subscription), ["6", "7"]);
}

#[tokio::test(start_paused = true)]
async fn events_are_forgotten_by_age_and_an_idle_hub_only_waits() {
    let short = ChannelSettings { age: Duration::from_secs(10), ..settings() };
    let patterns = vec![("short*".parse().unwrap(), short)];
    let hub = hub_with(Channels { patterns, ..Channels::default() });
    let keeping = hub.keep_trimmed();
    let mut keeping = std::pin::pin!(keeping);
    let mut wait = async |seconds| {
        let sleep = tokio::time::sleep(Duration::from_secs(seconds));
        tokio::select! { never = &mut keeping => match never {}, () = sleep => {} }
    };
    wait(5).await;
    assert!(hub.directory().due.is_none(), "nothing to do");
    let start = hub.tail().to_string();
    publish(&hub, "long", "1");
    publish(&hub, "short", "2");
    let followed = live(&hub, &["short*"]);
    wait(9).await;
    assert_eq!(hub.view(&name("short")).events, 1);
    wait(2).await;
    assert_eq!((hub.view(&name("short")).events, hub.view(&name("long")).events), (0, 1));
    assert!(matches!(after(&hub, &["short"], &start, false), Err(SubscribeError::Gone { .. })));
    assert_eq!(texts(&mut after(&hub, &["long"], &start, false).unwrap()), ["1"]);
    drop(followed);
    wait(3_600).await;
    assert_eq!(hub.view(&name("long")).events, 0);
    assert_eq!(hub.directory().bytes, 0, "the feed of the pattern has gone, too");
    assert!(hub.directory().due.is_none(), "nothing to do");
}

#[test]
fn memory_is_bounded_and_the_oldest_events_go_first() {
    let hub = hub_with(Channels { memory: 1 << 20, ..Channels::default() });
    let mut slow = live(&hub, &["a", "b*"]);
    let text = "x".repeat(10_000);
    for at in 0..400 {
        publish(&hub, ["a", "b1", "b2", "c"][at % 4], &text);
        assert!(hub.directory().bytes <= 1 << 20);
    }
    assert!(hub.directory().bytes >= 1 << 19);
    let events: Vec<u64> = ["a", "b1", "b2", "c"].map(|it| hub.view(&name(it)).events).into();
    assert!(events.iter().all(|count| *count > 5), "{events:?}");
    let evicted = hub.metrics.channel_events_evicted.get();
    assert!(evicted > 200, "{evicted}");
    let found = texts(&mut slow);
    assert_eq!(found[0], "reset");
    assert!(found.len() > 10);
}

#[test]
fn other_settings_hold_for_channels_that_there_are() {
    let hub = hub(settings());
    for at in 0..10 {
        publish(&hub, "a", &at.to_string());
    }
    let patterns = vec![("a".parse().unwrap(), ChannelSettings { events: 2, ..settings() })];
    hub.configure(&Channels { patterns, ..Channels::default() });
    publish(&hub, "a", "10");
    assert_eq!(rewound(&hub, &["a"], 100), ["9", "10"]);
    assert_eq!(hub.view(&name("a")).events, 2);
}

#[test]
fn a_view_shows_the_extent_of_a_channel() {
    let hub = hub(ChannelSettings { events: 2, ..settings() });
    publish(&hub, "b", "0");
    let view = hub.view(&name("a"));
    assert_eq!((view.earliest.seq, view.tail.seq, view.events, view.bytes), (1, 1, 0, 0));
    let _subscriber = live(&hub, &["a"]);
    for at in 0..3 {
        publish(&hub, "a", &at.to_string());
    }
    let view = hub.view(&name("a"));
    assert_eq!((view.earliest.seq, view.tail.seq, view.events), (2, 4, 2));
    assert_eq!((view.subscribers, view.presence), (1, None));
    assert!(view.bytes > 0);
}
