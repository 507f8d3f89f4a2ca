//! Failed streams of callers whose client libraries overlook error events: the error event, the same as a
//! plain chunk, and a body that is cut. Must hold for every way in which a stream can fail.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{
    PATIENCE, before, begun, count, failure, http2, preamble, read_until, record, settled, token,
    token_text,
};
use crate::access::with_keys;
use crate::support::gateway::{Gateway, KEY, Log};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};
use crate::support::{gemini, ollama, received};

/// The paths and bodies of these callers; `true`: they get events, else an array or lines.
fn asks(model: &str) -> [(&'static str, String, String); 3] {
    let contents = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] });
    let messages = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    let gemini = format!("/v1beta/models/{model}:streamGenerateContent");
    [
        ("events", format!("{gemini}?alt=sse"), contents.to_string()),
        ("array", gemini, contents.to_string()),
        ("lines", "/api/chat".to_owned(), messages.to_string()),
    ]
}

/// The chunks of a chunked body, each as it was written, and whether the last chunk came.
fn chunks(text: &str) -> (Vec<String>, bool) {
    let (_, mut rest) = text.split_once("\r\n\r\n").expect("a head");
    let mut chunks = Vec::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        if size == 0 {
            return (chunks, true);
        }
        let (chunk, after) = after.split_at(size);
        chunks.push(chunk.to_owned());
        rest = after.strip_prefix("\r\n").expect("a chunk's end");
    }
    (chunks, false)
}

/// The message of an error as these callers get it.
fn message(error: &str) -> String {
    let error: Value = serde_json::from_str(error).expect("JSON");
    let said = error.pointer("/error/message").or_else(|| error.pointer("/error"));
    said.and_then(Value::as_str).expect("a message").to_owned()
}

/// Checks the last chunks of a failed stream, and returns the error's message.
fn cut_after_error(form: &str, text: &str) -> String {
    let (chunks, ended) = chunks(text);
    assert!(!ended, "{form}: {text}");
    let last = chunks.last().expect("a chunk");
    if form != "events" {
        let line = last.trim_end_matches("]\n").rsplit('\n').find(|line| !line.trim().is_empty());
        return message(line.expect("an error").trim_start_matches([',', '[']));
    }
    let event = chunks.iter().rev().nth(1).expect("the event, in a write before");
    assert!(event.ends_with(&format!("data: {last}\n\n")), "{text}");
    message(last)
}

#[tokio::test]
async fn every_failure_of_a_stream_cuts_its_body() {
    let junk = Step::chunk("data: {\"id\": junk\n\n");
    let deadlines = "stream: { stall: 100ms, heartbeat: 10s }\n";
    for (then, words, outcome) in [
        (vec![failure("oai"), Step::End], "boom", "upstream_error"),
        (vec![Step::End], "before the answer was complete", "truncated"),
        (vec![Step::Reset], "before the answer was complete", "truncated"),
        (vec![junk, Step::Hang], "", "upstream_error"),
        (vec![Step::Hang], "stall deadline", "stalled"),
    ] {
        let upstream = Upstream::new(begun("oai", then)).await;
        let gateway = before(&upstream, deadlines).await;
        for (form, path, body) in asks("oai/m") {
            let log = Log::default();
            let _capture = log.capture();
            let mut raw = Raw::new(gateway.address).await;
            raw.post(&path, "", &body).await;
            let text = raw.rest().await;
            assert!(text.contains("Hello"), "{form}: {text}");
            let message = cut_after_error(form, &text);
            assert!(!message.is_empty() && message.contains(words), "{form}: {message}");
            assert_eq!(record(&gateway, &log).await["outcome"], outcome, "{form}");
            assert!(!log.text().contains("\"level\":\"ERROR\""), "{}", log.text());
        }
        let gone = "streamgate_requests_total{outcome=\"client_gone\"";
        assert_eq!(count(&gateway, gone), "0");
    }
}

/// Before any output the status says it, and nothing is cut; once the head is out, the body is.
#[tokio::test]
async fn a_failure_without_output_cuts_only_what_has_begun() {
    let upstream = Upstream::new(vec![Step::Sse, preamble("oai"), Step::End]).await;
    let gateway = before(&upstream, "").await;
    for (form, path, body) in asks("oai/m") {
        let response = gateway.post(&path, &body).send().await.unwrap();
        assert_eq!(response.status(), 502);
        let (body, cut) = received(response).await;
        assert!(!cut, "{form}");
        assert!(message(std::str::from_utf8(&body).unwrap()).contains("before the answer"));
    }
    let late = vec![Step::Pause(Duration::from_millis(50)), Step::Sse, preamble("oai"), Step::End];
    let upstream = Upstream::new(late).await;
    let gateway = before(&upstream, "stream: { commit_after: 10ms }\n").await;
    for (form, path, body) in asks("oai/m") {
        let mut raw = Raw::new(gateway.address).await;
        raw.post(&path, "", &body).await;
        let message = cut_after_error(form, &raw.rest().await);
        assert!(message.contains("before the answer was complete"), "{form}: {message}");
        settled(&gateway).await;
    }
}

