//! Invalid files, and the exact messages for them.

use super::{Dir, env, load, load_text, problems_of};

/// Prepended to each text under test, so that nothing else is wrong: two lines.
const AUTH: &str = "auth:\n  keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }]\n";

/// Snippets below `AUTH` (so that they start on line 3) and, after `=>`, their messages.
const SNIPPETS: &str = include_str!("snippets.txt");

/// Whole files, in the same way.
const FILES: &str = include_str!("files.txt");

#[test]
fn each_problem_is_reported_exactly() {
    for (before, cases) in [(AUTH, SNIPPETS), ("", FILES)] {
        for case in cases.split("\n\n") {
            let (expected, text): (Vec<_>, Vec<_>) =
                case.lines().partition(|line| line.starts_with("=> "));
            let reported = problems_of(format!("{before}{}\n", text.join("\n")));
            let reported: Vec<_> =
                reported.lines().map(|line| line.replacen("f:", "=> ", 1)).collect();
            assert_eq!(reported, expected, "{case}");
            assert!(!reported.concat().contains("canary"), "{case}");
        }
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let reported = problems_of(
        "stream: { stall: never }\n\
         server: { listen: here }\n\
         limits: { burst: 0 }\n\
         models: { m: { targets: [] } }\n\
         providers: { p: { dialect: x, api_key: \"${UNSET}\" } }\n\
         auth: { keys: [{ name: a, sha256: x }] }\n",
    );
    let lines: Vec<_> = reported.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines, ["1", "2", "3", "4", "5", "5", "6"], "{reported}");
}

#[test]
fn a_problem_names_the_file_as_it_was_given() {
    let dir = Dir::new();
    let path = dir.write("config.yaml", format!("{AUTH}x: 1\n"));
    let reported = load(&path, &env).unwrap_err().to_string();
    let expected = "config.yaml:3:1: unknown key `x`; expected one of `server`, ";
    assert!(reported.contains(expected), "{reported}");
    let reported = load(&dir.0.join("none.yaml"), &env).unwrap_err().to_string();
    assert!(reported.ends_with("none.yaml: there is no such file"), "{reported}");
    let reported = load(&dir.0, &env).unwrap_err().to_string();
    assert!(reported.ends_with(": is a directory; expected a text file"), "{reported}");
}

#[test]
fn no_file_is_too_large_or_too_deep_or_no_text() {
    let large = format!("{AUTH}#{}", "x".repeat(1 << 20));
    assert_eq!(problems_of(large), "f: too large; expected at most 1 MiB");
    assert_eq!(
        problems_of(b"a: 1\nb: \xff\n"),
        "f:2:1: this line is not UTF-8; expected a text file in UTF-8"
    );
    for open in ["[", "{", "{a: ", "- ", "? ", "[a, ", "&a [", "!a [", "a: *", "\"", "|\n"] {
        let reported = problems_of(open.repeat(100_000 / open.len()));
        assert_ne!(reported, "none", "{open}");
    }
}

#[test]
fn a_laugh_stays_one_laugh() {
    let lines = (1..60).map(|level| {
        let below = level - 1;
        format!("a{level}: &a{level} [*a{below}, *a{below}]\n")
    });
    let text: Vec<_> = std::iter::once("a0: &a0 [lol, lol]\n".to_owned()).chain(lines).collect();
    let reported = problems_of(text.concat());
    assert!(reported.contains("aliases (`*`) are not supported"), "{reported}");
}

#[test]
fn no_prefix_of_the_example_panics_or_shows_a_secret() {
    let example = include_str!("../../../streamgate.example.yaml");
    for (end, _) in example.char_indices().step_by(7) {
        let text = example.get(..end).unwrap();
        // A value in the wrong type of field is the way in which it might be shown.
        let text = text.replace("small", "${CANARY_LINES}").replace("10s", "${CANARY}");
        if let Err(problems) = load_text(text) {
            assert!(!problems.to_string().contains("canary"), "{problems}");
        }
    }
}
