//! Continuation of answers that break off: the policy of a model, and the ways of providers' models. It must never guess
//! what a model can do.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::field::{Field, Format, Notation, Section};
use super::pattern;
use super::reader::{Reader, Table};
use super::tree::Value;
use super::units::{ANY_PATTERN, BOOLEAN, TEXT};
use super::{Provider, Target};
use crate::wire::continuation::Method;

/// The most continuations of one answer.
const MAX_CONTINUATIONS: u64 = 2;

const METHODS: Format<Method> =
    Format::choice(|| Method::ALL.iter().map(|(name, _)| *name).collect(), Method::by_name);
/// The ways of a provider's models.
pub(super) const OF_MODELS: Field<Method> = METHODS
    .map(
        "continuation",
        "The way in which models go on with an unfinished turn of their own, by patterns of their names; the first that matches counts, others are `none`.",
        ANY_PATTERN,
    )
    .example("{ \"*\": vllm }");
/// The way of a target's model.
pub(super) const OF_TARGET: Field<Method> = METHODS
    .key("continuation", "The way in which the model goes on with an unfinished turn of its own.")
    .otherwise("that of the provider")
    .example("prefill");

const MOST: Field<NonZeroU32> = Format::new(
    "1 or 2",
    "`1` or `2`",
    Notation::Integer { min: 1, max: MAX_CONTINUATIONS, text: "\\+?0*[12]" },
    |text| text.parse().ok().filter(|most: &NonZeroU32| u64::from(most.get()) <= MAX_CONTINUATIONS),
)
.key("most", "The most upstream requests for the rest of one answer.")
.default("1");
const INSTRUCT: Field<bool> = BOOLEAN
    .key(
        "instruct",
        "Whether targets may be asked in a turn of the user (`continuation: instruct`).",
    )
    .default("false");
const TOOLS: Field<bool> = BOOLEAN
    .key("tools", "Whether answers to requests with tools are continued, if no call has begun.")
    .default("false");
const MARKS: [(&str, Mark); 2] = [("comment", Mark::Comment), ("none", Mark::None)];
const MARK: Field<Mark> = Format::choice(
    || MARKS.iter().map(|(name, _)| *name).collect(),
    |text| MARKS.iter().find(|(name, _)| *name == text).map(|(_, mark)| *mark),
)
.key(
    "mark",
    "The mark in the stream where the other target begins: a comment, which clients skip, or none.",
)
.default("comment");
const INSTRUCTION: Field<String> =
    TEXT.key("instruction", "The words of that turn.").default(DEFAULT_INSTRUCTION);
const DEFAULT_INSTRUCTION: &str = "Your answer above was cut off. Repeat its last 60 characters exactly, then go on from there. Write nothing else.";
const CONTINUE: Section = Section::table(
    "continue",
    "Another target that can goes on with the answer.",
    &[MOST.key, INSTRUCT.key, TOOLS.key, MARK.key, INSTRUCTION.key],
);
const ERROR: Format<()> =
    Format::new("`error`", "`error`", Notation::Choice(|| vec!["error"]), |text| {
        (text == "error").then_some(())
    });
/// The consequence of an answer that breaks off.
pub(super) const ON_BREAK: Section = Section::table(
    "on_break",
    "The consequence of an answer that breaks off: an error, or `{ continue: {} }` (docs/routing.md).",
    &[CONTINUE.key],
)
.or(ERROR.scalar)
.otherwise("`error`");

/// The policy for answers that break off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continue {
    /// The most upstream requests for the rest of one answer.
    pub most: NonZeroU32,
    /// Whether models may be asked in a turn of the user.
    pub instruct: bool,
    /// Whether requests may have tools.
    pub tools: bool,
    /// The mark in the stream.
    pub mark: Mark,
    /// The words of the user's turn.
    pub instruction: Arc<str>,
}

impl Continue {
    /// Whether a target may be asked to go on with an answer.
    pub fn may_ask(&self, target: &Target) -> bool {
        match target.continuation() {
            Method::None => false,
            Method::Instruct => self.instruct,
            Method::Prefill | Method::Prefix | Method::Vllm => true,
        }
    }
}

/// The mark in a stream where another target begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A comment, where clients skip comments.
    Comment,
    /// None.
    None,
}

/// Reads the policy of a model. `None`: an answer that breaks off ends with an error.
pub(super) fn on_break(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Arc<Continue>> {
    let node = model.get(&ON_BREAK)?;
    if matches!(node.value, Value::Text(_)) {
        let expected = "`error`, or `{ continue: {} }`";
        reader.parsed(ON_BREAK.name, node, (expected, ERROR.parse));
        return None;
    }
    let table = reader.table(ON_BREAK.name, node, &ON_BREAK)?;
    reader.require(&table, &CONTINUE, "`continue: {}`");
    let node = table.get(&CONTINUE)?;
    let table = reader.table(CONTINUE.name, node, &CONTINUE)?;
    Some(Arc::new(Continue {
        most: reader.value(&table, &MOST),
        instruct: reader.value(&table, &INSTRUCT),
        tools: reader.value(&table, &TOOLS),
        mark: reader.value(&table, &MARK),
        instruction: reader.value(&table, &INSTRUCTION).into(),
    }))
}

/// Reads the ways of a provider's models.
pub(super) fn of_models(reader: &mut Reader<'_>, provider: &Table<'_>) -> Vec<(String, Method)> {
    let entries = reader.entries(provider, &OF_MODELS);
    let read = |(key, node): (&super::tree::Name, _)| {
        Some((key.text.clone(), reader.scalar(&key.text, node, &OF_MODELS.format)?))
    };
    entries.into_iter().filter_map(read).collect()
}

/// Warns of a policy that no target can follow.
pub(super) fn check(
    reader: &mut Reader<'_>,
    model: &Table<'_>,
    policy: Option<&Continue>,
    targets: &[Target],
) {
    let Some(policy) = policy else { return };
    if !targets.is_empty() && !targets.iter().any(|target| policy.may_ask(target)) {
        let message = "`on_break` has `continue`, and no target can; expected a target with `continuation`, such as `prefill`";
        reader.warn(model.location(&ON_BREAK), message);
    } else if targets.len() == 1 {
        let message = "`on_break` has `continue`, and there is one target; expected another one, which goes on when it breaks";
        reader.warn(model.location(&ON_BREAK), message);
    }
    if policy.mark == Mark::None {
        let message =
            "`mark: none` hides from callers that two models wrote an answer; expected `comment`";
        reader.warn(model.location(&ON_BREAK), message);
    }
}

impl Provider {
    /// The way in which a model goes on with an unfinished turn of its own.
    pub fn continuation(&self, model: &str) -> Method {
        let mut known = self.continuation.iter();
        let found = known.find(|(name, _)| pattern::matches(name, model));
        found.map_or(Method::None, |(_, method)| *method)
    }
}
