//! The registry of limiters, and admissions: acquisition, release, eviction. Time is paused.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::advance;

use super::{Admission, Limiter, LimiterRegistry, Scope, TokenDemand};
use crate::config::Limits;
use crate::error::Error;

const SECOND: Duration = Duration::from_secs(1);

/// Limits of requests, of tokens and of streams; 0 is none.
fn limits(requests: u32, tokens: u32, streams: usize) -> Limits {
    Limits {
        requests_per_minute: NonZeroU32::new(requests),
        tokens_per_minute: NonZeroU32::new(tokens),
        concurrent_streams: Some(streams).filter(|streams| *streams > 0),
        ..Limits::NONE
    }
}

fn limiter(scope: Scope, limits: Limits) -> Arc<Limiter> {
    Arc::new(Limiter::new(scope, limits))
}

fn caller(limits: Limits) -> Arc<Limiter> {
    limiter(Scope::Caller, limits)
}

fn demand(input: u64, max_output: u64) -> TokenDemand {
    TokenDemand { input, max_output: Some(max_output), choices: 1 }
}

/// Admits a request that may take so many tokens.
fn reserved(limiter: &Arc<Limiter>, tokens: u64) -> Result<Admission, Error> {
    let mut admission = limiter.admit()?;
    admission.reserve(&demand(0, tokens))?;
    Ok(admission)
}

fn requests_left(limiter: &Limiter) -> u32 {
    limiter.status(tokio::time::Instant::now()).requests.unwrap().remaining
}

fn tokens_left(limiter: &Limiter) -> u32 {
    limiter.status(tokio::time::Instant::now()).tokens.unwrap().remaining
}

#[tokio::test(start_paused = true)]
async fn what_a_request_may_take_is_its_prompt_and_every_alternative() {
    for (max_output, choices, expected) in [
        (Some(100), 1, 110),
        (Some(100), 3, 310),
        (None, 1, 1034),
        (None, 2, 2058),
        (Some(0), 0, 10),
    ] {
        let limiter = caller(limits(0, 10_000, 0));
        let mut admission = limiter.admit().unwrap();
        admission.reserve(&TokenDemand { input: 10, max_output, choices }).unwrap();
        assert_eq!(tokens_left(&limiter), 10_000 - expected);
        assert_eq!(admission.covered(), u64::from(expected) - 10);
        drop(admission);
        assert_eq!(tokens_left(&limiter), 10_000, "nothing was used");
    }
    let limiter = caller(limits(0, 10_000, 0));
    let mut admission = limiter.admit().unwrap();
    // A claim for more than there is gets all of it and leaves no debt.
    let absurd = TokenDemand { input: u64::MAX, max_output: Some(u64::MAX), choices: u64::MAX };
    admission.reserve(&absurd).unwrap();
    advance(6 * SECOND).await;
    assert_eq!(tokens_left(&limiter), 1000);
    drop(admission);
    assert_eq!(tokens_left(&limiter), 10_000);
}

#[tokio::test(start_paused = true)]
async fn it_is_settled_with_what_was_used() {
    for (used, left) in [(0, 1000), (30, 970), (100, 900), (150, 850), (5000, 0)] {
        let limiter = caller(limits(0, 1000, 0));
        let mut admission = reserved(&limiter, 100).unwrap();
        assert_eq!(tokens_left(&limiter), 900);
        admission.settle(used);
        drop(admission);
        assert_eq!(tokens_left(&limiter), left);
    }
}

