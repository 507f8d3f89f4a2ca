//! Content of recordings of Bedrock's `ConverseStream`, read leniently with `serde_json::Value`, and the
//! recordings of `InvokeModel`, which are streams of other protocols in the same framing. It must
//! never call the gateway's decoders.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use streamgate::wire::chat::End;
use streamgate::wire::dialect::{self, Form, Mode};
use streamgate::wire::transcode::Transcoder;

use super::agree::{translated, verbatim};
use super::carried::{Carried, Whose, text};
use super::extract::{self, Folder, Recorded, recorded_by};
use super::{files, recorded};
use crate::support::aws::message;
use crate::support::{Choice, Ended, Tokens, Tool, View, call, count};

/// The recordings.
pub(super) const RECORDED: Recorded = Recorded {
    name: "bedrock",
    folders: &[Folder { name: "bedrock-eventstream", suffix: ".bin", media_type: "", payloads }],
    framed,
    view: |payloads| converse(&extract::values(payloads)),
    carried,
    neutral: |stop, _| match stop {
        "tool_use" => "tools",
        "max_tokens" => "length",
        "model_context_window_exceeded" => "context",
        "content_filtered" | "guardrail_intervened" => "filter",
        "stop_sequence" => "stop_sequence",
        _ => "end",
    },
    withheld: |_, _| false,
    terminal: |_| false,
};

#[test]
fn every_recording_to_every_caller() {
    super::every_recording(&RECORDED);
}

fn carried(values: &[(&str, Value)]) -> Carried {
    let mut out = Carried::default();
    for (_, value) in values {
        if let Some(source) = value.pointer("/delta/citation") {
            let url = text(source, "/location/web/url");
            let url = if url.is_empty() { text(source, "/source") } else { url };
            out.source(url, text(source, "/title"));
        }
        out.seal(Whose::Anthropic, text(value, "/delta/reasoningContent/signature"));
        let redacted = text(value, "/delta/reasoningContent/redactedContent");
        if !redacted.is_empty() {
            out.seal(Whose::Anthropic, decoded(&redacted));
        }
    }
    out
}

/// Recordings without framing hold `{"contentBlockDelta":{...}}` on each line.
fn framed(payloads: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for payload in payloads {
        let value: Value = serde_json::from_str(payload).expect("JSON");
        for (event, payload) in value.as_object().expect("an object") {
            let headers = [
                (":event-type", event.as_str()),
                (":content-type", "application/json"),
                (":message-type", "event"),
            ];
            out.extend(message(&headers, &payload.to_string()));
        }
    }
    out
}

/// Cuts a recorded body into (event, payload). Bodies are whole, and checksums are not looked at.
fn payloads(mut body: &[u8]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
        let (total, head) = (number(0), number(4));
        let mut headers = &body[12..12 + head];
        let mut event = String::new();
        while let Some((length, rest)) = headers.split_first() {
            let (name, rest) = rest.split_at(usize::from(*length));
            assert_eq!(rest[0], 7, "headers are texts");
            let length = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
            let (value, rest) = rest[3..].split_at(length);
            if [&b":event-type"[..], b":exception-type"].contains(&name) {
                event = String::from_utf8(value.to_vec()).unwrap();
            }
            headers = rest;
        }
        let payload = String::from_utf8(body[12 + head..total - 4].to_vec()).unwrap();
        out.push((event, payload));
        body = &body[total..];
    }
    out
}

