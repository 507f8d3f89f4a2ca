//! Circuit breaker of one target, credential or host: a state machine with its clock passed in. Pure. It must never
//! move the end of an outage to an earlier time, but for a check that has found its subject well.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Health;
use crate::wire::chat::Kind;

/// The slots of the sliding window.
const SLOTS: usize = 6;

/// The longest time that an upstream's own wait keeps its target ejected: more is a mistake.
pub(super) const MAX_WAIT: Duration = Duration::from_hours(1);

/// The time until the next probe after one that decided nothing.
const INCONCLUSIVE: Duration = Duration::from_secs(5);

/// One that fails and recovers all the time is reported no more often than this.
const REPORT_EVERY: Duration = Duration::from_mins(1);

/// The weight of a target that has just recovered.
const RAMP_START: f64 = 0.1;

/// The effect of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// A failure that may be chance: 5xx.
    Failure,
    /// The same after a good start: an answer that broke off.
    Broken,
    /// One that says little about the target, and counts half: 408, 409, 425.
    Minor,
    /// A failure that costs so much that one is enough: no connection, or silence.
    Dead,
    /// A fault that only the operator can fix.
    Hard,
    /// A rate limit that lasts until a known time. It is no failure.
    Limited,
}

/// The cause for which a target is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outage {
    /// A rate limit, until it is over.
    Cooling,
    /// Failures.
    Open,
    /// A fault that only the operator can fix.
    Hard,
    /// An operator has taken it out.
    Drained,
}

impl Outage {
    /// Its stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cooling => "cooling",
            Self::Open => "open",
            Self::Hard => "hard",
            Self::Drained => "drained",
        }
    }
}

/// The state of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CellState {
    /// It takes requests, at this share of its weight.
    Closed(f64),
    /// It takes this one request as a probe.
    Probe,
    /// It is passed over until then.
    Out(Outage, Instant),
}

/// Starts in a slot of the window, and failures in halves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    number: u64,
    starts: u32,
    failures: u32,
}

/// The health of one subject since it last was well.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cell {
    slots: [Slot; SLOTS],
    /// The beginning of the window's first slot.
    origin: Option<Instant>,
    /// Failures in a row, in halves.
    failures: u32,
    /// Answers in a row that broke off: a good start must not make up for a bad end.
    broken: u32,
    /// Ejections, less those that were made good.
    trips: u32,
    /// The ejection, until a probe succeeds.
    outage: Option<(Outage, Instant)>,
    /// The kind of error that caused it.
    cause: Option<Kind>,
    /// The length of the last ejection.
    pause: Duration,
    /// The end of the last ejection, by a success.
    recovered: Option<Instant>,
    /// A request is probing whether it is well again.
    probing: bool,
    /// Failures since the last report, and its time.
    unreported: u64,
    reported: Option<Instant>,
    /// This ejection was reported, so that its end is, too.
    told: bool,
}

impl Cell {
    /// Its state at this time.
    pub(super) fn state(&self, settings: &Health, now: Instant) -> CellState {
        match self.outage {
            Some((outage, until)) if now < until => CellState::Out(outage, until),
            Some((Outage::Cooling, _)) | None => CellState::Closed(self.weight(settings, now)),
            Some((outage, until)) if self.probing => CellState::Out(outage, until),
            Some(_) => CellState::Probe,
        }
    }

    /// Takes the right to probe.
    pub(super) fn probe(&mut self) {
        self.probing = true;
    }

    /// Gives back the right to probe. A probe without a verdict lets the next one wait.
    pub(super) fn end_probe(&mut self, now: Instant) {
        if std::mem::take(&mut self.probing)
            && let Some((_, until)) = &mut self.outage
        {
            *until = (*until).max(now + INCONCLUSIVE);
        }
    }

