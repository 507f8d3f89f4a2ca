//! Result of a run as JSON. Times are in milliseconds; what was not measured is `null`, never NaN.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::histogram::Histogram;
use super::report::{Report, StageReport};
use super::summary::latencies;
use super::text;

/// The result as one JSON object.
pub fn json(report: &Report) -> Value {
    json!({
        "target": report.target,
        "started": report.started,
        "version": env!("CARGO_PKG_VERSION"),
        "ok": report.ok(),
        "interrupted": report.interrupted,
        "notes": report.notes,
        "stages": report.stages.iter().map(stage).collect::<Vec<Value>>(),
    })
}

fn stage(report: &StageReport) -> Value {
    let (stage, tally) = (&report.stage, &report.tally);
    let mut out = json!({
        "scenario": stage.scenario.name(),
        "protocols": stage.protocols.iter().map(|protocol| protocol.name).collect::<Vec<&str>>(),
        "streams": stage.streams,
        "tokens_per_stream": stage.tokens,
        "interval_ms": millis(Some(stage.interval)),
        "elapsed_s": report.elapsed.as_secs_f64(),
        "most_open": report.most_open,
        "started": tally.started,
        "complete": tally.complete,
        "hung_up": tally.left,
        "refused": tally.refused,
        "faults_reported": tally.reported,
        "unfinished": tally.unfinished(),
        "errors": tally.errors(),
        "errors_by_kind": tally.failures.iter().map(|(kind, count)| {
            let example = tally.examples.get(kind);
            (kind.to_string(), json!({"count": count, "example": example}))
        }).collect::<Map<String, Value>>(),
        "tokens": tally.tokens,
        "heartbeats": tally.heartbeats,
        "tokens_per_second": text::per_second(tally.tokens, report.elapsed),
    });
    let more = [
        ("faults", faults(report)),
        ("checks", report.checks.iter().map(|check| {
            json!({"name": check.name, "ok": check.ok, "found": check.found})
        }).collect()),
        ("timeline", report.timeline.points().iter().map(|point| {
            json!({"s": point.at.as_secs_f64(), "open": point.open, "tokens_per_second": point.rate})
        }).collect()),
    ];
    if let Some(members) = out.as_object_mut() {
        for (name, histogram) in latencies(report) {
            let name = name.to_lowercase().replace([' ', '-'], "_");
            members.insert(format!("{name}_ms"), quantiles(histogram));
        }
        for (name, value) in more {
            members.insert(name.to_owned(), value);
        }
    }
    out
}

fn faults(report: &StageReport) -> Value {
    let faults = report.tally.faults.iter().map(|(word, count)| {
        let value = json!({"expected": count.expected, "right": count.right, "seen": count.seen});
        ((*word).to_owned(), value)
    });
    Value::Object(faults.collect())
}

fn quantiles(histogram: &Histogram) -> Value {
    json!({
        "count": histogram.count(),
        "mean": millis(histogram.mean()),
        "p50": millis(histogram.quantile(50)),
        "p95": millis(histogram.quantile(95)),
        "p99": millis(histogram.quantile(99)),
        "max": millis(histogram.max()),
    })
}

fn millis(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64() * 1_000.0)
}
