//! Prices: the `price` of a target, and the part of the price catalog that a provider has. It must never compute a cost.

use std::sync::Arc;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::units::TOKENS;
use crate::prices::{CATALOG, ModelPrice, Price, Rate, Rates, Tier};

const RATE: Format<Rate> = Format::new(
    "dollars per million tokens",
    "dollars per million tokens such as `2.5`, with at most six digits after the point",
    Notation::Number { min: 0.0, max: 1e9 },
    |text| text.parse().ok(),
);

const INPUT: Field<Rate> = RATE.key("input", "Input, but for the classes below.").required();
const CACHE_READ: Field<Rate> = RATE
    .key("cache_read", "Input that is read from the provider's prompt cache.")
    .otherwise("that of `input`");
const CACHE_WRITE: Field<Rate> = RATE
    .key("cache_write", "Input that is written to the provider's prompt cache.")
    .otherwise("that of `input`");
const OUTPUT: Field<Rate> = RATE.key("output", "Output, but for reasoning.").required();
const REASONING: Field<Rate> = RATE.key("reasoning", "Reasoning.").otherwise("that of `output`");
const OVER: Field<u64> = TOKENS
    .key("over", "Input tokens, cached ones included, above which these rates hold for all tokens.")
    .required();

const TIERS: Section = Section::list(
    "tiers",
    "Rates of requests with more input; a rate that is not stated is that of `price`.",
    &[
        OVER.key,
        RATE.key("input", "Input.").otherwise("that of `price`").key,
        CACHE_READ.otherwise("that of `price`").key,
        CACHE_WRITE.otherwise("that of `price`").key,
        RATE.key("output", "Output.").otherwise("that of `price`").key,
        REASONING.otherwise("that of `price`").key,
    ],
);

/// The price of a target.
pub(super) const PRICE: Section = Section::table(
    "price",
    "Price in dollars per million tokens, for costs in the access log and in metrics.",
    &[INPUT.key, CACHE_READ.key, CACHE_WRITE.key, OUTPUT.key, REASONING.key, TIERS.key],
)
.otherwise("that of the price catalog; unknown if it has none");

/// The name of a provider in the price catalog.
pub(super) const PRICE_CATALOG: Field<Option<String>> = Format::choice(
    || {
        let mut names: Vec<_> = CATALOG.providers().collect();
        names.sort_unstable();
        names
    },
    |text| CATALOG.providers().find(|name| *name == text).map(|name| Some(name.to_owned())),
)
.or_none(|text| {
    let known = || CATALOG.providers().find(|name| *name == text).map(|name| Some(name.to_owned()));
    if text == "none" { Some(None) } else { known() }
})
.key(
    "price_catalog",
    "The provider whose list prices hold for models without a `price` (src/prices/catalog.json).",
)
.otherwise(
    "that of the preset, or of the vendor at its own address; elsewhere, prices are unknown",
);

/// Reads the price of a target.
pub(super) fn price(reader: &mut Reader<'_>, target: &Table<'_>) -> Option<Arc<ModelPrice>> {
    let node = target.get(&PRICE)?;
    let table = reader.table(PRICE.name, node, &PRICE)?;
    reader.require(&table, &INPUT, "a rate, `0` if it is free");
    reader.require(&table, &OUTPUT, "a rate, `0` if it is free");
    let rates = rates(reader, &table);
    let mut tiers: Vec<Tier> = Vec::new();
    for node in reader.list(&table, &TIERS).unwrap_or_default() {
        let Some(table) = reader.table(TIERS.name, node, &TIERS) else { continue };
        reader.require(&table, &OVER, "a number of tokens");
        let (over, rates) = (reader.field(&table, &OVER), self::rates(reader, &table));
        let Some(over) = over else { continue };
        if tiers.last().is_some_and(|last| last.over >= over) {
            let message = "`over` is not above that of the tier before it; expected tiers in order, the lowest first";
            reader.report(table.location(&OVER), message);
        }
        tiers.push(Tier { over, rates });
    }
    Some(Arc::new(ModelPrice(vec![Price { rates, tiers, ..Price::default() }])))
}

fn rates(reader: &mut Reader<'_>, table: &Table<'_>) -> Rates {
    Rates {
        input: reader.field(table, &INPUT),
        cache_read: reader.field(table, &CACHE_READ),
        cache_write: reader.field(table, &CACHE_WRITE),
        output: reader.field(table, &OUTPUT),
        reasoning: reader.field(table, &REASONING),
    }
}
