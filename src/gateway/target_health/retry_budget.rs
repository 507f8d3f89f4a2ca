//! Retry budget of a model: how many requests may be sent once more, as a share of those that callers send, so that an
//! outage does not multiply the load. Its clock is passed in. It must never let anyone wait.

use std::sync::Mutex;

use tokio::time::Instant;

/// The window, in slots of one second.
const SLOTS: usize = 10;

/// The retries that are allowed in a window without any request: one a second.
const RESERVE: f64 = 10.0;

/// The hedged requests that are allowed in a window without any request.
const HEDGE_RESERVE: f64 = 1.0;

/// Requests, retries (hedges included) and hedges in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    requests: u32,
    retries: u32,
    hedges: u32,
}

/// The retry budget of one model, for all workers.
#[derive(Debug)]
pub struct RetryBudget {
    epoch: Instant,
    slots: Mutex<[Slot; SLOTS]>,
}

impl RetryBudget {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, slots: Mutex::default() }
    }

    /// Counts a request of a caller.
    pub fn request(&self, now: Instant) {
        self.change(now, |slot, _| slot.requests = slot.requests.saturating_add(1));
    }

    /// Takes the right to one more attempt. Returns whether there was one. `share`: the retries for each request.
    pub fn take(&self, share: f64, now: Instant) -> bool {
        let take = |slot: &mut Slot, [requests, retries, _]: [f64; 3]| {
            let allowed = retries + 1.0 <= RESERVE + share * requests;
            slot.retries = slot.retries.saturating_add(u32::from(allowed));
            allowed
        };
        self.change(now, take).unwrap_or_default()
    }

    /// Gives back a right that was not used.
    pub fn give_back(&self, now: Instant) {
        self.change(now, |slot, _| slot.retries = slot.retries.saturating_sub(1));
    }

    /// Takes the right to a hedged request, which is also one more attempt. Returns whether there was one. `share`: the
    /// hedged requests for each request; `retries`: as for [`RetryBudget::take`].
    pub fn take_hedge(&self, (share, retries): (f64, f64), now: Instant) -> bool {
        let take = |slot: &mut Slot, [requests, retried, hedges]: [f64; 3]| {
            let allowed = hedges + 1.0 <= HEDGE_RESERVE + share * requests
                && retried + 1.0 <= RESERVE + retries * requests;
            slot.hedges = slot.hedges.saturating_add(u32::from(allowed));
            slot.retries = slot.retries.saturating_add(u32::from(allowed));
            allowed
        };
        self.change(now, take).unwrap_or_default()
    }

    /// Gives back the right to a hedged request that was not used.
    pub fn give_back_hedge(&self, now: Instant) {
        self.change(now, |slot, _| slot.hedges = slot.hedges.saturating_sub(1));
        self.give_back(now);
    }

    /// Changes the slot of this second, given the requests, retries and hedges in the window.
    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Slot, [f64; 3]) -> T) -> Option<T> {
        let second = now.saturating_duration_since(self.epoch).as_secs();
        let mut slots = self.slots.lock().ok()?;
        let current = slots.iter().filter(|slot| slot.second + SLOTS as u64 > second);
        let sums = current.fold([0.0; 3], |[requests, retries, hedges], slot| {
            [
                requests + f64::from(slot.requests),
                retries + f64::from(slot.retries),
                hedges + f64::from(slot.hedges),
            ]
        });
        let slot = slots.get_mut(usize::try_from(second % SLOTS as u64).ok()?)?;
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        Some(change(slot, sums))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(SLOTS as u64);

    /// R22: the budget is exact: ten retries of its own, and one for five requests, within ten seconds.
    #[test]
    fn r22_the_budget_is_a_share_of_the_requests_and_one_a_second() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        let taken = |at: Instant| (0..1000).take_while(|_| budget.take(0.2, at)).count();
        assert_eq!(taken(now), 10);
        (0..100).for_each(|_| budget.request(now));
        assert_eq!(taken(now), 20);
        budget.give_back(now);
        assert_eq!(taken(now), 1);
        assert_eq!(taken(now + WINDOW - Duration::from_secs(1)), 0, "the window is not over");
        assert_eq!(taken(now + WINDOW), 10);
        let none = RetryBudget::new(now);
        (0..100).for_each(|_| none.request(now));
        assert_eq!((0..1000).take_while(|_| none.take(0.0, now)).count(), 10);
    }

    /// R23: hedges are at most their share of the requests, and never more than the retry budget allows.
    #[test]
    fn r23_hedges_have_a_share_of_their_own() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        let hedged = |shares| (0..1000).take_while(|_| budget.take_hedge(shares, now)).count();
        assert_eq!(hedged((0.05, 0.2)), 1);
        (0..1000).for_each(|_| budget.request(now));
        assert_eq!(hedged((0.05, 0.2)), 50);
        budget.give_back_hedge(now);
        assert_eq!(hedged((0.05, 0.2)), 1);
        assert_eq!((0..1000).take_while(|_| budget.take(0.2, now)).count(), 210 - 51);
        assert_eq!(hedged((1.0, 0.2)), 0, "the retry budget is used up");
    }

    proptest! {
        /// R22: over any time, retries are at most a fifth of the requests and one a second, and the ten at the beginning.
        #[test]
        fn r22_retries_never_exceed_the_budget(
            steps in prop::collection::vec((0_u64..3000, prop::bool::ANY), 1..400),
        ) {
            let start = Instant::now();
            let budget = RetryBudget::new(start);
            let (mut now, mut requests, mut retries) = (start, 0.0, 0.0);
            for (millis, is_request) in steps {
                now += Duration::from_millis(millis);
                if is_request {
                    budget.request(now);
                    requests += 1.0;
                } else if budget.take(0.2, now) {
                    retries += 1.0;
                }
                let windows = ((now - start).as_secs_f64() / WINDOW.as_secs_f64()).ceil() + 1.0;
                prop_assert!(retries <= 0.2 * requests + RESERVE * windows);
            }
        }
    }
}
