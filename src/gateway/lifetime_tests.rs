//! Lifetimes with paused time: spread, however busy a connection is, and shortened by a shutdown.

use std::pin::pin;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::sleep;

use super::*;
use crate::config::Config;
use crate::gateway::delivery::{Following, follow};
use crate::server::Shutdown;
use crate::streams::generation::Generation;
use crate::streams::viewer::tests::generation;
use crate::streams::viewer::{Form, Viewer};

fn gateway() -> Gateway {
    Gateway::new(Config::default(), &Shutdown::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_spread() {
    let (gateway, now) = (gateway(), Instant::now());
    let longest = Duration::from_secs(100);
    let lifetimes: Vec<_> =
        (0..50).map(|_| Lifetime::of_follower(&gateway, Some(longest))).collect();
    for lifetime in &lifetimes {
        assert!(!lifetime.is_over(now + Duration::from_millis(79_999)));
        assert!(lifetime.is_over(now + longest));
    }
    let ends: std::collections::BTreeSet<_> =
        lifetimes.iter().map(|one| one.or(now + longest * 2)).collect();
    assert!(ends.len() > 40, "{ends:?}");
    assert!(!Lifetime::of_follower(&gateway, None).is_over(now + longest * 1000));
}

#[tokio::test(start_paused = true)]
async fn a_handover_shortens_it_once() {
    let (stopping, now) = (CancellationToken::new(), Instant::now());
    let second = Duration::from_secs(1);
    let mut lifetime =
        Lifetime { until: Some(now + second * 9), handover: Some((stopping.clone(), second)) };
    let waited = tokio::time::timeout(second, lifetime.shortened()).await;
    assert!(waited.is_err() && lifetime.or(now + second * 20) == now + second * 9);
    stopping.cancel();
    lifetime.shortened().await;
    assert_eq!(lifetime.or(now + second * 20), now + second * 2);
    let again = tokio::time::timeout(second * 5, lifetime.shortened()).await;
    assert!(again.is_err() && lifetime.is_over(Instant::now()));
}

/// The parts of a follower's body, each with the second at which it arrives; an event is appended every so often.
async fn followed(
    lifetime: Lifetime,
    every: Option<Duration>,
    mut at: impl FnMut(u64),
) -> Vec<(u64, String)> {
    let generation = generation(usize::MAX);
    let viewer =
        Viewer::new(std::sync::Arc::clone(&generation), None, 0, (Form::Blocks, Duration::ZERO));
    let mut body = pin!(follow(Following {
        viewer,
        preamble: Bytes::new(),
        heartbeat: Bytes::from_static(b":"),
        every: Duration::from_secs(15),
        account: None,
        right: None,
        lifetime,
    }));
    let begun = Instant::now();
    let appending = async {
        for second in 1.. {
            sleep(every.unwrap_or(Duration::from_secs(1))).await;
            at(second);
            if every.is_some() {
                append(&generation);
            }
        }
    };
    let reading = async {
        let mut parts = Vec::new();
        while let Some(part) = body.next().await {
            let part = String::from_utf8(part.unwrap().to_vec()).unwrap();
            parts.push((begun.elapsed().as_secs(), part));
        }
        parts
    };
    tokio::select! {
        () = appending => unreachable!("it never ends"),
        parts = reading => parts,
    }
}

fn append(generation: &Generation) {
    generation.append(b"data: x\n\n", false);
}

fn is_retry(part: &str) -> bool {
    let number = part.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
    number.is_some_and(|number| (2_000..=5_000).contains(&number.parse().unwrap_or(0)))
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_sent_away_with_a_retry_whether_it_is_busy_or_silent() {
    let longest = Some(Duration::from_secs(100));
    for every in [None, Some(Duration::from_millis(100))] {
        let parts = followed(Lifetime::of_follower(&gateway(), longest), every, |_| ()).await;
        let ((at, last), before) = parts.split_last().unwrap();
        assert!(is_retry(last) && (80..=100).contains(at), "{at} {last}");
        let expected = if every.is_some() { "data: x\nid: " } else { ":" };
        assert!(before.iter().all(|(_, part)| part.starts_with(expected)), "{before:?}");
        assert!(if every.is_some() { before.len() > 790 } else { before.len() <= 6 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_follower_is_handed_over_when_the_process_stops() {
    let stopping = CancellationToken::new();
    let handover = Some((stopping.clone(), Duration::from_secs(3)));
    let lifetime = Lifetime { until: None, handover };
    let parts = followed(lifetime, None, |second| {
        if second == 20 {
            stopping.cancel();
        }
    });
    let [(15, heartbeat), (23, last)] = &parts.await[..] else { panic!("late, or early") };
    assert!(heartbeat == ":" && is_retry(last), "{last}");
}
