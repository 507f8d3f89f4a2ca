//! File watcher: reports when the content of a file that the configuration was read from has changed. It must never
//! interpret the content: its caller loads the configuration again.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::sources::Sources;

/// One save causes several events; they are over by then.
const SETTLE: Duration = Duration::from_millis(100);

/// A directory, with its device and inode: a directory that was replaced must be watched again.
type WatchedDirectory = (PathBuf, u64, u64);

/// A watch over the files of a configuration. It begins with none: see [`Watch::follow`].
///
/// Their directories are watched and not the files: editors replace a file by another, and
/// Kubernetes swaps a symbolic link beside it; a watch on the file itself sees the first of those at
/// best. An event of a directory only starts a comparison of the content.
pub struct Watch {
    /// The content that was last loaded, or reported as changed.
    sources: Sources,
    /// There was an event that is not compared yet. Kept here, so that a cancelled wait loses nothing.
    dirty: bool,
    notify: mpsc::Sender<()>,
    events: mpsc::Receiver<()>,
    watched: BTreeSet<WatchedDirectory>,
    /// Watches for as long as it lives.
    watcher: Option<RecommendedWatcher>,
}

impl Default for Watch {
    fn default() -> Self {
        let (notify, events) = mpsc::channel(1);
        Self {
            sources: Sources::default(),
            dirty: false,
            notify,
            events,
            watched: BTreeSet::new(),
            watcher: None,
        }
    }
}

impl Watch {
    /// Watches these from now on, instead of those before. A change between their loading and this
    /// call is reported, too. It touches no file: that is for [`Watch::changed`].
    pub fn follow(&mut self, sources: &Sources) {
        self.sources = sources.clone();
        self.dirty = true;
    }

    /// Resolves when the content of a file has changed, or one has become readable or unreadable. Cancel safe. Error: a
    /// directory cannot be watched, and a change there waits for the next reload; reported once for a set of directories.
    pub async fn changed(&mut self) -> notify::Result<()> {
        loop {
            if !self.dirty {
                self.events.recv().await;
                self.dirty = true;
            }
            tokio::time::sleep(SETTLE).await;
            // Events from here on are compared again; those before are covered by this comparison.
            while self.events.try_recv().is_ok() {}
            let sources = self.sources.clone();
            let look = tokio::task::spawn_blocking(move || (sources.now(), places(&sources)));
            let Ok((now, places)) = look.await else { continue };
            self.dirty = false;
            if places != self.watched {
                self.dirty = true;
                self.arm(places)?;
            }
            if now != self.sources {
                self.sources = now;
                return Ok(());
            }
        }
    }

    /// Watches all of `places`, and nothing else. The previous watcher is dropped only after that.
    fn arm(&mut self, places: BTreeSet<WatchedDirectory>) -> notify::Result<()> {
        self.watched = places;
        let notify = self.notify.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<_>| {
            // Reading the files, as we do ourselves, is an event too.
            if !event.is_ok_and(|event: notify::Event| event.kind.is_access()) {
                // Full: a wake-up is waiting already.
                notify.try_send(()).ok();
            }
        })?;
        let mut outcome = Ok(());
        for (directory, ..) in &self.watched {
            let watching = watcher.watch(directory, RecursiveMode::NonRecursive);
            outcome = outcome.and(watching);
        }
        self.watcher = Some(watcher);
        outcome
    }
}

fn places(sources: &Sources) -> BTreeSet<WatchedDirectory> {
    let place = |path: PathBuf| {
        let found = path.metadata().ok()?;
        Some((path, found.dev(), found.ino()))
    };
    sources.directories().filter_map(place).collect()
}
