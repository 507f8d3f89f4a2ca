//! HTTP/2 from callers who write their own frames: floods that cost the server more than the caller,
//! and requests that only another server would understand. Each is cut off, and others are served.

use std::io::Write;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::support::answers::{opening, request, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Kinds of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is not compressed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = text.len();
        // Seven bits, and what is more in groups of seven, the lowest first.
        let prefix = match length.checked_sub(127) {
            None => vec![u8::try_from(length).unwrap()],
            Some(rest) => {
                let (low, high) = (rest % 128, rest / 128);
                vec![127, u8::try_from(low).unwrap() | 128, u8::try_from(high).unwrap()]
            }
        };
        [&prefix, text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// The head of a request to chat, with more headers.
fn head(more: &[(&str, &str)]) -> Vec<u8> {
    let key = format!("Bearer {KEY}");
    let mut head = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/chat/completions"),
        (":authority", "gateway"),
        ("authorization", &key),
        ("content-type", "application/json"),
    ]
    .iter()
    .chain(more)
    {
        head.extend(field(name, value));
    }
    head
}

/// An opened connection.
async fn open(gateway: &Gateway) -> Raw {
    let mut raw = Raw::new(gateway.address).await;
    raw.write([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    raw
}

/// Kind, stream and payload of a frame.
type Frame = (u8, u32, Vec<u8>);

/// The whole frames so far.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(head) = bytes.first_chunk::<9>() {
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let Some(payload) = bytes.get(9..9 + length) else { break };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        frames.push((head[3], stream, payload.to_vec()));
        bytes = &bytes[9 + length..];
    }
    frames
}

/// The reason with which the connection was given up.
async fn reason(raw: &mut Raw) -> u32 {
    raw.rest().await;
    let frames = frames(&raw.read);
    let goaway = frames.iter().rfind(|(kind, ..)| *kind == GOAWAY);
    let (.., payload) = goaway.unwrap_or_else(|| panic!("no GOAWAY in {frames:?}"));
    u32::from_be_bytes(payload[4..8].try_into().unwrap())
}

async fn gateway(more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await, upstream)
}

/// Somebody else's request is answered.
async fn others_are_served(gateway: &Gateway) {
    let chat = async { gateway.chat("oai/m").send().await.unwrap().text().await.unwrap() };
    let text = timeout(Duration::from_secs(10), chat).await.expect("answered");
    assert!(text.ends_with("data: [DONE]\n\n"));
}

/// CVE-2023-44487: requests that are taken back at once do not count as open.
#[tokio::test]
async fn fm67_a_rapid_reset_is_cut_off() {
    let (gateway, upstream) = gateway("").await;
    let mut raw = open(&gateway).await;
    let mut flood = Vec::new();
    for stream in (1..2_000).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS, stream, &head(&[])));
        flood.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    raw.write(flood).await;
    assert_eq!(reason(&mut raw).await, ENHANCE_YOUR_CALM);
    assert!(upstream.requests().await.is_empty());
    others_are_served(&gateway).await;
}

/// CVE-2024-27316: a head without end, in pieces that are never looked at together.
#[tokio::test]
async fn fm67_a_flood_of_continuations_is_cut_off() {
    let (gateway, _upstream) = gateway("").await;
    for piece in [field("x", "y"), field("x", &"y".repeat(8_000)), Vec::new()] {
        let mut raw = open(&gateway).await;
        raw.write(frame(HEADERS, END_STREAM, 1, &head(&[]))).await;
        let flood = frame(CONTINUATION, 0, 1, &piece).repeat(1_000);
        raw.write(flood).await;
        let reason = reason(&mut raw).await;
        assert!([ENHANCE_YOUR_CALM, PROTOCOL_ERROR].contains(&reason), "{reason}");
        others_are_served(&gateway).await;
    }
}

/// CVE-2019-9518: frames that carry nothing.
#[tokio::test]
async fn fm67_a_flood_of_empty_frames_is_cut_off() {
    let (gateway, upstream) = gateway("").await;
    let mut raw = open(&gateway).await;
    raw.write(frame(HEADERS, END_HEADERS, 1, &head(&[]))).await;
    raw.write(frame(DATA, 0, 1, &[]).repeat(10_000)).await;
    assert_eq!(reason(&mut raw).await, ENHANCE_YOUR_CALM);
    assert!(upstream.requests().await.is_empty());
    others_are_served(&gateway).await;
}

/// CVE-2019-9512 and 9515: frames that want an answer, from a caller who does not read any. Nothing
/// is kept for it: what it writes is not read until it reads.
#[tokio::test]
async fn fm67_a_flood_of_pings_or_settings_is_not_kept() {
    let (gateway, _upstream) = gateway("server: { header_timeout: 1s }\n").await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])] {
        let mut raw = open(&gateway).await;
        socket2::SockRef::from(&raw.stream).set_recv_buffer_size(4096).unwrap();
        let flood = flood.repeat(1_000);
        let mut written = 0;
        let flooding = async {
            while raw.write(&flood).await {
                written += flood.len();
            }
        };
        // It stops at full buffers, or is cut off when its first request is due.
        let cut = timeout(Duration::from_mins(1), flooding).await;
        assert!(cut.is_ok(), "still open after {written} bytes");
        others_are_served(&gateway).await;
    }
}

