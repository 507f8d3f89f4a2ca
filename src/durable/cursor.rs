//! Cursors: numbers that change with time, which clients repeat so that caches between them and the server do not
//! answer with the same response for ever. A cursor must never go backwards. Pure.

use std::time::Duration;

use rand::RngExt as _;

/// The start of the count: 2024-10-09, in seconds since 1970.
const EPOCH: u64 = 1_728_432_000;

/// The seconds of one number.
const INTERVAL: u64 = 20;

/// The most seconds by which a repeated cursor is moved forward.
const MAX_JITTER: u64 = 3_600;

/// The cursor of a response at a time since 1970, to a client that sent the last one.
pub(super) fn next(sent: Option<u64>, unix: Duration) -> u64 {
    let current = unix.as_secs().saturating_sub(EPOCH) / INTERVAL;
    let jitter = rand::rng().random_range(1..=MAX_JITTER).div_ceil(INTERVAL);
    let later = sent.filter(|sent| *sent >= current).and_then(|sent| sent.checked_add(jitter));
    later.unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_the_time_and_never_what_was_sent() {
        let unix = Duration::from_secs(EPOCH + 1000 * INTERVAL + 19);
        assert_eq!(next(None, unix), 1000);
        assert_eq!(next(Some(999), unix), 1000);
        for sent in [1000, 1001, 5000] {
            let moved = next(Some(sent), unix) - sent;
            assert!((1..=180).contains(&moved), "{sent}: {moved}");
        }
        assert_eq!(next(Some(u64::MAX), unix), 1000);
        assert_eq!(next(None, Duration::ZERO), 0);
    }
}
