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

use super::socket::Socket;

/// The first byte of every TLS connection: a record of the kind `handshake`. No HTTP begins so.
const HANDSHAKE: u8 = 0x16;
/// What HTTP/2 is called in a handshake.
const H2: &[u8] = b"h2";

/// What is said to those who speak plain HTTP to a listener with TLS. nginx does the same.
const MISDIRECTED: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 53\r\nconnection: close\r\n\r\n\
    this port speaks TLS: the address begins with https:\n";

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

/// Makes an accepted socket ready. `None`: there is nothing to serve on it.
pub(super) async fn open(
    socket: &Socket,
    tls: Option<Arc<ServerConfig>>,
) -> io::Result<Option<(Transport, Http)>> {
    let Some(tls) = tls else {
        let http = if socket.is_http2().await? { Http::Two } else { Http::One };
        return Ok(Some((Transport::Plain(socket.clone()), http)));
    };
    if socket.first_byte().await? != HANDSHAKE {
        socket.say(MISDIRECTED.as_bytes()).await?;
        return Ok(None);
    }
    let stream = TlsAcceptor::from(tls).accept(socket.clone()).await?;
    let http = if stream.get_ref().1.alpn_protocol() == Some(H2) { Http::Two } else { Http::One };
    Ok(Some((Transport::Tls(Box::new(stream)), http)))
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
