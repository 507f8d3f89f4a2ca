//! Fallbacks of a model: the `fallback` section, with targets for errors that the caller causes. Data only. It must never
//! decide about an error.

use super::field::{Field, Format, Notation, Section};
use super::model::{TARGET_KEYS, targets};
use super::provider::Providers;
use super::reader::{Reader, Table};
use super::routing::Pick;
use super::{Target, model};

const CONTEXT: Section = Section::list(
    "context",
    "Targets for prompts that are too long for all of `targets`, in this order.",
    TARGET_KEYS,
);
const CONTENT_POLICY: Section = Section::list(
    "content_policy",
    "Targets for requests that a content filter of one of `targets` has rejected, in this order.",
    TARGET_KEYS,
);
const ON_STATUS: Field<u16> = Format::new(
    "status from 400 to 499",
    "a status from 400 to 499",
    Notation::Integer { min: 400, max: 499, text: "4[0-9][0-9]" },
    |text| text.parse().ok().filter(|status| (400..=499).contains(status)),
)
.list(
    "on_status",
    "Statuses of errors that the caller causes after which the next target is tried all the same.",
);

/// The fallbacks of one model.
pub(super) const FALLBACK: Section = Section::table(
    "fallback",
    "What is tried after errors that the caller causes (docs/routing.md).",
    &[CONTEXT.key, CONTENT_POLICY.key, ON_STATUS.key],
);

/// The fallbacks of one model.
#[derive(Debug, Clone, Default)]
pub struct Fallback {
    /// For prompts that are too long for its targets.
    pub context: Vec<Target>,
    /// For requests that a content filter has rejected.
    pub content_policy: Vec<Target>,
    /// Statuses after which the next target is tried.
    pub on_status: Vec<u16>,
}

impl Fallback {
    /// All of its targets.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.context.iter().chain(&self.content_policy)
    }

    /// The same for the model of this name, which stands for a `*`.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let named = |target: &Target| target.named(name);
        Self {
            context: self.context.iter().map(named).collect(),
            content_policy: self.content_policy.iter().map(named).collect(),
            on_status: self.on_status.clone(),
        }
    }
}

/// Reads the section of a model with these targets.
pub(super) fn fallback(
    reader: &mut Reader<'_>,
    of: (&Table<'_>, &[Target]),
    providers: &Providers<'_>,
) -> Option<Fallback> {
    let (parent, primary) = of;
    if !parent.has(&FALLBACK) {
        return None;
    }
    let table = reader.section(parent, &FALLBACK);
    let mut list = |section: &Section| {
        let items = reader.list(&table, section).unwrap_or_default();
        targets(reader, items, Pick::Order, providers)
    };
    let (context, content_policy) = (list(&CONTEXT), list(&CONTENT_POLICY));
    // Where one is unknown, it may be the largest.
    let known: Option<Vec<u64>> = primary.iter().map(|target| target.context).collect();
    if let Some(room) = known.and_then(|known| known.into_iter().max())
        && context.iter().any(|target| target.context.is_some_and(|context| context <= room))
    {
        let message = format!(
            "a target of `context` takes no more than the {room} tokens of the model's own targets; expected a larger `{}`",
            model::CONTEXT.name
        );
        reader.warn(table.location(&CONTEXT), message);
    }
    let on_status = reader.values(&table, &ON_STATUS).unwrap_or_default();
    Some(Fallback { context, content_policy, on_status })
}
