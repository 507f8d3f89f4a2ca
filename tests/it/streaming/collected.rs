//! Answers that callers want whole.

use std::time::Duration;

use super::{PAIRS, bad_gateway, before, begun, body, failure, good, path, record};
use crate::support::gateway::{Gateway, Log};
use crate::support::upstream::{Step, Upstream};
use crate::support::{Ended, reader};

/// The upstream's response to a request that is not streamed: JSON, or a stream where the gateway
/// asks for one.
fn answer(caller: &str, provider: &str) -> Vec<Step> {
    let json = match (caller, provider) {
        ("openai-chat", "oai") => {
            r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10},"own":1}"#
        }
        ("anthropic", "ant") => {
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":7,"output_tokens":3},"own":1}"#
        }
        _ => return good(provider),
    };
    vec![Step::Whole(200, "content-type: application/json\r\n", json.into())]
}

async fn ask(gateway: &Gateway, caller: &str, model: &str) -> reqwest::Response {
    gateway.post(path(caller), &body(model, false)).send().await.unwrap()
}

#[tokio::test]
async fn fm18_answers_are_collected_in_every_pair() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let upstream = Upstream::new(answer(caller, provider)).await;
        let gateway = before(&upstream, "").await;
        let model = format!("{provider}/m");
        let response = ask(&gateway, caller, &model).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-streamgate-target"], model.as_str());
        let bytes = response.bytes().await.unwrap();
        let read = (reader(caller).answer)(&bytes).unwrap();
        assert_eq!(read.choices[&0].text, "Hello");
        assert_eq!(read.ended, Ended::Complete);
        assert_eq!(read.usage.map(|usage| (usage.input, usage.output)), Some((7, 3)));
        let record = record(&gateway, &log).await;
        assert_eq!(record["outcome"], "complete");
        assert_eq!(record["stream"], false);
        assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&7.into(), &3.into()));
        assert_eq!(record["estimated"], false);
    }
}

/// Failure mode 18: a caller who leaves ends the upstream's work here too, and leaves a record.
#[tokio::test]
async fn fm18_a_disconnect_cancels_a_collected_answer() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let upstream = Upstream::new(begun(provider, [Step::Hang])).await;
        let gateway =
            before(&upstream, "limits: { concurrent_streams: 1, requests_per_minute: none }\n")
                .await;
        let body = body(&format!("{provider}/m"), false);
        let raw = super::Raw::ask(&gateway, caller, &body, "").await;
        upstream.until("asked", |requests, _| requests == 1).await;
        drop(raw);
        let took = upstream.all_closed().await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        let record = record(&gateway, &log).await;
        assert_eq!(record["outcome"], "client_gone");
        assert!(record["input_tokens"].as_u64() > Some(0));
    }
}

/// An answer that does not come whole is an error with a status, never half an answer.
#[tokio::test]
async fn fm18_a_broken_answer_has_a_status() {
    for (caller, provider) in PAIRS {
        if path(caller) == if provider == "oai" { "/v1/chat/completions" } else { "/v1/messages" } {
            continue;
        }
        for (end, status, outcome) in [
            (Step::Close, bad_gateway(caller), "truncated"),
            (Step::End, bad_gateway(caller), "truncated"),
            (failure(provider), 0, "upstream_error"),
            (Step::Hang, 504, "stalled"),
        ] {
            let log = Log::default();
            let _capture = log.capture();
            let upstream = Upstream::new(begun(provider, [end])).await;
            let gateway = before(&upstream, "stream: { stall: 50ms }\n").await;
            let response = ask(&gateway, caller, &format!("{provider}/m")).await;
            let got = response.status().as_u16();
            assert!(got == status || (status == 0 && got >= 500), "{outcome}: {got}");
            let record = record(&gateway, &log).await;
            assert_eq!(record["outcome"], outcome);
            assert!(record["output_tokens"].as_u64() > Some(0), "{record}");
        }
    }
}

/// A whole answer whose bytes break off, from an upstream of the caller's dialect.
#[tokio::test]
async fn fm18_a_truncated_json_answer_is_an_error() {
    for (caller, provider) in [("openai-chat", "oai"), ("anthropic", "ant")] {
        let log = Log::default();
        let _capture = log.capture();
        let cut = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\":\"c\",\"choi";
        let upstream = Upstream::new(vec![Step::Raw(cut.to_vec()), Step::Close]).await;
        let gateway = before(&upstream, "").await;
        let response = ask(&gateway, caller, &format!("{provider}/m")).await;
        assert_eq!(response.status(), bad_gateway(caller));
        assert_eq!(record(&gateway, &log).await["outcome"], "truncated");
    }
}