    /// Counts a failure. `floor`: the wait that the upstream asks for. `jitter`: a factor for the length of the ejection.
    /// Returns its length, if there is one that was not there before.
    pub(super) fn fail(
        &mut self,
        (effect, floor): (Effect, Option<Duration>),
        (settings, jitter): (&Health, f64),
        now: Instant,
    ) -> Option<Duration> {
        let floor = floor.unwrap_or_default().min(MAX_WAIT);
        if effect == Effect::Limited {
            return self.eject(Outage::Cooling, floor, now).then_some(floor);
        }
        let halves = if effect == Effect::Minor { 1 } else { 2 };
        self.failures = self.failures.saturating_add(halves);
        self.unreported = self.unreported.saturating_add(1);
        self.broken = self.broken.saturating_add(u32::from(effect == Effect::Broken));
        self.count(settings, now, halves);
        let out = self.outage.filter(|(outage, _)| *outage != Outage::Cooling);
        // Those that were under way when it was ejected add nothing but a later end.
        if out.is_some_and(|(outage, until)| {
            now < until && (effect != Effect::Hard || outage == Outage::Hard)
        }) {
            self.extend(now + floor);
            return None;
        }
        let ramping = self.recovered.is_some_and(|at| now < at + settings.ramp);
        let trips = matches!(effect, Effect::Dead | Effect::Hard) || out.is_some() || ramping;
        let many = self.failures >= settings.consecutive.saturating_mul(2)
            || self.broken >= settings.consecutive;
        if !(trips || many || self.exceeds(settings, now)) {
            return None;
        }
        let (outage, [shortest, longest]) = match effect {
            Effect::Hard => (Outage::Hard, settings.hard),
            Effect::Failure | Effect::Broken | Effect::Minor | Effect::Dead | Effect::Limited => {
                (Outage::Open, settings.cooldown)
            }
        };
        self.make_good(now);
        let doubled = shortest.saturating_mul(1_u32 << self.trips.min(16)).min(longest);
        let pause = doubled.mul_f64(jitter.clamp(0.5, 1.5)).min(longest).max(floor);
        self.trips = self.trips.saturating_add(1);
        self.pause = doubled;
        self.probing = false;
        self.recovered = None;
        self.eject(outage, pause, now);
        Some(pause)
    }

    /// Takes over an ejection that another node has made, of this length and at most as long as its own may be. Returns
    /// its length, if it is new here.
    pub(super) fn adopt(
        &mut self,
        (outage, remaining): (Outage, Duration),
        settings: &Health,
        now: Instant,
    ) -> Option<Duration> {
        let longest = match outage {
            Outage::Cooling => MAX_WAIT,
            Outage::Hard => MAX_WAIT.max(settings.hard[1]),
            Outage::Open | Outage::Drained => return None,
        };
        let pause = remaining.min(longest);
        if pause.is_zero() {
            return None;
        }
        let active = |outage: Option<(Outage, Instant)>| {
            outage.filter(|(_, until)| now < *until).map(|(outage, _)| outage)
        };
        let before = active(self.outage);
        self.eject(outage, pause, now);
        (active(self.outage) != before).then_some(pause)
    }

    /// Counts a success: output has begun. Returns whether it ends an ejection, and one that was reported.
    pub(super) fn succeed(&mut self, settings: &Health, now: Instant) -> (bool, bool) {
        self.failures = 0;
        self.count(settings, now, 0);
        match self.outage {
            // Output that began before the limit was reached does not end it.
            Some((Outage::Cooling, until)) if now < until => (false, false),
            None => (false, false),
            Some((outage, _)) => {
                self.outage = None;
                self.probing = false;
                let ejected = outage != Outage::Cooling;
                if ejected {
                    self.recovered = Some(now);
                }
                (ejected, std::mem::take(&mut self.told))
            }
        }
    }

    /// Sets the kind of error that has ejected it.
    pub(super) fn caused_by(&mut self, kind: Kind) {
        self.cause = Some(kind);
    }

    /// The kind of error that has ejected it.
    pub(super) fn cause(&self) -> Option<Kind> {
        self.cause.filter(|_| self.outage.is_some())
    }

