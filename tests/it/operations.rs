//! The operations manual is complete: docs/operations.md names every metric and every word for how a
//! request ended, was refused, or an attempt failed, and no metric that does not exist; the dashboard
//! or the alert rules use every metric.

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
    let files = ["src/telemetry/mod.rs", "src/telemetry/process.rs"];
    let found = files
        .into_iter()
        .flat_map(literals)
        .filter(|word| is_metric(word) && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    found.collect()
}

fn is_metric(word: &str) -> bool {
    ["streamgate_", "gen_ai_server_", "process_"].iter().any(|prefix| word.starts_with(prefix))
}

/// The text between backticks, up to labels in braces.
fn quoted(text: &str) -> BTreeSet<String> {
    let quotes = text.split('`').skip(1).step_by(2);
    quotes.map(|quote| quote.split('{').next().unwrap_or_default().to_owned()).collect()
}

fn shown(metric: &str) -> [String; 5] {
    ["", "_total", "_seconds", "_seconds_total", "_bytes"].map(|suffix| format!("{metric}{suffix}"))
}

#[test]
fn every_metric_is_explained() {
    let (metrics, quoted) = (metrics(), quoted(&manual()));
    assert!(metrics.len() >= 27, "{metrics:?}");
    let missing: Vec<&String> = metrics
        .iter()
        .filter(|metric| !shown(metric).iter().any(|name| quoted.contains(name)))
        .collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:#?}");
}

/// Every metric is used by the dashboard or by an alert rule.
#[test]
fn every_metric_is_on_the_dashboard_or_in_an_alert_rule() {
    let looked_at = read("deploy/grafana/streamgate.json") + &read("deploy/alerts.yml");
    // Metrics for which a panel would add nothing: an operator looks it up when memory or CPU is odd, or when
    // the log says that a provider's models cannot be listed.
    let exempt = ["process_virtual_memory", "process_threads", "streamgate_model_list_fetches"];
    let missing: Vec<String> = metrics()
        .into_iter()
        .filter(|metric| !looked_at.contains(metric) && !exempt.contains(&metric.as_str()))
        .collect();
    assert!(missing.is_empty(), "neither dashboard nor alert rules use {missing:#?}");
}

#[test]
fn no_metric_is_explained_that_does_not_exist() {
    let names: BTreeSet<String> = metrics().iter().flat_map(|metric| shown(metric)).collect();
    let unknown: Vec<String> = quoted(&manual())
        .into_iter()
        .filter(|name| is_metric(name))
        .filter(|name| !names.contains(name))
        .collect();
    assert!(unknown.is_empty(), "docs/operations.md explains {unknown:#?}");
}

#[test]
fn every_outcome_kind_and_reason_is_explained() {
    let word = |text: &String| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let files = ["src/error.rs", "src/telemetry/refusals.rs"];
    let words: BTreeSet<String> = files.into_iter().flat_map(literals).filter(word).collect();
    for known in ["complete", "client_gone", "rejected", "overloaded", "tls_on_plain_port"] {
        assert!(words.contains(known), "{known} is no longer among {words:?}");
    }
    let quoted = quoted(&manual());
    let missing: Vec<&String> = words.iter().filter(|word| !quoted.contains(*word)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain {missing:#?}");
}
