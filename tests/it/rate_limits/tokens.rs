//! Tokens: reserved before the request is sent, settled on every way out.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::{answered, refused, remaining, reserved, whole_number};
use crate::access::{by, with_keys};
use crate::streaming::{Raw, read_until, settled};
use crate::support::answers::{SPOKEN, delta, ending, opening, path, request, streamed};
use crate::support::gateway::{Gateway, configuration, yaml};
use crate::support::upstream::{Step, Upstream};

/// An answer that is held back until the test says go.
fn held(dialect: &str, go: &Arc<Notify>) -> Vec<Step> {
    vec![
        Step::Sse,
        Step::chunk(&opening(dialect, "hi")),
        Step::Gate(Arc::clone(go)),
        Step::chunk(ending(dialect)),
        Step::End,
    ]
}

fn per_minute(tokens: u64) -> String {
    format!(", limits: {{ tokens_per_minute: {tokens} }}")
}

/// Failure mode 8: a hundred at once get what one after the other would, and what they have
/// reserved and not used comes back.
#[tokio::test]
async fn fm08_a_hundred_simultaneous_requests_stay_within_the_rate_limit() {
    for (dialect, provider) in SPOKEN {
        let go = Arc::new(Notify::new());
        let upstream = Upstream::new(held(dialect, &go)).await;
        let model = format!("{provider}/m");
        // Room for three and a half: the half comes back no sooner than in eight seconds.
        let limits = per_minute(reserved(&model) * 7 / 2);
        let keys = [("busy", limits.as_str()), ("other", "")];
        let gateway = Gateway::new(&with_keys(&upstream, &keys, "")).await;
        let asked = (0..100).map(|_| by(&gateway, "busy", dialect, &model).send());
        let answers: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
        let (admitted, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status() == 200);
        assert_eq!((admitted.len(), refused.len()), (3, 97));
        for refused in refused {
            assert_eq!(refused.status(), 429);
            assert_eq!(refused.headers()["x-streamgate-limit"], "caller tokens_per_minute");
        }
        assert_eq!(upstream.requests().await.len(), 3, "nobody else reached the upstream");
        let other = by(&gateway, "other", dialect, &model).send().await.unwrap();
        assert_eq!(other.status(), 200, "other callers are unharmed");
        drop(other);
        for answer in admitted {
            go.notify_one();
            answer.text().await.unwrap();
        }
        settled(&gateway).await;
        let again = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(again.status(), 200, "what they did not use is there again");
        let left = remaining(again.headers(), dialect, "tokens");
        assert!(left > reserved(&model), "{left} left beside the one under way");
    }
}

/// Failure mode 8: a caller who leaves gets back what was not used for it.
#[tokio::test]
async fn fm08_a_cancelled_stream_returns_unused_rate_limit_tokens() {
    for (dialect, provider) in SPOKEN {
        let go = Arc::new(Notify::new());
        let upstream = Upstream::new(held(dialect, &go)).await;
        let model = format!("{provider}/m");
        let limits = per_minute(reserved(&model) * 3 / 2);
        let gateway = Gateway::new(&with_keys(&upstream, &[("busy", &limits)], "")).await;
        let first = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(first.status(), 200);
        let before = remaining(first.headers(), dialect, "tokens");
        let (headers, message) = refused(&gateway, "busy", dialect, &model).await;
        assert_eq!(headers["x-streamgate-limit"], "caller tokens_per_minute");
        assert!(message.contains("tokens per minute"), "{message}");
        assert!(remaining(&headers, dialect, "tokens").abs_diff(before) < 20);
        drop(first);
        upstream.all_closed().await;
        settled(&gateway).await;
        let second = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(second.status(), 200);
        let after = remaining(second.headers(), dialect, "tokens");
        assert!(before - after > 0, "the prompt and the first word were used");
        assert!(before - after < 50, "{before} left, then {after}");
    }
}

/// Failure mode 9: whatever becomes of a request, the next one finds its tokens and its permit.
#[tokio::test]
async fn fm09_rate_limits_leak_nothing_on_any_exit() {
    for (dialect, provider) in SPOKEN {
        let junk = Step::chunk("event: content_block_delta\ndata: {\"type\": junk\n\n");
        let bad = [
            vec![Step::Whole(504, "", Vec::new())],
            vec![Step::Raw(b"no HTTP\r\n\r\n".to_vec()), Step::Close],
            vec![Step::Sse, junk.clone()],
            vec![Step::Sse, Step::chunk(&opening(dialect, "hi")), junk],
            vec![Step::Sse, Step::chunk(&opening(dialect, "hi")), Step::Reset],
            vec![Step::Sse, Step::chunk(&opening(dialect, "hi")), Step::End],
        ];
        let rounds = 3 * bad.len();
        let scripts = bad.into_iter().cycle().take(rounds);
        let scripts = scripts.flat_map(|bad| [bad, streamed(dialect, "hi")]).collect();
        let upstream = Upstream::scripted(scripts).await;
        let model = format!("{provider}/m");
        // Each round uses less than forty; none of it needs to come back by itself.
        let limits = format!(
            ", limits: {{ requests_per_minute: none, concurrent_streams: 1, tokens_per_minute: {} }}",
            reserved(&model) + rounds as u64 * 60
        );
        let gateway = Gateway::new(&with_keys(&upstream, &[("busy", &limits)], "")).await;
        for round in 0..rounds {
            let broken = by(&gateway, "busy", dialect, &model).send().await.unwrap();
            assert_ne!(broken.status(), 429, "{round}");
            broken.text().await.unwrap();
            settled(&gateway).await;
            answered(&gateway, "busy", dialect, &model).await;
            settled(&gateway).await;
        }
    }
}

