//! What operators look up is there: docs/operations.md names every metric and every word for how a
//! request ended or an attempt failed, and no metric that does not exist.

use std::collections::BTreeSet;
use std::path::Path;

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

/// Metrics as they are registered; what is shown has a unit or `_total` behind it.
fn metrics() -> BTreeSet<String> {
    let found = literals("src/telemetry/mod.rs").into_iter().filter(|word| {
        let ours = word.starts_with("streamgate_") || word.starts_with("gen_ai_server_");
        ours && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    });
    found.collect()
}

/// What stands between backticks, up to labels in braces.
fn quoted(text: &str) -> BTreeSet<String> {
    let quotes = text.split('`').skip(1).step_by(2);
    quotes.map(|quote| quote.split('{').next().unwrap_or_default().to_owned()).collect()
}

fn shown(metric: &str) -> [String; 3] {
    [metric.to_owned(), format!("{metric}_total"), format!("{metric}_seconds")]
}

#[test]
fn every_metric_is_explained() {
    let (metrics, quoted) = (metrics(), quoted(&manual()));
    assert!(metrics.len() >= 9, "{metrics:?}");
    let missing: Vec<&String> = metrics
        .iter()
        .filter(|metric| !shown(metric).iter().any(|name| quoted.contains(name)))
        .collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:#?}");
}

#[test]
fn no_metric_is_explained_that_does_not_exist() {
    let names: BTreeSet<String> = metrics().iter().flat_map(|metric| shown(metric)).collect();
    let unknown: Vec<String> = quoted(&manual())
        .into_iter()
        .filter(|name| name.starts_with("streamgate_") || name.starts_with("gen_ai_server_"))
        .filter(|name| !names.contains(name))
        .collect();
    assert!(unknown.is_empty(), "docs/operations.md explains {unknown:#?}");
}

#[test]
fn every_outcome_and_every_kind_is_explained() {
    let word = |text: &String| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let words: BTreeSet<String> = literals("src/error.rs").into_iter().filter(word).collect();
    for known in ["complete", "client_gone", "rejected", "overloaded"] {
        assert!(words.contains(known), "{known} is no longer among {words:?}");
    }
    let quoted = quoted(&manual());
    let missing: Vec<&String> = words.iter().filter(|word| !quoted.contains(*word)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:#?}");
}
