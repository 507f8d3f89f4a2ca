//! Request queue of a model: the `queue` section, and the class of a caller in it. Data only. It must never hold a
//! request.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::units::{COUNT, NAME_PATTERN, NONE, POSITIVE_DURATION};

/// The largest weight of a class.
const MAX_WEIGHT: u32 = 1000;

/// The classes where none are configured.
const CLASSES: [(&str, u32); 2] = [("interactive", 8), ("batch", 1)];

const MOST: Field<NonZeroU32> = COUNT
    .key("most", "Requests that may wait at once; those of one caller may be half of them.")
    .default("200");
const WAIT: Field<Duration> = POSITIVE_DURATION
    .key("wait", "The longest wait. A request that would wait longer is rejected at once.")
    .default("10s");
const WEIGHTS: Field<NonZeroU32> = Format::new(
    "whole number from 1 to 1000",
    "a whole number from 1 to 1000",
    Notation::Integer { min: 1, max: MAX_WEIGHT as u64, text: "\\+?[0-9]+" },
    |text| text.parse().ok().filter(|weight: &NonZeroU32| weight.get() <= MAX_WEIGHT),
)
.map(
    "classes",
    "Classes of requests by name, with the weight of each: the tokens that it gets while others wait as well.",
    NAME_PATTERN,
)
.otherwise("`{ interactive: 8, batch: 1 }`");

/// The class of a caller.
pub(super) const CLASS: Field<String> = Format::new(
    "name of a class",
    "a name of 1 to 64 letters, digits, `.`, `_` or `-`",
    Notation::Name(NAME_PATTERN),
    |text| is_name(text).then(|| text.to_owned()),
)
.key("class", "The class of the caller's requests in the `queue` of a model; in a queue without it, the heaviest one.")
.otherwise("the heaviest class")
.example("batch");

/// The queue of one model.
pub(super) const QUEUE: Section = Section::table(
    "queue",
    "Requests wait here while all targets of the model are full, instead of being rejected (docs/routing.md).",
    &[MOST.key, WAIT.key, WEIGHTS.key],
)
.or(NONE.scalar)
.otherwise("`none`");

/// A class of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueClass {
    /// Its name, in metrics as well.
    pub name: Arc<str>,
    /// The tokens that it gets, in proportion to those of the others.
    pub weight: NonZeroU32,
}

/// The queue of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The most requests that wait at once.
    pub most: usize,
    /// The longest wait.
    pub wait: Duration,
    /// Its classes, the heaviest first; never empty.
    pub classes: Vec<QueueClass>,
}

impl Queue {
    /// The class of a name.
    pub fn class_named(&self, name: &str) -> Option<&QueueClass> {
        self.classes.iter().find(|class| &*class.name == name)
    }

    /// The class of a request: the one that it asks for, if it is no heavier than that of its caller.
    pub fn class(&self, of_caller: Option<&str>, asked: Option<&str>) -> Option<&QueueClass> {
        let named = |name| self.class_named(name);
        let own = of_caller.and_then(named).or_else(|| self.classes.first())?;
        let lower = asked.and_then(named).filter(|class| class.weight <= own.weight);
        Some(lower.unwrap_or(own))
    }
}

fn is_name(text: &str) -> bool {
    let visible = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(visible)
}

/// Reads the section of a model. `None`: its requests do not wait.
pub(super) fn queue(reader: &mut Reader<'_>, model: &Table<'_>) -> Option<Arc<Queue>> {
    let table = reader.table_or_none(model, &QUEUE)?;
    let most = reader.value(&table, &MOST).get() as usize;
    let wait = reader.value(&table, &WAIT);
    let mut classes = Vec::new();
    let named = reader.entries(&table, &WEIGHTS);
    let is_empty = table.has(&WEIGHTS) && named.is_empty();
    for (name, node) in named {
        if !is_name(&name.text) {
            let expected = CLASS.format.scalar.expected();
            reader.report(name.at, format!("a class has an unusable name; expected {expected}"));
        }
        let weight = reader.scalar(&name.text, node, &WEIGHTS.format);
        classes.extend(weight.map(|weight| QueueClass { name: name.text.as_str().into(), weight }));
    }
    if is_empty {
        let message = "`classes` is empty; expected one class or more, such as `{ interactive: 8, batch: 1 }`";
        reader.report(table.location(&WEIGHTS), message);
    }
    if classes.is_empty() {
        let weight = |weight| NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN);
        let class = |(name, of): (&str, u32)| QueueClass { name: name.into(), weight: weight(of) };
        classes.extend(CLASSES.map(class));
    }
    classes.sort_by_key(|class| std::cmp::Reverse(class.weight));
    Some(Arc::new(Queue { most, wait, classes }))
}
