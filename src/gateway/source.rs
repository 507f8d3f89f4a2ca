//! Response bodies of upstreams: a live HTTP body, recorded bytes, or a script of a test. It must never decode or
//! keep the bytes that it reads.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode};

#[cfg(test)]
use super::source_script::Script;

/// The body of one upstream response, in chunks. Dropping it closes its connection, unless the body was read to
/// its end.
#[derive(Debug)]
pub enum Source {
    /// A body that arrives over a connection.
    Http(reqwest::Response),
    /// Recorded chunks.
    Replay(VecDeque<Bytes>),
    /// Chunks, pauses and failures that a test has written.
    #[cfg(test)]
    Script(Script),
}

/// The next chunk of a body; `None` at its end.
pub type Chunk = Result<Option<Bytes>, SourceError>;

/// A body that broke off.
#[derive(Debug)]
pub enum SourceError {
    /// The connection failed, or its bytes are not HTTP.
    Http(reqwest::Error),
    /// A step of a script.
    #[cfg(test)]
    Script,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => write!(f, "{error}"),
            #[cfg(test)]
            Self::Script => f.write_str("the script breaks off here"),
        }
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Http(error) => error.source(),
            #[cfg(test)]
            Self::Script => None,
        }
    }
}

/// The head of an upstream response.
#[derive(Debug)]
pub struct ResponseHead {
    /// Any three digits, as HTTP allows.
    pub status: StatusCode,
    /// All headers, as they came.
    pub headers: HeaderMap,
}

impl Source {
    /// Takes a response apart.
    pub fn open(mut response: reqwest::Response) -> (ResponseHead, Self) {
        // Left in the response, headers and extensions would keep the connection's first read buffer, and more, as long
        // as the stream lives.
        let headers = std::mem::take(response.headers_mut());
        *response.extensions_mut() = Extensions::new();
        (ResponseHead { status: response.status(), headers }, Self::Http(response))
    }

    /// A body of these bytes.
    pub fn replay(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Replay(chunks.into_iter().collect())
    }

    /// Waits for the next chunk. Cancel-safe. A body that broke off must not be read again: some repeat their error
    /// for ever.
    pub async fn chunk(&mut self) -> Chunk {
        match self {
            Self::Http(response) => {
                response.chunk().await.map_err(|error| SourceError::Http(error.without_url()))
            }
            Self::Replay(chunks) => Ok(chunks.pop_front()),
            #[cfg(test)]
            Self::Script(script) => script.chunk().await,
        }
    }

    /// The next chunk, if it has arrived. An HTTP connection's task hands out one chunk at a time, and only when
    /// polled, so it gets one turn of the runtime to do so.
    pub async fn arrived(&mut self) -> Option<Chunk> {
        let mut polled = false;
        let mut chunk = pin!(self.chunk());
        poll_fn(|cx| match chunk.as_mut().poll(cx) {
            Poll::Ready(chunk) => Poll::Ready(Some(chunk)),
            Poll::Pending if polled => Poll::Ready(None),
            Poll::Pending => {
                polled = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }

    /// Discards the bytes that have arrived. Returns whether the body has ended.
    pub async fn discard_arrived(&mut self) -> bool {
        loop {
            match self.arrived().await {
                Some(Ok(Some(_))) => {}
                Some(Ok(None) | Err(_)) => return true,
                None => return false,
            }
        }
    }

    /// Reads and discards the rest, so that the connection can be used again.
    pub async fn discard(mut self) {
        while let Ok(Some(_)) = self.chunk().await {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::gateway::source_script::Step;

    const WAIT: Duration = Duration::from_secs(3);

    fn script(steps: impl IntoIterator<Item = Step>) -> Source {
        Source::Script(Script::new(steps))
    }

    fn text(chunk: Chunk) -> Option<String> {
        chunk.unwrap().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_replay_gives_its_chunks_in_order_and_ends() {
        let mut source = Source::replay(["a", "b"].map(Bytes::from));
        assert_eq!(text(source.chunk().await).as_deref(), Some("a"));
        assert_eq!(text(source.arrived().await.unwrap()).as_deref(), Some("b"));
        assert_eq!(text(source.chunk().await), None);
        assert_eq!(text(source.chunk().await), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_has_arrived_is_taken_without_waiting() {
        let begun = Instant::now();
        let mut source = script([
            Step::Chunk("a".into()),
            Step::Chunk("b".into()),
            Step::Wait(WAIT),
            Step::Chunk("c".into()),
        ]);
        assert_eq!(text(source.chunk().await).as_deref(), Some("a"));
        assert_eq!(text(source.arrived().await.unwrap()).as_deref(), Some("b"));
        assert!(source.arrived().await.is_none());
        assert!(source.arrived().await.is_none(), "the pause goes on");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(text(source.chunk().await).as_deref(), Some("c"));
        assert_eq!(begun.elapsed(), WAIT);
        assert_eq!(text(source.chunk().await), None);
    }

    #[tokio::test(start_paused = true)]
    async fn discarding_ends_where_the_body_does() {
        for (steps, ended) in [
            (vec![Step::Chunk("a".into())], true),
            (vec![Step::Chunk("a".into()), Step::Break], true),
            (vec![Step::Chunk("a".into()), Step::Wait(WAIT)], false),
        ] {
            assert_eq!(script(steps.clone()).discard_arrived().await, ended, "{steps:?}");
            let begun = Instant::now();
            script(steps.clone()).discard().await;
            assert_eq!(begun.elapsed(), if ended { Duration::ZERO } else { WAIT }, "{steps:?}");
        }
    }

    #[tokio::test]
    async fn a_response_is_taken_apart() {
        let response = http::Response::builder().status(207).header("x-word", "1").body("body");
        let (head, mut source) = Source::open(response.unwrap().into());
        assert_eq!((head.status.as_u16(), head.headers.len()), (207, 1));
        assert_eq!(text(source.chunk().await).as_deref(), Some("body"));
        assert_eq!(text(source.chunk().await), None);
    }
}
