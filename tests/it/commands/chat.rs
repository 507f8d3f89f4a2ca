//! `streamgate chat` with a gateway in this process and a scripted upstream: answers, conversations, interrupts, errors.

use std::io::Write;
use std::process::Command;

use serde_json::Value;

use super::{alone, run};
use crate::support::answers::{opening, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::process::Process;
use crate::support::upstream::{Step, Upstream};

async fn gateway(scripts: Vec<Vec<Step>>) -> (Gateway, Upstream) {
    let upstream = Upstream::scripted(scripts).await;
    let gateway = Gateway::new(&yaml(&upstream.url, "http://127.0.0.1:1", MODELS)).await;
    (gateway, upstream)
}

const MODELS: &str = "models: { fast: { targets: [{ provider: oai, model: m }] } }\n";

fn chat(gateway: &Gateway, arguments: &[&str]) -> Command {
    alone(
        &[&["chat"], arguments].concat(),
        &[("STREAMGATE_URL", &gateway.url), ("STREAMGATE_KEY", KEY)],
    )
}

/// The messages of a request, as `role: content`.
fn messages(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = body["messages"].as_array().unwrap().iter();
    messages
        .map(|message| format!("{}: {}", text(&message["role"]), text(&message["content"])))
        .collect()
}

#[tokio::test]
async fn a_message_is_answered_once() {
    let (gateway, upstream) = gateway(vec![streamed("openai-chat", "Hello")]).await;
    let command =
        chat(&gateway, &["fast", "what", "is it?", "--system", "Be brief.", "--max-tokens", "7"]);
    let (status, out, err) = run(command).await;
    assert_eq!((status, out.as_str()), (Some(0), "Hello\n"), "{err}");
    assert!(
        err.starts_with("[TTFT ") && err.contains(" ms") && err.ends_with(" tokens]\n"),
        "{err}"
    );
    let seen = &upstream.requests().await[0];
    assert_eq!(messages(&seen.body), ["system: Be brief.", "user: what is it?"]);
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert!(body["max_tokens"] == 7 || body["max_completion_tokens"] == 7, "{body}");

    // The message on standard input; and nothing but the answer.
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"from a pipe\n").unwrap();
    drop(writer);
    let mut command = chat(&gateway, &["fast", "--quiet"]);
    command.stdin(reader);
    assert_eq!(run(command).await, (Some(0), "Hello\n".to_owned(), String::new()));
    assert_eq!(messages(&upstream.requests().await[1].body), ["user: from a pipe\n"]);
}

#[tokio::test]
async fn a_conversation_is_kept() {
    let answers = ["one", "two", "three"].map(|text| streamed("openai-chat", text));
    let (gateway, upstream) = gateway(answers.to_vec()).await;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"1\n\n2\n3\n").unwrap();
    drop(writer);
    let mut command = chat(&gateway, &["fast", "--interactive"]);
    command.stdin(reader);
    let (status, out, err) = run(command).await;
    assert_eq!((status, out.as_str()), (Some(0), "one\ntwo\nthree\n"), "{err}");
    let last = messages(&upstream.requests().await[2].body);
    assert_eq!(last, ["user: 1", "assistant: one", "user: 2", "assistant: two", "user: 3"]);
}

/// The upstream's request is cancelled, the partial answer is kept, and the conversation goes on.
#[tokio::test]
async fn an_interrupt_stops_the_answer_only() {
    let held = vec![Step::Sse, Step::chunk(&opening("openai-chat", "partial\\n")), Step::Hang];
    let (gateway, upstream) = gateway(vec![held, streamed("openai-chat", "done")]).await;
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = chat(&gateway, &["fast", "--interactive"]);
    command.stdin(reader);
    let mut process = Process::start(command);
    writer.write_all(b"1\n").unwrap();
    process.out("partial").await;
    process.signal("INT");
    process.log("stopped]").await;
    upstream
        .until("the upstream's request is cancelled", |requests, open| requests == 1 && open == 0)
        .await;
    writer.write_all(b"2\n").unwrap();
    drop(writer);
    process.out("done").await;
    assert_eq!(process.ended().await, Some(0));
    let last = messages(&upstream.requests().await[1].body);
    assert_eq!(last, ["user: 1", "assistant: partial\n", "user: 2"]);
}

#[tokio::test]
async fn the_first_model_of_the_list_is_the_default() {
    let (gateway, _upstream) = gateway(vec![
        vec![Step::Whole(200, "content-type: application/json\r\n", b"{\"data\":[]}".to_vec())],
        streamed("openai-chat", "Hello"),
    ])
    .await;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"hi").unwrap();
    drop(writer);
    let mut command = chat(&gateway, &[]);
    command.stdin(reader);
    let (status, out, err) = run(command).await;
    assert_eq!((status, out.as_str()), (Some(0), "Hello\n"), "{err}");
    assert!(err.contains("model: fast"), "{err}");
}

#[tokio::test]
async fn errors_name_the_cause_and_the_remedy() {
    let broken = vec![Step::Sse, Step::chunk(&opening("openai-chat", "half")), Step::Close];
    let (gateway, _upstream) = gateway(vec![broken]).await;
    let nowhere = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let url = gateway.url.as_str();
    for (arguments, words) in [
        (&["fast", "hi", "--url", &nowhere][..], &["refused", "--url", "`streamgate`"][..]),
        (&["fast", "hi", "--url", url, "--key", "sg-wrong"], &["401", "--key", "STREAMGATE_KEY"]),
        (&["fast", "hi", "--url", url, "--key", ""], &["401", "streamgate key new"]),
        (&["fsat", "hi", "--url", url], &["404", "fsat"]),
        (&["fast", "hi", "--url", url], &["incomplete"]),
    ] {
        let (status, _, err) = run(chat(&gateway, arguments)).await;
        assert_eq!(status, Some(1), "{arguments:?}: {err}");
        for word in words {
            assert!(err.contains(word), "{arguments:?}: {word} is not in {err}");
        }
        assert!(!err.contains("sg-wrong") && !err.contains(KEY), "{err}");
    }
    // No message at all.
    let (status, _, err) = run(chat(&gateway, &["fast"])).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("there is no message for the model `fast`"), "{err}");
}
