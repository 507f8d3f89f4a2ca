//! A strict reader of the UI message stream as the AI SDK's client reads it: the schema of its chunks
//! (`uiMessageChunkSchema` of `ai` 7.0.173, as far as our streams use it), and the order in which it can add them up.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::read::Seen;
use crate::support::{Choice, Ended, Tokens, Tool, count, events, must, string};

/// The chunks that may come: their required and their optional members beside the type. The client rejects a chunk
/// with any other.
const CHUNKS: [(&str, &[&str], &[&str]); 17] = [
    ("start", &["messageId"], &[]),
    ("start-step", &[], &[]),
    ("text-start", &["id"], &["providerMetadata"]),
    ("text-delta", &["id", "delta"], &["providerMetadata"]),
    ("text-end", &["id"], &["providerMetadata"]),
    ("reasoning-start", &["id"], &["providerMetadata"]),
    ("reasoning-delta", &["id", "delta"], &["providerMetadata"]),
    ("reasoning-end", &["id"], &["providerMetadata"]),
    ("tool-input-start", &["toolCallId", "toolName"], &[]),
    ("tool-input-delta", &["toolCallId", "inputTextDelta"], &[]),
    ("tool-input-available", &["toolCallId", "toolName", "input"], &["providerMetadata"]),
    ("tool-input-error", &["toolCallId", "toolName", "input", "errorText"], &["providerMetadata"]),
    ("source-url", &["sourceId", "url"], &["title", "providerMetadata"]),
    ("source-document", &["sourceId", "mediaType", "title"], &["filename", "providerMetadata"]),
    ("finish-step", &[], &[]),
    ("finish", &["finishReason"], &["messageMetadata"]),
    ("error", &["errorText"], &[]),
];

const REASONS: [&str; 6] = ["stop", "length", "content-filter", "tool-calls", "error", "other"];

/// The order of chunks.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Stage {
    #[default]
    Before,
    Started,
    InStep,
    AfterStep,
    Over,
}

#[derive(Default)]
struct Reading {
    stage: Stage,
    choice: Choice,
    /// The open part: `text` or `reasoning`, its id, and whether it has content.
    open: Option<(String, String, bool)>,
    /// The ids of all parts and sources.
    ids: BTreeSet<String>,
    /// The calls whose input is available.
    available: usize,
    usage: Option<Tokens>,
    ended: Ended,
    state: &'static str,
}

/// Reads a whole stream.
pub(super) fn stream(bytes: &[u8]) -> Result<Seen, String> {
    let mut events = events(bytes)?;
    let last = events.pop().ok_or("nothing at all")?;
    must(last == (None, "[DONE]".to_owned()), || format!("{last:?} at the end"))?;
    let mut reading = Reading::default();
    for (name, data) in events {
        must(name.is_none(), || format!("an event {name:?}"))?;
        let chunk: Map<String, Value> =
            serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;
        reading.chunk(&Value::Object(chunk)).map_err(|why| format!("{why} at {data}"))?;
    }
    must(reading.stage == Stage::Over, || "it goes on".into())?;
    let Reading { choice, usage, ended, state, .. } = reading;
    Ok(Seen::new(choice, usage, ended, state))
}

/// Checks the members of a chunk. Returns its type.
fn checked(chunk: &Value) -> Result<String, String> {
    let kind = string(chunk, "type")?;
    // Releases before 6 have no reason for it.
    let abort = ("abort", &[][..], &[][..]);
    let known = CHUNKS.iter().chain([&abort]).find(|(name, ..)| *name == kind);
    let (_, required, optional) = known.ok_or("an unknown type")?;
    for (name, value) in chunk.as_object().into_iter().flatten() {
        let is_known = name == "type" || required.contains(&&**name);
        must(is_known || optional.contains(&&**name), || format!("an unknown member {name}"))?;
        let fits = match &**name {
            "input" => true,
            // An object of objects.
            "providerMetadata" => {
                value.as_object().is_some_and(|it| it.values().all(Value::is_object))
            }
            "messageMetadata" => value.is_object(),
            _ => value.is_string(),
        };
        must(fits, || format!("{name} is of another type"))?;
    }
    let missing = required.iter().find(|name| chunk.get(**name).is_none());
    must(missing.is_none(), || format!("{missing:?} is missing"))?;
    Ok(kind)
}

impl Reading {
    fn chunk(&mut self, chunk: &Value) -> Result<(), String> {
        let kind = checked(chunk)?;
        must(self.stage != Stage::Over, || "after the end".into())?;
        match kind.as_str() {
            "start" => self.step(Stage::Before, Stage::Started),
            "start-step" => self.step(Stage::Started, Stage::InStep),
            "finish-step" => {
                must(self.available == self.choice.tools.len(), || "a call without input".into())?;
                self.step(Stage::InStep, Stage::AfterStep)
            }
            "finish" => {
                let reason = string(chunk, "finishReason")?;
                must(REASONS.contains(&&*reason), || format!("the reason {reason}"))?;
                self.choice.stop = Some(reason);
                self.usage = chunk.pointer("/messageMetadata/usage").map(tokens).transpose()?;
                (self.ended, self.state) = (Ended::Complete, "complete");
                self.step(Stage::AfterStep, Stage::Over)
            }
            "error" => self.broken(Ended::Error(string(chunk, "errorText")?), "error"),
            "abort" => self.broken(Ended::Error("cancelled".into()), "cancelled"),
            _ => {
                must(self.stage == Stage::InStep, || "outside the step".into())?;
                must(self.available == 0 || kind.starts_with("tool-input-"), || "late".into())?;
                self.content(&kind, chunk)
            }
        }
    }

