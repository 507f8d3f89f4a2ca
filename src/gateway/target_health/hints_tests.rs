//! Hints of target health: their texts, and their effect on the health of another node's targets.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::mpsc::Receiver;
use tokio::time::advance;

use super::super::cell::MAX_WAIT;
use super::super::{FailedAttempt, TargetState};
use super::*;
use crate::config::secret::Secret;
use crate::config::{Config, Provider, Target};
use crate::error::Error;
use crate::gateway::route::Plan;
use crate::gateway::scripted;
use crate::telemetry::Metrics;
use crate::wire::chat::ApiError;

const SECOND: Duration = Duration::from_secs(1);

/// A node, with what it sends.
struct Node {
    health: TargetHealth,
    metrics: Arc<Metrics>,
    sent: Receiver<SharedHint>,
    plan: Plan,
}

/// A configuration with two models of a provider with this key.
fn config(key: &str) -> (Config, Plan) {
    let request = scripted::request(true, "sim", &[("m", None), ("n", None)]);
    let (mut config, mut plan) = (scripted::config(), request.plan);
    let api_key = Some(Secret::new(key));
    let provider = Provider { api_key, ..(*config.providers["sim"]).clone() }.identified();
    let provider = Arc::new(provider);
    let target = |model: &str| Target::new(Arc::clone(&provider), model.to_owned());
    plan.targets = vec![target("m"), target("n")].into();
    config.providers.insert("sim".to_owned(), Arc::clone(&provider));
    config.models.insert("x".to_owned(), plan.targets.clone());
    (config, plan)
}

impl Node {
    fn new(key: &str, queue: usize) -> Self {
        let (config, plan) = config(key);
        let metrics = Arc::<Metrics>::default();
        let health = TargetHealth::new(Arc::clone(&metrics), &config);
        let (sender, sent) = mpsc::channel(queue);
        health.share_with(sender);
        Self { health, metrics, sent, plan }
    }

    fn state(&self, place: usize) -> TargetState {
        self.health.state(&self.plan.targets[place], Instant::now())
    }

    fn fails(&self, place: usize, kind: Kind) {
        let error = Error::upstream(ApiError::new(kind, "no"));
        let failed =
            FailedAttempt { target: &self.plan.targets[place], error: &error, timed: true };
        self.health.failed(&self.plan, &failed, Instant::now());
    }

    /// Gives another node what this one has sent. Returns how much that is.
    fn tell(&mut self, other: &Self) -> usize {
        let mut sent = 0;
        while let Ok(hint) = self.sent.try_recv() {
            let now = Instant::now();
            let remaining = hint.until.map(|until| until.saturating_duration_since(now));
            other.health.receive(&hint.text, remaining);
            sent += 1;
        }
        sent
    }

    fn counted(&self, direction: &'static str) -> u64 {
        self.metrics.target_hints.get_or_create(&TargetHintLabels { direction }).get()
    }
}

fn two() -> (Node, Node) {
    (Node::new("key", 8), Node::new("key", 8))
}

