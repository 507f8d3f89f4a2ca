//! Log writer: the lines of all threads in one bounded buffer, and a thread that writes them to standard error.
//!
//! Only that thread ever waits for standard error, and no thread fails because of it.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::LinesLost;

/// The most bytes in the buffer; a line that does not fit is lost.
const BUFFER_BYTES: usize = 4 << 20;
/// The time for which lines are collected before a write, so that one write has all of them.
const BATCH_DELAY: Duration = Duration::from_millis(5);
/// The pause before standard error is tried again after it would have blocked.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// The timeout of writing the last lines at the end of the process.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The writer for all threads. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There are lines, or the guard was dropped.
    changed: Condvar,
    /// The thread has written everything and ended.
    ended: Condvar,
    lost: OnceLock<LinesLost>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines.
    lines: Vec<u8>,
    /// Lost lines that the log has not reported.
    unreported: u64,
    /// Lines lost before the metric was set.
    uncounted: u64,
    closed: bool,
    ended: bool,
}

/// Ends the writer when dropped: after the last line, or [`LOG_FLUSH_TIMEOUT`].
#[derive(Debug)]
pub struct LogGuard(LogWriter);

impl LogGuard {
    /// Counts lost lines in this metric, including earlier ones.
    pub fn count(&self, lost: LinesLost) {
        let mut queue = self.0.0.lock();
        lost.inc_by(mem::take(&mut queue.uncounted));
        // A second metric would be a second process.
        let _first = self.0.0.lost.set(lost);
    }

    pub(super) fn writer(&self) -> LogWriter {
        self.0.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut queue = shared.lock();
        queue.closed = true;
        shared.changed.notify_all();
        let _timeout =
            shared.ended.wait_timeout_while(queue, LOG_FLUSH_TIMEOUT, |queue| !queue.ended);
    }
}

impl LogWriter {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<LogGuard> {
        let writer = Self(Arc::default());
        let shared = Arc::clone(&writer.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(out))?;
        Ok(LogGuard(writer))
    }

    fn put(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.lines.len() + line.len() > BUFFER_BYTES {
            self.0.lose(&mut queue, 1);
            return;
        }
        let sleeping = queue.lines.is_empty();
        queue.lines.extend_from_slice(line);
        drop(queue);
        if sleeping {
            self.0.changed.notify_one();
        }
    }
}

impl Shared {
    /// No code that holds the lock panics; if some did, logging would continue.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, queue: &mut Queue, lines: u64) {
        queue.unreported += lines;
        match self.lost.get() {
            Some(lost) => {
                lost.inc_by(lines);
            }
            None => queue.uncounted += lines,
        }
    }

    /// Writes until the guard is dropped.
    fn write_all(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        // A line that was written in part is ended before the next one.
        let mut broken = false;
        loop {
            let closed = self.wait(&mut lines);
            if broken {
                lines.insert(0, b'\n');
            }
            let written = write(&mut out, &lines);
            let rest = lines.get(written..).unwrap_or_default();
            if !lines.is_empty() {
                broken = written > 0 && !rest.is_empty();
            }
            let lost = u64::try_from(rest.split_inclusive(|byte| *byte == b'\n').count());
            let mut queue = self.lock();
            match lost.unwrap_or(u64::MAX) {
                // Standard error accepts lines again.
                0 => {
                    let lost = mem::take(&mut queue.unreported);
                    drop(queue);
                    if lost > 0 {
                        tracing::warn!(
                            lost,
                            "log lines were lost: standard error did not accept them in time"
                        );
                    }
                }
                lost => self.lose(&mut queue, lost),
            }
            if closed {
                break;
            }
        }
        self.lock().ended = true;
        self.ended.notify_all();
    }

    /// Waits for lines and takes all of them. Returns whether they are the last.
    fn wait(&self, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        let idle = |queue: &mut Queue| queue.lines.is_empty() && !queue.closed;
        let queue = self.changed.wait_while(self.lock(), idle);
        let queue = queue.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(queue, BATCH_DELAY, |queue| !queue.closed);
        let (mut queue, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut queue.lines, lines);
        queue.closed
    }
}

/// Writes as much as possible and returns how many bytes. Waits while the output would block.
fn write(out: &mut impl Write, lines: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => break,
            Ok(some) => written += some,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::park_timeout(RETRY_DELAY);
            }
            Err(_) => break,
        }
    }
    written
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = &'w Self;

    fn make_writer(&'w self) -> Self::Writer {
        self
    }
}

/// One write is one line: the formatters write whole lines.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes as many bytes as it is allowed to, and reports them.
    struct Reader {
        allowed: Receiver<io::Result<usize>>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let allowed = self.allowed.recv().unwrap_or(Ok(usize::MAX))?;
            let taken = bytes.get(..allowed).unwrap_or(bytes);
            self.taken.send(taken.to_vec()).ok();
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (LogGuard, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (allow, allowed) = channel();
        let (taken, read) = channel();
        (LogWriter::start(Reader { allowed, taken }).unwrap(), allow, read)
    }

    #[test]
    fn the_last_lines_are_written_before_the_guard_is_gone() {
        let (guard, allow, read) = start();
        let writer = guard.writer();
        for line in ["a\n", "b\n", "c\n"] {
            writer.put(line.as_bytes());
        }
        drop(allow);
        drop(guard);
        assert_eq!(read.iter().collect::<Vec<_>>().concat(), b"a\nb\nc\n");
    }

    #[test]
    fn a_reader_that_pauses_holds_nobody_up_and_loses_what_does_not_fit() {
        let (guard, allow, read) = start();
        let (writer, lost) = (guard.writer(), LinesLost::default());
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        // The thread may take one batch out of the buffer, and waits with it.
        let puts = 3 * BUFFER_BYTES / line.len();
        for _ in 0..puts {
            writer.put(&line);
        }
        guard.count(lost.clone());
        drop(allow);
        drop(guard);
        let written = read.iter().map(|bytes| bytes.len()).sum::<usize>() / line.len();
        assert!(written <= 2 * BUFFER_BYTES / line.len(), "{written}");
        assert_eq!(written as u64 + lost.get(), puts as u64);
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_counted_and_the_next_line_begins_anew() {
        let (guard, allow, read) = start();
        let (writer, lost) = (guard.writer(), LinesLost::default());
        guard.count(lost.clone());
        let full = || io::Error::from(ErrorKind::StorageFull);
        // Three bytes fit on the disk, then nothing does.
        allow.send(Ok(3)).unwrap();
        allow.send(Err(full())).unwrap();
        writer.put(b"first\n");
        assert_eq!(read.recv().unwrap(), b"fir");
        allow.send(Err(io::Error::from(ErrorKind::WouldBlock))).unwrap();
        allow.send(Err(io::Error::from(ErrorKind::Interrupted))).unwrap();
        drop(allow);
        while lost.get() == 0 {
            thread::yield_now();
        }
        writer.put(b"second\n");
        assert_eq!(read.recv().unwrap(), b"\nsecond\n");
        drop(guard);
        assert_eq!((lost.get(), read.iter().count()), (1, 0));
    }

    #[test]
    fn a_reader_that_is_gone_ends_nothing() {
        let (guard, allow, read) = start();
        let (writer, lost) = (guard.writer(), LinesLost::default());
        guard.count(lost.clone());
        for n in 1..=3 {
            allow.send(Err(io::Error::from(ErrorKind::BrokenPipe))).unwrap();
            writer.put(b"line\n");
            while lost.get() < n {
                thread::yield_now();
            }
        }
        drop((guard, allow));
        assert_eq!(read.iter().count(), 0);
    }
}
