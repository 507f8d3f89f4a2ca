//! Shutting down (failure mode 19): what may end does, the rest is told.

use std::sync::Arc;

use http::{Request, StatusCode};
use streamgate::app;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tower::ServiceExt;

use super::{
    PAIRS, PATIENCE, ask, before, begun, body, ending, error_of, path, preamble, read_until,
    settled, strictly, until,
};
use crate::support::gateway::{Gateway, Log};
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
        let asked = Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
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
async fn fm19_a_stream_that_outlasts_the_drain_is_told() {
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
