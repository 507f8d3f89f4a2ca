//! Callers that speak HTTP/2: one connection, streams that end on their own.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{PAIRS, PATIENCE, before, begun, body, count, ending, good, path, settled, strictly};
use crate::support::gateway::{Gateway, KEY, Log};
use crate::support::upstream::{Step, Upstream};

/// A connection; `window`: how many bytes of each stream may be on their way unread.
pub(super) async fn connect(gateway: &Gateway, window: u32) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(1 << 24)
        .handshake(stream)
        .await
        .unwrap();
    crate::support::spawn(async move { connection.await.unwrap_or_default() });
    client.ready().await.unwrap()
}

pub(super) fn ask(
    client: &mut SendRequest<Bytes>,
    dialect: &str,
    body: String,
) -> (ResponseFuture, SendStream<Bytes>) {
    let request = http::Request::post(format!("http://gateway{}", path(dialect)))
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (response, mut sending) = client.send_request(request, false).unwrap();
    sending.send_data(body.into(), true).unwrap();
    (response, sending)
}

/// Reads until the stream says something, or to its end.
pub(super) async fn read(body: &mut RecvStream, what: Option<&str>) -> String {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if what.is_some_and(|what| text.contains(what)) {
            return text;
        }
        match timeout(PATIENCE, body.data()).await.expect("more in time") {
            Some(bytes) => {
                let bytes = bytes.unwrap();
                body.flow_control().release_capacity(bytes.len()).unwrap();
                seen.extend_from_slice(&bytes);
            }
            None => return text,
        }
    }
}

/// Failure modes 1 and 47: a reset stream closes its upstream; its siblings live on.
#[tokio::test]
async fn fm01_cancel_of_an_http2_stream_leaves_its_siblings_alone() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let gate = Arc::new(Notify::new());
        let rest = [Step::Gate(Arc::clone(&gate)), ending(provider), Step::End];
        let upstream =
            Upstream::scripted(vec![begun(provider, rest), begun(provider, [Step::Hang])]).await;
        let gateway = before(&upstream, "").await;
        let mut client = connect(&gateway, 65_535).await;
        let body = body(&format!("{provider}/m"), true);
        let (sibling, _open) = ask(&mut client, caller, body.clone());
        let response = sibling.await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("connection"));
        let mut sibling = response.into_body();
        let mut text = read(&mut sibling, Some("Hello")).await;
        let (doomed, mut sending) = ask(&mut client, caller, body);
        let mut doomed = doomed.await.unwrap().into_body();
        read(&mut doomed, Some("Hello")).await;
        sending.send_reset(Reason::CANCEL);
        let took = upstream.until("the upstream of one closed", |_, open| open == 1).await;
        println!("{caller} from {provider}: upstream closed after {took:?}");
        assert!(took < std::time::Duration::from_secs(1), "{took:?}");
        gate.notify_one();
        text += &read(&mut sibling, None).await;
        assert_eq!(strictly(caller, &text).ended, crate::support::Ended::Complete);
        settled(&gateway).await;
        let outcomes: Vec<_> = log
            .records()
            .iter()
            .map(|record| record["outcome"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(outcomes, ["client_gone", "complete"]);
    }
}

/// Failure mode 10: a reset before the upstream has answered at all.
#[tokio::test]
async fn fm10_cancel_by_reset_before_the_response_head_is_noticed() {
    for (caller, provider) in PAIRS {
        let upstream = Upstream::new(vec![Step::Hang]).await;
        let gateway = before(&upstream, "").await;
        let mut client = connect(&gateway, 65_535).await;
        let (_response, mut sending) =
            ask(&mut client, caller, body(&format!("{provider}/m"), true));
        upstream.until("asked", |requests, _| requests == 1).await;
        sending.send_reset(Reason::CANCEL);
        upstream.all_closed().await;
        settled(&gateway).await;
    }
}

/// Failure mode 47: streams that are reset do not use up the connection they were on.
#[tokio::test]
async fn fm47_a_hundred_reset_streams_then_a_hundred_good_ones() {
    let provider = "oai";
    let mut scripts = vec![begun(provider, [Step::Hang]); 100];
    scripts.push(good(provider));
    let upstream = Upstream::scripted(scripts).await;
    let more = "limits: { concurrent_streams: 1, requests_per_minute: none }\n";
    let gateway = before(&upstream, more).await;
    let mut client = connect(&gateway, 65_535).await;
    for round in 0..200 {
        let (response, mut sending) = ask(&mut client, "anthropic", body("oai/m", true));
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200, "{round}");
        let mut stream = response.into_body();
        if round < 100 {
            read(&mut stream, Some("Hello")).await;
            sending.send_reset(Reason::CANCEL);
        } else {
            strictly("anthropic", &read(&mut stream, None).await);
        }
        settled(&gateway).await;
    }
    assert_eq!(count(&gateway, "streamgate_requests_total{"), "200");
}
