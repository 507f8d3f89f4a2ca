//! Shutting down (failure mode 19): what may end does, the rest is told.

use std::sync::Arc;

use http::{Request, StatusCode};
use streamgate::app;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tower::ServiceExt;

use super::{
    PAIRS, PATIENCE, ask, before, begun, body, ending, error_of, path, preamble, read_until,
    settled, strictly, until,
};
use crate::support::gateway::{Gateway, Log};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};

async fn drained(gateway: Gateway) {
    timeout(PATIENCE, gateway.done).await.expect("drained in time").unwrap();
}

#[tokio::test]
async fn fm19_streams_run_on_while_draining() {
    for (caller, provider) in PAIRS {
        let gate = Arc::new(Notify::new());
        let rest = [Step::Gate(Arc::clone(&gate)), ending(provider), Step::End];
        let upstream = Upstream::new(begun(provider, rest)).await;
        let gateway = before(&upstream, "server: { drain: 10s }\n").await;
        let mut response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        let mut text = read_until(&mut response, "Hello").await;
        gateway.shutdown.stopping.cancel();
        let router = app::router(Arc::clone(&gateway.app));
        let asked =
            Request::get("/readyz").header("host", "x").body(axum::body::Body::empty()).unwrap();
        assert_eq!(router.oneshot(asked).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        let mut refused = false;
        while !refused {
            refused = TcpStream::connect(gateway.address).await.is_err();
        }
        gate.notify_one();
        text.extend_from_slice(&response.bytes().await.unwrap());
        let read = strictly(caller, std::str::from_utf8(&text).unwrap());
        assert_eq!(read.ended, crate::support::Ended::Complete);
        drained(gateway).await;
    }
}

#[tokio::test]
async fn fm19_a_stream_that_outlasts_the_drain_gets_an_error() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let upstream = Upstream::new(begun(provider, [Step::Hang])).await;
        let gateway = before(&upstream, "server: { drain: 50ms }\n").await;
        let mut response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        let mut text = read_until(&mut response, "Hello").await;
        gateway.shutdown.stopping.cancel();
        text.extend_from_slice(&response.bytes().await.unwrap());
        let text = String::from_utf8(text).unwrap();
        assert!(error_of(caller, &text).contains("shutting down"), "{text}");
        upstream.all_closed().await;
        settled(&gateway).await;
        assert_eq!(log.records()[0]["outcome"], "shutting_down");
        drained(gateway).await;
    }
}

/// Requests that have no answer yet end with the drain as well: with a status while there is none,
/// in-band after that.
#[tokio::test]
async fn fm19_requests_without_output_end_with_the_drain() {
    for (caller, provider) in PAIRS {
        for script in [vec![Step::Hang], vec![Step::Sse, preamble(provider), Step::Hang]] {
            for (stream, commit) in [(true, "10s"), (true, "10ms"), (false, "10s")] {
                let log = Log::default();
                let _capture = log.capture();
                let upstream = Upstream::new(script.clone()).await;
                let more = format!(
                    "server: {{ drain: 50ms }}\nstream: {{ commit_after: {commit}, heartbeat: 10ms }}\n"
                );
                let gateway = before(&upstream, &more).await;
                let body = body(&format!("{provider}/m"), stream);
                let asked = gateway.post(path(caller), &body);
                let asked = crate::support::spawn(asked.send());
                upstream.until("asked", |requests, _| requests == 1).await;
                if commit == "10ms" {
                    until("the head is out", || asked.is_finished()).await;
                }
                gateway.shutdown.stopping.cancel();
                let response = timeout(PATIENCE, asked).await.unwrap().unwrap().unwrap();
                let status = response.status().as_u16();
                let text = response.text().await.unwrap();
                assert!(text.contains("shutting down"), "{text}");
                if status == 200 {
                    error_of(caller, &text);
                }
                assert_eq!(status == 200, commit == "10ms", "{stream} {status} {text}");
                upstream.all_closed().await;
                settled(&gateway).await;
                assert_eq!(log.records()[0]["outcome"], "shutting_down");
                drained(gateway).await;
            }
        }
    }
}

