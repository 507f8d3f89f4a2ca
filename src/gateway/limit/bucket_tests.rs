//! Arithmetic of a token bucket: properties under any sequence of operations, and examples.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Bucket, Rate};

const MINUTE: Duration = Duration::from_mins(1);

fn rate(per_minute: u32, burst: u32) -> Rate {
    Rate { per_minute, burst }
}

#[test]
fn a_burst_then_the_rate() {
    let start = Instant::now();
    let mut bucket = Bucket::full(rate(60, 3), start);
    for _ in 0..3 {
        bucket.take(1, start).unwrap();
    }
    assert_eq!(bucket.take(1, start), Err(Duration::from_secs(1)));
    let almost = start + Duration::from_nanos(999_999_999);
    assert_eq!(bucket.take(1, almost), Err(Duration::from_nanos(1)));
    bucket.take(1, start + Duration::from_secs(1)).unwrap();
    let window = bucket.window(start + Duration::from_secs(1));
    assert_eq!((window.limit, window.remaining, window.reset), (3, 0, Duration::from_secs(3)));
}

#[test]
fn of_more_than_it_holds_it_takes_all_when_it_is_full() {
    let start = Instant::now();
    let mut bucket = Bucket::full(rate(100, 100), start);
    bucket.take(1, start).unwrap();
    let until_full = Duration::from_millis(600);
    assert_eq!(bucket.take(250, start), Err(until_full));
    let now = start + until_full;
    assert_eq!(bucket.take(250, now), Ok(100));
    assert_eq!(bucket.take(1, now), Err(until_full));
    // Further usage becomes a debt, which is repaid before anything can be taken.
    bucket.charge(150, now);
    assert_eq!(bucket.take(1, now), Err(MINUTE * 151 / 100));
    bucket.give_back(200, now);
    assert_eq!(bucket.window(now).remaining, 50);
}

#[test]
fn another_rate_gives_nobody_anything() {
    let start = Instant::now();
    let mut bucket = Bucket::full(rate(1000, 1000), start);
    bucket.take(900, start).unwrap();
    bucket.change(rate(100, 100), start);
    assert!(bucket.take(1, start).is_err());
    bucket.change(rate(1000, 1000), start);
    assert_eq!(bucket.window(start).remaining, 100);
    bucket.change(rate(2000, 2000), start);
    assert_eq!(bucket.window(start).remaining, 1100);
}

#[test]
fn what_is_left_is_taken_and_no_more() {
    let start = Instant::now();
    let mut bucket = Bucket::full(rate(10, 10), start);
    assert_eq!(bucket.take_up_to(7, start), 7);
    assert_eq!(bucket.take_up_to(7, start), 3);
    assert_eq!(bucket.take_up_to(7, start), 0);
    bucket.charge(5, start);
    assert_eq!(bucket.take_up_to(7, start + MINUTE / 2), 0, "the debt comes first");
    assert_eq!(bucket.take_up_to(7, start + MINUTE), 5);
}

#[test]
fn time_that_runs_backwards_gives_nothing_twice() {
    let start = Instant::now() + MINUTE;
    let mut bucket = Bucket::full(rate(60, 60), start);
    bucket.take(60, start).unwrap();
    assert_eq!(bucket.window(start + Duration::from_secs(10)).remaining, 10);
    assert_eq!(bucket.window(start).remaining, 10);
    assert_eq!(bucket.window(start + Duration::from_secs(10)).remaining, 10);
}

#[test]
fn nothing_overflows() {
    let start = Instant::now();
    let mut bucket = Bucket::full(rate(u32::MAX, u32::MAX), start);
    for _ in 0..1000 {
        bucket.charge(u64::MAX, start);
    }
    assert_eq!(bucket.window(start).remaining, 0);
    assert!(bucket.take(u64::MAX, start).is_err());
    bucket.change(rate(1, 1), start + Duration::from_hours(24 * 365 * 30));
    assert!(bucket.window(start).reset > MINUTE);
}

