//! Recordings that are not compared, with the reason; no other may be missing.

use std::collections::BTreeMap;
use std::path::Path;

use super::extract::{Folder, RECORDED};
use super::{files, holds_stream, name_of, recorded, status_of};

/// Streams that cannot be held to the general rule, and why. They are sent to every caller all the
/// same: cuttings change nothing, what is written is legal, and it is what was written before.
const SPECIAL: &[(&str, &str)] = &[
    (
        "vercel-duplicate-message-start",
        "a synthetic stream with a second message spliced in: reset or error, both right",
    ),
    ("vercel-parallel-tool-call-wrapper", "its first and last payloads are cut and no JSON"),
    ("vercel-openai-shell-container", "abridged by hand: most fragments of its text are gone"),
    ("vercel-openai-phase", "abridged by hand: most fragments of its text are gone"),
    ("cohere-chat-legacy-with-streaming", "the first version of the API, another language"),
    ("__TestInvokeModelWithStreamResponse", INVOKED),
    ("-invoke-stream", INVOKED),
    ("__invoke-model-with-response-stream", INVOKED),
    ("__guardrail-invoke-stream", INVOKED),
    ("amazon.titan-text-express-v1__should-handle-amazon-titan-streaming", INVOKED),
];

/// Anthropic's present events among them are read by `bedrock::anthropic_events_in_chunks`.
const INVOKED: &str = "InvokeModel: a model's own events in chunks, not Converse";

/// Folders that no dialect here reads, and what becomes of them.
const OTHERS: &[(&str, &str)] = &[
    (
        "other/eventstream-vectors",
        "read by the framing's own tests, crates/wire/src/aws_eventstream_tests.rs",
    ),
    (
        "other/gemini-interactions",
        "Google's Interactions API: another protocol, which is not spoken here",
    ),
    ("other/openai-completions", "passed on verbatim: openai_chat::completions_pass_as_they_came"),
];

/// Why a recording is not compared.
pub(super) fn why(name: &str) -> Option<&'static str> {
    SPECIAL.iter().find(|(part, _)| name.contains(part)).map(|(_, why)| *why)
}

/// Every file beside the project is read by some test, or its folder is named above with a reason.
#[test]
fn every_file_is_accounted_for() {
    let Some(root) = recorded() else { return };
    let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let inside = folder.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
        for path in files(&folder) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            match what(&inside, &path) {
                Some(what) => *counts.entry((inside.clone(), what)).or_default() += 1,
                None => unknown.push(path.display().to_string()),
            }
        }
    }
    for ((folder, what), count) in counts {
        println!("{count:5} {folder:<28} {what}");
    }
    assert!(unknown.is_empty(), "nobody reads:\n{}", unknown.join("\n"));
    let stale = |(part, _): &&(&str, &str)| {
        let mut paths = RECORDED.iter().flat_map(|recorded| recorded.folders);
        !paths.any(|folder| {
            files(&root.join(folder.name)).iter().any(|path| name_of(path).contains(part))
        })
    };
    let stale: Vec<_> = SPECIAL.iter().filter(stale).collect();
    assert!(stale.is_empty(), "no recording has these names: {stale:?}");
}

/// The treatment of a file.
fn what(folder: &str, path: &Path) -> Option<&'static str> {
    let name = name_of(path);
    if let Some((_, why)) = OTHERS.iter().find(|(name, _)| *name == folder) {
        return Some(why);
    }
    let own: Option<&Folder> =
        RECORDED.iter().flat_map(|recorded| recorded.folders).find(|own| own.name == folder);
    match own {
        _ if folder.is_empty() => (name == "INDEX.tsv").then_some("the list"),
        None if folder != "errors" => None,
        _ if name.ends_with(".request.json") => Some("requests"),
        _ if status_of(&name).is_some() => Some("error bodies"),
        Some(own) if holds_stream(own, &name) => Some(why(&name).unwrap_or("streams, compared")),
        _ => None,
    }
}
