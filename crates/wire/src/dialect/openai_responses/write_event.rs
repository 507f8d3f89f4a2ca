//! The events of a stream, one function for each, numbered from 0 in the order in which they are
//! written. This module has their shapes only, not the rules for their order.

use bytes::{BufMut, BytesMut};

use super::calls::{Call, Shape};
use super::error;
use super::output::{Item, Part, Text, summary};
use crate::chat::ApiError;
use crate::json::{quoted, write_str};

/// Writes events, or nothing for a caller that requests the whole answer.
#[derive(Debug, Default)]
pub(super) struct Events {
    sequence: u64,
    muted: bool,
    /// Of the open item, with its place: `"item_id":..,"output_index":..`.
    place: String,
    /// The place within a message or a summary that is open.
    part: usize,
}

impl Events {
    pub(super) fn new(muted: bool) -> Self {
        Self { muted, ..Self::default() }
    }

    /// Events that continue a stream after so many.
    pub(super) fn after(sequence: u64) -> Self {
        Self { sequence, ..Self::default() }
    }

    /// Goes on with an item that is open, after so many events.
    pub(super) fn resume(&mut self, (id, index): (&str, usize), sequence: u64) {
        self.place = place(id, index);
        self.sequence = sequence;
    }

    fn write(&mut self, kind: &str, out: &mut BytesMut, rest: impl FnOnce(&mut BytesMut)) {
        if self.muted {
            return;
        }
        for piece in ["event: ", kind, "\ndata: {\"type\":\"", kind, "\",\"sequence_number\":"] {
            out.put_slice(piece.as_bytes());
        }
        // Writing to memory cannot fail.
        serde_json::to_writer(out.writer(), &self.sequence).unwrap_or_default();
        self.sequence = self.sequence.saturating_add(1);
        out.put_u8(b',');
        rest(out);
        out.put_slice(b"}\n\n");
    }

