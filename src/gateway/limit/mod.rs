//! Rate limiting: requests, tokens and concurrent streams, per caller and per model. [`Admission`] is the RAII guard of
//! one request. A limiter's lock is held for arithmetic only, three times per request; it must never be taken per token.

mod admission;
mod bucket;
mod estimate;
mod registry;
mod requests;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::Quota;
use tokio::time::Instant;

use crate::config::Limits;
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::memory::CallerMemory;
use crate::wire::chat::{ApiError, End, Kind};

pub use admission::{Admission, TokenDemand};
pub use bucket::LimitStatus;
use bucket::{Bucket, Rate};
pub use estimate::prompt_tokens;
pub use registry::LimiterRegistry;
use requests::Requests;

/// The scope of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One caller's.
    Caller,
    /// Those of a model, for all callers together.
    Model,
}

/// The kinds of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests under way.
    Streams,
}

/// The limits of one caller, or of one model for all callers, and their usage.
#[derive(Debug)]
pub struct Limiter {
    scope: Scope,
    /// The memory that the caller's request bodies hold.
    pub memory: Arc<CallerMemory>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    /// Both outlive their limit, so that lifting it and setting it again grants no new burst.
    /// They count only where `limits` has the limit.
    requests: Option<Requests>,
    tokens: Option<Bucket>,
    /// Requests under way.
    streams: usize,
}

/// The status of a caller's limits, as response headers show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// Requests, if they are limited.
    pub requests: Option<LimitStatus>,
    /// Tokens, if they are limited.
    pub tokens: Option<LimitStatus>,
}

impl RateLimitStatus {
    /// Of each limit the one that is reached first.
    #[must_use]
    pub fn tightest(self, other: Self) -> Self {
        let tighter = |a: Option<LimitStatus>, b: Option<LimitStatus>| {
            let left = |window: &LimitStatus| (window.remaining, std::cmp::Reverse(window.reset));
            a.into_iter().chain(b).min_by_key(left)
        };
        Self {
            requests: tighter(self.requests, other.requests),
            tokens: tighter(self.tokens, other.tokens),
        }
    }
}

impl State {
    /// Requests, if they are limited.
    fn requests(&mut self) -> Option<&mut Requests> {
        self.requests.as_mut().filter(|_| self.limits.requests_per_minute.is_some())
    }

    /// The bucket of tokens, if they are limited.
    fn tokens(&mut self) -> Option<&mut Bucket> {
        self.tokens.as_mut().filter(|_| self.limits.tokens_per_minute.is_some())
    }

    fn put_in_force(&mut self, limits: Limits, now: Instant) {
        if let Some(per_minute) = limits.requests_per_minute {
            let burst = limits.burst.unwrap_or(per_minute);
            let quota = Quota::per_minute(per_minute).allow_burst(burst);
            match &mut self.requests {
                Some(requests) => requests.change(quota, now),
                none => *none = Some(Requests::new(quota, now)),
            }
        }
        if let Some(per_minute) = limits.tokens_per_minute {
            let rate = Rate { per_minute: per_minute.get(), burst: per_minute.get() };
            match &mut self.tokens {
                Some(tokens) => tokens.change(rate, now),
                none => *none = Some(Bucket::full(rate, now)),
            }
        }
        self.limits = limits;
    }
}

impl Limiter {
    /// A limiter at which nothing has been used yet.
    pub fn new(scope: Scope, limits: Limits) -> Self {
        let state = State { limits, requests: None, tokens: None, streams: 0 };
        let limiter = Self { scope, memory: Arc::default(), state: Mutex::new(state) };
        limiter.lock().put_in_force(limits, Instant::now());
        limiter
    }

    /// Admits one request. An error has the time to wait; a rejected request uses nothing.
    pub fn admit(self: &Arc<Self>) -> Result<Admission, Error> {
        let mut admission = Admission::default();
        admission.acquire(self)?;
        Ok(admission)
    }

