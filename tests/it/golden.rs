//! Golden files: `tests/fixtures/<dialect>/<case>.in.*` to what each caller dialect receives, found by
//! listing the folders. `UPDATE=1` rewrites what is expected; read the diff before you commit it.
//!
//! Representative cases have a file of bytes for every caller (`<case>.<caller dialect>.*`). All others
//! have one for callers of the same dialect, whose frames are passed through, and for all of the other
//! callers together the content that the strict readers read (`<case>.views.txt`).
//!
//! Every fixture is also cut at every byte and truncated at every byte, by the callers in turn, and
//! fed byte by byte by each. A truncation must never end cleanly unless the terminal itself was whole.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use streamgate::wire::chat::End;
use streamgate::wire::dialect::{
    CallerDialect, DIALECTS, Dialect, Form, Mode, Quirks, Target, caller_dialects,
};

use crate::support::{Ended, Tool, View, call, natural_mode, reader, run, written};

/// Cases whose bytes are compared for every caller: text, reasoning, tool calls, an error, and what a
/// [`View`] does not hold (citations, log probabilities, signatures).
const REPRESENTATIVE: [(&str, &[&str]); 7] = [
    ("anthropic", &["citations", "error", "redacted-thinking", "text", "thinking", "tools"]),
    ("bedrock", &["citations", "exception-throttling", "reasoning", "redacted", "text", "tools"]),
    ("cohere", &["citations", "error", "logprobs", "text", "thinking-then-tool", "tools"]),
    ("gemini", &["error-event", "grounding", "logprobs", "text", "thinking", "tools"]),
    ("ollama", &["error-midstream", "generate-thinking", "logprobs", "text", "thinking", "tools"]),
    (
        "openai-chat",
        &["annotations", "error-midstream", "logprobs", "parallel-tools", "reasoning", "text"],
    ),
    (
        "openai-responses",
        &[
            "custom-tool",
            "error-flat",
            "logprobs",
            "parallel-tools",
            "reasoning-sealed",
            "text",
            "web-search-citations",
        ],
    ),
];

/// The representative cases of a dialect.
pub(crate) fn representative(dialect: &str) -> &'static [&'static str] {
    let row = REPRESENTATIVE.iter().find(|(name, _)| *name == dialect);
    row.unwrap_or_else(|| panic!("name cases of {dialect}")).1
}

/// Whether a caller's bytes are compared, or what its strict reader reads.
fn compares_bytes(upstream: &dyn Dialect, case: &str, caller: &dyn CallerDialect) -> bool {
    upstream.name() == caller.name() || representative(upstream.name()).contains(&case)
}

fn folder(dialect: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(dialect)
}

/// The cases of a dialect with this suffix, sorted.
pub(crate) fn cases(dialect: &str, suffix: &str) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder(dialect)).expect("every dialect has fixtures") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(case) = name.strip_suffix(suffix) {
            out.push((case.to_owned(), std::fs::read(&path).expect("readable")));
        }
    }
    out.sort();
    out
}

/// The streams of a dialect, sorted.
pub(crate) fn streams(dialect: &str) -> Vec<(String, Vec<u8>)> {
    [".in.sse", ".in.ndjson", ".in.json", ".in.bin"]
        .iter()
        .flat_map(|suffix| cases(dialect, suffix))
        .collect()
}

/// The extension of the file with the bytes that a caller receives.
pub(crate) fn extension(caller: &dyn CallerDialect) -> String {
    let sse = caller.media_type(&call(true, true)) == "text/event-stream";
    format!("{}.{}", caller.name(), if sse { "sse" } else { "ndjson" })
}

/// Whether files that hold what is expected are to be written (`UPDATE=1`).
pub(crate) fn update() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the tests' environment, not the gateway's")]
    let update = std::env::var("UPDATE").is_ok();
    update
}

/// Compares with the file, or writes it.
pub(crate) fn expect_file(path: &Path, actual: &[u8], failures: &mut Vec<String>) {
    if update() {
        std::fs::write(path, actual).expect("writable");
    } else if std::fs::read(path).ok().as_deref() != Some(actual) {
        let actual = String::from_utf8_lossy(actual);
        failures.push(format!("{} should be:\n{actual}", path.display()));
    }
}

/// The content of an answer, a line for each part of it.
fn described(caller: &str, view: &View) -> String {
    let mut out = format!("{caller}: {:?}\n", view.ended);
    if let Some(usage) = view.usage {
        let usage = format!("{usage:?}").replace("Tokens { ", "").replace(" }", "");
        writeln!(out, "  usage {usage}").expect("written");
    }
    for (index, choice) in &view.choices {
        writeln!(out, "  choice {index}, stop {:?}", choice.stop).expect("written");
        let parts = [
            ("text", &choice.text),
            ("reasoning", &choice.reasoning),
            ("refusal", &choice.refusal),
        ];
        for (name, part) in parts.iter().filter(|(_, part)| !part.is_empty()) {
            writeln!(out, "    {name} {part:?}").expect("written");
        }
        for Tool { id, name, arguments } in &choice.tools {
            writeln!(out, "    tool {id:?} {name:?} {arguments:?}").expect("written");
        }
    }
    out
}

