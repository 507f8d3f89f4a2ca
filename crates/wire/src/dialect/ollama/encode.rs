//! Stream encoder: lines of this dialect as received, or lines made from deltas.
//!
//! Either way only `finish` ends a stream, with the last line or with an error and never with both. Some
//! clients (`ollama-ai-provider-v2`) skip a line that is no piece of an answer, so that a stream that
//! failed has its body cut, which every client reports.

use bytes::{BufMut, Bytes, BytesMut};

use super::calls::Calls;
use super::line::{Said, head, head_at, put, put_end, reason};
use super::{decode, error};
use crate::chat::{Delta, End, Stop, Usage};
use crate::continuation::Written;
use crate::dialect::{Encode, Ending, ResponseContext};
use crate::framing::Frame;
use crate::json::Members;

/// Forwards lines, or a whole answer, byte for byte.
#[derive(Debug)]
pub(super) struct Verbatim {
    /// Whether the answer is a stream.
    stream: bool,
    ending: Ending,
}

impl Verbatim {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self { stream: call.stream, ending: Ending::Closed }
    }
}

/// A body that is cut after its error.
const CUT: Ending = Ending::Aborted { error: Bytes::new() };

impl Encode for Verbatim {
    fn frame(&mut self, frame: &Frame, _deltas: &[Delta<'_>], out: &mut BytesMut) {
        out.put_slice(&frame.data);
        if self.stream {
            out.put_u8(b'\n');
        }
    }

    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        if !self.stream {
            return;
        }
        let told = |frame: &&Frame| match end {
            End::Complete => true,
            End::Failed(_) => decode::has_error(&frame.data),
            _ => false,
        };
        let fault = end.fault();
        if fault.is_some() {
            self.ending = CUT;
        }
        match (last.filter(told), fault) {
            (Some(frame), _) => out.put_slice(&frame.data),
            (None, Some(fault)) => out.put_slice(error::body(&fault).as_bytes()),
            (None, None) => return,
        }
        out.put_u8(b'\n');
    }

    fn ending(&mut self) -> Ending {
        std::mem::take(&mut self.ending)
    }
}

/// Writes deltas anew, as a stream.
#[derive(Debug)]
pub(super) struct Stream {
    call: ResponseContext,
    /// The start of every line. Built for the first one, when the upstream has sent its model.
    head: Vec<u8>,
    calls: Calls,
    refused: bool,
    stop: Option<Stop>,
    usage: Usage,
    ending: Ending,
}

impl Stream {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            call: call.clone(),
            head: Vec::new(),
            calls: Calls::default(),
            refused: false,
            stop: None,
            usage: Usage::default(),
            ending: Ending::Closed,
        }
    }

    fn begin(&mut self, said: &Said<'_>, out: &mut BytesMut) {
        if self.head.is_empty() {
            self.head = head(&self.call).into_bytes();
        }
        out.put_slice(&self.head);
        put(self.call.form, said, out);
    }

    fn line(&mut self, said: &Said<'_>, out: &mut BytesMut) {
        self.begin(said, out);
        out.put_slice(b",\"done\":false}\n");
    }

    /// The calls that are whole, each in a line of its own; at the `end` the others, too.
    fn hand_out_calls(&mut self, end: bool, out: &mut BytesMut) {
        let mut call = BytesMut::new();
        while self.calls.next(end, &mut call) {
            self.line(&Said { calls: &call, ..Said::default() }, out);
            call.clear();
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, logprobs: &str, out: &mut BytesMut) {
        match delta {
            Delta::Start { model, .. } if !model.is_empty() => self.call.model = model.to_string(),
            Delta::Text { choice: 0, text } => {
                self.line(&Said { text, logprobs, ..Said::default() }, out);
            }
            Delta::Logprobs { choice: 0, items } => {
                self.line(&Said { logprobs: items, ..Said::default() }, out);
            }
            // It has no place of its own here.
            Delta::Refusal { choice: 0, text } => {
                self.refused = true;
                self.line(&Said { text, ..Said::default() }, out);
            }
            Delta::Reasoning { choice: 0, text } => {
                self.line(&Said { thinking: text, ..Said::default() }, out);
            }
            Delta::ToolStart { choice: 0, id, name, .. } => self.calls.begin(id, name),
            Delta::ToolArguments { choice: 0, call, json } => {
                self.calls.add(*call, json);
                self.hand_out_calls(false, out);
            }
            Delta::Usage(usage) => self.usage.replace_with(usage),
            Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
            _ => {}
        }
    }
}

impl Encode for Stream {
    /// With the time of the first line.
    fn resume(&mut self, written: &Written<'_>) -> bool {
        self.frame(&Frame::default(), &written.deltas, &mut BytesMut::new());
        let first = written.head.iter().find_map(|line| {
            let members = Members::parse(std::str::from_utf8(line).ok()?).ok()?;
            Some(head_at(&self.call, members.get("created_at")?.get()))
        });
        self.head = first.map_or_else(|| std::mem::take(&mut self.head), String::into_bytes);
        true
    }

    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        let mut deltas = deltas.iter().peekable();
        while let Some(delta) = deltas.next() {
            let is_text = matches!(delta, Delta::Text { choice: 0, .. });
            let follows =
                |next: &&Delta<'_>| is_text && matches!(next, Delta::Logprobs { choice: 0, .. });
            let logprobs = match deltas.next_if(follows) {
                Some(Delta::Logprobs { items, .. }) => items.as_ref(),
                _ => "",
            };
            self.delta(delta, logprobs, out);
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        if let Some(fault) = end.fault() {
            // Nothing is closed: a client must not take half a tool call for a whole one.
            self.ending = CUT;
            out.put_slice(error::body(&fault).as_bytes());
            return out.put_u8(b'\n');
        }
        self.hand_out_calls(true, out);
        let stop = self.stop.take().unwrap_or(Stop::End);
        if let Stop::Refusal(Some(explanation)) = &stop {
            self.line(&Said { text: explanation, ..Said::default() }, out);
        }
        self.begin(&Said::default(), out);
        put_end(reason(&stop, self.refused), &self.usage, out);
        out.put_u8(b'\n');
    }
    fn ending(&mut self) -> Ending {
        std::mem::take(&mut self.ending)
    }
}
