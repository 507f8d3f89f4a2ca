//! Failure modes of the transport, from outside: large events, slow readers, bodies that break,
//! connections that die, and encodings.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::answers::{
    SPOKEN, delta, error_message, events, gzip, opening, path, request, streamed, whole,
};
use crate::support::gateway::{Gateway, yaml};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};
use crate::support::{Ended, reader};

/// A gateway whose provider of `dialect` is this upstream.
async fn before(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await
}

/// Every caller's dialect with every upstream's: (caller, upstream, model).
fn pairs() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    SPOKEN.into_iter().flat_map(|(caller, _)| {
        SPOKEN
            .into_iter()
            .map(move |(dialect, provider)| (caller, dialect, format!("{provider}/m")))
    })
}

#[tokio::test]
async fn fm37_a_2_mb_event_passes() {
    for (caller, dialect, model) in pairs() {
        let text = "x".repeat(2 << 20);
        let upstream = Upstream::new(streamed(dialect, &text)).await;
        let gateway = before(&upstream, "").await;
        let sent = gateway.post(path(caller), &request(&model, true, "hi")).send().await.unwrap();
        let bytes = sent.bytes().await.unwrap();
        let view = (reader(caller).stream)(&bytes, false).unwrap();
        assert_eq!(view.choices[&0].text.len(), text.len(), "{caller} from {dialect}");
        assert_eq!(view.ended, Ended::Complete);
    }
}

/// Failure mode 38, too: a line that does not end costs no more than the limit.
#[tokio::test]
async fn fm37_fm38_an_endless_event_ends_in_band_at_the_limit() {
    for (caller, dialect, model) in pairs() {
        for beginning in ["data: {\"x\":\"", "", ": "] {
            let mut script = vec![Step::Sse, Step::chunk(&opening(dialect, "hi"))];
            script.push(Step::chunk(beginning));
            script.extend(vec![Step::Chunk(vec![b'x'; 1 << 18]); 40]);
            script.push(Step::Hang);
            let upstream = Upstream::new(script).await;
            let gateway = before(&upstream, "stream: { max_event: 1MiB }\n").await;
            let sent = gateway.post(path(caller), &request(&model, true, "hi")).send().await;
            let bytes = timeout(Duration::from_secs(5), sent.unwrap().bytes()).await;
            let bytes = bytes.expect("it ends").unwrap();
            assert!(bytes.len() < 10_000, "the oversized event is not forwarded");
            let view = (reader(caller).stream)(&bytes, false).unwrap();
            assert!(matches!(view.ended, Ended::Error(_)), "{caller} from {dialect}: {view:?}");
            upstream.all_closed().await;
        }
    }
}

#[tokio::test]
async fn fm37_a_40_mb_event_is_an_error_by_default() {
    let mut script = vec![Step::Sse, Step::chunk(&opening("openai-chat", "hi"))];
    script.push(Step::chunk("data: {\"x\":\""));
    script.extend(vec![Step::Chunk(vec![b'x'; 1 << 20]); 40]);
    script.push(Step::Hang);
    let upstream = Upstream::new(script).await;
    let gateway = before(&upstream, "").await;
    let bytes = gateway.chat("oai/m").send().await.unwrap().bytes().await.unwrap();
    let view = (reader("openai-chat").stream)(&bytes, false).unwrap();
    assert!(matches!(view.ended, Ended::Error(_)), "{view:?}");
    upstream.all_closed().await;
}

#[tokio::test]
async fn fm44_unread_streams_block_no_other_request() {
    let mut big = vec![Step::Sse, Step::chunk(&opening("openai-chat", "hi"))];
    let piece = delta("openai-chat", &"x".repeat(1 << 18));
    big.extend(vec![Step::chunk(&piece); 32]);
    big.push(Step::Hang);
    let mut scripts = vec![big; 6];
    scripts.push(streamed("openai-chat", "small"));
    let upstream = Upstream::scripted(scripts).await;
    let gateway = before(&upstream, "").await;
    let mut unread = Vec::new();
    for _ in 0..6 {
        unread.push(gateway.chat("oai/m").send().await.unwrap());
    }
    let small = async { gateway.chat("oai/m").send().await.unwrap().text().await.unwrap() };
    let text = timeout(Duration::from_secs(2), small).await.expect("answered at once");
    assert!(text.ends_with("data: [DONE]\n\n"));
    drop(unread);
    upstream.until("the unread ones are closed", |_, open| open <= 1).await;
}

