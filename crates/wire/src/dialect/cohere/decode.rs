//! Decoder: event streams and whole answers to deltas.
//!
//! It must never take the end of the bytes for the end of an answer, nor panic on any payload. Events
//! are distinguished by the `type` in their data; the event's name is ignored.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::event::{
    Called, Change, Content, Event, Message, Raw, Whole, citations, filled, list, logprobs, usage,
};
use super::finish::REASONS;
use crate::chat::{Delta, End, Kind, Stop};
use crate::codec::call_ids::CallIds;
use crate::codec::fast_path::FastPath;
use crate::codec::unreadable;
use crate::dialect::Decode;
use crate::error_body;
use crate::finish;
use crate::framing::Frame;
use crate::json;

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// The answer's id, from which missing ids are made up: the same bytes give the same ids.
    answer: String,
    /// The ids of the calls so far.
    ids: CallIds,
    /// The last call of each of the upstream's numbers.
    calls: HashMap<Option<u64>, u32>,
    fast_path: FastPath<()>,
}

impl Decode for Decoder {
    fn name(&mut self, answer: &str) {
        answer.clone_into(&mut self.answer);
    }

    /// Events have a type and no reason of their own.
    fn is_whole(&self, frame: &Frame) -> bool {
        json::text_member(&frame.data, "finish_reason").is_some()
    }

    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        let payload = frame.data.as_ref();
        // `message-end` came before it, or else the answer was cut.
        if payload.trim_ascii() == b"[DONE]" {
            return Some(End::Truncated);
        }
        if let Some(delta) = self.fast_path.read(payload) {
            out.push(delta);
            return None;
        }
        let event: Event<'f> = match serde_json::from_slice(payload) {
            Ok(event) => event,
            Err(error) => {
                return Some(End::Failed(unreadable::rejected("an event", payload, &error)));
            }
        };
        let before = out.len();
        let end = self.event(event, payload, out);
        if let (None, Some([delta])) = (&end, out.get(before..)) {
            self.fast_path.learn(payload, delta, ());
        }
        end
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let payload = body.data.as_ref();
        let whole: Whole<'f> = match serde_json::from_slice(payload) {
            Ok(whole) => whole,
            Err(error) if error.is_eof() => return End::Truncated,
            Err(error) => return End::Failed(unreadable::rejected("an event", payload, &error)),
        };
        let message = whole.message.map(|raw| serde_json::from_str(raw.get()));
        let Some(Ok(message)) = message else {
            return End::Failed(error_body::in_stream(payload));
        };
        self.start(whole.id, out);
        spoken(&message, out);
        if let Some(items) = logprobs(whole.logprobs) {
            out.push(Delta::Logprobs { choice: 0, items: Cow::Owned(items) });
        }
        for call in list::<Called<'f>>(message.tool_calls) {
            self.call(call, None, out);
        }
        out.extend(citations(message.citations).into_iter().map(Delta::Citation));
        let change =
            Change { finish_reason: whole.finish_reason, usage: whole.usage, ..Change::default() };
        self.end(&change, payload, out)
    }

    /// Nothing but `message-end` ends an answer.
    fn finish(&mut self) -> End {
        End::Truncated
    }
}

