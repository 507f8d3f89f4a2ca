//! Positions of Mercure's subscribers: last ids in headers and parameters, what is gone, the ends of a connection.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    BACKEND, Event, Hub, PATH, Stream, form, hub, hub_with, only, published, subscribe, token,
};

const HEADERS: [&str; 2] = ["mercure-last-event-id", "last-event-id"];

/// The id that a response says the stream begins after.
fn begun(stream: &Stream) -> String {
    let [new, old] = HEADERS.map(|name| stream.headers[name].to_str().unwrap().to_owned());
    assert_eq!(new, old);
    new
}

/// Subscribes with the header.
async fn resumed(hub: &Hub, last: &str) -> Stream {
    let headers = [("authorization", "Bearer sg-backend"), ("last-event-id", last)];
    Stream::new(hub.send("GET", &format!("{PATH}?{}", form(&[("match", "a")])), &headers, "").await)
}

#[tokio::test]
async fn a_subscriber_cut_at_every_event_gets_every_event_once() {
    const EVENTS: usize = 20;
    let hub = hub();
    let mut streams = Vec::new();
    for _ in 0..EVENTS {
        streams.push((subscribe(&hub, BACKEND, &[("match", "a")]).await, Vec::new()));
    }
    for at in 0..EVENTS {
        published(&hub, &[("topic", "a"), ("data", &at.to_string())]).await;
        for (subscriber, (stream, events)) in streams.iter_mut().enumerate() {
            if subscriber == at {
                // Without an event there is the header of the response.
                let last = if stream.last.is_empty() { begun(stream) } else { stream.last.clone() };
                *stream = resumed(&hub, &last).await;
                assert_eq!(begun(stream), last);
            }
            events.push(stream.any().await.unwrap().data);
        }
    }
    let expected: Vec<String> = (0..EVENTS).map(|at| at.to_string()).collect();
    assert!(streams.iter().all(|(_, events)| *events == expected));
}

#[tokio::test]
async fn the_parameter_of_every_draft_is_a_position() {
    let hub = hub();
    let mut ids = Vec::new();
    for data in ["0", "1", "2"] {
        ids.push(published(&hub, &[("topic", "a"), ("data", data)]).await);
    }
    let bare = ids[1].trim_start_matches('#').to_owned();
    for (fields, begins, expected) in [
        (vec![], ids[2].as_str(), &[][..]),
        (vec![("last_event_id", ids[0].as_str())], &ids[0], &["1", "2"]),
        (vec![("lastEventID", &ids[1])], &ids[1], &["2"]),
        (vec![("Last-Event-ID", &bare)], &ids[1], &["2"]),
        (vec![("last_event_id", &ids[2])], &ids[2], &[]),
        (vec![("last_event_id", "earliest")], "earliest", &["0", "1", "2"]),
        // Ids that the hub does not know: everything that is kept, and the response says so.
        (vec![("last_event_id", "urn:uuid:1")], "earliest", &["0", "1", "2"]),
        (vec![("last_event_id", "#k3v9XbQ0aZ71_0000000001")], "earliest", &["0", "1", "2"]),
        (vec![("last_event_id", "")], "earliest", &["0", "1", "2"]),
    ] {
        let mut all = vec![("match", "a"), ("match", "end")];
        all.extend(fields.clone());
        let mut stream = subscribe(&hub, BACKEND, &all).await;
        assert_eq!(begun(&stream), begins, "{fields:?}");
        // The last one of the round before is in the history of `end`, and comes after them.
        let mut found = Vec::new();
        for _ in expected {
            found.push(stream.any().await.unwrap().data);
        }
        assert_eq!(found, expected, "{fields:?}");
    }
    let mut ahead = subscribe(
        &hub,
        BACKEND,
        &[("match", "a"), ("last_event_id", &ids[2].replace("0003", "9999"))],
    )
    .await;
    assert_eq!(begun(&ahead), "earliest");
    only(&hub, &mut ahead, "a", &["0", "1", "2"]).await;
}

#[tokio::test]
async fn a_position_that_is_gone_begins_with_what_is_kept() {
    let hub = hub_with("channels: { mercure: true, patterns: { a: { events: 2 } } }\n");
    let first = published(&hub, &[("topic", "a"), ("data", "0")]).await;
    for data in ["1", "2", "3"] {
        published(&hub, &[("topic", "a"), ("data", data)]).await;
    }
    let mut stream = resumed(&hub, &first).await;
    assert_eq!(begun(&stream), "earliest");
    only(&hub, &mut stream, "a", &["2", "3"]).await;
}

/// A subscriber that falls behind is not told by an event, which the protocol does not have: its connection ends, and
/// the next response says it.
#[tokio::test]
async fn a_subscriber_that_falls_behind_comes_back() {
    let hub = hub_with("channels: { mercure: true, patterns: { a: { events: 2 } } }\n");
    let mut stream = subscribe(&hub, BACKEND, &[("match", "a")]).await;
    published(&hub, &[("topic", "a"), ("data", "0")]).await;
    assert_eq!(stream.any().await.unwrap().data, "0");
    for data in ["1", "2", "3", "4"] {
        published(&hub, &[("topic", "a"), ("data", data)]).await;
    }
    assert_eq!(stream.any().await, None);
    let mut stream = resumed(&hub, &stream.last).await;
    assert_eq!(begun(&stream), "earliest");
    only(&hub, &mut stream, "a", &["3", "4"]).await;
}

#[tokio::test(start_paused = true)]
async fn silence_has_heartbeats_and_the_connection_ends_without_an_event() {
    let hub = hub_with("channels: { mercure: true, lifetime: 100s }\nstream: { heartbeat: 20s }\n");
    let started = Instant::now();
    let mut stream = subscribe(&hub, BACKEND, &[("match", "a")]).await;
    assert_eq!(stream.any().await, None);
    let heartbeats = stream.comments.iter().filter(|comment| *comment == "heartbeat").count();
    assert!((3..=5).contains(&heartbeats), "{:?}", stream.comments);
    assert!((80..=100).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 0);
    // The token's end is the connection's.
    let hub = hub_with("channels: { mercure: true, lifetime: none }\n");
    let started = Instant::now();
    let exp = crate::support::tokens::now() + 60;
    let mut stream = subscribe(&hub, &token(&json!({ "exp": exp })), &[("match", "a")]).await;
    assert_eq!(stream.any().await, None);
    assert!((60..=91).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_subscribers() {
    let hub = hub_with("channels: { mercure: true, lifetime: none }\nserver: { drain: 10s }\n");
    let mut stream = subscribe(&hub, BACKEND, &[("match", "a")]).await;
    published(&hub, &[("topic", "a"), ("data", "x")]).await;
    assert_eq!(stream.any().await.map(|event: Event| event.data).as_deref(), Some("x"));
    hub.shutdown.stopping.cancel();
    assert_eq!(stream.any().await, None);
    sleep(Duration::from_secs(1)).await;
    let headers = [("authorization", "Bearer sg-backend")];
    let response = hub.send("GET", &format!("{PATH}?match=a"), &headers, "").await;
    assert_eq!(response.status().as_u16(), 503);
}
