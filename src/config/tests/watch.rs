//! The watch on real directories. Time is real here, because the watcher's thread is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

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
    // The directory is new: it is watched from its first event on.
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

/// A pipe without a writer, or a mount whose server is gone, is an error after a while; it holds one
/// thread, and nobody else up.
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
