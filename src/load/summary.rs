//! Summary of a run for people, as plain text.

use std::fmt::Write;

use super::fault::FAULTS;
use super::histogram::Histogram;
use super::plan::Scenario;
use super::report::{Report, StageReport};
use super::text;

/// The summary of a run, several lines.
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    for stage in &report.stages {
        stage_lines(stage, &mut out);
    }
    for note in &report.notes {
        line(&mut out, &format!("note: {note}"));
    }
    let failed: usize = report.stages.iter().map(|stage| failed(stage).count()).sum();
    let checks: usize = report.stages.iter().map(|stage| stage.checks.len()).sum();
    line(
        &mut out,
        &match (report.interrupted, failed) {
            (true, _) => "interrupted: this is what was measured until then".to_owned(),
            (false, 0) => format!("all {checks} checks passed"),
            (false, failed) => format!("{failed} of {checks} checks FAILED"),
        },
    );
    out
}

fn failed(stage: &StageReport) -> impl Iterator<Item = &super::check::Check> {
    stage.checks.iter().filter(|check| !check.ok)
}

/// A `String` takes every line.
fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn stage_lines(report: &StageReport, out: &mut String) {
    let (stage, tally) = (&report.stage, &report.tally);
    let protocols: Vec<&str> = stage.protocols.iter().map(|protocol| protocol.name).collect();
    let callers = match stage.scenario {
        Scenario::Faults => format!("{} streams for each fault and protocol", stage.streams),
        _ => format!("{} callers", text::grouped(stage.streams)),
    };
    line(
        out,
        &format!(
            "{}: {callers}, {} tokens each {}, {} ({:.1} s)",
            stage.scenario.name(),
            text::grouped(stage.tokens),
            text::time(stage.interval),
            protocols.join(" "),
            report.elapsed.as_secs_f64()
        ),
    );
    let mut counts = vec![format!("{} complete", text::grouped(tally.complete))];
    for (count, what) in [
        (tally.left, "hung up"),
        (tally.refused, "refused (429)"),
        (tally.reported, "faults reported"),
        (tally.unfinished(), "unfinished"),
    ] {
        if count > 0 {
            counts.push(format!("{} {what}", text::grouped(count)));
        }
    }
    counts.push(format!("{} failed", text::grouped(tally.errors())));
    line(
        out,
        &format!("  {:<14} {}, at most {} open", "streams", counts.join(", "), report.most_open),
    );
    let rate = text::per_second(tally.tokens, report.elapsed);
    let rate = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    line(out, &format!("  {:<14} {}, {rate} a second", "tokens", text::grouped(tally.tokens)));
    let head = ["p50", "p95", "p99", "max"].map(|name| format!("{name:>10}")).concat();
    line(out, &format!("  {:<14}{head}", "milliseconds"));
    for (name, histogram) in latencies(report) {
        line(out, &format!("  {name:<14}{}", quantiles(histogram)));
    }
    fault_lines(report, out);
    for (kind, count) in &tally.failures {
        let example = tally.examples.get(kind).map_or("", String::as_str);
        line(out, &format!("  failed  {count} x {kind}: {example}"));
    }
    for check in &report.checks {
        let mark = if check.ok { "ok    " } else { "FAILED" };
        line(out, &format!("  {mark}  {}: {}", check.name, check.found));
    }
    out.push('\n');
}

/// The latencies of a stage, by name.
pub(super) fn latencies(report: &StageReport) -> [(&'static str, &Histogram); 4] {
    let tally = &report.tally;
    [
        ("TTFT", &tally.ttft),
        ("inter-token", &tally.inter_token),
        ("longest gap", &tally.longest_gap),
        ("duration", &tally.duration),
    ]
}

fn quantiles(histogram: &Histogram) -> String {
    let values =
        [histogram.quantile(50), histogram.quantile(95), histogram.quantile(99), histogram.max()];
    values.map(|value| format!("{:>10}", text::millis(value))).concat()
}

fn fault_lines(report: &StageReport, out: &mut String) {
    for fault in FAULTS {
        let Some(count) = report.tally.faults.get(fault.word) else { continue };
        let tried: u64 = count.seen.values().sum();
        let mut ends: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
        for (seen, times) in &count.seen {
            let end = seen.split(',').next().unwrap_or_default();
            *ends.entry(end).or_default() += times;
        }
        let mut seen = String::new();
        for (end, times) in ends {
            let comma = if seen.is_empty() { "" } else { ", " };
            // Writing to a `String` cannot fail.
            let _infallible = write!(seen, "{comma}{times} x {end}");
        }
        line(
            out,
            &format!(
                "  {:<14} {} of {tried} as expected ({}): {seen}",
                fault.word, count.right, count.expected
            ),
        );
    }
}
