//! The load client against servers that are no gateway, or a broken one: each failure is named, and
//! every run ends.

use std::time::Duration;

use streamgate::load::{Kind, Options, Report, Scenario};

use super::run;
use crate::support::upstream::{Step, Upstream};

fn token(number: u64) -> String {
    let content = format!("t{number} ");
    format!("data: {}\n\n", serde_json::json!({"choices": [{"delta": {"content": content}}]}))
}

/// A stream of these numbers, and then this.
fn stream(numbers: &[u64], end: &str) -> Vec<Step> {
    let body: String = numbers.iter().map(|number| token(*number)).collect();
    vec![Step::Sse, Step::chunk(&(body + end))]
}

fn and(mut script: Vec<Step>, last: Step) -> Vec<Step> {
    script.push(last);
    script
}

const DONE: &str = "data: [DONE]\n\n";

fn whole(numbers: &[u64]) -> Vec<Step> {
    and(stream(numbers, DONE), Step::End)
}

fn options(url: &str) -> Options {
    Options {
        url: url.to_owned(),
        key: "sg-x".to_owned(),
        provider: "sim".to_owned(),
        scenarios: vec![Scenario::Steady],
        streams: Some(1),
        requests: Some(1),
        tokens: Some(3),
        interval: Some(Duration::ZERO),
        timeout: Some(Duration::from_secs(2)),
        ..Options::default()
    }
}

/// A run whose preflight is answered well, and its only request with `script`.
async fn measured(script: Vec<Step>) -> Report {
    let server = Upstream::scripted(vec![whole(&[0]), script]).await;
    let run = run(options(&server.url));
    tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends").unwrap()
}

#[tokio::test]
async fn each_kind_of_broken_answer_is_recognized() {
    let error = "data: {\"error\":{\"message\":\"sorry\",\"type\":\"server_error\"}}\n\n";
    let page = "content-type: text/html\r\n";
    let cases = [
        (whole(&[0, 2]), Kind::Lost, "t1"),
        (whole(&[0, 1]), Kind::Lost, "2 of 3 tokens"),
        (whole(&[0, 1, 1, 2]), Kind::Duplicated, "1 tokens came twice"),
        (whole(&[0, 2, 1]), Kind::OutOfOrder, "1 tokens came late"),
        (whole(&[0, 1, 2, 3]), Kind::Junk, "4 of 3 tokens"),
        (and(stream(&[0, 1, 2], ""), Step::End), Kind::Truncated, "after 3 tokens"),
        (and(stream(&[0, 1], "data: {\"cho"), Step::End), Kind::Truncated, "inside an event"),
        (and(stream(&[0, 1], ""), Step::Reset), Kind::Truncated, "the body broke"),
        (and(stream(&[0, 1], ""), Step::Hang), Kind::Stalled, "after 2 tokens"),
        (and(stream(&[0, 1, 2], DONE), Step::Hang), Kind::Stalled, "after 3 tokens"),
        (and(stream(&[0, 1], error), Step::End), Kind::InBand, "sorry"),
        (and(stream(&[0, 2], error), Step::End), Kind::Lost, "t1"),
        (
            and(stream(&[0, 1, 2], &[DONE, DONE].concat()), Step::End),
            Kind::Junk,
            "after the terminal",
        ),
        (and(stream(&[0], "data: {\"choices\":\n\n"), Step::End), Kind::Junk, "EOF"),
        (vec![Step::Sse, Step::Repeat(vec![b'x'; 64 << 10], 64)], Kind::Junk, "longer than 1 MiB"),
        (vec![Step::Whole(200, page, b"<html>".to_vec())], Kind::Junk, "text/html"),
        (vec![Step::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), Step::Hang], Kind::Junk, "HTTP"),
        (
            vec![Step::Whole(502, page, b"<html>bad".to_vec())],
            Kind::Status(502),
            "no openai-chat error",
        ),
        (vec![Step::Hang], Kind::Stalled, "no response head"),
        (vec![Step::Reset], Kind::Truncated, ""),
        (vec![Step::Close], Kind::Truncated, ""),
    ];
    for (number, (script, kind, words)) in cases.into_iter().enumerate() {
        let report = measured(script).await;
        let tally = &report.stages[0].tally;
        let found: Vec<Kind> = tally.failures.keys().copied().collect();
        assert_eq!(found, [kind], "case {number}: {:?}", tally.examples);
        let example = &tally.examples[&kind];
        assert!(example.contains(words), "case {number}: {words:?} is not in {example:?}");
        assert!(!report.ok() && tally.complete == 0, "case {number}");
    }
    assert!(measured(whole(&[0, 1, 2])).await.ok(), "a whole answer is not broken");
}

#[tokio::test]
async fn an_unusable_target_is_named_with_what_to_do() {
    let json = "content-type: application/json\r\n";
    let refusal = |status, message: &str| {
        let body = serde_json::json!({"error": {"message": message, "type": "x"}}).to_string();
        vec![Step::Whole(status, json, body.into_bytes())]
    };
    let page = "content-type: text/html\r\n";
    for (script, words) in [
        (refusal(401, "wrong key"), "set STREAMGATE_KEY"),
        (refusal(403, "not yours"), "set STREAMGATE_KEY"),
        (refusal(404, "no such model"), "--provider names"),
        (refusal(500, "out of order"), "answers 500 to sim/n1: out of order"),
        (vec![Step::Whole(404, page, b"<html>".to_vec())], "--provider names"),
        (vec![Step::Whole(200, page, b"<html>".to_vec())], "is this the gateway?"),
        (vec![Step::Whole(302, "location: /x\r\n", Vec::new())], "answers 302"),
        (
            vec![Step::Raw(b"\x15\x03\x01\0\x02\x02\x46".to_vec()), Step::Close],
            "does not answer as a gateway",
        ),
        (vec![Step::Hang], "sends nothing"),
        (vec![Step::Reset], "a first stream of sim/n1 failed (truncated)"),
        (whole(&[0, 1]), "does not answer as a gateway"),
    ] {
        let server = Upstream::new(script).await;
        let run = run(options(&server.url));
        let ended = tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends");
        let error = ended.map(|report| format!("{report:?}")).unwrap_err();
        assert!(error.contains(words), "{words} is not in {error}");
        assert!(error.contains(&server.url) && !error.contains("sg-x"), "{error}");
        assert_eq!(server.requests().await.len(), 1, "nothing is sent after that");
    }
    let nobody = run(options("http://127.0.0.1:1")).await.map(|_| ()).unwrap_err();
    assert!(nobody.contains("cannot be reached") && nobody.contains("--url"), "{nobody}");
}

#[tokio::test]
async fn counts_of_another_program_are_no_counts() {
    let server = Upstream::new(whole(&[0])).await;
    let page =
        Upstream::new(vec![Step::Whole(200, "content-type: text/html\r\n", b"<p>".to_vec())]).await;
    for wrong in [
        Options { metrics: Some(page.url.clone()), ..options(&server.url) },
        Options { upstream_stats: Some(page.url.clone()), ..options(&server.url) },
    ] {
        let error = run(wrong).await.map(|_| ()).unwrap_err();
        assert!(error.contains("is it the right address?"), "{error}");
    }
    let gone =
        Options { metrics: Some("http://127.0.0.1:1/metrics".to_owned()), ..options(&server.url) };
    let error = run(gone).await.map(|_| ()).unwrap_err();
    assert!(error.contains("http://127.0.0.1:1/metrics"), "{error}");
}
