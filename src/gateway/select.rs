//! Target selection: which target of a plan the next attempt uses. A policy sees the earlier attempts and the shared
//! health of targets. It must never send anything, nor give up while a target is left that could answer.

use std::ops::Range;
use std::sync::Arc;

use rand::RngExt as _;
use tokio::time::Instant;

use super::affinity::Session;
use super::attempt::Attempt;
use super::balancing::{ByPrice, Candidate, fastest, least_loaded};
use super::rotation::{in_rotation, weighted};
use super::route::Plan;
use super::target_health::{OpenStream, Outage, Probe, PromptSize, TargetHealth, TargetState};
use crate::config::{Pick, Provider, Target};
use crate::error::Blame;

/// Of more targets than this in a tier, two are compared: the power of two choices.
const COMPARED: usize = 3;

/// The most other targets for which an attempt leaves time: with less than a quarter of it, silence would prove nothing.
const MAX_OTHERS: usize = 3;

/// A policy that chooses the targets of one request.
pub trait Select: Send {
    /// The target of the next attempt, after the ones that were tried. `None`: no other one can be tried.
    fn next(&mut self, plan: &Plan, tried: &[Attempt], now: Instant) -> Option<Selection>;

    /// A target at another host than a provider's that is well, for an attempt beside the one under way.
    fn elsewhere(
        &mut self,
        plan: &Plan,
        tried: &[Attempt],
        avoided: (&Provider, Instant),
    ) -> Option<Selection>;

    /// The time until which it is worth to wait for a target that is full, or that pauses for a short time. `None`: there
    /// is none, or the request does not wait.
    fn expects_room(&self, plan: &Plan, tried: &[Attempt], now: Instant) -> Option<Instant>;

    /// Takes targets into account again that had no room, or that a rate limit has refused.
    fn readmit(&mut self, plan: &Plan, tried: &[Attempt]);

    /// The request waits no longer.
    fn stop_waiting(&mut self);
}

/// The reason for which a target was chosen: a stable word for records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickReason {
    /// Its place in the list.
    Order,
    /// Its weight.
    Weight,
    /// It has the fewest answers in progress.
    Load,
    /// It has the shortest time to first token.
    Latency,
    /// It has the lowest price.
    Price,
    /// Its account alone can read the encrypted state of the request.
    Pin,
    /// It has the session.
    Affinity,
    /// It is assigned to the session.
    Sticky,
    /// The target that has the session cannot serve, or has too much to do.
    Spill,
    /// It may be well again.
    Probe,
    /// No other one was left.
    LastResort,
    /// It is a fallback for what the caller caused.
    Fallback,
    /// It has failed at the same request, and no other one was left.
    Retry,
    /// Another one is silent.
    Hedge,
}

impl PickReason {
    /// Its stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Weight => "weight",
            Self::Load => "load",
            Self::Latency => "latency",
            Self::Price => "price",
            Self::Pin => "pin",
            Self::Affinity => "affinity",
            Self::Sticky => "sticky",
            Self::Spill => "spill",
            Self::Probe => "probe",
            Self::LastResort => "last_resort",
            Self::Fallback => "fallback",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
        }
    }
}

/// A chosen target.
pub struct Selection {
    /// The target.
    pub target: Target,
    /// The reason for the choice.
    pub why: PickReason,
    /// Another target may be tried after it.
    pub followed: bool,
    /// The targets that are likely to answer after it, at most three, so that this one gets only a share of the time.
    pub others: usize,
    /// The right to probe an ejected target, held for as long as the attempt takes.
    pub probe: Option<Probe>,
    /// Counts the answer as one in progress.
    pub stream: OpenStream,
}

/// Tier by tier, within a tier by the model's `pick`. Ejected targets come last.
pub struct ByTier {
    health: Arc<TargetHealth>,
    /// The places of the targets that were chosen.
    used: Vec<usize>,
    /// So many targets are ejected that none is passed over for failures.
    is_panic: bool,
    /// The request has waited for room, or may not.
    waits_no_longer: bool,
    /// A host that gets nothing, nor do targets that may not be well.
    avoided: Option<String>,
}

impl ByTier {
    /// The policy for one request.
    pub fn new(health: Arc<TargetHealth>) -> Self {
        Self { health, used: Vec::new(), is_panic: false, waits_no_longer: false, avoided: None }
    }

