//! Resuming: cuts at every event, positions that are gone, ahead or of another hub.

use proptest::prelude::*;

use super::*;

/// Fifty subscribers are cut after each event, and before the first.
#[test]
fn fifty_subscribers_cut_at_every_event_get_each_once() {
    let hub = hub(settings());
    let selections: [&[&str]; 5] =
        [&["a"], &["a", "b"], &["*"], &["a", "b", "c*", "d"], &["a*", "b*", "*"]];
    let cursor = hub.tail().to_string();
    let mut all = Vec::new();
    for at in 0..30 {
        let channel = ["a", "b", "c1", "d"][at % 4];
        publish(&hub, channel, &format!("{channel} {at}"));
        all.push(format!("{channel} {at}"));
    }
    for subscriber in 0..50 {
        let channels = selections[subscriber % selections.len()];
        let wanted = |text: &&String| {
            let channel = text.split(' ').next().unwrap();
            let is = |asked: &&str| {
                *asked == channel
                    || asked.ends_with('*') && channel.starts_with(asked.trim_end_matches('*'))
            };
            channels.iter().any(is)
        };
        let expected: Vec<&String> = all.iter().filter(wanted).collect();
        for cut in 0..=expected.len() {
            let mut subscription = after(&hub, channels, &cursor, false).unwrap();
            // Different reads: of one event, of a few, of all.
            let most = [1, 700, usize::MAX][subscriber % 3];
            let mut found = read(&mut subscription, most);
            found.truncate(cut);
            let last = found.last().map_or_else(|| cursor.clone(), |(id, _)| id.clone());
            drop(subscription);
            let mut resumed = after(&hub, channels, &last, false).unwrap();
            found.extend(read(&mut resumed, most));
            let found: Vec<&String> = found.iter().map(|(_, text)| text).collect();
            assert_eq!(found, expected, "{channels:?} cut at {cut}");
        }
    }
}

#[test]
fn a_position_that_is_gone_is_never_a_silent_gap() {
    let hub = hub(ChannelSettings { events: 3, ..settings() });
    let start = hub.tail().to_string();
    for at in 1..=6 {
        publish(&hub, "a", &format!("a{at}"));
    }
    publish(&hub, "b", "b1");
    let epoch = hub.sequence.epoch;
    let [third, tail] = [3, 7].map(|seq| Cursor::new([epoch.at(seq)]));
    for channels in [&["a"][..], &["a", "b"], &["a*"], &["*"]] {
        for cursor in [&start, &epoch.at(2).to_string()] {
            let gone = after(&hub, channels, cursor, false).unwrap_err();
            let expected = SubscribeError::Gone { earliest: third.clone(), tail: tail.clone() };
            assert_eq!(gone, expected, "{channels:?}");
            let mut lenient = after(&hub, channels, cursor, true).unwrap();
            let found = read(&mut lenient, usize::MAX);
            assert_eq!(found[0], (third.to_string(), "reset".to_owned()));
            assert_eq!(found[1].1, "a4");
        }
        let mut at_edge = after(&hub, channels, &third.to_string(), false).unwrap();
        assert_eq!(texts(&mut at_edge)[..3], ["a4", "a5", "a6"]);
    }
    // Nothing of this channel is missing.
    assert_eq!(texts(&mut after(&hub, &["b"], &start, false).unwrap()), ["b1"]);
    assert_eq!(texts(&mut after(&hub, &["c"], &start, false).unwrap()), [""; 0]);
}

#[test]
fn a_slow_subscriber_costs_its_position_and_is_told_what_it_missed() {
    let hub = hub(ChannelSettings { events: 3, ..settings() });
    let [mut slow, mut quick] = [live(&hub, &["a"]), live(&hub, &["a", "b"])];
    for at in 1..=9 {
        publish(&hub, "a", &at.to_string());
        assert_eq!(texts(&mut quick), [at.to_string()]);
    }
    assert_eq!(texts(&mut slow), ["reset", "7", "8", "9"]);
    assert_eq!(hub.metrics.channel_resets.get(), 1);
    assert_eq!(slow.cursor(), quick.cursor());
}

