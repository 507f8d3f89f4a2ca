//! Tests of rates, costs and the catalog.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::wire::chat::Usage;

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

/// Rates as of a long-context model of a vendor that counts cached input apart.
fn sonnet() -> ModelPrice {
    let rates = |input, read, write, output| Rates {
        input: Some(rate(input)),
        cache_read: Some(rate(read)),
        cache_write: Some(rate(write)),
        output: Some(rate(output)),
        reasoning: None,
    };
    let tier = Tier { over: 200_000, rates: rates("6", "0.60", "7.50", "22.5") };
    let standard = rates("3", "0.30", "3.75", "15");
    ModelPrice(vec![Price { rates: standard, tiers: vec![tier], ..Price::default() }])
}

fn usage(input: u64, read: u64, write: u64, output: u64) -> Usage {
    Usage {
        input: Some(input),
        cache_read: Some(read),
        cache_write: Some(write),
        output: Some(output),
        reasoning: None,
    }
}

fn cost(price: &ModelPrice, usage: &Usage) -> Option<String> {
    price.cost(usage, None, 0).map(|cost| cost.to_string())
}

#[test]
fn a_rate_is_decimal_text_of_at_most_six_digits_after_the_point() {
    for (text, expected) in [("0", 0), ("2.5", 2_500_000), ("0.003625", 3_625), ("1000000000", MAX)]
    {
        assert_eq!(rate(text).of(1), expected, "{text}");
    }
    for text in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "0.0000001",
        "1,5",
        " 1",
        "1000000001",
        "٣",
        "99999999999999999999",
    ] {
        assert!(text.parse::<Rate>().is_err(), "{text}");
    }
}

const MAX: u128 = 1_000_000_000_000_000;

#[test]
fn each_class_of_tokens_has_its_rate() {
    let used = usage(183_200, 180_000, 2_000, 900);
    assert_eq!(cost(&sonnet(), &used).as_deref(), Some("0.078600000"));
}

#[test]
fn a_threshold_is_exclusive_and_holds_for_all_tokens() {
    assert_eq!(cost(&sonnet(), &usage(200_000, 0, 0, 0)).as_deref(), Some("0.600000000"));
    assert_eq!(cost(&sonnet(), &usage(200_001, 0, 0, 1)).as_deref(), Some("1.200028500"));
    // Cached input counts towards it.
    assert_eq!(cost(&sonnet(), &usage(200_001, 200_001, 0, 0)).as_deref(), Some("0.120000600"));
}

#[test]
fn a_class_without_a_rate_costs_what_its_total_does_and_never_nothing() {
    let rates = Rates { input: Some(rate("1")), output: Some(rate("2")), ..Rates::default() };
    let price = ModelPrice(vec![Price { rates, ..Price::default() }]);
    let used = Usage { reasoning: Some(60), ..usage(1000, 400, 100, 100) };
    assert_eq!(cost(&price, &used).as_deref(), Some("0.001200000"));
    let free_reads = Rates { cache_read: Some(rate("0")), ..rates };
    let price = ModelPrice(vec![Price { rates: free_reads, ..Price::default() }]);
    assert_eq!(cost(&price, &used).as_deref(), Some("0.000800000"), "a zero is a rate");
}

#[test]
fn tokens_without_any_rate_have_no_cost() {
    let input_only = Rates { input: Some(rate("1")), ..Rates::default() };
    let price = ModelPrice(vec![Price { rates: input_only, ..Price::default() }]);
    assert_eq!(cost(&price, &usage(10, 0, 0, 0)).as_deref(), Some("0.000010000"));
    assert_eq!(cost(&price, &usage(10, 0, 0, 1)), None);
    assert_eq!(cost(&ModelPrice::default(), &usage(10, 0, 0, 1)), None);
}

