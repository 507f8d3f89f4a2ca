//! Fragments of tool calls, assigned to their calls.
//!
//! Upstreams number calls from 0, from 1, all alike or not at all, repeat ids or leave them out. The
//! resulting calls are always numbered without gaps, in the order of appearance, and have unique ids.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::decode::{Fragments, Slot};
use super::event::{Function, ToolPart, thought_signature};
use crate::chat::{Delta, Scheme};
use crate::codec::call_ids::CallIds;
use crate::json;
use crate::scan::Scan;

/// The ids that an answer has used.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// The answer's own id, from which missing ones are made up: the same bytes give the same ids.
    pub(super) answer: String,
    used: CallIds,
}

impl Ids {
    /// The upstream's id if it is there and new, else one of our own.
    fn unique<'f>(&mut self, said: &str, choice: u32, ordinal: u32) -> Cow<'f, str> {
        let letters = self.answer.chars().rev().filter(char::is_ascii_alphanumeric);
        let tail: Vec<char> = letters.take(12).collect();
        let ours = || {
            let tail: String = tail.iter().rev().collect();
            match choice {
                0 => format!("call_{tail}_{ordinal}"),
                _ => format!("call_{tail}_{choice}_{ordinal}"),
            }
        };
        self.used.or(Cow::Owned(said.to_owned()), ours)
    }
}

/// One call in the making.
#[derive(Debug, Default)]
struct Call {
    /// The upstream's id for it, which may come late.
    id: String,
    /// The number in the output, once the name is known and the call was announced.
    ordinal: Option<u32>,
    /// Arguments that were received before the name.
    early: String,
    /// Whether its arguments are whole.
    scan: Scan,
}

/// The calls of one alternative.
#[derive(Debug, Default)]
pub(super) struct Calls {
    list: Vec<Call>,
    /// The place of the last call with each of the upstream's numbers.
    by_index: HashMap<u32, usize>,
    /// The place of the last call with each of the upstream's ids.
    by_id: HashMap<String, usize>,
    announced: u32,
    /// The bytes of ids, and of arguments that were received before their name.
    kept: usize,
}

impl Calls {
    /// Whether any call was announced.
    pub(super) fn any(&self) -> bool {
        self.announced > 0
    }

    /// Whether the arguments of every call are whole JSON objects, as far as can be seen from where
    /// they end. Without calls they are.
    pub(super) fn are_whole(&self) -> bool {
        self.list.iter().all(|call| call.scan.is_complete())
    }

    /// The bytes that they keep.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// Number of calls, announced or not.
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// Reads one fragment. `position` is its place in the array, or `None` if it stood alone there.
    pub(super) fn part<'f>(
        &mut self,
        part: &ToolPart<'f>,
        position: Option<usize>,
        context: &mut Context<'_>,
        out: &mut Vec<Delta<'f>>,
    ) {
        let index = part.index.and_then(|raw| raw.get().parse().ok());
        let id = part.id.and_then(json::text).unwrap_or_default();
        let name = part.function.as_ref().and_then(|function| function.name);
        let name = name.and_then(json::text).unwrap_or_default();
        let arguments = part.function.as_ref().and_then(|function| function.arguments);
        let begins = !name.is_empty() && arguments.is_some_and(is_object);
        let at = self.find((index, &id), (!name.is_empty(), begins), position);
        let at = at.unwrap_or_else(|| {
            self.list.push(Call::default());
            let at = self.list.len() - 1;
            self.by_index.extend(index.map(|index| (index, at)));
            at
        });
        let Some(call) = self.list.get_mut(at) else {
            return;
        };
        let before = call.id.len() + call.early.len();
        if call.id.is_empty() && !id.is_empty() {
            call.id = id.into_owned();
            let last = self.by_id.entry(call.id.clone()).or_insert(at);
            *last = at.max(*last);
        }
        if call.ordinal.is_none() && !name.is_empty() {
            let ordinal = self.announced;
            self.announced += 1;
            call.ordinal = Some(ordinal);
            let choice = context.choice;
            let id = context.ids.unique(&call.id, choice, ordinal);
            if let Some(value) = part.extra_content.and_then(thought_signature) {
                out.push(Delta::Signature { value: Cow::Owned(value), scheme: Scheme::Gemini });
            }
            out.push(Delta::ToolStart { choice, call: ordinal, id, name });
            if !call.early.is_empty() {
                let json = Cow::Owned(std::mem::take(&mut call.early));
                out.push(Delta::ToolArguments { choice, call: ordinal, json });
            }
        }
        if let Some(raw) = arguments {
            call.arguments(raw, at, context, out);
        }
        self.kept = self.kept + call.id.len() + call.early.len() - before;
    }

    /// A fragment in the form that preceded `tool_calls`: one call, without id or number.
    pub(super) fn legacy<'f>(
        &mut self,
        function: Function<'f>,
        context: &mut Context<'_>,
        out: &mut Vec<Delta<'f>>,
    ) {
        self.part(
            &ToolPart { index: None, id: None, function: Some(function), extra_content: None },
            None,
            context,
            out,
        );
    }

    /// By number if there is one, else by id, else by place, else the last. A name together with
    /// another id under the same number is a new call, and so is one that `begins` its arguments
    /// where those of a call are whole and no ids distinguish the two.
    fn find(
        &self,
        (index, id): (Option<u32>, &str),
        (named, begins): (bool, bool),
        position: Option<usize>,
    ) -> Option<usize> {
        if let Some(index) = index {
            let at = *self.by_index.get(&index)?;
            let known = self.list.get(at)?;
            let told = !id.is_empty() && !known.id.is_empty();
            let other =
                if told { named && known.id != id } else { begins && known.scan.is_complete() };
            return (!other).then_some(at);
        }
        if !id.is_empty()
            && let Some(at) = self.by_id.get(id)
        {
            return Some(*at);
        }
        if named {
            return None;
        }
        position.filter(|at| *at < self.list.len()).or_else(|| self.list.len().checked_sub(1))
    }
}

impl Call {
    fn arguments<'f>(
        &mut self,
        raw: &'f RawValue,
        at: usize,
        context: &mut Context<'_>,
        out: &mut Vec<Delta<'f>>,
    ) {
        let json = if raw.get().starts_with(['{', '[']) {
            Some(Cow::Borrowed(raw.get()))
        } else {
            context.fragments.read(Slot::Arguments(at), raw)
        };
        if let Some(json) = &json {
            self.scan.read(json);
        }
        match (json, self.ordinal) {
            (None, _) => {}
            (Some(json), Some(call)) => {
                out.push(Delta::ToolArguments { choice: context.choice, call, json });
            }
            (Some(json), None) => self.early.push_str(&json),
        }
    }
}

/// Whether arguments begin with their first character, as an object or as a text that holds one.
fn is_object(raw: &RawValue) -> bool {
    let text = raw.get();
    text.strip_prefix('"').unwrap_or(text).trim_start().starts_with('{')
}

/// Where a fragment stands.
pub(super) struct Context<'c> {
    /// Which alternative.
    pub(super) choice: u32,
    /// The ids of the whole answer.
    pub(super) ids: &'c mut Ids,
    /// The fragments of the alternative.
    pub(super) fragments: &'c mut Fragments,
}
