//! The output items of an answer that is being read: the item of each fragment, and the content of an item
//! that its events have not sent when it is done.
//!
//! No content is emitted twice: content that came in fragments is not read again from the whole item.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::event::{Event, Item, Part, citation, filled, list, number};
use super::search;
use crate::chat::{Delta, Scheme, Stop};
use crate::codec::call_ids::CallIds;
use crate::codec::split_surrogate::SplitSurrogate;
use crate::{json, logprobs};

type Raw<'a> = Option<&'a RawValue>;

/// The most items that are open at once. Vendors open one after another; an upstream that opens more than this
/// without an end loses the oldest, so that looking for one stays cheap.
const MAX_OPEN: usize = 128;

/// Between parts of a summary, which read as paragraphs.
const PARAGRAPH: &str = "\n\n";

/// The items of one answer.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// Those that have begun and are not done.
    open: Vec<Open>,
    seen: bool,
    refused: bool,
    /// Tool calls that were announced.
    calls: u32,
    ids: CallIds,
    /// Characters of answer text so far.
    chars: u64,
}

#[derive(Debug)]
struct Open {
    index: Option<u64>,
    id: String,
    body: Body,
    split: SplitSurrogate,
}

#[derive(Debug)]
enum Body {
    Message(Message),
    Reasoning {
        /// Some content has been emitted.
        said: bool,
        /// Which part spoke last: of the text itself or of its summary, and its number.
        part: Option<(bool, u64)>,
    },
    Call(Call),
    /// A call of a tool that the vendor runs, or another item without counterpart.
    Hosted,
}

#[derive(Debug, Default)]
struct Message {
    /// Characters of answer text before this message.
    start: u64,
    /// Number of the current part. With it: characters of answer text before the part, and whether the part
    /// has emitted content.
    part: Option<u64>,
    base: u64,
    part_said: bool,
    /// Text has been emitted. With it: whether citations have been.
    said: bool,
    cited: bool,
}

#[derive(Debug, Default)]
struct Call {
    /// Its number, once its name is known and it was announced.
    number: Option<u32>,
    /// A tool that takes free text, which becomes the `input` of an object.
    free: bool,
    /// Arguments that were received before the name.
    early: String,
    said: bool,
}

impl Items {
    /// The bytes of ids, and of arguments that were received before their name.
    pub(super) fn kept(&self) -> usize {
        let early = |open: &Open| match &open.body {
            Body::Call(call) => call.early.len(),
            _ => 0,
        };
        self.open.iter().map(|open| open.id.len() + early(open)).sum()
    }

    /// Whether there were any.
    pub(super) fn any(&self) -> bool {
        self.seen
    }

    /// The stop reason of an answer that is only marked as complete.
    pub(super) fn stop(&self) -> Stop {
        match (self.calls, self.refused) {
            (1.., _) => Stop::ToolUse,
            (0, true) => Stop::Refusal(None),
            (0, false) => Stop::End,
        }
    }

