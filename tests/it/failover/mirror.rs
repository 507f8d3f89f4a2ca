//! Mirrored requests over HTTP: another target gets a copy, and callers, their limits and their records see nothing of it.

use std::fmt::Write as _;

use serde_json::Value;

use crate::failover::routing::{JSON, gateway, refusal};
use crate::failover::{send, text};
use crate::streaming::{settled, until};
use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, KEY, Log, hex};
use crate::support::language::{Ask, LANGUAGES, language};
use crate::support::simulated::upstream;
use crate::support::upstream::{Step, Upstream};

/// A gateway before a simulated upstream, whose model `m` is mirrored to another one if these words say so.
async fn simulated(mirror: &str) -> Gateway {
    let (address, other) = (upstream().await, upstream().await);
    let mut yaml = format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {}, limits: {{ tokens_per_minute: 1000000 }} }}\nproviders:\n",
        hex(&streamgate::config::digest(KEY))
    );
    for (name, address) in [("one", address), ("copy", other)] {
        writeln!(
            yaml,
            "  {name}: {{ dialect: openai-chat, base_url: \"http://{address}/v1\", api_key: sim }}"
        )
        .unwrap();
    }
    writeln!(yaml, "models:\n  m: {{ {mirror}targets: [{{ provider: one, model: n3 }}] }}")
        .unwrap();
    Gateway::new(&yaml).await
}

fn mirrored(gateway: &Gateway, result: &str) -> u64 {
    gateway.count(&format!("streamgate_mirrors_total{{model=\"m\",result=\"{result}\"}}"))
}

/// Everything that the caller, its record and its limits have of a request.
async fn seen(
    gateway: &Gateway,
    log: &Log,
    ask: impl Future<Output = reqwest::Response>,
) -> Vec<String> {
    let response = ask.await;
    let mut seen = vec![response.status().to_string()];
    for (name, value) in response.headers() {
        if !["date", "x-request-id", "x-streamgate-request-id", "request-id"]
            .contains(&name.as_str())
        {
            seen.push(format!("{name}: {}", value.to_str().unwrap()));
        }
    }
    seen.push(response.text().await.unwrap().len().to_string());
    settled(gateway).await;
    let record = log.records().pop().expect("a record");
    for name in ["outcome", "target", "attempts", "trail", "input_tokens", "output_tokens", "cost"]
    {
        seen.push(format!("{name} {}", record.get(name).unwrap_or(&Value::Null)));
    }
    seen
}

