//! Append-only logs: entries by sequence number, a tail that readers wait for, and one end. A log must never hold a
//! queue for a reader: a reader is a cursor, and a slow one costs nothing but its position.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// An entry of a log.
pub trait Entry: Clone {
    /// The record that ends a log of such entries.
    type End: Clone;
    /// The bytes that it holds.
    fn size(&self) -> usize;
}

/// The retention of a log: the oldest entries are trimmed beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The most bytes.
    pub bytes: usize,
    /// The most entries.
    pub entries: usize,
}

impl Retention {
    /// Everything is kept.
    pub const ALL: Self = Self { bytes: usize::MAX, entries: usize::MAX };
}

/// An append-only log. Sequence numbers start at 1; 0 is the position before the first entry.
pub struct Log<E: Entry> {
    content: Mutex<Content<E>>,
    appended: Notify,
}

struct Content<E: Entry> {
    entries: VecDeque<E>,
    /// The sequence number of the last entry that was trimmed.
    trimmed: u64,
    bytes: usize,
    retention: Retention,
    end: Option<E::End>,
}

/// The entries after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<E, X> {
    /// The entries from `first` on.
    Entries {
        /// The sequence number of the first of them.
        first: u64,
        /// One or more.
        entries: Vec<E>,
    },
    /// None yet.
    Tail,
    /// None, and there will be no more.
    End(X),
    /// Some of them have been trimmed. `earliest`: the lowest position that can be read from.
    Gone {
        /// The last sequence number that was trimmed.
        earliest: u64,
    },
    /// The position is after the last entry.
    Ahead,
}

/// The extent of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent<X> {
    /// The lowest position that can be read from.
    pub earliest: u64,
    /// The sequence number of the last entry.
    pub tail: u64,
    /// The bytes of all entries.
    pub bytes: usize,
    /// The end, if it has ended.
    pub end: Option<X>,
}

/// An append to a log that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedLogError;

impl std::fmt::Display for ClosedLogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the log has ended")
    }
}

impl std::error::Error for ClosedLogError {}

impl<E: Entry> Log<E> {
    /// An empty log.
    pub fn new(retention: Retention) -> Self {
        Self::after(0, retention)
    }

    /// An empty log whose first entry follows a sequence number. What is before that is somewhere else.
    pub fn after(seq: u64, retention: Retention) -> Self {
        let content =
            Content { entries: VecDeque::new(), trimmed: seq, bytes: 0, retention, end: None };
        Self { content: Mutex::new(content), appended: Notify::new() }
    }

    /// Appends the entries that `make` returns for the sequence number of the first of them, and wakes the readers.
    /// Returns the extent after that.
    pub fn append<I: IntoIterator<Item = E>>(
        &self,
        make: impl FnOnce(u64) -> I,
    ) -> Result<Extent<E::End>, ClosedLogError> {
        let extent = self.push(make)?;
        self.wake();
        Ok(extent)
    }

    /// The same without waking the readers: [`wake`](Self::wake) follows, when what is beside the log is in order
    /// too.
    pub fn push<I: IntoIterator<Item = E>>(
        &self,
        make: impl FnOnce(u64) -> I,
    ) -> Result<Extent<E::End>, ClosedLogError> {
        let mut content = self.content();
        if content.end.is_some() {
            return Err(ClosedLogError);
        }
        for entry in make(content.tail() + 1) {
            content.bytes += entry.size();
            content.entries.push_back(entry);
        }
        content.trim();
        Ok(content.extent())
    }

    /// Ends the log, unless it has ended before. Returns the end that holds.
    pub fn close(&self, end: E::End) -> E::End {
        let held = self.content().end.get_or_insert(end).clone();
        self.appended.notify_waiters();
        held
    }

    /// Reads the entries after a position, up to about `most` bytes, but at least one.
    pub fn read(&self, after: u64, most: usize) -> Read<E, E::End> {
        self.content().read(after, most)
    }

    /// Reads the entries after those for which `is_before` holds, which are the first ones. It never returns
    /// [`Read::Gone`] or [`Read::Ahead`].
    pub fn read_from(&self, is_before: impl Fn(&E) -> bool, most: usize) -> Read<E, E::End> {
        let content = self.content();
        // Most readers are at the tail.
        let skipped = match content.entries.back() {
            Some(last) if !is_before(last) => content.entries.partition_point(is_before),
            _ => content.entries.len(),
        };
        content.read(content.trimmed + skipped as u64, most)
    }

