//! Accepted TCP socket, shared by hyper, which reads and writes it, and by the watch for its peer's hang-up. It never
//! parses what it carries, beyond the first bytes that name the protocol.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The beginning of an HTTP/2 connection (RFC 9113, section 3.4). No HTTP/1.1 method begins with it;
/// hyper reads the rest.
const HTTP2_PREFACE: &[u8; 4] = b"PRI ";

/// The first byte of every TLS connection: a record of type `handshake`. No HTTP begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// The longest pause of a peer while its remaining bytes are discarded.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval at which an incomplete HTTP/2 preface is examined, at first and at last.
const MIN_PEEK_INTERVAL: Duration = Duration::from_millis(10);
const MAX_PEEK_INTERVAL: Duration = Duration::from_secs(1);
/// The bytes that are discarded at once.
const DISCARD_BUFFER_BYTES: usize = 16 * 1024;

/// The protocol of a peer's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// TLS.
    Tls,
    /// HTTP/2 without TLS, with prior knowledge.
    Http2,
    /// HTTP/1.1, or unknown.
    Other,
}

/// A shared socket.
#[derive(Debug, Clone)]
pub(super) struct Socket(Arc<TcpStream>);

impl Socket {
    /// Prepares an accepted socket: no Nagle delay, keep-alive probes, and an end of the connection when the
    /// peer acknowledges no byte for `write_stall`.
    pub(super) fn new(stream: TcpStream, write_stall: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(write_stall))?;
        Ok(Self(Arc::new(stream)))
    }

    /// The protocol of the peer's first bytes on a port without TLS. They are left unread.
    pub(super) async fn peek_protocol(&self) -> io::Result<Protocol> {
        let mut first = [0; HTTP2_PREFACE.len()];
        let mut interval = MIN_PEEK_INTERVAL;
        loop {
            let got = self.0.peek(&mut first).await?;
            let bytes = first.get(..got).unwrap_or_default();
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if bytes.first() == Some(&TLS_HANDSHAKE) {
                return Ok(Protocol::Tls);
            }
            if !HTTP2_PREFACE.starts_with(bytes) {
                return Ok(Protocol::Other);
            }
            if got == HTTP2_PREFACE.len() {
                return Ok(Protocol::Http2);
            }
            // An incomplete preface: its unread bytes would wake this task again at once. A peer that sends no
            // more is examined less and less often.
            sleep(interval).await;
            interval = (interval * 2).min(MAX_PEEK_INTERVAL);
        }
    }

    /// Whether the peer begins a TLS handshake. Its bytes are left unread.
    pub(super) async fn is_tls(&self) -> io::Result<bool> {
        let mut first = [0];
        match self.0.peek(&mut first).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0] == TLS_HANDSHAKE),
        }
    }

    /// Writes a last text to the peer, while nothing else uses the socket.
    pub(super) async fn send(&self, text: &[u8]) -> io::Result<()> {
        self.clone().write_all(text).await
    }

    /// Closes the writing side and discards what the peer still sends, until it closes its side or
    /// pauses. A socket that is dropped with unread bytes is reset, and the reset may overtake the
    /// response that has the reason: too large, malformed, the wrong port.
    pub(super) async fn linger(&self) {
        if SockRef::from(&*self.0).shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut discarded = Vec::new();
        while let Ok(Ok(())) = timeout(LINGER_TIMEOUT, self.0.readable()).await {
            discarded.resize(DISCARD_BUFFER_BYTES, 0);
            match self.0.try_read(&mut discarded) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Resolves when the peer has closed its side. Unlike a read, it sees that behind unread bytes,
    /// which hide it from hyper (failure mode 10).
    pub(super) async fn hung_up(&self) {
        // Readiness for priority data comes with `READ_CLOSED`; the former is never used in HTTP.
        while let Ok(ready) = self.0.ready(Interest::PRIORITY).await {
            if ready.is_read_closed() || ready.is_error() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            // `send` costs less than `writev`, and a token is one slice.
            let written = match slices {
                [only] => self.0.try_write(only),
                several => self.0.try_write_vectored(several),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn fm50_a_peer_that_vanished_is_noticed_by_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = Socket::new(accepted, Duration::from_secs(30)).unwrap();
        let options = SockRef::from(&*socket.0);
        assert!(options.keepalive().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        #[cfg(target_os = "linux")]
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        assert!(options.tcp_nodelay().unwrap());
    }
}
