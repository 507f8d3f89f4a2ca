//! `streamgate load` as its users start it: exit statuses, reports, signals.

use serde_json::Value;

use super::gateway;
use crate::support::gateway::KEY;
use crate::support::process::{File, Process, program, run};

/// Runs the program beside a gateway in this process.
async fn ended(arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    let run = move || run(&arguments.iter().map(String::as_str).collect::<Vec<&str>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

const SHORT: [&str; 8] =
    ["--requests", "8", "--streams", "4", "--tokens", "10", "--interval", "1ms"];

#[tokio::test]
async fn a_good_run_ends_with_0_and_writes_its_reports() {
    let (gateway, _) = gateway().await;
    let folder = File::new("");
    let (json, html) = (folder.0.with_extension("json"), folder.0.with_extension("html"));
    let more = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let first = ["load", "--url", &gateway.url, "--key", KEY, "--threshold", "ttft_p99<1h"];
    let (status, out, err) = ended(&[&first[..], &SHORT, &more].concat()).await;
    assert_eq!(status, Some(0), "{out}{err}");
    assert!(out.contains("8 complete") && out.contains("all 4 checks passed"), "{out}");
    assert!(!out.contains(KEY) && !err.contains(KEY));
    let value: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&value["ok"], &value["stages"][0]["complete"]), (&true.into(), &8.into()));
    assert!(std::fs::read_to_string(&html).unwrap().ends_with("</html>\n"));

    // JSON on standard output is alone there.
    let more = ["--json", "-", "--quiet"];
    let (status, out, err) = ended(&[&first[..], &SHORT, &more].concat()).await;
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["stages"][0]["tokens"], 80);
}

#[tokio::test]
async fn a_missed_threshold_ends_with_1() {
    let (gateway, _) = gateway().await;
    let first = ["load", "--url", &gateway.url, "--key", KEY, "--threshold", "ttft_p50<0ms"];
    let (status, out, err) = ended(&[&first[..], &SHORT].concat()).await;
    assert_eq!(status, Some(1), "{err}");
    assert!(out.contains("FAILED  threshold ttft_p50<0ms"), "{out}");
    assert!(err.contains("the load test failed"), "{err}");

    let first = ["load", "--url", &gateway.url, "--key", "sg-of-nobody"];
    let (status, out, err) = ended(&[&first[..], &SHORT].concat()).await;
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("STREAMGATE_KEY") && !err.contains("sg-of-nobody"), "{err}");
}

#[test]
fn impossible_options_end_with_2() {
    let key = ["load", "--key", "sg-x", "--url", "http://127.0.0.1:1"];
    for (more, words) in [
        (&["--streams", "0"][..], "--streams 0 is impossible"),
        (&["--streams", "-1"], "unexpected argument"),
        (&["--streams=-1"], "invalid value"),
        (&["--duration", "-5s"], "unexpected argument"),
        (&["--duration=-5s"], "expected a duration such as"),
        (&["--duration", "1000h"], "expected a duration such as"),
        (&["--tokens", "2000000"], "--tokens 2000000 is impossible"),
        (&["--ramp", "20s", "--duration", "10s"], "is not shorter than --duration"),
        (&["--threshold", "tfft_p95<1s"], "`tfft_p95` is no metric"),
        (&["--scenario", "stampede"], "possible values: steady"),
        (&["--dialect", "klingon"], "--dialect `klingon` is unknown"),
        (&["--scenario", "limits"], "--limited-key"),
        (&["--html", "-"], "--html -"),
        (&["--json", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
    ] {
        let (status, out, err) = run(&[&key[..], more].concat());
        assert_eq!((status, out.as_str()), (Some(2), ""), "{more:?}: {err}");
        assert!(err.contains(words), "{words} is not in {err}");
    }
    let (status, _, err) = run(&["load"]);
    assert_eq!(status, Some(2));
    assert!(err.contains("STREAMGATE_KEY") && err.contains("--key"), "{err}");
}

#[test]
fn help_has_examples_and_no_key() {
    let mut command = program(&["load", "--help"]);
    let output = command.env("STREAMGATE_KEY", "sg-secret").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for words in
        ["Examples:", "Exit status:", "--threshold", "STREAMGATE_KEY", "hang-ups", "127.0.0.1:8080"]
    {
        assert!(help.contains(words), "{words} is not in {help}");
    }
    assert!(!help.contains("sg-secret"));
}

#[tokio::test]
async fn a_signal_ends_a_run_with_a_summary() {
    let (gateway, _) = gateway().await;
    for signal in ["INT", "TERM"] {
        let wanted = ["--streams", "3", "--tokens", "100000", "--interval", "10ms"];
        let first = ["load", "--url", &gateway.url, "--key", KEY, "--duration", "10m"];
        let flowing = async {
            // Those of the run before may still be open; a signal must not come before its handler.
            while gateway.metric("streamgate_open_requests") > 0.0 {
                tokio::task::yield_now().await;
            }
            let process = Process::start(program(&[&first[..], &wanted].concat()));
            while gateway.metric("streamgate_open_requests") < 3.0 {
                tokio::task::yield_now().await;
            }
            process
        };
        let started = tokio::time::timeout(std::time::Duration::from_secs(20), flowing).await;
        let mut process = started.expect("streams");
        process.signal(signal);
        let out = process.out("interrupted").await;
        assert!(out.contains("3 unfinished"), "{out}");
        assert_eq!(process.ended().await, Some(130));
    }
}