    /// Ends the pause of failures that may be chance, so that the next request is a probe. Returns whether there was one.
    pub(super) fn half_open(&mut self, now: Instant) -> bool {
        match &mut self.outage {
            Some((Outage::Open, until)) if now < *until => {
                *until = now;
                true
            }
            _ => false,
        }
    }

    /// Counts an answer that is complete.
    pub(super) fn complete(&mut self) {
        self.broken = 0;
    }

    /// Whether it has nothing to remember.
    pub(super) fn is_well(&self, settings: &Health, now: Instant) -> bool {
        let past = |at: Option<Instant>, time| at.is_none_or(|at| now >= at + time);
        let settled = self.pause.saturating_mul(self.trips);
        self.outage.is_none_or(|(outage, until)| outage == Outage::Cooling && now >= until)
            && self.window(settings, now).1 == 0
            && past(self.recovered, settings.ramp.max(settled))
            && past(self.reported, REPORT_EVERY)
    }

    /// The number of failures to report now; `None`: there has just been a report.
    pub(super) fn report(&mut self, now: Instant) -> Option<u64> {
        if self.reported.is_some_and(|at| now < at + REPORT_EVERY) {
            return None;
        }
        self.reported = Some(now);
        self.told = true;
        Some(std::mem::take(&mut self.unreported))
    }

    /// The share of its weight: less than all for some time after an ejection.
    fn weight(&self, settings: &Health, now: Instant) -> f64 {
        let Some(at) = self.recovered.filter(|_| !settings.ramp.is_zero()) else { return 1.0 };
        let done = now.saturating_duration_since(at).as_secs_f64() / settings.ramp.as_secs_f64();
        (RAMP_START + (1.0 - RAMP_START) * done).min(1.0)
    }

    /// Ejects for a time; the end only moves later. Returns whether it was not ejected before.
    fn eject(&mut self, outage: Outage, pause: Duration, now: Instant) -> bool {
        let until = now + pause;
        let before = self.outage.filter(|(_, until)| now < *until);
        self.outage = Some(match before {
            Some((was, end)) => (was.max(outage), end.max(until)),
            None => (outage, until),
        });
        before.is_none() && until > now
    }

    fn extend(&mut self, end: Instant) {
        if let Some((_, until)) = &mut self.outage {
            *until = (*until).max(end);
        }
    }

    /// A time without an ejection as long as the last one makes one of them good.
    fn make_good(&mut self, now: Instant) {
        let Some(at) = self.recovered else { return };
        let well = now.saturating_duration_since(at).as_nanos();
        let good = well.checked_div(self.pause.as_nanos()).unwrap_or(u128::MAX);
        self.trips = self.trips.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX));
    }

    /// The number of the slot of a time.
    fn slot(&self, settings: &Health, now: Instant) -> u64 {
        let since = self.origin.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let length = (settings.window / 6).as_nanos().max(1);
        u64::try_from(since.as_nanos() / length).unwrap_or(u64::MAX)
    }

    fn count(&mut self, settings: &Health, now: Instant, halves: u32) {
        self.origin.get_or_insert(now);
        let number = self.slot(settings, now);
        let at = usize::try_from(number % SLOTS as u64).unwrap_or_default();
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.starts = slot.starts.saturating_add(1);
        slot.failures = slot.failures.saturating_add(halves);
    }

    /// Starts in the window, and failures in halves.
    fn window(&self, settings: &Health, now: Instant) -> (u32, u32) {
        let number = self.slot(settings, now);
        let current = self.slots.iter().filter(|slot| slot.number + SLOTS as u64 > number);
        current.fold((0, 0), |(starts, failures): (u32, u32), slot| {
            (starts.saturating_add(slot.starts), failures.saturating_add(slot.failures))
        })
    }

    fn exceeds(&self, settings: &Health, now: Instant) -> bool {
        let (starts, failures) = self.window(settings, now);
        starts >= settings.least && f64::from(failures) / 2.0 >= settings.ratio * f64::from(starts)
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