    /// A target of the plan, if it is ready for a request.
    fn ready<'p>(
        &self,
        (plan, tried): (&'p Plan, &[Attempt]),
        place: usize,
        now: Instant,
    ) -> Option<Candidate<'p>> {
        let target = plan.targets.get(place)?;
        if self.used.contains(&place) || !has_room(target, tried) || shares_fault(target, tried) {
            return None;
        }
        if self.avoided.as_deref() == Some(target.provider.base_url.authority()) {
            return None;
        }
        match self.health.state(target, now) {
            // A lone target is never passed over, but by an operator.
            TargetState::Out(outage, until)
                if outage != Outage::Drained
                    && plan.targets.len() == 1
                    && self.pause_ends(plan, (outage, until), now).is_none() =>
            {
                Some(Candidate { place, target, share: Some(1.0) })
            }
            TargetState::Ready(share) => Some(Candidate { place, target, share: Some(share) }),
            TargetState::Probe if self.avoided.is_none() => {
                Some(Candidate { place, target, share: None })
            }
            TargetState::Out(Outage::Open, _) if self.is_panic => {
                Some(Candidate { place, target, share: Some(1.0) })
            }
            TargetState::Out(..) | TargetState::Probe => None,
        }
    }

    /// The end of a target's pause, if requests wait for it.
    fn pause_ends(
        &self,
        plan: &Plan,
        (outage, until): (Outage, Instant),
        now: Instant,
    ) -> Option<Instant> {
        let longest = plan.queue.as_ref().filter(|_| !self.waits_no_longer)?.wait;
        (outage == Outage::Cooling && until <= now + longest).then_some(until)
    }

    /// Whether failures have ejected so much of a model's weight that the rest would be overloaded.
    fn panics(&self, plan: &Plan, now: Instant) -> bool {
        let share = plan.targets.first().map_or(0.0, |target| target.provider.health.panic);
        if share <= 0.0 || plan.pick == Pick::Order {
            return false;
        }
        let open = |target: &&Target| {
            matches!(self.health.state(target, now), TargetState::Out(Outage::Open, _))
        };
        let weight = |target: &Target| f64::from(target.weight);
        let all: f64 = plan.targets.iter().map(weight).sum();
        let ejected: f64 = plan.targets.iter().filter(open).map(weight).sum();
        all - ejected < share * all
    }

    /// The choice within a tier.
    fn pick<'p>(
        &self,
        (plan, tried): (&'p Plan, &[Attempt]),
        mut tier: Range<usize>,
        now: Instant,
    ) -> Option<(Candidate<'p>, PickReason)> {
        let at = |place| self.ready((plan, tried), place, now);
        if let Some(session) = plan.session {
            let ready = tier.clone().filter_map(at).collect();
            return self.with_session((plan, session), tier, ready);
        }
        if plan.pick == Pick::Order {
            return Some((tier.find_map(at)?, PickReason::Order));
        }
        // One that may be well again gets its one request before the others are compared.
        let sample = self.sample((plan, tried), tier.clone(), now);
        match plan.pick {
            Pick::Order | Pick::Weighted => {
                let slots = plan.targets.get(tier.clone()).unwrap_or_default();
                let turn = self.health.turn(&plan.label);
                let own = in_rotation(slots.iter().map(|target| target.weight), turn);
                let own = own.and_then(|slot| at(tier.start + slot)).filter(|own| ramped(own));
                let other = || weighted(tier.filter_map(at), Candidate::weight);
                Some((own.or_else(other)?, PickReason::Weight))
            }
            Pick::LeastLoaded => Some((least_loaded(&self.health, sample)?, PickReason::Load)),
            Pick::Fastest | Pick::Cheapest => {
                let prompt = PromptSize::of(plan.demand.input);
                let found = fastest(&self.health, sample, (prompt, now))?;
                let is_price = plan.pick == Pick::Cheapest;
                Some((found, if is_price { PickReason::Price } else { PickReason::Latency }))
            }
        }
    }

    /// The target that has a session, unless it cannot serve or has more to do than the others.
    fn with_session<'p>(
        &self,
        (plan, session): (&Plan, Session),
        tier: Range<usize>,
        ready: Vec<Candidate<'p>>,
    ) -> Option<(Candidate<'p>, PickReason)> {
        let open = |target: &Target| f64::from(self.health.open_streams(target));
        let count = f64::from(u32::try_from(ready.len()).unwrap_or(u32::MAX));
        let average = ready.iter().map(|found| open(found.target)).sum::<f64>() / count;
        let most = session.slack.map_or(f64::INFINITY, |slack| average * slack + 1.0);
        let score = |target: &Target| session.score(target, f64::from(target.weight));
        let mut ranked: Vec<(f64, Candidate<'p>)> =
            ready.into_iter().map(|found| (score(found.target), found)).collect();
        ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let free = ranked.iter().find(|(_, found)| open(found.target) <= most);
        let (best, chosen) = free.or_else(|| ranked.first())?;
        let mut others = plan.targets.get(tier).unwrap_or_default().iter();
        let own = others.all(|other| score(other) <= *best);
        let why = match (own, session.slack) {
            (false, _) => PickReason::Spill,
            (true, Some(_)) => PickReason::Affinity,
            (true, None) => PickReason::Sticky,
        };
        Some((*chosen, why))
    }

    /// The targets of a tier that are compared: all of a few, two of many.
    fn sample<'p>(
        &self,
        (plan, tried): (&'p Plan, &[Attempt]),
        tier: Range<usize>,
        now: Instant,
    ) -> Vec<Candidate<'p>> {
        let at = |place| self.ready((plan, tried), place, now);
        match plan.pick {
            Pick::Order | Pick::Weighted => return Vec::new(),
            Pick::LeastLoaded | Pick::Fastest => {
                if let Some(two) = two_of(tier.len(), |drawn| at(tier.start + drawn)) {
                    return two;
                }
            }
            Pick::Cheapest => {
                for places in ByPrice::of(&self.health, plan, tier.clone()) {
                    let two = two_of(places.len(), |drawn| at(*places.get(drawn)?));
                    let found =
                        two.unwrap_or_else(|| places.iter().copied().filter_map(at).collect());
                    if !found.is_empty() {
                        return found;
                    }
                }
            }
        }
        tier.filter_map(at).collect()
    }

    fn selection(
        &mut self,
        (plan, tried): (&Plan, &[Attempt]),
        (candidate, why): (Candidate<'_>, PickReason),
        now: Instant,
    ) -> Option<Selection> {
        let Candidate { place, target, share } = candidate;
        self.used.push(place);
        let probe = if share.is_none() { Some(self.health.probe(target, now)?) } else { None };
        let prompt = PromptSize::of(plan.demand.input);
        let alone = plan.is_alone();
        let stream = self.health.begin((target, alone), (prompt, now))?;
        let places = 0..plan.targets.len();
        let left = |place: &usize| {
            let target = plan.targets.get(*place);
            !self.used.contains(place) && target.is_some_and(|target| has_room(target, tried))
        };
        let followed = places.clone().any(|place| left(&place));
        let is_well = |place: &usize| {
            self.ready((plan, tried), *place, now).is_some_and(|found| found.share.is_some())
        };
        let others = if why == PickReason::LastResort {
            others(plan, target, places.filter(left))
        } else {
            others(plan, target, places.filter(is_well))
        };
        let why = match probe {
            Some(_) => PickReason::Probe,
            None if plan.pinned == Some(target.provider.account) => PickReason::Pin,
            None => why,
        };
        Some(Selection { target: target.clone(), why, followed, others, probe, stream })
    }

    /// A target of the first tier that has one.
    fn in_tiers(&mut self, (plan, tried): (&Plan, &[Attempt]), now: Instant) -> Option<Selection> {
        let mut start = 0;
        while let Some(first) = plan.targets.get(start) {
            let rest = plan.targets.get(start..).unwrap_or_default();
            let end = start + rest.iter().take_while(|target| target.tier == first.tier).count();
            while let Some(found) = self.pick((plan, tried), start..end, now) {
                // One that is full, or that another request is probing, is passed over.
                if let Some(selection) = self.selection((plan, tried), found, now) {
                    return Some(selection);
                }
            }
            start = end;
        }
        None
    }

    /// The target with failures that is well again first. Neither one with a rate limit nor one that only the operator
    /// can mend would answer.
    fn last_resort<'p>(
        &self,
        (plan, tried): (&'p Plan, &[Attempt]),
        now: Instant,
    ) -> Option<Candidate<'p>> {
        let left = plan.targets.iter().enumerate();
        let left =
            left.filter(|(place, target)| !self.used.contains(place) && has_room(target, tried));
        let ready = |(place, target): (usize, &'p Target)| match self.health.state(target, now) {
            TargetState::Out(Outage::Open, until) if target.provider.health.uses_ejected => {
                Some((Some(until), place, target))
            }
            TargetState::Out(..) => None,
            TargetState::Ready(_) | TargetState::Probe => Some((None, place, target)),
        };
        let (_, place, target) = left.filter_map(ready).min_by_key(|(until, ..)| *until)?;
        Some(Candidate { place, target, share: Some(1.0) })
    }
}

