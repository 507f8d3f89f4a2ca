//! The order of a fair queue: shares by weight and by caller, whatever the requests are.

use std::collections::HashMap;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

fn class(name: &str, weight: u32) -> QueueClass {
    QueueClass { name: name.into(), weight: NonZeroU32::new(weight).unwrap() }
}

/// A queue whose callers always have `depth` requests waiting, served for some rounds: the tokens of each caller.
fn served(callers: &[(&str, u32, &str, u32)], rounds: usize) -> HashMap<String, u32> {
    let mut queue = FairQueue::default();
    let mut waiting = HashMap::new();
    let push = |queue: &mut FairQueue, place: usize| {
        let (name, weight, caller, cost) = callers[place];
        queue.push(&class(name, weight), &caller.into(), (cost.into(), false))
    };
    for place in 0..callers.len() {
        for _ in 0..3 {
            waiting.insert(push(&mut queue, place), place);
        }
    }
    let mut tokens = HashMap::new();
    for _ in 0..rounds {
        let head = queue.head().expect("a request");
        let place = waiting.remove(&head).expect("one that waits");
        queue.serve(head);
        let (_, _, caller, cost) = callers[place];
        *tokens.entry(caller.to_owned()).or_default() += cost;
        waiting.insert(push(&mut queue, place), place);
    }
    tokens
}

fn share(tokens: &HashMap<String, u32>, caller: &str) -> f64 {
    let all: u32 = tokens.values().sum();
    f64::from(tokens[caller]) / f64::from(all)
}

/// R30: weights, not strict priority: a class of weight 1 gets its ninth beside one of weight 8, however many callers
/// that has.
#[test]
fn r30_batch_is_served_under_an_interactive_flood() {
    let mut callers = vec![("batch", 1, "nightly", 1000)];
    let names: Vec<String> = (0..50).map(|number| format!("user{number}")).collect();
    callers.extend(names.iter().map(|name| ("interactive", 8, name.as_str(), 1000)));
    let tokens = served(&callers, 9000);
    let batch = share(&tokens, "nightly");
    assert!((batch - 1.0 / 9.0).abs() < 0.002, "{batch}");
}

/// Callers of a class get the same tokens, whatever each one's requests are.
#[test]
fn callers_of_a_class_get_equal_tokens() {
    let callers = [("a", 1, "small", 100), ("a", 1, "large", 10_000), ("a", 1, "middle", 1700)];
    let tokens = served(&callers, 20_000);
    for caller in ["small", "large", "middle"] {
        assert!((share(&tokens, caller) - 1.0 / 3.0).abs() < 0.02, "{caller}: {tokens:?}");
    }
}

/// A caller who comes after others were served for long gets no credit for the past, nor has a debt.
#[test]
fn who_was_idle_gets_neither_credit_nor_debt() {
    let (mut queue, of) = (FairQueue::default(), class("a", 1));
    let (old, new): (Arc<str>, Arc<str>) = ("old".into(), "new".into());
    for _ in 0..1000 {
        queue.push(&of, &old, (50, false));
        let head = queue.head().unwrap();
        queue.push(&of, &old, (50, false));
        queue.serve(head);
        let head = queue.head().unwrap();
        queue.serve(head);
    }
    let mut order = Vec::new();
    let mut owners = HashMap::new();
    for caller in [&old, &new] {
        for _ in 0..4 {
            owners.insert(queue.push(&of, caller, (50, false)), Arc::clone(caller));
        }
    }
    while let Some(head) = queue.head() {
        queue.serve(head);
        order.push(owners[&head].to_string());
    }
    let first = order[..4].iter().filter(|caller| **caller == "new").count();
    assert!((1..=3).contains(&first), "{order:?}");
}

/// The tokens that were used count, not those that might have been.
#[test]
fn tokens_that_were_not_used_are_given_back() {
    let (mut queue, of) = (FairQueue::default(), class("a", 1));
    let mut used = HashMap::new();
    let mut owners = HashMap::new();
    for caller in ["modest", "greedy"] {
        for _ in 0..2 {
            owners.insert(queue.push(&of, &caller.into(), (1000, false)), caller);
        }
    }
    for _ in 0..4000 {
        let head = queue.head().unwrap();
        let caller = owners.remove(&head).unwrap();
        queue.serve(head);
        let tokens = if caller == "modest" { 100 } else { 1000 };
        queue.settle("a", caller, (1000, tokens.into()));
        *used.entry(caller.to_owned()).or_insert(0) += tokens;
        owners.insert(queue.push(&of, &caller.into(), (1000, false)), caller);
    }
    assert!((share(&used, "modest") - 0.5).abs() < 0.02, "{used:?}");
}

/// Callers who are gone are forgotten, though others never stop to wait.
#[test]
fn the_callers_of_the_past_are_bounded() {
    let (mut queue, of) = (FairQueue::default(), class("a", 1));
    for number in 0..3_000 {
        queue.push(&of, &format!("caller{number}").into(), (10, false));
        let second = queue.push(&of, &format!("other{number}").into(), (10, false));
        queue.serve(queue.head().unwrap());
        queue.leave(second);
    }
    let known = queue.classes[0].callers.len();
    assert!(known <= MAX_IDLE + 2, "{known}");
}

proptest! {
    /// Every request is served once or leaves, in any order of events, and the estimate is never above the others.
    #[test]
    fn every_request_is_served_once(
        events in prop::collection::vec((0..4_u8, 0..3_usize, 0..5_usize, any::<u64>()), 1..200)
    ) {
        let classes = [class("a", 8), class("b", 1), class("c", 1000)];
        let callers: Vec<Arc<str>> = (0..5).map(|number| format!("c{number}").into()).collect();
        let mut queue = FairQueue::default();
        let mut waiting = Vec::new();
        for (event, of, caller, cost) in events {
            match event {
                0 | 1 => {
                    let ahead = queue.ahead(&classes[of], &callers[caller]);
                    prop_assert!(ahead <= waiting.len());
                    waiting.push(queue.push(&classes[of], &callers[caller], (cost, false)));
                }
                2 => if let Some(head) = queue.head() {
                    let at = waiting.iter().position(|id| *id == head);
                    prop_assert!(at.is_some());
                    queue.serve(waiting.remove(at.unwrap()));
                    queue.settle(&classes[of].name, &callers[caller], (cost, cost / 2));
                },
                _ => if !waiting.is_empty() {
                    queue.leave(waiting.remove(caller % waiting.len()));
                },
            }
            prop_assert_eq!(queue.len(), waiting.len());
            prop_assert_eq!(queue.head().is_some(), !waiting.is_empty());
        }
    }

    /// One that comes again is served before the others of its caller.
    #[test]
    fn who_comes_again_is_the_first(costs in prop::collection::vec(any::<u64>(), 1..20)) {
        let (mut queue, of, caller) = (FairQueue::default(), class("a", 3), "c".into());
        for cost in costs {
            queue.push(&of, &caller, (cost, false));
        }
        let again = queue.push(&of, &caller, (1, true));
        prop_assert_eq!(queue.head(), Some(again));
    }

    /// First come, first served for the requests of one caller.
    #[test]
    fn a_caller_keeps_its_order(costs in prop::collection::vec(any::<u64>(), 1..50)) {
        let mut queue = FairQueue::default();
        let ids: Vec<u64> =
            costs.iter().map(|cost| queue.push(&class("a", 3), &"c".into(), (*cost, false))).collect();
        let mut order = Vec::new();
        while let Some(head) = queue.head() {
            queue.serve(head);
            order.push(head);
        }
        prop_assert_eq!(order, ids);
    }
}