/// R30: a key that is revoked is out on the other node, too, for all of its models, for as long, and as the same kind of error.
#[tokio::test(start_paused = true)]
async fn r30_a_revoked_key_is_out_on_other_nodes() {
    for kind in [Kind::Authentication, Kind::Billing] {
        let (mut one, mut two) = two();
        one.fails(0, kind);
        advance(10 * SECOND).await;
        assert_eq!(one.tell(&two), 1);
        assert_eq!((two.state(0), two.state(1)), (one.state(0), one.state(1)));
        assert!(matches!(two.state(1), TargetState::Out(Outage::Hard, _)));
        let refusal = two.health.refusal(&two.plan.targets[1], Instant::now()).unwrap();
        assert_eq!((refusal.outage, refusal.kind), (Outage::Hard, kind));
        assert_eq!(two.tell(&one), 0, "what was received is not sent again");
        two.fails(1, kind);
        assert_eq!(two.tell(&one), 0, "nor is what it has caused");
        assert_eq!((one.counted("received"), two.counted("received")), (0, 1));
        let page = two.metrics.render();
        assert!(page.contains(r#"to="hard",reason="hint"} 1"#), "{page}");
        advance(MAX_WAIT).await;
        assert_eq!(two.state(0), TargetState::Probe, "then this node finds out for itself");
    }
}

/// A rate limit of the whole credential is shared; that of one model, failures and successes are each node's own.
#[tokio::test(start_paused = true)]
async fn rate_limits_of_keys_are_shared_and_nothing_of_models() {
    let (mut one, two) = two();
    let now = Instant::now();
    one.health.limited(&one.plan.targets[0], 60 * SECOND, now);
    (0..9).for_each(|_| one.fails(1, Kind::Upstream));
    one.fails(0, Kind::NotFound);
    assert_eq!(one.tell(&two), 0);
    let (mut one, two) = self::two();
    one.health.limited(&one.plan.targets[0], 60 * SECOND, now);
    one.health.limited(&one.plan.targets[1], 60 * SECOND, now);
    assert_eq!(one.tell(&two), 1);
    let cooling = TargetState::Out(Outage::Cooling, now + 60 * SECOND);
    assert_eq!((two.state(0), two.state(1)), (cooling, cooling));
    assert_eq!(two.health.refusal(&two.plan.targets[0], now).unwrap().kind, Kind::RateLimited);
    let digest = two.plan.targets[0].provider.credential_digest();
    let worse = Hint::Out(digest, Outage::Hard, Kind::Billing).encode();
    two.health.receive(&worse, Some(5 * SECOND));
    let refusal = two.health.refusal(&two.plan.targets[0], now).unwrap();
    let both = (refusal.outage, refusal.kind, refusal.wait);
    assert_eq!(both, (Outage::Hard, Kind::Billing, 60 * SECOND), "worse, and no shorter");
    advance(60 * SECOND).await;
    assert_eq!(one.state(0), TargetState::Ready(1.0));
}

/// A hint moves an end later, never earlier, and a rate limit never makes a revoked key well.
#[tokio::test(start_paused = true)]
async fn hints_only_move_ends_later() {
    let (mut one, two) = two();
    let now = Instant::now();
    two.fails(0, Kind::Authentication);
    let TargetState::Out(Outage::Hard, end) = two.state(0) else { panic!("{:?}", two.state(0)) };
    one.fails(0, Kind::Authentication);
    let hint = one.sent.try_recv().unwrap();
    two.health.receive(&hint.text, Some(SECOND));
    assert_eq!(two.state(0), TargetState::Out(Outage::Hard, end));
    two.health.receive(&hint.text, Some(900 * SECOND));
    assert_eq!(two.state(0), TargetState::Out(Outage::Hard, now + 900 * SECOND));
    let cooling = hint.text.replace("hard", "cooling");
    two.health.receive(&cooling, Some(1000 * SECOND));
    assert_eq!(two.state(0), TargetState::Out(Outage::Hard, now + 1000 * SECOND));
    assert_eq!(one.tell(&two), 0);
}

/// Absurd times are bounded like an upstream's, and times of zero or without an end say nothing.
#[tokio::test(start_paused = true)]
async fn absurd_times_are_bounded() {
    for word in ["hard", "cooling"] {
        let (mut one, two) = two();
        one.fails(0, Kind::Authentication);
        let text = one.sent.try_recv().unwrap().text.replace("hard", word);
        for remaining in [None, Some(Duration::ZERO)] {
            two.health.receive(&text, remaining);
            assert_eq!(two.state(0), TargetState::Ready(1.0), "{remaining:?}");
        }
        two.health.receive(&text, Some(Duration::from_millis(u64::MAX)));
        let TargetState::Out(_, end) = two.state(0) else { panic!("{:?}", two.state(0)) };
        assert_eq!(end, Instant::now() + MAX_WAIT, "{word}");
    }
}

/// The key that replaces a revoked one has another digest: neither old hints nor the old state concern it.
#[tokio::test(start_paused = true)]
async fn a_new_key_is_not_what_old_hints_are_about() {
    let (mut one, mut two) = two();
    one.fails(0, Kind::Authentication);
    let old = one.sent.try_recv().unwrap();
    two.health.receive(&old.text, Some(60 * SECOND));
    let (next, plan) = config("next key");
    two.health.configure(&next);
    two.plan = plan;
    two.health.receive(&old.text, Some(60 * SECOND));
    assert_eq!((two.state(0), two.counted("received")), (TargetState::Ready(1.0), 1));
    assert!(!two.health.subjects().contains(&old.subject));
    assert!(one.health.subjects().contains(&old.subject), "a node that starts reads it");
    assert!(!format!("{old:?}").contains("key"), "{old:?}");
}

/// A target that an operator drains or resets is drained and reset on every node, and never sent on.
#[tokio::test(start_paused = true)]
async fn drains_and_resets_are_shared() {
    let (mut one, mut two) = two();
    assert!(one.health.drain("sim/m"));
    assert_eq!((one.tell(&two), two.tell(&one)), (1, 0));
    assert!(matches!(two.state(0), TargetState::Out(Outage::Drained, _)));
    assert_eq!(two.state(1), TargetState::Ready(1.0));
    two.fails(1, Kind::Authentication);
    assert!(two.health.reset("sim/m"));
    let hint = two.sent.try_recv().unwrap();
    one.health.receive(&hint.text, hint.until.map(|_| SECOND));
    let reset = two.sent.try_recv().unwrap();
    assert!(reset.ends.contains(&hint.subject), "{reset:?}");
    assert_eq!(reset.subject, Hint::Drain("sim/m".to_owned()).subject(), "it replaces the drain");
    one.health.receive(&reset.text, Some(RESET_TIME));
    for node in [&one, &two] {
        assert_eq!([node.state(0), node.state(1)], [TargetState::Ready(1.0); 2]);
    }
    assert!(!one.health.drain("sim/none") && !one.health.reset("sim/none"));
    assert_eq!(one.tell(&two), 0, "an unknown target is nobody's");
    assert_eq!((one.counted("received"), two.counted("received")), (2, 1));
}

/// R30: a full queue costs hints and nothing else.
#[tokio::test(start_paused = true)]
async fn r30_hints_that_find_the_queue_full_are_dropped_and_counted() {
    let mut one = Node::new("key", 1);
    (0..5).for_each(|_| assert!(one.health.drain("sim/m")));
    assert_eq!(one.counted("dropped"), 4);
    assert!(one.sent.try_recv().is_ok() && one.sent.try_recv().is_err());
    assert!(matches!(one.state(0), TargetState::Out(Outage::Drained, _)));
    let alone = TargetHealth::new(Arc::default(), &config("key").0);
    assert!(alone.drain("sim/m"), "without other nodes there is no queue");
}

#[test]
fn texts_that_are_no_hints_are_ignored() {
    let digest = "ab".repeat(32);
    for text in [
        "",
        "hard",
        "drain",
        "hard ",
        "undo x",
        &format!("hard {digest}"),
        &format!("hard {digest} "),
        &format!("hard {digest} unknown"),
        &format!("open {digest} upstream"),
        &format!("drained {digest} authentication"),
        &format!("hard {digest}0 authentication"),
        &format!("hard {} authentication", "b".repeat(63)),
        &format!("hard {} authentication", "+a".repeat(32)),
        &format!("hard {} authentication", "é".repeat(32)),
    ] {
        assert_eq!(Hint::decode(text), None, "{text}");
    }
}

fn hint() -> impl Strategy<Value = Hint> {
    let kind = proptest::sample::select(Kind::ALL.to_vec());
    let outage = proptest::sample::select(SHARED.to_vec());
    prop_oneof![
        (any::<[u8; 32]>(), outage, kind)
            .prop_map(|(digest, outage, kind)| Hint::Out(digest, outage, kind)),
        any::<String>().prop_map(Hint::Drain),
        any::<String>().prop_map(Hint::Reset),
    ]
}

proptest! {
    #[test]
    fn any_hint_survives_its_text(hint in hint()) {
        prop_assert_eq!(Hint::decode(&hint.encode()), Some(hint));
    }

    /// Texts of any content in Redis: nothing panics, and none concerns a target that it does not name.
    #[test]
    fn any_text_is_bounded(text in "(hard|cooling|drain|reset|[a-z]{0,5})[ -~]{0,80}", millis in proptest::option::of(any::<u64>())) {
        let node = Node::new("key", 8);
        node.health.receive(&text, millis.map(Duration::from_millis));
        prop_assert_eq!(node.state(0), TargetState::Ready(1.0), "it names none of its targets");
    }

    /// Hints about its own credential, in any order: ends only move later, and none is more than an hour away.
    #[test]
    fn any_hints_of_a_key_are_bounded(all in proptest::collection::vec((any::<bool>(), any::<u64>()), 1..20)) {
        let node = Node::new("key", 8);
        let digest = node.plan.targets[0].provider.credential_digest();
        let mut last = Instant::now();
        for (hard, millis) in all {
            let outage = if hard { Outage::Hard } else { Outage::Cooling };
            let text = Hint::Out(digest, outage, Kind::Billing).encode();
            node.health.receive(&text, Some(Duration::from_millis(millis)));
            if let TargetState::Out(_, end) = node.state(0) {
                prop_assert!(end >= last && end <= Instant::now() + MAX_WAIT);
                last = end;
            }
        }
    }
}
