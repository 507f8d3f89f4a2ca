//! Content of recordings of Gemini's chunks, read leniently with `serde_json::Value`. It must never
//! call the gateway's decoders.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use streamgate::wire::dialect::{self, Form, Mode, ResponseContext};
use streamgate::wire::framing::Framing;
use streamgate::wire::transcode::Transcoder;

use super::CAP;
use super::carried::{Carried, Whose, list, text};
use super::extract::{self, Folder, Recorded, event_stream};
use crate::support::{Choice, Ended, Tool, View, call, count, feed, gemini};

/// The recordings.
pub(super) const RECORDED: Recorded = Recorded {
    name: "gemini",
    folders: &[
        Folder { name: "gemini-sse", suffix: ".sse", media_type: "", payloads },
        Folder {
            name: "gemini-array",
            suffix: ".json",
            media_type: "application/json; charset=UTF-8",
            payloads: elements,
        },
    ],
    framed: |payloads| event_stream(payloads, false),
    view: |payloads| chunks(&extract::values(payloads)),
    carried,
    neutral: |stop, choice| match stop {
        "STOP" if !choice.tools.is_empty() => "tools",
        "MAX_TOKENS" => "length",
        "SAFETY" | "RECITATION" => "filter",
        _ => "end",
    },
    withheld: |_, _| false,
    terminal: |_| false,
};

#[test]
fn every_recording_to_every_caller() {
    super::every_recording(&RECORDED);
}

fn carried<'v>(values: &'v [(&str, Value)]) -> Carried {
    let mut out = Carried::default();
    // A list is repeated by every chunk that adds to it.
    let mut told = std::collections::BTreeSet::new();
    for candidate in values.iter().flat_map(|(_, value)| list(value, "/candidates")) {
        for part in list(candidate, "/content/parts") {
            out.seal(Whose::Google, text(part, "/thoughtSignature"));
        }
        for token in list(candidate, "/logprobsResult/chosenCandidates") {
            out.tokens.push(text(token, "/token"));
        }
        let mut source = |found: &Value, place: &Value| {
            let place = (count(place, "/startIndex"), count(place, "/endIndex"));
            if told.insert((text(found, "/uri"), text(found, "/title"), place)) {
                out.source(text(found, "/uri"), text(found, "/title"));
            }
        };
        for list_name in ["citations", "citationSources"] {
            for found in list(candidate, &format!("/citationMetadata/{list_name}")) {
                source(found, found);
            }
        }
        let grounds: Vec<&Value> = list(candidate, "/groundingMetadata/groundingChunks").collect();
        let kinds = ["/web", "/retrievedContext", "/maps"];
        let kind = |ground: &&'v Value| kinds.iter().find_map(|kind| ground.pointer(kind));
        let mut supports = list(candidate, "/groundingMetadata/groundingSupports").peekable();
        if supports.peek().is_none() {
            // Sources whose places cannot be told.
            grounds.iter().filter_map(kind).for_each(|found| source(found, &Value::Null));
        }
        let mut placed = std::collections::BTreeSet::new();
        for support in supports {
            for index in list(support, "/groundingChunkIndices").filter_map(Value::as_u64) {
                placed.insert(index);
                let ground = usize::try_from(index).ok().and_then(|at| grounds.get(at));
                if let Some(found) = ground.and_then(kind) {
                    source(found, &support["segment"]);
                }
            }
        }
        // The vendor lists what it found and did not use, too; answers of others do not search.
        let searched = ["/webSearchQueries", "/searchEntryPoint", "/retrievalMetadata"];
        let metadata = &candidate["groundingMetadata"];
        if !placed.is_empty() && searched.iter().all(|name| metadata.pointer(name).is_none()) {
            let loose = (0..).zip(&grounds).filter(|(index, _)| !placed.contains(index));
            loose.filter_map(|(_, ground)| kind(ground)).for_each(|it| source(it, &Value::Null));
        }
    }
    out
}

/// Events, and at the end an error that came as bare JSON.
fn payloads(body: &[u8]) -> Vec<(String, String)> {
    let mut out = extract::payloads(body);
    let text = String::from_utf8_lossy(body);
    let tail = text.find("\n{\n").map(|at| at + 1).or_else(|| text.starts_with("{\n").then_some(0));
    if let Some(at) = tail {
        let value: Value = serde_json::from_str(text.split_at(at).1).expect("JSON at the end");
        out.push(("error".to_owned(), value.to_string()));
    }
    out
}

/// The elements of an array, each on one line: an event cannot hold more.
fn elements(body: &[u8]) -> Vec<(String, String)> {
    let on_one_line = |element: String| element.lines().map(str::trim).collect::<String>();
    laid_out(body).into_iter().map(|element| (String::new(), on_one_line(element))).collect()
}

/// The elements of an array, as they came.
fn laid_out(body: &[u8]) -> Vec<String> {
    let list: Vec<Box<RawValue>> = serde_json::from_slice(body).expect("an array");
    list.into_iter().map(|element| element.get().to_owned()).collect()
}

