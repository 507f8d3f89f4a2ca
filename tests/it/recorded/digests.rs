//! Golden files of the recordings that copy nothing of them: for each dialect one file, with how much
//! was written of each recording to each caller, and its hash. It must never hold an answer itself.
//!
//! `UPDATE=1 cargo test recorded` rewrites them. A hash tells that something changed, not what:
//! `OUTPUTS=DIR cargo test recorded` writes all answers below DIR, to be compared with those of the
//! commit before by `diff -r`.

use std::fmt::Write as _;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

/// The output for one recording and one caller.
pub(super) struct Digest {
    recording: String,
    line: String,
}

impl Digest {
    /// Of an answer that was translated, streamed and collected. Nothing is collected of a stream that
    /// failed.
    pub(super) fn of(
        recording: String,
        caller: &'static str,
        streamed: &[u8],
        collected: &[u8],
    ) -> Self {
        if let Some(folder) = setting("OUTPUTS") {
            let folder = PathBuf::from(folder).join(caller);
            std::fs::create_dir_all(&folder).expect("a folder");
            for (way, bytes) in [("streamed", streamed), ("collected", collected)] {
                std::fs::write(folder.join(format!("{recording}.{way}")), bytes).expect("writable");
            }
        }
        let mut line = format!("{caller:<17}streamed {}", digest(streamed));
        // Writing to a string cannot fail.
        write!(line, "  collected {}", digest(collected)).unwrap_or_default();
        Self { recording, line }
    }
}

/// Bytes and hash. The hash is `SipHash` with the key 0, which std compiled with optimisations: a
/// cryptographic one takes a minute in a debug build, and nobody attacks this.
fn digest(bytes: &[u8]) -> String {
    #[expect(deprecated, reason = "its successor may change what it computes, this one may not")]
    let mut hasher = std::hash::SipHasher::new();
    hasher.write(bytes);
    format!("{:>7} bytes {:016x}", bytes.len(), hasher.finish())
}

fn setting(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "asked by whoever runs the tests, not by the gateway"
    )]
    std::env::var(name).ok()
}

/// Compares with the dialect's file, or writes it.
pub(super) fn compare(dialect: &str, digests: &[Digest]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recorded");
    let path = folder.join(format!("{dialect}.txt"));
    let text = text(digests);
    if setting("UPDATE").is_some() {
        std::fs::write(&path, text).expect("writable");
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if known == text {
        return;
    }
    let (known, now) = (lines(&known), lines(&text));
    let mut changes: Vec<String> = Vec::new();
    let mut changed = |(recording, caller): &(&str, &str), how: &str| {
        changes.push(format!("{recording} -> {caller}\n  {how}"));
    };
    for (place, line) in &now {
        match known.get(place) {
            Some(other) if other == line => {}
            Some(other) => changed(place, &format!("was {other}\n  now {line}")),
            None => changed(place, &format!("new {line}")),
        }
    }
    for place in known.keys().filter(|place| !now.contains_key(*place)) {
        changed(place, "is gone");
    }
    panic!(
        "{} answers changed since {} was written:\n{}\nWhat changed in them: OUTPUTS=DIR cargo test recorded writes \
         them all below DIR; do so here and on the commit before, and compare with diff -r. If it is right: \
         UPDATE=1 cargo test recorded",
        changes.len(),
        path.display(),
        changes.join("\n")
    );
}

/// A heading for each recording, and a line for each caller.
fn text(digests: &[Digest]) -> String {
    let mut out = String::new();
    let mut last = "";
    for digest in digests {
        if digest.recording != last {
            last = &digest.recording;
            writeln!(out, "{last}").unwrap_or_default();
        }
        writeln!(out, "  {}", digest.line).unwrap_or_default();
    }
    out
}

/// The lines by recording and caller.
fn lines(text: &str) -> std::collections::BTreeMap<(&str, &str), &str> {
    let mut heading = "";
    let mut out = std::collections::BTreeMap::new();
    for line in text.lines() {
        match line.strip_prefix("  ") {
            None => heading = line,
            Some(line) => {
                let (caller, rest) = line.split_once(' ').unwrap_or((line, ""));
                out.insert((heading, caller), rest.trim_start());
            }
        }
    }
    out
}