    /// Admits a request that is answered here, without a provider: it counts as a request, and not as a stream, so that
    /// a caller whose streams are all in use can still cancel one.
    pub fn admit_own(&self) -> Result<(), Error> {
        self.take_request(&mut self.lock(), Instant::now())
    }

    /// The status of its limits.
    pub fn status(&self, now: Instant) -> RateLimitStatus {
        let mut state = self.lock();
        RateLimitStatus {
            requests: state.requests().map(|requests| requests.window(now)),
            tokens: state.tokens().map(|bucket| bucket.window(now)),
        }
    }

    /// The ratio of each limit that is used, from 0 to 1 and, in debt, beyond.
    #[expect(clippy::cast_precision_loss, reason = "a ratio to look at")]
    pub fn used(&self, now: Instant) -> Vec<(Limit, f64)> {
        let mut state = self.lock();
        let streams = state.limits.concurrent_streams.map(|all| state.streams as f64 / all as f64);
        [
            (Limit::Requests, state.requests().map(|requests| requests.used_ratio(now))),
            (Limit::Tokens, state.tokens().map(|bucket| bucket.used_ratio(now))),
            (Limit::Streams, streams),
        ]
        .into_iter()
        .filter_map(|(limit, used)| Some((limit, used?)))
        .collect()
    }

    /// Changes the limits. Usage stays as it is.
    fn change(&self, limits: Limits) {
        let mut state = self.lock();
        if state.limits != limits {
            state.put_in_force(limits, Instant::now());
        }
    }

    /// Whether nothing of it is used, so that it may be evicted.
    fn is_unused(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let State { requests, tokens, streams, .. } = &mut *state;
        *streams == 0
            && requests.as_ref().is_none_or(|requests| requests.is_full(now))
            && tokens.as_mut().is_none_or(|tokens| tokens.is_full(now))
    }

    fn acquire(&self, now: Instant) -> Result<(), Error> {
        let mut state = self.lock();
        let streams = state.limits.concurrent_streams;
        if let Some(all) = streams.filter(|all| state.streams >= *all) {
            return Err(self.refusal(Limit::Streams, MIN_RETRY_AFTER, &self.too_many_streams(all)));
        }
        self.take_request(&mut state, now)?;
        state.streams += 1;
        Ok(())
    }

    fn take_request(&self, state: &mut State, now: Instant) -> Result<(), Error> {
        let limits = state.limits;
        if let Some(requests) = state.requests() {
            requests.take(now).map_err(|wait| {
                let all = limits.requests_per_minute.map_or(0, std::num::NonZeroU32::get);
                let message = match self.scope {
                    Scope::Caller => {
                        format!(
                            "this caller may send {all} requests per minute and has used them up"
                        )
                    }
                    Scope::Model => format!(
                        "this model may be sent {all} requests per minute by all callers together, which are used up"
                    ),
                };
                self.refusal(Limit::Requests, wait, &message)
            })?;
        }
        Ok(())
    }

    /// Reserves the tokens that a request may use, at most the whole capacity. Returns how many.
    /// `None`: tokens are not limited.
    fn reserve(&self, demand: &TokenDemand, now: Instant) -> Result<Option<u64>, Error> {
        let mut state = self.lock();
        let Limits { assumed_output, cut_off, .. } = state.limits;
        let wanted = demand.tokens(assumed_output.get().into());
        let Some(tokens) = state.tokens() else { return Ok(None) };
        let all = tokens.window(now).limit;
        if cut_off && demand.input >= all.into() {
            return Err(self.never_fits(demand.input, all));
        }
        let taken = tokens.take(wanted, now).map_err(|wait| {
            let left = tokens.window(now).remaining;
            let whose = match self.scope {
                Scope::Caller => "this caller may use",
                Scope::Model => "this model may be given by all callers together",
            };
            let message = if wanted > all.into() {
                format!(
                    "{whose} {all} tokens per minute, and this request may take {wanted} (prompt and \
                     output): it is let in only when none of them are used; ask for less output"
                )
            } else {
                format!(
                    "{whose} {all} tokens per minute, of which {left} are left, and this request may \
                     take {wanted} (prompt and output)"
                )
            };
            self.refusal(Limit::Tokens, wait, &message)
        })?;
        Ok(Some(taken))
    }

