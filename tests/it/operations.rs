//! The operations manual has every outcome, error kind and reason. Metrics are held against it in
//! `src/telemetry/tests.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use streamgate::wire::chat::Kind;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("UTF-8")
}

fn manual() -> String {
    read("docs/operations.md")
}

/// The string literals of a source, without those of tests at its end.
fn literals(path: &str) -> Vec<String> {
    let text = read(path);
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// The text between backticks, up to labels in braces.
fn quoted(text: &str) -> BTreeSet<String> {
    let quotes = text.split('`').skip(1).step_by(2);
    quotes.map(|quote| quote.split('{').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_outcome_kind_and_reason_is_explained() {
    let word = |text: &String| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let files = ["src/error.rs", "src/telemetry/refusals.rs"];
    let words: BTreeSet<String> = files.into_iter().flat_map(literals).filter(word).collect();
    let words = words.into_iter().chain(Kind::ALL.map(|kind| kind.code().to_owned()));
    let words: BTreeSet<String> = words.collect();
    for known in ["complete", "client_gone", "rejected", "overloaded", "tls_on_plain_port"] {
        assert!(words.contains(known), "{known} is no longer among {words:?}");
    }
    let quoted = quoted(&manual());
    let missing: Vec<&String> = words.iter().filter(|word| !quoted.contains(*word)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:#?}");
}
