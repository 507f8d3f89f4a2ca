//! The watch on real directories. Time is real here, because files are read on threads.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

#[cfg(target_os = "linux")]
use super::super::notifier::{EventCount, Notifier};
use super::super::{ConfigErrors, Sources, Watch};
use super::{Dir, env, load};

const LONG: Duration = Duration::from_secs(20);

/// A configuration that reads a credential from `key.txt` beside it, or below `directory`.
fn config(directory: &str) -> String {
    let digest = "ab".repeat(32);
    format!(
        "auth: {{ keys: [{{ name: k, sha256: \"{digest}\" }}] }}\n\
         providers: {{ p: {{ dialect: openai-chat, api_key: \"${{file:{directory}key.txt}}\" }} }}\n"
    )
}

fn sources(path: &Path) -> Sources {
    match load(path, &env) {
        Ok(config) => config.sources,
        Err(ConfigErrors { sources, .. }) => sources,
    }
}

fn following(path: &Path) -> Watch {
    let mut watch = Watch::default();
    watch.follow(&sources(path));
    watch
}

async fn told(watch: &mut Watch) {
    tokio::time::timeout(LONG, watch.changed()).await.unwrap().unwrap();
}

async fn quiet(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_millis(400), watch.changed()).await.is_err()
}

/// Replaces a file as editors do.
fn replace(dir: &Dir, name: &str, content: &str) {
    let new = dir.write("new", content);
    fs::rename(new, dir.0.join(name)).unwrap();
}

#[tokio::test]
async fn every_replacement_is_seen() {
    let dir = Dir::new();
    let mut watch = following(&dir.write("config.yaml", "a"));
    for content in ["b", "c"] {
        replace(&dir, "config.yaml", content);
        told(&mut watch).await;
    }
    fs::remove_file(dir.0.join("config.yaml")).unwrap();
    told(&mut watch).await;
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
    let mut watch = following(&dir.0.join("config.yaml"));
    symlink("v2", dir.0.join("..tmp")).unwrap();
    fs::rename(dir.0.join("..tmp"), dir.0.join("..data")).unwrap();
    told(&mut watch).await;
}

#[tokio::test]
async fn a_file_that_the_configuration_names_is_seen_where_it_is() {
    // As Kubernetes mounts a Secret, which is updated by itself.
    let (dir, secret) = (Dir::new(), Dir::new());
    for (version, content) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(secret.0.join(version)).unwrap();
        secret.write(&format!("{version}/key.txt"), content);
    }
    symlink("v1", secret.0.join("..data")).unwrap();
    symlink("..data/key.txt", secret.0.join("key.txt")).unwrap();
    let directory = format!("{}/", secret.0.display());
    let path = dir.write("config.yaml", config(&directory));
    assert!(load(&path, &env).is_ok());
    let mut watch = following(&path);
    symlink("v2", secret.0.join("..tmp")).unwrap();
    fs::rename(secret.0.join("..tmp"), secret.0.join("..data")).unwrap();
    told(&mut watch).await;
    // The file behind the link may be written to in place, too.
    secret.write("v2/key.txt", "three");
    told(&mut watch).await;
}

#[tokio::test]
async fn a_broken_configuration_is_followed_to_what_would_mend_it() {
    let dir = Dir::new();
    let path = dir.write("config.yaml", config("secrets/"));
    assert!(load(&path, &env).is_err());
    let mut watch = following(&path);
    fs::create_dir(dir.0.join("secrets")).unwrap();
    // The directory is new: it is watched from its creation on.
    assert!(quiet(&mut watch).await);
    dir.write("secrets/key.txt", "sk");
    told(&mut watch).await;
    assert!(load(&path, &env).is_ok());
}

#[tokio::test]
async fn prompts_are_followed_by_their_names_and_content() {
    let dir = Dir::new();
    fs::create_dir(dir.0.join("prompts")).unwrap();
    let path = dir.write("config.yaml", format!("{}prompts: {{ dir: prompts }}\n", config("")));
    let mut watch = following(&path);
    dir.write("prompts/notes.md", "x");
    dir.write("prompts/.a.yaml.swp", "x");
    assert!(quiet(&mut watch).await);
    let prompt = dir.write("prompts/a.yaml", "x");
    told(&mut watch).await;
    let mut watch = following(&path);
    fs::write(&prompt, "y").unwrap();
    told(&mut watch).await;
}

#[tokio::test]
async fn a_directory_is_followed_when_another_takes_its_place() {
    let dir = Dir::new();
    for version in ["v1", "v2"] {
        fs::create_dir(dir.0.join(version)).unwrap();
        dir.write(&format!("{version}/a.yaml"), "x");
    }
    symlink("v1", dir.0.join("prompts")).unwrap();
    let text = format!("{}prompts: {{ dir: prompts }}\n", config(""));
    let mut watch = following(&dir.write("config.yaml", text));
    symlink("v2", dir.0.join("tmp")).unwrap();
    fs::rename(dir.0.join("tmp"), dir.0.join("prompts")).unwrap();
    // The same content is no change, but it is the other directory that matters now.
    assert!(quiet(&mut watch).await);
    dir.write("v2/a.yaml", "y");
    told(&mut watch).await;
}

