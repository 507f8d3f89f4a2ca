//! Targets after the first one, permits, and pooled connections.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{
    PAIRS, ask, before, before_two, begun, count, ending, error_of, failure, good, preamble,
    read_until, record, refusal, settled, strictly, token, whole,
};
use crate::support::gateway::{Gateway, Log, yaml};
use crate::support::upstream::{Step, Upstream};

const JSON: &str = "content-type: application/json\r\n";

/// Failure mode 16: what fails before its first output is tried elsewhere, and nothing of it is seen.
#[tokio::test]
async fn fm16_failover_before_the_first_output() {
    for (caller, provider) in PAIRS {
        let mut first: Vec<Vec<Step>> =
            [408, 429, 500, 502, 503, 504].map(|status| refusal(provider, status)).to_vec();
        first.extend([
            vec![Step::Hang],
            vec![Step::Sse, preamble(provider), Step::Close],
            vec![Step::Sse, preamble(provider), Step::End],
            vec![Step::Sse, preamble(provider), Step::Hang],
            vec![Step::Sse, preamble(provider), failure(provider), Step::Hang],
            vec![Step::Whole(200, JSON, Vec::new())],
            vec![Step::Close],
        ]);
        for (number, script) in first.into_iter().enumerate() {
            // Each with a gateway of its own, which remembers no failure of the one before.
            // The second one has half of the deadline where the first hangs, on however slow a machine.
            let hangs = matches!(script.last(), Some(Step::Hang));
            let first_token = if hangs { "2s" } else { "20s" };
            let (a, b) = (Upstream::new(script).await, Upstream::new(good(provider)).await);
            let more = format!("stream: {{ first_token: {first_token} }}\n");
            let gateway = before_two(provider, &a, &b, &more).await;
            let log = Log::default();
            let _capture = log.capture();
            let response = ask(&gateway, caller, "two").send().await.unwrap();
            assert_eq!(response.status(), 200, "{caller} {provider} {number}");
            assert_eq!(response.headers()["x-streamgate-target"], "b/m");
            let text = response.text().await.unwrap();
            let read = strictly(caller, &text);
            assert_eq!(read.choices[&0].text, "Hello");
            assert_eq!(read.ended, crate::support::Ended::Complete);
            assert!(text.matches("message_start\"").count() <= 1, "{text}");
            assert!(text.matches("\"role\"").count() <= 1, "{text}");
            let record = record(&gateway, &log).await;
            assert_eq!((&record["outcome"], &record["attempts"]), (&"complete".into(), &2.into()));
            assert_eq!(record["estimated"], false, "{record}");
            assert_eq!(record["output_tokens"], 3);
            assert_eq!(count(&gateway, "streamgate_upstream_errors_total{"), "1");
        }
    }
}

/// A target that cannot be reached is a failure like any other.
#[tokio::test]
async fn fm16_failover_skips_an_unreachable_target() {
    for (caller, provider) in PAIRS {
        let b = Upstream::new(good(provider)).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        let (dialect, v1) =
            if provider == "oai" { ("openai-chat", "/v1") } else { ("anthropic", "") };
        let url = &b.url;
        let more = format!(
            "  a: {{ dialect: {dialect}, base_url: \"http://{closed}{v1}\" }}\nmodels:\n  two: {{ targets: [{{ provider: a, model: m }}, {{ provider: {provider}, model: m }}] }}\n"
        );
        let gateway = Gateway::new(&yaml(url, url, &more)).await;
        strictly(caller, &whole(ask(&gateway, caller, "two")).await);
        settled(&gateway).await;
    }
}

