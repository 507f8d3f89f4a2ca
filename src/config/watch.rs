//! Tells when the configuration file's content has changed. It never reads what the content means:
//! whoever waits loads the file again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// One save makes several events; they are over by then.
const SETTLE: Duration = Duration::from_millis(100);

/// A watched configuration file.
pub struct Watch {
    path: PathBuf,
    /// The content that was last reported; `None`: it could not be read.
    seen: Option<[u8; 32]>,
    /// Something happened that has not been looked into. Kept here so that a caller who stops
    /// waiting halfway loses nothing.
    stirred: bool,
    events: mpsc::Receiver<()>,
    /// Watches for as long as it lives.
    _watcher: RecommendedWatcher,
}

/// Starts to watch a file. Start before loading it, so that no change falls in between.
///
/// The directory is watched and not the file: editors replace the file by another, and Kubernetes
/// swaps a symbolic link beside it; a watch on the file itself sees the first of those at best.
pub fn watch(path: &Path) -> notify::Result<Watch> {
    let (stir, events) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file, as we do ourselves, is an event too.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // Full: a wake-up is waiting already.
            stir.try_send(()).ok();
        }
    })?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    watcher.watch(directory.unwrap_or_else(|| Path::new(".")), RecursiveMode::NonRecursive)?;
    let seen = fingerprint(path);
    Ok(Watch { path: path.to_owned(), seen, stirred: false, events, _watcher: watcher })
}

impl Watch {
    /// Resolves when the content is another than before, or has become unreadable. Waiting may be
    /// given up and taken up again at any time.
    pub async fn changed(&mut self) {
        loop {
            if !self.stirred {
                if self.events.recv().await.is_none() {
                    // The watcher is gone; there is nothing left to tell.
                    return std::future::pending().await;
                }
                self.stirred = true;
            }
            tokio::time::sleep(SETTLE).await;
            // What comes from here on is told anew; what came before is in what is read now.
            while self.events.try_recv().is_ok() {}
            let path = self.path.clone();
            let now = tokio::task::spawn_blocking(move || fingerprint(&path)).await.ok().flatten();
            self.stirred = false;
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

fn fingerprint(path: &Path) -> Option<[u8; 32]> {
    // A file that is too large counts as an empty one: neither can be loaded.
    let bytes = super::expand::read_bounded(path, super::MAX_FILE).ok()?;
    Some(Sha256::digest(bytes.unwrap_or_default()).into())
}
