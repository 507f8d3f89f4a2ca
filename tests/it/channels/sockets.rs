//! Subscribers over real connections: chunks, hang-ups, HTTP/2, slow readers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{BACKEND, READER, yaml};
use crate::support::gateway::Gateway;

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("in 20 s");
}

async fn connect(gateway: &Gateway, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "GET /v1/events?{query} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\
         authorization: Bearer {BACKEND}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn read_until(stream: &mut TcpStream, read: &mut Vec<u8>, mark: &str) {
    let reading = async {
        while !String::from_utf8_lossy(read).contains(mark) {
            assert_ne!(stream.read_buf(read).await.unwrap(), 0, "closed");
        }
    };
    timeout(Duration::from_secs(20), reading).await.expect(mark);
}

fn publish(gateway: &Gateway, channel: &str, data: &str) -> reqwest::RequestBuilder {
    gateway
        .client
        .post(format!("{}/v1/channels/{channel}", gateway.url))
        .bearer_auth(BACKEND)
        .header("content-type", "application/json")
        .body(serde_json::json!({ "data": data }).to_string())
}

#[tokio::test]
async fn a_hang_up_ends_the_subscription() {
    let gateway = Gateway::new(&yaml("")).await;
    let mut stream = connect(&gateway, "channel=a").await;
    let mut read = Vec::new();
    read_until(&mut stream, &mut read, "caught_up").await;
    assert_eq!(gateway.app.metrics.channel_subscribers.get(), 1);
    drop(stream);
    until(|| gateway.app.metrics.channel_subscribers.get() == 0).await;
}

/// One that does not read delays nobody: its position stays behind, and its connection is closed after the write
/// timeout.
#[tokio::test]
async fn a_subscriber_that_does_not_read_is_left_behind() {
    let more = "stream: { write_stall: 1s }\nchannels: { patterns: { a: { events: 100 } } }\n";
    let gateway = Gateway::new(&yaml(more)).await;
    let mut stuck = connect(&gateway, "channel=a").await;
    read_until(&mut stuck, &mut Vec::new(), "caught_up").await;
    let mut quick = connect(&gateway, "channel=a").await;
    let mut read = Vec::new();
    read_until(&mut quick, &mut read, "caught_up").await;
    let text = "x".repeat(100_000);
    for at in 0..150 {
        let data = format!("{at} {text} end{at}.");
        assert_eq!(publish(&gateway, "a", &data).send().await.unwrap().status(), 200);
        read_until(&mut quick, &mut read, &format!(" end{at}.")).await;
        read.clear();
    }
    until(|| gateway.app.metrics.channel_subscribers.get() == 1).await;
    drop(stuck);
}

/// Over HTTP/2 a browser has as many as it likes on one connection.
#[tokio::test]
async fn many_subscribers_share_an_http2_connection() {
    let gateway = Gateway::new(&yaml("")).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    crate::support::spawn(async move { connection.await.unwrap_or_default() });
    let mut client = client.ready().await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let request = http::Request::get("http://gateway/v1/events?channel=room&live=sse")
            .header("authorization", format!("Bearer {READER}"));
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        streams.push((response.await.unwrap().into_body(), Vec::<u8>::new()));
    }
    assert_eq!(gateway.app.metrics.channel_subscribers.get(), 20);
    assert_eq!(publish(&gateway, "room", "hello").send().await.unwrap().status(), 200);
    for (body, read) in &mut streams {
        while !String::from_utf8_lossy(read).contains("data: hello\n") {
            let bytes = body.data().await.expect("open").unwrap();
            body.flow_control().release_capacity(bytes.len()).unwrap();
            read.extend_from_slice(&bytes);
        }
    }
    // A stream that is reset ends its subscription, and no other.
    streams.truncate(15);
    until(|| gateway.app.metrics.channel_subscribers.get() == 15).await;
}

/// A page of another origin may read the position.
#[tokio::test]
async fn pages_of_allowed_origins_may_subscribe() {
    let more = "server: { cors: { origins: [\"https://chat.example.com\"] } }\n";
    let gateway = Gateway::new(&yaml(more)).await;
    let request = gateway.client.get(format!("{}/v1/events?channel=a&live=sse", gateway.url));
    let request = request.header("origin", "https://chat.example.com").bearer_auth(BACKEND);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "https://chat.example.com");
    let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("stream-next-offset"), "{exposed}");
}
