//! Callers who leave.

use std::time::Duration;

use super::preamble;
use super::{
    PAIRS, Raw, ask, before, before_two, begun, body, count, good, read_until, record, settled,
    whole,
};
use crate::support::gateway::Log;
use crate::support::upstream::{Step, Upstream};

/// The goal is 100 ms; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(1);

const ONE: &str = "limits: { concurrent_streams: 1, requests_per_minute: none }\n";

/// Failure modes 1, 5, 9 and 49: the upstream is closed, the permit returned, the record written.
#[tokio::test]
async fn fm01_a_disconnect_cancels_the_upstream_request() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let hanging = begun(provider, [Step::Hang]);
        let upstream = Upstream::scripted(vec![hanging, good(provider)]).await;
        let gateway = before(&upstream, ONE).await;
        let model = format!("{provider}/m");
        let mut response = ask(&gateway, caller, &model).send().await.unwrap();
        read_until(&mut response, "Hello").await;
        let refused = ask(&gateway, caller, &model).send().await.unwrap();
        assert_eq!(refused.status(), 429, "the permit is in use");
        drop(response);
        let took = upstream.all_closed().await;
        println!("{caller} from {provider}: upstream closed after {took:?}");
        assert!(took < SOON, "{took:?}");
        settled(&gateway).await;
        let records = log.records();
        let gone = records.iter().find(|record| record["outcome"] == "client_gone").unwrap();
        assert_eq!(gone["caller"], "test");
        assert_eq!(gone["model"], model);
        assert_eq!(gone["target"], model, "{gone}");
        assert_eq!(gone["attempts"], 1);
        assert_eq!(gone["estimated"], true);
        assert!(gone["output_tokens"].as_u64() > Some(0), "{gone}");
        assert!(gone["input_tokens"].as_u64() > Some(0), "{gone}");
        assert_eq!(records.len(), 2, "one record to a request");
        whole(ask(&gateway, caller, &model)).await;
    }
}

/// Failure mode 5: whenever a caller leaves, there is a record with what was used.
#[tokio::test]
async fn fm05_usage_is_kept_whenever_the_caller_leaves() {
    for (caller, provider) in PAIRS {
        let scripts = [
            (vec![Step::Sse, preamble(provider), Step::Hang], None),
            (begun(provider, [Step::Hang]), Some("Hello")),
            (begun(provider, [super::token(provider, "there"), Step::Hang]), Some("there")),
        ];
        for (script, until) in scripts {
            let log = Log::default();
            let _capture = log.capture();
            let upstream = Upstream::new(script).await;
            let gateway =
                before(&upstream, "stream: { heartbeat: 20ms, commit_after: 20ms }\n").await;
            let request = ask(&gateway, caller, &format!("{provider}/m"));
            let mut response = request.send().await.unwrap();
            read_until(&mut response, until.unwrap_or("ping")).await;
            drop(response);
            upstream.all_closed().await;
            let record = record(&gateway, &log).await;
            assert_eq!(record["outcome"], "client_gone");
            assert_eq!(record["estimated"], true);
            assert!(record["input_tokens"].as_u64() > Some(0), "{record}");
            assert_eq!(record["output_tokens"].as_u64() > Some(0), until.is_some(), "{record}");
        }
    }
}

/// Failure mode 10: a hang-up is noticed before the first token, before the response head and with
/// unread bytes behind the request.
#[tokio::test]
async fn fm10_cancel_before_the_first_token_is_noticed() {
    let get = "GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n";
    for (caller, provider) in PAIRS {
        let silences = [vec![Step::Hang], vec![Step::Sse, preamble(provider), Step::Hang]];
        let upstream =
            Upstream::scripted(silences.iter().cycle().take(16).cloned().collect()).await;
        let gateway = before(&upstream, "").await;
        let mut asked = 0;
        for behind in ["", "x", "\r\n", get] {
            for stream in [true, true, false, false] {
                let log = Log::default();
                let _capture = log.capture();
                let body = body(&format!("{provider}/m"), stream);
                let raw = Raw::ask(&gateway, caller, &body, behind).await;
                asked += 1;
                upstream.until("asked", |requests, _| requests == asked).await;
                drop(raw);
                let took = upstream.all_closed().await;
                assert!(took < SOON, "{caller} {provider} {behind:?}: {took:?}");
                let record = record(&gateway, &log).await;
                assert_eq!(record["outcome"], "client_gone", "{behind:?}");
            }
        }
    }
}

/// Failure mode 10, in mid-stream, where hyper does not read either.
#[tokio::test]
async fn fm10_cancel_mid_stream_is_noticed_past_unread_bytes() {
    for (caller, provider) in PAIRS {
        let upstream = Upstream::new(begun(provider, [Step::Hang])).await;
        let gateway = before(&upstream, "").await;
        for behind in ["x", "\r\n", "GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n"] {
            let body = body(&format!("{provider}/m"), true);
            let mut raw = Raw::ask(&gateway, caller, &body, behind).await;
            raw.until("Hello").await;
            drop(raw);
            let took = upstream.all_closed().await;
            assert!(took < SOON, "{caller} {provider} {behind:?}: {took:?}");
            settled(&gateway).await;
        }
    }
}

/// Failure mode 52: no further target is asked for a caller who has left.
#[tokio::test]
async fn fm52_no_failover_after_cancel() {
    for (caller, provider) in PAIRS {
        for stream in [true, false] {
            let (a, b) =
                (Upstream::new(vec![Step::Hang]).await, Upstream::new(good(provider)).await);
            let gateway = before_two(provider, &a, &b, "").await;
            let raw = Raw::ask(&gateway, caller, &body("two", stream), "").await;
            a.until("asked", |requests, _| requests == 1).await;
            drop(raw);
            a.all_closed().await;
            settled(&gateway).await;
            assert_eq!(b.requests().await.len(), 0);
        }
    }
}

/// Failure mode 47: aborted streams neither poison nor use up the pool.
#[tokio::test]
async fn fm47_a_hundred_aborted_streams_then_a_hundred_good_ones() {
    let (caller, provider) = ("openai-chat", "oai");
    let mut scripts = vec![begun(provider, [Step::Hang]); 100];
    scripts.push(good(provider));
    let upstream = Upstream::scripted(scripts).await;
    let gateway = before(&upstream, ONE).await;
    let model = format!("{provider}/m");
    for _ in 0..100 {
        let mut response = ask(&gateway, caller, &model).send().await.unwrap();
        read_until(&mut response, "Hello").await;
        drop(response);
        settled(&gateway).await;
    }
    upstream.all_closed().await;
    for _ in 0..100 {
        let text = whole(ask(&gateway, caller, &model)).await;
        assert_eq!(super::strictly(caller, &text).choices[&0].text, "Hello");
        settled(&gateway).await;
    }
    assert!(upstream.connections() <= 110, "good streams reuse their connection");
    assert_eq!(count(&gateway, "streamgate_requests_total{"), "200");
}