    fn step(&mut self, from: Stage, to: Stage) -> Result<(), String> {
        must(self.stage == from, || format!("{:?}, not {from:?}", self.stage))?;
        must(self.open.is_none(), || format!("{:?} is open", self.open))?;
        self.stage = to;
        Ok(())
    }

    /// The end of an answer that is not complete: no tool may be run for it.
    fn broken(&mut self, ended: Ended, state: &'static str) -> Result<(), String> {
        must(self.available == 0, || "a tool may have been run".into())?;
        must(matches!(self.stage, Stage::Before | Stage::InStep), || format!("{:?}", self.stage))?;
        (self.ended, self.state) = (ended, state);
        self.step(self.stage, Stage::Over)
    }

    fn content(&mut self, kind: &str, chunk: &Value) -> Result<(), String> {
        if let Some(event) = kind.strip_prefix("text-") {
            return self.part("text", event, chunk);
        }
        if let Some(event) = kind.strip_prefix("reasoning-") {
            return self.part("reasoning", event, chunk);
        }
        match kind {
            "tool-input-start" => {
                must(self.open.is_none(), || format!("{:?} is open", self.open))?;
                let (id, name) = (string(chunk, "toolCallId")?, string(chunk, "toolName")?);
                must(self.choice.tools.iter().all(|tool| tool.id != id), || "again".into())?;
                self.choice.tools.push(Tool { id, name, arguments: String::new() });
            }
            "tool-input-delta" => {
                must(self.available == 0, || "after the whole".into())?;
                let fragment = string(chunk, "inputTextDelta")?;
                must(!fragment.is_empty(), || "nothing".into())?;
                let id = string(chunk, "toolCallId")?;
                let tool = self.choice.tools.iter_mut().find(|tool| tool.id == id);
                tool.ok_or("an unknown call")?.arguments.push_str(&fragment);
            }
            "tool-input-available" | "tool-input-error" => {
                must(self.open.is_none(), || format!("{:?} is open", self.open))?;
                let tool = self.choice.tools.get(self.available).ok_or("one call too many")?;
                let same = chunk["toolCallId"] == *tool.id && chunk["toolName"] == *tool.name;
                must(same, || format!("not {tool:?}"))?;
                let value = tool.value();
                must(chunk["input"] == value, || format!("the input is not {value}"))?;
                let cut = serde_json::from_str::<Value>(&tool.arguments).is_err();
                let cut = cut && !tool.arguments.trim().is_empty();
                must(cut == (kind == "tool-input-error"), || "the other kind".into())?;
                self.available += 1;
            }
            _ => self.new_id("source", chunk["sourceId"].as_str())?,
        }
        Ok(())
    }

    fn new_id(&mut self, kind: &str, id: Option<&str>) -> Result<(), String> {
        let id = format!("{kind} {}", id.filter(|id| !id.is_empty()).ok_or("no id")?);
        must(self.ids.insert(id), || "its id was there before".into())
    }

    /// A part of text or reasoning. One without content exists for its metadata.
    fn part(&mut self, kind: &str, event: &str, chunk: &Value) -> Result<(), String> {
        let id = string(chunk, "id")?;
        if event == "start" {
            must(self.open.is_none(), || format!("{:?} is open", self.open))?;
            self.new_id("part", Some(&id))?;
            self.open = Some((kind.to_owned(), id, false));
            return Ok(());
        }
        let (open, open_id, filled) = self.open.as_mut().ok_or("nothing is open")?;
        must(open == kind && *open_id == id, || format!("{open} {open_id} is open"))?;
        if event == "end" {
            let why = *filled || chunk.get("providerMetadata").is_some();
            self.open = None;
            return must(why, || "an empty part".into());
        }
        *filled = true;
        let fragment = string(chunk, "delta")?;
        must(!fragment.is_empty(), || "nothing".into())?;
        let said = if kind == "text" { &mut self.choice.text } else { &mut self.choice.reasoning };
        said.push_str(&fragment);
        Ok(())
    }
}

/// The AI SDK's `LanguageModelUsage`.
fn tokens(usage: &Value) -> Result<Tokens, String> {
    let known =
        ["inputTokens", "inputTokenDetails", "outputTokens", "outputTokenDetails", "totalTokens"];
    for (name, value) in usage.as_object().ok_or("usage is no object")? {
        must(known.contains(&&**name) && !value.is_null(), || format!("{name} in the usage"))?;
    }
    let tokens = Tokens {
        input: count(usage, "/inputTokens"),
        cache_read: count(usage, "/inputTokenDetails/cacheReadTokens"),
        cache_write: count(usage, "/inputTokenDetails/cacheWriteTokens"),
        output: count(usage, "/outputTokens"),
        reasoning: count(usage, "/outputTokenDetails/reasoningTokens"),
    };
    let total = usage.get("totalTokens").and_then(Value::as_u64);
    let both = usage.get("inputTokens").is_some() && usage.get("outputTokens").is_some();
    let sum = both.then_some(tokens.input + tokens.output);
    must(total == sum, || format!("a total of {total:?}"))?;
    Ok(tokens)
}
