//! Resuming over HTTP: positions in headers and queries, what is gone, and cuts at every event.

use serde_json::{Value, json};

use super::{BACKEND, Hub, Stream};

async fn resumed(hub: &Hub, query: &str, last: &str) -> Stream {
    hub.subscribe(BACKEND, query, &[("last-event-id", last)]).await
}

/// Fifty subscribers, each cut after another event, while events are published.
#[tokio::test]
async fn fifty_subscribers_cut_at_every_event_get_every_event_once() {
    const EVENTS: usize = 50;
    let hub = Hub::new("");
    let queries =
        ["channel=a", "channel=a&channel=b", "channel=*", "channel=a&channel=b&channel=c*"];
    let mut kept = Vec::new();
    for subscriber in 0..EVENTS {
        let query = queries[subscriber % queries.len()];
        let mut stream = hub.subscribe(BACKEND, query, &[]).await;
        stream.control("caught_up").await;
        kept.push((query, stream, Vec::new()));
    }
    let channel = |at: usize| ["a", "b", "c1"][at % 3];
    for at in 0..EVENTS {
        hub.publish(channel(at), &at.to_string()).await;
        for (subscriber, (query, stream, events)) in kept.iter_mut().enumerate() {
            // This one is cut before it has read the event, and once more with nothing to read.
            if subscriber == at {
                let last = stream.last.clone();
                *stream = resumed(&hub, query, &last).await;
                *stream = resumed(&hub, query, &last).await;
            }
            let wanted = *query == "channel=*"
                || query.contains(&format!("channel={}", channel(at).trim_end_matches('1')));
            if wanted {
                events.extend(stream.data(1).await);
            }
        }
    }
    for (query, _, events) in kept {
        let prefix = |at: &usize| {
            query == "channel=*"
                || query.contains(&format!("channel={}", channel(*at).trim_end_matches('1')))
        };
        let expected: Vec<String> = (0..EVENTS).filter(prefix).map(|at| at.to_string()).collect();
        assert_eq!(events, expected, "{query}");
    }
    assert_eq!(hub.app.metrics.channel_resets.get(), 0);
}

/// The event's bytes are the same, whoever reads them and when.
#[tokio::test]
async fn a_replayed_event_is_byte_identical() {
    let hub = Hub::new("");
    let mut live = hub.subscribe(BACKEND, "channel=a", &[]).await;
    let start = live.control("caught_up").await.id;
    let body = r#"{"event":"tick","data":"a\nb","retry":900}"#;
    hub.post(BACKEND, "/v1/channels/a", body).await;
    let first = live.chunk().await.unwrap();
    let mut replayed = resumed(&hub, "channel=a", &start).await;
    assert_eq!(replayed.chunk().await.unwrap(), ": ok\n\n");
    let again = replayed.chunk().await.unwrap();
    let (retry, block) = again.split_once('\n').unwrap();
    assert!(retry.starts_with("retry: "), "{again}");
    assert_eq!(block, first);
    let through_pattern = &mut resumed(&hub, "channel=a*", &start).await;
    through_pattern.chunk().await.unwrap();
    assert!(through_pattern.chunk().await.unwrap().ends_with(&first));
}

#[tokio::test]
async fn what_is_ready_leaves_in_one_write() {
    let hub = Hub::new("");
    let start = hub.publish("a", "0").await;
    for at in 1..=20 {
        hub.publish(["a", "b"][at % 2], &at.to_string()).await;
    }
    let mut stream = resumed(&hub, "channel=a&channel=b", &start).await;
    assert_eq!(stream.chunk().await.unwrap(), ": ok\n\n");
    let chunk = stream.chunk().await.unwrap();
    assert_eq!(chunk.matches("\n\n").count(), 20, "{chunk}");
}

