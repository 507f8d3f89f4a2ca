//! Offloading of work on large request bodies to threads that serve no connections: translating 30 MiB would delay
//! every stream of a worker. It must never be used for a small body.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::memory::MemoryLease;

/// A body of more bytes is large. Reading and writing this much takes a few milliseconds.
pub(crate) const LARGE: usize = 1024 * 1024;

/// The most bodies that are worked on at once in the process, because of their memory: each is held about three
/// times, as received, parsed and written.
const MOST_AT_ONCE: usize = 4;

static PERMITS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);

/// A request body that was read whole, with the memory that it holds as long as anything works on it.
#[derive(Debug)]
pub struct BufferedBody {
    /// The body, decoded.
    pub text: String,
    /// Its part of the memory budget.
    pub lease: MemoryLease,
}

impl Deref for BufferedBody {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// A request body. A large one is shared with the threads that work on it.
#[derive(Debug, Clone)]
pub enum RequestBody {
    /// It is worked on by the worker that has it.
    Small(Arc<BufferedBody>),
    /// It is worked on elsewhere.
    Large(Arc<BufferedBody>),
}

impl RequestBody {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Small(body) | Self::Large(body) => body.text.len(),
        }
    }

    /// The result of a function of the body. A large one is read on another thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&str) -> T + Send + 'static,
    ) -> Result<T, Error> {
        match self {
            Self::Small(body) => Ok(read(body)),
            Self::Large(body) => {
                let body = Arc::clone(body);
                run(move || read(&body)).await
            }
        }
    }
}

impl From<BufferedBody> for RequestBody {
    fn from(body: BufferedBody) -> Self {
        let large = is_large(&body);
        let body = Arc::new(body);
        if large { Self::Large(body) } else { Self::Small(body) }
    }
}

impl Deref for RequestBody {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Small(body) | Self::Large(body) => body,
        }
    }
}

/// Whether work on a body is for [`run`].
pub(super) fn is_large(body: &str) -> bool {
    body.len() > LARGE
}

/// Does work on another thread, when its turn comes. If this future is dropped before, it is not begun; if
/// it has begun, it runs to its end, and its result is dropped.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let failed = "work on a large request body failed";
    let permit = PERMITS.acquire().await.map_err(|error| Error::internal(failed).because(error))?;
    let done = spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    });
    done.await.map_err(|error| Error::internal(failed).because(error))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::memory::MemoryBudget;
    use crate::telemetry::Metrics;

    /// The streams of a worker go on while a large body is worked on.
    #[tokio::test]
    async fn the_thread_of_the_caller_is_free() {
        let (begun, wait) = channel();
        let here = thread::current().id();
        let work = run(move || {
            // Goes on only if the thread that awaits this has run something else.
            wait.recv().map(|()| thread::current().id())
        });
        let (id, ()) = tokio::join!(work, async { begun.send(()).unwrap() });
        assert_ne!(id.unwrap().unwrap(), here);
    }

    /// Work that has begun ends although its future was dropped, and its permit comes back.
    #[tokio::test]
    async fn work_that_was_left_ends_and_makes_room() {
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        let (release, wait) = channel::<()>();
        let work = run(move || {
            begun.send(()).unwrap();
            wait.recv().unwrap_err();
            ended.send(()).unwrap();
        });
        tokio::select! {
            _ = work => unreachable!("it waits"),
            begun = has_begun => begun.unwrap(),
        }
        drop(release);
        has_ended.await.unwrap();
        // More than there are permits, each of which comes back.
        let sum = Arc::new(Mutex::new(0));
        for _ in 0..3 * MOST_AT_ONCE {
            let sum = Arc::clone(&sum);
            run(move || *sum.lock().unwrap() += 1).await.unwrap();
        }
        assert_eq!(*sum.lock().unwrap(), 3 * MOST_AT_ONCE);
    }

    #[test]
    fn a_body_is_large_beyond_a_mebibyte() {
        let budget = MemoryBudget::new(usize::MAX, &Metrics::default());
        let body = |bytes| {
            let lease = budget.requests.lease();
            RequestBody::from(BufferedBody { text: "a".repeat(bytes), lease })
        };
        assert!(matches!(body(LARGE), RequestBody::Small(_)));
        assert!(matches!(body(LARGE + 1), RequestBody::Large(_)));
        assert_eq!(body(LARGE + 1).len(), LARGE + 1);
    }
}