    /// Resolves when something is appended, or the log ends, after this call. Read after the call, then await it:
    /// nothing is missed.
    pub fn appended(&self) -> Notified<'_> {
        self.appended.notified()
    }

    /// Wakes the readers, so that they look at what is beside the log.
    pub fn wake(&self) {
        self.appended.notify_waiters();
    }

    /// Changes its retention, from the next append on.
    pub fn retain(&self, retention: Retention) {
        self.content().retention = retention;
    }

    /// Trims the oldest entries for which `is_old` holds. Returns the bytes that are left.
    pub fn trim_while(&self, is_old: impl Fn(&E) -> bool) -> usize {
        let mut content = self.content();
        while content.entries.front().is_some_and(&is_old) {
            content.trim_first();
        }
        content.bytes
    }

    /// Trims the oldest entries until the others have at most so many bytes; the last one stays.
    pub fn trim_to(&self, bytes: usize) {
        let mut content = self.content();
        while content.entries.len() > 1 && content.bytes > bytes {
            content.trim_first();
        }
    }

    /// Goes on after a sequence number, if entries up to it are missing: all up to it count as trimmed.
    pub fn skip_to(&self, seq: u64) {
        let mut content = self.content();
        if content.tail() < seq {
            content.entries.clear();
            content.bytes = 0;
            content.trimmed = seq;
        }
    }

    /// Its extent.
    pub fn extent(&self) -> Extent<E::End> {
        self.content().extent()
    }

    fn content(&self) -> MutexGuard<'_, Content<E>> {
        // A panic within the lock leaves whole entries: nothing is half written.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Entry> Content<E> {
    fn tail(&self) -> u64 {
        self.trimmed + self.entries.len() as u64
    }

    fn read(&self, after: u64, most: usize) -> Read<E, E::End> {
        let tail = self.tail();
        if after < self.trimmed {
            return Read::Gone { earliest: self.trimmed };
        }
        if after > tail {
            return Read::Ahead;
        }
        if after == tail {
            return self.end.clone().map_or(Read::Tail, Read::End);
        }
        let skipped = usize::try_from(after - self.trimmed).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fitting = self.entries.iter().skip(skipped).take_while(|entry| {
            let room = bytes == 0 || bytes + entry.size() <= most;
            bytes += entry.size().max(1);
            room
        });
        Read::Entries { first: after + 1, entries: fitting.cloned().collect() }
    }

    fn trim(&mut self) {
        let Retention { bytes, entries } = self.retention;
        // The last entry stays, however large it is.
        while self.entries.len() > 1 && (self.bytes > bytes || self.entries.len() > entries) {
            self.trim_first();
        }
    }

    fn trim_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.size();
            self.trimmed += 1;
        }
    }

    fn extent(&self) -> Extent<E::End> {
        Extent {
            earliest: self.trimmed,
            tail: self.tail(),
            bytes: self.bytes,
            end: self.end.clone(),
        }
    }
}

