//! Price of a model: rates by class of token, above thresholds of input, by service tier and by time.

use super::money::{Cost, Rate};
use crate::wire::chat::Usage;

/// Seconds in a day.
const DAY: u64 = 24 * 60 * 60;

/// Rates by class of token. A class without one costs what its total does: input or output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Input, but for the classes below.
    pub input: Option<Rate>,
    /// Input that was read from a cache.
    pub cache_read: Option<Rate>,
    /// Input that was written to a cache.
    pub cache_write: Option<Rate>,
    /// Output, but for the class below.
    pub output: Option<Rate>,
    /// Reasoning.
    pub reasoning: Option<Rate>,
}

impl Rates {
    /// These rates, and where they have none, those of `base`.
    fn over(self, base: Self) -> Self {
        Self {
            input: self.input.or(base.input),
            cache_read: self.cache_read.or(base.cache_read),
            cache_write: self.cache_write.or(base.cache_write),
            output: self.output.or(base.output),
            reasoning: self.reasoning.or(base.reasoning),
        }
    }

    /// The amount for a usage, in pico-dollars. `None`: there are tokens without a rate.
    fn pico(&self, usage: &Usage) -> Option<u128> {
        let [input, output] = [usage.input, usage.output].map(Option::unwrap_or_default);
        // Parts never exceed their total (`Usage::replace_with`).
        let read = usage.cache_read.unwrap_or_default().min(input);
        let write = usage.cache_write.unwrap_or_default().min(input - read);
        let reasoning = usage.reasoning.unwrap_or_default().min(output);
        let classes = [
            (input - read - write, self.input),
            (read, self.cache_read.or(self.input)),
            (write, self.cache_write.or(self.input)),
            (output - reasoning, self.output),
            (reasoning, self.reasoning.or(self.output)),
        ];
        let used = classes.iter().filter(|(tokens, _)| *tokens > 0);
        used.map(|(tokens, rate)| rate.map(|rate| rate.of(*tokens))).sum()
    }
}

/// Rates of all tokens of a request whose input, cached input included, is above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The threshold, exclusive.
    pub over: u64,
    /// The rates; a class without one has that of the price.
    pub rates: Rates,
}

/// The time at which a price holds, in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// From this Unix second on.
    pub from: Option<u64>,
    /// Between these seconds of each day; the first may be the later one, for a period over midnight.
    pub hours: Option<(u64, u64)>,
}

impl Period {
    fn includes(&self, unix: u64) -> bool {
        let at = unix % DAY;
        let in_hours = self.hours.is_none_or(|(begin, end)| {
            if begin <= end { (begin..end).contains(&at) } else { at >= begin || at < end }
        });
        in_hours && self.from.is_none_or(|from| from <= unix)
    }
}

/// One price of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    /// The time at which it holds.
    pub period: Period,
    /// The service tier that it is for. `None`: the standard one, and those without a price of their own.
    pub service_tier: Option<String>,
    /// Its rates.
    pub rates: Rates,
    /// Rates above thresholds, the lowest first.
    pub tiers: Vec<Tier>,
}

impl Price {
    /// Whether its rates hold for every time and every amount.
    fn is_plain(&self) -> bool {
        self.tiers.is_empty() && self.service_tier.is_none() && self.period == Period::default()
    }

    fn cost(&self, usage: &Usage) -> Option<Cost> {
        let input = usage.input.unwrap_or_default();
        let tier = self.tiers.iter().rev().find(|tier| input > tier.over);
        let rates = tier.map_or(self.rates, |tier| tier.rates.over(self.rates));
        rates.pico(usage).map(Cost::from_pico)
    }
}

/// The prices of a model. Of those that hold, the last one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPrice(pub Vec<Price>);

impl ModelPrice {
    /// The cost of a request of so many tokens before it is sent. `None`: there is no price for it.
    pub fn estimate(&self, (input, output): (u64, u64), unix: u64) -> Option<Cost> {
        // Most prices are plain, and a choice may compare a hundred.
        if let [price] = &*self.0
            && price.is_plain()
            && let (Some(for_input), Some(for_output)) = (price.rates.input, price.rates.output)
        {
            return Some(Cost::from_pico(for_input.of(input) + for_output.of(output)));
        }
        let usage = Usage { input: Some(input), output: Some(output), ..Usage::default() };
        self.cost(&usage, None, unix)
    }

    /// The cost of a usage. `unix`: the time of the request. `None`: there is no price for it.
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>, unix: u64) -> Option<Cost> {
        let held = || self.0.iter().rev().filter(|price| price.period.includes(unix));
        let special = held().find(|price| {
            price.service_tier.is_some() && price.service_tier.as_deref() == service_tier
        });
        special.or_else(|| held().find(|price| price.service_tier.is_none()))?.cost(usage)
    }
}
