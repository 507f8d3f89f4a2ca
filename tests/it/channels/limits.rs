//! Limits: subscribers of one user and of all, channels of one request.

use serde_json::Value;

use super::{BACKEND, Hub, READER, yaml};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;

#[tokio::test]
async fn subscribers_are_limited_for_each_user_and_in_all() {
    let hub = Hub::new("channels: { connections: 3, connections_per_user: 2 }\n");
    let own = [
        hub.subscribe(READER, "channel=room", &[]).await,
        hub.subscribe(READER, "channel=room", &[]).await,
    ];
    let third = hub.subscribe(READER, "channel=room", &[]).await;
    assert_eq!(third.status, 429);
    assert_eq!(third.headers["retry-after"], "5");
    assert_eq!(third.headers["x-streamgate-limit"], "caller connections_per_user");
    let mut browser = hub.subscribe(READER, "channel=room&es=1", &[]).await;
    let refused = browser.any().await.unwrap();
    let data: Value = serde_json::from_str(&refused.data).unwrap();
    assert_eq!((browser.status, refused.event.as_str()), (200, "refused"));
    assert_eq!(data["status"], 429);
    assert!(data["message"].as_str().unwrap().contains("you have 2 subscriptions open"), "{data}");
    let other = hub.subscribe(BACKEND, "channel=room", &[]).await;
    let fourth = hub.subscribe(BACKEND, "channel=room", &[]).await;
    assert_eq!((other.status, fourth.status), (200, 429));
    assert_eq!(fourth.headers["x-streamgate-limit"], "channels connections");
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 3);
    drop(own);
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 1);
    assert_eq!(hub.subscribe(READER, "channel=room", &[]).await.status, 200);
    let page = hub.app.metrics.render();
    let counted =
        r#"streamgate_limit_refusals_total{scope="caller",limit="connections_per_user"} 2"#;
    assert!(page.contains(counted), "{page}");
}

/// So many channels take a pattern. More than a few thousand do not even fit into the head of a request.
#[tokio::test]
async fn ten_thousand_channels_in_one_request_are_refused() {
    let hub = Hub::new("");
    let query =
        |count| (0..count).fold(String::new(), |all, at| all + &format!("channel=news.{at}&"));
    let (status, answer) = hub.get(READER, &format!("/v1/events?{}", query(3_000))).await;
    assert_eq!(status, 400);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("more than 100 channels and streams; use a pattern"), "{message}");
    assert_eq!(answer["error"]["param"], "channel");
    let gateway = Gateway::new(&yaml("")).await;
    let mut caller = Raw::new(gateway.address).await;
    caller.write(format!("GET /v1/events?{} HTTP/1.1\r\nhost: x\r\n\r\n", query(10_000))).await;
    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.1 414") || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn more_channels_than_there_may_be_are_refused_while_all_are_used() {
    let hub = Hub::new("channels: { max_channels: 2 }\n");
    let _subscriber = hub.subscribe(BACKEND, "channel=a&channel=b", &[]).await;
    let (status, answer) = hub.post(BACKEND, "/v1/channels/c", r#"{"data":1}"#).await;
    assert_eq!(status, 503);
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("channels.max_channels"),
        "{answer}"
    );
}
