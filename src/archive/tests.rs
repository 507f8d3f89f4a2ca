//! Tests of the disk archive: keys, expiries, bounds, restarts, and files that are damaged.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::config;
use crate::telemetry::Metrics;

/// A file in a directory of its own, which is removed with it.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        let name = format!("streamgate-archive-{}", rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("streams.redb")
    }

    fn open(&self, most: u64, now: fn() -> u64) -> Result<DiskArchive, String> {
        let settings = config::Archive { path: self.file(), max_disk: most };
        DiskArchive::open(&settings, now, &Arc::<Metrics>::default())
            .map_err(|error| error.to_string())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn key(owner: &str, id: &str) -> Key {
    Key::new(Kind::Stream, &owner.into(), id)
}

fn put(owner: &str, id: &str, value: &'static [u8], expires: u64) -> Change {
    Change::Put { key: key(owner, id), value: Bytes::from_static(value), expires }
}

async fn value(archive: &DiskArchive, owner: &str, id: &str) -> Option<Bytes> {
    archive.get(key(owner, id)).await.unwrap()
}

async fn ids(archive: &DiskArchive, owner: &str) -> Vec<String> {
    let listed = archive.list(Kind::Stream, &owner.into()).await.unwrap();
    listed.into_iter().map(|one| one.id).collect()
}

const MOST: u64 = 1 << 30;

#[tokio::test]
async fn records_are_found_by_their_keys_also_after_a_restart() {
    let place = Place::new();
    let archive = place.open(MOST, || 10).unwrap();
    let other = Change::Put {
        key: Key::new(Kind::Response, &"a".into(), "1"),
        value: Bytes::from_static(b"other kind"),
        expires: 100,
    };
    let changes = vec![
        put("a", "2", b"two", 100),
        put("a", "1", b"one", 100),
        put("a", "3", b"three", 10),
        put("ab", "1", b"of another", 100),
        other,
    ];
    archive.write(changes).await.unwrap();
    let check = async |archive: &DiskArchive| {
        assert_eq!(value(archive, "a", "1").await.as_deref(), Some(&b"one"[..]));
        assert_eq!(value(archive, "ab", "1").await.as_deref(), Some(&b"of another"[..]));
        assert_eq!(value(archive, "b", "1").await, None);
        // It has expired.
        assert_eq!(value(archive, "a", "3").await, None);
        assert_eq!(ids(archive, "a").await, ["1", "2"]);
        let all = archive.scan(Range::all(Kind::Stream)).await.unwrap();
        let keys: Vec<_> = all.iter().map(|record| (&*record.key.owner, &*record.key.id)).collect();
        assert_eq!(keys, [("a", "1"), ("a", "2"), ("ab", "1")]);
        let listed = archive.list(Kind::Stream, &"a".into()).await.unwrap();
        assert!(listed[0].written > listed[1].written, "{listed:?}");
    };
    check(&archive).await;
    // It is in use.
    let error = place.open(MOST, || 10).unwrap_err();
    assert!(error.contains("streams.redb") && error.contains("another process"), "{error}");
    archive.close().await.unwrap();
    archive.close().await.unwrap();
    assert_eq!(archive.get(key("a", "1")).await, Err(ArchiveError::Closed));
    let archive = place.open(MOST, || 10).unwrap();
    check(&archive).await;
}

#[tokio::test]
async fn records_are_replaced_prolonged_and_removed() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let place = Place::new();
    let archive = place.open(MOST, || NOW.load(Relaxed)).unwrap();
    let changes = (1..=5).map(|n| put("a", ["", "1", "2", "3", "4", "5"][n], b"x", 10));
    archive.write(changes.collect()).await.unwrap();
    archive
        .write(vec![
            put("a", "1", b"new", 20),
            Change::Prolong { key: key("a", "2"), expires: 20 },
            // It never shortens, and makes nothing.
            Change::Prolong { key: key("a", "3"), expires: 5 },
            Change::Prolong { key: key("a", "6"), expires: 20 },
            Change::Remove(key("a", "4")),
            Change::Remove(key("a", "7")),
        ])
        .await
        .unwrap();
    assert_eq!(value(&archive, "a", "1").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(ids(&archive, "a").await, ["1", "2", "3", "5"]);
    NOW.store(10, Relaxed);
    assert_eq!(ids(&archive, "a").await, ["1", "2"]);
    archive.write(vec![put("a", "3", b"x", 20), put("b", "1", b"x", 20)]).await.unwrap();
    archive.write(vec![Change::RemoveUpTo(key("a", "2"))]).await.unwrap();
    assert_eq!(
        (ids(&archive, "a").await, ids(&archive, "b").await),
        (vec!["3".into()], vec!["1".into()])
    );
    NOW.store(20, Relaxed);
    assert!(ids(&archive, "a").await.is_empty());
}

#[tokio::test]
async fn what_expires_first_makes_room() {
    static BLOCK: [u8; 1_000] = [7; 1_000];
    let place = Place::new();
    let archive = place.open(3_500, || 0).unwrap();
    for (id, expires) in [("1", 30), ("2", 10), ("3", 20), ("4", 40)] {
        archive.write(vec![put("a", id, &BLOCK, expires)]).await.unwrap();
    }
    assert_eq!(ids(&archive, "a").await, ["1", "3", "4"]);
}

#[tokio::test]
async fn a_scan_has_pages() {
    let place = Place::new();
    let archive = place.open(MOST, || 0).unwrap();
    let block = Bytes::from(vec![7; 400_000]);
    let changes = (10..20).map(|n| Change::Put {
        key: key("a", &format!("x/{n}")),
        value: block.clone(),
        expires: 9,
    });
    archive.write(changes.collect()).await.unwrap();
    archive.write(vec![put("a", "w", b"", 9), put("a", "y", b"", 9)]).await.unwrap();
    let mut range = Range::of(Kind::Stream, &"a".into(), "x/");
    let mut pages = Vec::new();
    loop {
        let page = archive.scan(range.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        range.after = Some(last.key.clone());
        pages.push(page.iter().map(|record| record.key.id.clone()).collect::<Vec<_>>());
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 1]);
    assert!(pages.concat().is_sorted());
}

/// Garbage, a file that was cut, and one with bytes of another file in it: an error that names the file and the remedy,
/// or everything that was there.
#[tokio::test]
async fn a_damaged_file_is_a_clear_error_and_never_a_wrong_record() {
    let place = Place::new();
    std::fs::write(place.file(), b"this is no archive").unwrap();
    let error = place.open(MOST, || 0).unwrap_err();
    assert!(error.contains("streams.redb") && error.contains("move it away"), "{error}");
    std::fs::remove_file(place.file()).unwrap();
    let archive = place.open(MOST, || 0).unwrap();
    let texts: Vec<Bytes> = (0..200u8).map(|n| vec![n; 3_000].into()).collect();
    let changes = texts.iter().enumerate().map(|(n, text)| Change::Put {
        key: key("a", &n.to_string()),
        value: text.clone(),
        expires: 9,
    });
    archive.write(changes.collect()).await.unwrap();
    archive.close().await.unwrap();
    let whole = std::fs::read(place.file()).unwrap();
    let cut = |at: usize| whole[..at].to_vec();
    let overwritten = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at..(at + 64).min(whole.len())].fill(0xA5);
        bytes
    };
    let step = whole.len() / 20;
    let damaged = (1..20).flat_map(|part| [cut(part * step), overwritten(part * step)]);
    let mut rejected = 0;
    for bytes in damaged.chain([cut(1), cut(100), cut(4096)]) {
        std::fs::write(place.file(), &bytes).unwrap();
        match place.open(MOST, || 0) {
            Err(error) => {
                assert!(error.contains("move it away"), "{error}");
                rejected += 1;
            }
            // The bytes belonged to no record.
            Ok(archive) => {
                for (n, text) in texts.iter().enumerate() {
                    assert_eq!(value(&archive, "a", &n.to_string()).await.as_ref(), Some(text));
                }
                archive.close().await.unwrap();
            }
        }
    }
    assert!(rejected >= 20, "{rejected}");
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_a_clear_error() {
    let settings = config::Archive { path: "/nonexistent/streams.redb".into(), max_disk: 1 };
    let error = DiskArchive::open(&settings, || 0, &Arc::<Metrics>::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "streams.path: cannot open /nonexistent/streams.redb: I/O error: No such file or directory (os error 2); name a \
         file in a directory that exists and may be written to"
    );
}