impl Decoder {
    fn start<'f>(&mut self, id: Raw<'f>, out: &mut Vec<Delta<'f>>) {
        if !std::mem::replace(&mut self.started, true) {
            let id = id.and_then(json::text).unwrap_or_default();
            if self.answer.is_empty() {
                self.answer = id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
            }
            out.push(Delta::Start { id, model: Cow::Borrowed("") });
        }
    }

    fn event<'f>(
        &mut self,
        event: Event<'f>,
        payload: &[u8],
        out: &mut Vec<Delta<'f>>,
    ) -> Option<End> {
        let kind = event.kind.and_then(json::text).unwrap_or_default();
        // An error in the shape of an error response.
        if kind.is_empty() && event.message.is_some() {
            return Some(End::Failed(error_body::in_stream(payload)));
        }
        let change = event.delta.unwrap_or_default();
        if kind == "message-end" {
            return Some(self.end(&change, payload, out));
        }
        let message = change.message.unwrap_or_default();
        let index = event.index.and_then(|raw| raw.get().parse().ok());
        match &*kind {
            "message-start" => self.start(event.id, out),
            "tool-plan-delta" | "content-start" | "content-delta" => {
                spoken(&message, out);
                if let Some(items) = logprobs(event.logprobs) {
                    out.push(Delta::Logprobs { choice: 0, items: Cow::Owned(items) });
                }
            }
            "citation-start" => {
                out.extend(citations(message.citations).into_iter().map(Delta::Citation));
            }
            "tool-call-start" => {
                for call in list::<Called<'f>>(message.tool_calls) {
                    self.call(call, index, out);
                }
            }
            "tool-call-delta" => {
                let last = || u32::try_from(self.ids.len()).ok()?.checked_sub(1);
                let at = self.calls.get(&index).copied().or_else(last)?;
                for call in list::<Called<'f>>(message.tool_calls) {
                    let arguments = call.function.unwrap_or_default().arguments;
                    arguments_of(at, arguments, out);
                }
            }
            "content-end" | "citation-end" | "tool-call-end" => {}
            _ => out.push(Delta::Opaque),
        }
        None
    }

    fn call<'f>(&mut self, call: Called<'f>, index: Option<u64>, out: &mut Vec<Delta<'f>>) {
        let Ok(ordinal) = u32::try_from(self.ids.len()) else { return };
        let function = call.function.unwrap_or_default();
        let name = function.name.and_then(json::text).unwrap_or_default();
        let said = filled(call.id).unwrap_or_default();
        let id = self.ids.or(said, || format!("call_{}_{ordinal}", self.answer));
        self.calls.insert(index, ordinal);
        out.push(Delta::ToolStart { choice: 0, call: ordinal, id, name });
        arguments_of(ordinal, function.arguments, out);
    }

    fn end<'f>(&self, change: &Change<'f>, payload: &[u8], out: &mut Vec<Delta<'f>>) -> End {
        if let Some(usage) = change.usage.and_then(usage) {
            out.push(Delta::Usage(usage));
        }
        let word = change.finish_reason.and_then(json::text).unwrap_or_default();
        if let Some(kind) = failure(&word) {
            let mut fault = error_body::in_stream(payload);
            fault.kind = kind;
            fault.message = change.error.and_then(json::text).map_or_else(
                || format!("the upstream ended the answer with finish_reason \"{word}\""),
                Cow::into_owned,
            );
            return End::Failed(fault);
        }
        let said = if word.is_empty() { None } else { finish::stop(REASONS, &word) };
        let reason = match said {
            None | Some(Stop::End) if !self.ids.is_empty() => Stop::ToolUse,
            said => said.unwrap_or(Stop::End),
        };
        out.push(Delta::Stop { choice: 0, reason });
        End::Complete
    }
}

/// Emits the plan, the thoughts and the texts of a message.
fn spoken<'f>(message: &Message<'f>, out: &mut Vec<Delta<'f>>) {
    if let Some(text) = filled(message.tool_plan) {
        out.push(Delta::Reasoning { choice: 0, text });
    }
    for content in list::<Content<'f>>(message.content) {
        if let Some(text) = filled(content.thinking) {
            out.push(Delta::Reasoning { choice: 0, text });
        }
        if let Some(text) = filled(content.text) {
            out.push(Delta::Text { choice: 0, text });
        }
    }
}

/// Finish reasons by which the vendor reports an error within a stream.
fn failure(word: &str) -> Option<Kind> {
    match word {
        "ERROR" => Some(Kind::Upstream),
        "TIMEOUT" => Some(Kind::Timeout),
        _ => None,
    }
}

fn arguments_of<'f>(call: u32, raw: Option<&'f RawValue>, out: &mut Vec<Delta<'f>>) {
    if let Some(json) = filled(raw) {
        out.push(Delta::ToolArguments { choice: 0, call, json });
    }
}

/// Whether an event reports an error to callers.
pub(super) fn has_error(payload: &[u8]) -> bool {
    let event: Option<Event<'_>> = serde_json::from_slice(payload).ok();
    let word = event.and_then(|event| event.delta?.finish_reason).and_then(json::text);
    word.is_some_and(|word| failure(&word).is_some())
}
