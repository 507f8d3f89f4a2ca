//! Encoder: deltas to a stream or a whole response.
//!
//! Items follow each other and never overlap: while a call's arguments are half written, the pieces
//! of other items wait. A stream has one terminal event, which repeats the whole output; after a
//! failure nothing that was open is closed, so that half a call never looks whole.

use std::borrow::Cow;

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::calls::Shape;
use super::output::{Item, Part, Piece, Text, Waiting, annotation};
use super::response::{Head, Status};
use super::write_event::Events;
use crate::chat::{ApiError, Citation, Delta, End, Scheme, Stop, ToolForms, Usage};
use crate::continuation::Written;
use crate::dialect::{Encode, ResponseContext};
use crate::framing::Frame;
use crate::json::{self, Members};
use crate::seal;

/// Writes deltas anew.
#[derive(Debug)]
pub(super) struct Translated {
    stream: bool,
    head: Head,
    /// Forms of the functions in this dialect.
    tools: ToolForms,
    events: Events,
    started: bool,
    /// Items that are whole: id, status and content.
    done: Vec<(String, &'static str, Item)>,
    /// The place of the last of them that holds a text.
    last_text: Option<usize>,
    /// The item that is being written, and its id.
    open: Option<(String, Item)>,
    waiting: Waiting,
    /// Characters of answer text in parts that are whole.
    chars: u64,
    /// Sources that were received before any text.
    early: Vec<Citation>,
    /// Sources that were received after their text was done.
    late: Vec<Citation>,
    usage: Usage,
    stop: Option<Stop>,
    refused: bool,
}

impl Encode for Translated {
    /// With the identity of the response and of its message, and the numbers of the events that follow.
    fn resume(&mut self, written: &Written<'_>) -> bool {
        let head: Vec<Members<'_>> = written
            .head
            .iter()
            .filter_map(|payload| Members::parse(std::str::from_utf8(payload).ok()?).ok())
            .collect();
        let response = head.iter().find_map(|event| event.get("response"));
        let items: Vec<_> = head.iter().filter(|event| event.get("item").is_some()).collect();
        let (Some(response), [item]) = (response, items.as_slice()) else { return false };
        // Only the first item can be gone on with.
        let first = item.get("output_index").is_some_and(|index| index.get() == "0");
        let id = item.get("item").and_then(|item| member(item, "id"));
        let Some(id) = id.filter(|id| first && is_plain(id)) else { return false };
        let Some(created) = member_count(response, "created_at") else { return false };
        self.frame(&Frame::default(), &written.deltas, &mut BytesMut::new());
        self.head.resume(written.id, created);
        if let Some((own, _)) = &mut self.open {
            own.clone_from(&id);
        }
        self.events.resume((&id, 0), written.frames);
        true
    }

    /// Always: the `done` events and the last event repeat all content.
    fn keeps(&self, _delta: &Delta<'_>) -> bool {
        true
    }

    fn frame(&mut self, _frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        let mut deltas = deltas.iter().peekable();
        while let Some(delta) = deltas.next() {
            match delta {
                Delta::Text { choice: 0, text } => {
                    let follows =
                        |next: &&Delta<'_>| matches!(next, Delta::Logprobs { choice: 0, .. });
                    let logprobs = match deltas.next_if(follows) {
                        Some(Delta::Logprobs { items, .. }) => one_line(items),
                        _ => Cow::Borrowed(""),
                    };
                    self.piece(&Piece::Text(text, &logprobs), out);
                }
                delta => self.delta(delta, out),
            }
        }
    }

    fn finish(&mut self, end: &End, _last: Option<&Frame>, out: &mut BytesMut) {
        match end.fault() {
            None => self.complete(out),
            Some(fault) if self.stream => self.fail(&fault, out),
            Some(_) => {}
        }
    }
}

impl Translated {
    pub(super) fn new(call: &ResponseContext) -> Self {
        let head = Head::new(call);
        Self {
            stream: call.stream,
            tools: call.tool_forms.clone(),
            head,
            events: Events::new(!call.stream),
            started: false,
            done: Vec::new(),
            last_text: None,
            open: None,
            waiting: Waiting::default(),
            chars: 0,
            early: Vec::new(),
            late: Vec::new(),
            usage: Usage::default(),
            stop: None,
            refused: false,
        }
    }

