//! Queued attempts: while all targets of a model are full, its requests wait in fair order for one that has room. It must
//! never wait beyond the deadline of the request, nor pass a request that waits for the same targets.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::attempt_deadline::deadline;
use super::super::request_queue::QueueEntry;
use super::super::route::Plan;
use super::Opening;

/// The tokens of output that a request without a bound of its own counts in the queue.
const ASSUMED_OUTPUT: u64 = 1024;

impl Opening {
    /// Whether other requests wait for the targets of this one.
    pub(super) fn is_behind_others(&self) -> bool {
        let plan = &self.request.plan;
        if plan.queue.is_none() {
            return false;
        }
        let queue = self.request.health.queue(&plan.label);
        queue.is_some_and(|queue| queue.is_waited_for(targets(plan)))
    }

    /// Enters the queue of the model. Returns whether it has; else it waits no longer, and its error is known.
    pub(super) fn wait_for_room(&mut self, now: Instant) -> bool {
        let request = Arc::clone(&self.request);
        let plan = self.fallback.as_deref().unwrap_or(&request.plan);
        let queue = request.health.queue(&plan.label);
        let (Some(queue), Some(setting)) = (queue, plan.queue.as_deref()) else { return false };
        let class = plan.class.as_ref().or_else(|| setting.classes.first());
        let Some(class) = class else { return false };
        let entry = QueueEntry {
            model: Arc::clone(&plan.label),
            class: class.clone(),
            caller: Arc::clone(&request.caller),
            input: plan.demand.input,
            tokens: plan.demand.tokens(ASSUMED_OUTPUT),
            targets: targets(plan),
            is_again: self.waits_since.is_some(),
        };
        let since = *self.waits_since.get_or_insert(now);
        let until = deadline(&request).min(since + setting.wait);
        let entered = queue.enter((setting, &request.metrics), entry, (now, until));
        match entered {
            Ok(queued) => {
                self.queued = Some(Box::new(queued));
                true
            }
            Err(error) => {
                self.failures.add_error(error);
                self.select.stop_waiting();
                false
            }
        }
    }

    /// Waits before the next attempt: for the end of a backoff, or for room at a target. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        if let Some((wait, _)) = &mut self.backoff {
            wait.as_mut().await;
            self.retry();
        }
        while self.queued.is_some() {
            self.take_turn().await;
        }
    }

    /// Waits for the request's turn in the queue, and begins an attempt if a target has room then.
    async fn take_turn(&mut self) {
        let request = Arc::clone(&self.request);
        let plan = self.fallback.as_deref().unwrap_or(&request.plan);
        let pause_ends = self.select.expects_room(plan, &self.attempts, Instant::now());
        let Some(queued) = &mut self.queued else { return };
        let in_time = queued.turn(pause_ends).await;
        let now = Instant::now();
        if in_time {
            self.select.readmit(plan, &self.attempts);
            if let Some(selection) = self.select.next(plan, &self.attempts, now) {
                let Some(queued) = self.queued.take() else { return };
                let (waited, share) = queued.served(now);
                self.share = share.map(Box::new);
                self.start(selection, now);
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.queued = waited;
                }
                return;
            }
            if self.select.expects_room(plan, &self.attempts, now).is_some() {
                return;
            }
        }
        let Some(queued) = self.queued.take() else { return };
        if !in_time {
            self.failures.add_error(queued.timed_out());
        }
        self.select.stop_waiting();
    }
}

/// The targets of a plan as one number.
fn targets(plan: &Plan) -> u64 {
    let mut hash = DefaultHasher::new();
    plan.targets.iter().for_each(|target| target.identity().hash(&mut hash));
    hash.finish()
}
