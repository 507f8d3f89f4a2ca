//! Attempts: one try of a request at one target, as a value. It must never hold a payload or an upstream's message.

use std::time::Duration;

use tokio::time::Instant;

use super::access_log::short;
use super::select::PickReason;
use crate::config::Target;
use crate::error::{Blame, Error, Side};
use crate::telemetry::trace::Span;
use crate::wire::chat::Kind;

/// One try of a request at one target.
#[derive(Debug)]
pub struct Attempt {
    /// The target.
    pub target: Target,
    /// The reason for which it was chosen.
    pub why: PickReason,
    /// The upstream returns the answer in one piece, so that its progress is unknown until then.
    pub whole: bool,
    /// The time that the request waited in the queue of its model before it.
    pub queued: Duration,
    /// The time at which it began.
    pub begun: Instant,
    /// The time at which its request was sent, so that the target may have read the prompt.
    pub sent: Option<Instant>,
    /// Its target has begun to answer.
    pub answered: bool,
    /// Another attempt was faster, and this one was cancelled.
    pub superseded: bool,
    /// The cause of its failure, if it has failed.
    pub error: Option<AttemptFailure>,
    /// Its span, until it ends. `None`: there is no trace, or the attempt has failed.
    pub span: Option<Span>,
}

/// The cause of a failed attempt, without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptFailure {
    /// The kind of error.
    pub kind: Kind,
    /// The side on which the error arose.
    pub side: Side,
    /// The cause, which decides whether another target is tried.
    pub blame: Blame,
    /// The status of the upstream's error response, if there was one.
    pub status: Option<u16>,
    /// As [`Error::is_transient`].
    pub is_transient: bool,
    /// The wait that the upstream asks for.
    pub wait: Option<Duration>,
}

/// The most attempts that a trail names.
const MAX_TRAIL: usize = 8;

/// A trail of attempts in short, such as `a/m rate_limit, b/m ok`: the last of them, with the blame for each failure.
/// `None`: there is at most one, of which the record has all.
/// `with_keys`: also the names of providers' keys, which are the operator's business alone.
pub fn trail(attempts: &[Attempt], with_keys: bool) -> Option<String> {
    let last = attempts.get(attempts.len().saturating_sub(MAX_TRAIL)..)?;
    let entry = |attempt: &Attempt| {
        let result = match attempt.error {
            Some(error) => error.blame.word(),
            None if attempt.answered => "ok",
            None if attempt.superseded => "superseded",
            None => "left",
        };
        let key = attempt.target.provider.key.as_ref().filter(|_| with_keys);
        let key = key.map_or_else(String::new, |key| format!("[{key}]"));
        format!("{}{key} {result}", short(attempt.target.name()))
    };
    (attempts.len() > 1).then(|| last.iter().map(entry).collect::<Vec<_>>().join(", "))
}

impl Attempt {
    /// An attempt at a target, of which nothing has been sent.
    pub fn new((target, why): (Target, PickReason), whole: bool, begun: Instant) -> Self {
        Self {
            target,
            why,
            whole,
            queued: Duration::ZERO,
            begun,
            sent: None,
            answered: false,
            superseded: false,
            error: None,
            span: None,
        }
    }

    /// Sets the cause of its failure.
    pub fn fail(&mut self, error: &Error) {
        self.error = Some(AttemptFailure {
            kind: error.fault().kind,
            side: error.side(),
            blame: error.blame(),
            status: error.upstream_reply().map(|reply| reply.status),
            is_transient: error.is_transient(),
            wait: error.wait().max(error.cooldown()),
        });
    }

    /// Whether its upstream request is still being written.
    pub fn is_preparing(&self) -> bool {
        self.sent.is_none() && !self.answered && self.error.is_none()
    }

    /// Whether it failed because the request was too large for its target.
    pub fn needed_room(&self) -> bool {
        self.error.is_some_and(|error| {
            error.side == Side::Upstream && matches!(error.kind, Kind::Context | Kind::TooLarge)
        })
    }
}
