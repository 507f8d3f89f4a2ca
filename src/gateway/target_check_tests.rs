//! Active checks under a paused clock.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use tokio::time::advance;

use super::*;
use crate::config::Target;
use crate::error::{Blame, Error};
use crate::gateway::route::Plan;
use crate::gateway::scripted::request as scripted;
use crate::gateway::target_health::{FailedAttempt, TargetState};
use crate::wire::chat::{ApiError, Kind};

const SECOND: Duration = Duration::from_secs(1);

fn fail(health: &TargetHealth, plan: &Plan, target: &Target, blame: Blame) {
    let error = Error::upstream(ApiError::new(Kind::Upstream, "no")).blamed(blame);
    // So that it lasts longer than the test.
    let error = error.cooling_for(Some(60 * SECOND));
    health.failed(plan, &FailedAttempt { target, error: &error, timed: true }, Instant::now());
}

/// A provider is checked while it is ejected for failures, and never otherwise; a check that succeeds lets a probe
/// through before its time.
#[tokio::test(start_paused = true)]
async fn checks_end_an_ejection_early() {
    for (blame, is_checked) in [(Blame::Host, true), (Blame::Credential, false)] {
        let order = scripted(true, "sim", &[("a", None)]);
        let target = order.plan.targets[0].clone();
        let check = Check { path: None, every: 4 * SECOND, timeout: SECOND };
        let provider = Provider { check: Some(check), ..(*target.provider).clone() };
        let provider = Arc::new(provider);
        let (asked, well) = (AtomicU32::new(0), AtomicU32::new(0));
        let answer = |_| {
            asked.fetch_add(1, SeqCst);
            let well = well.load(SeqCst) == 1;
            async move { if well { Ok(()) } else { Err("no".into()) } }
        };
        let keeping = keep(&order.health, || vec![Arc::clone(&provider)], answer);
        let watching = async {
            advance(5 * SECOND).await;
            assert_eq!(asked.load(SeqCst), 0, "all is well");
            let state = || order.health.state(&target, Instant::now());
            fail(&order.health, &order.plan, &target, blame);
            sleep(Duration::from_millis(9500)).await;
            let expected = if is_checked { 3 } else { 0 };
            assert_eq!(asked.load(SeqCst), expected, "within a second, and every four");
            assert!(matches!(state(), TargetState::Out(..)));
            well.store(1, SeqCst);
            sleep(5 * SECOND).await;
            assert_eq!(state() == TargetState::Probe, is_checked);
        };
        tokio::select! {
            never = keeping => match never {},
            () = watching => {}
        }
    }
}

/// A check that hangs ends with its timeout.
#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_ends() {
    let order = scripted(true, "sim", &[("a", None)]);
    let target = order.plan.targets[0].clone();
    let check = Check { path: None, every: SECOND, timeout: SECOND };
    let provider = Arc::new(Provider { check: Some(check), ..(*target.provider).clone() });
    let asked = AtomicU32::new(0);
    let hang = |_| {
        asked.fetch_add(1, SeqCst);
        std::future::pending()
    };
    fail(&order.health, &order.plan, &target, Blame::Host);
    let keeping = keep(&order.health, || vec![Arc::clone(&provider)], hang);
    assert!(timeout(Duration::from_millis(6500), keeping).await.is_err());
    assert_eq!(asked.load(SeqCst), 3);
}
