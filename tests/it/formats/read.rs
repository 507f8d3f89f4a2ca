//! Strict readers of the formats `text`, `events` and `snapshot`, written from their description and not from our code.

use serde_json::Value;

use crate::support::{Choice, Ended, Tokens, Tool, View, count, events, must, string};

/// The content that a viewer has read, and the word for the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) view: View,
    pub(super) state: String,
}

impl Seen {
    pub(super) fn new(choice: Choice, usage: Option<Tokens>, ended: Ended, state: &str) -> Self {
        let view = View { choices: [(0, choice)].into(), usage, ended };
        Self { view, state: state.to_owned() }
    }

    /// The only alternative.
    pub(super) fn choice(&self) -> &Choice {
        &self.view.choices[&0]
    }
}

/// The end that a state and an error mean.
fn ended(state: &str, error: &Value) -> Result<Ended, String> {
    Ok(match state {
        "complete" => Ended::Complete,
        "error" | "lost" => {
            must(!string(error, "type")?.is_empty(), || "an error without a type".into())?;
            Ended::Error(string(error, "message")?)
        }
        "cancelled" => Ended::Error("cancelled".into()),
        other => return Err(format!("the state {other}")),
    })
}

/// Cuts an event stream as a browser does: the data of an event may have several lines.
fn blocks(bytes: &[u8]) -> Result<Vec<(Option<&str>, String)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    must(!text.contains('\r'), || "CR in the output".into())?;
    must(text.is_empty() || text.ends_with("\n\n"), || "it ends inside an event".into())?;
    let mut out = Vec::new();
    for block in text.split_terminator("\n\n") {
        let (event, data) = match block.strip_prefix("event: ") {
            Some(rest) => {
                let (name, data) = rest.split_once('\n').ok_or("an event without data")?;
                (Some(name), data)
            }
            None => (None, block),
        };
        let lines: Option<Vec<&str>> =
            data.split('\n').map(|line| line.strip_prefix("data: ")).collect();
        out.push((event, lines.ok_or_else(|| format!("not data: {data}"))?.join("\n")));
    }
    Ok(out)
}

/// `format=text`.
pub(super) fn text(bytes: &[u8]) -> Result<Seen, String> {
    let mut blocks = blocks(bytes)?;
    let (last, state) = blocks.pop().ok_or("nothing at all")?;
    must(last == Some("end"), || format!("{last:?} at the end"))?;
    let mut choice = Choice::default();
    for (event, data) in blocks {
        must(event.is_none(), || format!("an event {event:?}"))?;
        must(!data.is_empty(), || "an event without text".into())?;
        choice.text.push_str(&data);
    }
    let fault = serde_json::json!({ "type": "none", "message": "" });
    Ok(Seen::new(choice, None, ended(&state, &fault)?, &state))
}

/// The members that an object has, of those that it may have.
fn only(value: &Value, required: &[&str], optional: &[&str]) -> Result<(), String> {
    let members = value.as_object().ok_or_else(|| format!("no object: {value}"))?;
    let missing = required.iter().find(|name| !members.contains_key(**name));
    must(missing.is_none(), || format!("{missing:?} is missing in {value}"))?;
    let known = |name: &&String| required.contains(&&***name) || optional.contains(&&***name);
    let more = members.keys().find(|name| !known(name));
    must(more.is_none(), || format!("{more:?} in {value}"))
}

const COUNTS: [&str; 5] = [
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
];

const REASONS: [&str; 8] = [
    "stop",
    "stop_sequence",
    "max_tokens",
    "context_window",
    "tool_use",
    "refusal",
    "content_filter",
    "pause",
];

fn tokens(value: &Value) -> Result<Tokens, String> {
    only(value, &[], &COUNTS)?;
    must(value.as_object().is_some_and(|counts| !counts.is_empty()), || "no counts".into())?;
    let [input, cache_read, cache_write, output, reasoning] =
        COUNTS.map(|name| count(value, &format!("/{name}")));
    Ok(Tokens { input, cache_read, cache_write, output, reasoning })
}