impl Select for ByTier {
    fn next(&mut self, plan: &Plan, tried: &[Attempt], now: Instant) -> Option<Selection> {
        if tried.is_empty() {
            self.is_panic = self.panics(plan, now);
        }
        if let Some(selection) = self.in_tiers((plan, tried), now) {
            return Some(selection);
        }
        if self.expects_room(plan, tried, now).is_some() {
            return None;
        }
        while let Some(found) = self.last_resort((plan, tried), now) {
            let found = (found, PickReason::LastResort);
            if let Some(selection) = self.selection((plan, tried), found, now) {
                return Some(selection);
            }
        }
        None
    }

    fn elsewhere(
        &mut self,
        plan: &Plan,
        tried: &[Attempt],
        (avoided, now): (&Provider, Instant),
    ) -> Option<Selection> {
        self.avoided = Some(avoided.base_url.authority().to_owned());
        let found = self.in_tiers((plan, tried), now);
        self.avoided = None;
        Some(Selection { why: PickReason::Hedge, ..found? })
    }

    fn expects_room(&self, plan: &Plan, tried: &[Attempt], now: Instant) -> Option<Instant> {
        let waits = plan.queue.as_ref().filter(|_| !self.waits_no_longer)?;
        let may = |target: &&Target| {
            has_room(target, tried) && !shares_fault(target, tried) && !has_failed(target, tried)
        };
        let expected = |target: &Target| match self.health.state(target, now) {
            TargetState::Out(outage, until) => self.pause_ends(plan, (outage, until), now),
            TargetState::Ready(_) if self.health.is_full(target) => Some(now + waits.wait),
            TargetState::Ready(_) | TargetState::Probe => None,
        };
        plan.targets.iter().filter(may).filter_map(expected).min()
    }

