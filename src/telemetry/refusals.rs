//! Refused requests that reach no endpoint: unknown paths and methods, pages of origins that may not call, the wrong
//! port. All are counted, and logged at a bounded rate, so that clients cannot flood the log. The log never has a
//! query, which may hold a key.

use std::convert::Infallible;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Metrics, RefusedRequestLabels};

/// The most log lines of one reason within a [`WINDOW`].
const MAX_LINES: u32 = 5;
/// The most access log records of requests without a valid credential within a [`WINDOW`].
const MAX_UNAUTHENTICATED_RECORDS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// The interval between two reports of omitted records.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The most characters of a client's text in a log line.
const MAX_TEXT_CHARS: usize = 200;

/// The reason why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// No endpoint has the path.
    NotFound,
    /// The endpoint has another method.
    MethodNotAllowed,
    /// It requested a WebSocket.
    WebSocket,
    /// It came from a page of an origin that `server.cors.origins` does not list.
    OriginNotAllowed,
    /// TLS on a listener without TLS.
    TlsOnPlainPort,
    /// Plain HTTP on a listener with TLS.
    PlainOnTlsPort,
    /// Its head violates HTTP.
    MalformedHead,
}

impl RefusalReason {
    /// All of them, in the order of the variants.
    pub const ALL: [Self; 7] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::WebSocket,
        Self::OriginNotAllowed,
        Self::TlsOnPlainPort,
        Self::PlainOnTlsPort,
        Self::MalformedHead,
    ];

    /// The value of the label `reason`.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::WebSocket => "websocket",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::TlsOnPlainPort => "tls_on_plain_port",
            Self::PlainOnTlsPort => "plain_on_tls_port",
            Self::MalformedHead => "malformed_head",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::NotFound => "request refused: there is no such path",
            Self::MethodNotAllowed => "request refused: the path has another method",
            Self::WebSocket => {
                "request refused: no WebSockets here; clients fall back to plain requests"
            }
            Self::OriginNotAllowed => {
                "pages of this origin may not read answers; add it to server.cors.origins to allow it"
            }
            Self::TlsOnPlainPort => {
                "connection refused: TLS on a port without; its address begins with http:, or set server.tls"
            }
            Self::PlainOnTlsPort => {
                "connection refused: plain HTTP on a port with TLS; its address begins with https:"
            }
            Self::MalformedHead => {
                "request refused: its `host`, `transfer-encoding` or `expect` header breaks HTTP's rules"
            }
        }
    }
}

/// A refused request, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct RefusalSource<'r> {
    /// The id that the response carries.
    pub id: Option<&'r str>,
    /// The HTTP method.
    pub method: Option<&'r str>,
    /// The path, without the query.
    pub path: Option<&'r str>,
    /// The origin of the page that sent it.
    pub origin: Option<&'r str>,
    /// The peer's address, if nothing else is known.
    pub peer: Option<SocketAddr>,
}

/// Counts and logs refused requests.
#[derive(Debug)]
pub struct RefusalLog {
    metrics: Arc<Metrics>,
    windows: [Mutex<Window>; RefusalReason::ALL.len()],
    unauthenticated: Mutex<Window>,
    /// Notified when a record is omitted.
    omitted: Notify,
}

/// The log lines of one reason.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Window {
    /// Admits a line, of `most` in a window, and returns how many were suppressed since the last one. `None`: it is
    /// suppressed.
    fn line(&mut self, now: Instant, most: u32) -> Option<u64> {
        if self.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            (self.began, self.lines) = (Some(now), 0);
        }
        if self.lines == most {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(mem::take(&mut self.suppressed))
    }
}

impl RefusalLog {
    /// Creates a log that counts in these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            windows: Default::default(),
            unauthenticated: Mutex::default(),
            omitted: Notify::new(),
        }
    }

    /// Whether the access log may have another record of a request without a valid credential: clients without one
    /// must not fill the log.
    pub fn has_room(&self) -> bool {
        let Ok(mut window) = self.unauthenticated.lock() else { return false };
        let suppressed = window.suppressed;
        let room = window.line(Instant::now(), MAX_UNAUTHENTICATED_RECORDS).is_some();
        if room {
            // These are reported by `report`.
            window.suppressed = suppressed;
        } else {
            self.omitted.notify_one();
        }
        room
    }

    /// Logs how many records were omitted, once a second at most, for as long as it is polled. One task does so
    /// for all threads.
    pub async fn report(&self) -> Infallible {
        loop {
            self.omitted.notified().await;
            tokio::time::sleep(REPORT_INTERVAL).await;
            let suppressed =
                self.unauthenticated.lock().map(|mut it| mem::take(&mut it.suppressed));
            let suppressed = suppressed.unwrap_or_default();
            tracing::warn!(suppressed, "requests without a valid credential were not logged");
        }
    }

    /// Counts a refused request, and logs it within the bound.
    pub fn record(&self, reason: RefusalReason, request: &RefusalSource<'_>) {
        let word = reason.word();
        self.metrics.refused_requests.get_or_create(&RefusedRequestLabels { reason: word }).inc();
        let window = self.windows.get(reason as usize).and_then(|window| window.lock().ok());
        let line = window.and_then(|mut window| window.line(Instant::now(), MAX_LINES));
        let Some(suppressed) = line else { return };
        tracing::info!(
            reason = word,
            request_id = request.id,
            method = request.method.map(bounded),
            path = request.path.map(bounded),
            origin = request.origin.map(bounded),
            peer = request.peer.map(tracing::field::display),
            suppressed = Some(suppressed).filter(|lines| *lines > 0),
            "{}",
            reason.message()
        );
    }
}

/// A client's text, sanitized for a log line.
fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_writes_few_lines_and_their_number() {
        let mut window = Window::default();
        let lines: Vec<_> =
            (0..1000).filter_map(|_| window.line(Instant::now(), MAX_LINES)).collect();
        assert_eq!(lines, [0; MAX_LINES as usize]);
        tokio::time::advance(WINDOW).await;
        assert_eq!(window.line(Instant::now(), MAX_LINES), Some(1000 - u64::from(MAX_LINES)));
        assert_eq!(window.line(Instant::now(), MAX_LINES), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn records_without_a_credential_have_a_bound_and_the_rest_is_reported() {
        let log = RefusalLog::new(Arc::default());
        let written = (0..1000).filter(|_| log.has_room()).count();
        assert_eq!(written, MAX_UNAUTHENTICATED_RECORDS as usize);
        let suppressed = || log.unauthenticated.lock().unwrap().suppressed;
        assert_eq!(suppressed(), 1000 - u64::from(MAX_UNAUTHENTICATED_RECORDS));
        // It waits while there is nothing more to report.
        let reported = tokio::time::timeout(REPORT_INTERVAL * 2, log.report()).await;
        assert!(reported.is_err());
        assert_eq!(suppressed(), 0);
        tokio::time::advance(WINDOW).await;
        assert!(log.has_room());
    }

    #[test]
    fn text_is_bounded_and_without_control_characters() {
        assert_eq!(bounded("/a\u{1b}[31m\n\u{7f}b"), "/a[31mb");
        assert_eq!(bounded(&"ä".repeat(1000)), "ä".repeat(MAX_TEXT_CHARS));
    }
}
