//! Price catalog: list prices of models at well-known providers, as data in `catalog.json`, which `update.py` writes. It
//! must never be fetched, and never name a provider in code.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::money::Rate;
use super::price::{ModelPrice, Period, Price, Rates, Tier};

const FILE: &str = include_str!("catalog.json");

/// The catalog of this version.
pub static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    // The tests read the file; a mistake in it could only hide prices.
    Catalog::parse(FILE).unwrap_or_default()
});

/// List prices by provider.
#[derive(Debug, Default, Deserialize)]
pub struct Catalog {
    /// The package that it was made from, its version and its date.
    pub source: String,
    /// The date of its prices, in ISO 8601.
    pub date: String,
    providers: HashMap<String, ProviderPrices>,
}

#[derive(Debug, Deserialize)]
struct ProviderPrices {
    /// The providers whose prices count where it has none.
    fallback: Vec<String>,
    models: Vec<ModelEntry>,
    /// The models by the names that they match exactly.
    #[serde(skip)]
    exact: HashMap<String, usize>,
}

#[derive(Debug, Deserialize)]
struct ModelEntry {
    #[serde(rename = "match")]
    matches: Match,
    #[serde(deserialize_with = "prices")]
    prices: Arc<ModelPrice>,
}

/// A condition on a model's name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[serde(from = "(Cow<'_, str>, MatchValue)")]
enum Match {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    /// A prefix, and after it nothing but a date.
    Dated(String),
    Any(Vec<Self>),
    All(Vec<Self>),
    /// The opposite of `Any`.
    None(Vec<Self>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MatchValue {
    Text(String),
    List(Vec<Match>),
}

impl From<(Cow<'_, str>, MatchValue)> for Match {
    fn from((kind, value): (Cow<'_, str>, MatchValue)) -> Self {
        match (&*kind, value) {
            ("equals", MatchValue::Text(text)) => Self::Equals(text),
            ("starts_with", MatchValue::Text(text)) => Self::StartsWith(text),
            ("ends_with", MatchValue::Text(text)) => Self::EndsWith(text),
            ("contains", MatchValue::Text(text)) => Self::Contains(text),
            ("dated", MatchValue::Text(text)) => Self::Dated(text),
            ("all", MatchValue::List(list)) => Self::All(list),
            ("none", MatchValue::List(list)) => Self::None(list),
            ("any", MatchValue::List(list)) => Self::Any(list),
            // Matches nothing.
            _ => Self::Any(Vec::new()),
        }
    }
}

impl Match {
    fn is_for(&self, name: &str) -> bool {
        match self {
            Self::Equals(text) => name == text,
            Self::StartsWith(text) => name.starts_with(text.as_str()),
            Self::EndsWith(text) => name.ends_with(text.as_str()),
            Self::Contains(text) => name.contains(text.as_str()),
            Self::Dated(prefix) => name.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
            }),
            Self::Any(list) => list.iter().any(|one| one.is_for(name)),
            Self::All(list) => list.iter().all(|one| one.is_for(name)),
            Self::None(list) => !list.iter().any(|one| one.is_for(name)),
        }
    }

    /// The names that it matches exactly.
    fn exact(&self) -> Vec<&str> {
        match self {
            Self::Equals(text) => vec![text],
            Self::Any(list) => list.iter().flat_map(Self::exact).collect(),
            _ => Vec::new(),
        }
    }
}

impl Catalog {
    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut catalog: Self = serde_json::from_str(text)?;
        for provider in catalog.providers.values_mut() {
            for (at, model) in provider.models.iter().enumerate() {
                for name in model.matches.exact() {
                    provider.exact.entry(name.to_owned()).or_insert(at);
                }
            }
        }
        Ok(catalog)
    }

    /// The names of its providers.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(String::as_str)
    }

    /// The price of a provider's model. A name that is listed exactly comes before patterns, of which the first counts.
    pub fn price(&self, provider: &str, model: &str) -> Option<Arc<ModelPrice>> {
        let own = self.providers.get(provider)?;
        let found = own.price(model);
        let others =
            || own.fallback.iter().find_map(|other| self.providers.get(other)?.price(model));
        found.or_else(others).cloned()
    }
}

impl ProviderPrices {
    fn price(&self, model: &str) -> Option<&Arc<ModelPrice>> {
        let exact = self.exact.get(model).and_then(|at| self.models.get(*at));
        let matching = || self.models.iter().find(|entry| entry.matches.is_for(model));
        exact.or_else(matching).map(|entry| &entry.prices)
    }
}

/// A price as the file has it.
#[derive(Deserialize)]
struct PriceEntry {
    from: Option<u64>,
    hours: Option<(u64, u64)>,
    service_tier: Option<String>,
    #[serde(flatten)]
    rates: RateEntries,
    #[serde(default)]
    tiers: Vec<TierEntry>,
}

#[derive(Deserialize)]
struct TierEntry {
    over: u64,
    #[serde(flatten)]
    rates: RateEntries,
}

#[derive(Deserialize)]
struct RateEntries {
    input: Option<String>,
    cache_read: Option<String>,
    cache_write: Option<String>,
    output: Option<String>,
    reasoning: Option<String>,
}

fn prices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<ModelPrice>, D::Error> {
    let entries = Vec::<PriceEntry>::deserialize(deserializer)?;
    let prices: Option<Vec<Price>> = entries.iter().map(PriceEntry::price).collect();
    prices
        .map(|prices| Arc::new(ModelPrice(prices)))
        .ok_or_else(|| D::Error::custom("a rate or a time"))
}

impl PriceEntry {
    fn price(&self) -> Option<Price> {
        let tier = |tier: &TierEntry| Some(Tier { over: tier.over, rates: tier.rates.rates()? });
        Some(Price {
            period: Period { from: self.from, hours: self.hours },
            service_tier: self.service_tier.clone(),
            rates: self.rates.rates()?,
            tiers: self.tiers.iter().map(tier).collect::<Option<_>>()?,
        })
    }
}

impl RateEntries {
    fn rates(&self) -> Option<Rates> {
        let rate =
            |text: &Option<String>| text.as_ref().map(|text| text.parse::<Rate>()).transpose().ok();
        Some(Rates {
            input: rate(&self.input)?,
            cache_read: rate(&self.cache_read)?,
            cache_write: rate(&self.cache_write)?,
            output: rate(&self.output)?,
            reasoning: rate(&self.reasoning)?,
        })
    }
}