    fn readmit(&mut self, plan: &Plan, tried: &[Attempt]) {
        let places = plan.targets.iter().enumerate();
        let failed = places.filter(|(_, target)| has_failed(target, tried));
        self.used = failed.map(|(place, _)| place).collect();
    }

    fn stop_waiting(&mut self) {
        self.waits_no_longer = true;
    }
}

/// Two different ones of many that may serve. `None`: there are few, or not two were found at once.
fn two_of<'p>(
    count: usize,
    at: impl Fn(usize) -> Option<Candidate<'p>>,
) -> Option<Vec<Candidate<'p>>> {
    if count <= COMPARED {
        return None;
    }
    let mut rng = rand::rng();
    let mut drawn = || at(rng.random_range(0..count)).filter(|found| found.target.weight > 0);
    let (one, two) = (drawn()?, drawn()?);
    (one.place != two.place).then(|| vec![one, two])
}

/// Whether a target was tried and has failed, but for a rate limit that it has reached.
fn has_failed(target: &Target, tried: &[Attempt]) -> bool {
    let mut of = tried.iter().filter(|attempt| attempt.target.identity() == target.identity());
    of.any(|attempt| attempt.error.is_none_or(|error| error.blame != Blame::RateLimit))
}

/// The number of targets at these places for which an attempt leaves time. Keys of one target count once, and its own not
/// at all: they do not help where time runs out.
fn others(plan: &Plan, target: &Target, places: impl Iterator<Item = usize>) -> usize {
    let mut names: Vec<&str> = Vec::with_capacity(MAX_OTHERS);
    for other in places.filter_map(|place| plan.targets.get(place)) {
        let name = &**other.name();
        if name != &**target.name() && !names.contains(&name) {
            names.push(name);
        }
        if names.len() == MAX_OTHERS {
            break;
        }
    }
    names.len()
}

/// Whether a target takes its turn: all of them once it is well, a growing share after an ejection.
fn ramped(candidate: &Candidate<'_>) -> bool {
    candidate.share.is_none_or(|share| share >= 1.0 || rand::rng().random_range(0.0..1.0) < share)
}

/// Whether a target may hold what others could not.
fn has_room(target: &Target, tried: &[Attempt]) -> bool {
    let mut small = tried.iter().filter(|attempt| attempt.needed_room());
    small.all(|attempt| match (target.context, attempt.target.context) {
        (Some(room), Some(less)) => room > less,
        _ => target.name() != attempt.target.name(),
    })
}

/// Whether a target has just failed with another key, which this one does not change.
fn shares_fault(target: &Target, tried: &[Attempt]) -> bool {
    tried.iter().any(|attempt| {
        let same = attempt.target.name() == target.name()
            && attempt.target.provider.key != target.provider.key;
        let other_key_helps = [Blame::Credential, Blame::Account, Blame::RateLimit];
        same && attempt.error.is_some_and(|error| !other_key_helps.contains(&error.blame))
    })
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
