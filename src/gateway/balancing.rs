//! Load balancing: the choice among the candidates of one tier by load, by time to first token or by price. It must never
//! decide which targets may serve.

use std::ops::Range;

use rand::RngExt as _;
use tokio::time::Instant;

use super::clock::unix_seconds;
use super::rotation::weighted;
use super::route::Plan;
use super::target_health::{PromptSize, TargetHealth};
use crate::config::Target;

/// One pick in so many is uniform, so that a target that has become faster is seen.
const EXPLORE: u32 = 50;

/// The time to first token of a target of which none is known, where no other's is known either, in seconds.
const UNKNOWN_TTFT: f64 = 1.0;

/// The output of a target of which none is known, where no other's is known either, in tokens.
const UNKNOWN_OUTPUT: u64 = 500;

/// The most targets whose answers show how long one will be.
const ANSWERS: usize = 3;

/// Prices that differ by less than one in so many are the same: time decides.
const SAME_PRICE: u64 = 20;

/// A target that may be chosen.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'p> {
    /// Its place in the plan.
    pub(super) place: usize,
    pub(super) target: &'p Target,
    /// The share of its weight that it takes; `None`: as a probe.
    pub(super) share: Option<f64>,
}

impl Candidate<'_> {
    pub(super) fn weight(&self) -> f64 {
        f64::from(self.target.weight) * self.share.unwrap_or(1.0)
    }
}

/// The candidate with the fewest answers in progress for its weight.
pub(super) fn least_loaded<'p>(
    health: &TargetHealth,
    candidates: Vec<Candidate<'p>>,
) -> Option<Candidate<'p>> {
    lowest(candidates, |candidate| {
        let open = f64::from(health.open_streams(candidate.target)) + 1.0;
        open / candidate.weight().max(f64::MIN_POSITIVE)
    })
}

/// The candidate with the shortest time to first token for its weight, for a prompt of this size.
pub(super) fn fastest<'p>(
    health: &TargetHealth,
    candidates: Vec<Candidate<'p>>,
    (prompt, now): (PromptSize, Instant),
) -> Option<Candidate<'p>> {
    if rand::rng().random_range(0..EXPLORE) == 0 {
        return weighted(candidates.into_iter(), |_| 1.0);
    }
    let known: Vec<(f64, f64)> =
        candidates.iter().map(|found| health.ttft(found.target, prompt, now)).collect();
    let typical = median(&known);
    lowest(candidates, |candidate| {
        let (ttft, trust) = health.ttft(candidate.target, prompt, now);
        let ttft = ttft * trust + typical * (1.0 - trust);
        ttft / candidate.weight().max(f64::MIN_POSITIVE)
    })
}

/// The places of targets by the price of a request, the cheapest ones first. Those without a price, or with a weight of 0,
/// are not among them.
pub(super) struct ByPrice {
    places: Vec<(usize, u64)>,
}

impl ByPrice {
    /// The targets at `tier` of a plan. All are expected to answer as the first ones that have answered did.
    pub(super) fn of(health: &TargetHealth, plan: &Plan, tier: Range<usize>) -> Self {
        let targets = plan.targets.get(tier.clone()).unwrap_or_default();
        let known = targets.iter().take(ANSWERS).filter_map(|target| health.typical_output(target));
        let (count, sum) = known.fold((0, 0_u64), |(count, sum), tokens| (count + 1, sum + tokens));
        let output = sum.checked_div(count).unwrap_or(UNKNOWN_OUTPUT);
        let output = output.min(plan.demand.max_output.unwrap_or(u64::MAX));
        let unix = unix_seconds();
        let price = |(place, target): (usize, &Target)| {
            let price = target.price.as_ref().filter(|_| target.weight > 0)?;
            Some((place, price.estimate((plan.demand.input, output), unix)?.nano()))
        };
        Self { places: tier.zip(targets).filter_map(price).collect() }
    }
}

impl Iterator for ByPrice {
    type Item = Vec<usize>;

    /// The places of the lowest price, and of those that are about the same.
    fn next(&mut self) -> Option<Vec<usize>> {
        let least = self.places.iter().map(|(_, price)| *price).min()?;
        let most = least.saturating_add(least / SAME_PRICE);
        let mut cheapest = Vec::new();
        self.places.retain(|(place, price)| {
            let is_cheap = *price <= most;
            cheapest.extend(is_cheap.then_some(*place));
            !is_cheap
        });
        Some(cheapest)
    }
}

/// The candidate with the lowest cost; of several, any. One that may be well again gets its one request before the others
/// are compared.
fn lowest<'p>(
    mut candidates: Vec<Candidate<'p>>,
    cost: impl Fn(&Candidate<'p>) -> f64,
) -> Option<Candidate<'p>> {
    if let Some(probe) = candidates.iter().find(|candidate| candidate.share.is_none()) {
        return Some(*probe);
    }
    if candidates.len() > 1 {
        // Equal ones must not all go to the first.
        let first = rand::rng().random_range(0..candidates.len());
        candidates.rotate_left(first);
    }
    candidates.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))
}

/// The median of the times that are known: of two, the shorter one. The longer one may be the silence of a target that
/// hangs, and a target of which nothing is known yet must not be taken for as slow as that.
fn median(times: &[(f64, f64)]) -> f64 {
    let mut known: Vec<f64> =
        times.iter().filter(|(_, trust)| *trust > 0.0).map(|(ttft, _)| *ttft).collect();
    known.sort_by(f64::total_cmp);
    known.get(known.len().saturating_sub(1) / 2).copied().unwrap_or(UNKNOWN_TTFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R13: a target of which nothing is known is not taken for as slow as another one's silence.
    #[test]
    fn r13_the_typical_time_is_not_the_time_of_one_that_hangs() {
        let unknown = (0.0, 0.0);
        let cases: [(&[(f64, f64)], f64); 4] = [
            (&[unknown, (0.2, 0.9), (3.0, 1.0)], 0.2),
            (&[(0.1, 1.0), (0.2, 1.0), (3.0, 1.0)], 0.2),
            (&[unknown, (0.3, 1.0)], 0.3),
            (&[unknown], UNKNOWN_TTFT),
        ];
        for (times, typical) in cases {
            let found = median(times);
            assert!((found - typical).abs() < f64::EPSILON, "{times:?}: {found}");
        }
    }
}