#[tokio::test]
async fn fm45_a_broken_upstream_body_ends_the_stream_once() {
    for (caller, dialect, model) in pairs() {
        for breakage in [Step::Raw(b"zz\r\n".to_vec()), Step::Reset, Step::Close] {
            let script = vec![Step::Sse, Step::chunk(&opening(dialect, "hi")), breakage];
            let upstream = Upstream::new(script).await;
            let gateway = before(&upstream, "").await;
            let sent = gateway.post(path(caller), &request(&model, true, "hi")).send().await;
            // A reset may overtake the first output; then the answer is an error with a status.
            let sent = sent.unwrap();
            let status = sent.status().as_u16();
            let bytes = timeout(Duration::from_secs(5), sent.bytes()).await.expect("ends").unwrap();
            if status == 200 {
                let view = (reader(caller).stream)(&bytes, false).unwrap();
                assert!(matches!(view.ended, Ended::Error(_)), "{caller} from {dialect}: {view:?}");
            } else {
                error_message(caller, std::str::from_utf8(&bytes).unwrap());
            }
            assert!(gateway.metric("streamgate_open_requests{") < 1.0);
        }
    }
}

/// The kernel can only miss a peer that it sends something: heartbeats are what it sends. That
/// the socket gives up on an unanswered one is a test of `server::socket`.
#[tokio::test]
async fn fm50_heartbeats_continue_until_the_caller_is_gone() {
    for (caller, dialect, model) in pairs() {
        let script = vec![Step::Sse, Step::chunk(&opening(dialect, "hi")), Step::Hang];
        let upstream = Upstream::new(script).await;
        let gateway = before(&upstream, "stream: { heartbeat: 50ms }\n").await;
        let mut raw = Raw::new(gateway.address).await;
        raw.post(path(caller), "", &request(&model, true, "hi")).await;
        raw.until("ping").await;
        socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(raw);
        upstream.all_closed().await;
    }
}

#[tokio::test]
async fn fm51_2000_aborted_streams_leave_nothing_behind() {
    let script = vec![Step::Sse, Step::chunk(&opening("openai-chat", "hi")), Step::Hang];
    let upstream = Upstream::new(script).await;
    let gateway = before(&upstream, "limits: { requests_per_minute: none }\n").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let baseline = tasks();
    for turn in 0..40 {
        let mut callers = Vec::new();
        for _ in 0..50 {
            let mut raw = Raw::new(gateway.address).await;
            let (caller, _) = SPOKEN[turn % 2];
            raw.post(path(caller), "", &request("oai/m", true, "hi")).await;
            callers.push(raw);
        }
        for raw in &mut callers {
            raw.until("hi").await;
        }
    }
    upstream.all_closed().await;
    let settled = async {
        while gateway.metric("streamgate_open_requests{") > 0.0 || tasks() > baseline {
            tokio::task::yield_now().await;
        }
    };
    let settled = timeout(Duration::from_secs(5), settled).await;
    assert!(settled.is_ok(), "{} tasks, before {baseline}", tasks());
    assert!(gateway.metric("streamgate_requests_total{") > 1999.0);
    assert_eq!(open_sockets(gateway.address.port()), 0);
}

/// The sockets of this machine at a local port that are neither listening nor long over.
fn open_sockets(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            Some((fields.next()?.ends_with(&local), fields.nth(1)?))
        })
        .filter(|(ours, state)| *ours && ["01", "08"].contains(state))
        .count()
}

