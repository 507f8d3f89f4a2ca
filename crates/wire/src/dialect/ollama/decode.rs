//! Decoder: lines of `/api/chat` and `/api/generate`, and whole answers, which are one such line.
//!
//! It must never take the end of the bytes for the end of an answer, nor panic on any line.

use std::borrow::Cow;

use memchr::memchr;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::finish::REASONS;
use crate::chat::{ApiError, Delta, End, Kind, Stop, Usage};
use crate::codec::call_ids::CallIds;
use crate::codec::fast_path::FastPath;
use crate::codec::unreadable;
use crate::dialect::Decode;
use crate::error_body;
use crate::finish;
use crate::framing::Frame;
use crate::json::{self, Members};
use crate::logprobs::elements;

type Raw<'a> = Option<&'a RawValue>;

/// One line. Values stay raw until they are needed, and are read leniently then.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    model: Raw<'a>,
    #[serde(borrow)]
    created_at: Raw<'a>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    /// `/api/generate`.
    #[serde(borrow)]
    response: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
    #[serde(borrow)]
    logprobs: Raw<'a>,
    #[serde(borrow)]
    done: Raw<'a>,
    #[serde(borrow)]
    done_reason: Raw<'a>,
    #[serde(borrow)]
    prompt_eval_count: Raw<'a>,
    #[serde(borrow)]
    eval_count: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Raw<'a>,
    #[serde(borrow)]
    thinking: Raw<'a>,
    #[serde(borrow)]
    tool_calls: Option<Vec<Called<'a>>>,
}

#[derive(Deserialize)]
struct Called<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    arguments: Raw<'a>,
}

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    /// Prefix of ids that the upstream leaves out: the answer's name, else letters and digits of the first
    /// line's time.
    stamp: String,
    ids: CallIds,
    fast_path: TimedFastPath,
}

impl Decode for Decoder {
    fn name(&mut self, answer: &str) {
        answer.clone_into(&mut self.stamp);
    }

    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        let payload = frame.data.as_ref();
        if let Some(delta) = self.fast_path.read(payload) {
            out.push(delta);
            return None;
        }
        let line = match parse(payload) {
            Ok(line) => line,
            Err(fault) => return Some(End::Failed(fault)),
        };
        let (created, before) = (line.created_at, out.len());
        let done = match self.line(line, payload, out) {
            Ok(done) => done,
            Err(fault) => return Some(End::Failed(fault)),
        };
        if let (false, Some(created), Some([delta])) = (done, created, out.get(before..)) {
            self.fast_path.learn(payload, created, delta);
        }
        done.then_some(End::Complete)
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        let payload = body.data.as_ref();
        let cut = |payload| {
            let read: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(payload);
            read.is_err_and(|error| error.is_eof())
        };
        if cut(payload) {
            return End::Truncated;
        }
        let line = match parse(payload) {
            Ok(line) => line,
            Err(fault) => return End::Failed(fault),
        };
        let said = line.message.is_some() || line.response.is_some() || line.error.is_some();
        if !said {
            let message = "the upstream's answer has no message";
            return End::Failed(ApiError::new(Kind::Upstream, message));
        }
        let more = line.done.is_some_and(|done| done.get() == "false");
        match self.line(line, payload, out) {
            Ok(_) if more => End::Truncated,
            Ok(_) => End::Complete,
            Err(fault) => End::Failed(fault),
        }
    }

    /// Only a line with `done` ends an answer.
    fn finish(&mut self) -> End {
        End::Truncated
    }
}

