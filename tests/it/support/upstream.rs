//! A scripted upstream on port 0: says byte for byte what a test wants, and tells what it saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

/// One step of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Bytes as they are: for whole responses with their own head.
    Raw(Vec<u8>),
    /// A response head for a chunked event stream.
    Sse,
    /// A response head with this status and these headers, and this body.
    Whole(u16, &'static str, Vec<u8>),
    /// A chunk of a chunked body.
    Chunk(Vec<u8>),
    /// The end of a chunked body.
    End,
    /// Wait until the test says go.
    Gate(Arc<Notify>),
    /// Wait.
    Pause(Duration),
    /// Send nothing more; stay until the other side closes.
    Hang,
    /// Close with a reset.
    Reset,
    /// Close.
    Close,
    /// Wait for the next request and close without an answer, unread: the race of a pooled
    /// connection that its server gives up just as it is used again.
    CloseWhenAsked,
    /// A chunk, so many times.
    Repeat(Vec<u8>, usize),
}

impl Step {
    pub(crate) fn chunk(text: &str) -> Self {
        Self::Chunk(text.as_bytes().to_vec())
    }
}

/// One request as the upstream received it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A scripted upstream. Each request takes the next script; the last one repeats.
pub(crate) struct Upstream {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    scripts: Vec<Vec<Step>>,
    requests: Mutex<Vec<Seen>>,
    open: AtomicUsize,
    connections: AtomicUsize,
    sent: AtomicUsize,
    changed: Notify,
}

impl Upstream {
    /// Every request gets this answer.
    pub(crate) async fn new(script: Vec<Step>) -> Self {
        Self::scripted(vec![script]).await
    }

    /// The first request gets the first answer, and so on.
    pub(crate) async fn scripted(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { scripts, ..Shared::default() });
        let serving = Arc::clone(&shared);
        super::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                shared.connections.fetch_add(1, SeqCst);
                shared.open.fetch_add(1, SeqCst);
                super::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let _broken = serve(stream, &shared).await;
                    shared.open.fetch_sub(1, SeqCst);
                    shared.changed.notify_waiters();
                });
            }
        });
        Self { url, shared }
    }

    /// The requests so far.
    pub(crate) async fn requests(&self) -> Vec<Seen> {
        self.shared.requests.lock().await.clone()
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// The number of bytes of repeated chunks that were sent.
    pub(crate) fn sent(&self) -> usize {
        self.shared.sent.load(SeqCst)
    }

    /// Waits until a condition on (requests so far, open connections) holds; panics after 20 s.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(usize, usize) -> bool) -> Duration {
        let since = Instant::now();
        loop {
            let changed = self.shared.changed.notified();
            let requests = self.shared.requests.lock().await.len();
            if holds(requests, self.shared.open.load(SeqCst)) {
                return since.elapsed();
            }
            assert!(since.elapsed() < Duration::from_secs(20), "not in 20 s: {what}");
            let _again = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
    }

    /// Waits until all connections are closed.
    pub(crate) async fn all_closed(&self) -> Duration {
        self.until("all connections closed", |_, open| open == 0).await
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(seen) = read_request(&mut stream, &mut buffer).await? else { return Ok(()) };
        let turn = {
            let mut requests = shared.requests.lock().await;
            requests.push(seen);
            requests.len() - 1
        };
        shared.changed.notify_waiters();
        let script =
            shared.scripts.get(turn).or_else(|| shared.scripts.last()).cloned().unwrap_or_default();
        for step in script {
            match step {
                Step::Raw(bytes) => stream.write_all(&bytes).await?,
                Step::Sse => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?,
                Step::Whole(status, headers, body) => {
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
                }
                Step::Chunk(bytes) => {
                    let head = format!("{:x}\r\n", bytes.len());
                    stream.write_all(&[head.as_bytes(), &bytes, b"\r\n"].concat()).await?;
                }
                Step::End => stream.write_all(b"0\r\n\r\n").await?,
                Step::Gate(gate) => {
                    // The other side may leave meanwhile.
                    tokio::select! {
                        () = gate.notified() => {}
                        _ = stream.readable() => if closed(&mut stream).await { return Ok(()) },
                    }
                }
                Step::Pause(pause) => tokio::time::sleep(pause).await,
                Step::Hang => loop {
                    stream.readable().await?;
                    if closed(&mut stream).await {
                        return Ok(());
                    }
                },
                Step::Reset => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
                Step::Close => return Ok(()),
                Step::CloseWhenAsked => {
                    stream.readable().await?;
                    return Ok(());
                }
                Step::Repeat(bytes, times) => {
                    let head = format!("{:x}\r\n", bytes.len());
                    let chunk = [head.as_bytes(), &bytes, b"\r\n"].concat();
                    for _ in 0..times {
                        stream.write_all(&chunk).await?;
                        shared.sent.fetch_add(chunk.len(), SeqCst);
                    }
                }
            }
        }
    }
}

async fn closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    !matches!(stream.read(&mut byte).await, Ok(1))
}

/// Reads one request with a content-length. `None`: the connection ended.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Seen>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")
                        .map(|n| n.trim().parse().unwrap())
                })
                .unwrap_or(0usize);
            while buffer.len() < end + 4 + length {
                if stream.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            let body = buffer[end + 4..end + 4 + length].to_vec();
            buffer.drain(..end + 4 + length);
            return Ok(Some(Seen { head, body }));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
