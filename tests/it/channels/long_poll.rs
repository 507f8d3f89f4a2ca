//! Long-poll, and reading once: JSON documents for clients without event streams.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{BACKEND, Hub, READER, document};

async fn poll(hub: &Hub, query: &str) -> (u16, serde_json::Value, String) {
    let key = format!("Bearer {BACKEND}");
    let path = format!("/v1/events?live=long-poll&{query}");
    let response = hub.send("GET", &path, &[("authorization", &key)], "").await;
    let offset = response.headers().get("stream-next-offset");
    let offset = offset.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let (status, answer) = document(response).await;
    (status, answer, offset)
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_the_first_event() {
    let hub = Hub::new("");
    let started = Instant::now();
    let (status, _, offset) = poll(&hub, "channel=a&timeout=30").await;
    assert_eq!((status, started.elapsed()), (204, Duration::from_secs(30)));
    let query = format!("channel=a&channel=b*&offset={offset}");
    let publish = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        hub.publish("b1", "x\ny").await
    };
    let ((status, answer, offset), id) = tokio::join!(poll(&hub, &query), publish);
    assert_eq!((status, started.elapsed()), (200, Duration::from_secs(35)));
    let event = json!({ "id": id, "channel": "b1", "event": null, "data": "x\ny" });
    assert_eq!(answer, json!({ "events": [event], "next_offset": offset, "up_to_date": true }));
    // The default.
    let (status, ..) = poll(&hub, &format!("channel=a&offset={offset}")).await;
    assert_eq!((status, started.elapsed()), (204, Duration::from_mins(1)));
}

/// Between two requests nothing is lost, however many there are and however little fits.
#[tokio::test(start_paused = true)]
async fn polls_one_after_the_other_get_every_event_once() {
    let hub = Hub::new("channels: { patterns: { \"*\": { bytes: 64MiB } } }\n");
    let (_, _, mut offset) = poll(&hub, "channel=a&channel=b&timeout=1").await;
    let text = "x".repeat(100_000);
    let mut published = 0;
    let mut found = Vec::new();
    for _ in 0..3 {
        for _ in 0..15 {
            hub.publish(["a", "b"][published % 2], &format!("{published} {text}")).await;
            published += 1;
        }
        loop {
            let query = format!("channel=a&channel=b&timeout=1&offset={offset}");
            let (status, answer, next) = poll(&hub, &query).await;
            offset = next;
            if status == 204 {
                break;
            }
            let events = answer["events"].as_array().unwrap();
            assert!(events.len() < 15, "a response has a bound");
            found.extend(events.iter().map(|event| {
                let data = event["data"].as_str().unwrap();
                data.split(' ').next().unwrap().parse::<usize>().unwrap()
            }));
        }
    }
    assert_eq!(found, (0..published).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_request_for_neither_gets_what_there_is() {
    let hub = Hub::new("");
    let (status, empty) = hub.get(READER, "/v1/events?channel=news.a").await;
    assert_eq!((status, &empty["events"]), (200, &json!([])));
    hub.publish("news.a", "x").await;
    let path =
        format!("/v1/events?channel=news.a&offset={}", empty["next_offset"].as_str().unwrap());
    let (_, answer) = hub.get(READER, &path).await;
    assert_eq!(answer["events"][0]["data"], "x");
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_when_the_process_stops() {
    let hub = Hub::new("");
    let started = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        hub.shutdown.stopping.cancel();
    };
    let ((status, ..), ()) = tokio::join!(poll(&hub, "channel=a"), stop);
    assert_eq!((status, started.elapsed()), (204, Duration::from_secs(1)));
    let (status, answer, _) = poll(&hub, "channel=a").await;
    assert_eq!(status, 503, "{answer}");
}
