//! Tells when the content of a file that the configuration was read from has changed. It never reads
//! what the content means: whoever waits loads the configuration again.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::sources::Sources;

/// One save makes several events; they are over by then.
const SETTLE: Duration = Duration::from_millis(100);

/// A directory and which one it is: a directory that was replaced has to be watched anew.
type Place = (PathBuf, u64, u64);

/// A watch over the files of a configuration. It begins with none: see [`Watch::follow`].
///
/// Their directories are watched and not the files: editors replace a file by another, and
/// Kubernetes swaps a symbolic link beside it; a watch on the file itself sees the first of those at
/// best. What a directory tells is only that something happened; content decides.
pub struct Watch {
    /// The content that was last loaded, or told as changed.
    sources: Sources,
    /// Something may have happened that has not been looked into. Kept here so that a caller who
    /// stops waiting halfway loses nothing.
    stirred: bool,
    stir: mpsc::Sender<()>,
    events: mpsc::Receiver<()>,
    watched: BTreeSet<Place>,
    /// Watches for as long as it lives.
    watcher: Option<RecommendedWatcher>,
}

impl Default for Watch {
    fn default() -> Self {
        let (stir, events) = mpsc::channel(1);
        Self {
            sources: Sources::default(),
            stirred: false,
            stir,
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
        self.stirred = true;
    }

    /// Resolves when the content of a file is another than before, or one has become readable or
    /// unreadable. Waiting may be given up and taken up again at any time. Error: a directory cannot be
    /// watched, and a change there waits for the next reload; reported once for a set of directories.
    pub async fn changed(&mut self) -> notify::Result<()> {
        loop {
            if !self.stirred {
                self.events.recv().await;
                self.stirred = true;
            }
            tokio::time::sleep(SETTLE).await;
            // What comes from here on is told anew; what came before is in what is read now.
            while self.events.try_recv().is_ok() {}
            let sources = self.sources.clone();
            let look = tokio::task::spawn_blocking(move || (sources.now(), places(&sources)));
            let Ok((now, places)) = look.await else { continue };
            self.stirred = false;
            if places != self.watched {
                self.stirred = true;
                self.arm(places)?;
            }
            if now != self.sources {
                self.sources = now;
                return Ok(());
            }
        }
    }

    /// Watches all of `places`, and nothing else. The watcher before it is let go of only then.
    fn arm(&mut self, places: BTreeSet<Place>) -> notify::Result<()> {
        self.watched = places;
        let stir = self.stir.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<_>| {
            // Reading the files, as we do ourselves, is an event too.
            if !event.is_ok_and(|event: notify::Event| event.kind.is_access()) {
                // Full: a wake-up is waiting already.
                stir.try_send(()).ok();
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

fn places(sources: &Sources) -> BTreeSet<Place> {
    let place = |path: PathBuf| {
        let found = path.metadata().ok()?;
        Some((path, found.dev(), found.ino()))
    };
    sources.directories().filter_map(place).collect()
}