#[tokio::test]
async fn fm53_streams_never_send_connection_close() {
    for (caller, dialect, model) in pairs() {
        let upstream = Upstream::new(streamed(dialect, "hi")).await;
        let gateway = before(&upstream, "").await;
        let mut raw = Raw::new(gateway.address).await;
        raw.post(path(caller), "", &request(&model, true, "hi")).await;
        let text = raw.until("\r\n0\r\n\r\n").await.to_ascii_lowercase();
        assert!(!text.contains("connection:"), "{text}");
        assert!(text.contains("transfer-encoding: chunked"), "{text}");
    }
}

#[tokio::test]
async fn fm53_no_connection_close_on_streams_begun_during_shutdown() {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let mut script = vec![Step::Gate(std::sync::Arc::clone(&go))];
    script.extend(streamed("openai-chat", "hi"));
    let upstream = Upstream::new(script).await;
    let gateway = before(&upstream, "").await;
    let mut raw = Raw::new(gateway.address).await;
    raw.post("/v1/chat/completions", "", &request("oai/m", true, "hi")).await;
    upstream.until("the request is there", |requests, _| requests == 1).await;
    gateway.shutdown.stopping.cancel();
    // The listener is dropped once the shutdown is under way.
    while tokio::net::TcpStream::connect(gateway.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    let text = raw.rest().await.to_ascii_lowercase();
    assert!(text.contains("[done]"), "{text}");
    assert!(!text.contains("connection: close"), "{text}");
    gateway.done.await.unwrap();
}

/// Failure mode 57, too: nothing about an encoding that is not there any more.
#[tokio::test]
async fn fm55_fm56_event_streams_are_not_compressed_on_either_side() {
    for (caller, dialect, model) in pairs() {
        for zipped in [false, true] {
            let mut script = streamed(dialect, "hi");
            if zipped {
                let body = gzip(events(dialect, "hi").as_bytes());
                let headers = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
                script = vec![Step::Whole(200, headers, body)];
            }
            let upstream = Upstream::new(script).await;
            let gateway = before(&upstream, "").await;
            let mut raw = Raw::new(gateway.address).await;
            let accept = "accept-encoding: gzip, br\r\n";
            raw.post(path(caller), accept, &request(&model, true, "hi")).await;
            let text = raw.until("\r\n0\r\n\r\n").await;
            let head = text.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{text}");
            assert!(!head.contains("content-encoding"), "{head}");
            assert!(!head.contains("content-length"), "{head}");
            assert!(head.contains("no-transform"), "{head}");
            assert!(text.contains("data: {") && text.contains("\"hi\""), "{text}");
            let seen = &upstream.requests().await[0].head.to_ascii_lowercase();
            assert_eq!(seen.matches("accept-encoding:").count(), 1, "{seen}");
            assert!(seen.contains("accept-encoding: identity\r\n"), "{seen}");
        }
    }
}

#[tokio::test]
async fn fm57_decoded_bodies_carry_no_stale_headers() {
    const HEADERS: &str = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    for (caller, dialect, model) in pairs() {
        let error = if dialect == "anthropic" {
            r#"{"type":"error","error":{"type":"not_found_error","message":"no such thing"}}"#
        } else {
            r#"{"error":{"message":"no such thing","type":"invalid_request_error","param":null,"code":null}}"#
        };
        let answer = whole(dialect, "hi");
        for (status, stream, body) in
            [(404, true, error), (404, false, error), (200, false, answer.as_str())]
        {
            let upstream =
                Upstream::new(vec![Step::Whole(status, HEADERS, gzip(body.as_bytes()))]).await;
            let gateway = before(&upstream, "").await;
            let mut raw = Raw::new(gateway.address).await;
            let accept = "accept-encoding: gzip\r\n";
            raw.post(path(caller), accept, &request(&model, stream, "hi")).await;
            let response = raw.response().await;
            assert_eq!(response.status(), status, "{caller} from {dialect}: {response:?}");
            assert!(response.header("content-encoding").is_empty(), "{response:?}");
            assert_eq!(response.header("content-length").len(), 1, "{response:?}");
            if status == 404 {
                assert!(error_message(caller, &response.body).contains("no such thing"));
            } else {
                let view = (reader(caller).answer)(response.body.as_bytes()).unwrap();
                assert_eq!(view.choices[&0].text, "hi");
            }
        }
    }
}
