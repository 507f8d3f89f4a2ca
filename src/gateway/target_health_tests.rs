//! The state machine of one target, with its clock passed in.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_hard_failure_ejects_at_once_and_a_soft_one_three_times() {
    let now = Instant::now();
    let mut hard = Cell::default();
    assert_eq!(hard.fail(true, TARGET_PAUSE, now), Some(5 * SECOND));
    let mut soft = Cell::default();
    let pauses: Vec<_> = (0..4).map(|_| soft.fail(false, TARGET_PAUSE, now)).collect();
    assert_eq!(pauses, [None, None, Some(5 * SECOND), None]);
    assert_eq!(soft.unreported, 4, "those that were under way count, and eject nothing anew");
}

#[test]
fn after_the_pause_one_probe_is_let_through() {
    let now = Instant::now();
    let mut cell = Cell::default();
    assert_eq!(cell.state(now), CellState::Open);
    cell.fail(true, TARGET_PAUSE, now);
    let until = now + 5 * SECOND;
    assert_eq!(cell.state(now + 4 * SECOND), CellState::Ejected(until));
    assert_eq!(cell.state(until), CellState::Probe);
    cell.probing = true;
    assert_eq!(cell.state(until), CellState::Ejected(until), "the others still pass it over");
    cell.probing = false;
    assert_eq!(
        cell.state(until),
        CellState::Probe,
        "a probe without a verdict gives its right back"
    );
}

#[test]
fn each_failed_probe_doubles_the_pause_up_to_a_limit() {
    let mut now = Instant::now();
    let mut cell = Cell::default();
    let mut pauses = Vec::new();
    for _ in 0..40 {
        let pause = cell.fail(true, TARGET_PAUSE, now);
        pauses.push(pause.unwrap().as_secs());
        now += pause.unwrap();
    }
    assert_eq!(pauses[..6], [5, 10, 20, 40, 80, 120]);
    assert!(pauses[5..].iter().all(|pause| *pause == 120));
}

#[test]
fn what_fails_and_recovers_all_the_time_is_reported_once_a_minute() {
    let now = Instant::now();
    let mut cell = Cell::default();
    let mut reports = Vec::new();
    for second in 0..150 {
        let now = now + second * SECOND;
        assert_eq!(cell.fail(true, CREDENTIAL_PAUSE, now), Some(30 * SECOND));
        reports.extend(cell.report(now).map(|failures| (second, failures)));
        assert_eq!(cell.recover(), second % 60 == 0, "a recovery is logged if the failure was");
        assert_eq!(cell.state(now), CellState::Open);
    }
    assert_eq!(reports, [(0, 1), (60, 60), (120, 60)]);
}
