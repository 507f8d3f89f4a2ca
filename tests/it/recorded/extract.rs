//! Content of a recording, read leniently with `serde_json::Value`: the independent expectation for
//! the codecs. It must never call the gateway's decoders.

use serde_json::Value;

use crate::support::{Choice, View};

use super::carried::Carried;
use super::{anthropic, bedrock, cohere, gemini, ollama, openai_chat, openai_responses};

/// The dialects with recordings: one file beside this one for each, and one line here.
pub(super) static RECORDED: &[&Recorded] = &[
    &openai_chat::RECORDED,
    &openai_responses::RECORDED,
    &anthropic::RECORDED,
    &gemini::RECORDED,
    &ollama::RECORDED,
    &cohere::RECORDED,
    &bedrock::RECORDED,
];

/// The recordings of a dialect, and functions that read them.
pub(super) struct Recorded {
    /// The dialect.
    pub(super) name: &'static str,
    /// Where its recordings are.
    pub(super) folders: &'static [Folder],
    /// The bytes of a recording that holds payloads only, one for each line, in the framing of the
    /// first folder.
    pub(super) framed: fn(&[&str]) -> Vec<u8>,
    /// Reads the payloads.
    pub(super) view: fn(&[(String, String)]) -> View,
    /// Reads their content beside text, in recordings and in output for callers of the dialect.
    pub(super) carried: fn(&[(&str, Value)]) -> Carried,
    /// The neutral word for a recorded stop, as `support::language::Language::stop` takes it.
    pub(super) neutral: fn(&str, &Choice) -> &'static str,
    /// Whether a caller of the same dialect is not sent a payload: keep-alives, and usage that it
    /// did not ask for, which it is told of here.
    pub(super) withheld: fn(&Value, bool) -> bool,
    /// Whether a payload ends the stream.
    pub(super) terminal: fn(&str) -> bool,
}

/// Recordings in one framing.
pub(super) struct Folder {
    /// The folder.
    pub(super) name: &'static str,
    /// The suffix of those that hold the bytes as they came.
    pub(super) suffix: &'static str,
    /// The media type that they came with, where it says how they are cut.
    pub(super) media_type: &'static str,
    /// Cuts the bytes into (event name, payload).
    pub(super) payloads: fn(&[u8]) -> Vec<(String, String)>,
}

impl Folder {
    /// Event streams.
    pub(super) const fn events(name: &'static str) -> Self {
        Self { name, suffix: ".sse", media_type: "", payloads }
    }
}

/// The dialect of these recordings.
pub(super) fn recorded_by(dialect: &str) -> &'static Recorded {
    let found = RECORDED.iter().find(|recorded| recorded.name == dialect);
    found.unwrap_or_else(|| panic!("write an extractor for {dialect}"))
}

/// The payloads as values; `[DONE]` is a text.
pub(super) fn values(payloads: &[(String, String)]) -> Vec<(&str, Value)> {
    let read = |data: &str| match data.trim() {
        "[DONE]" => Value::from("[DONE]"),
        data => serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")),
    };
    payloads.iter().map(|(event, data)| (event.as_str(), read(data))).collect()
}

/// Payloads as an event stream; events are named when their payload names a type.
pub(super) fn event_stream(payloads: &[&str], named: bool) -> Vec<u8> {
    let mut out = String::new();
    for payload in payloads {
        if named {
            let value: Value = serde_json::from_str(payload).expect("JSON");
            out.extend(["event: ", value["type"].as_str().expect("a type"), "\n"]);
        }
        out.extend(["data: ", payload, "\n\n"]);
    }
    out.into_bytes()
}

/// Cuts a recorded body into (event, data), by the plain rules; bodies are whole, so nothing clever.
pub(super) fn payloads(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n").replace('\r', "\n");
    let text = text.trim_start_matches('\u{feff}');
    let mut out = Vec::new();
    let (mut event, mut data): (String, Option<String>) = (String::new(), None);
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            let event = std::mem::take(&mut event);
            if let Some(data) = data.take() {
                out.push((event, data));
            }
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event),
            "data" | "error" => {
                if name == "error" {
                    "error".clone_into(&mut event);
                }
                data =
                    Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}")));
            }
            _ => {}
        }
    }
    out
}
