//! What a configuration was read from, so that a change of any of it can be noticed. Of the content
//! only digests are kept: some of these files are credentials.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The files that a configuration was read from, each with the digest of what was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<PathBuf, Seen>);

/// What a place held when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// The most bytes that are of interest.
    limit: u64,
    /// `None`: it could not be read.
    digest: Option<[u8; 32]>,
}

impl Sources {
    /// Reads a file of at most `limit` bytes, and remembers that it was read. `None`: it has more.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        // A pipe can be read once only: looking into it again would find another content, or wait.
        let again = std::fs::metadata(path).map_or(true, |found| found.is_file());
        let read = read_start(path, limit);
        if again {
            let digest = read.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
            // What was read first is in use, whatever is read later.
            self.0.entry(path.to_owned()).or_insert(Seen { limit, digest });
        }
        read.map(|bytes| (bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// The same places as they are now.
    pub(super) fn now(&self) -> Self {
        let mut now = Self::default();
        for (path, Seen { limit, .. }) in &self.0 {
            // Failing is an outcome like another, and is kept in `now`.
            now.read(path, *limit).ok();
        }
        now
    }

    /// The directories in which a change of any of these shows: that of the name, and that of the
    /// file behind it where the name is a link. Where there is none, the nearest above it.
    pub(super) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.0.keys().flat_map(|path| {
            let behind = path.canonicalize().ok();
            let of_name = existing_parent(path);
            of_name.into_iter().chain(behind.and_then(|path| existing_parent(&path)))
        })
    }
}

/// The nearest directory above a path that exists, in its plain form.
fn existing_parent(path: &Path) -> Option<PathBuf> {
    path.ancestors().skip(1).find_map(|directory| {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        here.canonicalize().ok()
    })
}

/// Reads a file's first bytes: one more than `limit` at most, which tells a larger file.
fn read_start(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
