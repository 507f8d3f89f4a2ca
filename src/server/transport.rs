//! What carries a connection's HTTP: the socket itself, or TLS over it. Finds out which HTTP that is,
//! and never decides what becomes of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::socket::{Opening, Socket};
use crate::telemetry::RefusalReason;

/// What HTTP/2 is called in a handshake.
const H2: &[u8] = b"h2";

/// The answer to plain HTTP on a listener with TLS. nginx does the same.
const PLAIN_ON_TLS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 53\r\nconnection: close\r\n\r\n\
    this port speaks TLS: the address begins with https:\n";

/// The answer to TLS on a listener without. Not a TLS alert: what is no TLS at all is what clients
/// report as the wrong port (OpenSSL: "wrong version number"; Go: "server gave HTTP response to HTTPS
/// client"), and an alert as a mismatch of versions or ciphers.
const TLS_ON_PLAIN: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 61\r\nconnection: close\r\n\r\n\
    this port speaks plain HTTP: the address begins with http://\n";

/// The version that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    /// HTTP/1.1 or 1.0.
    One,
    /// HTTP/2.
    Two,
}

/// A connection that is ready for HTTP.
pub(super) enum Transport {
    /// Without encryption.
    Plain(Socket),
    /// After the handshake.
    Tls(Box<TlsStream<Socket>>),
}

/// What an accepted socket turned out to be.
pub(super) enum Opened {
    /// It is ready for HTTP.
    Ready((Transport, Http)),
    /// Its peer speaks what another port speaks, and has been answered so.
    WrongPort(RefusalReason),
}

/// Makes an accepted socket ready.
pub(super) async fn open(socket: &Socket, tls: Option<Arc<ServerConfig>>) -> io::Result<Opened> {
    let Some(tls) = tls else {
        let http = match socket.opening().await? {
            Opening::Tls => {
                socket.say(TLS_ON_PLAIN.as_bytes()).await?;
                return Ok(Opened::WrongPort(RefusalReason::TlsOnPlainPort));
            }
            Opening::Http2 => Http::Two,
            Opening::Other => Http::One,
        };
        return Ok(Opened::Ready((Transport::Plain(socket.clone()), http)));
    };
    if !socket.is_tls().await? {
        socket.say(PLAIN_ON_TLS.as_bytes()).await?;
        return Ok(Opened::WrongPort(RefusalReason::PlainOnTlsPort));
    }
    let stream = TlsAcceptor::from(tls).accept(socket.clone()).await?;
    let http = if stream.get_ref().1.alpn_protocol() == Some(H2) { Http::Two } else { Http::One };
    Ok(Opened::Ready((Transport::Tls(Box::new(stream)), http)))
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
            // All slices become one record, as far as it holds them.
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
