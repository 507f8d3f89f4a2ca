//! Watch points: the directory entries and files whose changes can change what a configuration is read from.
//! It reads no content and watches nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::sources::is_listed;

/// The most symbolic links of one path, as Linux has it.
const MAX_LINKS: usize = 40;

/// A file or directory, and which one it is: one that was replaced has to be watched anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    /// Its path, without symbolic links.
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: PathBuf) -> Option<Self> {
        let found = path.metadata().ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }
}

/// The entries of a directory that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entries {
    names: BTreeSet<OsString>,
    /// All that [`is_listed`] accepts, too.
    listed: bool,
}

impl Entries {
    /// Whether a change of the entry of this name matters.
    pub(super) fn has(&self, name: &OsStr) -> bool {
        self.names.contains(name) || self.listed && is_listed(name)
    }

    /// Adds the entries of another set.
    pub(super) fn merge(&mut self, other: &Self) {
        self.names.extend(other.names.iter().cloned());
        self.listed |= other.listed;
    }
}

/// The places at which changes of a configuration's files show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WatchPoints {
    /// Directories: an entry appears, vanishes, or is replaced. Editors replace a file by another, and
    /// Kubernetes swaps a symbolic link beside it, so every link on the way to a file has its entry here.
    pub(super) directories: BTreeMap<FileId, Entries>,
    /// Regular files: their content changes in place.
    pub(super) files: BTreeSet<FileId>,
}

impl WatchPoints {
    /// Adds those of a file that is read.
    pub(super) fn add_file(&mut self, path: &Path) {
        let file = self.follow(path).filter(|path| path.is_file());
        self.files.extend(file.and_then(FileId::of));
    }

    /// Adds those of a directory whose YAML files are listed.
    pub(super) fn add_directory(&mut self, path: &Path) {
        let directory = self.follow(path).filter(|path| path.is_dir());
        if let Some(directory) = directory.and_then(FileId::of) {
            self.directories.entry(directory).or_default().listed = true;
        }
    }

    /// Adds the entries through which a path is found, and returns the path without links. `None`: it leads
    /// nowhere; then the first entry that is missing is among those added.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let (mut found, below) = existing_parent(path)?;
        // The next component is the last one.
        let mut rest = reversed(below);
        let mut links = 0;
        while let Some(component) = rest.pop() {
            match Path::new(&component).components().next() {
                Some(Component::Normal(name)) => self.add_entry(&found, name)?,
                Some(Component::ParentDir) => {
                    found.pop();
                    continue;
                }
                // A root replaces what is found so far, as `join` does.
                _ => {}
            }
            let next = found.join(&component);
            if next.symlink_metadata().ok()?.is_symlink() {
                links += 1;
                rest.extend(reversed(&next.read_link().ok().filter(|_| links <= MAX_LINKS)?));
            } else {
                found = next;
            }
        }
        Some(found)
    }

    fn add_entry(&mut self, directory: &Path, name: &OsStr) -> Option<()> {
        let entries = self.directories.entry(FileId::of(directory.to_owned())?).or_default();
        entries.names.insert(name.to_owned());
        Some(())
    }
}

fn reversed(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|component| component.as_os_str().to_owned()).collect()
}

/// The nearest directory above a path that exists, without links, and the path from there on.
fn existing_parent(path: &Path) -> Option<(PathBuf, &Path)> {
    path.ancestors().skip(1).find_map(|directory| {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        Some((here.canonicalize().ok()?, path.strip_prefix(directory).ok()?))
    })
}
