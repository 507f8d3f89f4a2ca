//! The state machine of one target, with its clock passed in.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Health {
    Health::default()
}

/// A failure without a wait of the upstream's, and without jitter.
fn fail(cell: &mut Cell, effect: Effect, now: Instant) -> Option<Duration> {
    cell.fail((effect, None), (&settings(), 1.0), now)
}

fn state(cell: &Cell, now: Instant) -> CellState {
    cell.state(&settings(), now)
}

#[test]
fn failures_eject_after_five_in_a_row_and_silence_at_once() {
    let now = Instant::now();
    assert_eq!(fail(&mut Cell::default(), Effect::Dead, now), Some(15 * SECOND));
    assert_eq!(fail(&mut Cell::default(), Effect::Hard, now), Some(300 * SECOND));
    let mut cell = Cell::default();
    let pauses: Vec<_> = (0..6).map(|_| fail(&mut cell, Effect::Failure, now)).collect();
    assert_eq!(pauses, [None, None, None, None, Some(15 * SECOND), None]);
    assert_eq!(
        cell.report(now),
        Some(6),
        "those that were under way count, and eject nothing anew"
    );
}

/// Failures that say little about the target count half: in a row, and among the starts.
#[test]
fn minor_failures_count_half() {
    let now = Instant::now();
    let mut cell = Cell::default();
    for _ in 0..9 {
        assert_eq!(fail(&mut cell, Effect::Minor, now), None);
    }
    assert_eq!(fail(&mut cell, Effect::Minor, now), Some(15 * SECOND), "ten of them, not five");
    let mut cell = Cell::default();
    for _ in 0..5 {
        assert_eq!(fail(&mut cell, Effect::Minor, now), None);
        cell.succeed(&settings(), now);
    }
    assert_eq!(fail(&mut cell, Effect::Minor, now), None, "six halves of eleven starts");
}

/// A check that finds a target well ends the pause of failures alone, and a request still has to probe it.
#[test]
fn a_check_ends_the_pause_of_failures_only() {
    let now = Instant::now();
    for (effect, ends) in [(Effect::Dead, true), (Effect::Hard, false), (Effect::Limited, false)] {
        let mut cell = Cell::default();
        cell.fail((effect, Some(60 * SECOND)), (&settings(), 1.0), now);
        assert_eq!(cell.half_open(now), ends, "{effect:?}");
        assert_eq!(state(&cell, now) == CellState::Probe, ends, "{effect:?}");
        assert!(!cell.half_open(now + 2 * Duration::from_hours(1)), "it is over: {effect:?}");
    }
    assert!(!Cell::default().half_open(now));
}

/// R8: ten-minute answers are a start each, and no failure.
#[test]
fn r08_long_answers_trip_nothing() {
    let mut now = Instant::now();
    let mut cell = Cell::default();
    for _ in 0..100 {
        assert_eq!(cell.succeed(&settings(), now), (false, false));
        now += Duration::from_mins(10);
        assert_eq!(state(&cell, now), CellState::Closed(1.0));
    }
    // A break now and then, after ten minutes of output, is one failure among many starts.
    for _ in 0..100 {
        for _ in 0..9 {
            assert_eq!(cell.succeed(&settings(), now), (false, false));
        }
        assert_eq!(fail(&mut cell, Effect::Failure, now), None);
        now += Duration::from_mins(10);
    }
}

/// R7: a good start does not make up for a bad end, however many good starts there were; a complete answer does.
#[test]
fn r07_five_broken_answers_in_a_row_eject() {
    let now = Instant::now();
    let mut cell = Cell::default();
    (0..100).for_each(|_| {
        cell.succeed(&settings(), now);
        cell.complete();
    });
    let broken = |cell: &mut Cell, times: usize| -> Vec<Option<Duration>> {
        let mut end = || {
            cell.succeed(&settings(), now);
            fail(cell, Effect::Broken, now)
        };
        (0..times).map(|_| end()).collect()
    };
    assert_eq!(broken(&mut cell, 4), [None; 4]);
    cell.complete();
    assert_eq!(broken(&mut cell, 4), [None; 4]);
    assert_eq!(broken(&mut cell, 1), [Some(15 * SECOND)]);
}

