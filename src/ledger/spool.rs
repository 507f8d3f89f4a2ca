//! Spool of the ledger: segment files to which records are appended before they reach the database. A torn or damaged
//! record must never hide those before it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::error::LedgerError;
use super::record::{Decoded, Record, decode};

/// Bytes after which a segment is complete.
const SEGMENT: u64 = 16 << 20;

/// The most bytes that are read at once: more than one frame.
const READ: u64 = 8 << 20;

/// A position in the spool: up to there, records are in the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    pub segment: u64,
    pub offset: u64,
}

/// State that the writer and the reader of a spool share.
#[derive(Debug, Default)]
pub(super) struct SpoolState {
    /// The segment that grows. Others are complete.
    active: AtomicU64,
    /// Bytes of all segments.
    pub used: AtomicU64,
}

/// Numbers of the segments in a directory.
fn segments(dir: &Path) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(".spool")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.spool"))
}

/// The end of the spool to which records are appended.
pub(super) struct SpoolWriter {
    dir: PathBuf,
    max: u64,
    state: Arc<SpoolState>,
    /// The segment that grows, and its length. `None`: the next append begins one.
    active: Option<(File, u64)>,
    dirty: bool,
}

impl SpoolWriter {
    /// Appends frames, all or none.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let more = frames.len() as u64;
        if self.state.used.load(Relaxed).saturating_add(more) > self.max {
            return Err(io::Error::new(ErrorKind::StorageFull, "ledger.max_spool is reached"));
        }
        if self.active.as_ref().is_none_or(|(_, length)| *length >= SEGMENT) {
            self.sync()?;
            self.begin()?;
        }
        let Some((file, length)) = &mut self.active else { return Err(ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(frames) {
            // Without the part that was written, the next append is readable.
            if file.set_len(*length).is_err() {
                self.active = None;
            }
            return Err(error);
        }
        *length += more;
        self.state.used.fetch_add(more, Relaxed);
        self.dirty = true;
        Ok(())
    }

    /// Takes what is left, whatever its size.
    pub(super) fn lift_limit(&mut self) {
        self.max = u64::MAX;
    }

    /// Waits until the disk has what was appended.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some((file, _)) = self.active.as_ref().filter(|_| self.dirty) {
            file.sync_data()?;
        }
        self.dirty = false;
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let number = self.state.active.load(Relaxed) + 1;
        let path = segment_path(&self.dir, number);
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        File::open(&self.dir)?.sync_all()?;
        self.active = Some((file, 0));
        self.state.active.store(number, Release);
        Ok(())
    }
}

/// The end of the spool from which the database takes records.
pub(super) struct SpoolReader {
    dir: PathBuf,
    state: Arc<SpoolState>,
    /// The position after all records that were taken.
    pub cursor: Cursor,
}

/// Opens the spool of a directory, whose records up to the cursor are in the database.
pub(super) fn open(
    dir: &Path,
    cursor: Cursor,
    max: u64,
) -> Result<(SpoolWriter, SpoolReader), LedgerError> {
    let failed = |error| LedgerError::Io(dir.to_owned(), error);
    fs::create_dir_all(dir).map_err(failed)?;
    let numbers = segments(dir).map_err(failed)?;
    let state = Arc::<SpoolState>::default();
    for number in &numbers {
        let size = fs::metadata(segment_path(dir, *number)).map_err(failed)?.len();
        state.used.fetch_add(size, Relaxed);
    }
    // A number is never used again, also if segments were deleted or a backup of the database is in use.
    let last = numbers.last().copied().unwrap_or_default().max(cursor.segment);
    state.active.store(last, Relaxed);
    let writer = SpoolWriter {
        dir: dir.to_owned(),
        max,
        state: Arc::clone(&state),
        active: None,
        dirty: false,
    };
    Ok((writer, SpoolReader { dir: dir.to_owned(), state, cursor }))
}

impl SpoolReader {
    /// Bytes of all segments.
    pub(super) fn used(&self) -> u64 {
        self.state.used.load(Relaxed)
    }

    /// The records after the cursor, at most so many, and the cursor after them. `is_over`: no process appends.
    pub(super) fn read(&self, most: usize, is_over: bool) -> io::Result<(Vec<Record>, Cursor)> {
        let active = self.state.active.load(Acquire);
        let mut cursor = self.cursor;
        for number in segments(&self.dir)?.range(cursor.segment..) {
            if *number > cursor.segment {
                cursor = Cursor { segment: *number, offset: 0 };
            }
            let bytes = self.bytes(cursor)?;
            let mut rest = bytes.as_slice();
            let mut records = Vec::new();
            while records.len() < most {
                let Decoded::Record(record, length) = decode(rest) else { break };
                records.push(*record);
                rest = rest.get(length..).unwrap_or_default();
                cursor.offset += length as u64;
            }
            let waits = *number >= active && !is_over;
            if !records.is_empty() || waits {
                return Ok((records, cursor));
            }
            if !rest.is_empty() {
                let (segment, offset) = (cursor.segment, cursor.offset);
                let left = rest.len();
                tracing::warn!(
                    segment,
                    offset,
                    left,
                    "the end of a segment of the ledger's spool cannot be read"
                );
            }
        }
        // At the end of the last one, so that it can go.
        if is_over {
            cursor = Cursor { segment: cursor.segment.max(active).saturating_add(1), offset: 0 };
        }
        Ok((Vec::new(), cursor))
    }

    fn bytes(&self, cursor: Cursor) -> io::Result<Vec<u8>> {
        let mut file = File::open(segment_path(&self.dir, cursor.segment))?;
        file.seek(SeekFrom::Start(cursor.offset))?;
        let mut bytes = Vec::new();
        file.take(READ).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Deletes the segments before the cursor, whose records are in the database.
    pub(super) fn advance(&mut self, cursor: Cursor) -> io::Result<()> {
        if cursor.segment > self.cursor.segment {
            for number in segments(&self.dir)?.range(..cursor.segment) {
                let path = segment_path(&self.dir, *number);
                let size = fs::metadata(&path)?.len();
                fs::remove_file(path)?;
                self.state.used.fetch_sub(size.min(self.used()), Relaxed);
            }
        }
        self.cursor = cursor;
        Ok(())
    }
}
