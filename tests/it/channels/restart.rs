//! Restarts with an archive on disk: positions of channels hold, and their history is there, but for presence.

use serde_json::Value;

use super::{BACKEND, Hub, Stream, yaml};
use crate::streams::restart::Place;

const SETTINGS: &str =
    "channels: { patterns: { \"short.*\": { events: 3 }, room: { presence: true } } }\n";

fn started(place: &Place) -> Hub {
    let path = place.file();
    Hub::with(&yaml(&format!("streams: {{ path: \"{}\" }}\n{SETTINGS}", path.display())))
}

async fn stopped(hub: Hub) {
    hub.app.close().await;
}

async fn resumed(hub: &Hub, query: &str, last: &str) -> Stream {
    hub.subscribe(BACKEND, query, &[("last-event-id", last)]).await
}

async fn view(hub: &Hub, channel: &str) -> Value {
    hub.get(BACKEND, &format!("/v1/channels/{channel}")).await.1
}

#[tokio::test]
async fn a_subscriber_goes_on_after_a_restart_with_the_same_position() {
    let place = Place::new();
    let hub = started(&place);
    let mut ids = Vec::new();
    for at in 0..6 {
        ids.push(hub.publish(["a", "b"][at % 2], &format!("{at}\nline")).await);
    }
    hub.publish("broadcast", "to all").await;
    let before = view(&hub, "a").await;
    stopped(hub).await;
    let hub = started(&place);
    assert_eq!(view(&hub, "a").await, before);
    for (query, cut, expected) in [
        ("channel=a", 1, vec!["2\nline", "4\nline", "to all"]),
        ("channel=a&channel=b", 3, vec!["4\nline", "5\nline", "to all"]),
        ("channel=*", 0, vec!["1\nline", "2\nline", "3\nline", "4\nline", "5\nline", "to all"]),
    ] {
        let mut stream = resumed(&hub, query, &ids[cut]).await;
        assert_eq!(stream.status, 200, "{query}");
        assert_eq!(stream.data(expected.len()).await, expected, "{query}");
    }
    // A subscriber that has everything gets the next event, and no number is given twice.
    let mut tail = resumed(&hub, "channel=b", &ids[5]).await;
    let next = hub.publish("b", "next").await;
    assert!(next > ids[5], "{next} {}", ids[5]);
    assert_eq!(next.split('_').next(), ids[5].split('_').next());
    assert_eq!(tail.data(2).await, ["to all", "next"]);
    assert_eq!(hub.app.metrics.channel_resets.get(), 0);
}

#[tokio::test]
async fn history_is_trimmed_on_disk_as_in_memory() {
    let place = Place::new();
    let hub = started(&place);
    let mut ids = Vec::new();
    for at in 0..8 {
        ids.push(hub.publish("short.a", &at.to_string()).await);
    }
    let before = view(&hub, "short.a").await;
    assert_eq!(before["events"], 3);
    stopped(hub).await;
    let hub = started(&place);
    assert_eq!(view(&hub, "short.a").await, before);
    let mut stream = resumed(&hub, "channel=short.a", &ids[4]).await;
    assert_eq!(stream.data(3).await, ["5", "6", "7"]);
    let (status, gone) = {
        let path = format!("/v1/events?channel=short.a&last-event-id={}", ids[3]);
        hub.get(BACKEND, &path).await
    };
    assert_eq!((status, &gone["earliest"]), (410, &before["earliest"]));
}

/// A publisher that repeats its request after the restart publishes nothing twice.
#[tokio::test]
async fn a_publishers_id_is_known_after_a_restart() {
    let place = Place::new();
    let publish = async |hub: &Hub| {
        let body = r#"{"data": "once", "event": "tick", "id": "p-1"}"#;
        hub.post(BACKEND, "/v1/channels/a", body).await
    };
    let hub = started(&place);
    let first = publish(&hub).await;
    stopped(hub).await;
    let hub = started(&place);
    assert_eq!(publish(&hub).await, first);
    let mut stream = hub.subscribe(BACKEND, "channel=a&offset=-1&types=tick", &[]).await;
    let event = stream.any().await.unwrap();
    assert_eq!((&*event.event, &*event.data), ("tick", "once"));
    assert_eq!(event.id, first.1["id"].as_str().unwrap());
}

#[tokio::test]
async fn presence_is_not_kept() {
    let place = Place::new();
    let hub = started(&place);
    let mut inside = hub.subscribe(BACKEND, "channel=room", &[]).await;
    inside.control("caught_up").await;
    hub.publish("room", "said").await;
    stopped(hub).await;
    let hub = started(&place);
    let room = view(&hub, "room").await;
    assert_eq!((&room["events"], room["presence"].as_array().map(Vec::len)), (&1.into(), Some(0)));
    let mut stream = hub.subscribe(BACKEND, "channel=room&offset=-1&types=message", &[]).await;
    assert_eq!(stream.data(1).await, ["said"]);
}
