//! Streams over TLS: everything that holds over plain TCP, with the ways to leave that TLS adds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{
    PAIRS, PATIENCE, ask, before, begun, body, ending, error_of, good, http2, preamble, read_until,
    record, settled, strictly, token, token_text,
};
use crate::support::Ended;
use crate::support::certificate::{Certificate, secure};
use crate::support::gateway::{Gateway, KEY, Log, configuration, yaml};
use crate::support::upstream::{Step, Upstream};

/// The goal is 100 ms; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(1);

/// A gateway that speaks TLS.
async fn protected(upstream: &Upstream, (server, more): (&str, &str)) -> (Gateway, Certificate) {
    let certificate = Certificate::new();
    let mut gateway = before(upstream, &format!("{}{more}", certificate.server(server))).await;
    certificate.trusted_by(&mut gateway);
    (gateway, certificate)
}

/// A caller with an answer, over either HTTP.
enum Caller {
    One(reqwest::Response),
    Two(h2::RecvStream),
}

const BOTH: [http::Version; 2] = [http::Version::HTTP_11, http::Version::HTTP_2];

impl Caller {
    async fn ask(
        (gateway, certificate): (&Gateway, &Certificate),
        version: http::Version,
        (dialect, model): (&str, &str),
    ) -> Self {
        if version == http::Version::HTTP_11 {
            let response = ask(gateway, dialect, model).send().await.unwrap();
            assert_eq!((response.status(), response.version()), (http::StatusCode::OK, version));
            return Self::One(response);
        }
        let mut client = two(gateway, certificate).await.0;
        let (response, _sent) = http2::ask(&mut client, dialect, body(model, true));
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        Self::Two(response.into_body())
    }

    async fn until(&mut self, what: &str) -> String {
        match self {
            Self::One(response) => String::from_utf8(read_until(response, what).await).unwrap(),
            Self::Two(body) => http2::read(body, Some(what)).await,
        }
    }

    /// An end that neither HTTP nor TLS confirmed is an error.
    async fn rest(self) -> String {
        match self {
            Self::One(response) => response.text().await.unwrap(),
            Self::Two(mut body) => http2::read(&mut body, None).await,
        }
    }
}

/// A connection that speaks HTTP/2, and the task that drives it.
async fn two(gateway: &Gateway, certificate: &Certificate) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let stream = secure(gateway, &Arc::new(certificate.config(&["h2"]))).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = crate::support::spawn(async move { connection.await.unwrap_or_default() });
    (client.ready().await.unwrap(), driving)
}

/// A socket after the handshake, with a request in HTTP/1.1 on it.
async fn asked(gateway: &Gateway, certificate: &Certificate, body: &str) -> TlsStream<TcpStream> {
    let mut stream = secure(gateway, &Arc::new(certificate.config(&["http/1.1"]))).await.unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn says(stream: &mut TlsStream<TcpStream>, what: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(what) {
        let read = timeout(PATIENCE, stream.read_buf(&mut seen)).await.expect("more in time");
        assert!(read.unwrap() > 0, "ended without {what:?}");
    }
}

#[tokio::test]
async fn streams_pass_over_either_http() {
    for (caller, provider) in PAIRS {
        for version in BOTH {
            let upstream = Upstream::new(good(provider)).await;
            let (gateway, certificate) = protected(&upstream, ("", "")).await;
            let asked = (caller, &*format!("{provider}/m"));
            let answer = Caller::ask((&gateway, &certificate), version, asked).await;
            let read = strictly(caller, &answer.rest().await);
            assert_eq!(read.ended, Ended::Complete);
            assert_eq!(read.choices[&0].text, "Hello");
        }
    }
}

/// Failure modes 1 and 10: a caller who drops its connection, before the head, in silence after it
/// and in mid-stream.
#[tokio::test]
async fn fm01_fm10_a_disconnect_over_tls_cancels_the_upstream_request() {
    for (caller, provider) in PAIRS {
        for version in BOTH {
            for script in [
                vec![Step::Hang],
                vec![Step::Sse, preamble(provider), Step::Hang],
                begun(provider, [Step::Hang]),
            ] {
                let log = Log::default();
                let _capture = log.capture();
                let upstream = Upstream::new(script).await;
                let (gateway, certificate) = protected(&upstream, ("", "")).await;
                let model = format!("{provider}/m");
                let asking = if version == http::Version::HTTP_11 {
                    let asking = ask(&gateway, caller, &model).send();
                    crate::support::spawn(async move {
                        let _answer = asking.await;
                        std::future::pending::<()>().await;
                    })
                } else {
                    let (mut client, driving) = two(&gateway, &certificate).await;
                    let _streams = http2::ask(&mut client, caller, body(&model, true));
                    upstream.until("asked", |requests, _| requests == 1).await;
                    driving
                };
                upstream.until("asked", |requests, _| requests == 1).await;
                // Its connection goes with it.
                asking.abort();
                asking.await.unwrap_or_default();
                let took = upstream.all_closed().await;
                assert!(took < SOON, "{caller} from {provider}: {took:?}");
                assert_eq!(record(&gateway, &log).await["outcome"], "client_gone");
            }
        }
    }
}

/// Ways to disconnect over TLS.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// TLS is closed, and the socket is.
    Politely,
    /// TLS is closed, and the socket stays open.
    ClosingTlsAlone,
    /// The socket is closed, and TLS is not.
    Abruptly,
    /// The socket is reset.
    Reset,
}

