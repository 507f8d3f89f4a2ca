//! A strict reader of Gemini answers as our callers get them. It must reject chunks without parts,
//! anything after the end, and whatever the vendor's libraries fail on.

use serde_json::{Value, json};

use super::language::{Ask, Language, schema};
use super::{Choice, Ended, Tokens, Tool, View, count, events, must, string};

/// The callers' side of the dialect.
pub(crate) const LANGUAGE: Language = Language {
    name: "gemini",
    path: |ask| {
        let method = if ask.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        format!("/v1beta/models/{}:{method}", ask.model)
    },
    request,
    stream,
    answer,
    error: |body| {
        let error = &body["error"];
        let shaped = error["code"].is_u64() && error["status"].is_string();
        error["message"].as_str().filter(|_| shaped).map(ToOwned::to_owned)
    },
    stop: |neutral| match neutral {
        "length" | "context" => "MAX_TOKENS",
        "filter" | "refusal" => "SAFETY",
        _ => "STOP",
    },
    bad_gateway: 502,
    heartbeat: None,
    single: false,
    refusal_is_text: true,
    // It counts what is no thought, never below zero, and knows nothing of writing to a cache.
    told: |said| Tokens { output: said.output.max(said.reasoning), cache_write: 0, ..said },
    usage_always: true,
};

/// The placeholder of a missing id.
const NO_ID: &str = "#";

/// Takes the ids out that nobody gave.
fn given(mut part: Value, member: &str) -> Value {
    let call = part[member].as_object_mut().expect("an object");
    call.retain(|name, id| name != "id" || id.as_str().is_some_and(|id| !id.starts_with(NO_ID)));
    part
}

fn request(ask: &Ask) -> Value {
    let mut contents = vec![json!({ "role": "user", "parts": [{ "text": "hi" }] })];
    if !ask.called.is_empty() {
        let call = |tool: &Tool| {
            let call = json!({ "id": tool.id, "name": tool.name, "args": tool.value() });
            given(json!({ "functionCall": call }), "functionCall")
        };
        let result = |tool: &Tool| {
            let output = format!("result of {}", tool.name);
            let result =
                json!({ "id": tool.id, "name": tool.name, "response": { "output": output } });
            given(json!({ "functionResponse": result }), "functionResponse")
        };
        let calls: Vec<Value> = ask.called.iter().map(call).collect();
        let results: Vec<Value> = ask.called.iter().map(result).collect();
        contents.push(json!({ "role": "model", "parts": calls }));
        contents.push(json!({ "role": "user", "parts": results }));
    }
    let mut body = json!({ "contents": contents, "generationConfig": { "maxOutputTokens": 1000 } });
    if ask.tools {
        let tool = |name| json!({ "name": name, "description": "a tool", "parametersJsonSchema": schema() });
        body["tools"] = json!([{ "functionDeclarations": [tool("weather"), tool("clock")] }]);
    }
    body
}

/// Reads a translated stream. Usage always comes, asked for or not. The error of a stream that failed may
/// stand behind its event once more, without `data:`.
pub(crate) fn stream(bytes: &[u8], _want_usage: bool) -> Result<View, String> {
    let mut view = View::default();
    let events_end = memchr::memmem::rfind(bytes, b"\n\n").map_or(0, |at| at + 2);
    let (bytes, bare) = bytes.split_at(events_end);
    must(bare.is_empty() || bytes.ends_with(&[b"data: ", bare, b"\n\n"].concat()), || {
        format!("{} behind the last event", String::from_utf8_lossy(bare))
    })?;
    for (event, data) in events(bytes)? {
        must(event.is_none(), || format!("an event named {event:?}"))?;
        let value: Value =
            serde_json::from_str(&data).map_err(|error| format!("{error} in {data}"))?;
        element(&value, &mut view)?;
    }
    Ok(view)
}

/// Reads a translated stream in the form of an array.
pub(crate) fn array(bytes: &[u8]) -> Result<View, String> {
    let list: Vec<Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut view = View::default();
    for value in &list {
        element(value, &mut view)?;
    }
    Ok(view)
}

