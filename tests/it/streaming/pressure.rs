//! Callers who do not read (failure mode 48): what they do not take is not fetched, and after
//! `write_stall` they are cut off.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{PAIRS, Raw, before, begun, body, ending, http2, record, settled, token_text};
use crate::support::gateway::{Gateway, KEY, Log, yaml};
use crate::support::upstream::{Step, Upstream};

const MIB: usize = 1 << 20;
/// Two pairs of socket buffers, at their largest, and our own.
const BOUND: usize = 40 * MIB;

/// An answer of 200 MB.
fn flood(provider: &str) -> Vec<Step> {
    let event = token_text(provider, &"x".repeat(16 * 1024)).into_bytes();
    begun(provider, [Step::Repeat(event, 12_500), ending(provider), Step::End])
}

#[tokio::test]
async fn fm48_write_timeout_ends_an_unread_stream() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let upstream = Upstream::new(flood(provider)).await;
        let gateway = before(&upstream, "stream: { write_stall: 200ms, heartbeat: 50ms }\n").await;
        let raw = Raw::ask(&gateway, caller, &body(&format!("{provider}/m"), true), "").await;
        upstream.until("asked", |requests, _| requests == 1).await;
        upstream.all_closed().await;
        println!("{caller} from {provider}: {} KiB sent", upstream.sent() / 1024);
        assert!(upstream.sent() < BOUND, "{} bytes", upstream.sent());
        assert_eq!(record(&gateway, &log).await["outcome"], "client_gone");
        drop(raw);
    }
}

/// The same over HTTP/2, where the connection and its other streams live on.
#[tokio::test]
async fn fm48_write_timeout_resets_only_the_unread_http2_stream() {
    for (caller, provider) in PAIRS {
        let gate = Arc::new(Notify::new());
        let rest = [Step::Gate(Arc::clone(&gate)), ending(provider), Step::End];
        let upstream = Upstream::scripted(vec![begun(provider, rest), flood(provider)]).await;
        let gateway = before(&upstream, "stream: { write_stall: 200ms, heartbeat: 50ms }\n").await;
        let mut client = http2::connect(&gateway, 65_535).await;
        let body = body(&format!("{provider}/m"), true);
        let (sibling, _open) = http2::ask(&mut client, caller, body.clone());
        let mut sibling = sibling.await.unwrap().into_body();
        let (unread, _sending) = http2::ask(&mut client, caller, body);
        let mut unread = unread.await.unwrap().into_body();
        upstream.until("the unread one is cut off", |asked, open| (asked, open) == (2, 1)).await;
        println!("{caller} from {provider}: {} KiB sent", upstream.sent() / 1024);
        assert!(upstream.sent() < BOUND, "{} bytes", upstream.sent());
        gate.notify_one();
        let text = http2::read(&mut sibling, None).await;
        super::strictly(caller, &text);
        let end = loop {
            match unread.data().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_some(), "a stream that was cut off must not look finished");
        settled(&gateway).await;
    }
}

/// A caller who pauses for less than `write_stall` gets everything, and the pause is not the upstream's
/// stall.
#[tokio::test]
async fn fm48_a_slow_reader_loses_nothing() {
    for (caller, provider) in [("openai-chat", "oai"), ("anthropic", "oai")] {
        let event = token_text(provider, &"x".repeat(16 * 1024)).into_bytes();
        let script = begun(provider, [Step::Repeat(event, 1_000), ending(provider), Step::End]);
        let upstream = Upstream::new(script).await;
        let gateway = before(&upstream, "stream: { stall: 1s, write_stall: 30s }\n").await;
        let mut response =
            super::ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        let mut text = super::read_until(&mut response, "Hello").await;
        // The upstream cannot get rid of its bytes any more: the way is full.
        let mut before = usize::MAX;
        while before != upstream.sent() {
            before = upstream.sent();
            tokio::time::sleep(Duration::from_millis(1_250)).await;
        }
        text.extend_from_slice(&response.bytes().await.unwrap());
        let read = super::strictly(caller, std::str::from_utf8(&text).unwrap());
        assert_eq!(read.ended, crate::support::Ended::Complete);
        assert_eq!(read.choices[&0].text.len(), "Hello".len() + 1_000 * 16 * 1024);
        settled(&gateway).await;
    }
}

/// The last bytes of a body of known length are no sign of a caller that does not read: the connection
/// serves a slow answer after it.
#[tokio::test]
async fn fm48_write_timeout_spares_the_next_request_of_a_connection() {
    let upstream = Upstream::new(vec![
        Step::Pause(Duration::from_millis(900)),
        Step::Whole(200, "content-type: application/json\r\n", br#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"late"},"finish_reason":"stop"}]}"#.to_vec()),
    ])
    .await;
    let gateway =
        Gateway::new(&yaml(&upstream.url, &upstream.url, "stream: { write_stall: 300ms }")).await;
    let key = format!("Bearer {KEY}");
    let models =
        gateway.client.get(format!("{}/v1/models", gateway.url)).header("authorization", &key);
    assert!(!models.send().await.unwrap().bytes().await.unwrap().is_empty());
    let body = r#"{"model":"oai/m","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = gateway.post("/v1/chat/completions", body).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("late"));
}

/// A caller who reads slowly but steadily gets a large answer whole, however long it takes.
#[tokio::test]
async fn fm48_write_timeout_spares_a_steady_reader() {
    let text = "x".repeat(12 << 20);
    let answer = format!(
        r#"{{"id":"x","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
    );
    let length = answer.len();
    let upstream = Upstream::new(vec![Step::Whole(
        200,
        "content-type: application/json\r\n",
        answer.into_bytes(),
    )])
    .await;
    let gateway =
        Gateway::new(&yaml(&upstream.url, &upstream.url, "stream: { write_stall: 500ms }")).await;
    let body = r#"{"model":"oai/m","messages":[{"role":"user","content":"hi"}]}"#;
    let mut response = gateway.post("/v1/chat/completions", body).send().await.unwrap();
    let (mut got, mut tick) = (0, tokio::time::interval(Duration::from_millis(40)));
    while let Some(bytes) = response.chunk().await.unwrap() {
        got += bytes.len();
        tick.tick().await;
    }
    assert_eq!(got, length);
}
