//! The load client against the gateway and the simulated upstream, in this process.

mod command;
mod misbehaving;

use std::time::Duration;

use serde_json::Value;
use streamgate::load::{self, Check, Kind, Options, Plan, Report, Scenario};
use streamgate::wire::dialect::caller_dialects;

use crate::support::gateway::{Gateway, KEY, hex};
use crate::support::simulated;

const LIMITED_KEY: &str = "sg-limited";

/// A gateway whose provider `sim` is the simulated upstream, and that one's address.
async fn gateway() -> (Gateway, String) {
    gateway_with("").await
}

/// The same with more configuration.
async fn gateway_with(more: &str) -> (Gateway, String) {
    let upstream = format!("http://{}", simulated::upstream().await);
    let digest = |key: &str| hex(&streamgate::config::digest(key));
    let yaml = format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {}, limits: none }}\n    \
         - {{ name: limited, sha256: {}, limits: {{ requests_per_minute: 1, burst: 1 }} }}\n\
         providers:\n  sim: {{ dialect: openai-chat, base_url: \"{upstream}/v1\", api_key: sim }}\n\
         {more}",
        digest(KEY),
        digest(LIMITED_KEY),
    );
    (Gateway::new(&yaml).await, upstream)
}

/// A short run of one scenario, with both other sides' counts.
fn options(gateway: &Gateway, upstream: &str, scenario: Scenario) -> Options {
    Options {
        url: gateway.url.clone(),
        key: KEY.to_owned(),
        limited_key: Some(LIMITED_KEY.to_owned()),
        provider: "sim".to_owned(),
        scenarios: vec![scenario],
        streams: Some(6),
        // Longer than any of them takes: the number of requests is what ends it.
        duration: Some(Duration::from_mins(1)),
        tokens: Some(20),
        interval: Some(Duration::from_millis(1)),
        timeout: Some(Duration::from_secs(30)),
        upstream_stats: Some(format!("{upstream}/_sim/stats")),
        metrics: Some(format!("{}/metrics", gateway.url)),
        ..Options::default()
    }
}

async fn run(options: Options) -> Result<Report, String> {
    let plan = Plan::new(options).map_err(|problems| problems.to_string())?;
    load::run(&plan, 1_767_225_600, std::future::pending(), |_| {}).await
}

fn failed(report: &Report) -> Vec<&Check> {
    report.stages.iter().flat_map(|stage| &stage.checks).filter(|check| !check.ok).collect()
}

fn checks(report: &Report) -> Vec<&str> {
    let checks = report.stages.iter().flat_map(|stage| &stage.checks);
    checks.map(|check| check.name.as_str()).collect()
}

#[tokio::test]
async fn steady_streams_are_complete_on_all_sides() {
    let (gateway, upstream) = gateway().await;
    let wanted = Options { requests: Some(30), ..options(&gateway, &upstream, Scenario::Steady) };
    let report = run(wanted).await.unwrap();
    assert_eq!(failed(&report), Vec::<&Check>::new());
    let stage = &report.stages[0];
    assert_eq!((stage.tally.started, stage.tally.complete, stage.tally.tokens), (30, 30, 600));
    assert_eq!(stage.tally.ttft.count(), 30);
    // Each token but the first of a stream came some time after another one.
    assert_eq!(stage.tally.inter_token.count(), 30 * 19);
    assert_eq!(stage.most_open, 6);
    assert!(report.ok() && checks(&report).contains(&"the gateway counts every token"));
}

#[tokio::test]
async fn every_caller_dialect_is_spoken() {
    let names: Vec<&str> = load::protocol::PROTOCOLS.iter().map(|protocol| protocol.name).collect();
    for dialect in caller_dialects() {
        assert!(names.contains(&dialect.name()), "teach src/load/protocol {}", dialect.name());
    }
    let (gateway, upstream) = gateway().await;
    let wanted = Options { requests: Some(36), ..options(&gateway, &upstream, Scenario::Mixed) };
    let report = run(wanted).await.unwrap();
    assert_eq!(failed(&report), Vec::<&Check>::new());
    assert_eq!(report.stages[0].tally.complete, 36);
    for name in names {
        let series = format!("streamgate_requests_total{{dialect=\"{name}\"");
        assert!(gateway.metric(&series) >= 1.0, "{name} was not asked");
    }
}

#[tokio::test]
async fn all_streams_of_a_ramp_are_open_at_once() {
    let (gateway, upstream) = gateway().await;
    let wanted = Options {
        duration: Some(Duration::from_secs(3)),
        ramp: Some(Duration::from_millis(300)),
        tokens: None,
        interval: Some(Duration::from_millis(20)),
        ..options(&gateway, &upstream, Scenario::Ramp)
    };
    let report = run(wanted).await.unwrap();
    assert_eq!(failed(&report), Vec::<&Check>::new());
    assert_eq!((report.stages[0].tally.complete, report.stages[0].most_open), (6, 6));
}