#[test]
fn of_the_prices_that_hold_the_last_one_counts() {
    let of = |text| Rates { input: Some(rate(text)), ..Rates::default() };
    let day = 86_400;
    let price = |text, period| Price { rates: of(text), period, ..Price::default() };
    let prices = ModelPrice(vec![
        price("1", Period::default()),
        price("2", Period { from: Some(10 * day), hours: None }),
        price("3", Period { from: None, hours: Some((79_200, 3_600)) }),
        Price {
            service_tier: Some("flex".to_owned()),
            ..price("4", Period { from: Some(10 * day), hours: None })
        },
    ]);
    let used = usage(1_000_000, 0, 0, 0);
    let at = |tier, unix| prices.cost(&used, tier, unix).unwrap().nano() / 1_000_000_000;
    assert_eq!(at(None, 10 * day - 7_201), 1);
    assert_eq!(at(None, 10 * day - 1), 3, "over midnight");
    assert_eq!(at(None, 10 * day + 3_599), 3);
    assert_eq!(at(None, 10 * day + 3_600), 2);
    assert_eq!(at(Some("flex"), 10 * day + 3_600), 4);
    assert_eq!(at(Some("flex"), 9 * day + 3_600), 1, "before it had a price of its own");
    assert_eq!(at(Some("unknown"), 10 * day + 3_600), 2);
}

#[test]
fn an_amount_is_rounded_half_up_and_has_all_digits() {
    for (pico, text) in
        [(0, "0.000000000"), (499, "0.000000000"), (500, "0.000000001"), (1_499, "0.000000001")]
    {
        assert_eq!(Cost::from_pico(pico).to_string(), text);
    }
    assert_eq!(Cost::from_pico(u128::MAX).nano(), u64::MAX);
    assert_eq!(Cost::from_pico(12_345_678_901_234_000).to_string(), "12345.678901234");
}

#[test]
fn the_catalog_is_read_whole() {
    let catalog = &*CATALOG;
    assert!(catalog.source.starts_with("genai-prices "), "{}", catalog.source);
    assert!(catalog.providers().count() >= 14);
    let of = |provider, model| {
        cost(&catalog.price(provider, model).unwrap(), &usage(1_000_000, 0, 0, 1_000_000))
    };
    assert_eq!(of("openai", "gpt-4o-mini").as_deref(), Some("0.750000000"));
    assert_eq!(of("anthropic", "claude-3-5-haiku-20241022").as_deref(), Some("4.800000000"));
    assert_eq!(
        of("azure", "gpt-4o-mini"),
        of("openai", "gpt-4o-mini"),
        "list prices of the vendor"
    );
    assert_eq!(catalog.price("openai", "no-such-model"), None);
    assert_eq!(catalog.price("no-such-provider", "gpt-4o-mini"), None);
}

proptest! {
    #[test]
    fn parts_of_a_usage_cost_no_less_than_the_whole_less_rounding(
        input in 0..100_000u64, read in 0..100_000u64, write in 0..100_000u64, output in 0..100_000u64,
    ) {
        let price = sonnet();
        let read = read.min(input);
        let used = usage(input, read, write.min(input - read), output);
        let halves = [
            Usage { output: Some(0), ..used },
            usage(0, 0, 0, output),
        ];
        let whole = price.cost(&used, None, 0).unwrap().nano();
        let sum: Cost = halves.iter().map(|half| price.cost(half, None, 0).unwrap()).sum();
        prop_assert!(whole.abs_diff(sum.nano()) <= 1);
    }

    #[test]
    fn no_usage_overflows(counts in any::<[u64; 5]>()) {
        let [input, read, write, output, reasoning] = counts;
        let used = Usage { reasoning: Some(reasoning), ..usage(input, read, write, output) };
        prop_assert!(sonnet().cost(&used, None, 0).is_some());
    }

    #[test]
    fn any_text_is_a_rate_or_an_error(text in ".*") {
        if let Ok(rate) = text.parse::<Rate>() {
            prop_assert!(rate.of(1) <= MAX);
        }
    }
}

/// An estimate is the cost of as many tokens, plain price or not.
#[test]
fn an_estimate_is_the_cost_of_its_tokens() {
    let list = ["gpt-4o", "gpt-5", "o3"].map(|model| CATALOG.price("openai", model));
    let prices = list.into_iter().flatten().chain([Arc::new(sonnet())]);
    let mut compared = 0;
    for price in prices {
        for (input, output) in [(0, 0), (1, 1), (999, 12_345), (200_001, 7), (5_000_000, 64_000)] {
            let usage = Usage { input: Some(input), output: Some(output), ..Usage::default() };
            assert_eq!(price.estimate((input, output), 0), price.cost(&usage, None, 0));
            compared += 1;
        }
    }
    assert!(compared >= 15, "{compared}");
}
