//! Wording that can be checked: first words of files and comments, and names of error types. The rules
//! are in `CONTRIBUTING.md`.

use super::{Source, assert_none, everything};

/// Question words: a phrase that begins with one has no noun to search for.
const QUESTION_WORDS: [&str; 8] =
    ["What", "Who", "How", "Where", "Why", "When", "Which", "Whether"];

/// Whether a word is one of these, alone or with an ending such as `-ever`.
fn is_question(word: &str, words: &[&str]) -> bool {
    let stem = word.strip_suffix("ever").or_else(|| word.strip_suffix("se")).unwrap_or(word);
    words.contains(&stem) || words.contains(&word)
}

/// Where files still begin with such a word. This list only gets shorter.
const HEADS_LATER: [&str; 0] = [];

/// Where functions still return errors of other names. This list only gets shorter.
const ERRORS_LATER: [&str; 0] = [];

/// Where comments still begin with What, Who or How. This list only gets shorter.
const COMMENTS_LATER: [&str; 0] = [];

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
        if is_question(first_word(head), &QUESTION_WORDS) {
            found.push(format!("{}: {head}", source.path));
        }
    }
    assert_none("the first words of a file are what one searches for", &found);
}

#[test]
fn comments_open_with_a_noun() {
    let mut found = Vec::new();
    for source in everything().iter().filter(|source| !is_later(source, &COMMENTS_LATER)) {
        let mut before = "";
        for (number, line) in source.text.lines().map(str::trim_start).enumerate() {
            let opens = line.starts_with("//") && !before.starts_with("//");
            if opens && is_question(first_word(line), &QUESTION_WORDS[..3]) {
                found.push(format!("{}:{}: {line}", source.path, number + 1));
            }
            before = line;
        }
    }
    assert_none("comments give reasons, units, errors and sources, not questions", &found);
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
    // `_` is inferred, `E` generic, `()` nothing to report, words are messages for a person, a `Duration` is the
    // time after which to try again, and an `End` is how a stream ends instead.
    let fine = [
        "_",
        "E",
        "()",
        "Infallible",
        "std::convert::Infallible",
        "String",
        "Vec<String>",
        "&'static str",
        "Duration",
        "End",
        "&str",
    ];
    errors.filter(|error| !error.contains("Error") && !fine.contains(&error.as_str())).collect()
}

#[test]
fn error_types_are_called_errors() {
    assert_eq!(arguments("Vec<(u8, A)>, Box<B>> {"), ["Vec<(u8, A)>", "Box<B>"]);
    let mut found = Vec::new();
    for source in everything().iter().filter(|source| !is_later(source, &ERRORS_LATER)) {
        let names = misnamed_errors(source);
        found.extend(names.iter().map(|name| format!("{}: Result<_, {name}>", source.path)));
    }
    assert_none("names of error types end in `Error`, `Errors` or `ErrorKind`", &found);
}
