//! Weighted rotation: shares in proportion to weights, exact in every cycle and spread evenly over it. Pure but for the
//! random choice of a replacement. It must never depend on a clock.

use rand::RngExt as _;

/// The place whose turn it is. Every place has as many turns in a cycle as its weight, divided by the greatest common
/// divisor of all. `None`: no place has a weight.
pub(super) fn in_rotation(
    weights: impl Iterator<Item = u32> + Clone,
    turn: usize,
) -> Option<usize> {
    let divisor = weights.clone().fold(0, |a, b| gcd(a, u64::from(b))).max(1);
    let slots = |weight: u32| u64::from(weight) / divisor;
    let total: u64 = weights.clone().map(slots).sum();
    let turn = u64::try_from(turn).unwrap_or_default().checked_rem(total)?;
    // A step without a common divisor visits every slot once in a cycle; near the golden ratio, neighbours are far apart.
    let golden = total.saturating_mul(618) / 1000;
    let step = (golden.max(1)..=golden + total).find(|step| gcd(*step, total) == 1).unwrap_or(1);
    let mut slot = turn.wrapping_mul(step) % total;
    for (place, weight) in weights.enumerate() {
        match slot.checked_sub(slots(weight)) {
            None => return Some(place),
            Some(rest) => slot = rest,
        }
    }
    None
}

/// A random one of some, in proportion to their weights. One without a weight is chosen if no other is there.
pub(super) fn weighted<T>(
    candidates: impl Iterator<Item = T>,
    weight: impl Fn(&T) -> f64,
) -> Option<T> {
    let mut rng = rand::rng();
    let (mut chosen, mut total) = (None, 0.0);
    for candidate in candidates {
        let weight = weight(&candidate).max(0.0);
        total += weight;
        if chosen.is_none() || weight > 0.0 && rng.random_range(0.0..total) < weight {
            chosen = Some(candidate);
        }
    }
    chosen
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each place has exactly its share of the turns of a cycle, wherever the cycle begins.
        #[test]
        fn shares_are_exact_in_every_cycle(
            weights in proptest::collection::vec(0_u32..=50, 1..8),
            start in 0_usize..1_000_000,
        ) {
            let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
            let shares: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / divisor).collect();
            let total = usize::try_from(shares.iter().sum::<u64>()).unwrap();
            let mut turns = vec![0; weights.len()];
            for turn in start * total.max(1)..(start + 1) * total.max(1) {
                if let Some(place) = in_rotation(weights.iter().copied(), turn) {
                    turns[place] += 1;
                } else {
                    prop_assert_eq!(total, 0);
                }
            }
            prop_assert_eq!(turns, shares);
        }
    }

    #[test]
    fn neighbouring_turns_go_to_different_places() {
        let turns: Vec<_> =
            (0..10).filter_map(|turn| in_rotation([5, 5].into_iter(), turn)).collect();
        assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    }

    #[test]
    fn a_random_choice_follows_the_weights() {
        let mut chosen = [0_u32; 3];
        for _ in 0..30_000 {
            let place = weighted([(0, 1.0), (1, 2.0), (2, 0.0)].into_iter(), |(_, weight)| *weight);
            chosen[place.unwrap().0] += 1;
        }
        assert_eq!(chosen[2], 0);
        assert!((9_000..11_000).contains(&chosen[0]), "{chosen:?}");
        assert_eq!(weighted([(7, 0.0)].into_iter(), |(_, weight)| *weight), Some((7, 0.0)));
    }
}