/// Nor does a flood whose answers are read hold up the deadline: there is always a frame more to read.
#[tokio::test]
async fn fm67_a_flood_does_not_extend_the_header_timeout() {
    let (gateway, _upstream) = gateway("server: { header_timeout: 500ms }\n").await;
    let stream = open(&gateway).await.stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    // Threads, so that frames come faster than the gateway, on this one, can read them.
    let mut answers = stream.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    let (over, cut) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
        while (&stream).write_all(&pings).is_ok() {}
        over.send(())
    });
    assert!(timeout(Duration::from_secs(15), cut).await.is_ok(), "still open");
    others_are_served(&gateway).await;
}

/// A connection of HTTP/2 that asks for nothing more is closed, and told; one with an open stream,
/// however silent, is not.
#[tokio::test]
async fn fm67_idle_timeout_closes_http2_connections() {
    for silent in [false, true] {
        let mut script = vec![Step::Sse, Step::chunk(&opening("openai-chat", "hi"))];
        script.push(Step::Hang);
        let upstream = Upstream::new(script).await;
        let more = "server: { header_timeout: 100ms, idle_timeout: 500ms }\n";
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await;
        let mut raw = open(&gateway).await;
        if silent {
            raw.write(frame(HEADERS, END_HEADERS, 1, &head(&[]))).await;
            let body = request("oai/m", true, "hi");
            raw.write(frame(DATA, END_STREAM, 1, body.as_bytes())).await;
            raw.until("hi").await;
            let ended = timeout(Duration::from_secs(2), raw.stream.read_buf(&mut raw.read)).await;
            assert!(ended.is_err(), "an open stream was cut off");
        } else {
            raw.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, &health())).await;
            until_answered(&mut raw, 1).await;
            // The close begins with a GOAWAY and a ping, which wants an answer.
            until_told(&mut raw, PING).await;
            let ping = frames(&raw.read).into_iter().find(|(kind, ..)| *kind == PING).unwrap();
            raw.write(frame(PING, 1, 0, &ping.2)).await;
            assert_eq!(reason(&mut raw).await, 0);
        }
    }
}

async fn until_told(raw: &mut Raw, kind: u8) {
    while !frames(&raw.read).iter().any(|(found, ..)| *found == kind) {
        let read = timeout(Duration::from_secs(5), raw.stream.read_buf(&mut raw.read)).await;
        assert!(read.expect("told in 5 s").unwrap() > 0, "closed");
    }
}

/// A head larger than the limit is refused; a connection outlives it.
#[tokio::test]
async fn fm68_a_large_head_is_431() {
    let (gateway, upstream) = gateway("").await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    crate::support::spawn(async move { connection.await.unwrap_or_default() });
    let mut client: h2::client::SendRequest<bytes::Bytes> = client.ready().await.unwrap();
    let mut status = async |size: usize, count: usize| {
        let mut request = http::Request::get("http://gateway/healthz");
        for number in 0..count {
            request = request.header(format!("x-{number}"), "y".repeat(size));
        }
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        response.await.unwrap().status().as_u16()
    };
    assert_eq!(status(100, 10).await, 200);
    assert_eq!(status(40_000, 1).await, 431);
    assert_eq!(status(100, 1_000).await, 431);
    assert_eq!(status(100, 10).await, 200);
    assert!(upstream.requests().await.is_empty());
}

/// Headers that HTTP/2 forbids, because another hop could read it as a second request (RFC 9113, 8.2).
#[tokio::test]
async fn fm69_forbidden_headers_reset_the_stream() {
    let (gateway, upstream) = gateway("").await;
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("X-Upper", "y"),
        ("x y", "z"),
        ("x", "a\r\nhidden: b"),
        ("x", "a\0b"),
        (":path", "/v1/messages"),
        (":unknown", "x"),
        ("content-length", "3, 4"),
        ("content-length", "-1"),
        ("content-length", "5"),
    ] {
        let mut raw = open(&gateway).await;
        let body = request("oai/m", true, "hi");
        raw.write(frame(HEADERS, END_HEADERS, 1, &head(&[(name, value)]))).await;
        raw.write(frame(DATA, END_STREAM, 1, body.as_bytes())).await;
        raw.write(frame(HEADERS, END_HEADERS | END_STREAM, 3, &health())).await;
        let answered = until_answered(&mut raw, 3).await;
        let of_first: Vec<_> = answered.iter().filter(|(_, stream, _)| *stream == 1).collect();
        let reset = of_first.iter().any(|(kind, ..)| *kind == RST_STREAM);
        assert!(reset || answered.iter().any(|(kind, ..)| *kind == GOAWAY), "{name}: {value}");
        assert!(upstream.requests().await.is_empty(), "{name}: {value} was forwarded");
    }
    others_are_served(&gateway).await;
}

fn health() -> Vec<u8> {
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "g")];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// Frames until there is one of this stream, or the connection is given up.
async fn until_answered(raw: &mut Raw, stream: u32) -> Vec<Frame> {
    loop {
        let found = frames(&raw.read);
        if found.iter().any(|(kind, of, _)| *of == stream || *kind == GOAWAY) {
            return found;
        }
        let read = timeout(Duration::from_secs(5), raw.stream.read_buf(&mut raw.read)).await;
        assert!(read.expect("an answer in 5 s").unwrap() > 0, "closed: {found:?}");
    }
}