#[tokio::test]
async fn a_position_that_is_gone_is_an_error_or_a_reset() {
    let hub = Hub::new("channels: { patterns: { a: { events: 2 } } }\n");
    let start = hub.publish("a", "0").await;
    for at in 1..=4 {
        hub.publish("a", &at.to_string()).await;
    }
    let foreign = "aaaaaaaaaaaa_0000000001";
    for position in [start.as_str(), foreign] {
        let path = format!("/v1/events?channel=a&last-event-id={position}");
        let (status, answer) = hub.get(BACKEND, &path).await;
        assert_eq!(status, 410, "{answer}");
        assert_eq!(answer["error"]["code"], "position_gone");
        assert_eq!(answer["error"]["type"], "gone");
        let earliest = answer["earliest"].as_str().unwrap();
        assert!(answer["tail"].as_str().unwrap() > earliest);
        let mut rest = resumed(&hub, "channel=a", earliest).await;
        assert_eq!(rest.data(2).await, ["3", "4"]);
        let stream = resumed(&hub, "channel=a", position).await;
        assert_eq!(stream.status, 410, "in an event stream, too");
        let mut browser = resumed(&hub, "channel=a&es=1", position).await;
        assert_eq!(browser.status, 200);
        let reset = browser.event().await;
        assert_eq!((reset.event.as_str(), reset.id.as_str()), ("reset", earliest));
        assert_eq!(reset.data, format!(r#"{{"earliest":"{earliest}"}}"#));
        assert!(reset.retry.is_some());
        assert_eq!(browser.data(2).await, ["3", "4"]);
        browser.control("caught_up").await;
    }
    for (query, status) in [
        (format!("last-event-id={start}9"), 400),
        ("last-event-id=nonsense".to_owned(), 400),
        (format!("offset={start}."), 400),
    ] {
        let (found, answer) = hub.get(BACKEND, &format!("/v1/events?channel=a&{query}")).await;
        assert_eq!(found, status, "{answer}");
        let mut browser = hub
            .subscribe(
                BACKEND,
                &format!("channel=a&es=1&{}", query.replace("offset", "last-event-id")),
                &[],
            )
            .await;
        assert_eq!(browser.event().await.event, "reset", "{query}");
    }
}

#[tokio::test]
async fn rewinding_and_types_select_events() {
    let hub = Hub::new("channels: { patterns: { \"price.*\": { last_value: true } } }\n");
    for (channel, kind, data) in [
        ("a", "x", "1"),
        ("a", "y", "2"),
        ("a", "x", "3"),
        ("price.a", "x", "4"),
        ("price.a", "y", "5"),
    ] {
        let body = format!(r#"{{"event":"{kind}","data":{data}}}"#);
        assert_eq!(hub.post(BACKEND, &format!("/v1/channels/{channel}"), &body).await.0, 200);
    }
    for (query, expected) in [
        ("channel=a&rewind=2", &["2", "3"][..]),
        ("channel=a&rewind=3&types=x", &["1", "3"]),
        ("channel=a&channel=price.a", &["5"]),
        ("channel=*&rewind=1", &["3", "5"]),
        ("channel=a&offset=-1", &["1", "2", "3"]),
    ] {
        let mut stream = hub.subscribe(BACKEND, query, &[]).await;
        assert_eq!(stream.data(expected.len()).await, expected, "{query}");
        stream.control("caught_up").await;
    }
    let mut stream = hub.subscribe(BACKEND, "channel=a&types=y,message", &[]).await;
    for (kind, data) in [("x", "6"), ("y", "7"), ("", "8")] {
        hub.post(BACKEND, "/v1/channels/a", &format!(r#"{{"event":"{kind}","data":{data}}}"#))
            .await;
    }
    assert_eq!(stream.data(2).await, ["7", "8"]);
}

/// The subscriber of a pattern may need the channel's name, and nobody else pays for it.
#[tokio::test]
async fn an_envelope_names_the_channel_of_each_event() {
    let hub = Hub::new("");
    let mut plain = hub.subscribe(BACKEND, "channel=order.*", &[]).await;
    let mut named = hub.subscribe(BACKEND, "channel=order.*&format=events", &[]).await;
    named.control("caught_up").await;
    for (channel, body, data) in [
        ("order.1", r#"{"event":"tick","data":"a\nb"}"#, "a\nb"),
        ("order.2", r#"{"event":"tick","data":5}"#, "5"),
        ("order.\"", r#"{"event":"tick","data":{"x": [1]}}"#, r#"{"x": [1]}"#),
    ] {
        let path = format!("/v1/channels/{}", channel.replace('"', "%22"));
        let (_, answer) = hub.post(BACKEND, &path, body).await;
        let [event, other] = [named.event().await, plain.event().await];
        assert_eq!((event.event.as_str(), other.event.as_str()), ("channel", "tick"));
        let told: Value = serde_json::from_str(&event.data).unwrap();
        let expected = json!({"channel": channel, "event": "tick", "data": data});
        assert_eq!(told, expected);
        assert_eq!(
            (event.id.as_str(), event.id.as_str()),
            (other.id.as_str(), answer["id"].as_str().unwrap())
        );
    }
}

#[tokio::test]
async fn a_pattern_picks_up_channels_that_come_later() {
    let hub = Hub::new("");
    let mut stream = hub.subscribe(BACKEND, "channel=order.*", &[]).await;
    stream.control("caught_up").await;
    let mut expected = Vec::new();
    for at in 0..5 {
        hub.publish(&format!("order.{at}"), &at.to_string()).await;
        hub.publish(&format!("other.{at}"), "no").await;
        expected.push(at.to_string());
    }
    assert_eq!(stream.data(5).await, expected);
    let last = stream.last.clone();
    drop(stream);
    hub.publish("order.new", "later").await;
    assert_eq!(resumed(&hub, "channel=order.*", &last).await.data(1).await, ["later"]);
}

/// A subscriber that does not read costs its position; one that misses events is told.
#[tokio::test]
async fn a_slow_subscriber_delays_nobody_and_is_reset() {
    let hub = Hub::new("channels: { patterns: { a: { events: 10 } } }\n");
    let mut slow = hub.subscribe(BACKEND, "channel=a", &[]).await;
    slow.control("caught_up").await;
    let mut quick = hub.subscribe(BACKEND, "channel=a", &[]).await;
    for at in 0..100 {
        hub.publish("a", &at.to_string()).await;
        assert_eq!(quick.data(1).await, [at.to_string()]);
    }
    let reset = slow.event().await;
    assert_eq!(reset.event, "reset");
    let data: Value = serde_json::from_str(&reset.data).unwrap();
    assert_eq!(data["earliest"], reset.id.as_str());
    let expected: Vec<String> = (90..100).map(|at| at.to_string()).collect();
    assert_eq!(slow.data(10).await, expected);
    assert_eq!(hub.app.metrics.channel_resets.get(), 1);
}
