//! Blame: the table from a decoded error to its cause. Failover, target health, outcomes and the error that callers see
//! follow from it. Pure. It must never read a status or an upstream's message: decoders turn those into kinds.

use std::borrow::Cow;

use super::{Error, Reply, Side};
use crate::wire::chat::{ApiError, Kind};

/// The cause of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The request: it is wrong, too large, or against a rule of the provider.
    Caller,
    /// The operator: the provider's credential is refused.
    Credential,
    /// The operator: the account at the provider cannot pay.
    Account,
    /// The operator: no right to the model, no such model, or not the API that is configured.
    Configuration,
    /// The account's rate limit, which is no fault.
    RateLimit,
    /// The target: it failed, or sent nothing in time.
    Target,
    /// The way to the provider: there is no connection.
    Host,
    /// This process.
    Gateway,
}

impl Blame {
    /// Its stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Credential => "credential",
            Self::Account => "account",
            Self::Configuration => "configuration",
            Self::RateLimit => "rate_limit",
            Self::Target => "target",
            Self::Host => "host",
            Self::Gateway => "gateway",
        }
    }

    /// The cause of an error that an upstream reports.
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Invalid | Kind::ContentPolicy | Kind::Context | Kind::TooLarge => Self::Caller,
            Kind::Authentication => Self::Credential,
            Kind::Billing => Self::Account,
            Kind::Permission
            | Kind::NotFound
            | Kind::Path
            | Kind::Method
            | Kind::Upgrade
            | Kind::Conflict
            | Kind::Gone
            | Kind::MediaType
            | Kind::BadGateway => Self::Configuration,
            Kind::RateLimited => Self::RateLimit,
            Kind::Overloaded | Kind::TooSlow | Kind::Timeout | Kind::Upstream | Kind::Internal => {
                Self::Target
            }
        }
    }
}

impl Error {
    /// Its cause.
    pub fn blame(&self) -> Blame {
        if let Some(blame) = self.0.blame {
            return blame;
        }
        match self.0.side {
            Side::Caller => Blame::Caller,
            Side::Us => Blame::Gateway,
            Side::Upstream => Blame::of(self.0.fault.kind),
        }
    }

    /// The fault that callers see: never an upstream's message about the operator's account, nor one that reveals
    /// what they may not use.
    pub fn shown(&self) -> Cow<'_, ApiError> {
        if let Some(shown) = &self.0.shown {
            return Cow::Borrowed(shown);
        }
        let replacement = if self.is_operators() { self.fault().replacement() } else { None };
        replacement.map_or_else(|| Cow::Borrowed(self.fault()), Cow::Owned)
    }

    /// The upstream's own response, if callers may see it: its body and its headers.
    pub fn shown_reply(&self) -> Option<&Reply> {
        self.upstream_reply().filter(|_| !self.is_operators())
    }

    /// Whether only the operator can fix it.
    pub fn is_operators(&self) -> bool {
        matches!(self.blame(), Blame::Credential | Blame::Account | Blame::Configuration)
    }

    /// Whether this process cannot do it at the moment, whatever the target.
    pub fn is_unavailable(&self) -> bool {
        self.0.side == Side::Us && self.fault().kind == Kind::Overloaded
    }

    /// Whether the failure is transient: the target has reported it itself, or the end of a rate limit. Silence, and an
    /// answer that breaks off, are not.
    pub fn is_transient(&self) -> bool {
        match self.blame() {
            Blame::RateLimit => self.wait().is_some() || self.cooldown().is_some(),
            Blame::Target => {
                let reported = matches!(self.fault().kind, Kind::Overloaded | Kind::Internal);
                self.upstream_reply().is_some() || self.is_failed_answer() && reported
            }
            _ => false,
        }
    }

    /// Whether a target with more room may serve the request.
    pub fn needs_room(&self) -> bool {
        self.0.side == Side::Upstream && matches!(self.fault().kind, Kind::Context | Kind::TooLarge)
    }

    /// Its rank among the errors of other attempts: the lowest is returned to the caller. Errors that the
    /// caller can act on come first; those that only the operator can fix come last.
    pub fn rank(&self) -> u8 {
        match (self.blame(), self.0.side, self.fault().kind) {
            (Blame::Caller, Side::Upstream, _) => 0,
            (Blame::RateLimit, ..) => 1,
            (Blame::Target, _, Kind::Overloaded) => 2,
            (Blame::Target, _, Kind::Timeout) => 3,
            (Blame::Target, ..) => 4,
            (Blame::Host, ..) => 5,
            // One target's dialect cannot express it, though another one's can.
            (Blame::Caller, ..) => 6,
            (Blame::Credential | Blame::Account | Blame::Configuration, ..) => 7,
            (Blame::Gateway, ..) => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(kind: Kind) -> Error {
        Error::upstream(ApiError::new(kind, "org-canary says no"))
    }

    #[test]
    fn upstream_errors_are_blamed_by_kind() {
        for (kind, blame, outcome) in [
            (Kind::Authentication, Blame::Credential, "upstream_error"),
            (Kind::Permission, Blame::Configuration, "upstream_error"),
            (Kind::Billing, Blame::Account, "upstream_error"),
            (Kind::NotFound, Blame::Configuration, "upstream_error"),
            (Kind::Method, Blame::Configuration, "upstream_error"),
            (Kind::Invalid, Blame::Caller, "rejected"),
            (Kind::Context, Blame::Caller, "rejected"),
            (Kind::TooLarge, Blame::Caller, "rejected"),
            (Kind::ContentPolicy, Blame::Caller, "rejected"),
            (Kind::RateLimited, Blame::RateLimit, "upstream_error"),
            (Kind::Overloaded, Blame::Target, "upstream_error"),
            (Kind::Upstream, Blame::Target, "upstream_error"),
        ] {
            let error = upstream(kind);
            assert_eq!((error.blame(), error.outcome()), (blame, outcome), "{kind:?}");
            let ours = error.is_operators();
            assert_eq!(error.shown().kind == Kind::BadGateway, ours, "{kind:?}");
            assert_eq!(error.shown().message.contains("org-canary"), !ours, "{kind:?}");
        }
        let named = upstream(Kind::NotFound).blamed(Blame::Caller);
        assert_eq!((named.shown().kind, named.outcome()), (Kind::NotFound, "rejected"));
    }

    #[test]
    fn the_most_useful_error_ranks_first() {
        let ranked = [
            upstream(Kind::Context),
            upstream(Kind::RateLimited),
            upstream(Kind::Overloaded),
            upstream(Kind::Timeout),
            upstream(Kind::Upstream),
            upstream(Kind::Upstream).blamed(Blame::Host),
            Error::caller(ApiError::field("n", "must be 1")),
            upstream(Kind::Authentication),
        ];
        assert!(ranked.is_sorted_by_key(Error::rank));
        assert!(ranked.windows(2).all(|pair| pair[0].rank() < pair[1].rank()));
    }
}
