//! Errors of the ledger: what failed, at which path, and the remedy. A message must never show a record.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A ledger that cannot be opened, read or written.
#[derive(Debug)]
pub enum LedgerError {
    /// A file or directory failed.
    Io(PathBuf, io::Error),
    /// Another process has the directory.
    Locked(PathBuf),
    /// There is no ledger in the directory.
    Missing(PathBuf),
    /// The database failed.
    Database(PathBuf, rusqlite::Error),
    /// The database was made by another version of the program: the number of the migration that differs.
    Schema(PathBuf, i64),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "store.sqlite: {}: {error}; name a directory that exists or can be made, and may be written to",
                path.display()
            ),
            Self::Locked(path) => write!(
                f,
                "store.sqlite: another process has {}: stop that one, or name another directory",
                path.display()
            ),
            Self::Missing(path) => write!(
                f,
                "there is no ledger at {}; name the directory of `store.sqlite` with --store DIR",
                path.display()
            ),
            Self::Database(path, error) => write!(
                f,
                "store.sqlite: {}: {error}; if it is damaged, restore a backup or move it away",
                path.display()
            ),
            Self::Schema(path, number) => write!(
                f,
                "store.sqlite: {} was made by another version (migration {number} differs); use that version, or move \
                 the file away",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LedgerError {}
