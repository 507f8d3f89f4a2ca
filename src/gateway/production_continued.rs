//! Productions whose answer broke off: the wait for another target that goes on with it. It must never write a second end.

use std::mem::take;

use tokio::time::Instant;

use super::{Alarm, Phase, Production, Waited, cover};
use crate::gateway::continuation::Outcome;
use crate::wire::chat::End;

impl Production {
    /// Whether the answer broke off, and its end is not written.
    pub(super) fn is_held(&self) -> bool {
        matches!(&self.phase, Phase::Streaming(answer, _) if answer.transcoder.is_held())
    }

    /// Asks for the continuation of an answer that has broken off. Without one, its end is written.
    pub(super) fn ask_to_continue(&mut self) {
        let Phase::Streaming(mut answer, account) = take(&mut self.phase) else { return };
        let from = account.served_target();
        let asked = self.continuable.as_mut().zip(from);
        let asking = asked.and_then(|(continuable, from)| continuable.begin(&answer, from));
        if let (Some(in_progress), Some(end)) = (answer.in_progress.take(), answer.transcoder.end())
        {
            in_progress.broke(&answer.failure(end));
        }
        self.phase = if let Some(asking) = asking {
            Phase::Continuing(answer, account, asking)
        } else {
            answer.release();
            Phase::Streaming(answer, account)
        };
    }

    /// Cancels a continuation that is being asked for.
    pub(super) fn stop_continuing(&mut self) {
        self.phase = match take(&mut self.phase) {
            Phase::Continuing(answer, account, _) => Phase::Streaming(answer, account),
            phase => phase,
        };
    }

    /// Waits for the continuation of an answer. Returns whether there is nothing by the time that was given.
    pub(super) async fn wait_for_continuation(&mut self, until: Option<Instant>) -> bool {
        let Phase::Continuing(_, _, asking) = &mut self.phase else { return false };
        let alarm = self.alarm.get_or_insert_with(|| Alarm::new(&self.context.closing));
        match alarm.wait(asking.as_mut(), until).await {
            Waited::Done(outcome) => self.continued(outcome),
            Waited::Closing => self.abort(End::ShuttingDown),
            Waited::Idle => return true,
        }
        false
    }

    /// Takes note of the answer that goes on with the one that broke off, or that there is none.
    pub(super) fn continued(&mut self, mut outcome: Outcome) {
        self.stop_continuing();
        let Phase::Streaming(answer, account) = &mut self.phase else { return };
        let continuable = self.continuable.as_mut();
        let goes_on = continuable.is_some_and(|it| it.splice(answer, &mut outcome));
        account.continued(outcome.attempts, goes_on);
        let now = Instant::now();
        if goes_on {
            account.output(now);
            self.spent = cover(answer, account);
            (self.deadlines.output, self.produced) = (now, now);
        } else {
            answer.release();
        }
        if let Some(alarm) = &mut self.alarm {
            alarm.set = false;
        }
    }
}