/// R7, R8: a start counts once, a break once more; half of ten starts ejects, and long answers trip nothing.
#[test]
fn r07_half_of_ten_starts_ejects() {
    let now = Instant::now();
    let mut cell = Cell::default();
    for _ in 0..4 {
        assert_eq!(fail(&mut cell, Effect::Failure, now), None);
        cell.succeed(&settings(), now);
    }
    cell.succeed(&settings(), now);
    assert_eq!(fail(&mut cell, Effect::Failure, now), Some(15 * SECOND), "the tenth");
    let mut cell = Cell::default();
    for second in 0..100 {
        let now = now + second * 20 * SECOND;
        assert_eq!(fail(&mut cell, Effect::Failure, now), None, "the window is over");
        cell.succeed(&settings(), now);
    }
}

#[test]
fn r09_after_the_pause_one_probe_is_let_through() {
    let now = Instant::now();
    let mut cell = Cell::default();
    assert_eq!(state(&cell, now), CellState::Closed(1.0));
    fail(&mut cell, Effect::Dead, now);
    let until = now + 15 * SECOND;
    assert_eq!(state(&cell, now + 14 * SECOND), CellState::Out(Outage::Open, until));
    assert_eq!(state(&cell, until), CellState::Probe);
    cell.probe();
    assert_eq!(state(&cell, until), CellState::Out(Outage::Open, until), "the others pass it over");
    cell.end_probe(until);
    assert!(matches!(state(&cell, until + 4 * SECOND), CellState::Out(..)), "no verdict");
    assert_eq!(state(&cell, until + 5 * SECOND), CellState::Probe);
    cell.probe();
    assert_eq!(cell.succeed(&settings(), until + 6 * SECOND), (true, false));
    cell.end_probe(until + 6 * SECOND);
    assert_eq!(state(&cell, until + 6 * SECOND), CellState::Closed(0.1), "the ramp begins");
    assert_eq!(state(&cell, until + 36 * SECOND), CellState::Closed(1.0));
}

#[test]
fn while_its_weight_grows_one_failure_ejects_again() {
    let now = Instant::now();
    let mut cell = Cell::default();
    fail(&mut cell, Effect::Dead, now);
    cell.succeed(&settings(), now + 15 * SECOND);
    assert_eq!(fail(&mut cell, Effect::Failure, now + 20 * SECOND), Some(30 * SECOND));
    cell.succeed(&settings(), now + 60 * SECOND);
    let later = now + 60 * SECOND + 2 * 30 * SECOND;
    assert_eq!(fail(&mut cell, Effect::Dead, later), Some(15 * SECOND), "both were made good");
}

/// R4: what only the operator can fix is tried again within the hour.
#[test]
fn r04_each_failed_probe_doubles_the_pause_up_to_a_limit() {
    for (effect, first, most) in [(Effect::Dead, 15, 300), (Effect::Hard, 300, 3600)] {
        let mut now = Instant::now();
        let mut cell = Cell::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let pause = fail(&mut cell, effect, now);
            pauses.push(pause.unwrap().as_secs());
            now += pause.unwrap();
        }
        assert_eq!(pauses[..3], [first, 2 * first, 4 * first]);
        assert!(pauses[5..].iter().all(|pause| *pause == most), "{pauses:?}");
    }
}