/// Failure mode 42: callers who ask for an array get the elements as they were laid out, whichever way they came,
/// and from upstreams of other languages an array that says the same.
#[test]
fn fm42_arrays_come_as_arrays() {
    let Some(root) = super::recorded() else { return };
    let upstream = dialect::by_name("gemini").expect("it is there");
    let caller = upstream.as_caller().expect("callers speak it");
    let call = ResponseContext { form: Form::ChatArray, ..call(true, true) };
    for recording in super::recordings(&root, &RECORDED) {
        let array = recording.framing == Framing::JsonArray;
        let run = |mode, step: usize| {
            let codec = Transcoder::new(
                recording.framing,
                CAP,
                upstream.decoder(Form::Chat),
                caller.encoder(&call, mode),
                mode,
            );
            feed(codec, &recording.body, (step..recording.body.len()).step_by(step)).out
        };
        for step in [7, recording.body.len()] {
            let name = &recording.name;
            if array {
                let whole = laid_out(&recording.body).join(",\r\n");
                let out = String::from_utf8(run(Mode::Verbatim, step)).expect(name);
                assert_eq!(out, format!("[{whole}]\n"), "{name}");
            }
            let read = gemini::array(&run(Mode::Translated, step));
            let read = read.unwrap_or_else(|why| panic!("{name}: {why}"));
            let streamed =
                super::run(upstream, caller, &recording, (Mode::Translated, true, true), step);
            assert_eq!(Ok(read), (gemini::LANGUAGE.stream)(&streamed.out, true), "{name}");
        }
    }
}

/// Streams, or the elements of an array.
fn chunks(values: &[(&str, Value)]) -> View {
    let mut view = View::default();
    let mut usage = BTreeMap::new();
    // The parts of calls whose arguments are streamed.
    let mut partial: BTreeMap<String, Value> = BTreeMap::new();
    for (_, value) in values {
        if value.get("error").is_some() {
            let message = value["error"]["message"].as_str().unwrap_or_default();
            view.ended = Ended::Error(message.to_owned());
            break;
        }
        if let Some(counts) = value["usageMetadata"].as_object() {
            usage.extend(counts.iter().filter(|(_, count)| count.is_u64()));
        }
        if value["promptFeedback"]["blockReason"].is_string() {
            view.choices.entry(0).or_default().stop = Some("SAFETY".to_owned());
            view.ended = Ended::Complete;
        }
        for candidate in value["candidates"].as_array().into_iter().flatten() {
            let index = candidate["index"].as_u64().unwrap_or_default();
            let choice = view.choices.entry(index).or_default();
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                self::part(part, choice, &mut partial);
            }
            match &candidate["finishReason"] {
                Value::String(word) => choice.stop = Some(word.clone()),
                Value::Number(_) => choice.stop = Some("STOP".to_owned()),
                _ => continue,
            }
            view.ended = Ended::Complete;
        }
    }
    let usage: Value =
        usage.into_iter().map(|(name, count)| (name.clone(), count.clone())).collect();
    let counted = usage.as_object().is_some_and(|counts| !counts.is_empty());
    view.usage = counted.then(|| gemini::tokens(&usage));
    view
}

fn part(part: &Value, choice: &mut Choice, partial: &mut BTreeMap<String, Value>) {
    let text = part["text"].as_str().unwrap_or_default();
    if part["thought"] == true {
        choice.reasoning.push_str(text);
    } else {
        choice.text.push_str(text);
    }
    let Some(call) = part["functionCall"].as_object() else { return };
    if let Some(name) = call.get("name").and_then(Value::as_str) {
        partial.clear();
        let arguments = call.get("args").unwrap_or(&Value::Null).to_string();
        choice.tools.push(Tool { id: String::new(), name: name.to_owned(), arguments });
    }
    for arg in call.get("partialArgs").and_then(Value::as_array).into_iter().flatten() {
        let path = arg["jsonPath"].as_str().unwrap_or_default().to_owned();
        if let Some(text) = arg["stringValue"].as_str() {
            let said = partial.get(&path).and_then(Value::as_str).unwrap_or_default();
            partial.insert(path, Value::from([said, text].concat()));
        } else {
            partial.insert(path, arg["numberValue"].clone());
        }
    }
    if let (false, Some(tool)) = (partial.is_empty(), choice.tools.last_mut()) {
        let mut whole = Value::Null;
        for (path, value) in partial.iter() {
            let pointer = path.trim_start_matches('$').replace(['.', '['], "/").replace(']', "");
            put(&mut whole, pointer.trim_start_matches('/'), value);
        }
        tool.arguments = whole.to_string();
    }
}

/// Puts a value below `pointer`; numbers are places in lists.
fn put(whole: &mut Value, pointer: &str, value: &Value) {
    let Some(first) = pointer.split('/').next().filter(|first| !first.is_empty()) else {
        value.clone_into(whole);
        return;
    };
    let rest = pointer.split_at(first.len()).1.trim_start_matches('/');
    if let Ok(at) = first.parse::<usize>() {
        if whole.is_null() {
            *whole = Value::Array(Vec::new());
        }
        let list = whole.as_array_mut().expect("a list");
        while list.len() <= at {
            list.push(Value::Null);
        }
        put(&mut list[at], rest, value);
    } else {
        if whole.is_null() {
            *whole = Value::Object(serde_json::Map::new());
        }
        put(&mut whole[first], rest, value);
    }
}
