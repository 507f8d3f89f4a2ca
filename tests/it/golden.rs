//! Golden files: `tests/fixtures/<dialect>/<case>.in.*` to `<case>.<caller dialect>.*`, found by
//! listing the folders. `UPDATE=1` rewrites what is expected; read the diff before you commit it.
//!
//! Every fixture is also cut at every byte and truncated at every byte, by the callers in turn, and
//! fed byte by byte by each. A truncation must never end cleanly unless the terminal itself was whole.

use std::path::{Path, PathBuf};

use streamgate::wire::chat::End;
use streamgate::wire::dialect::{
    CallerDialect, DIALECTS, Dialect, Form, Mode, Quirks, Target, caller_dialects,
};

use crate::support::{Ended, Tool, call, natural_mode, reader, run, written};

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

/// How the file is called that holds what a caller receives.
fn extension(caller: &dyn CallerDialect) -> String {
    let sse = caller.media_type(&call(true, true)) == "text/event-stream";
    format!("{}.{}", caller.name(), if sse { "sse" } else { "ndjson" })
}

/// Compares with the file, or writes it.
fn expect_file(path: &Path, actual: &[u8], failures: &mut Vec<String>) {
    #[expect(
        clippy::disallowed_methods,
        reason = "asked by whoever runs the tests, not by the gateway"
    )]
    let update = std::env::var("UPDATE").is_ok();
    if update {
        std::fs::write(path, actual).expect("writable");
    } else if std::fs::read(path).ok().as_deref() != Some(actual) {
        let actual = String::from_utf8_lossy(actual);
        failures.push(format!("{} should be:\n{actual}", path.display()));
    }
}

#[test]
fn streams_are_as_expected() {
    let mut failures = Vec::new();
    for upstream in DIALECTS {
        for (case, input) in streams(upstream.name()) {
            for caller in caller_dialects() {
                let mode = natural_mode(*upstream, caller);
                let run = run(*upstream, caller, (&call(true, true), mode), &input, []);
                let path = folder(upstream.name()).join(format!("{case}.{}", extension(caller)));
                expect_file(&path, &run.out, &mut failures);
            }
        }
    }
    assert!(failures.is_empty(), "{}\nUPDATE=1 rewrites", failures.join("\n"));
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

/// How far apart the cuts of one run are. One run then tries many places, each of them in whole
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

/// What translation writes is legal, streamed or collected, and both say the same.
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

/// 6, 26, 32: wherever a cut is, and one byte at a time.
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

/// 4, 12: a truncation ends cleanly only when the terminal was whole, and is told otherwise.
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
fn terminal(dialect: &str, input: &[u8]) -> usize {
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