#[test]
fn streams_are_as_expected() {
    let mut failures = Vec::new();
    for upstream in DIALECTS {
        for (case, input) in streams(upstream.name()) {
            let mut views = String::new();
            for caller in caller_dialects() {
                let mode = natural_mode(*upstream, caller);
                let run = run(*upstream, caller, (&call(true, true), mode), &input, []);
                if compares_bytes(*upstream, &case, caller) {
                    let name = format!("{case}.{}", extension(caller));
                    expect_file(&folder(upstream.name()).join(name), &run.out, &mut failures);
                } else {
                    let view = (reader(caller.name()).stream)(&run.out, true);
                    views += &described(caller.name(), &view.expect(&case));
                }
            }
            if !views.is_empty() {
                let path = folder(upstream.name()).join(format!("{case}.views.txt"));
                expect_file(&path, views.as_bytes(), &mut failures);
            }
        }
    }
    assert!(failures.is_empty(), "{}\nUPDATE=1 rewrites", failures.join("\n"));
}

/// The names of the files that belong into a dialect's folder.
fn belonging(upstream: &dyn Dialect) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (case, _) in streams(upstream.name()) {
        names.extend(["sse", "ndjson", "json", "bin"].map(|kind| format!("{case}.in.{kind}")));
        for caller in caller_dialects() {
            let bytes = compares_bytes(upstream, &case, caller);
            let kind = if bytes { extension(caller) } else { "views.txt".to_owned() };
            names.insert(format!("{case}.{kind}"));
        }
    }
    for (case, _) in cases(upstream.name(), ".request.json") {
        names.insert(format!("{case}.request.json"));
        names.extend(DIALECTS.iter().map(|to| format!("{case}.request.{}.json", to.name())));
    }
    names
}

/// `UPDATE=1` removes what no test compares.
#[test]
fn no_golden_file_is_left_over() {
    let mut left_over = Vec::new();
    for upstream in DIALECTS {
        let belonging = belonging(*upstream);
        for entry in std::fs::read_dir(folder(upstream.name())).expect("fixtures") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if belonging.contains(&name) {
                continue;
            }
            if update() {
                std::fs::remove_file(&path).expect("removable");
            }
            left_over.push(path.display().to_string());
        }
    }
    assert!(left_over.is_empty() || update(), "UPDATE=1 removes\n{}", left_over.join("\n"));
}

#[test]
fn requests_are_as_expected() {
    let mut failures = Vec::new();
    let quirks = Quirks::default();
    let target =
        Target { model: "upstream-model", stream: true, form: Form::Chat, quirks: &quirks };
    for caller in caller_dialects() {
        for (case, body) in cases(caller.name(), ".request.json") {
            let body = String::from_utf8(body).expect("UTF-8");
            for upstream in DIALECTS {
                let sent = if upstream.name() == caller.name() {
                    upstream.edit_request(&body, &target)
                } else {
                    caller
                        .decode_request(Form::Chat, &body)
                        .and_then(|mut request| written(&mut request, *upstream, &target))
                };
                let mut text = sent.unwrap_or_else(|fault| format!("{fault:#?}"));
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                let path =
                    folder(caller.name()).join(format!("{case}.request.{}.json", upstream.name()));
                expect_file(&path, text.as_bytes(), &mut failures);
            }
        }
    }
    assert!(failures.is_empty(), "{}\nUPDATE=1 rewrites", failures.join("\n"));
}

/// The places from 0 to `end` that are tried with this caller: the callers take turns, so that every
/// place is tried and the time it takes does not grow with their number.
fn turns(caller: &dyn CallerDialect, end: usize) -> impl Iterator<Item = usize> {
    let mine = caller_dialects().position(|other| other.name() == caller.name());
    (mine.expect("a caller")..end).step_by(caller_dialects().count())
}

/// The distance between the cuts of one run. One run then tries many places, each of them in whole
/// surroundings: few frames are longer.
const APART: usize = 256;

/// Calls `check` for every fixture, caller and natural mode.
fn every(mut check: impl FnMut(&str, &[u8], &dyn Dialect, &dyn CallerDialect, Mode)) {
    for upstream in DIALECTS {
        for (case, input) in streams(upstream.name()) {
            for caller in caller_dialects() {
                check(&case, &input, *upstream, caller, natural_mode(*upstream, caller));
            }
        }
    }
}

