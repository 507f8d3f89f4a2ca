//! References from code and pages to pages, files, failure modes and tests: what is cited exists.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Source, assert_none, everything, files, root};

const FAILURE_MODES: &str = "docs/failure-modes.md";

/// One section of the page.
struct Mode {
    number: u32,
    text: String,
}

fn page() -> String {
    std::fs::read_to_string(root().join(FAILURE_MODES)).expect("the page")
}

/// The sections `### N. Title`, in the order of the page.
fn modes() -> Vec<Mode> {
    let page = page();
    let sections = page.split("\n### ").skip(1);
    let mode = |section: &str| {
        let text = section.split("\n## ").next().unwrap_or_default().to_owned();
        let number = text.split('.').next().and_then(|number| number.parse().ok());
        Mode { number: number.expect("a heading begins with its number"), text }
    };
    sections.map(mode).collect()
}

/// The test functions of the project, with the failure modes in their names.
fn tests() -> Vec<(String, Vec<u32>)> {
    let mut tests = Vec::new();
    for source in everything() {
        for (_, rest) in after_each(&source.text, "fn ") {
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let numbers = name.split('_').map_while(|part| part.strip_prefix("fm")?.parse().ok());
            tests.push((name.clone(), numbers.collect()));
        }
    }
    tests.sort();
    tests.dedup();
    tests
}

/// Each occurrence of `word`: its offset and what follows it.
fn after_each<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    text.match_indices(word).map(|(at, _)| (at, text.get(at + word.len()..).unwrap_or_default()))
}

/// The list of a mode's tests, as the page has it.
fn listed(tests: &[(String, Vec<u32>)], number: u32) -> String {
    let own = tests.iter().filter(|(_, numbers)| numbers.contains(&number));
    own.map(|(name, _)| format!("`{name}`")).collect::<Vec<String>>().join(", ")
}

/// `UPDATE=1` writes the lists of tests.
#[test]
fn failure_modes_list_their_tests() {
    let tests = tests();
    let (mut wanted, mut number) = (String::new(), 0);
    for line in page().lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            number = heading.split('.').next().unwrap_or_default().parse().expect("a number");
        }
        let list = listed(&tests, number);
        let line =
            if line.starts_with("**Tests:**") { &format!("**Tests:** {list}") } else { line };
        writeln!(wanted, "{line}").expect("written");
    }
    if crate::golden::update() {
        std::fs::write(root().join(FAILURE_MODES), &wanted).expect("written");
    }
    assert_eq!(wanted, page(), "run with UPDATE=1 to write {FAILURE_MODES}");
    for Mode { number, text } in modes() {
        let tested = text.contains("**Tests:** `") || text.contains("**Also:** `");
        let expected = !listed(&tests, number).is_empty();
        assert_eq!(expected, text.contains("**Tests:** `"), "mode {number} and its list of tests");
        assert!(tested != text.contains("**Not applicable:**"), "mode {number} has no test");
    }
}

#[test]
fn failure_modes_are_numbered_without_gaps() {
    let numbers: Vec<u32> = modes().iter().map(|mode| mode.number).collect();
    assert!(numbers.len() >= 70);
    assert_eq!(numbers, (1..).take(numbers.len()).collect::<Vec<u32>>());
}

/// The numbers in a text such as "failure modes 1, 5 and 49".
fn cited(text: &str) -> Vec<u32> {
    let text = text.to_lowercase().replace("failure modes ", "failure mode ");
    let mut numbers = Vec::new();
    for (_, rest) in after_each(&text, "failure mode ") {
        for word in rest.split([' ', ',', '\n']).filter(|word| !["", "and", "///"].contains(word)) {
            let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
            let Ok(number) = digits.parse() else { break };
            numbers.push(number);
            if digits != word {
                break;
            }
        }
    }
    numbers
}

#[test]
fn cited_failure_modes_exist() {
    assert_eq!(cited("Failure modes 1, 5,\n/// 9 and 49: x. failure mode 7)."), [1, 5, 9, 49, 7]);
    let known: BTreeSet<u32> = modes().iter().map(|mode| mode.number).collect();
    let (mut found, mut seen) = (Vec::new(), 0);
    for file in text_files() {
        let mut numbers = cited(&file.text);
        seen += numbers.len();
        numbers.retain(|number| !known.contains(number));
        found.extend(numbers.iter().map(|number| format!("{}: {number}", file.path)));
    }
    for (name, numbers) in tests() {
        let unknown = numbers.iter().any(|number| !known.contains(number));
        found.extend(unknown.then_some(name));
    }
    assert!(seen > 30, "only {seen} citations were found");
    assert_none("failure modes that docs/failure-modes.md does not have", &found);
}

