//! Files that a configuration was read from, with digests, so that a change of any of them is detected. It must never keep
//! their content: some of these files are credentials.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::units::hex;
use super::watch_points::WatchPoints;

/// Timeout for reading a file.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval at which a file that another thread reads is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// The bytes of a digest that are shown: enough to compare configurations.
const SHOWN_BYTES: usize = 8;

/// The files and directories that a configuration was read from, each with the digest of what was
/// read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<PathBuf, Seen>);

/// The state of a path when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    what: What,
    /// `None`: it could not be read.
    digest: Option<[u8; 32]>,
}

/// The part of a path's content that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A file's content, up to so many bytes.
    File(u64),
    /// The names of a directory's YAML files.
    Names,
}

impl Sources {
    /// Reads a file of at most `limit` bytes, and remembers that it was read. `None`: it has more.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let (again, read) = match read_with_timeout(path, limit) {
            Ok(Content { bytes, again }) => (again, Ok(bytes)),
            Err(error) => (true, Err(error)),
        };
        if again {
            let digest = read.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
            // The first content is in use, whatever is read later.
            self.0.entry(path.to_owned()).or_insert(Seen { what: What::File(limit), digest });
        }
        read.map(|bytes| (bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// Lists a directory's YAML files in alphabetical order, and remembers that it was listed. Names
    /// that begin with a dot are those of editors and of Kubernetes.
    pub(super) fn list(&mut self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let names = yaml_names(directory);
        let digest = names.as_ref().ok().map(|names| {
            let mut digest = Sha256::new();
            for name in names {
                digest.update(name.as_encoded_bytes());
                digest.update([0]);
            }
            digest.finalize().into()
        });
        self.0.entry(directory.to_owned()).or_insert(Seen { what: What::Names, digest });
        Ok(names?.into_iter().map(|name| directory.join(name)).collect())
    }

    /// A digest of the names and the content of all files, in hexadecimal. It is the same wherever the
    /// same files are, whatever directory they are in. `None`: no file was read.
    pub fn digest(&self) -> Option<String> {
        let mut whole = Sha256::new();
        for (path, seen) in &self.0 {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            whole.update((name.len() as u64).to_le_bytes());
            whole.update(name);
            whole.update(seen.digest.unwrap_or_default());
        }
        let digest = whole.finalize();
        let digits = hex(digest.get(..SHOWN_BYTES).unwrap_or(&digest));
        Some(digits).filter(|_| !self.0.is_empty())
    }

    /// The same places as they are now.
    pub(super) fn now(&self) -> Self {
        let mut now = Self::default();
        for (path, Seen { what, .. }) in &self.0 {
            // Failing is an outcome like another, and is kept in `now`.
            match what {
                What::File(limit) => now.read(path, *limit).map(drop).ok(),
                What::Names => now.list(path).map(drop).ok(),
            };
        }
        now
    }

    /// The watch points at which changes of these files and directories show.
    pub(super) fn watch_points(&self) -> WatchPoints {
        let mut points = WatchPoints::default();
        for (path, Seen { what, .. }) in &self.0 {
            match what {
                What::File(_) => points.add_file(path),
                What::Names => points.add_directory(path),
            }
        }
        points
    }
}

/// Whether a file of this name is listed by [`Sources::list`].
pub(super) fn is_listed(name: &OsStr) -> bool {
    let is_yaml = Path::new(name).extension().is_some_and(|end| end == "yaml" || end == "yml");
    is_yaml && !name.as_encoded_bytes().starts_with(b".")
}

fn yaml_names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if is_listed(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The content of a file.
struct Content {
    /// Its first bytes.
    bytes: Vec<u8>,
    /// Whether it can be read again. A pipe cannot: it would have another content, or none.
    again: bool,
}

/// Reads a file's first bytes on a thread of its own: a pipe without a writer, and a mount whose server is gone, may never
/// return. Error `TimedOut`: they did not within [`READ_TIMEOUT`]; then the
/// thread is left behind, one for each path at most.
fn read_with_timeout(path: &Path, limit: u64) -> io::Result<Content> {
    let in_progress = ReadInProgress::begin(path).ok_or(ErrorKind::TimedOut)?;
    let (done, outcome) = mpsc::sync_channel(1);
    let path = path.to_owned();
    thread::Builder::new().name("config-file".to_owned()).spawn(move || {
        let read = read_start(&path, limit);
        drop(in_progress);
        // Too late for a receiver that has given up.
        let _late = done.send(read);
    })?;
    outcome.recv_timeout(READ_TIMEOUT).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Reads a file's first bytes: one more than `limit` at most, which shows that it is larger.
fn read_start(path: &Path, limit: u64) -> io::Result<Content> {
    let again = std::fs::metadata(path)?.is_file();
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(Content { bytes, again })
}

/// The paths that are being read, with the start, so that one that hangs occupies only one thread.
static READING: Mutex<BTreeMap<PathBuf, Instant>> = Mutex::new(BTreeMap::new());

/// A path that is being read.
struct ReadInProgress(PathBuf);

impl ReadInProgress {
    /// Waits for another reader of the same path. `None`: that reader hangs.
    fn begin(path: &Path) -> Option<Self> {
        loop {
            let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
            match reading.get(path) {
                None => {
                    reading.insert(path.to_owned(), Instant::now());
                    return Some(Self(path.to_owned()));
                }
                Some(since) if since.elapsed() >= READ_TIMEOUT => return None,
                Some(_) => drop(reading),
            }
            thread::park_timeout(RETRY_INTERVAL);
        }
    }
}

impl Drop for ReadInProgress {
    fn drop(&mut self) {
        READING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}