    /// An item begins. One that still has its place is done.
    pub(super) fn added<'f>(&mut self, event: &Event<'f>, out: &mut Vec<Delta<'f>>) {
        let Some(item) = event.item.and_then(read) else { return };
        let index = number(event.output_index);
        let same = |open: &Open| index.is_some() && open.index == index;
        if let Some(at) = self.open.iter().position(same) {
            let open = self.open.remove(at);
            self.rest(open, None, out);
        }
        let open = self.begin(&item, index, out);
        self.keep(open);
    }

    /// An item is done: emits the content that has not been emitted yet.
    pub(super) fn done<'f>(&mut self, event: &Event<'f>, out: &mut Vec<Delta<'f>>) {
        let Some(item) = event.item.and_then(read) else { return };
        let index = number(event.output_index);
        let id = item.id.and_then(json::text).unwrap_or_default();
        let at = self.open.iter().rposition(|open| match index {
            Some(_) => open.index == index,
            None => open.id == id,
        });
        let open = match at {
            Some(at) => self.open.remove(at),
            None => self.begin(&item, index, out),
        };
        self.rest(open, Some(&item), out);
    }

    /// An item that no event has announced.
    pub(super) fn whole<'f>(&mut self, item: &Item<'f>, out: &mut Vec<Delta<'f>>) {
        let open = self.begin(item, None, out);
        self.rest(open, Some(item), out);
    }

    /// The answer is over: items that are still open get no more.
    pub(super) fn close_all(&mut self, out: &mut Vec<Delta<'_>>) {
        for open in std::mem::take(&mut self.open) {
            self.rest(open, None, out);
        }
    }

    /// Answer text: a fragment, or with `fresh` unset a whole part, which counts if no fragment came.
    pub(super) fn text<'f>(
        &mut self,
        event: &Event<'f>,
        raw: Raw<'f>,
        fresh: bool,
        out: &mut Vec<Delta<'f>>,
    ) {
        let chars = self.chars;
        let Some((message, split)) = self.message(event) else { return };
        message.enter(number(event.content_index), chars);
        if !fresh && message.part_said {
            return;
        }
        if let Some(text) = raw.and_then(|raw| split.join(raw)) {
            message.says();
            self.chars = chars.saturating_add(text.chars().count() as u64);
            out.push(Delta::Text { choice: 0, text });
        }
        logprobs(event.logprobs, out);
    }

    /// The text of a refusal; `fresh` as for texts.
    pub(super) fn refusal<'f>(
        &mut self,
        event: &Event<'f>,
        raw: Raw<'f>,
        fresh: bool,
        out: &mut Vec<Delta<'f>>,
    ) {
        let chars = self.chars;
        let Some((message, split)) = self.message(event) else { return };
        message.enter(number(event.content_index), chars);
        if !fresh && message.part_said {
            return;
        }
        if let Some(text) = raw.and_then(|raw| split.join(raw)) {
            message.says();
            self.refused = true;
            out.push(Delta::Refusal { choice: 0, text });
        }
    }

    /// Reasoning: a fragment of its summary or of its text, or a whole part.
    pub(super) fn reasoning<'f>(
        &mut self,
        event: &Event<'f>,
        (number_of, is_text): (Raw<'f>, bool),
        fresh: bool,
        out: &mut Vec<Delta<'f>>,
    ) {
        let begin = || Body::Reasoning { said: false, part: None };
        let open = self.find(event, |body| matches!(body, Body::Reasoning { .. }), begin);
        let Some(Open { body: Body::Reasoning { said, part }, split, .. }) = open else { return };
        let this = (is_text, number(number_of).unwrap_or_default());
        if !fresh && *part == Some(this) {
            return;
        }
        let Some(text) = raw_of(event, fresh).and_then(|raw| split.join(raw)) else { return };
        if *said && *part != Some(this) {
            out.push(Delta::Reasoning { choice: 0, text: Cow::Borrowed(PARAGRAPH) });
        }
        (*said, *part) = (true, Some(this));
        out.push(Delta::Reasoning { choice: 0, text });
    }

    /// A fragment of a function call's arguments, which some servers send as the object itself;
    /// `fresh` as for texts.
    pub(super) fn arguments<'f>(
        &mut self,
        event: &Event<'f>,
        raw: Raw<'f>,
        fresh: bool,
        out: &mut Vec<Delta<'f>>,
    ) {
        let begin = || Body::Call(Call::default());
        let open = self.find(event, |body| matches!(body, Body::Call(_)), begin);
        let Some(Open { body: Body::Call(call), split, .. }) = open else { return };
        if !fresh && call.said {
            return;
        }
        let json = raw.and_then(|raw| {
            if raw.get().starts_with('{') {
                Some(Cow::Borrowed(raw.get()))
            } else {
                split.join(raw)
            }
        });
        if let Some(json) = json {
            call.says(json, out);
        }
    }

    /// A fragment of a custom tool's input: its own escapes are right within a JSON string, too.
    pub(super) fn input<'f>(
        &mut self,
        event: &Event<'f>,
        raw: Raw<'f>,
        fresh: bool,
        out: &mut Vec<Delta<'f>>,
    ) {
        let begin = || Body::Call(Call { free: true, ..Call::default() });
        let open = self.find(event, |body| matches!(body, Body::Call(_)), begin);
        let Some(Open { body: Body::Call(call), .. }) = open else { return };
        if let Some(literal) = raw.and_then(inside).filter(|_| fresh || !call.said) {
            call.says(Cow::Borrowed(literal), out);
        }
    }

    /// A source for a stretch of the text.
    pub(super) fn annotation<'f>(&mut self, event: &Event<'f>, out: &mut Vec<Delta<'f>>) {
        let chars = self.chars;
        let Some((message, _)) = self.message(event) else { return };
        message.enter(number(event.content_index), chars);
        if let Some(source) = event.annotation.and_then(|raw| citation(raw, message.base)) {
            message.cited = true;
            out.push(Delta::Citation(source));
        }
    }

    fn message(&mut self, event: &Event<'_>) -> Option<(&mut Message, &mut SplitSurrogate)> {
        let start = self.chars;
        let begin = || Body::Message(Message { start, base: start, ..Message::default() });
        let open = self.find(event, |body| matches!(body, Body::Message(_)), begin)?;
        match &mut open.body {
            Body::Message(message) => Some((message, &mut open.split)),
            _ => None,
        }
    }

    /// The item of an event: by its place, else by its id, else the last of its kind. An event
    /// without an item opens one, since some servers leave the beginning out.
    fn find(
        &mut self,
        event: &Event<'_>,
        fits: fn(&Body) -> bool,
        begin: impl FnOnce() -> Body,
    ) -> Option<&mut Open> {
        let index = number(event.output_index);
        let id = || event.item_id.and_then(json::text).unwrap_or_default();
        let at = if index.is_some() {
            self.open.iter().rposition(|open| open.index == index)
        } else {
            let id = id();
            let known = self.open.iter().rposition(|open| !id.is_empty() && open.id == id);
            known.or_else(|| self.open.iter().rposition(|open| fits(&open.body)))
        };
        let at = at.unwrap_or_else(|| {
            let id = id().into_owned();
            self.seen = true;
            self.keep(Open { index, id, body: begin(), split: SplitSurrogate::default() });
            self.open.len() - 1
        });
        self.open.get_mut(at)
    }

    fn keep(&mut self, open: Open) {
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(open);
    }

    fn begin<'f>(&mut self, item: &Item<'f>, index: Option<u64>, out: &mut Vec<Delta<'f>>) -> Open {
        self.seen = true;
        let id = item.id.and_then(json::text).unwrap_or_default().into_owned();
        let kind = item.kind.and_then(json::text).unwrap_or_default();
        let body = match kind.as_ref() {
            "message" => {
                let start = self.chars;
                Body::Message(Message { start, base: start, ..Message::default() })
            }
            "reasoning" => Body::Reasoning { said: false, part: None },
            "function_call" | "custom_tool_call" => {
                let mut call = Call { free: kind == "custom_tool_call", ..Call::default() };
                if filled(item.name).is_some() {
                    self.announce(&mut call, Some(item), out);
                }
                Body::Call(call)
            }
            _ => {
                out.push(Delta::Opaque);
                Body::Hosted
            }
        };
        Open { index, id, body, split: SplitSurrogate::default() }
    }

    fn announce<'f>(&mut self, call: &mut Call, item: Option<&Item<'f>>, out: &mut Vec<Delta<'f>>) {
        let number = self.calls;
        self.calls = self.calls.saturating_add(1);
        call.number = Some(number);
        let said = item.and_then(|item| filled(item.call_id).or_else(|| filled(item.id)));
        let said = said.unwrap_or_default();
        let id = self.ids.numbered(said, "call", number);
        let name = item.and_then(|item| filled(item.name)).unwrap_or_default();
        out.push(Delta::ToolStart { choice: 0, call: number, id, name });
        if call.free {
            let json = Cow::Borrowed(r#"{"input":""#);
            out.push(Delta::ToolArguments { choice: 0, call: number, json });
        }
        if !call.early.is_empty() {
            let json = Cow::Owned(std::mem::take(&mut call.early));
            out.push(Delta::ToolArguments { choice: 0, call: number, json });
        }
    }

    /// Emits the content of the whole item that its events did not send.
    fn rest<'f>(&mut self, open: Open, item: Option<&Item<'f>>, out: &mut Vec<Delta<'f>>) {
        match open.body {
            Body::Message(message) => {
                if let Some(item) = item {
                    self.rest_of_message(&message, item, out);
                }
            }
            Body::Reasoning { said, .. } => {
                if let Some(item) = item {
                    rest_of_reasoning(said, item, out);
                }
            }
            Body::Call(mut call) => {
                if call.number.is_none() {
                    self.announce(&mut call, item, out);
                }
                call.rest(item, out);
            }
            Body::Hosted => out.extend(item.and_then(search::read).map(Delta::Search)),
        }
    }

    fn rest_of_message<'f>(
        &mut self,
        message: &Message,
        item: &Item<'f>,
        out: &mut Vec<Delta<'f>>,
    ) {
        let mut base = message.start;
        for part in list::<Part<'f>>(item.content) {
            let text = filled(part.text);
            let length = text.as_ref().map_or(0, |text| text.chars().count() as u64);
            if let Some(text) = text.filter(|_| !message.said) {
                self.chars = self.chars.saturating_add(length);
                out.push(Delta::Text { choice: 0, text });
                logprobs(part.logprobs, out);
            }
            if let Some(text) = filled(part.refusal).filter(|_| !message.said) {
                self.refused = true;
                out.push(Delta::Refusal { choice: 0, text });
            }
            if !message.cited {
                let sources = list::<&'f RawValue>(part.annotations);
                out.extend(
                    sources.into_iter().filter_map(|raw| citation(raw, base)).map(Delta::Citation),
                );
            }
            base = base.saturating_add(length);
        }
    }
}

