//! A strict reader of Ollama answers as our callers get them. It must reject whatever the official
//! clients could stumble over: blank lines, cut arguments, counts that are not there.

use serde_json::{Value, json};

use super::language::{Ask, Language, schema};
use super::{Choice, Ended, Tokens, Tool, View, lines, must, string};

/// The callers' side of the dialect.
pub(crate) const LANGUAGE: Language = Language {
    name: "ollama",
    path: |_| "/api/chat".to_owned(),
    request,
    stream,
    answer,
    error: |body| {
        let alone = body.as_object().is_some_and(|members| members.len() == 1);
        body["error"].as_str().filter(|_| alone).map(ToOwned::to_owned)
    },
    stop: |neutral| match neutral {
        "length" | "context" => "length",
        "filter" => "content_filter",
        _ => "stop",
    },
    bad_gateway: 502,
    heartbeat: None,
    single: true,
    usage_always: true,
    refusal_is_text: true,
    told: |said| Tokens { input: said.input, output: said.output, ..Tokens::default() },
};

fn request(ask: &Ask) -> Value {
    let mut messages = vec![json!({ "role": "user", "content": "hi" })];
    if !ask.called.is_empty() {
        // As ollama-python sends them: it drops the ids.
        let call =
            |tool: &Tool| json!({ "function": { "name": tool.name, "arguments": tool.value() } });
        let calls: Vec<Value> = ask.called.iter().map(call).collect();
        messages.push(json!({ "role": "assistant", "content": "", "tool_calls": calls }));
        messages.extend(ask.called.iter().map(|tool| {
            json!({ "role": "tool", "tool_name": tool.name, "content": format!("result of {}", tool.name) })
        }));
    }
    let mut body = json!({ "model": ask.model, "messages": messages });
    // A stream is what one gets unless one says otherwise.
    if !ask.stream {
        body["stream"] = json!(false);
    }
    if ask.tools {
        let tool = |name| json!({ "type": "function", "function": { "name": name, "description": "a tool", "parameters": schema() } });
        body["tools"] = json!([tool("weather"), tool("clock")]);
    }
    body
}

#[derive(Default)]
struct Reading {
    choice: Choice,
    usage: Option<Tokens>,
    identity: Option<(String, String)>,
}

/// Reads a translated stream. Usage always comes, asked for or not.
pub(crate) fn stream(bytes: &[u8], _want_usage: bool) -> Result<View, String> {
    let mut reading = Reading::default();
    let mut view = View::default();
    for (_, line) in lines(bytes)? {
        must(view.ended == Ended::Cut, || format!("{line} after the end"))?;
        let value: Value =
            serde_json::from_str(&line).map_err(|error| format!("{error} in {line}"))?;
        if value.get("error").is_some() {
            view.ended = Ended::Error((LANGUAGE.error)(&value).ok_or("a bare error")?);
        } else if reading.line(&value)? {
            view.ended = Ended::Complete;
        }
    }
    if reading.identity.is_some() {
        view.choices.insert(0, reading.choice);
    }
    view.usage = reading.usage;
    Ok(view)
}

/// Reads a collected answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<View, String> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut reading = Reading::default();
    must(reading.line(&body)?, || "a whole answer that is not done".into())?;
    let mut view = View { usage: reading.usage, ended: Ended::Complete, ..View::default() };
    view.choices.insert(0, reading.choice);
    Ok(view)
}

impl Reading {
    /// Reads a line and says whether it is the last one.
    fn line(&mut self, value: &Value) -> Result<bool, String> {
        let created = string(value, "created_at")?;
        let shape = created.char_indices().all(|(at, c)| match at {
            4 | 7 => c == '-',
            10 => c == 'T',
            13 | 16 => c == ':',
            19 => c == '.' || c == 'Z',
            at => c.is_ascii_digit() || at > 19 && c == 'Z',
        });
        must(shape && created.ends_with('Z'), || format!("created_at {created}"))?;
        let identity = (string(value, "model")?, created);
        must(!identity.0.is_empty(), || "a nameless model".into())?;
        let first = self.identity.get_or_insert_with(|| identity.clone());
        must(*first == identity, || format!("identity changes in {value}"))?;
        let message = &value["message"];
        must(message["role"] == "assistant", || format!("role in {value}"))?;
        self.choice.text.push_str(&string(message, "content")?);
        if message.get("thinking").is_some() {
            self.choice.reasoning.push_str(&string(message, "thinking")?);
        }
        if let Some(calls) = message.get("tool_calls") {
            for call in calls.as_array().filter(|calls| !calls.is_empty()).ok_or("tool_calls")? {
                self.call(call)?;
            }
        }
        for logprob in value.get("logprobs").and_then(Value::as_array).into_iter().flatten() {
            string(logprob, "token")?;
        }
        let done = value["done"].as_bool().ok_or_else(|| format!("done in {value}"))?;
        must(done == value.get("done_reason").is_some(), || format!("done_reason in {value}"))?;
        if done {
            self.end(value)?;
        }
        Ok(done)
    }

    fn call(&mut self, call: &Value) -> Result<(), String> {
        let (id, function) = (string(call, "id")?, &call["function"]);
        let tools = &mut self.choice.tools;
        must(!id.is_empty() && tools.iter().all(|tool| tool.id != id), || format!("id of {call}"))?;
        must(function["index"] == json!(tools.len()), || format!("index of {call}"))?;
        let arguments = function["arguments"].as_object().ok_or("arguments are no object")?;
        // Cut arguments are kept as text, in an object of nothing else.
        let cut = arguments.get("_truncated").filter(|_| arguments.len() == 1);
        let cut = cut.and_then(Value::as_str).map(ToOwned::to_owned);
        let arguments = cut.unwrap_or_else(|| function["arguments"].to_string());
        tools.push(Tool { id, name: string(function, "name")?, arguments });
        Ok(())
    }

    fn end(&mut self, value: &Value) -> Result<(), String> {
        let count = |name: &str| value[name].as_u64().ok_or_else(|| format!("{name} in {value}"));
        for name in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
            count(name)?;
        }
        let reason = string(value, "done_reason")?;
        let known = ["stop", "length", "content_filter"].contains(&reason.as_str());
        must(known, || format!("done_reason {reason}"))?;
        self.choice.stop = Some(reason);
        self.usage = Some(Tokens {
            input: count("prompt_eval_count")?,
            output: count("eval_count")?,
            ..Tokens::default()
        });
        Ok(())
    }
}