fn element(value: &Value, view: &mut View) -> Result<(), String> {
    must(view.ended == Ended::Cut, || format!("{value} after the end"))?;
    if value.get("error").is_some() {
        must(value["error"]["code"].is_u64(), || format!("code of {value}"))?;
        string(&value["error"], "status")?;
        view.ended = Ended::Error(string(&value["error"], "message")?);
        return Ok(());
    }
    let finished = chunk(value, view)?;
    if finished {
        view.ended = Ended::Complete;
    }
    Ok(())
}

/// Reads a chunk, or a whole answer; says whether it ends every alternative.
fn chunk(value: &Value, view: &mut View) -> Result<bool, String> {
    // A heartbeat has no identity.
    must(!string(value, "responseId")?.is_empty(), || "identity".into())?;
    must(!string(value, "modelVersion")?.is_empty(), || "identity".into())?;
    if value["usageMetadata"].is_object() {
        view.usage = Some(tokens(&value["usageMetadata"]));
    }
    let candidates = value["candidates"].as_array().ok_or("no candidates")?;
    let mut finished = 0;
    for candidate in candidates {
        let index = candidate["index"].as_u64().ok_or("no index")?;
        let choice = view.choices.entry(index).or_default();
        must(choice.stop.is_none(), || format!("{candidate} after its finish"))?;
        let content = &candidate["content"];
        must(content["role"] == "model", || format!("role of {content}"))?;
        let parts = content["parts"].as_array().filter(|parts| !parts.is_empty());
        for piece in parts.ok_or("no parts")? {
            part(piece, choice)?;
        }
        if let Some(reason) = candidate.get("finishReason") {
            let reason = reason.as_str().ok_or("a finish reason is a word")?;
            let known = ["STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"];
            must(known.contains(&reason), || format!("finishReason {reason}"))?;
            choice.stop = Some(reason.to_owned());
            choice.refusal.push_str(candidate["finishMessage"].as_str().unwrap_or_default());
            finished += 1;
        }
    }
    must(finished == 0 || finished == view.choices.len(), || "a finish for some only".into())?;
    Ok(finished > 0)
}

fn part(piece: &Value, choice: &mut Choice) -> Result<(), String> {
    let members = piece.as_object().filter(|members| !members.is_empty());
    let members = members.ok_or("an empty part")?;
    let known = ["text", "thought", "thoughtSignature", "functionCall"];
    must(members.keys().all(|name| known.contains(&name.as_str())), || format!("{piece}"))?;
    if let Some(text) = piece.get("text") {
        let text = text.as_str().ok_or("text")?;
        match piece.get("thought") {
            None => choice.text.push_str(text),
            Some(thought) => {
                must(*thought == true, || format!("{piece}"))?;
                choice.reasoning.push_str(text);
            }
        }
    }
    if let Some(call) = piece.get("functionCall") {
        let name = string(call, "name")?;
        // The vendor itself mostly gives none: then the order tells calls apart.
        let id = match call.get("id") {
            None => format!("{NO_ID}{}", choice.tools.len()),
            Some(_) => string(call, "id")?,
        };
        let unique = !id.is_empty() && choice.tools.iter().all(|tool| tool.id != id);
        must(unique, || format!("id of {call}"))?;
        must(call["args"].is_object(), || format!("args of {call}"))?;
        // Truncated arguments are kept as text.
        let broken = call["args"]["_truncated"].as_str();
        let arguments = broken.map_or_else(|| call["args"].to_string(), ToOwned::to_owned);
        choice.tools.push(Tool { id, name, arguments });
    }
    Ok(())
}

/// Reads a collected answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<View, String> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut view = View::default();
    must(chunk(&body, &mut view)?, || "a whole answer without a finish".into())?;
    view.ended = Ended::Complete;
    Ok(view)
}

/// Usage as this dialect counts it: thoughts are not part of `candidatesTokenCount`.
pub(crate) fn tokens(usage: &Value) -> Tokens {
    let reasoning = count(usage, "/thoughtsTokenCount");
    Tokens {
        input: count(usage, "/promptTokenCount") + count(usage, "/toolUsePromptTokenCount"),
        cache_read: count(usage, "/cachedContentTokenCount"),
        cache_write: 0,
        output: count(usage, "/candidatesTokenCount") + reasoning,
        reasoning,
    }
}
