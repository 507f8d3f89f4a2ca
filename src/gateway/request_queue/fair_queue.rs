//! Weighted fair queue: the order in which waiting requests are served, by tokens: among classes by weight, and among the
//! callers of a class in equal shares (start-time fair queueing). Pure. It must never starve a class or a caller, whatever
//! the others ask for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::QueueClass;

/// Virtual time per token at a weight of 1, so that whole numbers suffice for every weight.
const SCALE: u64 = 1000;

/// The most tokens that one request counts.
const MAX_COST: u64 = 100_000_000;

/// The most callers of a class whose share of the past is remembered while they wait for nothing.
const MAX_IDLE: usize = 1024;

/// A waiting request, or a class or caller with some, by virtual time: the least one is the next.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    classes: Vec<Class>,
    /// The virtual time of the class that was served last.
    now: u64,
    next_id: u64,
}

#[derive(Debug)]
struct Class {
    name: Arc<str>,
    weight: u64,
    virtual_time: u64,
    /// The virtual time of the caller that was served last.
    now: u64,
    callers: BTreeMap<Arc<str>, Flow>,
}

/// The requests of one caller in a class, first come first served.
#[derive(Debug, Default)]
struct Flow {
    virtual_time: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: u64,
    cost: u64,
}

impl Class {
    fn len(&self) -> usize {
        self.callers.values().map(|flow| flow.waiting.len()).sum()
    }

    /// The caller who is served next.
    fn next(&self) -> Option<(&Flow, Waiting)> {
        let backlogged =
            self.callers.values().filter_map(|flow| Some((flow, *flow.waiting.front()?)));
        backlogged.min_by_key(|(flow, waiting)| (flow.virtual_time, waiting.id))
    }

    /// Forgets callers who wait for nothing, as far as their share of the past does not matter.
    fn forget_idle(&mut self) {
        let now = self.now;
        self.callers.retain(|_, flow| !flow.waiting.is_empty() || flow.virtual_time > now);
        if self.callers.len() > MAX_IDLE {
            self.callers.retain(|_, flow| !flow.waiting.is_empty());
        }
    }
}

impl FairQueue {
    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(Class::len).sum()
    }

    /// Requests of a caller that wait.
    pub(super) fn len_of(&self, caller: &str) -> usize {
        let flows = self.classes.iter().filter_map(|class| class.callers.get(caller));
        flows.map(|flow| flow.waiting.len()).sum()
    }

    /// Adds a request of a caller, of so many tokens; as the first of its caller's if it is there `again`. Returns its id.
    pub(super) fn push(
        &mut self,
        class: &QueueClass,
        caller: &Arc<str>,
        (cost, again): (u64, bool),
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let now = self.now;
        let place = self.place(class);
        let Some(class) = self.classes.get_mut(place) else { return id };
        if class.len() == 0 {
            class.virtual_time = class.virtual_time.max(now);
        }
        class.forget_idle();
        let since = class.now;
        let flow = class.callers.entry(Arc::clone(caller)).or_default();
        if flow.waiting.is_empty() {
            flow.virtual_time = flow.virtual_time.max(since);
        }
        let waiting = Waiting { id, cost: cost.clamp(1, MAX_COST) };
        if again {
            flow.waiting.push_front(waiting);
        } else {
            flow.waiting.push_back(waiting);
        }
        id
    }

    /// The place of a class, which begins with the current configuration's weight.
    fn place(&mut self, class: &QueueClass) -> usize {
        let weight = u64::from(class.weight.get());
        if let Some(place) = self.classes.iter().position(|known| known.name == class.name) {
            if let Some(known) = self.classes.get_mut(place) {
                known.weight = weight;
            }
            return place;
        }
        let (name, callers) = (Arc::clone(&class.name), BTreeMap::new());
        self.classes.push(Class { name, weight, virtual_time: 0, now: 0, callers });
        self.classes.len() - 1
    }

    /// The request that is served next.
    pub(super) fn head(&self) -> Option<u64> {
        let heads = self.classes.iter().filter_map(|class| Some((class, class.next()?.1)));
        let (_, head) = heads.min_by_key(|(class, head)| (class.virtual_time, head.id))?;
        Some(head.id)
    }

    /// Removes a request which is served now, and counts its tokens.
    pub(super) fn serve(&mut self, id: u64) {
        let Some((class, caller, cost)) = self.take(id) else { return };
        let Some(class) = self.classes.get_mut(class) else { return };
        self.now = self.now.max(class.virtual_time);
        class.virtual_time = class.virtual_time.saturating_add(cost * SCALE / class.weight);
        let Some(flow) = class.callers.get_mut(&caller) else { return };
        class.now = class.now.max(flow.virtual_time);
        flow.virtual_time = flow.virtual_time.saturating_add(cost);
    }

    /// Removes a request which is no longer waited for.
    pub(super) fn leave(&mut self, id: u64) {
        self.take(id);
    }

    /// Removes a request. Returns the place of its class, its caller and its tokens.
    fn take(&mut self, id: u64) -> Option<(usize, Arc<str>, u64)> {
        for (place, class) in self.classes.iter_mut().enumerate() {
            for (caller, flow) in &mut class.callers {
                if let Some(at) = flow.waiting.iter().position(|waiting| waiting.id == id) {
                    let waiting = flow.waiting.remove(at)?;
                    return Some((place, Arc::clone(caller), waiting.cost));
                }
            }
        }
        None
    }

    /// Corrects the tokens of a request that was served: it was counted as so many, and has used others.
    pub(super) fn settle(&mut self, class: &str, caller: &str, (counted, used): (u64, u64)) {
        let Some(class) = self.classes.iter_mut().find(|known| &*known.name == class) else {
            return;
        };
        let (counted, used) = (counted.clamp(1, MAX_COST), used.min(MAX_COST));
        let corrected = |time: u64, weight: u64| {
            let more = time.saturating_add(used * SCALE / weight);
            more.saturating_sub(counted * SCALE / weight)
        };
        class.virtual_time = corrected(class.virtual_time, class.weight);
        if let Some(flow) = class.callers.get_mut(caller) {
            flow.virtual_time = corrected(flow.virtual_time, SCALE);
        }
    }

    /// About how many requests are served before another one of a caller would be, if all are alike.
    pub(super) fn ahead(&self, class: &QueueClass, caller: &str) -> usize {
        let known = self.classes.iter().find(|known| known.name == class.name);
        let own = known.and_then(|known| known.callers.get(caller));
        let mine = own.map_or(0, |flow| flow.waiting.len());
        let in_class = known.map_or(0, |known| {
            let others = known.callers.iter().filter(|(name, _)| &***name != caller);
            mine + others.map(|(_, flow)| flow.waiting.len().min(mine + 1)).sum::<usize>()
        });
        let weight = u64::from(class.weight.get());
        let others = self.classes.iter().filter(|other| other.name != class.name);
        let share = |other: &Class| {
            let turns = (in_class as u64 + 1).saturating_mul(other.weight).div_ceil(weight);
            other.len().min(usize::try_from(turns).unwrap_or(usize::MAX))
        };
        in_class + others.map(share).sum::<usize>()
    }
}

#[cfg(test)]
#[path = "fair_queue_tests.rs"]
mod tests;
