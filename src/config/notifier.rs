//! Change notification for watch points: inotify on Linux; elsewhere a timer, whose owner compares content.
//!
//! It requests no events that a neighbour of the configuration's files causes while it is written to: a log file
//! beside the configuration causes no wake-ups.

#[cfg(all(target_os = "linux", test))]
pub(super) use inotify_notifier::EventCount;
#[cfg(target_os = "linux")]
pub(super) use inotify_notifier::Notifier;
#[cfg(not(target_os = "linux"))]
pub(super) use timer::Notifier;

#[cfg(target_os = "linux")]
mod inotify_notifier {
    use std::collections::HashMap;
    use std::io;

    use inotify::{Inotify, WatchDescriptor, WatchMask};
    use tokio::io::unix::AsyncFd;

    use super::super::watch_points::{Entries, WatchPoints};

    /// The bytes of events that are read at once.
    const BUFFER_BYTES: usize = 4096;

    /// Events of an instance of inotify.
    pub(in super::super) struct Notifier {
        inotify: AsyncFd<Inotify>,
        /// The entries that matter of each directory. A file has none, and all of its events matter.
        directories: HashMap<WatchDescriptor, Entries>,
    }

    /// The number of events that were read.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub(in super::super) struct EventCount {
        /// All.
        pub(in super::super) read: usize,
        /// Those that may have changed a file of the configuration.
        pub(in super::super) relevant: usize,
    }

    impl Notifier {
        /// Watches these points. The second value: a directory among them cannot be watched. Error: none can.
        pub(in super::super) fn new(points: &WatchPoints) -> io::Result<(Self, io::Result<()>)> {
            let inotify = Inotify::init()?;
            let mut directories = HashMap::<_, Entries>::new();
            let mut outcome = Ok(());
            // Without MODIFY, which every write to every file of a directory would be.
            let entries_change = WatchMask::CREATE
                | WatchMask::DELETE
                | WatchMask::MOVE
                | WatchMask::ATTRIB
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF;
            for (directory, entries) in &points.directories {
                match inotify.watches().add(&directory.path, entries_change | WatchMask::MASK_ADD) {
                    Ok(watch) => directories.entry(watch).or_default().merge(entries),
                    Err(error) => {
                        let text = format!("{}: {error}", directory.path.display());
                        outcome = outcome.and_then(|()| Err(io::Error::new(error.kind(), text)));
                    }
                }
            }
            let content_changes = WatchMask::MODIFY | WatchMask::ATTRIB | WatchMask::MASK_ADD;
            for file in &points.files {
                // One that may not be read cannot be watched; its directory reports when that changes.
                inotify.watches().add(&file.path, content_changes).ok();
            }
            #[expect(
                deprecated,
                reason = "`register` is unsafe, and asks for what holds here: the instance owns its descriptor"
            )]
            let inotify = AsyncFd::new(inotify)?;
            Ok((Self { inotify, directories }, outcome))
        }

        /// Reads the events that have happened.
        pub(in super::super) fn read(&mut self) -> EventCount {
            let mut count = EventCount::default();
            let mut buffer = [0; BUFFER_BYTES];
            // `WouldBlock`: there are no more.
            while let Ok(events) = self.inotify.get_mut().read_events(&mut buffer) {
                for event in events {
                    // Without a name: a file, the directory itself, or events that were lost.
                    let matters = event.name.is_none_or(|name| {
                        self.directories.get(&event.wd).is_none_or(|entries| entries.has(name))
                    });
                    count.read += 1;
                    count.relevant += usize::from(matters);
                }
            }
            count
        }

        /// Waits for an event that may have changed a file of the configuration.
        pub(in super::super) async fn changed(&mut self) {
            loop {
                match self.inotify.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_the_runtime_ends) => return std::future::pending().await,
                }
                if self.read().relevant > 0 {
                    return;
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    use super::super::watch_points::WatchPoints;

    /// The interval between two comparisons of the content.
    const INTERVAL: Duration = Duration::from_secs(2);

    /// A timer.
    pub(in super::super) struct Notifier;

    impl Notifier {
        pub(in super::super) fn new(_: &WatchPoints) -> io::Result<(Self, io::Result<()>)> {
            Ok((Self, Ok(())))
        }

        pub(in super::super) fn read(&mut self) {}

        pub(in super::super) async fn changed(&mut self) {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
