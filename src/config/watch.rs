//! Configuration watch: reports when the content of a file that the configuration was read from has changed.
//! It never interprets the content: its owner loads the configuration again.

use std::io;
use std::time::Duration;

use super::notifier::Notifier;
use super::sources::Sources;
use super::watch_points::WatchPoints;

/// One save causes several events; they are over by then.
const SETTLE: Duration = Duration::from_millis(100);

/// A watch over the files of a configuration. It begins with none: see [`Watch::follow`].
///
/// Events of the file system only trigger a comparison: the content decides whether something has changed.
#[derive(Default)]
pub struct Watch {
    /// The content that was last loaded, or reported as changed.
    sources: Sources,
    /// Something may have changed and has not been compared yet. Kept here so that a caller who stops waiting
    /// halfway loses nothing.
    pending: bool,
    points: WatchPoints,
    notifier: Option<Notifier>,
    /// The number of comparisons of the files.
    #[cfg(test)]
    pub(super) comparisons: usize,
}

impl Watch {
    /// Watches these from now on, instead of those before. A change between their loading and this
    /// call is reported, too. It touches no file: that is for [`Watch::changed`].
    pub fn follow(&mut self, sources: &Sources) {
        self.sources = sources.clone();
        self.pending = true;
    }

    /// Resolves when the content of a file differs from before, or a file has become readable or
    /// unreadable. Cancel safe. Error: a directory cannot be watched, and a change there is found by the next
    /// reload; reported once for a set of directories.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            if !self.pending {
                match &mut self.notifier {
                    Some(notifier) => notifier.changed().await,
                    None => std::future::pending().await,
                }
                self.pending = true;
            }
            tokio::time::sleep(SETTLE).await;
            // Events from here on cause another comparison; those before are covered by this one.
            if let Some(notifier) = &mut self.notifier {
                notifier.read();
            }
            let sources = self.sources.clone();
            let compare =
                tokio::task::spawn_blocking(move || (sources.now(), sources.watch_points()));
            let Ok((now, points)) = compare.await else { continue };
            self.pending = false;
            #[cfg(test)]
            {
                self.comparisons += 1;
            }
            if points != self.points {
                self.pending = true;
                self.arm(points)?;
            }
            if now != self.sources {
                self.sources = now;
                return Ok(());
            }
        }
    }

    /// Watches these points and nothing else. The notifier before is dropped only then.
    fn arm(&mut self, points: WatchPoints) -> io::Result<()> {
        self.points = points;
        let (notifier, outcome) = Notifier::new(&self.points)?;
        self.notifier = Some(notifier);
        outcome
    }
}
