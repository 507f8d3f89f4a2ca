//! Arguments that come value by value, each with its place (Vertex): put together to JSON again.
//!
//! Places that make no sense are left out; nothing grows by more than was sent.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::event::PartialArg;
use crate::json::{quoted, replace_lone_surrogates, text};

/// Maximum depth of a value.
const DEEPEST: usize = 64;

/// The arguments so far.
#[derive(Debug)]
pub(super) enum Node {
    Object(Object),
    Array(Vec<Self>),
    /// A text, which may grow.
    Text(String),
    /// A number, `true`, `false` or `null`.
    Plain(String),
}

/// The members of an object, in order.
#[derive(Debug, Default)]
pub(super) struct Object {
    members: Vec<(String, Node)>,
    places: HashMap<String, usize>,
}

enum Step {
    Name(String),
    Index(usize),
}

impl Node {
    /// No arguments yet.
    pub(super) fn new() -> Self {
        Self::Object(Object::default())
    }

    /// Puts a value, or the next fragment of a text, in its place.
    pub(super) fn put(&mut self, arg: &PartialArg<'_>) {
        let path = arg.json_path.and_then(text).unwrap_or_default();
        let Some(steps) = steps(&path).filter(|steps| !steps.is_empty()) else { return };
        let plain = |raw: &RawValue| Self::Plain(replace_lone_surrogates(raw.get()).into_owned());
        let value = match (arg.string_value.and_then(text), arg.number_value.or(arg.bool_value)) {
            (Some(words), _) => Self::Text(words.into_owned()),
            (None, Some(raw)) => plain(raw),
            (None, None) => Self::Plain("null".to_owned()),
        };
        let Some(place) = steps.iter().try_fold(self, Self::step) else { return };
        match (place, value) {
            (Self::Text(words), Self::Text(more)) => words.push_str(&more),
            (place, value) => *place = value,
        }
    }

    /// The place below this one, made if it is not there.
    fn step(&mut self, step: &Step) -> Option<&mut Self> {
        let blank = matches!(self, Self::Plain(text) if text.is_empty());
        match step {
            Step::Name(name) => {
                if blank {
                    *self = Self::new();
                }
                let Self::Object(Object { members, places }) = self else { return None };
                let at = *places.entry(name.clone()).or_insert(members.len());
                if at == members.len() {
                    members.push((name.clone(), Self::Plain(String::new())));
                }
                members.get_mut(at).map(|(_, value)| value)
            }
            Step::Index(index) => {
                if blank {
                    *self = Self::Array(Vec::new());
                }
                let Self::Array(items) = self else { return None };
                // In order, without gaps: a gap could be as wide as a number can be.
                if *index == items.len() {
                    items.push(Self::Plain(String::new()));
                }
                items.get_mut(*index)
            }
        }
    }

    /// As JSON.
    pub(super) fn json(&self, out: &mut String) {
        match self {
            Self::Object(Object { members, .. }) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    out.push_str(&quoted(name));
                    out.push(':');
                    value.json(out);
                }
                out.push('}');
            }
            Self::Array(items) => {
                out.push('[');
                for (at, value) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    value.json(out);
                }
                out.push(']');
            }
            Self::Text(words) => out.push_str(&quoted(words)),
            Self::Plain(json) if json.is_empty() => out.push_str("null"),
            Self::Plain(json) => out.push_str(json),
        }
    }
}

/// The steps of `$.a.b[0]['c']`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == DEEPEST {
            return None;
        }
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (name, tail) = name.split_at_checked(end)?;
            steps.push(Step::Name(name.to_owned()));
            rest = tail;
            continue;
        }
        let inner = rest.strip_prefix('[')?;
        let quote = inner.chars().next().filter(|first| matches!(first, '\'' | '"'));
        let (step, tail) = if let Some(quote) = quote {
            let (name, tail) = inner.get(1..)?.split_once(quote)?;
            (Step::Name(name.to_owned()), tail.strip_prefix(']')?)
        } else {
            let (index, tail) = inner.split_once(']')?;
            (Step::Index(index.parse().ok()?), tail)
        };
        steps.push(step);
        rest = tail;
    }
    Some(steps)
}