/// Names of tests in pages: those with a number, and every long identifier of the page of modes.
#[test]
fn tests_that_pages_name_exist() {
    let tests: BTreeSet<String> = tests().into_iter().map(|(name, _)| name).collect();
    let mut found = Vec::new();
    for page in pages() {
        for name in page.text.split('`').skip(1).step_by(2) {
            let plain =
                name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            // `fm14_` alone stands for all of them.
            let prefix = name.strip_prefix("fm").unwrap_or_default();
            let numbered = prefix.starts_with(char::is_numeric) && !prefix.ends_with('_');
            let long = page.path == FAILURE_MODES && name.matches('_').count() >= 3;
            if plain && (numbered || long) && !tests.contains(name) {
                found.push(format!("{}: {name}", page.path));
            }
        }
    }
    assert_none("tests that do not exist", &found);
}

/// Files of this repository whose text people read: code, pages, scripts.
fn text_files() -> Vec<Source> {
    let kinds = ["rs", "md", "py", "yaml", "yml", "txt", "run", "js", "ts"];
    let of_kind = |source: &Source| {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        kinds.contains(&name.rsplit('.').next().unwrap_or_default())
    };
    let all =
        ["src", "crates", "tests", "fuzz", "docs", "deploy", "clients", "examples", "bench", ".ci"];
    let mut found: Vec<Source> = all.into_iter().flat_map(files).filter(of_kind).collect();
    for entry in std::fs::read_dir(root()).expect("the root") {
        let path = entry.expect("an entry").path();
        if let Ok(text) = std::fs::read_to_string(&path) {
            found.push(Source { path: super::below_root(&path), text });
        }
    }
    found.retain(|source| of_kind(source) && !source.path.starts_with("tests/fixtures/"));
    found
}

fn is_page(file: &Source) -> bool {
    file.has_extension("md")
}

fn pages() -> Vec<Source> {
    text_files().into_iter().filter(is_page).collect()
}

/// The prose of a file: a page without its blocks of code, the comments of a program.
fn prose(file: &Source) -> String {
    let mut block = false;
    let mut prose = String::new();
    for line in file.text.lines() {
        let page = is_page(file);
        let comment = if file.has_extension("rs") { "//" } else { "#" };
        block ^= page && line.trim_start().starts_with("```");
        let part = if page {
            (!block).then_some(line)
        } else {
            line.split_once(comment).map(|(_, comment)| comment)
        };
        prose.push_str(part.unwrap_or_default());
        prose.push('\n');
    }
    prose
}

/// Whether a path, as a file cites it, exists beside that file or below the root.
fn exists(file: &Source, cited: &str) -> bool {
    let folder = Path::new(&file.path).parent().map_or_else(PathBuf::new, Path::to_owned);
    root().join(cited).exists() || root().join(folder).join(cited).exists()
}

/// Words that could be paths. `NAME` and the like stand for anything; addresses are elsewhere.
fn paths(prose: &str) -> impl Iterator<Item = &str> {
    let words = prose.split(|c: char| !c.is_alphanumeric() && !"_-./:#@{}*<>$".contains(c));
    words.filter(|word| {
        let placeholder =
            word.split(['/', '.']).any(|part| part.len() > 2 && part == part.to_uppercase());
        let known = ["README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY", "CHANGELOG"];
        let named = known.iter().any(|name| word.contains(&format!("{name}.md")));
        !word.contains([':', '{', '}', '*', '<', '>', '$', '@']) && (named || !placeholder)
    })
}

#[test]
fn cited_pages_and_files_exist() {
    let top = [
        "src/",
        "crates/",
        "tests/",
        "fuzz/",
        "docs/",
        "deploy/",
        "clients/",
        "examples/",
        "bench/",
        ".ci/",
    ];
    let (mut found, mut seen) = (Vec::new(), 0);
    for file in text_files() {
        let prose = prose(&file);
        for word in paths(&prose) {
            let cited = word.split('#').next().unwrap_or_default().trim_end_matches(['.', '/']);
            let page = Path::new(cited).extension().is_some_and(|kind| kind == "md");
            if !page && !top.iter().any(|folder| cited.starts_with(folder)) {
                continue;
            }
            seen += 1;
            let ours = !["reference/", "shared/", "../shared"].iter().any(|at| cited.contains(at));
            if !ours || !exists(&file, cited) {
                found.push(format!("{}: {cited}", file.path));
            }
        }
    }
    found.dedup();
    assert!(seen > 200, "only {seen} citations were found");
    assert_none("cited, but not in the repository", &found);
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn anchors_of_links_exist() {
    let (mut found, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for (_, rest) in after_each(&page.text, "](") {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let Some((path, wanted)) = target.split_once('#') else { continue };
            if path.contains(':') {
                continue;
            }
            seen += 1;
            let folder = Path::new(&page.path).parent().map_or_else(PathBuf::new, Path::to_owned);
            let text = match path {
                "" => page.text.clone(),
                path => std::fs::read_to_string(root().join(folder).join(path)).unwrap_or_default(),
            };
            let headings = text.lines().filter(|line| line.starts_with('#'));
            if !headings.map(|line| anchor(line.trim_start_matches('#'))).any(|at| at == wanted) {
                found.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(seen > 20, "only {seen} anchors were found");
    assert_none("links to headings that do not exist", &found);
}