/// `format=events`.
pub(super) fn ours(bytes: &[u8]) -> Result<Seen, String> {
    let mut events = events(bytes)?;
    let (last, end) = events.pop().ok_or("nothing at all")?;
    must(last.as_deref() == Some("end"), || format!("{last:?} at the end"))?;
    let (mut choice, mut usage) = (Choice::default(), None);
    for (name, data) in events {
        let value: Value = serde_json::from_str(&data).map_err(|error| error.to_string())?;
        let name = name.ok_or("an event without a name")?;
        must(choice.stop.is_none(), || format!("{name} after the stop"))?;
        must(usage.is_none() || name == "stop", || format!("{name} after the usage"))?;
        event(&name, &value, &mut choice, &mut usage)?;
    }
    let end: Value = serde_json::from_str(&end).map_err(|error| error.to_string())?;
    only(&end, &["state"], &["error"])?;
    let state = string(&end, "state")?;
    if let Some(error) = end.get("error") {
        only(error, &["message", "type"], &[])?;
        must(state == "error" || state == "lost", || format!("an error of state {state}"))?;
    }
    must((state == "complete") == choice.stop.is_some(), || format!("{state}, {:?}", choice.stop))?;
    Ok(Seen::new(choice, usage, ended(&state, &end["error"])?, &state))
}

fn event(
    name: &str,
    value: &Value,
    choice: &mut Choice,
    usage: &mut Option<Tokens>,
) -> Result<(), String> {
    match name {
        "text" | "reasoning" => {
            only(value, &["text"], &[])?;
            let said = if name == "text" { &mut choice.text } else { &mut choice.reasoning };
            said.push_str(&string(value, "text")?);
        }
        "tool_call" => {
            only(value, &["index", "id", "name"], &[])?;
            must(value["index"] == choice.tools.len(), || format!("a gap before {value}"))?;
            let (id, name) = (string(value, "id")?, string(value, "name")?);
            choice.tools.push(Tool { id, name, arguments: String::new() });
        }
        "tool_arguments" => {
            only(value, &["index", "arguments"], &[])?;
            let index = usize::try_from(count(value, "/index")).map_err(|e| e.to_string())?;
            let tool = choice.tools.get_mut(index).ok_or_else(|| format!("no call of {value}"))?;
            tool.arguments.push_str(&string(value, "arguments")?);
        }
        "citation" => {
            let members = ["id", "url", "title", "cited_text", "start", "end", "mark"];
            only(value, &["origin"], &members)?;
            must(!value.as_object().into_iter().flatten().any(|(_, it)| it.is_null()), || {
                format!("null in {value}")
            })?;
        }
        "usage" => *usage = Some(tokens(value)?),
        "stop" => {
            only(value, &["reason"], &["sequence"])?;
            let reason = string(value, "reason")?;
            must(REASONS.contains(&&*reason), || format!("the reason {reason}"))?;
            choice.stop = Some(reason);
        }
        other => return Err(format!("an event {other}")),
    }
    Ok(())
}

/// `format=snapshot`.
pub(super) fn snapshot(document: &str) -> Result<Seen, String> {
    let value: Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
    let members = [
        "stream",
        "state",
        "text",
        "reasoning",
        "tool_calls",
        "usage",
        "stop_reason",
        "error",
        "position",
    ];
    only(&value, &members, &[])?;
    let tool = |call: &Value| {
        only(call, &["id", "name", "arguments"], &[])?;
        let (id, name) = (string(call, "id")?, string(call, "name")?);
        Ok(Tool { id, name, arguments: string(call, "arguments")? })
    };
    let calls = value["tool_calls"].as_array().ok_or("tool_calls is no list")?;
    let choice = Choice {
        text: string(&value, "text")?,
        reasoning: string(&value, "reasoning")?,
        refusal: String::new(),
        tools: calls.iter().map(tool).collect::<Result<_, String>>()?,
        stop: value["stop_reason"].as_str().map(ToOwned::to_owned),
    };
    let usage = if value["usage"].is_null() { None } else { Some(tokens(&value["usage"])?) };
    let state = string(&value, "state")?;
    let end = if state == "streaming" { Ended::Cut } else { ended(&state, &value["error"])? };
    Ok(Seen::new(choice, usage, end, &state))
}
