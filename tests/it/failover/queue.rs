//! Requests that wait for room over HTTP: heartbeats while they wait, errors, and an upstream whose limit
//! nobody has configured.

use serde_json::Value;

use crate::failover::{send, text};
use crate::streaming::{read_until, settled, until};
use crate::support::gateway::{Gateway, KEY, Log, hex};
use crate::support::language::{Ask, LANGUAGES, language};
use crate::support::simulated::upstream;

/// A gateway whose only provider takes one answer at a time, with a queue for a long answer and a short one.
async fn gateway(queue: &str) -> Gateway {
    with_heartbeat(queue, "20ms").await
}

/// The same with another time between heartbeats.
async fn with_heartbeat(queue: &str, heartbeat: &str) -> Gateway {
    let address = upstream().await;
    Gateway::new(&format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {}, limits: none }}\n\
         providers:\n  one: {{ dialect: openai-chat, base_url: \"http://{address}/v1\", max_streams: 1 }}\n\
         models:\n  \
         long: {{ queue: {queue}, targets: [{{ provider: one, model: n100000-i50 }}] }}\n  \
         short: {{ queue: {queue}, targets: [{{ provider: one, model: n3 }}] }}\n\
         stream: {{ commit_after: 1ms, heartbeat: {heartbeat} }}\n",
        hex(&streamgate::config::digest(KEY)),
    ))
    .await
}

/// While a request waits, its stream is kept warm; once the other answer is over, it is served; the record has the wait.
#[tokio::test]
async fn r30_a_request_that_waits_has_heartbeats_and_is_served_in_every_dialect() {
    let warm = gateway("{ wait: 60s }").await;
    // Where a heartbeat is a part of the dialect, a strict reader cannot tell it from output.
    let silent = with_heartbeat("{ wait: 60s }", "1h").await;
    for language in LANGUAGES {
        let gateway = if language.heartbeat.is_some() { &warm } else { &silent };
        let log = Log::default();
        let _captured = log.capture();
        let mut first = send(gateway, language, "long", true).await;
        read_until(&mut first, "t0").await;
        let mut second = send(gateway, language, "short", true).await;
        let mut seen = Vec::new();
        if let Some(heartbeat) = language.heartbeat {
            seen = read_until(&mut second, heartbeat).await;
        }
        until("it waits", || gateway.count("streamgate_queue_length{") == 1).await;
        drop(first);
        seen.extend(second.bytes().await.unwrap());
        let seen = String::from_utf8(seen).unwrap().replace(language.heartbeat.unwrap_or("\0"), "");
        let view = (language.stream)(seen.as_bytes(), true).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(view.choices[&0].text, "t0 t1 t2 ", "{}", language.name);
        settled(gateway).await;
        let waits = |record: &&Value| record["model"] == "short";
        let records = log.records();
        let record = records.iter().find(waits).expect("a record");
        assert!(record["queued_ms"].as_f64() > Some(0.0), "{record}");
        assert_eq!(gateway.count("streamgate_queue_length{"), 0, "{}", language.name);
    }
}

/// A queue that has no place gives a 429 in the caller's dialect, which its library repeats after a time.
#[tokio::test]
async fn r30_a_full_queue_is_reported_in_every_dialect() {
    let gateway = gateway("{ most: 1, wait: 60s }").await;
    let chat = language("openai-chat");
    let mut first = send(&gateway, chat, "long", true).await;
    read_until(&mut first, "t0").await;
    let mut second = send(&gateway, chat, "long", true).await;
    read_until(&mut second, chat.heartbeat.unwrap()).await;
    for language in LANGUAGES {
        for stream in [true, false] {
            let response = send(&gateway, language, "long", stream).await;
            assert_eq!(response.status(), 429, "{}", language.name);
            let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            assert!(!response.headers().contains_key("x-should-retry"));
            let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            let message = (language.error)(&body).expect("an error of the dialect");
            assert!(message.contains("so is the queue"), "{message}");
        }
    }
    let refused = LANGUAGES.len() as u64 * 2;
    assert_eq!(
        gateway.count("streamgate_queue_refusals_total{model=\"long\",reason=\"full\"}"),
        refused
    );
    drop(first);
    read_until(&mut second, "t0").await;
}

/// Callers who leave take their places in the queue with them, and the upstream sees nothing of them.
#[tokio::test]
async fn r30_callers_who_leave_the_queue_are_gone() {
    let gateway = gateway("{ wait: 60s }").await;
    let chat = language("openai-chat");
    let mut first = send(&gateway, chat, "long", true).await;
    read_until(&mut first, "t0").await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut response = send(&gateway, chat, "long", true).await;
        read_until(&mut response, chat.heartbeat.unwrap()).await;
        waiting.push(response);
    }
    assert_eq!(gateway.count("streamgate_queue_length{model=\"long\",class=\"interactive\"}"), 50);
    drop(waiting);
    until("the queue is empty", || gateway.count("streamgate_queue_length{") == 0).await;
    drop(first);
    settled(&gateway).await;
    assert_eq!(text(chat, send(&gateway, chat, "short", true).await).await, "t0 t1 t2 ");
    assert_eq!(gateway.count("streamgate_picks_total{model=\"long\""), 1);
}

/// R30: an upstream that takes four at once serves thirty, and no caller sees that it was busy.
#[tokio::test]
async fn r30_a_busy_upstream_serves_everybody() {
    let address = upstream().await;
    let gateway = Gateway::new(&format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {}, limits: none }}\n\
         providers:\n  four: {{ dialect: openai-chat, base_url: \"http://{address}/v1\" }}\n\
         models:\n  m: {{ queue: {{ wait: 60s }}, targets: [{{ provider: four, model: n5-i2-cap4 }}] }}\n",
        hex(&streamgate::config::digest(KEY)),
    ))
    .await;
    let chat = language("openai-chat");
    let asked = (0..30).map(|_| async {
        let response = send(&gateway, chat, "m", true).await;
        text(chat, response).await
    });
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer, "t0 t1 t2 t3 t4 ");
    }
    settled(&gateway).await;
    assert!(gateway.count("streamgate_queue_wait_seconds_count{") > 0);
}

/// The class of a request is that of its key; a header lowers it, and never raises it.
#[tokio::test]
async fn r30_a_header_lowers_the_class() {
    let gateway = gateway("{ wait: 60s, classes: { high: 8, low: 1 } }").await;
    let chat = language("openai-chat");
    let mut first = send(&gateway, chat, "long", true).await;
    read_until(&mut first, "t0").await;
    let ask = Ask { model: "long".to_owned(), stream: true, ..Ask::default() };
    let body = (chat.request)(&ask).to_string();
    for (asked, class) in [("low", "low"), ("none such", "high")] {
        let post = gateway.post(&(chat.path)(&ask), &body).header("streamgate-class", asked);
        let mut response = post.send().await.unwrap();
        read_until(&mut response, chat.heartbeat.unwrap()).await;
        let name = format!("streamgate_queue_length{{model=\"long\",class=\"{class}\"}}");
        assert_eq!(gateway.count(&name), 1, "{asked}");
        drop(response);
        until("it has left", || gateway.count(&name) == 0).await;
    }
}
