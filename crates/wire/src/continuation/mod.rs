//! Continuation of an answer that broke off: the conditions, the request that another target gets, and the record of
//! what was written. It must never ask for anything that the caller did not, nor let a word be repeated.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::body::refuse;
use super::chat::{ApiError, Deadline, Delta, End, Kind, Request, Role, Usage};
use super::dialect::{Dialect, Mode};
use super::framing::Frame;
use super::json::{self as lossless, Members};

mod seam;

pub use seam::Seam;

/// The most bytes of text that another target is given to continue.
pub const MAX_TEXT: usize = 64 * 1024;

/// The most bytes of the first frames of an answer that is passed through, which identify it.
const MAX_HEAD: usize = 256 * 1024;

/// The way in which a model continues its own unfinished turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// It does not.
    #[default]
    None,
    /// A last message of the assistant is continued.
    Prefill,
    /// The same, if the message has `prefix: true`.
    Prefix,
    /// The same, with vLLM's `continue_final_message`.
    Vllm,
    /// It is asked to, in a turn of the user.
    Instruct,
}

impl Method {
    /// All values, each with its name in the configuration.
    pub const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("prefill", Self::Prefill),
        ("prefix", Self::Prefix),
        ("vllm", Self::Vllm),
        ("instruct", Self::Instruct),
    ];

    /// Finds a value by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }
}

/// The text to continue, and how to ask for it.
#[derive(Debug, Clone, Copy)]
pub struct Unfinished<'a> {
    /// The text that the caller has.
    pub text: &'a str,
    /// The target's way.
    pub method: Method,
    /// The words of the user's turn for [`Method::Instruct`].
    pub instruction: &'a str,
    /// Tokens of output so far, which the limit on output no longer has.
    pub spent: u64,
}

/// Members of a body that ask for audio, for text in a grammar, or for state at the vendor: what another target cannot
/// go on with.
const CONSTRAINTS: [&str; 11] = [
    "audio",
    "background",
    "conversation",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "json_schema",
    "previous_response_id",
    "structured_outputs",
];

/// Whether an answer to this request may be continued by another target. `tools`: also if it offers tools.
pub fn is_continuable(request: &Request, body: &str, tools: bool) -> bool {
    let Ok(members) = Members::parse(body) else { return false };
    let ends_with_user = request.messages.last().is_some_and(|message| message.role == Role::User);
    let asked = |name: &str| members.get(name).is_some_and(|raw| !is_unset(raw));
    ends_with_user
        && (tools || !request.has_tools())
        && request.hosted.is_empty()
        && !request.forces_a_call()
        && request.format.is_none()
        && request.n.is_none_or(|n| n == 1)
        && !request.logprobs
        && request.top_logprobs.is_none()
        && !request.reasoning.as_ref().is_some_and(super::chat::Reasoning::is_wanted)
        && !CONSTRAINTS.iter().any(|name| asked(name))
}

fn is_unset(raw: &RawValue) -> bool {
    matches!(raw.get(), "null" | "false")
}

/// Whether an answer with this end may be continued: the fault is the upstream's, and another target may not have it.
pub fn is_continuable_end(end: &End) -> bool {
    match end {
        End::Truncated | End::TimedOut(Deadline::Stall | Deadline::Rate) => true,
        End::Failed(fault) => {
            matches!(fault.kind, Kind::Overloaded | Kind::Upstream | Kind::Internal)
        }
        _ => false,
    }
}

/// A request, as written for a target, that asks it to go on with a text: the partial answer is the last turn. Nothing
/// else is added, except for [`Method::Instruct`].
pub fn ask(
    body: &str,
    dialect: &dyn Dialect,
    unfinished: &Unfinished<'_>,
) -> Result<String, ApiError> {
    let invalid = |_| refuse("body", "is not an object");
    let members = Members::parse(body).map_err(invalid)?;
    let (name, mut turn) = dialect.turn(true, unfinished.text.trim_end());
    if unfinished.method == Method::Prefix
        && let Value::Object(turn) = &mut turn
    {
        turn.insert("prefix".to_owned(), Value::Bool(true));
    }
    let mut turns = vec![turn.to_string()];
    if unfinished.method == Method::Instruct {
        turns.push(dialect.turn(false, unfinished.instruction).1.to_string());
    }
    let own = members.get(name).map_or("[]", RawValue::get).trim();
    // One text in place of a list is a turn of the user.
    let list = match serde_json::from_str::<String>(own) {
        Ok(text) => format!("[{}]", dialect.turn(false, &text).1),
        Err(_) => own.to_owned(),
    };
    let inner = list.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or_else(|| refuse(name, "is not a list"))?;
    let comma = if inner.trim().is_empty() { "" } else { "," };
    let list = format!("[{inner}{comma}{}]", turns.join(","));
    let mut edits = vec![(name, Some(list.as_str()))];
    if unfinished.method == Method::Vllm {
        edits.push(("continue_final_message", Some("true")));
        edits.push(("add_generation_prompt", Some("false")));
    }
    let asked = members.edit(body, &edits);
    let limits = dialect.output_limits().iter();
    limits.into_iter().try_fold(asked, |body, path| reduced(&body, path, unfinished.spent))
}