/// Failure mode 8, on as many threads as there are: the tokens reserved at once are never more than
/// there are, and all of them come back.
#[test]
fn fm08_threads_stay_within_the_rate_limit_together() {
    let limiter = caller(limits(0, 1000, 0));
    let admitted = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    admitted.lock().unwrap().extend(reserved(&limiter, 90));
                }
            });
        }
    });
    let admitted = admitted.into_inner().unwrap();
    // The twelfth would demand 80 that come back in five seconds.
    assert_eq!(admitted.len(), 11);
    drop(admitted);
    assert_eq!(tokens_left(&limiter), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_debt_is_paid_before_anybody_gets_in() {
    let limiter = caller(limits(0, 60, 0));
    let mut admission = reserved(&limiter, 60).unwrap();
    admission.settle(90);
    drop(admission);
    let refused = reserved(&limiter, 1).unwrap_err();
    assert_eq!(refused.wait(), Some(31 * SECOND));
    assert_eq!(refused.limit(), Some(("caller", "tokens_per_minute")));
    advance(31 * SECOND).await;
    assert!(reserved(&limiter, 1).is_ok());
}

/// The caller's limiter lets it in and the model's does not, or its tokens do not.
#[tokio::test(start_paused = true)]
async fn a_refused_request_uses_nothing_up() {
    let mine = caller(limits(10, 1000, 10));
    for (model, limit) in [
        (limits(1, 0, 0), "requests_per_minute"),
        (limits(0, 50, 0), "tokens_per_minute"),
        (limits(0, 0, 1), "concurrent_streams"),
    ] {
        let model = limiter(Scope::Model, model);
        let both = || {
            let mut admission = mine.admit()?;
            admission.acquire(&model)?;
            admission.reserve(&demand(0, 50))?;
            Ok::<_, Error>(admission)
        };
        let first = both().unwrap();
        let before = mine.status(tokio::time::Instant::now());
        for _ in 0..20 {
            let refused = both().unwrap_err();
            assert_eq!(refused.limit(), Some(("model", limit)));
        }
        assert_eq!(mine.status(tokio::time::Instant::now()), before);
        assert_eq!(mine.lock().streams, 1);
        drop(first);
        assert_eq!((mine.lock().streams, model.lock().streams), (0, 0));
        advance(60 * SECOND).await;
    }
    // A request that the first limiter rejects is not counted there either.
    for _ in 0..10 {
        mine.admit().unwrap();
    }
    let wait = mine.admit().unwrap_err().wait();
    for _ in 0..10 {
        assert_eq!(mine.admit().unwrap_err().wait(), wait);
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_was_reserved_is_taken_as_it_comes() {
    let limiter = caller(limits(0, 1000, 0));
    let mut admission = reserved(&limiter, 100).unwrap();
    admission.extend(101).unwrap();
    assert_eq!(tokens_left(&limiter), 1000 - 100 - 257);
    assert_eq!(admission.covered(), 357);
    // Without `cut_off`, the rest becomes a debt.
    admission.extend(2000).unwrap();
    assert_eq!((tokens_left(&limiter), admission.covered()), (0, 2256));
    assert!(reserved(&limiter, 1).is_err());
    admission.settle(500);
    drop(admission);
    assert_eq!(tokens_left(&limiter), 500);
}

#[tokio::test(start_paused = true)]
async fn who_asked_for_it_is_cut_off_when_the_bucket_is_empty() {
    let cut = |scope| limiter(scope, Limits { cut_off: true, ..limits(0, 1000, 0) });
    for (mine, model, scope) in [
        (cut(Scope::Caller), limiter(Scope::Model, limits(0, 2000, 0)), "caller"),
        (caller(limits(0, 2000, 0)), cut(Scope::Model), "model"),
    ] {
        let mut admission = mine.admit().unwrap();
        admission.acquire(&model).unwrap();
        admission.reserve(&demand(50, 50)).unwrap();
        let mut came;
        let error = loop {
            came = admission.covered() + 1;
            if let Err(error) = admission.extend(came) {
                break error;
            }
            assert!(came < 1000);
        };
        assert_eq!(came, 951, "all of the thousand, less the prompt");
        assert_eq!(error.limit(), Some((scope, "tokens_per_minute")));
        assert_eq!(error.outcome(), "cut_off");
        assert!(error.wait() >= Some(60 * SECOND));
        admission.settle(50 + came);
        drop(admission);
        let left = if scope == "caller" { tokens_left(&model) } else { tokens_left(&mine) };
        assert_eq!(left, 999);
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_can_only_be_cut_off_is_not_sent() {
    let limiter = caller(Limits { cut_off: true, ..limits(0, 1000, 0) });
    let refused = limiter.admit().unwrap().reserve(&demand(1000, 1)).unwrap_err();
    assert_eq!((refused.wait(), refused.limit()), (None, None), "it is no use to come back");
    assert_eq!(tokens_left(&limiter), 1000);
    limiter.admit().unwrap().reserve(&demand(999, 5000)).unwrap();
    let owes = caller(limits(0, 1000, 0));
    owes.admit().unwrap().reserve(&demand(5000, 1)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn other_limits_leave_what_is_used_used() {
    let limiters = LimiterRegistry::default();
    let limiter = limiters.of("a", limits(10, 1000, 2));
    let mut admissions: Vec<_> = (0..2).map(|_| reserved(&limiter, 300).unwrap()).collect();
    let same = limiters.of("a", limits(20, 2000, 3));
    assert!(Arc::ptr_eq(&limiter, &same));
    assert_eq!((requests_left(&limiter), tokens_left(&limiter)), (18, 1400));
    let third = limiter.admit().unwrap();
    assert_eq!(limiter.admit().unwrap_err().limit(), Some(("caller", "concurrent_streams")));
    drop(third);
    // Lifted and set again: still used. Those under way are settled all the same.
    limiters.of("a", Limits::NONE);
    assert!(limiter.status(tokio::time::Instant::now()).requests.is_none());
    limiters.of("a", limits(10, 1000, 2));
    assert_eq!((requests_left(&limiter), tokens_left(&limiter)), (7, 400));
    assert_eq!(limiter.admit().unwrap_err().limit(), Some(("caller", "concurrent_streams")));
    admissions.clear();
    assert_eq!(tokens_left(&limiter), 1000);
    // Smaller than what is used: then all of it is used, and no more of it is remembered.
    for _ in 0..5 {
        limiters.of("a", limits(2, 1000, 2));
        assert!(limiter.admit().is_err());
        limiters.of("a", limits(10, 1000, 2));
    }
    assert_eq!(requests_left(&limiter), 8);
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_tokens_does_not_count_those_who_came_before_it() {
    let limiters = LimiterRegistry::default();
    let limiter = limiters.of("a", Limits::NONE);
    let mut admission = reserved(&limiter, 500).unwrap();
    limiters.of("a", limits(0, 1000, 0));
    admission.settle(500);
    drop(admission);
    assert_eq!(tokens_left(&limiter), 1000);
}

/// A limiter is removed when it has no lease and a new one would be the same: not before.
#[tokio::test(start_paused = true)]
async fn gates_of_idle_callers_are_dropped_and_nothing_is_given_back() {
    let limiters = LimiterRegistry::default();
    let limits = limits(60, 600, 1);
    let held = limiters.of("held", limits);
    let open = limiters.of("open", limits).admit().unwrap();
    let mut owes = reserved(&limiters.of("owes", limits), 600).unwrap();
    owes.settle(3000);
    drop(owes);
    drop(limiters.of("used", limits).admit().unwrap());
    drop(limiters.of("idle", limits));
    let count = async || {
        limiters.survey(|_, _| {}).await;
        limiters.len()
    };
    assert_eq!(count().await, 4, "only `idle` goes at once");
    advance(SECOND).await;
    assert_eq!(count().await, 3, "`used` has its request back");
    advance(4 * 60 * SECOND).await;
    assert_eq!(count().await, 3, "`owes` owed four minutes and a full bucket");
    drop(open);
    advance(60 * SECOND).await;
    assert_eq!(count().await, 1);
    assert!(Arc::ptr_eq(&held, &limiters.of("held", limits)));
}

#[tokio::test(start_paused = true)]
async fn gates_do_not_grow_with_the_callers_that_ever_were() {
    let limiters = LimiterRegistry::default();
    let mut most = 0;
    for minute in 0..20 {
        for caller in 0..2000 {
            drop(limiters.of(&format!("{minute}-{caller}"), limits(60, 0, 0)).admit().unwrap());
        }
        most = most.max(limiters.len());
        advance(60 * SECOND).await;
    }
    assert!(most < 8000, "{most} limiters for 2000 callers at a time");
    assert!(most >= 2000, "{most}: those that have used something stay");
}