/// Answers that are complete end as HTTP ends them, and so do failed ones of other callers.
#[tokio::test]
async fn what_has_not_failed_is_not_cut() {
    let upstream = Upstream::new(super::good("oai")).await;
    let gateway = before(&upstream, "").await;
    for (form, path, body) in asks("oai/m") {
        let (body, cut) = received(gateway.post(&path, &body).send().await.unwrap()).await;
        assert!(!cut && !body.is_empty(), "{form}");
    }
    let upstream = Upstream::new(begun("oai", [Step::End])).await;
    let gateway = before(&upstream, "").await;
    for request in [gateway.chat("oai/m"), gateway.messages("oai/m")] {
        assert!(!received(request.send().await.unwrap()).await.1);
    }
}

/// A process that stops, and tokens that are used up.
#[tokio::test]
async fn shutdown_and_limits_abort_the_body_too() {
    let upstream = Upstream::new(begun("oai", [Step::Hang])).await;
    for (_, path, body) in asks("oai/m") {
        let gateway = before(&upstream, "server: { drain: 1ms }\n").await;
        let mut response = gateway.post(&path, &body).send().await.unwrap();
        read_until(&mut response, "Hello").await;
        gateway.shutdown.stopping.cancel();
        let (rest, cut) = received(response).await;
        assert!(cut && String::from_utf8_lossy(&rest).contains("shutting down"), "{rest:?}");
        timeout(PATIENCE, gateway.done).await.unwrap().unwrap();
    }
    let cut_off = ", limits: { tokens_per_minute: 600, assumed_output: 50, cut_off: true }";
    let endless = Step::Repeat(token_text("oai", "four").into_bytes(), 3000);
    let upstream = Upstream::new(begun("oai", [endless, Step::Hang])).await;
    for (form, path, body) in asks("oai/m") {
        let log = Log::default();
        let _capture = log.capture();
        let gateway = Gateway::new(&with_keys(&upstream, &[(KEY, cut_off)], "")).await;
        let (text, cut) = received(gateway.post(&path, &body).send().await.unwrap()).await;
        let text = String::from_utf8_lossy(&text);
        assert!(cut && text.contains("cut off: the 600 tokens per minute"), "{form}");
        assert_eq!(record(&gateway, &log).await["outcome"], "cut_off");
    }
}

/// Over HTTP/2 the stream is reset, after its error, and the connection lives on.
#[tokio::test]
async fn over_http2_the_stream_is_reset() {
    let upstream = Upstream::new(begun("oai", [failure("oai"), Step::End])).await;
    let gateway = before(&upstream, "").await;
    let mut client = http2::connect(&gateway, 65_535).await;
    for (form, path, body) in asks("oai/m") {
        let request = http::Request::post(format!("http://gateway{path}"))
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        let (response, mut sending) = client.send_request(request, false).unwrap();
        sending.send_data(body.into(), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut seen = Vec::new();
        let end = loop {
            match timeout(PATIENCE, body.data()).await.expect("more in time") {
                Some(Ok(bytes)) => seen.extend_from_slice(&bytes),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        assert!(end.is_some_and(|error| error.is_reset()), "{form}");
        let view = match form {
            "events" => gemini::stream(&seen, true),
            "array" => gemini::array(&seen),
            _ => (ollama::LANGUAGE.stream)(&seen, true),
        };
        let view = view.unwrap_or_else(|why| panic!("{form}: {why}"));
        assert_eq!(view.choices[&0].text, "Hello");
        assert_eq!(view.ended, crate::support::Ended::Error("boom".into()), "{form}");
        settled(&gateway).await;
    }
}

/// A caller who has fallen behind still gets everything that was said, then the error, then the cut.
#[tokio::test]
async fn a_slow_reader_gets_all_of_it_before_the_cut() {
    const EVENTS: usize = 300;
    let gate = Arc::new(Notify::new());
    let filled = token_text("oai", &"x".repeat(16 * 1024)).into_bytes();
    let script = begun(
        "oai",
        [
            Step::Repeat(filled, EVENTS),
            token("oai", "LAST"),
            failure("oai"),
            Step::Gate(Arc::clone(&gate)),
        ],
    );
    let upstream = Upstream::new(script).await;
    let gateway = before(&upstream, "stream: { write_stall: 30s }\n").await;
    let (_, path, body) = &asks("oai/m")[0];
    let mut raw = Raw::new(gateway.address).await;
    socket2::SockRef::from(&raw.stream).set_recv_buffer_size(16 * 1024).unwrap();
    raw.post(path, "", body).await;
    let mut piece = vec![0; 2 * 1024];
    loop {
        match timeout(PATIENCE, raw.stream.read(&mut piece)).await.expect("more in time") {
            Ok(size @ 1..) => raw.read.extend_from_slice(&piece[..size]),
            _ => break,
        }
        tokio::task::yield_now().await;
    }
    let text = String::from_utf8_lossy(&raw.read);
    assert_eq!(text.matches('x').count() / (16 * 1024), EVENTS);
    assert!(text.contains("LAST"));
    assert_eq!(cut_after_error("events", &text), "boom");
    gate.notify_one();
}
