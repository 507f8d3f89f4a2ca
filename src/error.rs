//! Errors of requests: a small kind to branch on, a side, and a chain of causes. They must never hold payloads or keys.
//! They are rendered once, at the boundary, in the caller's dialect.

#[path = "error_blame.rs"]
mod blame;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::wire::chat::{ApiError, Deadline, End, Kind};
use crate::wire::overflow;

pub use blame::Blame;

/// The `retry-after` where the time to wait is unknown.
pub const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest `retry-after` that OpenAI's and Anthropic's libraries wait for; instead of a longer one, they try again at once.
const MAX_LIBRARY_WAIT: Duration = Duration::from_mins(1);

/// An error of a request.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    fault: ApiError,
    side: Side,
    /// Overrides the table.
    blame: Option<Blame>,
    retry_after: Option<Duration>,
    cooldown: Option<Duration>,
    reply: Option<Reply>,
    end: Option<End>,
    attempt: Option<Attempt>,
    over: Option<(&'static str, &'static str)>,
    is_final: bool,
    /// The fault that callers see in place of `fault`.
    shown: Option<ApiError>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The side on which an error arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The caller's request.
    Caller,
    /// The upstream, or the way to it.
    Upstream,
    /// This process.
    Us,
}

/// An upstream's own error response, kept for callers of the same dialect.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The dialect that the body is written in.
    pub dialect: &'static str,
    /// The status as it came.
    pub status: u16,
    /// The body as it came, credentials removed.
    pub body: Bytes,
    /// Headers that may be passed on.
    pub headers: HeaderMap,
}

/// The attempt in which an error arose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// `provider/model`.
    pub target: Arc<str>,
    /// Its place among the attempts of the request; 0 for the first.
    pub index: usize,
}

impl Error {
    /// The caller's request cannot be served. The message names the field that it is about.
    pub fn caller(fault: ApiError) -> Self {
        Self::new(Side::Caller, fault.named())
    }

    /// The upstream failed without an error response.
    pub fn upstream(fault: ApiError) -> Self {
        Self::new(Side::Upstream, fault)
    }

    /// The gateway failed.
    pub fn internal(message: &str) -> Self {
        Self::new(Side::Us, ApiError::new(Kind::Internal, message))
    }

    /// The gateway does not serve the request, for a reason of its own.
    pub fn gateway(fault: ApiError) -> Self {
        Self::new(Side::Us, fault)
    }

    /// The gateway is temporarily unable to serve the request.
    pub fn unavailable(message: &str) -> Self {
        Self::new(Side::Us, ApiError::new(Kind::Overloaded, message))
    }

    /// A stream that ended badly before any of it was forwarded.
    pub fn from_end(end: &End) -> Self {
        let fault = end.fault().unwrap_or_else(|| ApiError::new(Kind::Upstream, "empty answer"));
        let side = match end {
            End::ShuttingDown | End::Unavailable(_) | End::Lost => Side::Us,
            End::CutOff(_) => Side::Caller,
            _ => Side::Upstream,
        };
        let mut error = Self::new(side, fault);
        error.0.retry_after = matches!(end, End::Unavailable(_)).then_some(MIN_RETRY_AFTER);
        error.0.end = Some(end.clone());
        error
    }

