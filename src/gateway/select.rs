//! Target selection: which target of a plan the next attempt uses. A policy sees the earlier attempts and the shared
//! health of targets. It must never send anything, nor reject a request while a target is left.

use std::sync::Arc;

use tokio::time::Instant;

use super::attempt::Attempt;
use super::route::Plan;
use super::target_health::{Probe, TargetHealth, TargetState};
use crate::config::Target;

/// A policy that chooses the targets of one request.
pub trait Select: Send {
    /// The target of the next attempt, after the ones that were tried. `None`: no other one is left.
    fn next(&mut self, plan: &Plan, tried: &[Attempt], now: Instant) -> Option<Selection>;
}

/// A chosen target.
pub struct Selection {
    /// The target.
    pub target: Target,
    /// Another target may be tried after it.
    pub followed: bool,
    /// A target that is likely to answer is left, so that this one gets only a share of the time.
    pub shares_time: bool,
    /// The right to probe an ejected target, held for as long as the attempt takes.
    pub probe: Option<Probe>,
}

/// In the order of the plan. Ejected targets come last.
pub struct InOrder {
    health: Arc<TargetHealth>,
    /// The index of the first target that was not examined yet.
    at: usize,
    /// Those that have just failed other requests: tried when nothing else is left.
    ejected: Vec<(Instant, Target)>,
}

impl InOrder {
    /// The policy for one request.
    pub fn new(health: Arc<TargetHealth>) -> Self {
        Self { health, at: 0, ejected: Vec::new() }
    }

    fn selection(
        &self,
        (plan, tried): (&Plan, &[Attempt]),
        target: &Target,
        probe: Option<Probe>,
        now: Instant,
    ) -> Selection {
        let rest = plan.targets.get(self.at..).unwrap_or_default();
        let last_resort = rest.is_empty() && !self.ejected.is_empty();
        let is_ejected = |target: &Target| self.health.is_ejected(target, now);
        let shares_time = rest.iter().any(|next| has_room(next, tried) && !is_ejected(next))
            || last_resort && is_ejected(target);
        let followed = !rest.is_empty() || !self.ejected.is_empty();
        Selection { target: target.clone(), followed, shares_time, probe }
    }
}

impl Select for InOrder {
    fn next(&mut self, plan: &Plan, tried: &[Attempt], now: Instant) -> Option<Selection> {
        let lone = plan.targets.len() == 1;
        while let Some(target) = plan.targets.get(self.at) {
            self.at += 1;
            if !has_room(target, tried) {
                continue;
            }
            let admission = if lone { TargetState::Open } else { self.health.admit(target, now) };
            let probe = match admission {
                TargetState::Open => None,
                TargetState::Probe(probe) => Some(probe),
                TargetState::Ejected(until) => {
                    self.ejected.push((until, target.clone()));
                    continue;
                }
            };
            return Some(self.selection((plan, tried), target, probe, now));
        }
        self.ejected.retain(|(_, target)| has_room(target, tried));
        let soonest = self.ejected.iter().enumerate().min_by_key(|(_, (until, _))| *until)?.0;
        let (_, target) = self.ejected.remove(soonest);
        Some(self.selection((plan, tried), &target, None, now))
    }
}

/// Whether a target may hold what others could not.
fn has_room(target: &Target, tried: &[Attempt]) -> bool {
    let mut small = tried.iter().filter(|attempt| attempt.needed_room());
    small.all(|attempt| match (target.context, attempt.target.context) {
        (Some(room), Some(less)) => room > less,
        _ => target.name() != attempt.target.name(),
    })
}