/// Failure mode 9: the same for those that never reach an upstream, and for callers who leave
/// before there is an answer.
#[tokio::test]
async fn fm09_rate_limits_leak_nothing_before_the_upstream_answers() {
    for (dialect, provider) in SPOKEN {
        let upstream = Upstream::scripted(vec![vec![Step::Hang]; 10]).await;
        let model = format!("{provider}/m");
        let limits = format!(
            ", limits: {{ concurrent_streams: 1, tokens_per_minute: {} }}",
            reserved(&model) * 3
        );
        let gateway = Gateway::new(&with_keys(&upstream, &[("sg-test", &limits)], "")).await;
        for (body, status) in [("{", 400), (r#"{"model":"none/x","messages":[]}"#, 404)] {
            for _ in 0..10 {
                let response = gateway.post(path(dialect), body).send().await.unwrap();
                assert_eq!(response.status(), status);
            }
        }
        for asked in 1..=5 {
            let left = Raw::ask(&gateway, dialect, &request(&model, true, "hi"), "").await;
            upstream.until("asked", |requests, _| requests == asked).await;
            drop(left);
            upstream.all_closed().await;
            settled(&gateway).await;
        }
        // The prompts that were read are all that was used.
        let bad = gateway.post(path(dialect), "{").send().await.unwrap();
        let left = remaining(bad.headers(), dialect, "tokens");
        assert!(left >= reserved(&model) * 3 - 5 * 30, "{left}");
    }
}

/// An answer may be longer than anybody assumed: that is owed, and told while it still runs.
#[tokio::test]
async fn what_is_used_beyond_the_reservation_is_owed() {
    for (dialect, provider) in SPOKEN {
        let go = Arc::new(Notify::new());
        let upstream = Upstream::new(vec![
            Step::Sse,
            Step::chunk(&opening(dialect, "hi")),
            Step::chunk(&delta(dialect, &"long ".repeat(2000))),
            Step::Gate(Arc::clone(&go)),
            Step::chunk(
                &ending(dialect).replace(r#""output_tokens":2"#, r#""output_tokens":2500"#),
            ),
            Step::End,
        ]);
        let upstream = upstream.await;
        let model = format!("{provider}/m");
        let limits = ", limits: { tokens_per_minute: 1000, assumed_output: 10 }";
        let keys = [("sg-test", limits), ("other", "")];
        let gateway = Gateway::new(&with_keys(&upstream, &keys, "")).await;
        let body = request(&model, true, "hi").replace(r#""max_tokens":100,"#, "");
        let mut first = gateway.post(path(dialect), &body).send().await.unwrap();
        assert_eq!(first.status(), 200);
        assert!(remaining(first.headers(), dialect, "tokens") < 990);
        read_until(&mut first, "long long").await;
        refused(&gateway, "sg-test", dialect, &model).await;
        go.notify_one();
        first.text().await.unwrap();
        settled(&gateway).await;
        let (headers, message) = refused(&gateway, "sg-test", dialect, &model).await;
        assert_eq!(remaining(&headers, dialect, "tokens"), 0);
        assert!(whole_number(&headers, "retry-after") > 60, "1500 are owed: {headers:?}");
        assert!(message.contains("of which 0 are left"), "{message}");
        let other = by(&gateway, "other", dialect, &model).send().await.unwrap();
        assert_eq!(other.status(), 200, "other callers are unharmed");
    }
}

/// The upstream's count is charged, not the reservation or our estimate.
#[tokio::test]
async fn it_is_settled_with_what_the_upstream_says() {
    for (dialect, provider) in SPOKEN {
        let answer = streamed(dialect, "hi").into_iter().map(|step| match step {
            Step::Chunk(bytes) => Step::chunk(
                &String::from_utf8(bytes)
                    .unwrap()
                    .replace(r#""output_tokens":2"#, r#""output_tokens":700"#)
                    .replace(
                        "data: [DONE]",
                        "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":700}}\n\ndata: [DONE]",
                    ),
            ),
            other => other,
        });
        let upstream = Upstream::new(answer.collect()).await;
        let model = format!("{provider}/m");
        let gateway = Gateway::new(&with_keys(&upstream, &[("busy", &per_minute(1000))], "")).await;
        answered(&gateway, "busy", dialect, &model).await;
        settled(&gateway).await;
        let next = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        let left = remaining(next.headers(), dialect, "tokens") + reserved(&model);
        // Some seconds may have passed on a busy machine.
        assert!((297..397).contains(&left), "{left}");
    }
}

/// A request that is larger than the whole bucket is let in when nothing of it is used.
#[tokio::test]
async fn a_request_larger_than_the_limit_waits_for_a_full_bucket() {
    for (dialect, provider) in SPOKEN {
        let upstream = Upstream::new(streamed(dialect, "hi")).await;
        let model = format!("{provider}/m");
        let limits = per_minute(reserved(&model) - 10);
        let gateway = Gateway::new(&with_keys(&upstream, &[("busy", &limits)], "")).await;
        answered(&gateway, "busy", dialect, &model).await;
        settled(&gateway).await;
        let (_, message) = refused(&gateway, "busy", dialect, &model).await;
        assert!(message.contains("only when none of them are used"), "{message}");
    }
}

#[tokio::test]
async fn a_model_has_limits_for_all_callers_together() {
    for (dialect, provider) in SPOKEN {
        let go = Arc::new(Notify::new());
        let upstream = Upstream::new(held(dialect, &go)).await;
        for (limits, limit) in [
            ("requests_per_minute: 1".to_owned(), "requests_per_minute"),
            ("concurrent_streams: 1".to_owned(), "concurrent_streams"),
            (format!("tokens_per_minute: {}", reserved("fast") * 3 / 2), "tokens_per_minute"),
        ] {
            let models = format!(
                "models:\n  fast: {{ targets: [{{ provider: {provider}, model: m }}], limits: {{ {limits} }} }}\n  \
                 slow: {{ targets: [{{ provider: {provider}, model: m }}] }}\n"
            );
            let own = ", limits: { requests_per_minute: 9, tokens_per_minute: 100000 }";
            let keys = [("a", ""), ("b", own)];
            let gateway = Gateway::new(&with_keys(&upstream, &keys, &models)).await;
            let first = by(&gateway, "a", dialect, "fast").send().await.unwrap();
            assert_eq!(first.status(), 200);
            for _ in 0..20 {
                let (headers, message) = refused(&gateway, "b", dialect, "fast").await;
                assert_eq!(headers["x-streamgate-limit"], format!("model {limit}"));
                assert!(message.contains("this model") && message.contains(limit), "{message}");
            }
            // None of the twenty was counted against their caller.
            let slow = by(&gateway, "b", dialect, "slow").send().await.unwrap();
            assert_eq!(slow.status(), 200);
            assert_eq!(remaining(slow.headers(), dialect, "requests"), 8);
            let left = remaining(slow.headers(), dialect, "tokens");
            assert!(left >= 100_000 - reserved("slow"), "{left}");
        }
    }
}

/// A reload gives nobody anything, whatever it changes: what is used stays used.
#[tokio::test]
async fn a_reload_carries_over_what_is_used() {
    for (dialect, provider) in SPOKEN {
        let go = Arc::new(Notify::new());
        let upstream = Upstream::new(held(dialect, &go)).await;
        let model = format!("{provider}/m");
        let all = reserved(&model) * 3 / 2;
        let config = |requests: u64, tokens: u64, streams: u64| {
            let limits = format!(
                ", limits: {{ requests_per_minute: {requests}, tokens_per_minute: {tokens}, concurrent_streams: {streams} }}"
            );
            with_keys(&upstream, &[("busy", &limits)], "")
        };
        let gateway = Gateway::new(&config(10, all, 10)).await;
        let first = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(first.status(), 200);
        for (requests, tokens, streams, limit) in [
            (10, all + 5, 10, "tokens_per_minute"),
            (10, all - 5, 11, "tokens_per_minute"),
            (1, 100_000, 12, "requests_per_minute"),
            (10, 100_000, 1, "concurrent_streams"),
        ] {
            gateway.app.reload(configuration(&config(requests, tokens, streams)));
            let (headers, _) = refused(&gateway, "busy", dialect, &model).await;
            assert_eq!(headers["x-streamgate-limit"], format!("caller {limit}"));
        }
        // More of everything lets more in, but not more than the difference.
        gateway.app.reload(configuration(&config(2, reserved(&model) * 5 / 2, 2)));
        let second = by(&gateway, "busy", dialect, &model).send().await.unwrap();
        assert_eq!(second.status(), 200);
        refused(&gateway, "busy", dialect, &model).await;
        drop((first, second));
    }
}

/// The whole of `limits` can be lifted, for everybody or for one.
#[tokio::test]
async fn none_lifts_all_limits() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let keys = [("free", ", limits: none"), ("busy", "")];
    let more = "limits: { requests_per_minute: 1, tokens_per_minute: 1 }\n";
    let gateway = Gateway::new(&with_keys(&upstream, &keys, more)).await;
    for _ in 0..20 {
        let response = by(&gateway, "free", "openai-chat", "oai/m").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().keys().any(|name| name.as_str().contains("ratelimit")));
    }
    answered(&gateway, "busy", "openai-chat", "oai/m").await;
    refused(&gateway, "busy", "openai-chat", "oai/m").await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "limits: none\n")).await;
    let response = gateway.chat("oai/m").send().await.unwrap();
    assert!(!response.headers().keys().any(|name| name.as_str().contains("ratelimit")));
}
