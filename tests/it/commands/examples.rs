//! Commands that pages and help texts show: their options are those of the program. None of them is run.

use std::path::{Path, PathBuf};

use super::{alone, run};

/// The words of a shell's line up to the end of the command: a pipe, a redirection, a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quote, mut quoted) = (None, false);
    for c in line.chars() {
        let open = words.last_mut().unwrap();
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (None, '\'' | '"') => (quote, quoted) = (Some(c), true),
            (None, ' ') if open.is_empty() && !quoted => {}
            (None, ' ') => {
                words.push(String::new());
                quoted = false;
            }
            (None, '>' | '<') if open.parse::<u8>().is_ok() => {
                open.clear();
                break;
            }
            (None, '|' | '>' | '<' | '#' | ';' | '&' | ')') if open.is_empty() || c == ')' => break,
            (_, c) => open.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The arguments of each command of ours in a text.
fn commands(lines: &str) -> Vec<Vec<String>> {
    let joined = lines.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined.lines() {
        for start in ["streamgate ", "cargo run --release -- "] {
            for (at, _) in line.match_indices(start) {
                let (before, command) = line.split_at(at);
                let before = before.trim_end();
                // Elsewhere it is a name: of an image, a folder, a secret.
                let variable = |word: &str| word.contains('=') && !word.starts_with('-');
                let last = before.rsplit(' ').next().unwrap_or_default();
                let begins = before.is_empty() || before.ends_with(['|', '(', ';', '&']);
                if (begins || variable(last)) && !before.contains('#') {
                    found.extend(command.strip_prefix(start).map(words));
                }
            }
        }
    }
    found
}

/// The blocks of shell commands of a page.
fn blocks(page: &str) -> String {
    let blocks = page.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix("sh\n")).collect()
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            found.push(path);
        }
    }
}

/// Adds `--help`, which is acted on when everything before it has been read.
async fn assert_known(place: &str, command: &[String]) {
    let mut arguments = command.to_vec();
    let end = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
    arguments.insert(end, "--help".to_owned());
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (status, _, err) = run(alone(&words, &[])).await;
    assert_eq!(status, Some(0), "{place}: streamgate {}: {err}", command.join(" "));
}

#[tokio::test]
async fn commands_in_pages_are_commands_of_the_program() {
    assert_eq!(
        commands(
            "eval \"$(streamgate launch a -- 'b c')\"; x\nstreamgate a \\\n  b 2>&1 | c # streamgate d"
        ),
        [vec!["launch", "a", "--", "b c"], vec!["a", "b"]]
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    pages(&root.join("docs"), &mut files);
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for command in commands(&blocks(&text)) {
            assert_known(&file.display().to_string(), &command).await;
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} commands were found");
}

#[tokio::test]
async fn examples_in_help_texts_are_commands_of_the_program() {
    let mut seen = 0;
    for command in [
        &["chat"][..],
        &["doctor"],
        &["import", "litellm"],
        &["init"],
        &["launch"],
        &["load"],
        &["publish"],
        &["subscribe"],
    ] {
        let (_, help, _) = run(alone(&[command, &["--help"]].concat(), &[])).await;
        let examples = help.split("Example").nth(1).unwrap();
        for line in examples.lines().filter_map(|line| line.strip_prefix("  ")) {
            // A description follows after some spaces.
            let line = line.split("   ").next().unwrap();
            for example in commands(line) {
                assert_known(command[0], &example).await;
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} examples were found");
}