/// A body whose limit on output at a path is lower by what was spent. An error: nothing is left.
fn reduced(body: &str, path: &str, spent: u64) -> Result<String, ApiError> {
    let invalid = |_| refuse("body", "is not an object");
    let members = Members::parse(body).map_err(invalid)?;
    let (name, below) =
        path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Some(value) = members.get(name) else { return Ok(body.to_owned()) };
    let new = match below {
        Some(rest) if value.get().starts_with('{') => reduced(value.get(), rest, spent)?,
        Some(_) => return Ok(body.to_owned()),
        None => {
            let Some(limit) = lossless::count(value) else { return Ok(body.to_owned()) };
            match limit.saturating_sub(spent) {
                0 => return Err(refuse(name, "leaves no tokens for a continuation")),
                left => left.to_string(),
            }
        }
    };
    Ok(members.edit(body, &[(name, Some(new.as_str()))]))
}

/// The turn of a dialect whose messages have a role and text.
pub fn plain_turn(assistant: bool, text: &str) -> (&'static str, Value) {
    ("messages", json!({"role": if assistant { "assistant" } else { "user" }, "content": text}))
}

/// The usage of a continued answer that its caller gets: its own prompt once, all output once. `before`: of the part
/// that broke off; `usage`: of the part that follows, whose prompt has the part before.
pub(crate) fn usage_of_both(before: &Usage, usage: Usage) -> Usage {
    let spent = before.output.unwrap_or_default();
    Usage {
        input: before.input.or_else(|| usage.input.map(|input| input.saturating_sub(spent))),
        cache_read: before.cache_read,
        cache_write: before.cache_write,
        output: usage.output.map(|output| output.saturating_add(spent)),
        reasoning: usage.reasoning,
    }
}

/// The record of an answer that may have to be continued.
#[derive(Debug, Default)]
pub struct Record {
    text: String,
    /// It has anything but text, or too much of it.
    is_other: bool,
    id: String,
    model: String,
    /// The first payloads of an answer that is passed through, up to its first text.
    head: Vec<Bytes>,
    head_bytes: usize,
    frames: u64,
}

/// An answer so far, for an encoder that goes on with it.
#[derive(Debug)]
pub struct Written<'a> {
    /// The first payloads, if the answer was passed through: up to its first text.
    pub head: &'a [Bytes],
    /// The payloads that were passed through.
    pub frames: u64,
    /// The upstream's id of the answer; may be empty.
    pub id: &'a str,
    /// Its identity and its text.
    pub deltas: [Delta<'a>; 2],
}

impl Record {
    /// Takes note of a frame that is written, with its deltas.
    pub(crate) fn note(&mut self, frame: &Frame, deltas: &[Delta<'_>], mode: Mode) {
        if mode == Mode::Verbatim {
            self.frames = self.frames.saturating_add(1);
            if self.text.is_empty() && !self.is_other {
                self.head_bytes = self.head_bytes.saturating_add(frame.data.len());
                self.head.push(frame.data.clone());
                self.is_other |= self.head_bytes > MAX_HEAD;
            }
        }
        for delta in deltas {
            match delta {
                Delta::Text { choice: 0, text } => self.text.push_str(text),
                Delta::Start { id, model } => {
                    self.id.push_str(id);
                    self.model.push_str(model);
                }
                Delta::Usage(_) => {}
                // A stop included: what follows it is no answer.
                _ => self.is_other = true,
            }
        }
        if self.is_other || self.text.len() > MAX_TEXT {
            *self = Self { is_other: true, ..Self::default() };
        }
    }

    /// The text, if the answer has nothing else and may be continued.
    pub fn text(&self) -> Option<&str> {
        Some(self.text.as_str()).filter(|text| !self.is_other && !text.trim().is_empty())
    }

    /// Bytes that it holds.
    pub(crate) fn kept(&self) -> usize {
        self.text.len() + self.head_bytes
    }

    pub(crate) fn written(&self) -> Written<'_> {
        let (id, model) = (self.id.as_str(), self.model.as_str());
        Written {
            head: &self.head,
            frames: self.frames,
            id,
            deltas: [
                Delta::Start { id: id.into(), model: model.into() },
                Delta::Text { choice: 0, text: self.text.as_str().into() },
            ],
        }
    }
}

#[cfg(test)]
mod tests;
