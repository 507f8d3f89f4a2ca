//! Handshakes: what is agreed on, what is refused, what is resumed, and how long one may take.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::{self, ClientConfig, HandshakeKind, ProtocolVersion};

use crate::support::answers::streamed;
use crate::support::certificate::{Certificate, secure};
use crate::support::gateway::{Gateway, configuration, yaml};
use crate::support::process::{File, Process, run};
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn gateway(server: &str) -> (Gateway, Certificate, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let certificate = Certificate::new();
    let yaml = yaml(&upstream.url, &upstream.url, &certificate.server(server));
    (Gateway::new(&yaml).await, certificate, upstream)
}

/// A whole exchange in HTTP/1.1, so that session tickets have arrived. Tells how hands were shaken.
async fn exchange(gateway: &Gateway, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut stream = secure(gateway, config).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("closed with a close of TLS");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn the_protocol_is_agreed_on() {
    let (gateway, certificate, _upstream) = gateway("").await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = secure(&gateway, &Arc::new(certificate.config(offered))).await.unwrap();
        let alpn = stream.get_ref().1.alpn_protocol();
        assert_eq!(alpn, agreed.map(str::as_bytes), "{offered:?}");
    }
    let refused = secure(&gateway, &Arc::new(certificate.config(&["spdy/3"]))).await;
    assert!(refused.unwrap_err().to_string().contains("NoApplicationProtocol"));
    // Without ALPN, it is HTTP/1.1.
    exchange(&gateway, &Arc::new(certificate.config(&[]))).await;
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let (gateway, certificate, _upstream) = gateway("").await;
    for (version, number) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = secure(&gateway, &Arc::new(config)).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(number));
    }
    // A hello of TLS 1.0, without extensions: one cipher suite, no compression.
    let body = [&[3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let mut raw = Raw::new(gateway.address).await;
    raw.write(hello).await;
    raw.rest().await;
    assert_eq!(raw.read[..2], [0x15, 3], "an alert");
}

/// Sessions are resumed by whichever worker, and across a reload that keeps the certificate.
#[tokio::test]
async fn sessions_are_resumed_until_the_certificate_is_another() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let mut certificate = Certificate::new();
    let mut yaml = yaml(&upstream.url, &upstream.url, &certificate.server(""));
    let gateway = Gateway::new(&yaml).await;
    let config = Arc::new(certificate.config(&["http/1.1"]));
    assert_eq!(exchange(&gateway, &config).await, HandshakeKind::Full);
    assert_eq!(exchange(&gateway, &config).await, HandshakeKind::Resumed);
    yaml.push_str("stream: { heartbeat: 7s }\n");
    gateway.app.reload(configuration(&yaml));
    assert_eq!(exchange(&gateway, &config).await, HandshakeKind::Resumed);
    certificate.renew();
    gateway.app.reload(configuration(&yaml));
    let refused = secure(&gateway, &config).await.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    let config = Arc::new(certificate.config(&["http/1.1"]));
    assert_eq!(exchange(&gateway, &config).await, HandshakeKind::Full);
}

#[tokio::test]
async fn tls_comes_and_goes_with_the_configuration() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let certificate = Certificate::new();
    let plain = yaml(&upstream.url, &upstream.url, "");
    let gateway = Gateway::new(&plain).await;
    let health = |scheme: &str| {
        let client = certificate.client();
        client.get(format!("{scheme}://{}/healthz", gateway.address)).send()
    };
    assert_eq!(health("http").await.unwrap().status(), 200);
    gateway.app.reload(configuration(&format!("{plain}{}", certificate.server(""))));
    assert_eq!(health("https").await.unwrap().status(), 200);
    gateway.app.reload(configuration(&plain));
    assert!(health("https").await.is_err());
    assert_eq!(health("http").await.unwrap().status(), 200);
}

#[tokio::test]
async fn plain_http_to_a_tls_port_gets_an_explanation() {
    let (gateway, _certificate, _upstream) = gateway("").await;
    let long =
        format!("POST / HTTP/1.1\r\ncontent-length: 4000000\r\n\r\n{}", "x".repeat(4_000_000));
    for begun in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &long] {
        let mut raw = Raw::new(gateway.address).await;
        assert!(raw.write(begun).await);
        let response = raw.response().await;
        assert_eq!(response.status(), 400);
        assert!(response.body.contains("https:"), "{response:?}");
        assert_eq!(raw.rest().await, "");
    }
}

#[tokio::test]
async fn tls_to_a_plain_port_is_closed() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    let config = Arc::new(Certificate::new().config(&["h2", "http/1.1"]));
    let refused = timeout(Duration::from_secs(2), secure(&gateway, &config)).await;
    assert!(refused.expect("closed at once").is_err());
}