/// A delta carries its fragment, an end the whole.
fn raw_of<'f>(event: &Event<'f>, fresh: bool) -> Raw<'f> {
    if fresh { event.delta } else { event.text }
}

/// The state that only the vendor can read is emitted when the item is done, since it may be incomplete
/// before. With text it is the text's signature, without text it is the whole reasoning.
fn rest_of_reasoning<'f>(mut said: bool, item: &Item<'f>, out: &mut Vec<Delta<'f>>) {
    if !said {
        let summary = list::<Part<'f>>(item.summary);
        let parts = if summary.is_empty() { list::<Part<'f>>(item.content) } else { summary };
        for text in parts.into_iter().filter_map(|part| filled(part.text)) {
            if said {
                out.push(Delta::Reasoning { choice: 0, text: Cow::Borrowed(PARAGRAPH) });
            }
            said = true;
            out.push(Delta::Reasoning { choice: 0, text });
        }
    }
    let scheme = Scheme::OpenAi;
    match filled(item.encrypted_content) {
        Some(value) if said => out.push(Delta::Signature { value, scheme }),
        Some(data) => out.push(Delta::RedactedReasoning { data, scheme }),
        None => {}
    }
}

impl Message {
    fn enter(&mut self, part: Option<u64>, chars: u64) {
        let part = part.or(self.part).or(Some(0));
        if self.part != part {
            (self.part, self.base, self.part_said) = (part, chars, false);
        }
    }

