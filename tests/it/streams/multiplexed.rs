//! Generations beside channels on one connection, and what a user's own channel announces.

use serde_json::{Value, json as value};

use super::{Received, expected, gated, json, read_events, stream_id, text};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::upstream::Upstream;

async fn gateway(upstream: &Upstream) -> Gateway {
    let yaml = yaml(&upstream.url, "http://127.0.0.1:9", "");
    let rights = "channels: { subscribe: [\"news\"], publish: [\"news\"] }";
    Gateway::new(&yaml.replacen("{ name: test, ", &format!("{{ name: test, {rights}, "), 1)).await
}

/// The events of a stream within a multiplexed connection, as a viewer of the stream alone gets them.
fn of_stream(events: &[Received], id: &str) -> Vec<Received> {
    let one = |event: &Received| {
        let data: Value = serde_json::from_str(&event.data).ok()?;
        (event.event.as_deref() == Some("stream") && data["stream"] == id).then(|| Received {
            id: String::new(),
            event: data["event"].as_str().map(str::to_owned),
            data: data["data"].as_str().unwrap().to_owned(),
        })
    };
    events.iter().filter_map(one).collect()
}

/// One connection follows a channel and a generation, is cut after every event, and resumes both by its one position.
#[tokio::test]
async fn one_position_resumes_a_channel_and_a_stream() {
    let (upstream, gate) = gated(3, 3).await;
    let gateway = gateway(&upstream).await;
    let viewer = gateway.durable().send().await.unwrap();
    let id = stream_id(&viewer);
    let publish = |text: &str| {
        let body = value!({"event": "note", "data": text}).to_string();
        gateway.post("/v1/channels/news", &body).send()
    };
    assert_eq!(publish("before").await.unwrap().status(), 200);
    gate.notify_one();
    viewer.text().await.unwrap();
    let path = format!("/v1/events?channel=news&stream={id}&rewind=10&live=sse");
    let mut all: Vec<Received> = Vec::new();
    // Each connection takes one event more than nothing; `caught_up` comes on each of them.
    for number in 0..100 {
        if number == 3 {
            assert_eq!(publish("between").await.unwrap().status(), 200);
        }
        let mut request = gateway.get(&path);
        if let Some(last) = all.last() {
            request = request.header("last-event-id", &last.id);
        }
        let next = read_events(request.send().await.unwrap(), 1).await;
        let caught_up = next[0].event.as_deref() == Some("control");
        if caught_up && number > 3 {
            break;
        }
        all.extend(next);
    }
    let own = of_stream(&all, &id);
    assert_eq!(text(&own), expected(6));
    assert_eq!(own.last().unwrap().data, "[DONE]");
    let notes: Vec<_> = all
        .iter()
        .filter(|event| event.event.as_deref() == Some("note"))
        .map(|event| event.data.as_str())
        .collect();
    assert_eq!(notes, ["before", "between"]);
    let unknown = gateway.get("/v1/events?stream=AAAAAAAAAAAAAAAAAAAAAAAA").send().await.unwrap();
    assert_eq!(unknown.status(), 404);
}

/// A second tab learns of a generation by the user's own channel.
#[tokio::test]
async fn a_users_channel_announces_the_users_streams() {
    let (upstream, gate) = gated(1, 1).await;
    let gateway = gateway(&upstream).await;
    let second = gateway.get("/v1/events?user=1&live=sse").send().await.unwrap();
    let viewer = gateway.durable().header("streamgate-chat", "c").send().await.unwrap();
    let id = stream_id(&viewer);
    gate.notify_one();
    viewer.text().await.unwrap();
    let seen = read_events(second, 3).await;
    let told: Vec<_> = seen
        .iter()
        .filter(|event| event.event.as_deref() != Some("control"))
        .map(|event| {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!((&data["stream"], &data["chat"]), (&value!(id), &value!("c")));
            (event.event.clone().unwrap(), data["state"].as_str().unwrap().to_owned())
        })
        .collect();
    let pair = |event: &str, state: &str| (event.to_owned(), state.to_owned());
    assert_eq!(told, [pair("stream.started", "streaming"), pair("stream.ended", "complete")]);
}

/// A browser's `EventSource` follows channels with a ticket, and no other ones.
#[tokio::test]
async fn a_ticket_is_good_for_its_channels() {
    let (upstream, _gate) = gated(1, 1).await;
    let gateway = gateway(&upstream).await;
    let made = gateway.post("/v1/tickets", r#"{"channels":["news"]}"#).send().await.unwrap();
    let made = json(made).await;
    let ticket = made["ticket"].as_str().unwrap();
    let open = |query: &str| {
        gateway.client.get(format!("{}/v1/events?{query}&ticket={ticket}", gateway.url)).send()
    };
    assert_eq!(open("channel=news").await.unwrap().status(), 200);
    assert_eq!(open("user=1").await.unwrap().status(), 403);
    assert_eq!(open("channel=other").await.unwrap().status(), 403);
    let guessed = format!("{}/v1/events?channel=news&ticket=guessed", gateway.url);
    assert_eq!(gateway.client.get(&guessed).send().await.unwrap().status(), 401);
    let browser = gateway.client.get(format!("{guessed}&es=1")).send().await.unwrap();
    assert_eq!(browser.status(), 200);
    let body = browser.text().await.unwrap();
    assert!(body.contains("event: refused\n") && body.contains("401"), "{body}");
    let key = gateway.client.get(format!("{}/v1/events?channel=news", gateway.url));
    assert_eq!(key.header("x-api-key", KEY).send().await.unwrap().status(), 200);
}
