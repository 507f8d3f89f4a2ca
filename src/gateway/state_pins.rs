//! Pins of state to accounts: the account that has issued encrypted reasoning or stores a response, which alone can use it. Bounded in number and time.
//! It must never hold the state itself, nor keep a request from a target whose account is unknown.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Identity;
use crate::wire::encrypted_state::StateDigest;

/// The most pins; beyond it, the oldest are forgotten.
const MAX_PINS: usize = 65_536;

/// The time for which a pin is known.
const LIFETIME: Duration = Duration::from_hours(1);

/// The accounts that have issued encrypted state.
#[derive(Debug, Default)]
pub struct StatePins {
    pins: Mutex<Pins>,
}

#[derive(Debug, Default)]
struct Pins {
    accounts: HashMap<StateDigest, (Identity, Instant)>,
    /// In the order in which they were added.
    order: VecDeque<StateDigest>,
}

impl StatePins {
    /// An account has issued these values.
    pub fn pin(&self, digests: impl Iterator<Item = StateDigest>, account: Identity, now: Instant) {
        let mut digests = digests.peekable();
        if digests.peek().is_none() {
            return;
        }
        let Ok(mut pins) = self.pins.lock() else { return };
        for digest in digests {
            if pins.accounts.insert(digest, (account, now)).is_none() {
                pins.order.push_back(digest);
            }
        }
        while pins.order.len() > MAX_PINS {
            let oldest = pins.order.pop_front();
            oldest.and_then(|oldest| pins.accounts.remove(&oldest));
        }
    }

    /// The account that has issued the first of these values that is known.
    pub fn account(&self, digests: &[StateDigest], now: Instant) -> Option<Identity> {
        let pins = self.pins.lock().ok()?;
        let known = digests.iter().filter_map(|digest| pins.accounts.get(digest));
        let mut fresh = known.filter(|(_, since)| now.saturating_duration_since(*since) < LIFETIME);
        fresh.next().map(|(account, _)| *account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encrypted_state::digests;

    fn state(number: usize) -> Vec<StateDigest> {
        digests(&format!(r#"{{"encrypted_content":"value {number}"}}"#))
    }

    /// R16, R15: pins end by themselves, and their number is bounded.
    #[test]
    fn r16_pins_are_bounded_in_number_and_time() {
        let (pins, now) = (StatePins::default(), Instant::now());
        let [a, b] = ["a", "b"].map(|model| Identity::default().of_model(model));
        pins.pin(state(0).into_iter(), a, now);
        pins.pin(state(1).into_iter(), b, now + LIFETIME / 2);
        let at = |number, time| pins.account(&state(number), now + time);
        assert_eq!((at(0, LIFETIME / 2), at(1, LIFETIME / 2)), (Some(a), Some(b)));
        assert_eq!((at(0, LIFETIME), at(1, LIFETIME)), (None, Some(b)));
        for number in 2..MAX_PINS + 2 {
            pins.pin(state(number).into_iter(), a, now);
        }
        let held = pins.pins.lock().unwrap();
        assert_eq!((held.accounts.len(), held.order.len()), (MAX_PINS, MAX_PINS));
        drop(held);
        assert_eq!((at(1, Duration::ZERO), at(2, Duration::ZERO)), (None, Some(a)));
    }
}