impl Decoder {
    /// Reads a line and returns whether it is the last one.
    fn line<'f>(
        &mut self,
        line: Line<'f>,
        payload: &[u8],
        out: &mut Vec<Delta<'f>>,
    ) -> Result<bool, ApiError> {
        if line.error.is_some_and(is_error) {
            return Err(error_body::in_stream(payload));
        }
        if !std::mem::replace(&mut self.started, true) {
            if self.stamp.is_empty() {
                let created = line.created_at.and_then(json::text).unwrap_or_default();
                self.stamp = created.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
            }
            let model = line.model.and_then(json::text).unwrap_or_default();
            out.push(Delta::Start { id: Cow::Borrowed(""), model });
        }
        let (message, calls) = match line.message {
            Some(message) => ((message.thinking, message.content), message.tool_calls),
            None => ((line.thinking, line.response), None),
        };
        if let Some(text) = message.0.and_then(filled) {
            out.push(Delta::Reasoning { choice: 0, text });
        }
        if let Some(text) = message.1.and_then(filled) {
            out.push(Delta::Text { choice: 0, text });
        }
        if let Some(items) = line.logprobs.and_then(elements) {
            out.push(Delta::Logprobs { choice: 0, items });
        }
        for call in calls.into_iter().flatten() {
            self.call(call, out);
        }
        let done = line.done.is_some_and(|done| done.get() == "true");
        if done {
            let count = |raw: Raw<'_>| raw.and_then(|raw| raw.get().parse::<u64>().ok());
            let (input, output) = (count(line.prompt_eval_count), count(line.eval_count));
            out.push(Delta::Usage(Usage { input, output, ..Usage::default() }));
            let reason = line.done_reason.and_then(json::text).unwrap_or_default();
            let reason = match finish::stop(REASONS, &reason) {
                None | Some(Stop::End) if !self.ids.is_empty() => Stop::ToolUse,
                said => said.unwrap_or(Stop::End),
            };
            out.push(Delta::Stop { choice: 0, reason });
        }
        Ok(done)
    }

    /// Calls come whole, each with its arguments as an object.
    fn call<'f>(&mut self, call: Called<'f>, out: &mut Vec<Delta<'f>>) {
        let Some(function) = call.function else { return };
        let Some(name) = function.name.and_then(filled) else { return };
        let Ok(ordinal) = u32::try_from(self.ids.len()) else { return };
        let said = call.id.and_then(filled).unwrap_or_default();
        let id = self.ids.or(said, || format!("call_{}_{ordinal}", self.stamp));
        out.push(Delta::ToolStart { choice: 0, call: ordinal, id, name });
        let Some(raw) = function.arguments.filter(|raw| !json::is_null(raw)) else { return };
        // Some compatible servers write the object as a string.
        let json = json::text(raw).unwrap_or_else(|| Cow::Borrowed(raw.get()));
        if !json.is_empty() {
            out.push(Delta::ToolArguments { choice: 0, call: ordinal, json });
        }
    }
}

/// Fast path for lines that differ from an earlier one in their time and in one string only.
#[derive(Debug, Default)]
struct TimedFastPath {
    /// Everything before the time.
    head: Vec<u8>,
    /// Everything after it.
    rest: FastPath<()>,
}

impl TimedFastPath {
    fn learn(&mut self, payload: &[u8], created: &RawValue, delta: &Delta<'_>) {
        self.head.clear();
        let place = created.get().as_ptr().addr().checked_sub(payload.as_ptr().addr());
        let Some((head, rest)) = place.and_then(|at| payload.split_at_checked(at + 1)) else {
            return;
        };
        let Some((_, rest)) = split_time(rest).filter(|_| head.ends_with(b"\"")) else { return };
        if self.rest.learn(rest, delta, ()) {
            self.head.extend_from_slice(head);
        }
    }

    fn read<'f>(&self, payload: &'f [u8]) -> Option<Delta<'f>> {
        if self.head.is_empty() {
            return None;
        }
        let (_, rest) = split_time(payload.strip_prefix(&*self.head)?)?;
        self.rest.read(rest)
    }
}

/// Cuts behind a time, whose opening quote is gone, before its closing one. `None`: it is no plain time.
fn split_time(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (time, rest) = rest.split_at_checked(memchr(b'"', rest)?)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-:.+".contains(byte);
    time.iter().all(plain).then_some((time, rest))
}

fn parse(payload: &[u8]) -> Result<Line<'_>, ApiError> {
    serde_json::from_slice(payload).map_err(|error| unreadable::rejected("a line", payload, &error))
}

/// A string with something in it.
fn filled(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::text(raw).filter(|text| !text.is_empty())
}

fn is_error(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "false" | "\"\"" | "{}")
}

/// Whether clients see an error in a line.
pub(super) fn has_error(payload: &[u8]) -> bool {
    let text = std::str::from_utf8(payload).ok();
    let error = text.and_then(|text| Members::parse(text).ok()?.get("error"));
    error.is_some_and(is_error)
}
