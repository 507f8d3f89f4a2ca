//! The commands `subscribe` and `publish`, against a gateway.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::{BACKEND, READER, yaml};
use crate::support::gateway::Gateway;
use crate::support::process::{Process, program};

fn command(gateway: &Gateway, arguments: &[&str]) -> std::process::Command {
    let mut command = program(arguments);
    command.args(["--url", &gateway.url]).env_remove("STREAMGATE_URL");
    command
}

/// Runs a command to its end, beside the gateway.
async fn ended(mut command: std::process::Command, input: &str) -> (Option<i32>, String, String) {
    let input = input.to_owned();
    let run = move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_and_printed() {
    let gateway = Gateway::new(&yaml("")).await;
    let mut follow =
        command(&gateway, &["subscribe", "--key", BACKEND, "--json", "--count", "5", "a*"]);
    follow.stdin(Stdio::null());
    let mut following = Process::start(follow);
    while gateway.app.metrics.channel_subscribers.get() == 0 {
        tokio::task::yield_now().await;
    }
    let publish = |more: &[&str]| {
        let arguments = [&["publish", "--key", BACKEND], more].concat();
        command(&gateway, &arguments)
    };
    let (status, id, err) = ended(publish(&["a/1", "hello there"]), "").await;
    assert_eq!(status, Some(0), "{err}");
    let tick = publish(&["--event", "tick", "--id", "x", "a/1", "{\"EUR\": 1.08}"]);
    assert_eq!(ended(tick, "").await.0, Some(0));
    assert_eq!(ended(publish(&["a/1", "-"]), "one\n2\r\nthree").await.0, Some(0));
    let printed = following.out("three").await;
    let printed: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let data: Vec<_> = printed.iter().map(|event| event["data"].as_str().unwrap()).collect();
    assert_eq!(data, ["hello there", r#"{"EUR":1.08}"#, "one", "2", "three"]);
    assert_eq!(printed[0]["id"], id.trim());
    assert_eq!((&printed[1]["event"], &printed[0]["event"]), (&"tick".into(), &Value::Null));
    assert_eq!(following.ended().await, Some(0));
    // From a position, and by the last events.
    let after =
        ["subscribe", "--key", BACKEND, "--last-event-id", id.trim(), "--count", "1", "a/1"];
    assert_eq!(ended(command(&gateway, &after), "").await.1, "tick: {\"EUR\":1.08}\n");
    let last = ["subscribe", "--key", BACKEND, "--rewind", "2", "--count", "2", "a/1"];
    assert_eq!(ended(command(&gateway, &last), "").await.1, "2\nthree\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_printed_and_a_gone_position_is_not_silent() {
    let gateway = Gateway::new(&yaml("channels: { patterns: { room: { events: 1 } } }\n")).await;
    let refused = [
        (vec!["subscribe", "--key", READER, "other"], "403"),
        (vec!["subscribe", "--key", "sg-wrong", "room"], "401"),
        (vec!["publish", "--key", READER, "room", "x"], "403"),
        (vec!["publish", "--key", BACKEND, "room", "--event", "reset", "x"], "400"),
    ];
    for (arguments, status) in refused {
        let (code, out, err) = ended(command(&gateway, &arguments), "").await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(err.contains(status) && !err.contains("sg-"), "{err}");
    }
    let publish = ["publish", "--key", BACKEND, "room", "1"];
    let (_, first, _) = ended(command(&gateway, &publish), "").await;
    for _ in 0..2 {
        ended(command(&gateway, &publish), "").await;
    }
    let after =
        ["subscribe", "--key", READER, "--last-event-id", first.trim(), "--count", "1", "room"];
    let (code, out, err) = ended(command(&gateway, &after), "").await;
    assert_eq!((code, out.as_str()), (Some(0), "1\n"));
    assert!(err.contains("some events are no longer kept"), "{err}");
}
