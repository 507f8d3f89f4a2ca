//! The order of turns that every vendor's own endpoint accepts: results directly after their calls, one result
//! per call, and unique ids.
//!
//! No content is lost: a result without a call becomes text.

use std::collections::{HashMap, HashSet};

use crate::body::refuse;
use crate::chat::{ApiError, Message, Part, Role};

/// Placeholder for the result of a call that has none, for example in an interrupted turn.
const NO_RESULT: &str = "[no result]";
/// A user turn where one is required and there is none.
const OPENING: &str = "Hello.";
const CONTINUE: &str = "Continue.";
/// An assistant turn where one is required after tool results.
const ACKNOWLEDGED: &str = "OK.";

/// Puts calls and results in order, if they are not.
pub(super) fn settle(messages: &mut Vec<Message>) {
    let last = messages.iter().rposition(|message| message.role != Role::System);
    if let Some(last) = last.and_then(|last| messages.get_mut(last))
        && last.role == Role::User
        && last.parts.is_empty()
    {
        // The user's last turn is the question and is kept, even if it is empty.
        last.parts.push(Part::Text(String::new()));
    }
    messages.retain(|message| !message.parts.is_empty());
    if !is_settled(messages) {
        let results = Results::take(messages);
        *messages = results.placed(std::mem::take(messages));
    }
}

/// Inserts an assistant turn between tool results and any other turn that follows them. Parts beside the
/// results of a turn, and media in results, which are sent beside them, become a turn of their own.
pub(super) fn answer_results(messages: &mut Vec<Message>) {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut after_results = false;
    for mut message in std::mem::take(messages) {
        let beside = take_beside_results(&mut message);
        let at = message.at.clone();
        if after_results && message.role != Role::Assistant {
            out.push(acknowledgement(&at));
        }
        after_results = results(&message).next().is_some();
        out.push(message);
        if !beside.is_empty() {
            out.push(acknowledgement(&at));
            out.push(Message { at, role: Role::User, parts: beside });
            after_results = false;
        }
    }
    *messages = out;
}

fn acknowledgement(at: &str) -> Message {
    let parts = vec![Part::Text(ACKNOWLEDGED.to_owned())];
    Message { at: at.to_owned(), role: Role::Assistant, parts }
}

/// Removes everything from a turn with results that is not the text of a result, and returns it.
fn take_beside_results(message: &mut Message) -> Vec<Part> {
    if results(message).next().is_none() {
        return Vec::new();
    }
    let mut beside = Vec::new();
    for part in &mut message.parts {
        if let Part::ToolResult { parts, .. } = part {
            let media = |part: &mut Part| !matches!(part, Part::Text(_) | Part::Cache(_));
            beside.extend(parts.extract_if(.., media));
        }
    }
    let other = |part: &mut Part| !matches!(part, Part::ToolResult { .. } | Part::Cache(_));
    beside.extend(message.parts.extract_if(.., other));
    beside
}

/// Adds turns so that the conversation begins and ends with a role that the upstream accepts.
pub(super) fn begin_and_end(messages: &mut Vec<Message>, first: bool, last: bool) {
    let turn = |at: &str, text: &str| Message {
        at: at.to_owned(),
        role: Role::User,
        parts: vec![Part::Text(text.to_owned())],
    };
    let spoken = messages.iter().position(|message| message.role != Role::System);
    match spoken.map(|at| (at, messages.get(at).is_some_and(|m| m.role == Role::Assistant))) {
        Some((at, true)) if first => messages.insert(at, turn("", OPENING)),
        // An empty conversation is left unchanged.
        None if first && !messages.is_empty() => messages.push(turn("", CONTINUE)),
        _ => {}
    }
    let said = messages.iter().rfind(|message| message.role != Role::System);
    if last && said.is_some_and(|message| message.role == Role::Assistant) {
        messages.push(turn("", CONTINUE));
    }
}

/// Rejects a conversation without turns. Every vendor does, and some name a field of their own in the error.
pub(super) fn check(messages: &[Message]) -> Result<(), ApiError> {
    if messages.is_empty() {
        return Err(refuse("messages", "is empty: say what is to be answered"));
    }
    Ok(())
}

fn calls(message: &Message) -> impl Iterator<Item = &str> {
    message.parts.iter().filter_map(|part| match part {
        Part::ToolCall { id, .. } if message.role == Role::Assistant => Some(id.as_str()),
        _ => None,
    })
}

fn results(message: &Message) -> impl Iterator<Item = &str> {
    message.parts.iter().filter_map(|part| match part {
        Part::ToolResult { id, .. } => Some(id.as_str()),
        _ => None,
    })
}

