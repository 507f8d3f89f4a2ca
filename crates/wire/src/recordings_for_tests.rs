//! Recorded answers of vendors, for tests. They are outside the repository. A test without them is skipped and
//! reported on standard error.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of skipped tests in this process.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// The files of a folder of recordings, sorted. Empty if the folder is missing, which is reported with the
/// number of skipped tests so far. The report does not use a macro, because the test harness would capture it.
pub(crate) fn recordings(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/recorded").join(folder);
    let Ok(entries) = std::fs::read_dir(root) else {
        let skipped = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test");
        let line = format!("skipped ({skipped}): {name}: there are no recordings of {folder}\n");
        std::io::stderr().write_all(line.as_bytes()).expect("standard error");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}