    /// `response.created` and its like, with the response object.
    pub(super) fn lifecycle(
        &mut self,
        word: &str,
        out: &mut BytesMut,
        response: impl FnOnce(&mut BytesMut),
    ) {
        self.write(&format!("response.{word}"), out, |out| {
            out.put_slice(br#""response":"#);
            response(out);
        });
    }

    /// An item begins: it becomes the open one.
    pub(super) fn item_added(
        &mut self,
        (id, index): (&str, usize),
        item: &Item,
        out: &mut BytesMut,
    ) {
        self.place = place(id, index);
        self.part = 0;
        let empty = match item {
            Item::Message(_) => Item::Message(Vec::new()),
            Item::Reasoning { .. } => Item::Reasoning { text: String::new(), sealed: None },
            Item::Call(call) => Item::Call(call.unsaid()),
            Item::Search(run) => Item::Search(run.clone()),
        };
        let begun = if item.is_told_whole() { item } else { &empty };
        self.write("response.output_item.added", out, |out| {
            out.put_slice(format!(r#""output_index":{index},"item":"#).as_bytes());
            begun.write(id, "in_progress", out);
        });
    }

    /// The open item is done.
    pub(super) fn item_done(
        &mut self,
        (id, index): (&str, usize),
        (item, status): (&Item, &str),
        out: &mut BytesMut,
    ) {
        self.write("response.output_item.done", out, |out| {
            out.put_slice(format!(r#""output_index":{index},"item":"#).as_bytes());
            item.write(id, status, out);
        });
    }

    /// An event about the open part of a message.
    fn of_part(&mut self, kind: &str, out: &mut BytesMut, rest: impl FnOnce(&mut BytesMut)) {
        self.of_item(kind, r#","content_index":"#, out, rest);
    }

    /// An event about the open part of a summary.
    fn of_summary(&mut self, kind: &str, out: &mut BytesMut, rest: impl FnOnce(&mut BytesMut)) {
        self.of_item(kind, r#","summary_index":"#, out, rest);
    }

    fn of_item(
        &mut self,
        kind: &str,
        index: &str,
        out: &mut BytesMut,
        rest: impl FnOnce(&mut BytesMut),
    ) {
        let place = std::mem::take(&mut self.place);
        let part = self.part;
        self.write(kind, out, |out| {
            out.put_slice(place.as_bytes());
            if !index.is_empty() {
                out.put_slice(index.as_bytes());
                // Writing to memory cannot fail.
                serde_json::to_writer(out.writer(), &part).unwrap_or_default();
            }
            rest(out);
        });
        self.place = place;
    }

    /// The part with this number begins; `part` is any of its kind.
    pub(super) fn part_added(&mut self, number: usize, part: &Part, out: &mut BytesMut) {
        self.part = number;
        let empty = match part {
            Part::Text(_) => Part::Text(Text::default()),
            Part::Refusal(_) => Part::Refusal(String::new()),
        };
        self.of_part("response.content_part.added", out, |out| {
            out.put_slice(br#","part":"#);
            empty.write(out);
        });
    }

    /// A fragment of text: the hot path.
    pub(super) fn text(&mut self, text: &str, logprobs: &str, out: &mut BytesMut) {
        self.of_part("response.output_text.delta", out, |out| {
            out.put_slice(br#","delta":"#);
            write_str(text, out);
            out.put_slice(br#","logprobs":["#);
            out.put_slice(logprobs.as_bytes());
            out.put_u8(b']');
        });
    }

    pub(super) fn refusal(&mut self, words: &str, out: &mut BytesMut) {
        self.of_part("response.refusal.delta", out, |out| delta(words, out));
    }

    pub(super) fn annotation(&mut self, number: usize, annotation: &str, out: &mut BytesMut) {
        self.of_part("response.output_text.annotation.added", out, |out| {
            let rest = format!(r#","annotation_index":{number},"annotation":{annotation}"#);
            out.put_slice(rest.as_bytes());
        });
    }

    /// The open part of a message is done.
    pub(super) fn part_done(&mut self, part: &Part, out: &mut BytesMut) {
        match part {
            Part::Text(text) => self.of_part("response.output_text.done", out, |out| {
                out.put_slice(br#","text":"#);
                write_str(&text.words, out);
                out.put_slice(br#","logprobs":["#);
                out.put_slice(text.logprobs.as_bytes());
                out.put_u8(b']');
            }),
            Part::Refusal(words) => self.of_part("response.refusal.done", out, |out| {
                out.put_slice(br#","refusal":"#);
                write_str(words, out);
            }),
        }
        self.of_part("response.content_part.done", out, |out| {
            out.put_slice(br#","part":"#);
            part.write(out);
        });
    }

    /// The summary of a reasoning item begins.
    pub(super) fn summary_added(&mut self, out: &mut BytesMut) {
        self.of_summary("response.reasoning_summary_part.added", out, |out| {
            out.put_slice(br#","part":"#);
            summary("", out);
        });
    }

    pub(super) fn reasoning(&mut self, text: &str, out: &mut BytesMut) {
        self.of_summary("response.reasoning_summary_text.delta", out, |out| delta(text, out));
    }

    /// The summary is whole.
    pub(super) fn summary_done(&mut self, text: &str, out: &mut BytesMut) {
        self.of_summary("response.reasoning_summary_text.done", out, |out| {
            out.put_slice(br#","text":"#);
            write_str(text, out);
        });
        self.of_summary("response.reasoning_summary_part.done", out, |out| {
            out.put_slice(br#","part":"#);
            summary(text, out);
        });
    }

    /// A fragment of a call's arguments, or of its free text.
    pub(super) fn arguments(&mut self, free: bool, json: &str, out: &mut BytesMut) {
        let kind = if free {
            "response.custom_tool_call_input.delta"
        } else {
            "response.function_call_arguments.delta"
        };
        self.of_item(kind, "", out, |out| delta(json, out));
    }

    /// They are whole.
    pub(super) fn arguments_done(&mut self, call: &Call, out: &mut BytesMut) {
        let (kind, name) = if matches!(call.shape, Shape::Input) {
            ("response.custom_tool_call_input.done", "input")
        } else {
            ("response.function_call_arguments.done", "arguments")
        };
        self.of_item(kind, "", out, |out| {
            let said = quoted(&call.said());
            out.put_slice(format!(r#","name":{},"{name}":{said}"#, quoted(&call.name)).as_bytes());
        });
    }

    /// The end, as the published specification has it: `data: [DONE]`.
    pub(super) fn done(&self, out: &mut BytesMut) {
        if !self.muted {
            crate::sse::write(None, b"[DONE]", out);
        }
    }

    /// The open item is a search, which has been made.
    pub(super) fn searched(&mut self, out: &mut BytesMut) {
        for word in ["in_progress", "searching", "completed"] {
            self.of_item(&format!("response.web_search_call.{word}"), "", out, |_| {});
        }
    }

    /// Writes the `error` event.
    pub(super) fn error(&mut self, fault: &ApiError, out: &mut BytesMut) {
        if !self.muted {
            let payload = error::event(fault, self.sequence);
            crate::sse::write(Some(b"error"), payload.as_bytes(), out);
            self.sequence = self.sequence.saturating_add(1);
        }
    }
}

fn delta(text: &str, out: &mut BytesMut) {
    out.put_slice(br#","delta":"#);
    write_str(text, out);
}

/// The members of an event about an item.
fn place(id: &str, index: usize) -> String {
    format!(r#""item_id":"{id}","output_index":{index}"#)
}
