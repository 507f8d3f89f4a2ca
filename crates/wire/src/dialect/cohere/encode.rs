//! Stream encoder: events of this dialect as received, or events made from deltas.
//!
//! Either way only `finish` ends a stream, with `message-end` and `[DONE]` or with an error. Contents
//! and tool calls are numbered apart; of each kind one is open at a time, and calls whose fragments
//! interleave wait for each other.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use super::answer::{citation, finish_reason, usage};
use super::{decode, error};
use crate::chat::{Delta, End, Stop, Usage};
use crate::citations::AnswerText;
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::{quoted, write_str};
use crate::scan::Scan;
use crate::sse;

const DONE: &[u8] = b"data: [DONE]\n\n";

/// Forwards events, or a whole answer, byte for byte.
#[derive(Debug)]
pub(super) struct Verbatim {
    /// Whether the answer is a stream.
    pub(super) stream: bool,
}

fn name(frame: &Frame) -> Option<&[u8]> {
    frame.event.as_deref().filter(|name| sse::is_name(name))
}

impl Encode for Verbatim {
    fn frame(&mut self, frame: &Frame, _deltas: &[Delta<'_>], out: &mut BytesMut) {
        if self.stream {
            sse::write(name(frame), &frame.data, out);
        } else {
            out.put_slice(&frame.data);
        }
    }

    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        if !self.stream {
            return;
        }
        let Some(fault) = end.fault() else {
            if let Some(frame) = last {
                sse::write(name(frame), &frame.data, out);
            }
            return out.put_slice(DONE);
        };
        let told = |frame: &&Frame| matches!(end, End::Failed(_)) && decode::has_error(&frame.data);
        if let Some(frame) = last.filter(told) {
            sse::write(name(frame), &frame.data, out);
        } else {
            // The vendor counts at the end only.
            let event = error::event(end, &fault, &Usage::default());
            sse::write(Some(b"message-end"), event.as_bytes(), out);
        }
    }
}