/// The program itself: HTTPS from its first line on, another certificate at a signal, and the running
/// one for as long as the new one is wrong.
#[tokio::test]
async fn the_program_takes_a_new_certificate_at_a_signal() {
    let mut certificate = Certificate::new();
    let yaml = |server: String| yaml("http://127.0.0.1:1", "http://127.0.0.1:1", &server);
    let file = File::new(&yaml(certificate.server("listen: 127.0.0.1:0")));
    let (mut process, url) = Process::gateway(&file, "info").await;
    assert!(url.starts_with("https://"), "{url}");
    let health = |client: reqwest::Client| client.get(format!("{url}/healthz")).send();
    let old = certificate.client();
    assert_eq!(health(old.clone()).await.unwrap().status(), 200);
    certificate.renew();
    process.signal("HUP");
    process.log("configuration reloaded").await;
    assert_eq!(health(certificate.client()).await.unwrap().status(), 200);
    assert_eq!(health(old).await.unwrap().status(), 200, "on the connection that it has");
    certificate.spoil();
    process.signal("HUP");
    let log = process.log("stays in force").await;
    assert!(log.contains("`key` has no private key"), "{log}");
    assert_eq!(health(certificate.client()).await.unwrap().status(), 200);
}

/// Nobody has to send a signal: the certificate's files are watched as the configuration's are.
#[tokio::test]
async fn the_program_takes_a_new_certificate_from_its_files() {
    let mut certificate = Certificate::new();
    let yaml = |server: String| yaml("http://127.0.0.1:1", "http://127.0.0.1:1", &server);
    let file = File::new(&yaml(certificate.server("listen: 127.0.0.1:0")));
    let (mut process, url) = Process::gateway(&file, "info").await;
    let health = async |client: reqwest::Client| {
        let response = client.get(format!("{url}/healthz")).send().await;
        response.is_ok_and(|response| response.status() == 200)
    };
    let first = certificate.client();
    assert!(health(certificate.client()).await);

    certificate.reissue();
    process.log("configuration reloaded").await;
    assert!(health(certificate.client()).await, "only the certificate's file is another");
    assert!(health(first).await, "on the connection that it has");

    // A renewal that is caught between its two files.
    let (second, next) = (certificate.client(), Certificate::new());
    certificate.adopt(&next, "cert.pem");
    let log = process.log("stays in force").await;
    assert!(log.contains("`key` does not belong to the first certificate"), "{log}");
    assert!(health(second.clone()).await);
    certificate.adopt(&next, "key.pem");
    let twice = async {
        while process.logged().matches("configuration reloaded").count() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), twice).await.expect("the second file is seen, too");
    assert!(health(certificate.client()).await);
}

#[test]
fn check_reports_problems_of_certificates() {
    let certificate = Certificate::new();
    let yaml = yaml("http://127.0.0.1:1", "http://127.0.0.1:1", &certificate.server(""));
    let file = File::new(&yaml);
    let (status, out, err) = run(&["check", "--config", file.path()]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    certificate.expire();
    let (status, out, err) = run(&["check", "--config", file.path()]);
    assert_eq!(status, Some(0), "{out}");
    assert!(err.contains(": warning: `cert` has expired"), "{err}");
    certificate.spoil();
    let (status, _, err) = run(&["check", "--config", file.path()]);
    assert_eq!(status, Some(2));
    assert!(err.contains("`key` has no private key"), "{err}");
}

/// Failure mode 67: handshakes that do not come to an end are not waited for.
#[tokio::test]
async fn fm67_handshake_timeout() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let (gateway, certificate, _upstream) = gateway("header_timeout: 300ms").await;
    // Nothing; the beginning of a record; a whole record header; after a hello, silence.
    let hello = hello(&certificate);
    for begun in [&[][..], &[0x16], &[0x16, 3, 1, 2, 0], &hello[..hello.len() / 2], &hello] {
        let since = Instant::now();
        let mut raw = Raw::new(gateway.address).await;
        raw.write(begun).await;
        raw.rest().await;
        let took = since.elapsed();
        assert!(took + Duration::from_millis(50) >= DEADLINE, "{} bytes: {took:?}", begun.len());
        assert!(took < Duration::from_secs(3), "{} bytes: {took:?}", begun.len());
    }
    // One byte at a time has the same deadline.
    let since = Instant::now();
    let mut raw = Raw::new(gateway.address).await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    for byte in hello {
        beat.tick().await;
        if !raw.write([byte]).await {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(3), "still open");
    }
    // After a handshake, the head has its own.
    for alpn in ["h2", "http/1.1"] {
        let since = Instant::now();
        let mut stream = secure(&gateway, &Arc::new(certificate.config(&[alpn]))).await.unwrap();
        stream.write_all(b"P").await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{alpn}");
        assert!(since.elapsed() + Duration::from_millis(50) >= DEADLINE, "{alpn}");
    }
}

/// Handshakes that nobody ends hold up nobody else's.
#[tokio::test]
async fn fm67_a_hundred_unfinished_handshakes_block_no_other_connection() {
    let (mut gateway, certificate, _upstream) = gateway("").await;
    certificate.trusted_by(&mut gateway);
    let hello = hello(&certificate);
    let mut begun = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        begun.push(stream);
    }
    let chat = async { gateway.chat("oai/m").send().await.unwrap().text().await.unwrap() };
    let text = timeout(Duration::from_secs(2), chat).await.expect("answered at once");
    assert!(text.ends_with("data: [DONE]\n\n"));
}

/// The first bytes of a client.
fn hello(certificate: &Certificate) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let config = Arc::new(certificate.config(&["h2"]));
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
