//! Mirrored requests of a model: the `mirror` section. Data only. It must never send anything.

use std::num::NonZeroU32;

use super::Target;
use super::field::{Field, Section};
use super::model::{TARGET_KEYS, target};
use super::provider::Providers;
use super::reader::{Reader, Table};
use super::units::{COUNT, NONE, SHARE};

const TO: Section = Section::table(
    "to",
    "The target that gets a copy of requests, and whose answers nobody gets.",
    TARGET_KEYS,
)
.required();
const SHARE_OF_REQUESTS: Field<f64> =
    SHARE.key("share", "The share of the model's requests that are mirrored.").default("0.05");
const MOST: Field<NonZeroU32> = COUNT
    .key("most", "Mirrored requests at once; what is beyond them is not mirrored.")
    .default("20");

/// The mirrored requests of one model.
pub(super) const MIRROR: Section = Section::table(
    "mirror",
    "A copy of some requests is sent to another target, for comparison (docs/routing.md). Callers' prompts are sent there.",
    &[TO.key, SHARE_OF_REQUESTS.key, MOST.key],
)
.or(NONE.scalar)
.otherwise("`none`");

/// The mirrored requests of one model.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The target that gets them.
    pub to: Target,
    /// The share of the model's requests.
    pub share: f64,
    /// The most of them at once.
    pub most: u32,
}

impl Mirror {
    /// The same for a model of this name, which takes the place of a `*` in the target's.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { to: self.to.named(name), ..self.clone() }
    }
}

/// Reads the section of a model, which has these targets. `None`: nothing is mirrored.
pub(super) fn mirror(
    reader: &mut Reader<'_>,
    (model, targets): (&Table<'_>, &[Target]),
    providers: &Providers<'_>,
) -> Option<Mirror> {
    let table = reader.table_or_none(model, &MIRROR)?;
    reader.require(&table, &TO, "a target such as `{ provider: NAME, model: MODEL }`");
    let node = table.get(&TO);
    let to = node.and_then(|node| target(reader, (&TO, node), (1, providers)));
    let share = reader.value(&table, &SHARE_OF_REQUESTS);
    let most = reader.value(&table, &MOST).get();
    let (node, to) = (node?, to?);
    if targets.iter().any(|own| own.identity() == to.identity()) {
        let message =
            format!("{} is a target of the model, which gets its requests anyway", to.name());
        reader.warn(node.at, message);
    }
    Some(Mirror { to, share, most })
}
