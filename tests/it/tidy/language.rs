//! Wording that can be checked: first words of files and comments, and names of error types. The rules
//! are in `CONTRIBUTING.md`.

use super::{Source, assert_none, everything};

/// Words that begin a riddle in place of a noun.
const RIDDLES: [&str; 11] = [
    "What", "Who", "How", "Where", "Why", "When", "Whatever", "Whoever", "Whose", "Which",
    "Whether",
];

/// Where files still begin with such a word. This list only gets shorter.
const HEADS_LATER: [&str; 5] =
    ["crates/sim/", "crates/wire/", "src/config/", "src/gateway/", "src/prompts/"];

/// Where functions still return errors of other names. This list only gets shorter.
const ERRORS_LATER: [&str; 8] = [
    "crates/",
    "src/config/",
    "src/gateway/",
    "src/load",
    "src/main.rs",
    "src/prompts/",
    "src/reload.rs",
    "fuzz/",
];

fn is_later(source: &Source, later: &[&str]) -> bool {
    later.iter().any(|place| source.path.starts_with(place))
}

fn first_word(line: &str) -> &str {
    let text = line.trim_start_matches(['/', '!']).trim_start();
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default()
}

#[test]
fn files_open_with_a_noun() {
    let mut found = Vec::new();
    for source in everything().iter().filter(|source| !is_later(source, &HEADS_LATER)) {
        let head = source.text.lines().next().unwrap_or_default();
        if RIDDLES.contains(&first_word(head)) {
            found.push(format!("{}: {head}", source.path));
        }
    }
    assert_none("the first words of a file are what one searches for", &found);
}

/// The arguments of a generic type, from behind its `<`.
fn arguments(rest: &str) -> Vec<String> {
    let (mut depth, mut before) = (0, ' ');
    let mut arguments = vec![String::new()];
    for c in rest.chars() {
        match c {
            '>' if before == '-' => {}
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' if depth == 0 => break,
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        before = c;
        arguments.last_mut().expect("one at least").push(c);
    }
    arguments.iter().map(|argument| argument.trim().to_owned()).collect()
}

/// Types in the second place of a `Result` that are not called an error.
fn misnamed_errors(source: &Source) -> Vec<String> {
    if source.is_test() || source.path.starts_with("tests/it/") {
        return Vec::new();
    }
    let code = source.code();
    let results = code.match_indices("Result<").map(|(at, word)| code.split_at(at + word.len()).1);
    let errors = results.filter_map(|rest| arguments(rest).into_iter().nth(1));
    let name = |error: String| {
        if error.contains("dyn ") && error.contains("Error") {
            return String::new();
        }
        let plain = error.split('<').next().unwrap_or_default();
        plain.rsplit("::").next().unwrap_or_default().to_owned()
    };
    // `_` is inferred, `E` generic, `()` nothing to report, and words are messages for a person.
    let fine = ["", "_", "E", "()", "Infallible", "String", "&'static str", "&str"];
    let misnamed = |name: &String| !name.ends_with("Error") && !fine.contains(&name.as_str());
    errors.map(name).filter(misnamed).collect()
}

#[test]
fn error_types_are_called_errors() {
    assert_eq!(arguments("Vec<(u8, A)>, Box<B>> {"), ["Vec<(u8, A)>", "Box<B>"]);
    let mut found = Vec::new();
    for source in everything().iter().filter(|source| !is_later(source, &ERRORS_LATER)) {
        let names = misnamed_errors(source);
        found.extend(names.iter().map(|name| format!("{}: Result<_, {name}>", source.path)));
    }
    assert_none("names of error types end in `Error`", &found);
}