/// R29: the mirror works on every endpoint, streamed or not, and nothing of it is the caller's.
#[tokio::test]
async fn r29_every_endpoint_is_mirrored_and_the_caller_sees_nothing() {
    let plain = simulated("").await;
    let gateway = simulated("mirror: { share: 1, to: { provider: copy, model: n5 } }, ").await;
    let log = Log::default();
    let _captured = log.capture();
    let mut copies = 0;
    for language in LANGUAGES {
        for stream in [true, false] {
            let without = seen(&plain, &log, send(&plain, language, "m", stream)).await;
            let with = seen(&gateway, &log, send(&gateway, language, "m", stream)).await;
            // Remaining limits are those of the moment, and ids and times differ in length only by chance.
            let comparable = |seen: Vec<String>| -> Vec<String> {
                seen.into_iter().filter(|line| !line.contains("ratelimit")).collect()
            };
            assert_eq!(comparable(with), comparable(without), "{} {stream}", language.name);
            copies += 1;
            until("the copy is complete", || mirrored(&gateway, "complete") == copies).await;
        }
    }
    let embed =
        |gateway: &Gateway| gateway.post("/v1/embeddings", r#"{"model":"m","input":"hi"}"#).send();
    assert_eq!(embed(&gateway).await.unwrap().status(), 200);
    until("the copy is complete", || mirrored(&gateway, "complete") == copies + 1).await;
    for result in ["failed", "timed_out", "dropped"] {
        assert_eq!(mirrored(&gateway, result), 0, "{result}");
    }
    let tokens = |gateway: &Gateway| gateway.count("streamgate_tokens_total{");
    assert_eq!(embed(&plain).await.unwrap().status(), 200);
    settled(&plain).await;
    assert_eq!(tokens(&gateway), tokens(&plain), "the caller's tokens");
    let wasted =
        gateway.count("streamgate_wasted_tokens_total{target=\"copy/n5\",purpose=\"mirror\"}");
    assert!(wasted >= copies * 5, "{wasted}");
    // All but the whole answer in the target's own dialect, whose first token nobody sees.
    assert_eq!(gateway.count("streamgate_mirror_time_to_first_token_seconds_count{"), copies - 1);
}

/// R29: an upstream that hangs holds no caller up, takes no more than `most` places, and ends with the process.
#[tokio::test]
async fn r29_a_mirror_that_hangs_is_bounded_and_unseen() {
    let main = Upstream::new(streamed("openai-chat", "Hello")).await;
    let copy = Upstream::new(vec![Step::Hang]).await;
    let providers = format!(
        "  a: {{ dialect: openai-chat, base_url: \"{}\" }}\n  b: {{ dialect: openai-chat, base_url: \"{}\" }}\n",
        main.url, copy.url
    );
    let model = "mirror: { share: 1, most: 2, to: { provider: b, model: c } }, targets: [{ provider: a, model: m }]";
    let gateway = gateway(&providers, model).await;
    let chat = language("openai-chat");
    for _ in 0..5 {
        assert_eq!(text(chat, send(&gateway, chat, "m", true).await).await, "Hello");
    }
    until("the others are dropped", || mirrored(&gateway, "dropped") == 3).await;
    copy.until("two copies", |_, sent| sent == 2).await;
    settled(&gateway).await;
}

/// R29: a mirror that fails judges no target: requests to the same target go on.
#[tokio::test]
async fn r29_a_mirror_judges_no_target() {
    for status in [401, 402, 404, 429, 500, 503] {
        let main = Upstream::new(streamed("openai-chat", "Hello")).await;
        let refused = refusal(status, JSON, "no");
        let copy =
            Upstream::scripted(vec![refused.clone(), refused, streamed("openai-chat", "Copy")])
                .await;
        let providers = format!(
            "  a: {{ dialect: openai-chat, base_url: \"{}\" }}\n  b: {{ dialect: openai-chat, base_url: \"{}\" }}\n",
            main.url, copy.url
        );
        let model = "mirror: { share: 1, to: { provider: b, model: c } }, targets: [{ provider: a, model: m }] }\n  \
            other: { targets: [{ provider: b, model: c }]";
        let gateway = gateway(&providers, model).await;
        let chat = language("openai-chat");
        for failed in 1..=2 {
            assert_eq!(text(chat, send(&gateway, chat, "m", true).await).await, "Hello");
            until("the copy has failed", || mirrored(&gateway, "failed") == failed).await;
        }
        assert_eq!(text(chat, send(&gateway, chat, "other", true).await).await, "Copy");
        assert_eq!(gateway.count("streamgate_breaker_changes_total{"), 0, "{status}");
        assert_eq!(gateway.count("streamgate_upstream_errors_total{provider=\"b\""), 0, "{status}");
    }
}

/// R29: requests that decline, that may change something, and those that fail are not mirrored.
#[tokio::test]
async fn r29_requests_that_are_not_mirrored() {
    let gateway = simulated("mirror: { share: 1, to: { provider: copy, model: n5 } }, ").await;
    let chat = language("openai-chat");
    let ask = Ask { model: "m".to_owned(), stream: true, ..Ask::default() };
    let body = (chat.request)(&ask);
    let post = |body: &Value| gateway.post(&(chat.path)(&ask), &body.to_string());
    let declined = post(&body).header("streamgate-mirror", "no").send().await.unwrap();
    assert_eq!(text(chat, declined).await, "t0 t1 t2 ");
    let mut storing = body.clone();
    storing["store"] = true.into();
    assert_eq!(text(chat, post(&storing).send().await.unwrap()).await, "t0 t1 t2 ");
    let wrong = post(&serde_json::json!({ "model": "m", "messages": 3 })).send().await.unwrap();
    assert_eq!(wrong.status(), 400);
    let count = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let counted = gateway.post("/v1/messages/count_tokens", count).send().await.unwrap();
    assert_eq!(counted.status(), 200);
    settled(&gateway).await;
    assert_eq!(gateway.count("streamgate_mirrors_total{"), 0);
    assert_eq!(text(chat, post(&body).send().await.unwrap()).await, "t0 t1 t2 ");
    until("one copy", || mirrored(&gateway, "complete") == 1).await;
}

/// R29: a durable stream is produced once and mirrored once, however many read it.
#[tokio::test]
async fn r29_durable_streams_are_mirrored_once() {
    let words =
        "stream: { resumable: true }, mirror: { share: 1, to: { provider: copy, model: n5 } }, ";
    let gateway = simulated(words).await;
    let chat = language("openai-chat");
    let response = send(&gateway, chat, "m", true).await;
    assert!(response.headers().contains_key("streamgate-stream-id"), "{:?}", response.headers());
    let text = response.text().await.unwrap();
    assert!(text.contains("t2 ") && text.contains("[DONE]"), "{text}");
    until("one copy", || mirrored(&gateway, "complete") == 1).await;
    settled(&gateway).await;
    assert_eq!(gateway.count("streamgate_mirrors_total{"), 1);
}