/// A drain that would last for ever if a connection without a request under way were waited for.
const FOREVER: &str = "server: { drain: 1h, header_timeout: 1h }\n";

#[tokio::test]
async fn connections_without_a_request_do_not_delay_a_shutdown() {
    const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let upstream = Upstream::new(begun("oai", [Step::Hang])).await;
    let gateway = before(&upstream, FOREVER).await;
    let mut peers = Vec::new();
    for (sent, answered) in [
        ("", ""),
        ("GET /heal", ""),
        ("PRI * HT", ""),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\nx-more: ", ""),
        (HEALTH, "ok\n"),
        (&format!("{HEALTH}GET /heal"), "ok\n"),
        // It never answers the PING of the GOAWAY.
        (PREFACE, "\0\0"),
    ] {
        let mut raw = Raw::new(gateway.address).await;
        assert!(raw.write(sent).await);
        raw.until(answered).await;
        peers.push((sent.to_owned(), raw));
    }
    gateway.shutdown.stopping.cancel();
    for (sent, raw) in &mut peers {
        let reading = async { while let Ok(1..) = raw.stream.read_buf(&mut raw.read).await {} };
        assert!(timeout(PATIENCE, reading).await.is_ok(), "open: {sent:?}");
    }
    timeout(PATIENCE, gateway.done).await.expect("nobody holds it").unwrap();
}

/// Requests in progress when the drain ends: half a body gets an answer, an unread stream is abandoned.
#[tokio::test]
async fn unfinished_bodies_and_unread_streams_end_with_the_drain() {
    let endless =
        Step::Repeat(super::token_text("oai", &"x".repeat(1 << 16)).into_bytes(), 1 << 10);
    let upstream = Upstream::new(begun("oai", [endless, Step::Hang])).await;
    let more = "server: { drain: 50ms, header_timeout: 1h }\nstream: { write_stall: 1h }\n";
    let gateway = before(&upstream, more).await;
    let whole = crate::support::raw::post(path("openai-chat"), "", &body("oai/m", true));
    let mut half = Raw::new(gateway.address).await;
    assert!(half.write(&whole.as_bytes()[..whole.len() - 5]).await);
    let question = crate::support::raw::post("/api/show", "", r#"{"model":"oai/m"}"#);
    let mut half_question = Raw::new(gateway.address).await;
    assert!(half_question.write(&question.as_bytes()[..question.len() - 5]).await);
    let mut unread = Raw::new(gateway.address).await;
    assert!(unread.write(&whole).await);
    upstream.until("asked", |requests, _| requests == 1).await;
    gateway.shutdown.stopping.cancel();
    let text = half.rest().await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("shutting down"), "{text}");
    let text = half_question.rest().await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("shutting down"), "{text}");
    timeout(PATIENCE, gateway.done).await.expect("the drain has a bound").unwrap();
    drop(unread);
}

/// Unread bytes of a caller would reset its connection before the end of the answer, if a stopping gateway closed it.
#[tokio::test]
async fn fm19_unread_bytes_of_a_caller_do_not_cut_an_answer_short() {
    let gate = Arc::new(Notify::new());
    let long = super::token_text("oai", &"x".repeat(1 << 19)).into_bytes();
    let rest = [Step::Gate(Arc::clone(&gate)), Step::Repeat(long, 1), ending("oai"), Step::End];
    let upstream = Upstream::new(begun("oai", rest)).await;
    let gateway = before(&upstream, "server: { drain: 10s }\n").await;
    let whole = crate::support::raw::post(path("openai-chat"), "", &body("oai/m", true));
    let mut raw = Raw::new(gateway.address).await;
    assert!(raw.write(format!("{whole}GET /heal")).await);
    raw.until("Hello").await;
    gateway.shutdown.stopping.cancel();
    gate.notify_one();
    timeout(PATIENCE, gateway.done).await.expect("nobody holds it").unwrap();
    let text = raw.rest().await;
    assert!(text.contains("[DONE]") && text.ends_with("\r\n0\r\n\r\n"), "{} bytes", text.len());
}