    fn says(&mut self) {
        (self.said, self.part_said) = (true, true);
    }
}

impl Call {
    fn says<'f>(&mut self, json: Cow<'f, str>, out: &mut Vec<Delta<'f>>) {
        self.said = true;
        match self.number {
            Some(call) => out.push(Delta::ToolArguments { choice: 0, call, json }),
            None => self.early.push_str(&json),
        }
    }

    /// Ends a call that was announced, with the arguments that have not been emitted.
    fn rest<'f>(&mut self, item: Option<&Item<'f>>, out: &mut Vec<Delta<'f>>) {
        if let Some(item) = item.filter(|_| !self.said) {
            let whole = match (self.free, item.arguments) {
                (true, _) => item.input.and_then(inside).map(Cow::Borrowed),
                (false, Some(raw)) if raw.get().starts_with('{') => Some(Cow::Borrowed(raw.get())),
                (false, raw) => filled(raw),
            };
            if let Some(json) = whole {
                self.says(json, out);
            }
        }
        if self.free {
            self.says(Cow::Borrowed("\"}"), out);
        }
    }
}

fn read(raw: &RawValue) -> Option<Item<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// A string literal without its quotes; nothing if there is nothing in it.
fn inside(raw: &RawValue) -> Option<&str> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    (!inner.is_empty()).then_some(inner)
}

fn logprobs<'f>(raw: Raw<'f>, out: &mut Vec<Delta<'f>>) {
    let items = raw.and_then(logprobs::elements);
    out.extend(items.map(|items| Delta::Logprobs { choice: 0, items }));
}
