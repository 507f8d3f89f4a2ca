//! Balance of load among the deployments of one name: tiers by their `order`, weights as LiteLLM's `simple-shuffle` has them.
//! It must never give a target a share that the file did not.

use super::Notes;
use super::deployment::Deployment;

/// The largest weight here.
pub(super) const MAX_WEIGHT: u64 = 1000;
/// Digits after the point of a weight there that count.
const FRACTION: usize = 6;
/// Parameters that weigh deployments. The first one that the first deployment has decides.
const WEIGHED_BY: [&str; 3] = ["weight", "rpm", "tpm"];

/// The tier of a deployment, from 1, and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tier: u32,
    pub(super) weight: u64,
}

impl Place {
    /// That of a single deployment.
    pub(super) const ALONE: Self = Self { tier: 1, weight: 1 };
}

/// Places of deployments that are sorted by their `order`; those without one come last.
/// `weighted`: their weights count.
pub(super) fn places(
    deployments: &[&Deployment<'_>],
    weighted: bool,
    notes: &mut Notes,
) -> Vec<Place> {
    let tiers = deployments.chunk_by(|one, other| one.number("order") == other.number("order"));
    let places = (1..).zip(tiers).flat_map(|(tier, of)| {
        let weights = if weighted { weights(of, notes) } else { unweighted(of, notes) };
        weights.into_iter().map(move |weight| Place { tier, weight })
    });
    places.collect()
}

/// The weights where the strategy of routing has none.
fn unweighted(of: &[&Deployment<'_>], notes: &mut Notes) -> Vec<u64> {
    for one in of {
        if let Some(node) = one.params.get("weight") {
            notes.add(
                node.line,
                format!(
                    "`weight` of `{}` is left out: it has no effect with this `routing_strategy`",
                    one.name
                ),
            );
        }
    }
    vec![1; of.len()]
}

/// Weights of the deployments of one tier; all are 1 if the file has none.
fn weights(of: &[&Deployment<'_>], notes: &mut Notes) -> Vec<u64> {
    let equal = vec![1; of.len()];
    let [first, _, ..] = of else {
        if let Some((one, node)) = of.first().and_then(|it| Some((it, it.params.get("weight")?))) {
            let message = "has no effect: no other deployment is of the same name and `order`";
            notes.add(node.line, format!("`weight` of `{}` {message}", one.name));
        }
        return equal;
    };
    let by = WEIGHED_BY.into_iter().find(|key| first.params.get(key).is_some());
    for one in of.iter().filter(|_| by != Some("weight")) {
        if let Some(node) = one.params.get("weight") {
            notes.add(node.line, format!("`weight` of `{}` has no effect there, and is left out: its first deployment has none", one.name));
        }
    }
    let Some(by) = by else { return equal };
    let mut given = Vec::new();
    for one in of {
        let Some(node) = one.params.get(by) else {
            notes.add(one.line, format!("a deployment of `{}` has no `{by}`, unlike its first one: as there, it gets nothing while another can serve", one.name));
            given.push(0);
            continue;
        };
        let Some(weight) = node.as_text().and_then(fixed) else {
            notes.add(
                node.line,
                format!(
                    "`{by}` of `{}` is no number; its deployments are weighted alike",
                    one.name
                ),
            );
            return equal;
        };
        given.push(weight);
    }
    if given.iter().all(|weight| *weight == 0) {
        notes.add(
            first.line,
            format!(
                "`{by}` of `{}` is 0 everywhere; its deployments are weighted alike",
                first.name
            ),
        );
        return equal;
    }
    let (weights, exact) = scaled(&given);
    if !exact {
        notes.add(
            first.line,
            format!(
                "weights of `{}` are rounded: they are whole numbers of at most {MAX_WEIGHT} here",
                first.name
            ),
        );
    }
    weights
}

/// A decimal number in millionths.
fn fixed(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let part = part.get(..FRACTION).unwrap_or(part);
    if text == "." || !digits(whole) || !digits(part) {
        return None;
    }
    format!("{whole}{part:0<FRACTION$}").parse().ok()
}

/// The smallest whole numbers in the same proportion, none above the largest weight; and whether they are exact.
fn scaled(given: &[u64]) -> (Vec<u64>, bool) {
    let divisor = given.iter().fold(0, |one, other| common(one, *other)).max(1);
    let small: Vec<u64> = given.iter().map(|weight| weight / divisor).collect();
    let most = small.iter().copied().max().unwrap_or_default();
    if most <= MAX_WEIGHT {
        return (small, true);
    }
    let share = |weight: u64| {
        let rounded =
            (u128::from(weight) * u128::from(MAX_WEIGHT) + u128::from(most / 2)) / u128::from(most);
        // A share stays one, however small.
        u64::try_from(rounded).unwrap_or(MAX_WEIGHT).max(u64::from(weight > 0))
    };
    (small.into_iter().map(share).collect(), false)
}

/// The greatest common divisor.
fn common(mut one: u64, mut other: u64) -> u64 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_are_kept_in_small_whole_numbers() {
        for (texts, weights, exact) in [
            (vec!["6", "10"], vec![3, 5], true),
            (vec!["0.7", "0.3"], vec![7, 3], true),
            (vec!["900", "10", "0"], vec![90, 1, 0], true),
            (vec!["1001", "1"], vec![1000, 1], false),
            (vec!["3000000", "1", "1500001"], vec![1000, 1, 500], false),
        ] {
            let given: Vec<u64> = texts.iter().map(|text| fixed(text).unwrap()).collect();
            assert_eq!(scaled(&given), (weights, exact), "{texts:?}");
        }
        for text in [".", "-1", "x", "1.x", "99999999999999999999", "1e3"] {
            assert_eq!(fixed(text), None, "{text}");
        }
    }
}