async fn leave(mut stream: TlsStream<TcpStream>, how: Leave) -> Option<TlsStream<TcpStream>> {
    match how {
        Leave::Politely => stream.shutdown().await.unwrap(),
        Leave::ClosingTlsAlone => {
            stream.get_mut().1.send_close_notify();
            stream.flush().await.unwrap();
            return Some(stream);
        }
        Leave::Abruptly => {}
        Leave::Reset => {
            socket2::SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    None
}

/// Failure mode 10, with bytes behind the request too, which hyper does not look past. A close of
/// TLS alone behind such bytes is nothing that a caller does.
#[tokio::test]
async fn fm10_every_kind_of_cancel_is_noticed_over_tls() {
    for provider in ["oai", "ant"] {
        for how in [Leave::Politely, Leave::ClosingTlsAlone, Leave::Abruptly, Leave::Reset] {
            for (silent, behind) in [(true, ""), (false, ""), (false, "GET / HTTP/1.1\r\n")] {
                if !behind.is_empty() && matches!(how, Leave::ClosingTlsAlone) {
                    continue;
                }
                let script = if silent { vec![Step::Hang] } else { begun(provider, [Step::Hang]) };
                let upstream = Upstream::new(script).await;
                let (gateway, certificate) = protected(&upstream, ("", "")).await;
                let body = body(&format!("{provider}/m"), true);
                let mut stream = asked(&gateway, &certificate, &body).await;
                stream.write_all(behind.as_bytes()).await.unwrap();
                upstream.until("asked", |requests, _| requests == 1).await;
                if !silent {
                    says(&mut stream, "Hello").await;
                }
                let _still_open = leave(stream, how).await;
                let took = upstream.all_closed().await;
                assert!(took < SOON, "{how:?} {silent} {behind:?}: {took:?}");
                settled(&gateway).await;
            }
        }
    }
}

/// Failure mode 1: one stream of a connection is reset, its sibling lives on.
#[tokio::test]
async fn fm01_cancel_of_an_http2_stream_over_tls_leaves_its_siblings_alone() {
    for (caller, provider) in PAIRS {
        let gate = Arc::new(Notify::new());
        let rest = [Step::Gate(Arc::clone(&gate)), ending(provider), Step::End];
        let scripts = vec![begun(provider, rest), begun(provider, [Step::Hang])];
        let upstream = Upstream::scripted(scripts).await;
        let (gateway, certificate) = protected(&upstream, ("", "")).await;
        let mut client = two(&gateway, &certificate).await.0;
        let body = body(&format!("{provider}/m"), true);
        let (sibling, _open) = http2::ask(&mut client, caller, body.clone());
        let mut sibling = sibling.await.unwrap().into_body();
        let mut text = http2::read(&mut sibling, Some("Hello")).await;
        let (doomed, mut sending) = http2::ask(&mut client, caller, body);
        http2::read(&mut doomed.await.unwrap().into_body(), Some("Hello")).await;
        sending.send_reset(h2::Reason::CANCEL);
        let took = upstream.until("the upstream of one closed", |_, open| open == 1).await;
        assert!(took < SOON, "{took:?}");
        gate.notify_one();
        text += &http2::read(&mut sibling, None).await;
        assert_eq!(strictly(caller, &text).ended, Ended::Complete);
        settled(&gateway).await;
    }
}

#[tokio::test]
async fn fm19_streams_over_tls_run_on_while_draining() {
    for (caller, provider) in PAIRS {
        for version in BOTH {
            let gate = Arc::new(Notify::new());
            let rest = [Step::Gate(Arc::clone(&gate)), ending(provider), Step::End];
            let upstream = Upstream::new(begun(provider, rest)).await;
            let (gateway, certificate) = protected(&upstream, ("drain: 10s", "")).await;
            let asked = (caller, &*format!("{provider}/m"));
            let mut answer = Caller::ask((&gateway, &certificate), version, asked).await;
            let mut text = answer.until("Hello").await;
            gateway.shutdown.stopping.cancel();
            while TcpStream::connect(gateway.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            gate.notify_one();
            text += &answer.rest().await;
            assert_eq!(strictly(caller, &text).ended, Ended::Complete);
            timeout(PATIENCE, gateway.done).await.expect("drained in time").unwrap();
        }
    }
}

#[tokio::test]
async fn fm19_a_stream_over_tls_that_outlasts_the_drain_gets_an_error() {
    for (caller, provider) in PAIRS {
        for version in BOTH {
            let upstream = Upstream::new(begun(provider, [Step::Hang])).await;
            let (gateway, certificate) = protected(&upstream, ("drain: 50ms", "")).await;
            let asked = (caller, &*format!("{provider}/m"));
            let mut answer = Caller::ask((&gateway, &certificate), version, asked).await;
            let mut text = answer.until("Hello").await;
            gateway.shutdown.stopping.cancel();
            text += &answer.rest().await;
            assert!(error_of(caller, &text).contains("shutting down"), "{text}");
            upstream.all_closed().await;
            timeout(PATIENCE, gateway.done).await.expect("drained in time").unwrap();
        }
    }
}

/// Failure mode 48: what a caller does not take is not fetched, and after `write_stall` it is cut
/// off, without a close that would make the stream look finished.
#[tokio::test]
async fn fm48_write_timeout_ends_an_unread_stream_over_tls() {
    for provider in ["oai", "ant"] {
        let log = Log::default();
        let _capture = log.capture();
        let event = token_text(provider, &"x".repeat(16 * 1024)).into_bytes();
        let flood = begun(provider, [Step::Repeat(event, 12_500), ending(provider), Step::End]);
        let upstream = Upstream::new(flood).await;
        let more = "stream: { write_stall: 200ms, heartbeat: 50ms }\n";
        let (gateway, certificate) = protected(&upstream, ("", more)).await;
        let body = body(&format!("{provider}/m"), true);
        let mut stream = asked(&gateway, &certificate, &body).await;
        upstream.until("asked", |requests, _| requests == 1).await;
        upstream.all_closed().await;
        assert!(upstream.sent() < 40 << 20, "{} bytes", upstream.sent());
        assert_eq!(record(&gateway, &log).await["outcome"], "client_gone");
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).await.is_err(), "a cut stream looks finished");
    }
}

/// Each token leaves in a record of its own, not in pieces and not late.
#[tokio::test]
async fn a_token_is_one_record() {
    const TOKENS: usize = 5;
    for provider in ["oai", "ant"] {
        let gate = Arc::new(Notify::new());
        let mut script = begun(provider, []);
        for number in 0..TOKENS {
            script.push(Step::Gate(Arc::clone(&gate)));
            script.push(token(provider, &format!("token{number}")));
        }
        script.push(Step::Hang);
        let upstream = Upstream::new(script).await;
        let (gateway, certificate) = protected(&upstream, ("", "")).await;
        let body = body(&format!("{provider}/m"), true);
        let mut stream = asked(&gateway, &certificate, &body).await;
        says(&mut stream, "Hello").await;
        for number in 0..TOKENS {
            gate.notify_one();
            // As they come off the wire: kind, version and length stand before each record.
            stream.get_ref().0.readable().await.unwrap();
            let mut wire = vec![0; 64 * 1024];
            let got = stream.get_ref().0.peek(&mut wire).await.unwrap();
            let length = usize::from(u16::from_be_bytes([wire[3], wire[4]]));
            assert_eq!((wire[0], got), (23, 5 + length), "more or less than a record");
            says(&mut stream, &format!("token{number}")).await;
        }
    }
}

/// The certificate is replaced while a stream is under way: it goes on, and the next caller is shown
/// the new one.
#[tokio::test]
async fn a_stream_outlives_its_certificate() {
    for version in BOTH {
        let gate = Arc::new(Notify::new());
        let rest = [Step::Gate(Arc::clone(&gate)), ending("oai"), Step::End];
        let upstream = Upstream::scripted(vec![begun("oai", rest), good("oai")]).await;
        let mut certificate = Certificate::new();
        let yaml = yaml(&upstream.url, &upstream.url, &certificate.server(""));
        let mut gateway = Gateway::new(&yaml).await;
        certificate.trusted_by(&mut gateway);
        let asked = ("openai-chat", "oai/m");
        let mut answer = Caller::ask((&gateway, &certificate), version, asked).await;
        let mut text = answer.until("Hello").await;
        let old = Arc::new(certificate.config(&[]));
        certificate.renew();
        gateway.app.reload(configuration(&yaml));
        certificate.trusted_by(&mut gateway);
        let second = Caller::ask((&gateway, &certificate), version, asked).await;
        strictly("openai-chat", &second.rest().await);
        secure(&gateway, &old).await.expect_err("it is shown the new one, too");
        gate.notify_one();
        text += &answer.rest().await;
        strictly("openai-chat", &text);
        settled(&gateway).await;
    }
}