/// R5, R3: a rate limit lasts until its own end, is no failure, and needs no probe.
#[test]
fn r05_the_end_of_a_rate_limit_only_moves_later() {
    let now = Instant::now();
    let mut cell = Cell::default();
    let limit = |seconds| (Effect::Limited, Some(seconds * SECOND));
    for (seconds, end) in [(1, 1), (60, 60), (2, 60)] {
        cell.fail(limit(seconds), (&settings(), 1.0), now);
        assert_eq!(state(&cell, now), CellState::Out(Outage::Cooling, now + end * SECOND));
    }
    assert_eq!(cell.succeed(&settings(), now), (false, false), "output that began before");
    assert!(matches!(state(&cell, now + 59 * SECOND), CellState::Out(..)));
    assert_eq!(state(&cell, now + 60 * SECOND), CellState::Closed(1.0));
    assert_eq!(cell.failures, 0);
    cell.fail(limit(1_000_000), (&settings(), 1.0), now);
    assert_eq!(state(&cell, now + MAX_WAIT), CellState::Closed(1.0), "an absurd wait is bounded");
}

#[test]
fn what_fails_and_recovers_all_the_time_is_reported_once_a_minute() {
    let now = Instant::now();
    let mut cell = Cell::default();
    let mut reports = Vec::new();
    for second in 0..150 {
        let now = now + second * SECOND;
        fail(&mut cell, Effect::Hard, now).unwrap();
        reports.extend(cell.report(now).map(|failures| (second, failures)));
        let reported = cell.succeed(&settings(), now).1;
        assert_eq!(reported, second % 60 == 0, "a recovery is logged if the failure was");
    }
    assert_eq!(reports, [(0, 1), (60, 60), (120, 60)]);
}

/// An event of a cell's life.
#[derive(Debug, Clone)]
enum Event {
    Fail(Effect, Option<u64>),
    Adopt(Outage, u64),
    Succeed,
    Probe,
    EndProbe,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let effect = prop_oneof![
        Just(Effect::Failure),
        Just(Effect::Minor),
        Just(Effect::Broken),
        Just(Effect::Dead),
        Just(Effect::Hard),
        Just(Effect::Limited)
    ];
    prop_oneof![
        (effect, proptest::option::of(0..u64::MAX))
            .prop_map(|(effect, wait)| Event::Fail(effect, wait)),
        (any::<bool>(), any::<u64>()).prop_map(|(hard, wait)| {
            Event::Adopt(if hard { Outage::Hard } else { Outage::Cooling }, wait)
        }),
        Just(Event::Succeed),
        Just(Event::Probe),
        Just(Event::EndProbe),
        (0..7200_u64).prop_map(Event::Wait),
    ]
}

proptest! {
    /// An end never moves earlier, every ejection ends within an hour and a fifth, and there is one probe at a time.
    #[test]
    fn any_life_of_a_cell_is_sound(events in proptest::collection::vec(event(), 0..60)) {
        let (mut cell, mut now) = (Cell::default(), Instant::now());
        let settings = settings();
        for event in events {
            let before = state(&cell, now);
            match event {
                Event::Fail(effect, wait) => {
                    let wait = wait.map(Duration::from_secs);
                    cell.fail((effect, wait), (&settings, 1.2), now);
                    if let (CellState::Out(_, end), CellState::Out(_, later)) = (before, state(&cell, now)) {
                        prop_assert!(later >= end);
                    }
                }
                Event::Adopt(outage, wait) => {
                    cell.adopt((outage, Duration::from_millis(wait)), &settings, now);
                    if let (CellState::Out(was, end), CellState::Out(is, later)) = (before, state(&cell, now)) {
                        prop_assert!(later >= end && is >= was);
                    }
                }
                Event::Succeed => {
                    cell.succeed(&settings, now);
                    prop_assert!(matches!(state(&cell, now), CellState::Closed(_) | CellState::Out(Outage::Cooling, _)));
                }
                Event::Probe if before == CellState::Probe => {
                    cell.probe();
                    prop_assert_ne!(state(&cell, now), CellState::Probe);
                }
                Event::Probe => {}
                Event::EndProbe => cell.end_probe(now),
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            cell.end_probe(now);
            let later = now + MAX_WAIT + Duration::from_mins(12);
            prop_assert!(!matches!(state(&cell, later), CellState::Out(..)), "{:?}", cell);
        }
    }
}