/// Whether every call has exactly one result in the next turn, and every result has its call.
fn is_settled(messages: &[Message]) -> bool {
    let mut known = HashSet::new();
    let mut open: HashSet<&str> = HashSet::new();
    for message in messages {
        for id in results(message) {
            if !open.remove(id) {
                return false;
            }
        }
        if !open.is_empty() {
            return false;
        }
        for id in calls(message) {
            if !known.insert(id) {
                return false;
            }
            open.insert(id);
        }
    }
    open.is_empty()
}

/// One tool call and its result.
struct Call {
    /// Its unique id.
    id: String,
    /// Its result, followed by the result's cache marks.
    result: Vec<Part>,
}

/// The calls that share one original id, in order.
#[derive(Default)]
struct SameId {
    calls: Vec<usize>,
    /// Number of calls that have a result.
    answered: usize,
}

impl SameId {
    /// The call that the next result belongs to: the first one without a result, else the last one.
    fn next(&mut self) -> Option<usize> {
        let open = self.calls.get(self.answered);
        self.answered += usize::from(open.is_some());
        open.or_else(|| self.calls.last()).copied()
    }
}

/// All calls, in order, with their results.
struct Results {
    calls: Vec<Call>,
}

impl Results {
    /// Removes every result from its turn. A result without a call stays in place as text.
    fn take(messages: &mut [Message]) -> Self {
        let mut calls: Vec<Call> = Vec::new();
        let mut by_id: HashMap<String, SameId> = HashMap::new();
        for message in messages {
            let assistant = message.role == Role::Assistant;
            let mut kept = Vec::with_capacity(message.parts.len());
            // The call of the most recent result. Cache marks behind a result move with it.
            let mut last = None;
            for part in std::mem::take(&mut message.parts) {
                match part {
                    Part::ToolCall { id, name, arguments } if assistant => {
                        let same = by_id.entry(id.clone()).or_default();
                        let unique = if same.calls.is_empty() {
                            id
                        } else {
                            format!("{id}_{}", same.calls.len() + 1)
                        };
                        same.calls.push(calls.len());
                        calls.push(Call { id: unique.clone(), result: Vec::new() });
                        kept.push(Part::ToolCall { id: unique, name, arguments });
                    }
                    Part::ToolResult { id, parts, is_error } => {
                        last = by_id.get_mut(&id).and_then(SameId::next);
                        match last.and_then(|at| calls.get_mut(at)) {
                            Some(call) => call.answer(parts, is_error),
                            None => kept.extend(as_text(parts)),
                        }
                    }
                    Part::Cache(mark) => match last.and_then(|at| calls.get_mut(at)) {
                        Some(call) => call.result.push(Part::Cache(mark)),
                        None => kept.push(Part::Cache(mark)),
                    },
                    part => {
                        last = None;
                        kept.push(part);
                    }
                }
            }
            message.parts = kept;
        }
        Self { calls }
    }

    /// Returns the turns, each call's results at the start of the following turn.
    fn placed(self, messages: Vec<Message>) -> Vec<Message> {
        let mut calls = self.calls.into_iter();
        let mut out: Vec<Message> = Vec::with_capacity(messages.len() + 2);
        let mut results: Vec<Part> = Vec::new();
        for mut message in messages {
            if !results.is_empty() {
                let mut parts = std::mem::take(&mut results);
                if message.role == Role::User {
                    parts.append(&mut message.parts);
                    message.parts = parts;
                } else {
                    out.push(Message { at: message.at.clone(), role: Role::User, parts });
                }
            }
            let called = self::calls(&message).count();
            results.extend(calls.by_ref().take(called).flat_map(Call::into_result));
            if !message.parts.is_empty() {
                out.push(message);
            }
        }
        if !results.is_empty() {
            let at = out.last().map(|message| message.at.clone()).unwrap_or_default();
            out.push(Message { at, role: Role::User, parts: results });
        }
        out
    }
}

impl Call {
    /// Adds a result. A second result is appended to the first one.
    fn answer(&mut self, parts: Vec<Part>, is_error: bool) {
        match self.result.first_mut() {
            Some(Part::ToolResult { parts: first, .. }) => first.extend(parts),
            _ => self.result.push(Part::ToolResult { id: self.id.clone(), parts, is_error }),
        }
    }

    fn into_result(self) -> Vec<Part> {
        if !self.result.is_empty() {
            return self.result;
        }
        let parts = vec![Part::Text(NO_RESULT.to_owned())];
        vec![Part::ToolResult { id: self.id, parts, is_error: true }]
    }
}

/// A result that belongs to no call, as text of the user.
fn as_text(parts: Vec<Part>) -> impl Iterator<Item = Part> {
    let told = |part| match part {
        Part::Text(text) => Part::Text(format!("[result of an earlier call]\n{text}")),
        part => part,
    };
    let empty = parts.is_empty().then(|| Part::Text("[result of an earlier call]".to_owned()));
    parts.into_iter().map(told).chain(empty)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
