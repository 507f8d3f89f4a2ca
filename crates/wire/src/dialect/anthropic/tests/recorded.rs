//! Recorded streams, which are not part of the repository.

use serde_json::Value;

use super::grammar::read;
use super::{events, relay};
use crate::chat::End;
use crate::dialect::Mode;
use crate::recordings_for_tests::recordings;

/// The streams: name and bytes.
fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams = Vec::new();
    for path in recordings("anthropic") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|ext| ext == "sse") {
            streams.push((name, bytes));
        } else if name.ends_with(".chunks.ndjson") {
            let lines = String::from_utf8(bytes).unwrap();
            let event = |line: &str| {
                let payload: Value = serde_json::from_str(line).unwrap();
                format!("event: {}\ndata: {line}\n\n", payload["type"].as_str().unwrap())
            };
            let stream: String = lines.lines().filter(|line| !line.is_empty()).map(event).collect();
            streams.push((name, stream.into_bytes()));
        }
    }
    streams
}

#[test]
fn real_streams_are_relayed_and_rewritten() {
    for (name, stream) in streams() {
        check(&name, &stream);
    }
}

fn check(name: &str, stream: &[u8]) {
    // Some files hold several answers in a row; a stream is over after the first one.
    let mut came: Vec<(String, Value)> = Vec::new();
    for (_, data) in events(stream) {
        let payload: Value = serde_json::from_str(&data).unwrap_or_default();
        let last = payload["type"] == "message_stop";
        if payload["type"] != "ping" {
            came.push((data, payload));
        }
        if last {
            break;
        }
    }
    let count = |kind: &str| came.iter().filter(|(_, event)| event["type"] == kind).count();
    let complete = count("message_stop") == 1 && count("message_start") == 1;

    let (verbatim, end) = relay(stream, Mode::Verbatim, usize::MAX);
    assert_eq!(end == End::Complete, complete, "{name}: {end:?}");
    let went = events(verbatim.as_bytes());
    if complete {
        let same = went.iter().map(|(_, data)| data).eq(came.iter().map(|(data, _)| data));
        assert!(same, "{name}: payloads differ");
    }
    for (event, data) in &went {
        let payload: Value = serde_json::from_str(data).unwrap();
        assert_eq!(payload["type"].as_str(), event.as_deref(), "{name}");
    }
    assert!(relay(stream, Mode::Verbatim, 1) == (verbatim, end), "{name}: cuts matter");

    let (translated, _) = relay(stream, Mode::Translated, usize::MAX);
    let read = read(&translated).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(!read.failed, complete, "{name}");
    if complete {
        let field = |field: &str| -> String {
            came.iter().filter_map(|(_, event)| event["delta"][field].as_str()).collect()
        };
        assert_eq!(read.all("text"), field("text"), "{name}");
        assert_eq!(read.all("thinking"), field("thinking"), "{name}");
        let signatures: String =
            read.blocks.iter().filter_map(|b| b.signature.as_deref()).collect();
        assert_eq!(signatures, field("signature"), "{name}");
    }
    assert!(relay(stream, Mode::Translated, 1).0 == translated, "{name}: cuts matter");
}
