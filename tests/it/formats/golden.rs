//! Golden files of the formats: `tests/fixtures/formats/<native>/<case>.<format>.*`, made of the golden bytes that
//! callers of the native dialect receive (`tests/fixtures/<native>/<case>.<native>.*`). `UPDATE=1` rewrites them; read
//! the diff before you commit it.
//!
//! The same bytes are cut at every byte and truncated at every byte, by the formats in turn.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use streamgate::wire::chat::End;
use streamgate::wire::dialect::{CallerDialect, caller_dialects};
use streamgate::wire::format::Format;

use super::{STREAMS, native, run, same_end, seen, summed};
use crate::golden::{cases, expect_file, extension, representative, terminal, update};

/// The distance between the cuts of one run, as in the suite of dialects.
const APART: usize = 256;

fn folder(native: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(native)
}

/// The golden bytes that callers of a dialect receive of upstreams of the same one, sorted.
fn natives(caller: &dyn CallerDialect) -> Vec<(String, Vec<u8>)> {
    let found = cases(caller.name(), &format!(".{}", extension(caller)));
    assert!(found.len() > 5, "{} has golden files", caller.name());
    found
}

/// Further cases whose bytes are compared: arguments that are cut off, and a refusal that is explained.
const FURTHER: [&str; 2] = ["max-tokens-in-tool", "refusal"];

/// Those whose bytes are compared.
fn compared(caller: &dyn CallerDialect) -> Vec<(String, Vec<u8>)> {
    let cases = representative(caller.name());
    let is_compared = |case: &str| cases.contains(&case) || FURTHER.contains(&case);
    natives(caller).into_iter().filter(|(case, _)| is_compared(case)).collect()
}

fn file(case: &str, format: Format) -> String {
    let extension = if format == Format::Snapshot { "json" } else { "sse" };
    format!("{case}.{}.{extension}", format.name())
}

#[test]
fn formats_are_as_expected() {
    let (mut failures, mut belonging) = (Vec::new(), BTreeSet::new());
    for caller in caller_dialects() {
        let folder = folder(caller.name());
        if update() {
            std::fs::create_dir_all(&folder).expect("a folder");
        }
        for (case, bytes) in compared(caller) {
            let mut expect = |format: Format, out: &[u8]| {
                let path = folder.join(file(&case, format));
                expect_file(&path, out, &mut failures);
                belonging.insert(path);
            };
            for format in STREAMS {
                let run = run(native(caller), format, &bytes, []);
                seen(format, &run.out).unwrap_or_else(|why| panic!("{case} as {format:?}: {why}"));
                expect(format, &run.out);
                if format == Format::Events {
                    let mut document = summed(&run.out);
                    document.push('\n');
                    expect(Format::Snapshot, document.as_bytes());
                }
            }
        }
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if !belonging.contains(&path) && update() {
                std::fs::remove_file(&path).expect("removable");
            } else if !belonging.contains(&path) {
                failures.push(format!("{} belongs to no case", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}\nUPDATE=1 rewrites", failures.join("\n"));
}

/// All formats have the same content, whatever the native dialect is.
#[test]
fn formats_agree() {
    for caller in caller_dialects() {
        for (case, bytes) in natives(caller) {
            let place = format!("{case} of {}", caller.name());
            let read = |format: Format| {
                let run = run(native(caller), format, &bytes, []);
                let seen = seen(format, &run.out);
                let seen = seen.unwrap_or_else(|why| panic!("{place} as {format:?}: {why}"));
                assert!(same_end(&run.end, &seen.state), "{place} as {format:?}: {}", seen.state);
                (run, seen)
            };
            let (run, events) = read(Format::Events);
            let snapshot = super::read::snapshot(&summed(&run.out)).expect(&place);
            assert_eq!(snapshot, events, "{place}");
            let (_, text) = read(Format::Text);
            assert_eq!(text.choice().text, super::lines(&events.choice().text), "{place}");
            assert_eq!(text.state, events.state, "{place}");
            let (run, ui) = read(Format::Ui);
            let (mut said, mut expected) = (ui.choice().clone(), events.choice().clone());
            // Each has words of its own.
            (said.stop, expected.stop) = (None, None);
            assert_eq!(said, expected, "{place}");
            assert_eq!((&ui.view.ended, &ui.state), (&events.view.ended, &events.state), "{place}");
            if run.end == End::Complete {
                assert_eq!(ui.view.usage, events.view.usage, "{place}");
            }
        }
    }
}

/// Wherever a cut is, and one byte at a time. The formats take turns.
#[test]
fn cuts_never_matter() {
    for caller in caller_dialects() {
        for (case, bytes) in natives(caller) {
            let (at, native) = (format!("{case} of {}", caller.name()), native(caller));
            for (turn, format) in STREAMS.into_iter().enumerate() {
                let whole = run(native, format, &bytes, []);
                for first in (turn..APART.min(bytes.len() + 1)).step_by(STREAMS.len()) {
                    let cuts = (first..=bytes.len()).step_by(APART);
                    let cut = run(native, format, &bytes, cuts);
                    assert_eq!(cut, whole, "{at} as {format:?} cut at {first} and every {APART}");
                }
                let each = run(native, format, &bytes, 0..bytes.len());
                assert_eq!(each, whole, "{at} as {format:?} byte by byte");
            }
        }
    }
}

/// Failure mode 4: native bytes that end early are an error in every format, and no tool is run for them.
#[test]
fn fm04_truncations_are_never_complete() {
    for caller in caller_dialects() {
        for (case, bytes) in compared(caller) {
            let terminal = terminal(caller.name(), &bytes);
            for (turn, format) in STREAMS.into_iter().enumerate() {
                let mut before = Vec::new();
                for len in (turn..terminal.min(bytes.len())).step_by(STREAMS.len()) {
                    let cut = run(native(caller), format, &bytes[..len], []);
                    let place = format!("{case} of {} to {len} as {format:?}", caller.name());
                    assert_ne!(cut.end, End::Complete, "{place}");
                    if cut.out != before {
                        let seen = seen(format, &cut.out);
                        assert_eq!(seen.expect(&place).state, "error", "{place}");
                        before = cut.out;
                    }
                }
            }
        }
    }
}