/// A log file beside the configuration, which is written to without a pause: the files are not compared again,
/// and the kernel reports nothing.
#[tokio::test]
async fn a_busy_file_in_the_same_directory_wakes_nobody() {
    let dir = Dir::new();
    fs::create_dir(dir.0.join("prompts")).unwrap();
    dir.write("key.txt", "one");
    dir.write("prompts/a.yaml", "x");
    let log = dir.write("gateway.log", "");
    let text = format!("{}prompts: {{ dir: prompts }}\n", config(""));
    let path = dir.write("config.yaml", text);
    let mut watch = following(&path);
    assert!(quiet(&mut watch).await);
    let before = watch.comparisons;
    let append = || fs::File::options().append(true).open(&log).unwrap();
    let mut kept_open = append();
    for number in 0..1000 {
        kept_open.write_all(b"a line\n").unwrap();
        append().write_all(b"a line\n").unwrap();
        if number % 100 == 0 {
            // As its owner does: it waits while lines are written.
            assert!(futures_util::FutureExt::now_or_never(watch.changed()).is_none());
            tokio::task::yield_now().await;
        }
    }
    // Rotation, and the temporary file of an editor for another file.
    fs::rename(&log, dir.0.join("gateway.log.1")).unwrap();
    replace(&dir, "notes.txt", "x");
    dir.write("prompts/README.md", "x");
    assert!(quiet(&mut watch).await);
    assert_eq!(watch.comparisons, before);
    // In place, beside all that.
    dir.write("key.txt", "two");
    told(&mut watch).await;
    assert!(watch.comparisons > before);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_reports_only_entries_and_files_of_the_configuration() {
    let dir = Dir::new();
    dir.write("key.txt", "one");
    let log = dir.write("gateway.log", "");
    let path = dir.write("config.yaml", config(""));
    let points = sources(&path).watch_points();
    let (mut notifier, outcome) = Notifier::new(&points).unwrap();
    outcome.unwrap();
    for _ in 0..1000 {
        fs::File::options().append(true).open(&log).unwrap().write_all(b"a line\n").unwrap();
        fs::read(&path).unwrap();
    }
    assert_eq!(notifier.read(), EventCount { read: 0, relevant: 0 });
    fs::rename(&log, dir.0.join("gateway.log.1")).unwrap();
    assert_eq!(notifier.read(), EventCount { read: 2, relevant: 0 });
    dir.write("key.txt", "two");
    assert!(notifier.read().relevant > 0);
    replace(&dir, "config.yaml", "x");
    assert!(notifier.read().relevant > 0);
}

/// A link that is not the last one, and is named with its whole path, is followed too.
#[tokio::test]
async fn a_link_on_the_way_is_seen() {
    let (dir, data) = (Dir::new(), Dir::new());
    for (version, content) in [("v1", "a"), ("v2", "b")] {
        fs::create_dir(data.0.join(version)).unwrap();
        data.write(&format!("{version}/config.yaml"), content);
    }
    symlink("v1", data.0.join("current")).unwrap();
    symlink(data.0.join("current/../current/config.yaml"), dir.0.join("config.yaml")).unwrap();
    let mut watch = following(&dir.0.join("config.yaml"));
    assert!(quiet(&mut watch).await);
    symlink("v2", data.0.join("new")).unwrap();
    fs::rename(data.0.join("new"), data.0.join("current")).unwrap();
    told(&mut watch).await;
    // Links in a circle lead nowhere, and are no reason to hang.
    symlink("b", dir.0.join("a")).unwrap();
    symlink("a", dir.0.join("b")).unwrap();
    assert!(quiet(&mut following(&dir.0.join("a"))).await);
}

#[tokio::test]
async fn a_change_between_loading_and_watching_is_told() {
    let dir = Dir::new();
    dir.write("key.txt", "one");
    let path = dir.write("config.yaml", config(""));
    let sources = sources(&path);
    dir.write("key.txt", "two");
    let mut watch = Watch::default();
    watch.follow(&sources);
    told(&mut watch).await;
    assert!(quiet(&mut watch).await);
}

#[tokio::test]
async fn what_leaves_the_content_alone_is_no_change() {
    let dir = Dir::new();
    dir.write("key.txt", "one");
    let text = config("");
    let mut watch = following(&dir.write("config.yaml", &text));
    replace(&dir, "config.yaml", &text);
    replace(&dir, "key.txt", "one");
    dir.write("other", "x");
    assert!(quiet(&mut watch).await);
    // Nothing is lost by having given up waiting.
    replace(&dir, "key.txt", "two");
    told(&mut watch).await;
}

#[test]
fn credentials_are_kept_as_digests() {
    let dir = Dir::new();
    dir.write("key.txt", "canary");
    let sources = format!("{:?}", sources(&dir.write("config.yaml", config(""))));
    assert!(sources.contains("key.txt"));
    let bytes = format!("{:?}", b"canary");
    assert!(!sources.contains("canary") && !sources.contains(bytes.trim_matches(['[', ']'])));
}

/// A pipe without a writer, or a mount whose server is gone, is an error after a while; it occupies one
/// thread and delays nothing else.
#[test]
fn a_file_that_hangs_is_an_error() {
    let dir = Dir::new();
    let pipe = dir.0.join("key.txt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let path = dir.write("config.yaml", config(""));
    for _ in 0..2 {
        let problems = load(&path, &env).unwrap_err();
        assert!(problems.to_string().contains("timed out"), "{problems}");
    }
    // The reader of the first attempt is still there.
    fs::write(&pipe, "one\n").unwrap();
    fs::remove_file(&pipe).unwrap();
    dir.write("key.txt", "two");
    // As soon as that one has ended.
    while load(&path, &env).is_err() {
        std::thread::yield_now();
    }
}
