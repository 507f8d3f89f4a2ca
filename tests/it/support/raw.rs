//! Callers that write their own bytes, where an HTTP client would be too polite.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::gateway::KEY;

/// A caller's connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) read: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

impl Raw {
    pub(crate) async fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// A connection, unless it is refused.
    pub(crate) async fn try_new(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        Some(Self { stream, read: Vec::new() })
    }

    /// Writes; the other side may have disconnected.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Posts JSON with the test key and more header lines, each ending in CRLF.
    pub(crate) async fn post(&mut self, path: &str, headers: &str, body: &str) {
        assert!(self.write(post(path, headers, body)).await, "write");
    }

    /// Reads until the text so far contains `mark`, and returns it.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if text.contains(mark) {
                return text;
            }
            let read = timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.read)).await;
            let read = read.unwrap_or_else(|_| panic!("no {mark:?} in 20 s: {text}"));
            assert!(matches!(read, Ok(1..)), "closed before {mark:?}: {text}");
        }
    }

    /// Reads until the other side closes, however it does that; panics after 20 s.
    pub(crate) async fn rest(&mut self) -> String {
        let reading = async { while let Ok(1..) = self.stream.read_buf(&mut self.read).await {} };
        assert!(timeout(Duration::from_secs(20), reading).await.is_ok(), "open after 20 s");
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Reads one response with a content-length, and takes it out of what was read.
    pub(crate) async fn response(&mut self) -> Response {
        let text = self.until("\r\n\r\n").await;
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let mut response = Response { head: head.to_owned(), body: String::new() };
        let length: usize = response.header("content-length").first().unwrap().parse().unwrap();
        let whole = head.len() + 4 + length;
        while self.read.len() < whole {
            assert_ne!(self.stream.read_buf(&mut self.read).await.unwrap(), 0, "cut body");
        }
        response.body = String::from_utf8(self.read[head.len() + 4..whole].to_vec()).unwrap();
        self.read.drain(..whole);
        response
    }
}

/// A request's bytes.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}