/// A request that is wrong in itself is wrong everywhere.
#[tokio::test]
async fn fm16_no_failover_of_an_invalid_request() {
    for (caller, provider) in PAIRS {
        for status in [400, 422] {
            let a = Upstream::new(refusal(provider, status)).await;
            let b = Upstream::new(good(provider)).await;
            let gateway = before_two(provider, &a, &b, "").await;
            let response = ask(&gateway, caller, "two").send().await.unwrap();
            assert!(response.status().is_client_error(), "{}", response.status());
            assert_eq!(response.headers()["x-streamgate-target"], "a/m");
            settled(&gateway).await;
            assert_eq!(b.requests().await.len(), 0, "{status}");
        }
    }
}

/// Failure mode 16: after the first output there is no second try.
#[tokio::test]
async fn fm16_no_failover_after_output() {
    for (caller, provider) in PAIRS {
        for end in [Step::Close, Step::End, failure(provider), Step::Hang] {
            let gate = Arc::new(Notify::new());
            let script = begun(provider, [Step::Gate(Arc::clone(&gate)), end]);
            let (a, b) = (Upstream::new(script).await, Upstream::new(good(provider)).await);
            let gateway = before_two(provider, &a, &b, "stream: { stall: 80ms }\n").await;
            let mut response = ask(&gateway, caller, "two").send().await.unwrap();
            let begun = read_until(&mut response, "Hello").await;
            gate.notify_one();
            let text = String::from_utf8(begun).unwrap() + &response.text().await.unwrap();
            error_of(caller, &text);
            assert_eq!(text.matches("Hello").count(), 1, "{text}");
            settled(&gateway).await;
            assert_eq!(b.requests().await.len(), 0);
        }
    }
}

/// Failure mode 16: a tool call that has begun is output, too.
#[tokio::test]
async fn fm16_no_failover_after_a_tool_call_has_begun() {
    let tool = |provider| match provider {
        "oai" => {
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"look\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n"
        }
        _ => {
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_1\",\"name\":\"look\",\"input\":{}}}\n\n"
        }
    };
    for (caller, provider) in PAIRS {
        let gate = Arc::new(Notify::new());
        let step = Step::Gate(Arc::clone(&gate));
        let script = vec![Step::Sse, Step::chunk(tool(provider)), step, Step::Close];
        let (a, b) = (Upstream::new(script).await, Upstream::new(good(provider)).await);
        let gateway = before_two(provider, &a, &b, "").await;
        let mut response = ask(&gateway, caller, "two").send().await.unwrap();
        let begun = read_until(&mut response, "look").await;
        gate.notify_one();
        let text = String::from_utf8(begun).unwrap() + &response.text().await.unwrap();
        error_of(caller, &text);
        assert_eq!(strictly(caller, &text).choices[&0].tools[0].name, "look");
        settled(&gateway).await;
        assert_eq!(b.requests().await.len(), 0);
    }
}

/// Failure mode 9: whatever way a request ends, its permit comes back.
#[tokio::test]
async fn fm09_the_rate_limit_permit_is_released_on_every_exit() {
    const ROUNDS: usize = 2;
    for (caller, provider) in PAIRS {
        let junk = Step::chunk("event: content_block_delta\ndata: {\"type\": junk\n\n");
        let bad = [
            refusal(provider, 500),
            vec![Step::Sse, preamble(provider), Step::Close],
            vec![Step::Hang],
            begun(provider, [junk]),
            begun(provider, [Step::Hang]),
            begun(provider, [Step::Reset]),
            begun(provider, [failure(provider)]),
        ];
        let scripts = bad
            .iter()
            .cycle()
            .take(bad.len() * ROUNDS)
            .flat_map(|bad| [bad.clone(), good(provider)]);
        let rounds = bad.len() * ROUNDS;
        let upstream = Upstream::scripted(scripts.collect()).await;
        let more = "limits: { concurrent_streams: 1, requests_per_minute: none }\n\
                    stream: { first_token: 250ms, stall: 250ms }\n";
        let gateway = before(&upstream, more).await;
        let model = format!("{provider}/m");
        for round in 0..rounds {
            let response = ask(&gateway, caller, &model).send().await.unwrap();
            let _broken = response.bytes().await.unwrap();
            settled(&gateway).await;
            let text = whole(ask(&gateway, caller, &model)).await;
            assert_eq!(strictly(caller, &text).choices[&0].text, "Hello", "{round}");
            settled(&gateway).await;
        }
    }
}