/// Translated output is valid, streamed or collected, and both have the same content.
#[test]
fn translations_are_legal() {
    every(|case, input, upstream, caller, _| {
        let streamed = run(upstream, caller, (&call(true, true), Mode::Translated), input, []);
        let read = (reader(caller.name()).stream)(&streamed.out, true);
        let streamed_view = read.unwrap_or_else(|why| panic!("{case} to {}: {why}", caller.name()));
        assert_eq!(streamed_view.ended == Ended::Complete, streamed.end == End::Complete, "{case}");
        let collected = run(upstream, caller, (&call(false, true), Mode::Translated), input, []);
        assert_eq!((&streamed.end, &streamed.tally), (&collected.end, &collected.tally), "{case}");
        if streamed.end != End::Complete {
            assert!(collected.out.is_empty(), "{case}: a body although it failed");
            return;
        }
        let mut view = (reader(caller.name()).answer)(&collected.out).expect(case);
        for (index, choice) in &mut view.choices {
            let other = &streamed_view.choices[index];
            let same = |(a, b): (&Tool, &Tool)| {
                // Cut arguments are text; a dialect that needs an object wraps them.
                (&a.id, &a.name) == (&b.id, &b.name)
                    && (b.value().is_string() || a.value() == b.value())
            };
            assert!(
                choice.tools.len() == other.tools.len()
                    && choice.tools.iter().zip(&other.tools).all(same),
                "{case}"
            );
            choice.tools.clone_from(&other.tools);
        }
        assert_eq!(view.choices, streamed_view.choices, "{case} to {}", caller.name());
    });
}

/// Failure modes 6, 26 and 32: wherever a cut is, and one byte at a time.
#[test]
fn cuts_never_matter() {
    every(|case, input, upstream, caller, mode| {
        let way = call(true, true);
        let whole = run(upstream, caller, (&way, mode), input, []);
        for first in turns(caller, APART.min(input.len() + 1)) {
            let cuts = (first..=input.len()).step_by(APART);
            let cut_run = run(upstream, caller, (&way, mode), input, cuts);
            assert_eq!(
                cut_run,
                whole,
                "{case} to {} cut at {first} and every {APART} bytes",
                caller.name()
            );
        }
        let bytes = run(upstream, caller, (&way, mode), input, 0..input.len());
        assert_eq!(bytes, whole, "{case} to {} byte by byte", caller.name());
    });
}

/// Failure modes 4 and 12: a truncation ends cleanly only when the terminal was whole, and with an error
/// otherwise.
#[test]
fn truncations_are_never_clean() {
    every(|case, input, upstream, caller, mode| {
        let way = call(true, true);
        let terminal = terminal(upstream.name(), input);
        // Within a frame nothing more is written: what was read before need not be read again.
        let mut read: Vec<u8> = Vec::new();
        for len in turns(caller, terminal.min(input.len())) {
            let cut = run(upstream, caller, (&way, mode), &input[..len], []);
            let place = format!("{case} to {} truncated at {len}", caller.name());
            assert_ne!(cut.end, End::Complete, "{place}");
            if cut.out == read {
                continue;
            }
            if mode == Mode::Translated {
                let ended = (reader(caller.name()).stream)(&cut.out, true).expect(&place).ended;
                assert!(matches!(ended, Ended::Error(_)), "{place}: {ended:?}");
            } else {
                let said = crate::support::payloads(caller.name(), &cut.out).expect(&place);
                let last = &said.last().expect(&place).1;
                assert!(last.contains("\"error\""), "{place}: {last}");
            }
            read = cut.out;
        }
    });
}

/// The first length of `input` at which its answer may count as whole: the end of the payload that
/// holds the earliest terminal.
pub(crate) fn terminal(dialect: &str, input: &[u8]) -> usize {
    if dialect == "bedrock" {
        // The whole message: what follows its type, and the checksum, end it.
        return messages(input)
            .find(|(_, bytes)| has(bytes, b"messageStop"))
            .map_or(input.len() + 1, |(end, _)| end);
    }
    let text = String::from_utf8_lossy(input);
    let marks: &[&str] = match dialect {
        "anthropic" => &["{\"type\":\"message_stop\"}"],
        "openai-responses" => {
            &["\"type\":\"response.completed\"", "\"type\":\"response.incomplete\""]
        }
        "cohere" => &["\"type\":\"message-end\""],
        "ollama" => &["\"done\":true"],
        "gemini" => &["\"finishReason\":", "\"blockReason\":"],
        _ => &["[DONE]", "\"finish_reason\":\"", "\"finish_reason\": \""],
    };
    let first = marks.iter().filter_map(|mark| text.find(mark).map(|at| (at, mark.len()))).min();
    let Some((at, len)) = first else { return input.len() + 1 };
    let line = text.split_at(at).1.find(['\r', '\n']).map_or(text.len(), |end| at + end);
    (at + len).max(line)
}

/// The messages of an AWS event stream, each with where it ends.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*rest.first_chunk()?);
        let (message, tail) = rest.split_at_checked(usize::try_from(length).expect("32 bits"))?;
        rest = tail;
        at += message.len();
        Some((at, message))
    })
}

fn has(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}
