//! Hints of target health between nodes: hard states and rate limits of credentials, and targets that an operator has
//! drained or reset. They must never contain a credential, and what another node has sent is never sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::cell::{CellState, Outage};
use super::circuit::Ejection;
use super::{Deployment, TargetHealth};
use crate::backplane::{HintReceiver, SharedHint};
use crate::config::{CredentialDigest, hex};
use crate::error;
use crate::telemetry::TargetHintLabels;
use crate::wire::chat::Kind;

/// The time for which a reset is kept for nodes that Redis does not reach when it is sent.
const RESET_TIME: Duration = Duration::from_mins(1);

/// The outages of a credential that are shared.
const SHARED: [Outage; 2] = [Outage::Hard, Outage::Cooling];

/// A hint, without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hint {
    /// A credential is out, for this kind of error.
    Out(CredentialDigest, Outage, Kind),
    /// An operator has taken this target out.
    Drain(String),
    /// An operator has ended the drain and the ejections of this target.
    Reset(String),
}

impl Hint {
    /// `hard DIGEST KIND`, `cooling DIGEST KIND`, `drain TARGET` or `reset TARGET`.
    fn encode(&self) -> String {
        match self {
            Self::Out(digest, outage, kind) => {
                format!("{} {} {}", outage.word(), hex(digest), error::code(*kind))
            }
            Self::Drain(target) => format!("drain {target}"),
            Self::Reset(target) => format!("reset {target}"),
        }
    }

    /// `None`: it is none, or one of another version.
    fn decode(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        match word {
            "drain" => return Some(Self::Drain(rest.to_owned())),
            "reset" => return Some(Self::Reset(rest.to_owned())),
            _ => {}
        }
        let outage = SHARED.into_iter().find(|outage| outage.word() == word)?;
        let (digest, code) = rest.split_once(' ')?;
        let kind = Kind::ALL.into_iter().find(|kind| error::code(*kind) == code)?;
        Some(Self::Out(unhex(digest)?, outage, kind))
    }

    /// A drain and a reset replace each other; of the outages of a credential, the longer one of each kind stays.
    fn subject(&self) -> String {
        match self {
            Self::Out(digest, outage, _) => outage_subject(digest, *outage),
            Self::Drain(target) | Self::Reset(target) => format!("target:{target}"),
        }
    }
}

impl TargetHealth {
    /// Shares hints with other nodes, through this queue. Only the first one counts.
    pub fn share_with(&self, hints: mpsc::Sender<SharedHint>) {
        self.hints.get_or_init(|| hints);
    }

    /// Shares the outage of a deployment's credential, for the time that is left of it.
    pub(super) fn share_outage(&self, known: &Deployment, kind: Kind, now: Instant) {
        if let CellState::Out(outage, until) = known.account.state(now)
            && SHARED.contains(&outage)
        {
            self.share(&Hint::Out(known.credential, outage, kind), Some(until), Vec::new());
        }
    }

    /// Shares a drain.
    pub(super) fn share_drain(&self, target: &str) {
        self.share(&Hint::Drain(target.to_owned()), None, Vec::new());
    }

    /// Shares a reset, which ends the hints about the target's credentials.
    pub(super) fn share_reset(&self, target: &str, now: Instant) {
        let known = self.deployments.load();
        let named = known.values().filter(|known| &*known.name == target);
        let ends: BTreeSet<_> =
            named.flat_map(|known| outage_subjects(&known.credential)).collect();
        let ends = ends.into_iter().collect();
        self.share(&Hint::Reset(target.to_owned()), Some(now + RESET_TIME), ends);
    }

    /// Puts a hint into the queue. One that finds it full is dropped: nobody waits for Redis.
    fn share(&self, hint: &Hint, until: Option<Instant>, ends: Vec<String>) {
        let Some(hints) = self.hints.get() else { return };
        let (subject, text) = (hint.subject(), hint.encode());
        if hints.try_send(SharedHint { subject, text, until, ends }).is_err() {
            self.count_hint("dropped");
        }
    }

    /// Takes over the outage of a credential. Returns whether it is one of this node's.
    fn adopt(
        &self,
        digest: &CredentialDigest,
        (outage, kind): (Outage, Kind),
        remaining: Duration,
    ) -> bool {
        let known = self.deployments.load();
        let Some(found) = known.values().find(|known| known.credential == *digest) else {
            return false;
        };
        let account = &found.account;
        let adopted = account.adopt((outage, kind), remaining, Instant::now());
        let Some(Ejection { pause, failures }) = adopted else { return true };
        if outage == Outage::Hard {
            self.set_ejected(account, true);
        }
        self.count_change(account, outage.word(), "hint");
        if failures.is_some() {
            let (target, again_after_s): (&str, _) = (account.label(), pause.as_secs());
            tracing::info!(
                target,
                kind = error::code(kind),
                again_after_s,
                "this credential is out on another node; requests prefer others until that is over"
            );
        }
        true
    }

    fn count_hint(&self, direction: &'static str) {
        self.metrics.target_hints.get_or_create(&TargetHintLabels { direction }).inc();
    }
}

impl HintReceiver for TargetHealth {
    fn subjects(&self) -> Vec<String> {
        let known = self.deployments.load();
        let subjects = known.values().flat_map(|known| {
            let target = Hint::Drain(known.name.to_string()).subject();
            outage_subjects(&known.credential).into_iter().chain([target])
        });
        subjects.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Applies a hint; one about a target or a credential that is not known here is ignored.
    fn receive(&self, text: &str, remaining: Option<Duration>) {
        let known = match Hint::decode(text) {
            None => false,
            Some(Hint::Out(digest, outage, kind)) => {
                remaining.is_some_and(|remaining| self.adopt(&digest, (outage, kind), remaining))
            }
            Some(Hint::Drain(target)) => self.drain_here(&target),
            Some(Hint::Reset(target)) => self.reset_here(&target),
        };
        if known {
            self.count_hint("received");
        }
    }
}

fn outage_subjects(digest: &CredentialDigest) -> [String; 2] {
    SHARED.map(|outage| outage_subject(digest, outage))
}

fn outage_subject(digest: &CredentialDigest, outage: Outage) -> String {
    format!("{}:{}", outage.word(), hex(digest))
}

fn unhex(text: &str) -> Option<CredentialDigest> {
    let mut digest = CredentialDigest::default();
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    for byte in &mut digest {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(digest)
}

#[cfg(test)]
#[path = "hints_tests.rs"]
mod tests;