/// Failure mode 46: idle connections that the upstream closes fail no request.
#[tokio::test]
async fn fm46_stale_pooled_connections_fail_no_request() {
    for (caller, provider) in PAIRS {
        for end in [Step::Close, Step::CloseWhenAsked] {
            let mut script = good(provider);
            script.push(end);
            let upstream = Upstream::new(script).await;
            let gateway = before(&upstream, "").await;
            for _ in 0..50 {
                let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
                assert_eq!(strictly(caller, &text).choices[&0].text, "Hello");
            }
            settled(&gateway).await;
            assert_eq!(upstream.requests().await.len(), 50);
            assert_eq!(count(&gateway, "streamgate_upstream_errors_total{"), "0");
        }
    }
}

/// The upstream's connection is in the pool again before the caller has the end of its answer, so that a request which
/// follows at once opens no other one.
#[tokio::test]
async fn requests_that_follow_each_other_share_an_upstream_connection() {
    for (caller, provider) in PAIRS {
        // The whole answer in one write: its last bytes come with the end of the body.
        let mut answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec();
        for step in [preamble(provider), token(provider, "Hello"), ending(provider)] {
            let Step::Chunk(bytes) = step else { panic!("all are chunks") };
            answer.extend(format!("{:x}\r\n", bytes.len()).bytes());
            answer.extend(bytes);
            answer.extend(b"\r\n");
        }
        answer.extend(b"0\r\n\r\n");
        let upstream = Upstream::new(vec![Step::Raw(answer)]).await;
        let gateway = before(&upstream, "").await;
        for _ in 0..20 {
            let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
            assert_eq!(strictly(caller, &text).choices[&0].text, "Hello");
        }
        assert_eq!((upstream.requests().await.len(), upstream.connections()), (20, 1));
    }
}

/// An upstream that closes a new connection has failed; it is asked once, and then the next one is
#[tokio::test]
async fn a_new_connection_that_breaks_is_not_retried() {
    for (caller, provider) in PAIRS {
        for end in [Step::Reset, Step::Close] {
            let broken = Upstream::new(vec![end]).await;
            let gateway = before(&broken, "").await;
            let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
            assert_eq!(response.status(), super::bad_gateway(caller));
            settled(&gateway).await;
            assert_eq!((broken.requests().await.len(), broken.connections()), (1, 1));
        }
    }
    let broken = Upstream::new(vec![Step::Reset]).await;
    let healthy = Upstream::new(good("ant")).await;
    let more =
        "models:\n  m: { targets: [{ provider: oai, model: a }, { provider: ant, model: b }] }\n";
    let gateway = Gateway::new(&yaml(&broken.url, &healthy.url, more)).await;
    let text = whole(ask(&gateway, "openai-chat", "m")).await;
    assert_eq!(strictly("openai-chat", &text).choices[&0].text, "Hello");
    assert_eq!((broken.requests().await.len(), healthy.requests().await.len()), (1, 1));
}

/// Statuses that HTTP does not have are an upstream's failure.
#[tokio::test]
async fn invalid_statuses_are_bad_gateways() {
    for (caller, provider) in PAIRS {
        for status in [600, 799, 999] {
            let odd = br#"{"error":{"message":"canary","type":"invalid_request_error"}}"#.to_vec();
            let upstream =
                Upstream::new(vec![Step::Whole(status, "content-type: application/json\r\n", odd)])
                    .await;
            let gateway = before(&upstream, "").await;
            let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
            assert_eq!(response.status(), super::bad_gateway(caller), "{status}");
            let text = response.text().await.unwrap();
            assert!(text.contains(&status.to_string()) && !text.contains("canary"), "{text}");
            settled(&gateway).await;
        }
    }
}
