//! The times of a shutdown: defaults, deployments and the manual must fit each other.

use std::time::Duration;

use streamgate::config::Server;
use streamgate::server::shutdown::{
    ARCHIVE_TIMEOUT, CLOSE_TIMEOUT, LOG_FLUSH_TIMEOUT, SCRAPE_TIMEOUT, SPAN_FLUSH_TIMEOUT,
    UPSTREAM_DRAIN_TIMEOUT, longest,
};

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The seconds behind a name, as `name: 60s` or `name: 60`.
fn seconds(text: &str, name: &str) -> Duration {
    let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("no {name}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Duration::from_secs(digits.parse().unwrap_or_else(|_| panic!("no number behind {name}")))
}

#[test]
fn deployments_wait_longer_than_a_shutdown_takes() {
    let default = Server::default();
    let manifest = file("deploy/kubernetes.yaml");
    let needed = longest(seconds(&manifest, "shutdown_delay: "), seconds(&manifest, "drain: "));
    let given = seconds(&manifest, "terminationGracePeriodSeconds: ");
    assert!(!manifest.contains("preStop:"), "it would be another summand");
    assert!(given >= needed, "deploy/kubernetes.yaml: {given:?} for {needed:?}");
    let compose = seconds(&file("docker-compose.yml"), "stop_grace_period: ");
    let own = file("deploy/streamgate.yaml");
    assert!(!own.contains("drain:") && !own.contains("shutdown_delay:"), "the defaults hold");
    let needed = longest(default.shutdown_delay, default.drain);
    assert!(compose >= needed, "docker-compose.yml: {compose:?} for {needed:?}");
    for (path, name) in
        [("docs/operations.md", "--stop-timeout "), ("Dockerfile", "--stop-timeout ")]
    {
        let given = seconds(&file(path), name);
        assert!(given >= needed, "{path}: {given:?} for {needed:?}");
    }
}

#[test]
fn the_manual_has_these_shutdown_times() {
    let manual = file("docs/operations.md");
    let default = Server::default();
    for (step, time) in [
        ("`server.shutdown_delay`", default.shutdown_delay),
        ("`server.drain`", default.drain),
        ("last writes", CLOSE_TIMEOUT),
        ("last reads", UPSTREAM_DRAIN_TIMEOUT),
        ("last scrape", SCRAPE_TIMEOUT),
        ("last records", ARCHIVE_TIMEOUT),
        ("last spans", SPAN_FLUSH_TIMEOUT),
        ("last log lines", LOG_FLUSH_TIMEOUT),
        ("**together**", longest(default.shutdown_delay, default.drain)),
    ] {
        let row = format!("| {step} | {} s |", time.as_secs());
        assert!(manual.contains(&row), "docs/operations.md has no row {row}");
    }
}