impl<E: Entry> std::fmt::Debug for Log<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let content = self.content();
        write!(f, "Log({}..{}, {} bytes)", content.trimmed, content.tail(), content.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Text(&'static str);

    impl Entry for Text {
        type End = &'static str;
        fn size(&self) -> usize {
            self.0.len()
        }
    }

    fn log(retention: Retention, texts: &[&'static str]) -> Log<Text> {
        let log = Log::new(retention);
        log.append(|first| {
            assert_eq!(first, 1);
            texts.iter().copied().map(Text)
        })
        .unwrap();
        log
    }

    fn entries(first: u64, texts: &[&'static str]) -> Read<Text, &'static str> {
        Read::Entries { first, entries: texts.iter().copied().map(Text).collect() }
    }

    #[test]
    fn a_reader_gets_what_is_after_its_position_and_then_the_end() {
        let log = log(Retention::ALL, &["a", "b", "c"]);
        for (after, expected) in [
            (0, entries(1, &["a", "b", "c"])),
            (2, entries(3, &["c"])),
            (3, Read::Tail),
            (4, Read::Ahead),
        ] {
            assert_eq!(log.read(after, usize::MAX), expected, "{after}");
        }
        assert_eq!(log.read(0, 2), entries(1, &["a", "b"]));
        // One entry at least, however little room there is.
        assert_eq!(log.read(0, 0), entries(1, &["a"]));
        assert_eq!(log.close("complete"), "complete");
        assert_eq!(log.read(2, usize::MAX), entries(3, &["c"]));
        assert_eq!(log.read(3, usize::MAX), Read::End("complete"));
    }

    #[test]
    fn entries_are_found_by_their_own_order() {
        let log = log(Retention { bytes: usize::MAX, entries: 3 }, &["a", "b", "d", "e"]);
        let after = |text: &str| log.read_from(|entry| entry.0 <= text, usize::MAX);
        assert_eq!(after("a"), entries(2, &["b", "d", "e"]));
        assert_eq!(after("c"), entries(3, &["d", "e"]));
        assert_eq!(after("e"), Read::Tail);
        // Whether "a" has been read is for the caller to know.
        assert_eq!(after(""), entries(2, &["b", "d", "e"]));
        log.close("complete");
        assert_eq!(after("e"), Read::End("complete"));
        assert_eq!(Log::<Text>::new(Retention::ALL).read_from(|_| false, 1), Read::Tail);
    }

    #[test]
    fn the_first_end_holds_and_nothing_follows_it() {
        let log = log(Retention::ALL, &["a"]);
        assert_eq!(log.close("cancelled"), "cancelled");
        assert_eq!(log.close("complete"), "cancelled");
        assert_eq!(log.append(|_| [Text("b")]), Err(ClosedLogError));
        assert_eq!(log.read(1, usize::MAX), Read::End("cancelled"));
    }

    #[test]
    fn a_trimmed_position_is_gone_and_never_skipped() {
        let log = log(Retention { bytes: 4, entries: 3 }, &["aa", "b", "c", "d"]);
        assert_eq!(log.read(0, usize::MAX), Read::Gone { earliest: 1 });
        assert_eq!(log.read(1, usize::MAX), entries(2, &["b", "c", "d"]));
        log.append(|_| [Text("eeeeeeee")]).unwrap();
        // The last entry stays, however large it is.
        assert_eq!(log.read(4, usize::MAX), entries(5, &["eeeeeeee"]));
        assert_eq!(log.extent(), Extent { earliest: 4, tail: 5, bytes: 8, end: None });
        assert_eq!(log.trim_while(|_| true), 0);
        assert_eq!(log.read(4, usize::MAX), Read::Gone { earliest: 5 });
        assert_eq!(log.read(5, usize::MAX), Read::Tail);
    }

    #[test]
    fn missing_entries_count_as_trimmed() {
        let log = log(Retention::ALL, &["a", "b", "c"]);
        log.skip_to(3);
        assert_eq!(log.read(0, usize::MAX), entries(1, &["a", "b", "c"]));
        log.skip_to(7);
        assert_eq!(log.read(3, usize::MAX), Read::Gone { earliest: 7 });
        assert_eq!(log.extent(), Extent { earliest: 7, tail: 7, bytes: 0, end: None });
        log.append(|first| [Text(if first == 8 { "h" } else { "wrong" }), Text("i")]).unwrap();
        log.trim_to(1);
        assert_eq!(log.read(8, usize::MAX), entries(9, &["i"]));
        log.trim_to(0);
        assert_eq!(log.extent(), Extent { earliest: 8, tail: 9, bytes: 1, end: None });
    }

    #[test]
    fn a_smaller_retention_holds_from_the_next_append() {
        let log = log(Retention::ALL, &["a", "b", "c"]);
        log.retain(Retention { bytes: usize::MAX, entries: 2 });
        assert_eq!(log.extent().earliest, 0);
        assert_eq!(log.append(|_| [Text("d")]).unwrap().earliest, 2);
    }

    #[test]
    fn a_log_goes_on_from_a_sequence_number() {
        let log = Log::after(7, Retention::ALL);
        assert_eq!(log.read(7, usize::MAX), Read::Tail);
        log.append(|first| {
            assert_eq!(first, 8);
            [Text("a")]
        })
        .unwrap();
        assert_eq!(log.read(7, usize::MAX), entries(8, &["a"]));
        assert_eq!(log.read(6, usize::MAX), Read::Gone { earliest: 7 });
    }

    #[tokio::test]
    async fn a_reader_that_waits_misses_nothing() {
        let log = log(Retention::ALL, &["a"]);
        let appended = log.appended();
        assert_eq!(log.read(1, usize::MAX), Read::Tail);
        // Between the look and the wait.
        log.append(|_| [Text("b")]).unwrap();
        appended.await;
        assert_eq!(log.read(1, usize::MAX), entries(2, &["b"]));
        let appended = log.appended();
        log.close("complete");
        appended.await;
    }
}
