//! Callers who asked for it are cut off when their tokens are used up: honestly, and only they.

use super::{refused, remaining};
use crate::access::{by, with_keys};
use crate::streaming::{body, count, error_of, read_until, record, settled, strictly};
use crate::support::answers::{SPOKEN, delta, ending, error_message, opening, path, whole};
use crate::support::gateway::{Gateway, KEY, Log};
use crate::support::upstream::{Step, Upstream};

/// A hundred tokens, each in a chunk of its own, then nothing.
fn endless(dialect: &str) -> Vec<Step> {
    let token = delta(dialect, "four").into_bytes();
    vec![Step::Sse, Step::chunk(&opening(dialect, "four")), Step::Repeat(token, 3000), Step::Hang]
}

const CUT: &str = ", limits: { tokens_per_minute: 600, assumed_output: 50, cut_off: true }";

/// A request that says nothing of its output.
fn unbounded(model: &str, stream: bool) -> String {
    body(model, stream).replace(r#""max_tokens":100,"#, "")
}

#[tokio::test]
async fn a_stream_that_uses_up_its_tokens_ends_with_an_error() {
    for (dialect, provider) in SPOKEN {
        let log = Log::default();
        let _capture = log.capture();
        let upstream = Upstream::new(endless(dialect)).await;
        let keys = [(KEY, CUT), ("other", ", limits: { tokens_per_minute: 600 }")];
        let gateway = Gateway::new(&with_keys(&upstream, &keys, "")).await;
        let model = format!("{provider}/m");
        let sent = gateway.post(path(dialect), &unbounded(&model, true));
        let response = sent.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        let message = error_of(dialect, &text);
        assert!(message.contains("cut off: the 600 tokens per minute of this caller"), "{message}");
        assert!(text.contains(r#""type":"rate_limit_error""#), "{text}");
        let words = strictly(dialect, &text).choices[&0].text.len() / 4;
        // More than it reserved, all that there was, and what came in the same read.
        assert!((500..3000).contains(&words), "{words}");
        upstream.all_closed().await;
        let record = record(&gateway, &log).await;
        assert_eq!(record["outcome"], "cut_off");
        assert_eq!(record["error"], "rate_limited");
        let (headers, _) = refused(&gateway, KEY, dialect, &model).await;
        // Ten tokens come back in a second.
        let left = remaining(&headers, dialect, "tokens");
        assert!(left < 300, "{left}");
        // Without the setting there is no cut-off.
        let mut other = by(&gateway, "other", dialect, &model).send().await.unwrap();
        let mut seen = 0;
        while seen < 3000 {
            let bytes = read_until(&mut other, "four").await;
            seen += String::from_utf8(bytes).unwrap().matches("four").count();
        }
        drop(other);
        settled(&gateway).await;
    }
}

/// A caller who wants the answer whole and would get half of it gets a status.
#[tokio::test]
async fn a_collected_answer_that_uses_up_its_tokens_is_an_error() {
    for (dialect, provider) in [("openai-chat", "ant"), ("anthropic", "oai")] {
        let log = Log::default();
        let _capture = log.capture();
        let spoken = if provider == "ant" { "anthropic" } else { "openai-chat" };
        let upstream = Upstream::new(endless(spoken)).await;
        let gateway = Gateway::new(&with_keys(&upstream, &[(KEY, CUT)], "")).await;
        let sent = gateway.post(path(dialect), &body(&format!("{provider}/m"), false));
        let response = sent.send().await.unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["x-streamgate-limit"], "caller tokens_per_minute");
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(remaining(response.headers(), dialect, "tokens"), 0);
        let message = error_message(dialect, &response.text().await.unwrap());
        assert!(message.contains("cut off"), "{message}");
        upstream.all_closed().await;
        assert_eq!(record(&gateway, &log).await["outcome"], "cut_off");
    }
}

/// An answer that has come whole is given whole: nothing would be saved.
#[tokio::test]
async fn an_answer_that_is_there_is_not_cut_off() {
    for (dialect, provider) in SPOKEN {
        let json = "content-type: application/json\r\n";
        let long = "four".repeat(2000);
        let stream = [opening(dialect, &long).as_str(), ending(dialect)].concat();
        let upstream = Upstream::scripted(vec![
            vec![Step::Whole(200, json, whole(dialect, &long).into_bytes())],
            vec![Step::Sse, Step::chunk(&stream), Step::End],
        ])
        .await;
        let keys = [(KEY, CUT)];
        let model = format!("{provider}/m");
        for stream in [false, true] {
            let gateway = Gateway::new(&with_keys(&upstream, &keys, "")).await;
            let sent = gateway.post(path(dialect), &unbounded(&model, stream));
            let response = sent.send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.text().await.unwrap().contains(&long));
            settled(&gateway).await;
            assert_eq!(count(&gateway, &complete(dialect)), "1");
        }
    }
}

fn complete(dialect: &str) -> String {
    let (model, target) = match dialect {
        "anthropic" => ("ant/*", "ant/*"),
        _ => ("oai/*", "oai/*"),
    };
    format!(
        r#"streamgate_requests_total{{dialect="{dialect}",caller="{KEY}",model="{model}",target="{target}",outcome="complete"}}"#
    )
}