#[tokio::test]
async fn cancel_reaches_the_upstream() {
    let (gateway, upstream) = gateway().await;
    let wanted = Options { requests: Some(24), ..options(&gateway, &upstream, Scenario::HangUps) };
    let report = run(wanted).await.unwrap();
    assert_eq!(failed(&report), Vec::<&Check>::new());
    let tally = &report.stages[0].tally;
    assert_eq!((tally.left + tally.complete, tally.started), (24, 24));
    assert!(tally.left >= 6 && tally.complete >= 6, "{tally:?}");
    assert!(checks(&report).contains(&"the upstream saw every hang-up"));
}

#[tokio::test]
async fn a_caller_over_its_rate_limit_is_rejected_and_others_are_not() {
    let (gateway, upstream) = gateway().await;
    let wanted = Options {
        duration: Some(Duration::from_secs(2)),
        ..options(&gateway, &upstream, Scenario::Limits)
    };
    let report = run(wanted).await.unwrap();
    assert_eq!(failed(&report), Vec::<&Check>::new());
    let tally = &report.stages[0].tally;
    assert!(tally.refused >= 5 && tally.complete >= 6, "{tally:?}");
    assert!(checks(&report).contains(&"the gateway counts every refusal"));
}

#[tokio::test]
async fn an_unexpected_rate_limit_is_a_failure() {
    let (gateway, upstream) = gateway().await;
    let wanted = Options {
        key: LIMITED_KEY.to_owned(),
        requests: Some(3),
        ..options(&gateway, &upstream, Scenario::Steady)
    };
    // The preflight takes the one request of a minute.
    let report = run(wanted).await.unwrap();
    assert_eq!(report.stages[0].tally.failures.get(&Kind::Status(429)), Some(&3));
    assert!(!report.ok());
}

#[tokio::test]
async fn every_fault_is_reported_in_every_dialect() {
    // Silent upstreams are given up soon.
    let soon = "stream: { heartbeat: 500ms, commit_after: 1s, first_token: 4s, stall: 3s }\n";
    let (gateway, upstream) = gateway_with(soon).await;
    let wanted = Options { streams: Some(1), ..options(&gateway, &upstream, Scenario::Faults) };
    let report = run(wanted).await.unwrap();
    let tally = &report.stages[0].tally;
    assert_eq!(failed(&report), Vec::<&Check>::new(), "{:?}", tally.examples);
    assert_eq!(tally.reported, tally.started);
    for (word, count) in &tally.faults {
        assert_eq!((count.right, count.seen.len()), (6, 6), "{word}: {count:?}");
    }
    let words: Vec<&str> = tally.faults.keys().copied().collect();
    assert_eq!(
        words,
        ["close", "e429", "e500", "e503", "err", "hang", "junk", "nodone", "reset", "stall"]
    );
}

#[tokio::test]
async fn a_stopped_run_reports_what_it_measured() {
    let (gateway, upstream) = gateway().await;
    let endless = Options {
        tokens: Some(1_000_000),
        interval: Some(Duration::from_millis(10)),
        duration: Some(Duration::from_mins(10)),
        ..options(&gateway, &upstream, Scenario::Steady)
    };
    let plan = Plan::new(endless).unwrap();
    // Once tokens flow, it is stopped.
    let flowing = tokio::sync::Notify::new();
    let run = load::run(&plan, 0, flowing.notified(), |snapshot| {
        if snapshot.tokens > 100 && snapshot.open == 6 {
            flowing.notify_one();
        }
    });
    let report = tokio::time::timeout(Duration::from_secs(20), run).await.unwrap().unwrap();
    assert!(report.interrupted);
    let tally = &report.stages[0].tally;
    assert_eq!((tally.started, tally.unfinished(), tally.complete), (6, 6, 0));
    assert!(load::summary(&report).contains("6 unfinished"));
    let json = load::json(&report);
    assert_eq!(json["interrupted"], true);
    assert_eq!(json["stages"][0]["duration_ms"]["p95"], Value::Null);
}

#[tokio::test]
async fn reports_hold_what_was_measured_and_nothing_impossible() {
    let (gateway, upstream) = gateway().await;
    let wanted = Options {
        requests: Some(12),
        thresholds: vec![
            "ttft_p95<1h".parse().unwrap(),
            "rate>1000000".parse().unwrap(),
            "errors==0".parse().unwrap(),
        ],
        ..options(&gateway, &upstream, Scenario::Steady)
    };
    let report = run(wanted).await.unwrap();
    let names: Vec<&str> = failed(&report).iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["threshold rate>1000000"]);
    let json = load::json(&report);
    assert_eq!((&json["ok"], &json["stages"][0]["tokens"]), (&false.into(), &240.into()));
    assert!(json["stages"][0]["ttft_ms"]["p95"].as_f64().unwrap() > 0.0);
    let summary = load::summary(&report);
    assert!(summary.contains("12 complete") && summary.contains("1 of "), "{summary}");
    let page = load::html(&report);
    for word in ["<script", "src=", "href=", "url(", "@import", "NaN", KEY] {
        assert!(!page.contains(word), "{word} is in the page");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    assert_eq!(page.matches("</svg>").count(), 4);
}
