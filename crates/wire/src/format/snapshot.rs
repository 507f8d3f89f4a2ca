//! The format `snapshot`: the sum of a generation's events so far, as one JSON document. It must never look complete
//! before the event that says so.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::framing::Frame;
use crate::sse::Framer;

/// Adds up the events of one generation, in the format `events`.
#[derive(Debug)]
pub struct Snapshot {
    framer: Framer,
    text: String,
    reasoning: String,
    calls: Vec<Call>,
    /// The targets that went on with the answer, each when the one before it had broken off.
    continued: Vec<String>,
    usage: Option<Box<RawValue>>,
    stop: Option<String>,
    end: Option<Ended>,
}

/// A tool call so far.
#[derive(Debug, Serialize)]
struct Call {
    id: String,
    name: String,
    /// JSON text.
    arguments: String,
}

/// The data of `end`.
#[derive(Debug, Deserialize)]
struct Ended {
    state: String,
    error: Option<Box<RawValue>>,
}

/// The members of all other events.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Members<'d> {
    #[serde(borrow)]
    text: Cow<'d, str>,
    index: usize,
    #[serde(borrow)]
    id: Cow<'d, str>,
    #[serde(borrow)]
    name: Cow<'d, str>,
    #[serde(borrow)]
    arguments: Cow<'d, str>,
    #[serde(borrow)]
    reason: Cow<'d, str>,
    #[serde(borrow)]
    target: Cow<'d, str>,
}

#[derive(Serialize)]
struct Document<'s> {
    stream: &'s str,
    state: &'s str,
    text: &'s str,
    reasoning: &'s str,
    tool_calls: &'s [Call],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    continued: &'s [String],
    usage: Option<&'s RawValue>,
    stop_reason: Option<&'s str>,
    error: Option<&'s RawValue>,
    position: &'s str,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            // Events of the gateway's own are as large as the frames that they are made of.
            framer: Framer::new(usize::MAX),
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            continued: Vec::new(),
            usage: None,
            stop: None,
            end: None,
        }
    }
}

impl Snapshot {
    /// Reads bytes of the format `events`, cut anywhere. Events of other kinds, as those between them, are ignored.
    pub fn push(&mut self, events: &Bytes) {
        let mut frames = Vec::new();
        // No event exceeds the cap.
        self.framer.push(events, &mut frames).unwrap_or_default();
        for frame in &frames {
            self.read(frame);
        }
    }

    /// The bytes that it holds.
    pub fn kept(&self) -> usize {
        let call = |call: &Call| call.id.len() + call.name.len() + call.arguments.len();
        let calls: usize = self.calls.iter().map(call).sum();
        self.framer.buffered() + self.text.len() + self.reasoning.len() + calls
    }

    /// The document. `stream`: the generation's id; `position`: that of its last event.
    pub fn document(&self, stream: &str, position: &str) -> String {
        let document = Document {
            stream,
            state: self.end.as_ref().map_or("streaming", |end| &end.state),
            text: &self.text,
            reasoning: &self.reasoning,
            tool_calls: &self.calls,
            continued: &self.continued,
            usage: self.usage.as_deref(),
            stop_reason: self.stop.as_deref(),
            error: self.end.as_ref().and_then(|end| end.error.as_deref()),
            position,
        };
        // Strings and numbers can always be written.
        serde_json::to_string(&document).unwrap_or_default()
    }

    fn read(&mut self, frame: &Frame) {
        let data = frame.data.as_ref();
        let members = || serde_json::from_slice::<Members<'_>>(data).unwrap_or_default();
        match frame.event.as_deref() {
            Some(b"text") => self.text.push_str(&members().text),
            Some(b"reasoning") => self.reasoning.push_str(&members().text),
            Some(b"tool_call") => {
                let Members { id, name, .. } = members();
                let (id, name) = (id.into_owned(), name.into_owned());
                self.calls.push(Call { id, name, arguments: String::new() });
            }
            Some(b"tool_arguments") => {
                let Members { index, arguments, .. } = members();
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(&arguments);
                }
            }
            Some(b"continued") => self.continued.push(members().target.into_owned()),
            Some(b"usage") => self.usage = serde_json::from_slice(data).ok(),
            Some(b"stop") => self.stop = Some(members().reason.into_owned()),
            Some(b"end") => self.end = serde_json::from_slice(data).ok(),
            _ => {}
        }
    }
}
