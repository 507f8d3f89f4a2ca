//! Callers who do not read (failure mode 48): what they do not take is not fetched, and after
//! `write_stall` they are cut off.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{PAIRS, Raw, before, begun, body, ending, http2, record, settled, token_text};
use crate::support::gateway::Log;
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
async fn fm48_an_unread_stream_is_bounded_and_cut_off() {
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
async fn fm48_an_unread_http2_stream_is_cut_off_alone() {
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
        let mut reset = false;
        while let Some(bytes) = unread.data().await {
            reset |= bytes.is_err();
            if reset {
                break;
            }
        }
        assert!(reset, "a stream that was cut off must not look finished");
        settled(&gateway).await;
    }
}