/// A disk that hangs holds nobody up: what has no room in the queue is refused at once, and counted.
#[tokio::test]
async fn a_queue_that_is_full_refuses_and_loses_nothing_that_it_took() {
    static DISK: Mutex<()> = Mutex::new(());
    let now = || {
        drop(DISK.lock().unwrap());
        0
    };
    let place = Place::new();
    let metrics = Arc::<Metrics>::default();
    let settings = config::Archive { path: place.file(), max_disk: MOST };
    let archive = DiskArchive::open(&settings, now, &metrics).unwrap();
    let block = Bytes::from(vec![7; 40 << 20]);
    let large = |id: &str| Change::Put { key: key("a", id), value: block.clone(), expires: 9 };
    let hanging = DISK.lock().unwrap();
    let [taken, refused] = ["1", "2"].map(|id| archive.write(vec![large(id)]));
    let small: Vec<_> =
        (0..2_000).map(|n| archive.write(vec![put("b", &n.to_string(), b"x", 9)])).collect();
    drop(hanging);
    assert_eq!(refused.await, Err(ArchiveError::Busy));
    taken.await.unwrap();
    let mut kept = 0;
    for written in small {
        match written.await {
            Ok(()) => kept += 1,
            Err(error) => assert_eq!(error, ArchiveError::Busy),
        }
    }
    assert!((1_000..2_000).contains(&kept), "{kept}");
    assert_eq!((ids(&archive, "a").await.len(), ids(&archive, "b").await.len()), (1, kept));
    assert_eq!(metrics.archive_records_lost.get(), 2_001 - kept as u64);
}
