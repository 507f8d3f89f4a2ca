//! The watch on a real directory. Time is real here, because the watcher's thread is.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::super::watch;
use super::Dir;

const LONG: Duration = Duration::from_secs(20);

/// Replaces a file as editors do.
fn replace(dir: &Dir, content: &str) {
    let new = dir.write("new", content);
    fs::rename(new, dir.0.join("config.yaml")).unwrap();
}

#[tokio::test]
async fn every_replacement_is_seen() {
    let dir = Dir::new();
    let mut watch = watch(&dir.write("config.yaml", "a")).unwrap();
    for content in ["b", "c"] {
        replace(&dir, content);
        tokio::time::timeout(LONG, watch.changed()).await.unwrap();
    }
    fs::remove_file(dir.0.join("config.yaml")).unwrap();
    tokio::time::timeout(LONG, watch.changed()).await.unwrap();
}

#[tokio::test]
async fn a_swapped_link_is_seen() {
    // As Kubernetes mounts a ConfigMap: config.yaml -> ..data/config.yaml, ..data -> v1.
    let dir = Dir::new();
    for (version, content) in [("v1", "a"), ("v2", "b")] {
        fs::create_dir(dir.0.join(version)).unwrap();
        dir.write(&format!("{version}/config.yaml"), content);
    }
    symlink("v1", dir.0.join("..data")).unwrap();
    symlink("..data/config.yaml", dir.0.join("config.yaml")).unwrap();
    let mut watch = watch(&dir.0.join("config.yaml")).unwrap();
    symlink("v2", dir.0.join("..tmp")).unwrap();
    fs::rename(dir.0.join("..tmp"), dir.0.join("..data")).unwrap();
    tokio::time::timeout(LONG, watch.changed()).await.unwrap();
}

#[tokio::test]
async fn what_leaves_the_content_alone_is_no_change() {
    let dir = Dir::new();
    let mut watch = watch(&dir.write("config.yaml", "a")).unwrap();
    replace(&dir, "a");
    dir.write("other", "x");
    let quiet = tokio::time::timeout(Duration::from_millis(400), watch.changed()).await;
    assert!(quiet.is_err());
    // Nothing is lost by having given up waiting.
    replace(&dir, "b");
    tokio::time::timeout(LONG, watch.changed()).await.unwrap();
}