fn converse(values: &[(&str, Value)]) -> View {
    let mut view = View::default();
    let mut choice = Choice::default();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (event, value) in values {
        let index = count(value, "/contentBlockIndex");
        let text =
            |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match *event {
            "contentBlockStart" => {
                open.remove(&index);
                let tool = &value["start"]["toolUse"];
                if tool.is_object() && tool["type"] != "server_tool_use" {
                    open.insert(index, choice.tools.len());
                    choice.tools.push(Tool {
                        id: text("/start/toolUse/toolUseId").into(),
                        name: text("/start/toolUse/name").into(),
                        arguments: String::new(),
                    });
                }
            }
            "contentBlockDelta" => {
                choice.text.push_str(text("/delta/text"));
                choice.reasoning.push_str(text("/delta/reasoningContent/text"));
                if let Some(tool) = open.get(&index) {
                    choice.tools[*tool].arguments.push_str(text("/delta/toolUse/input"));
                }
            }
            "messageStop" => {
                choice.stop = Some(text("/stopReason").to_owned());
                view.ended = Ended::Complete;
            }
            "metadata" => {
                let cache_read = count(value, "/usage/cacheReadInputTokens");
                let cache_write = count(value, "/usage/cacheWriteInputTokens");
                view.usage = Some(Tokens {
                    input: count(value, "/usage/inputTokens") + cache_read + cache_write,
                    cache_read,
                    cache_write,
                    output: count(value, "/usage/outputTokens"),
                    reasoning: 0,
                });
            }
            _ => {}
        }
    }
    view.choices.insert(0, choice);
    view
}

/// Base64, by the table.
fn decoded(text: &str) -> String {
    const TABLE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = TABLE.iter().position(|known| *known == byte).expect("base64");
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xFF).unwrap());
        }
    }
    String::from_utf8(out).expect("UTF-8")
}

/// Models of Anthropic through `InvokeModelWithResponseStream`: their own events, verbatim to callers
/// of that dialect, and translated to all.
#[test]
fn anthropic_events_in_chunks() {
    let Some(root) = recorded() else { return };
    let upstream = dialect::by_name("anthropic").expect("it is there");
    let mut count = 0;
    for path in files(&root.join("bedrock-eventstream")) {
        let name = super::name_of(&path);
        let body = std::fs::read(&path).expect("readable");
        let framed = path.extension().is_some_and(|suffix| suffix == "bin");
        if !framed || !name.contains("anthropic.claude-3") {
            continue;
        }
        let chunks = payloads(&body);
        if chunks.iter().any(|(event, _)| event != "chunk") {
            continue;
        }
        count += 1;
        let events: Vec<(String, String)> = chunks
            .iter()
            .map(|(_, chunk)| {
                let chunk: Value = serde_json::from_str(chunk).expect("JSON");
                let event = decoded(chunk["bytes"].as_str().expect("a text"));
                let value: Value = serde_json::from_str(&event).expect("JSON");
                (value["type"].as_str().expect("a type").to_owned(), event)
            })
            .collect();
        let view = (recorded_by("anthropic").view)(&events);
        assert_eq!(view.ended, Ended::Complete, "{name}");
        for caller in dialect::caller_dialects() {
            let own = caller.name() == upstream.name();
            let modes =
                if own { &[Mode::Translated, Mode::Verbatim][..] } else { &[Mode::Translated] };
            for (mode, step) in modes.iter().flat_map(|mode| [(*mode, 1), (*mode, body.len())]) {
                let call = call(true, true);
                let framing = upstream.framing("application/vnd.amazon.eventstream");
                let encoder = caller.encoder(&call, mode);
                let mut codec =
                    Transcoder::new(framing, 1 << 20, upstream.decoder(Form::Chat), encoder, mode);
                let mut out = BytesMut::new();
                for chunk in body.chunks(step) {
                    codec.push(Bytes::copy_from_slice(chunk), &mut out);
                }
                codec.finish(&mut out);
                assert_eq!(codec.end(), Some(&End::Complete), "{name}");
                let same = if mode == Mode::Verbatim {
                    verbatim("anthropic", &out, &events, true)
                } else {
                    translated(("anthropic", caller.name()), &out, &view, (true, true))
                };
                same.unwrap_or_else(|why| panic!("{name} to {}: {why}", caller.name()));
            }
        }
    }
    assert!(count > 0, "there is at least one such recording");
}