/// One thing that may be done to a bucket, after a pause in milliseconds.
#[derive(Debug, Clone)]
enum Step {
    Take(u64),
    UpTo(u64),
    Charge(u64),
    GiveBack(u64),
    Change(u32),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        4 => (0_u64..150).prop_map(Step::Take),
        1 => (0_u64..150).prop_map(Step::UpTo),
        1 => (0_u64..150).prop_map(Step::Charge),
        2 => (0_u64..150).prop_map(Step::GiveBack),
        1 => (1_u32..200).prop_map(Step::Change),
    ];
    prop::collection::vec((0_u64..3000, step), 1..60)
}

proptest! {
    /// No sequence of demands gets more than the rate allows.
    #[test]
    fn no_more_is_admitted_than_the_rate_and_the_burst(
        (per_minute, burst) in (1_u32..5000, 1_u32..100),
        asked in prop::collection::vec((0_u64..2000, 0_u64..150), 1..80),
    ) {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(per_minute, burst), start);
        let (mut now, mut admitted) = (start, 0_u128);
        for (pause, amount) in asked {
            now += Duration::from_millis(pause);
            admitted += u128::from(bucket.take(amount, now).unwrap_or(0));
            let passed = (now - start).as_nanos();
            let allowed = passed * u128::from(per_minute) / 60_000_000_000 + u128::from(burst);
            prop_assert!(admitted <= allowed, "{admitted} > {allowed}");
        }
    }

    /// A caller that waits for exactly the returned time is admitted; a nanosecond earlier, it is not.
    #[test]
    fn a_wait_is_exactly_as_long_as_told(
        (per_minute, burst) in (1_u32..5000, 1_u32..100),
        asked in prop::collection::vec((0_u64..500, 0_u64..150), 1..40),
    ) {
        let mut now = Instant::now();
        let mut bucket = Bucket::full(rate(per_minute, burst), now);
        for (pause, amount) in asked {
            now += Duration::from_millis(pause);
            if let Err(wait) = bucket.take(amount, now) {
                prop_assert!(bucket.take(amount, now + wait - Duration::from_nanos(1)).is_err());
                now += wait;
                prop_assert!(bucket.take(amount, now).is_ok());
            }
        }
    }

    /// Nothing appears and nothing is lost: what is used is what was taken, less what was given
    /// back and what time returned, and never less than nothing.
    #[test]
    fn what_is_used_is_accounted_for(steps in steps()) {
        const UNIT: i128 = 60_000_000_000;
        let mut now = Instant::now();
        let (mut per_minute, mut used) = (100, 0_i128);
        let mut bucket = Bucket::full(rate(per_minute, per_minute), now);
        for (pause, step) in steps {
            now += Duration::from_millis(pause);
            used = (used - i128::from(pause) * 1_000_000 * i128::from(per_minute)).max(0);
            match step {
                Step::Take(amount) => {
                    used += i128::from(bucket.take(amount, now).unwrap_or(0)) * UNIT;
                }
                Step::UpTo(amount) => used += i128::from(bucket.take_up_to(amount, now)) * UNIT,
                Step::Charge(amount) => {
                    bucket.charge(amount, now);
                    used += i128::from(amount) * UNIT;
                }
                Step::GiveBack(amount) => {
                    bucket.give_back(amount, now);
                    used = (used - i128::from(amount) * UNIT).max(0);
                }
                Step::Change(next) => {
                    per_minute = next;
                    bucket.change(rate(next, next), now);
                }
            }
            prop_assert_eq!(bucket.used, used);
            let left = ((i128::from(per_minute) * UNIT - used).max(0)) / UNIT;
            prop_assert_eq!(i128::from(bucket.window(now).remaining), left);
            prop_assert_eq!(bucket.is_full(now), used == 0);
        }
    }
}
