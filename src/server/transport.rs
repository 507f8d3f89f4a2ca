//! Connection transport: plain TCP or TLS, and the HTTP version spoken over it (ALPN, or the HTTP/2 preface). It never
//! reads a request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::socket::{Protocol, Socket};
use crate::telemetry::RefusalReason;

/// The ALPN name of HTTP/2.
const ALPN_HTTP2: &[u8] = b"h2";

/// The response to plain HTTP on a listener with TLS. nginx does the same.
const PLAIN_ON_TLS_RESPONSE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 53\r\nconnection: close\r\n\r\n\
    this port speaks TLS: the address begins with https:\n";

/// The response to TLS on a listener without TLS. Not a TLS alert: clients report a response that is not TLS as the
/// wrong port (OpenSSL: "wrong version number"; Go: "server gave HTTP response to HTTPS client"), and an alert as a
/// mismatch of versions or ciphers.
const TLS_ON_PLAIN_RESPONSE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 61\r\nconnection: close\r\n\r\n\
    this port speaks plain HTTP: the address begins with http://\n";

/// The HTTP version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpVersion {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection that is ready for HTTP.
pub(super) enum Transport {
    /// Without encryption.
    Plain(Socket),
    /// After the handshake.
    Tls(Box<TlsStream<Socket>>),
}

/// The result of [`negotiate`].
pub(super) enum Negotiation {
    /// The connection is ready for HTTP.
    Ready {
        /// Carries its bytes.
        transport: Transport,
        /// The HTTP version.
        version: HttpVersion,
    },
    /// The peer speaks TLS to a plain port, or the reverse, and has received a response that reports it.
    WrongPort(RefusalReason),
}

/// Performs the TLS handshake, if there is one, and finds the HTTP version.
pub(super) async fn negotiate(
    socket: &Socket,
    tls: Option<Arc<ServerConfig>>,
) -> io::Result<Negotiation> {
    let Some(tls) = tls else {
        let version = match socket.peek_protocol().await? {
            Protocol::Tls => {
                socket.send(TLS_ON_PLAIN_RESPONSE.as_bytes()).await?;
                return Ok(Negotiation::WrongPort(RefusalReason::TlsOnPlainPort));
            }
            Protocol::Http2 => HttpVersion::Http2,
            Protocol::Other => HttpVersion::Http1,
        };
        return Ok(Negotiation::Ready { transport: Transport::Plain(socket.clone()), version });
    };
    if !socket.is_tls().await? {
        socket.send(PLAIN_ON_TLS_RESPONSE.as_bytes()).await?;
        return Ok(Negotiation::WrongPort(RefusalReason::PlainOnTlsPort));
    }
    let stream = TlsAcceptor::from(tls).accept(socket.clone()).await?;
    let version = if stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2) {
        HttpVersion::Http2
    } else {
        HttpVersion::Http1
    };
    Ok(Negotiation::Ready { transport: Transport::Tls(Box::new(stream)), version })
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            // All slices become one TLS record, as far as they fit.
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