/// Writes deltas anew, as a stream.
#[derive(Debug)]
pub(super) struct Stream {
    id: String,
    started: bool,
    /// The kind of the content that is open.
    content: Option<Kind>,
    /// Its index, or that of the next one.
    contents: u64,
    /// The call that is open.
    call: Option<Open>,
    /// Calls that wait for it to end.
    waiting: VecDeque<Waiting>,
    /// The ordinal of the call that is open, or that comes next.
    calls: u32,
    citations: u64,
    /// The text that the citations refer to.
    said: AnswerText,
    called: bool,
    refused: bool,
    stop: Option<Stop>,
    usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

#[derive(Debug, Default)]
struct Open {
    scan: Scan,
    filled: bool,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    name: String,
    arguments: String,
}

impl Stream {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            id: call.id.clone(),
            started: false,
            content: None,
            contents: 0,
            call: None,
            waiting: VecDeque::new(),
            calls: 0,
            citations: 0,
            said: AnswerText::default(),
            called: false,
            refused: false,
            stop: None,
            usage: Usage::default(),
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.started, true) {
            let id = quoted(&self.id);
            let event = format!(
                r#"{{"id":{id},"type":"message-start","delta":{{"message":{{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}}}}"#
            );
            sse::write(Some(b"message-start"), event.as_bytes(), out);
        }
    }

    fn say(&mut self, kind: Kind, text: &str, out: &mut BytesMut) {
        let member = if kind == Kind::Text { "text" } else { "thinking" };
        if self.content != Some(kind) {
            self.start(out);
            self.end_call_if(false, out);
            self.end_content(out);
            let index = self.contents;
            let event = format!(
                r#"{{"type":"content-start","index":{index},"delta":{{"message":{{"content":{{"type":"{member}","{member}":""}}}}}}}}"#
            );
            sse::write(Some(b"content-start"), event.as_bytes(), out);
            self.content = Some(kind);
        }
        out.put_slice(b"event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":");
        out.put_slice(self.contents.to_string().as_bytes());
        out.put_slice(br#","delta":{"message":{"content":{""#);
        out.put_slice(member.as_bytes());
        out.put_slice(b"\":");
        write_str(text, out);
        out.put_slice(b"}}}}\n\n");
    }

    fn end_content(&mut self, out: &mut BytesMut) {
        if self.content.take().is_some() {
            let event = format!(r#"{{"type":"content-end","index":{}}}"#, self.contents);
            sse::write(Some(b"content-end"), event.as_bytes(), out);
            self.contents = self.contents.saturating_add(1);
        }
    }

    fn begin_call(&mut self, id: &str, name: &str, out: &mut BytesMut) {
        self.called = true;
        self.end_call_if(false, out);
        if self.call.is_some() {
            let (id, name) = (id.to_owned(), name.to_owned());
            return self.waiting.push_back(Waiting { id, name, arguments: String::new() });
        }
        self.start_call(id, name, out);
    }

    fn start_call(&mut self, id: &str, name: &str, out: &mut BytesMut) {
        self.start(out);
        self.end_content(out);
        let (index, id, name) = (self.calls, quoted(id), quoted(name));
        let event = format!(
            r#"{{"type":"tool-call-start","index":{index},"delta":{{"message":{{"tool_calls":{{"id":{id},"type":"function","function":{{"name":{name},"arguments":""}}}}}}}}}}"#
        );
        sse::write(Some(b"tool-call-start"), event.as_bytes(), out);
        self.call = Some(Open::default());
    }

    fn arguments(&mut self, call: u32, json: &str, out: &mut BytesMut) {
        let Some(ahead) = call.checked_sub(self.calls) else { return };
        if ahead > 0 {
            if let Some(waiting) = self.waiting.get_mut(ahead as usize - 1) {
                waiting.arguments.push_str(json);
            }
            return;
        }
        self.write_arguments(json, out);
        // Those that wait follow, up to one that is not whole itself.
        while !self.waiting.is_empty() && self.call.as_ref().is_some_and(|c| c.scan.is_complete()) {
            self.next_call(out);
        }
    }

    fn write_arguments(&mut self, json: &str, out: &mut BytesMut) {
        let Some(open) = self.call.as_mut() else { return };
        open.filled = true;
        open.scan.read(json);
        out.put_slice(b"event: tool-call-delta\ndata: {\"type\":\"tool-call-delta\",\"index\":");
        out.put_slice(self.calls.to_string().as_bytes());
        out.put_slice(br#","delta":{"message":{"tool_calls":{"function":{"arguments":"#);
        write_str(json, out);
        out.put_slice(b"}}}}}\n\n");
    }

    /// Ends the open call and begins the one that waits longest, with its arguments so far.
    fn next_call(&mut self, out: &mut BytesMut) {
        self.end_call_if(true, out);
        if let Some(Waiting { id, name, arguments }) = self.waiting.pop_front() {
            self.start_call(&id, &name, out);
            if !arguments.is_empty() {
                self.write_arguments(&arguments, out);
            }
        }
    }

    /// Ends the open call if its arguments are complete, or in any case if `whatever` is set.
    fn end_call_if(&mut self, whatever: bool, out: &mut BytesMut) {
        let Some(open) = self.call.take_if(|open| whatever || open.scan.is_complete()) else {
            return;
        };
        if !open.filled {
            // Clients parse the arguments that they have gathered.
            self.call = Some(open);
            self.write_arguments("{}", out);
            self.call = None;
        }
        let event = format!(r#"{{"type":"tool-call-end","index":{}}}"#, self.calls);
        sse::write(Some(b"tool-call-end"), event.as_bytes(), out);
        self.calls = self.calls.saturating_add(1);
    }

    fn cite(&mut self, source: &str, out: &mut BytesMut) {
        self.start(out);
        let index = self.citations;
        self.citations = index.saturating_add(1);
        let event = format!(
            r#"{{"type":"citation-start","index":{index},"delta":{{"message":{{"citations":{source}}}}}}}"#
        );
        sse::write(Some(b"citation-start"), event.as_bytes(), out);
        let event = format!(r#"{{"type":"citation-end","index":{index}}}"#);
        sse::write(Some(b"citation-end"), event.as_bytes(), out);
    }
}

impl Encode for Stream {
    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        for delta in deltas {
            match delta {
                Delta::Start { .. } => self.start(out),
                Delta::Text { choice: 0, text } => {
                    self.said.push(text);
                    self.say(Kind::Text, text, out);
                }
                // It has no place of its own here.
                Delta::Refusal { choice: 0, text } => {
                    self.refused = true;
                    self.say(Kind::Text, text, out);
                }
                Delta::Reasoning { choice: 0, text } => self.say(Kind::Thinking, text, out),
                Delta::ToolStart { choice: 0, id, name, .. } => self.begin_call(id, name, out),
                Delta::ToolArguments { choice: 0, call, json } => self.arguments(*call, json, out),
                Delta::Citation(source) => self.cite(&citation(source, &self.said), out),
                Delta::Usage(usage) => self.usage.replace_with(usage),
                Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
                _ => {}
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if let Some(fault) = end.fault() {
            // Nothing is closed: a client must not take half a tool call for a whole one.
            let event = error::event(end, &fault, &self.usage);
            return sse::write(Some(b"message-end"), event.as_bytes(), out);
        }
        self.start(out);
        let stop = self.stop.take().unwrap_or(Stop::End);
        if let Stop::Refusal(Some(explanation)) = &stop {
            self.say(Kind::Text, explanation, out);
        }
        self.end_content(out);
        while self.call.is_some() {
            self.next_call(out);
        }
        let reason = finish_reason(&stop, self.called, self.refused);
        let usage = usage(&self.usage);
        let event = format!(
            r#"{{"type":"message-end","delta":{{"finish_reason":"{reason}","usage":{usage}}}}}"#
        );
        sse::write(Some(b"message-end"), event.as_bytes(), out);
        out.put_slice(DONE);
    }
}
