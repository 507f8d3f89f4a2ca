//! Header timeout over HTTP/1.1, from the head's first byte: hyper's own runs from the end of the response before, and
//! would close connections that load balancers keep for reuse. It never closes a connection that is only idle;
//! `connection.rs` does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Transport;
use super::write_timeout;

/// Whether bytes have arrived since hyper began to wait for a head. Shared by the timer that resets
/// it, the transport that sets it, and the idle timeout, which spares a head in progress.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadStarted(Arc<AtomicBool>);

impl HeadStarted {
    /// Whether a head is being read. While a request is served, it may be a body.
    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The timer for hyper. hyper starts a sleep whenever it begins to wait for a head, and polls it after each
/// read that did not complete the head. A partial head that arrived with the request before does not
/// start the deadline; its next byte does.
pub(super) struct HeadTimer {
    pub(super) started: HeadStarted,
    pub(super) timeout: Duration,
}

#[expect(clippy::disallowed_types, reason = "hyper's trait has them, and sleeps are tokio's")]
impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.started.0.store(false, Relaxed);
        Box::pin(HeadSleep { started: self.started.clone(), timeout: self.timeout, running: None })
    }

    fn sleep_until(&self, _: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(self.timeout)
    }

    fn now(&self) -> std::time::Instant {
        tokio::time::Instant::now().into()
    }
}

/// Waits for the first byte, then for `timeout`. The sleep is allocated with the first byte, so that
/// an idle connection holds none.
struct HeadSleep {
    started: HeadStarted,
    timeout: Duration,
    running: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.started.get() {
            // The read that brings the first byte wakes the task.
            return Poll::Pending;
        }
        let timeout = self.timeout;
        let running = self.running.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        running.as_mut().poll(cx)
    }
}

impl Sleep for HeadSleep {}

/// A transport that notes arriving bytes, and bytes that the socket does not accept.
pub(super) struct HeadWatch {
    pub(super) transport: Transport,
    pub(super) started: HeadStarted,
}

impl AsyncRead for HeadWatch {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.transport).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.started.0.store(true, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for HeadWatch {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write(cx, bytes);
        if polled.is_pending() {
            write_timeout::note_unsent(true);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    /// hyper calls it when it holds nothing more; TLS may.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.transport).poll_flush(cx);
        write_timeout::note_unsent(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
