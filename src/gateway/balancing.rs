//! Load balancing: the choice among the candidates of one tier by load, by time to first token or by price. It must never
//! decide which targets may serve.

use rand::RngExt as _;
use tokio::time::Instant;

use super::clock::unix_seconds;
use super::limit::TokenDemand;
use super::rotation::weighted;
use super::target_health::{PromptSize, TargetHealth};
use crate::config::Target;
use crate::wire::chat::Usage;

/// One pick in so many is uniform, so that a target that has become faster is seen.
const EXPLORE: u32 = 50;

/// The time to first token of a target of which none is known, where no other's is known either, in seconds.
const UNKNOWN_TTFT: f64 = 1.0;

/// The output of a target of which none is known, where no other's is known either, in tokens.
const UNKNOWN_OUTPUT: u64 = 500;

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

/// The candidate with the lowest price for a request; of several, the fastest one. Those without a price come last.
pub(super) fn cheapest<'p>(
    health: &TargetHealth,
    mut candidates: Vec<Candidate<'p>>,
    (demand, now): (TokenDemand, Instant),
) -> Option<Candidate<'p>> {
    let known: Vec<u64> =
        candidates.iter().filter_map(|found| health.typical_output(found.target)).collect();
    let count = u64::try_from(known.len()).unwrap_or(u64::MAX);
    let typical = known.iter().sum::<u64>().checked_div(count).unwrap_or(UNKNOWN_OUTPUT);
    let unix = unix_seconds();
    let price = |found: &Candidate<'_>| {
        let output = health.typical_output(found.target).unwrap_or(typical);
        let output = output.min(demand.max_output.unwrap_or(u64::MAX));
        let usage = Usage { input: Some(demand.input), output: Some(output), ..Usage::default() };
        let cost = found.target.price.as_ref()?.cost(&usage, None, unix)?;
        Some(cost.nano())
    };
    // A weight of 0: only when no other can serve.
    let priced = candidates.iter().map(|found| price(found).filter(|_| found.target.weight > 0));
    let mut prices = priced.collect::<Vec<_>>().into_iter();
    if let Some(least) = prices.clone().flatten().min() {
        let most = least.saturating_add(least / SAME_PRICE);
        candidates.retain(|_| prices.next().flatten().is_some_and(|price| price <= most));
    }
    fastest(health, candidates, (PromptSize::of(demand.input), now))
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