    /// The error of a prompt that leaves no token for the output of a caller who is cut off, however long it waits.
    fn never_fits(&self, input: u64, all: u32) -> Error {
        let scope = self.scope.word();
        let message = format!(
            "the prompt has about {input} tokens, and the {scope} may use {all} per minute and is cut \
             off there (cut_off); send a shorter prompt"
        );
        Error::caller(ApiError::new(Kind::Context, message))
    }

    /// More tokens for a request that needs more than it reserved: as many as there are for one
    /// that is cut off without, else all of them, as a debt if demand be.
    fn more(&self, wanted: u64, now: Instant) -> u64 {
        let mut state = self.lock();
        let cut_off = state.limits.cut_off;
        match state.tokens() {
            Some(tokens) if cut_off => tokens.take_up_to(wanted, now),
            Some(tokens) => {
                tokens.charge(wanted, now);
                wanted
            }
            None => wanted,
        }
    }

    /// The error of an answer that is cut off.
    fn cut_off(&self, now: Instant) -> Error {
        let mut state = self.lock();
        let window = state.tokens().map(|tokens| tokens.window(now));
        let all = window.map_or(0, |window| window.limit);
        let wait = window.map_or(MIN_RETRY_AFTER, |window| window.reset);
        let whose = match self.scope {
            Scope::Caller => "this caller",
            Scope::Model => "this model",
        };
        let message =
            format!("the answer was cut off: the {all} tokens per minute of {whose} are used up");
        let fault = self.fault(Limit::Tokens, wait, &message);
        let error = Error::from_end(&End::CutOff(fault)).retry_after(wait);
        error.over(self.scope.word(), Limit::Tokens.word())
    }

    /// Releases one request. `reserved`: the tokens that it took. `used`: the tokens that it used.
    fn release(&self, reserved: Option<u64>, used: u64, refused: bool, now: Instant) {
        let mut state = self.lock();
        state.streams = state.streams.saturating_sub(1);
        if let Some(requests) = state.requests.as_mut().filter(|_| refused) {
            requests.give_back();
        }
        if let (Some(reserved), Some(tokens)) = (reserved, &mut state.tokens) {
            tokens.give_back(reserved.saturating_sub(used), now);
            tokens.charge(used.saturating_sub(reserved), now);
        }
    }

    fn too_many_streams(&self, all: usize) -> String {
        match self.scope {
            Scope::Caller => format!("all {all} concurrent streams of this caller are in use"),
            Scope::Model => format!("all {all} concurrent streams of this model are in use"),
        }
    }

    fn refusal(&self, limit: Limit, wait: Duration, message: &str) -> Error {
        let fault = self.fault(limit, wait, message);
        Error::caller(fault).retry_after(wait).over(self.scope.word(), limit.word())
    }

    /// A fault that names the limit, its scope, and the time to wait.
    fn fault(&self, limit: Limit, wait: Duration, message: &str) -> ApiError {
        let (scope, limit) = (self.scope.word(), limit.word());
        ApiError {
            kind: Kind::RateLimited,
            message: format!("{message}; come back in {wait:.1?} (the {scope}'s {limit})"),
            code: Some("rate_limit_exceeded".to_owned()),
            param: None,
        }
    }

    /// A panic while it is held leaves at worst a count too many, never a broken value.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Streams];

    /// Its name in headers, metrics and the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Tokens => "tokens_per_minute",
            Self::Streams => "concurrent_streams",
        }
    }
}

impl Scope {
    /// Its name in headers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Model => "model",
        }
    }
}
