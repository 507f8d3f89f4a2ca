//! Callers' connections between requests: how long they are kept, and what the next head may take.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::answers::streamed;
use crate::support::certificate::{Certificate, secure};
use crate::support::gateway::{Gateway, yaml};
use crate::support::upstream::Upstream;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// The same with and without TLS.
struct Sides {
    gateways: [Gateway; 2],
    certificate: Certificate,
    _upstream: Upstream,
}

impl Sides {
    async fn new(server: &str) -> Self {
        let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
        let certificate = Certificate::new();
        let plain = format!("server: {{ {server} }}\n");
        let plain = Gateway::new(&yaml(&upstream.url, &upstream.url, &plain)).await;
        let tls = yaml(&upstream.url, &upstream.url, &certificate.server(server));
        let tls = Gateway::new(&tls).await;
        Self { gateways: [plain, tls], certificate, _upstream: upstream }
    }

    /// A connection that speaks `alpn`.
    async fn connect(&self, what: &str, alpn: &str) -> Box<dyn Stream + Send> {
        let [plain, tls] = &self.gateways;
        if what == "plain" {
            return Box::new(TcpStream::connect(plain.address).await.unwrap());
        }
        let config = Arc::new(self.certificate.config(&[alpn]));
        Box::new(secure(tls, &config).await.unwrap())
    }
}

/// Asks and reads the whole answer.
async fn exchange(stream: &mut (impl Stream + ?Sized), request: &str) {
    stream.write_all(request.as_bytes()).await.unwrap();
    answered(stream).await;
}

async fn answered(stream: &mut (impl Stream + ?Sized)) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nok\n") {
        let count = timeout(Duration::from_secs(5), stream.read_buf(&mut read)).await;
        let count = count.expect("an answer in 5 s").unwrap();
        assert_ne!(count, 0, "closed after {}", String::from_utf8_lossy(&read));
    }
    assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read));
}

/// For this long it neither says anything nor closes.
async fn stays_open(stream: &mut (impl Stream + ?Sized), wait: u64, what: &str) {
    let mut byte = [0];
    let read = timeout(Duration::from_millis(wait), stream.read(&mut byte)).await;
    assert!(read.is_err(), "{what}: {read:?}");
}

/// It closes, and not before `least` milliseconds have passed since then.
async fn closes(
    stream: &mut (impl Stream + ?Sized),
    (since, least): (Instant, u64),
    what: &str,
) -> Vec<u8> {
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "{what}: open after 5 s");
    let took = since.elapsed();
    assert!(took + Duration::from_millis(50) >= Duration::from_millis(least), "{what}: {took:?}");
    rest
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout() {
    let sides = Sides::new("header_timeout: 500ms").await;
    for what in ["plain", "tls"] {
        let mut stream = sides.connect(what, "http/1.1").await;
        for _ in 0..2 {
            exchange(&mut *stream, HEALTH).await;
            stays_open(&mut *stream, 1_200, what).await;
        }
    }
}

#[tokio::test]
async fn idle_timeout_closes_an_idle_connection() {
    let sides = Sides::new("header_timeout: 500ms, idle_timeout: 1500ms").await;
    for what in ["plain", "tls"] {
        let mut stream = sides.connect(what, "http/1.1").await;
        exchange(&mut *stream, HEALTH).await;
        stays_open(&mut *stream, 800, what).await;
        let since = Instant::now();
        exchange(&mut *stream, HEALTH).await;
        assert_eq!(closes(&mut *stream, (since, 1_500), what).await, b"", "{what}");
    }
}

/// Once its first byte is there, a head has the header timeout, however its bytes are spread.
#[tokio::test]
async fn a_later_head_has_its_timeout_from_its_first_byte() {
    let sides = Sides::new("header_timeout: 500ms").await;
    for begun in ["G", "GET /healthz HTTP/1.1\r\nhost"] {
        for what in ["plain", "tls"] {
            let mut stream = sides.connect(what, "http/1.1").await;
            exchange(&mut *stream, HEALTH).await;
            stays_open(&mut *stream, 1_100, what).await;
            let since = Instant::now();
            stream.write_all(begun.as_bytes()).await.unwrap();
            closes(&mut *stream, (since, 500), what).await;
        }
    }
    for what in ["plain", "tls"] {
        let mut stream = sides.connect(what, "http/1.1").await;
        exchange(&mut *stream, HEALTH).await;
        let since = Instant::now();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while stream.write_all(b"x").await.is_ok() {
            beat.tick().await;
            assert!(since.elapsed() < Duration::from_secs(3), "{what}: still open");
        }
        assert!(since.elapsed() >= Duration::from_millis(500), "{what}");
    }
}

/// A head that has begun is waited for, though the connection has been idle for long.
#[tokio::test]
async fn idle_timeout_cuts_no_head() {
    let sides = Sides::new("header_timeout: 10s, idle_timeout: 500ms").await;
    for what in ["plain", "tls"] {
        let mut stream = sides.connect(what, "http/1.1").await;
        exchange(&mut *stream, HEALTH).await;
        let (begun, rest) = HEALTH.split_at(10);
        stream.write_all(begun.as_bytes()).await.unwrap();
        stays_open(&mut *stream, 1_300, what).await;
        exchange(&mut *stream, rest).await;
    }
}

/// Two requests in one write, the second of them cut: its first later byte starts the timeout.
#[tokio::test]
async fn idle_timeout_spares_a_head_that_came_early() {
    let sides = Sides::new("header_timeout: 500ms").await;
    for what in ["plain", "tls"] {
        let mut stream = sides.connect(what, "http/1.1").await;
        exchange(&mut *stream, &format!("{HEALTH}GET /hea")).await;
        let since = Instant::now();
        stream.write_all(b"l").await.unwrap();
        closes(&mut *stream, (since, 500), what).await;
    }
}

/// A connection that serves one request after the other has no age.
#[tokio::test]
async fn idle_timeout_spares_a_busy_connection() {
    let sides = Sides::new("header_timeout: 500ms, idle_timeout: 2s").await;
    for what in ["plain", "tls"] {
        let mut stream = sides.connect(what, "http/1.1").await;
        for _ in 0..3 {
            exchange(&mut *stream, HEALTH).await;
            stays_open(&mut *stream, 900, what).await;
        }
    }
}

#[tokio::test]
async fn connections_of_http2_have_the_same_idle_timeout() {
    let sides = Sides::new("header_timeout: 500ms, idle_timeout: 1500ms").await;
    for what in ["plain", "tls"] {
        let stream = sides.connect(what, "h2").await;
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = crate::support::spawn(connection);
        let mut client: h2::client::SendRequest<bytes::Bytes> = client.ready().await.unwrap();
        let mut since = Instant::now();
        for _ in 0..3 {
            let request = http::Request::get("http://gateway/healthz").body(()).unwrap();
            since = Instant::now();
            let (response, _) = client.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200, "{what}");
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(!connection.is_finished(), "{what}: closed while in use");
        }
        let closed = timeout(Duration::from_secs(5), connection).await;
        closed.expect("closed in 5 s").unwrap().unwrap();
        assert!(
            since.elapsed() + Duration::from_millis(50) >= Duration::from_millis(1_500),
            "{what}"
        );
    }
}