    fn new(side: Side, fault: ApiError) -> Self {
        Self(Box::new(Inner {
            fault,
            side,
            blame: None,
            retry_after: None,
            cooldown: None,
            reply: None,
            end: None,
            attempt: None,
            over: None,
            is_final: false,
            shown: None,
            source: None,
        }))
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Sets the time to wait before a retry.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Sets the time for which its target takes no requests, by its own statement.
    #[must_use]
    pub fn cooling_for(mut self, wait: Option<Duration>) -> Self {
        self.0.cooldown = wait;
        self
    }

    /// Keeps the upstream's error response.
    #[must_use]
    pub fn reply(mut self, reply: Reply) -> Self {
        self.0.reply = Some(reply);
        self
    }

    /// Overrides the blame of the table.
    #[must_use]
    pub fn blamed(mut self, blame: Blame) -> Self {
        self.0.blame = Some(blame);
        self
    }

    /// Adds the counts of a prompt that an upstream finds too long for its context, where it names none:
    /// the gateway's estimate in tokens, and the context of the target if that is configured.
    #[must_use]
    pub fn counted(mut self, estimate: u64, context: Option<u64>) -> Self {
        let fault = &mut self.0.fault;
        if fault.kind == Kind::Context {
            let message = std::mem::take(&mut fault.message);
            fault.message = overflow::with_estimate(message, estimate, context);
        }
        self
    }

    /// Sets the attempt in which it arose.
    #[must_use]
    pub fn during(mut self, attempt: Attempt) -> Self {
        self.0.attempt = Some(attempt);
        self
    }

    /// Sets the scope and the name of the limit that was reached.
    #[must_use]
    pub fn over(mut self, scope: &'static str, limit: &'static str) -> Self {
        self.0.over = Some((scope, limit));
        self
    }

    /// Sets the fault that callers see in place of the one that records name, where that would reveal what they may
    /// not know.
    #[must_use]
    pub fn shown_as(mut self, fault: ApiError) -> Self {
        self.0.shown = Some(fault);
        self
    }

    /// The targets of the model have been tried, so that another try of the caller's would only add to their load. Limits
    /// say when to come again.
    #[must_use]
    pub fn exhausted(mut self) -> Self {
        let waits =
            self.blame() == Blame::RateLimit && self.0.retry_after <= Some(MAX_LIBRARY_WAIT);
        self.0.is_final = self.0.side == Side::Upstream && !waits;
        self
    }

    /// Whether responses have `x-should-retry: false`.
    pub fn is_final(&self) -> bool {
        self.0.is_final || self.is_operators()
    }

    /// The scope and the name of the limit that was reached.
    pub fn limit(&self) -> Option<(&'static str, &'static str)> {
        self.0.over
    }

    /// The last attempt, if there was any.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.0.attempt.as_ref()
    }

    /// The original fault; [`Error::shown`] is for callers.
    pub fn fault(&self) -> &ApiError {
        &self.0.fault
    }

    /// The side on which it arose.
    pub fn side(&self) -> Side {
        self.0.side
    }

    /// The time to wait before a retry, if known.
    pub fn wait(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The time for which its target takes no requests, by its own statement.
    pub fn cooldown(&self) -> Option<Duration> {
        self.0.cooldown
    }

    /// The upstream's own response, if there was one. Not for callers when it [is the
    /// operator's](Error::is_operators).
    pub fn upstream_reply(&self) -> Option<&Reply> {
        self.0.reply.as_ref()
    }

    /// Whether an upstream that answered with success failed in the answer itself.
    pub fn is_failed_answer(&self) -> bool {
        matches!(self.0.end, Some(End::Failed(_)))
    }

    /// Whether there was no output within the gateway's deadline.
    pub fn is_first_token_timeout(&self) -> bool {
        let passed = [Deadline::FirstToken, Deadline::Unstreamed];
        passed.iter().any(|deadline| self.0.end == Some(End::TimedOut(*deadline)))
    }

    /// The end of a stream that meets this error, as its caller sees it.
    pub fn to_end(&self) -> End {
        match &self.0.end {
            None | Some(End::Failed(_)) => End::Failed(self.shown().into_owned()),
            Some(end) => end.clone(),
        }
    }

    /// The label for records and metrics.
    pub fn outcome(&self) -> &'static str {
        match &self.0.end {
            None | Some(End::Failed(_)) => {}
            Some(end) => return end_outcome(end),
        }
        match (self.0.side, self.0.fault.kind) {
            (Side::Upstream, _) if self.blame() == Blame::Caller => "rejected",
            (Side::Upstream, _) => "upstream_error",
            (_, Kind::RateLimited) => "rate_limited",
            (Side::Caller, _) => "rejected",
            (Side::Us, Kind::Overloaded) => "unavailable",
            (Side::Us, _) => "internal_error",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.fault.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<ApiError> for Error {
    /// Faults that pure code reports are about the caller's request.
    fn from(fault: ApiError) -> Self {
        Self::caller(fault)
    }
}

/// The label of an answer's end, for records and metrics.
pub fn end_outcome(end: &End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::Truncated => "truncated",
        End::Failed(_) => "upstream_error",
        End::TimedOut(Deadline::Stall) => "stalled",
        End::TimedOut(Deadline::Rate) => "slow",
        End::TimedOut(_) => "upstream_timeout",
        End::Cancelled => "client_gone",
        End::ShuttingDown => "shutting_down",
        End::CutOff(_) => "cut_off",
        End::Unavailable(_) => "unavailable",
        End::Lost => "lost",
    }
}

/// The stable label of a kind, for records and metrics.
pub fn code(kind: Kind) -> &'static str {
    kind.code()
}