    /// There are no alternatives here: all but the first are left out.
    fn delta(&mut self, delta: &Delta<'_>, out: &mut BytesMut) {
        match delta {
            Delta::Start { model, .. } => {
                if !model.is_empty() && !self.started {
                    self.head.model = model.to_string();
                }
                self.start(out);
            }
            Delta::Logprobs { choice: 0, items } => {
                self.piece(&Piece::Text("", &one_line(items)), out);
            }
            Delta::Refusal { choice: 0, text } => {
                self.refused = true;
                self.piece(&Piece::Refusal(text), out);
            }
            Delta::Reasoning { choice: 0, text } => self.piece(&Piece::Reasoning(text), out),
            Delta::Signature { value, scheme } => {
                let sealed = seal::shown(value, *scheme, false, Scheme::OpenAi);
                self.piece(&Piece::Sealed(&sealed, false), out);
            }
            Delta::RedactedReasoning { data, scheme } => {
                let sealed = seal::shown(data, *scheme, true, Scheme::OpenAi);
                self.piece(&Piece::Sealed(&sealed, true), out);
            }
            Delta::ToolStart { choice: 0, call, id, name } => {
                let form = self.tools.get(name).cloned();
                self.piece(&Piece::Tool { call: *call, id, name, form: form.as_ref() }, out);
            }
            Delta::ToolArguments { choice: 0, call, json } => {
                self.piece(&Piece::Json { call: *call, json }, out);
            }
            Delta::Citation(source) => self.cite(source, out),
            Delta::Search(run) => self.piece(&Piece::Search(run), out),
            Delta::Usage(usage) => self.usage.replace_with(usage),
            Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
            _ => {}
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        for word in ["created", "in_progress"] {
            let head = &self.head;
            self.events.lifecycle(word, out, |out| {
                head.write(Status::InProgress, &[], &Usage::default(), out);
            });
        }
    }

    /// State that follows a message waits for the next piece, since that may be a source, which belongs to
    /// the message.
    fn piece(&mut self, piece: &Piece<'_>, out: &mut BytesMut) {
        self.start(out);
        if matches!(self.open, Some((_, Item::Message(_)))) {
            if matches!(piece, Piece::Sealed(..)) {
                return self.waiting.add(piece);
            }
            self.release(out);
        }
        let open = self.open.as_ref().map(|(_, item)| item);
        if open.is_some_and(|item| item.takes(piece)) {
            self.write(piece, out);
            if self.open.as_ref().is_some_and(|(_, item)| item.may_end()) {
                self.release(out);
            }
        } else if open.is_none_or(Item::may_end) {
            if let Some(item) = Item::begun_by(piece) {
                self.open(item, out);
                self.write(piece, out);
            }
        } else {
            self.waiting.add(piece);
        }
    }

    /// The open item may end: those that waited for it follow, up to one that may not.
    fn release(&mut self, out: &mut BytesMut) {
        while self.open.as_ref().is_none_or(|(_, item)| item.may_end()) {
            let Some(item) = self.waiting.pop_front() else { return };
            self.replay(item, out);
        }
    }

    /// Writes an item that waited, and leaves it open.
    fn replay(&mut self, item: Item, out: &mut BytesMut) {
        match item {
            Item::Message(parts) => {
                self.open(Item::Message(Vec::new()), out);
                for part in &parts {
                    match part {
                        Part::Text(text) => {
                            self.write(&Piece::Text(&text.words, &text.logprobs), out);
                        }
                        Part::Refusal(words) => self.write(&Piece::Refusal(words), out),
                    }
                }
            }
            Item::Reasoning { text, sealed } => {
                self.open(Item::Reasoning { text: String::new(), sealed: None }, out);
                if !text.is_empty() {
                    self.write(&Piece::Reasoning(&text), out);
                }
                if let Some(value) = &sealed {
                    self.write(&Piece::Sealed(value, false), out);
                }
            }
            Item::Search(run) => self.open(Item::Search(run), out),
            Item::Call(call) => {
                let json = call.arguments.clone();
                let number = call.number;
                self.open(Item::Call(call.unsaid()), out);
                if !json.is_empty() {
                    self.write(&Piece::Json { call: number, json: &json }, out);
                }
            }
        }
    }

    fn open(&mut self, item: Item, out: &mut BytesMut) {
        self.close(false, out);
        let index = self.done.len();
        let id = format!("{}_{}_{index}", item.prefix(), self.head.id.trim_start_matches("resp_"));
        // An item without deltas begins when it is complete.
        if !item.is_told_whole() {
            self.events.item_added((&id, index), &item, out);
        }
        self.open = Some((id, item));
    }

    /// Writes a piece of the open item, and keeps it for the events that repeat the whole.
    fn write(&mut self, piece: &Piece<'_>, out: &mut BytesMut) {
        let Some((_, item)) = &mut self.open else { return };
        let parts = |item: &Item| if let Item::Message(parts) = item { parts.len() } else { 0 };
        let before = parts(item);
        let wordless = matches!(item, Item::Reasoning { text, .. } if text.is_empty());
        item.keep(piece);
        if parts(item) > before {
            self.next_part(before, out);
        }
        match piece {
            Piece::Text(text, logprobs) => self.events.text(text, logprobs, out),
            Piece::Refusal(words) => self.events.refusal(words, out),
            Piece::Reasoning(text) => {
                if wordless {
                    self.events.summary_added(out);
                }
                self.events.reasoning(text, out);
            }
            Piece::Json { json, .. } => {
                if let Some((_, Item::Call(call))) = &mut self.open {
                    match call.shape {
                        Shape::Arguments => self.events.arguments(false, json, out),
                        // Free text stands within JSON here.
                        Shape::Input => {
                            let text = call.fresh(false);
                            if !text.is_empty() {
                                self.events.arguments(true, &text, out);
                            }
                        }
                        Shape::Members(_) => {}
                    }
                }
            }
            Piece::Sealed(..) | Piece::Tool { .. } | Piece::Search(_) => {}
        }
    }

    /// The part before is whole, and the one with this number begins.
    fn next_part(&mut self, number: usize, out: &mut BytesMut) {
        let Some((_, Item::Message(parts))) = &self.open else { return };
        if let Some(before) = number.checked_sub(1).and_then(|number| parts.get(number)) {
            self.events.part_done(before, out);
            self.chars = self.chars.saturating_add(length(before));
        }
        if let Some(part) = parts.get(number) {
            self.events.part_added(number, part, out);
            if matches!(part, Part::Text(_)) {
                for source in std::mem::take(&mut self.early) {
                    self.cite(&source, out);
                }
            }
        }
    }

    /// A source for the text that is being written, else for the next if there was none. One that comes
    /// when its text is done belongs to it all the same, unless that was streamed: then it waits for the
    /// end.
    fn cite(&mut self, source: &Citation, out: &mut BytesMut) {
        if let Some((_, Item::Message(parts))) = &mut self.open
            && let Some(Part::Text(text)) = parts.last_mut()
        {
            if let Some(annotation) = annotation(source, self.chars, &text.index) {
                self.events.annotation(text.annotations.len(), &annotation, out);
                text.annotations.push(annotation);
            }
            return;
        }
        let last = self.last_text.and_then(|at| self.done.get_mut(at));
        let last = last.and_then(|(_, _, item)| last_text(item));
        match last.filter(|_| !self.waiting.has_message()) {
            Some(_) if self.stream => self.late.push(source.clone()),
            Some(text) => {
                let base = self.chars.saturating_sub(text.index.chars());
                text.annotations.extend(annotation(source, base, &text.index));
            }
            None => self.early.push(source.clone()),
        }
    }

    /// Sources whose text is done stand in a message of their own: finished items are not changed, and the
    /// terminal event repeats the items.
    fn cite_late(&mut self, out: &mut BytesMut) {
        self.late.retain(|source| source.address().is_some());
        if self.late.is_empty() {
            return;
        }
        let text = Part::Text(Text::default());
        self.open(Item::Message(vec![text]), out);
        self.next_part(0, out);
        for source in std::mem::take(&mut self.late) {
            self.cite(&Citation { start: None, end: None, mark: None, ..source }, out);
        }
    }

    /// The open item, if there is one, is done. It is incomplete if the answer was cut in it.
    fn close(&mut self, cut: bool, out: &mut BytesMut) {
        let Some((id, mut item)) = self.open.take() else { return };
        let place = (id.as_str(), self.done.len());
        match &mut item {
            Item::Message(parts) => {
                if let Some(part) = parts.last() {
                    self.events.part_done(part, out);
                    self.chars = self.chars.saturating_add(length(part));
                }
            }
            Item::Reasoning { text, .. } if text.is_empty() => {}
            Item::Reasoning { text, .. } => self.events.summary_done(text, out),
            Item::Search(_) => self.events.searched(out),
            Item::Call(call) => {
                let settled = call.settle();
                match call.shape {
                    Shape::Members(_) => self.events.item_added(place, &item, out),
                    Shape::Input => {
                        let text = call.fresh(true);
                        if !text.is_empty() {
                            self.events.arguments(true, &text, out);
                        }
                        self.events.arguments_done(call, out);
                    }
                    Shape::Arguments => {
                        if let Some(json) = settled {
                            self.events.arguments(false, json, out);
                        }
                        self.events.arguments_done(call, out);
                    }
                }
            }
        }
        let status = if cut || !item.may_end() { "incomplete" } else { "completed" };
        self.events.item_done(place, (&item, status), out);
        if last_text(&mut item).is_some() {
            self.last_text = Some(self.done.len());
        }
        self.done.push((id, status, item));
    }

    /// Everything up to the end of a good answer, and the terminal event or the whole.
    fn complete(&mut self, out: &mut BytesMut) {
        self.start(out);
        if let Some(Stop::Refusal(Some(words))) = &self.stop {
            let words = words.clone();
            self.piece(&Piece::Refusal(&words), out);
        }
        let status = Status::of(self.stop.as_ref(), self.refused);
        let cut = matches!(status, Status::Incomplete(_));
        while let Some(item) = self.waiting.pop_front() {
            self.replay(item, out);
        }
        self.cite_late(out);
        self.close(cut, out);
        let Self { head, events, done, usage, .. } = self;
        if self.stream {
            events.lifecycle(status.word(), out, |out| head.write(status, done, usage, out));
            events.done(out);
        } else {
            head.write(status, done, usage, out);
        }
    }

    fn fail(&mut self, fault: &ApiError, out: &mut BytesMut) {
        self.start(out);
        self.events.error(fault, out);
        let Self { head, events, done, usage, .. } = self;
        events.lifecycle("failed", out, |out| head.write(Status::Failed(fault), done, usage, out));
    }
}

fn member(object: &RawValue, name: &str) -> Option<String> {
    Some(json::text(Members::parse(object.get()).ok()?.get(name)?)?.into_owned())
}

fn member_count(object: &RawValue, name: &str) -> Option<u64> {
    json::count(Members::parse(object.get()).ok()?.get(name)?)
}

/// Whether an id needs no escapes.
fn is_plain(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// JSON that another made, fit for an event: outside of strings line breaks mean nothing, and inside
/// of them there are none.
fn one_line(json: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.replace(['\n', '\r'], " "))
}

fn last_text(item: &mut Item) -> Option<&mut Text> {
    let Item::Message(parts) = item else { return None };
    parts.iter_mut().rev().find_map(|part| match part {
        Part::Text(text) => Some(text),
        Part::Refusal(_) => None,
    })
}

/// Characters of answer text in a part.
fn length(part: &Part) -> u64 {
    match part {
        Part::Text(text) => text.index.chars(),
        Part::Refusal(_) => 0,
    }
}