#[test]
fn positions_ahead_and_of_another_hub_are_refused() {
    let hub = hub(settings());
    publish(&hub, "a", "1");
    let epoch = hub.sequence.epoch;
    let ahead = epoch.at(2).to_string();
    let tail = hub.tail();
    let refused = after(&hub, &["a"], &ahead, false).unwrap_err();
    assert_eq!(refused, SubscribeError::Ahead { tail: tail.clone() });
    let foreign = crate::streams::position::Epoch::random().at(1).to_string();
    let refused = after(&hub, &["a"], &foreign, false).unwrap_err();
    let earliest = Cursor::new([epoch.at(0)]);
    assert_eq!(refused, SubscribeError::Gone { earliest, tail });
    for cursor in [ahead, foreign] {
        let mut lenient = after(&hub, &["a"], &cursor, true).unwrap();
        assert_eq!(texts(&mut lenient), ["reset", "1"]);
    }
}

/// A channel that had to make room for others is as one that was trimmed, and others are not.
#[test]
fn a_forgotten_channel_is_gone_and_not_empty() {
    let hub = hub_with(Channels { max_channels: 2, ..Channels::default() });
    publish(&hub, "old", "1");
    let position = hub.tail().to_string();
    publish(&hub, "old", "2");
    publish(&hub, "new", "3");
    let mut followed = live(&hub, &["new"]);
    publish(&hub, "newer", "4");
    assert_eq!(hub.view(&name("old")).events, 0);
    assert_eq!(hub.view(&name("new")).events, 1);
    assert!(matches!(
        after(&hub, &["new", "old"], &position, false),
        Err(SubscribeError::Gone { .. })
    ));
    publish(&hub, "new", "5");
    assert_eq!(texts(&mut followed), ["5"]);
    // Both have subscribers.
    let [mut one, mut two] = [live(&hub, &["new"]), live(&hub, &["other"])];
    assert_eq!(hub.publish(&name("third"), vec![Publication::own("", "x")]), Err(HubError::Full));
    let full = Subscription::new(&hub, request(&["third"], Start::Live { rewind: 0 }));
    assert_eq!(full.err(), Some(SubscribeError::Hub(HubError::Full)));
    publish(&hub, "other", "6");
    assert_eq!((texts(&mut one), texts(&mut two)), (vec![], vec!["6".to_owned()]));
}

#[derive(Debug, Clone)]
enum Step {
    Publish { channel: usize, count: usize },
    Read { most: usize },
    Cut { back: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5usize, 1..5usize).prop_map(|(channel, count)| Step::Publish { channel, count }),
        (1..2_000usize).prop_map(|most| Step::Read { most }),
        (0..6usize).prop_map(|back| Step::Cut { back }),
    ]
}

proptest! {
    /// Publishing, reading and cutting in any order: a subscriber keeps the events that were published, each once.
    #[test]
    fn a_cursor_resumes_all_sources_exactly_once(
        steps in proptest::collection::vec(step(), 1..60),
        selection in proptest::sample::subsequence(vec!["a", "b", "c*", "*x", "d"], 1..=5),
        rewind in 0..3usize,
    ) {
        let hub = hub(settings());
        let names = ["a", "b", "c1", "cx", "dx"];
        let matches = |channel: &str| selection.iter().any(|asked| {
            asked.parse::<ChannelPattern>().unwrap().matches(channel)
        });
        let mut published = 0;
        let mut expected = Vec::new();
        let start = Start::Live { rewind };
        let mut subscription = Subscription::new(&hub, request(&selection, start)).unwrap();
        let mut kept = vec![(subscription.cursor().to_string(), String::new())];
        for step in steps.into_iter().chain([Step::Read { most: usize::MAX }]) {
            match step {
                Step::Publish { channel, count } => {
                    let texts: Vec<String> = (0..count).map(|at| (published + at).to_string()).collect();
                    published += count;
                    let events = texts.iter().map(|text| Publication::own("", text)).collect();
                    hub.publish(&name(names[channel]), events).unwrap();
                    if matches(names[channel]) {
                        expected.extend(texts);
                    }
                }
                Step::Read { most } if most < 1_000 => {
                    if let Next::Events(batch) = subscription.next(most) {
                        let epoch = subscription.epoch();
                        let events = batch.events.iter();
                        kept.extend(events.map(|it| (it.id(epoch), it.event.frame.data())));
                    }
                }
                Step::Read { most } => kept.extend(read(&mut subscription, most)),
                Step::Cut { back } => {
                    kept.truncate(kept.len().saturating_sub(back).max(1));
                    let last = &kept.last().unwrap().0;
                    subscription = after(&hub, &selection, last, false).unwrap();
                }
            }
        }
        let kept: Vec<String> = kept.into_iter().skip(1).map(|(_, text)| text).collect();
        prop_assert_eq!(kept, expected);
    }
}
