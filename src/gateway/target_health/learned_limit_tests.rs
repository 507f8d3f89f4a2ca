//! The adaptive concurrency limit in front of a simulated upstream that takes a fixed number of answers.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// An upstream that takes `cap` answers at once, each of which lasts a second, under a load of `arrivals` requests each
/// 50 ms.
struct Upstream {
    streams: AccountStreams,
    now: Instant,
    ends: VecDeque<Instant>,
    refused: u32,
    served: u32,
    most_open: usize,
}

impl Upstream {
    fn new() -> Self {
        let (streams, now, ends) = (AccountStreams::default(), Instant::now(), VecDeque::new());
        Self { streams, now, ends, refused: 0, served: 0, most_open: 0 }
    }

    fn run(&mut self, (cap, arrivals): (usize, u32), time: Duration) {
        (self.refused, self.served, self.most_open) = (0, 0, 0);
        let until = self.now + time;
        while self.now < until {
            self.now += SECOND / 20;
            while self.ends.front().is_some_and(|end| *end <= self.now) {
                self.ends.pop_front();
                self.streams.completed(self.now);
                self.streams.end();
            }
            for _ in 0..arrivals {
                if !self.streams.begin((None, false), self.now) {
                    continue;
                }
                if self.ends.len() >= cap {
                    self.refused += 1;
                    self.streams.refused(self.now);
                    self.streams.end();
                } else {
                    self.ends.push_back(self.now + SECOND);
                    self.served += 1;
                }
            }
            self.most_open = self.most_open.max(self.ends.len());
        }
    }

    fn limit(&self) -> Option<u32> {
        self.streams.limit(self.now)
    }
}

/// Four answers at once: the limit settles there, all of them are used, and less than 2 % of the requests are refused.
#[test]
fn a_learned_limit_settles_at_what_the_upstream_takes() {
    let mut upstream = Upstream::new();
    upstream.run((4, 3), 120 * SECOND);
    upstream.run((4, 3), 1800 * SECOND);
    assert!(upstream.limit().is_some_and(|limit| limit.abs_diff(4) <= 1), "{:?}", upstream.limit());
    assert_eq!(upstream.most_open, 4);
    let (refused, served) = (upstream.refused, upstream.served);
    assert!(refused > 0 && refused * 50 < refused + served, "{refused} of {served}");
    assert!(served > 4 * 1800 * 9 / 10, "{served} of 7200: little of the room is unused");
}

#[test]
fn a_learned_limit_follows_an_upstream_that_takes_more_or_less() {
    let mut upstream = Upstream::new();
    upstream.run((4, 3), 120 * SECOND);
    upstream.run((12, 3), 300 * SECOND);
    assert!(
        upstream.limit().is_some_and(|limit| limit.abs_diff(12) <= 1),
        "{:?}",
        upstream.limit()
    );
    upstream.run((2, 3), 60 * SECOND);
    assert!(upstream.limit().is_some_and(|limit| limit.abs_diff(2) <= 1), "{:?}", upstream.limit());
}

/// Of requests that were sent together, the refusals count down to what was taken.
#[test]
fn a_burst_teaches_the_number_that_was_taken() {
    let (streams, now) = (AccountStreams::default(), Instant::now());
    for _ in 0..10 {
        assert!(streams.begin((None, false), now));
    }
    for _ in 0..6 {
        streams.refused(now);
        streams.end();
    }
    assert_eq!((streams.limit(now), streams.open()), (Some(4), 4));
    assert!(!streams.begin((None, false), now));
}

#[test]
fn a_request_that_was_alone_teaches_nothing() {
    let (streams, now) = (AccountStreams::default(), Instant::now());
    assert!(streams.begin((None, false), now));
    streams.refused(now);
    assert_eq!(streams.limit(now), None);
    streams.end();
    assert!(streams.begin((None, false), now) && streams.begin((None, false), now));
}

#[test]
fn a_learned_limit_is_raised_with_time_and_forgotten_after_ten_minutes() {
    let (streams, now) = (AccountStreams::default(), Instant::now());
    assert!(streams.begin((None, false), now) && streams.begin((None, false), now));
    streams.refused(now);
    streams.end();
    assert!(!streams.begin((None, false), now + 9 * SECOND));
    assert!(streams.begin((None, false), now + 10 * SECOND));
    assert_eq!(streams.limit(now + 10 * SECOND), Some(2));
    assert_eq!(streams.limit(now + 600 * SECOND), None);
    for _ in 0..100 {
        assert!(streams.begin((None, false), now + 600 * SECOND));
    }
    assert_eq!(streams.limit(now + 600 * SECOND), None);
}

#[test]
fn max_streams_is_on_top_of_a_learned_limit() {
    let (streams, now) = (AccountStreams::default(), Instant::now());
    assert!((0..4).all(|_| streams.begin((None, false), now)));
    streams.refused(now);
    streams.end();
    streams.end();
    assert_eq!(streams.limit(now), Some(3));
    assert!(!streams.begin((Some(2), false), now + 60 * SECOND));
    assert!(streams.begin((Some(9), false), now));
    assert!(!streams.begin((Some(9), false), now));
}

proptest! {
    /// The limit is always at least one and at most one above what was ever in progress, a refusal never
    /// raises it, and no more begin than it allows.
    #[test]
    fn a_learned_limit_stays_within_bounds(steps in prop::collection::vec((0_u8..4, 0_u64..30), 1..400)) {
        let (streams, mut now) = (AccountStreams::default(), Instant::now());
        let mut highest = 0;
        for (step, seconds) in steps {
            now += Duration::from_secs(seconds);
            let (before, open) = (streams.limit(now), streams.open());
            match step {
                0 | 1 => {
                    if streams.begin((None, false), now) {
                        let after = streams.limit(now);
                        prop_assert!(after.is_none_or(|limit| open < limit));
                    } else {
                        prop_assert!(streams.limit(now).is_some_and(|limit| open >= limit));
                    }
                }
                2 if open > 0 => {
                    streams.completed(now);
                    streams.end();
                }
                3 if open > 0 => {
                    streams.refused(now);
                    streams.end();
                    if let (Some(before), Some(after)) = (before, streams.limit(now)) {
                        prop_assert!(after <= before);
                    }
                }
                _ => {}
            }
            highest = highest.max(streams.open());
            if let Some(limit) = streams.limit(now) {
                prop_assert!(limit >= 1 && limit <= highest + 1);
            }
        }
    }
}
