//! Admission: the RAII guard of one request within its limits, with the tokens that it has reserved. Dropping it must
//! settle it, on every way out.

use std::sync::Arc;

use tokio::time::Instant;

use super::Limiter;
use crate::error::Error;

/// The tokens that an answer takes at a time once it outgrows its reservation.
const EXTENSION: u64 = 256;

/// The tokens that a request may use, by its body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenDemand {
    /// The prompt's tokens, estimated.
    pub input: u64,
    /// The most tokens of one alternative, if the caller bounds them.
    pub max_output: Option<u64>,
    /// The number of alternatives that it requests.
    pub choices: u64,
}

/// No request uses more tokens, whatever it reserves: it is more than the largest context windows hold.
const MIN_PLAUSIBLE: u64 = 1 << 24;

impl TokenDemand {
    /// The most tokens that an upstream may count for it and be believed: files and addresses, tools of
    /// the upstream's own and earlier turns that it keeps may multiply what the request shows.
    pub fn plausible(&self) -> u64 {
        let shown = self.tokens(0).saturating_mul(64);
        shown.clamp(MIN_PLAUSIBLE, u32::MAX.into())
    }

    /// All of its tokens, with `assumed` as the output of callers who give no bound. At most the largest
    /// limit, which no real demand exceeds.
    pub fn tokens(&self, assumed: u64) -> u64 {
        let output = self.max_output.unwrap_or(assumed).saturating_mul(self.choices.max(1));
        self.input.saturating_add(output).min(u32::MAX.into())
    }
}

/// A request within the limits of its caller and of its model. Dropping it returns its permits and
/// settles its tokens: with what was used, or releases all of them if nothing was.
#[derive(Debug, Default)]
pub struct Admission {
    /// The caller's, then the model's if it has limits.
    leases: Vec<Lease>,
    input: u64,
    used: u64,
    /// Its usage is unknown, so that the whole reservation counts.
    unknown: bool,
    /// One of the limiters has rejected it, so that nothing is used at the others either.
    refused: bool,
}

/// The share of one limiter.
#[derive(Debug)]
struct Lease {
    limiter: Arc<Limiter>,
    /// `None`: no tokens are limited here.
    reserved: Option<u64>,
}

impl Admission {
    /// Takes a request and a permit at one more limiter.
    pub fn acquire(&mut self, limiter: &Arc<Limiter>) -> Result<(), Error> {
        limiter.acquire(Instant::now()).inspect_err(|_| self.refused = true)?;
        self.leases.push(Lease { limiter: Arc::clone(limiter), reserved: None });
        Ok(())
    }

    /// Takes the tokens that the request may use, at every limiter or at none.
    pub fn reserve(&mut self, demand: &TokenDemand) -> Result<(), Error> {
        self.input = demand.input;
        let now = Instant::now();
        for lease in &mut self.leases {
            lease.reserved =
                lease.limiter.reserve(demand, now).inspect_err(|_| self.refused = true)?;
        }
        Ok(())
    }

    /// The tokens of output that are reserved at every limiter.
    pub fn covered(&self) -> u64 {
        let reserved = self.leases.iter().filter_map(|lease| lease.reserved).min();
        reserved.map_or(u64::MAX, |reserved| reserved.saturating_sub(self.input))
    }

    /// Extends the reservation to `output` tokens of output. An error: the answer must end. Without `cut_off`,
    /// missing tokens become a debt.
    pub fn extend(&mut self, output: u64) -> Result<(), Error> {
        let now = Instant::now();
        let needed = self.input.saturating_add(output);
        for lease in &mut self.leases {
            let Some(reserved) = &mut lease.reserved else { continue };
            if needed <= *reserved {
                continue;
            }
            let missing = needed - *reserved;
            let got = lease.limiter.more(missing.saturating_add(EXTENSION), now);
            *reserved += got;
            if got < missing {
                return Err(lease.limiter.cut_off(now));
            }
        }
        Ok(())
    }

    /// Sets the tokens that the request has used, in the end or so far.
    pub fn settle(&mut self, used: u64) {
        self.used = used;
    }

    /// Settles it with the whole reservation: the upstream's usage is unknown, or goes on after the answer.
    pub fn settle_reservation(&mut self) {
        self.unknown = true;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let now = Instant::now();
        for lease in &self.leases {
            let reserved = lease.reserved.filter(|_| self.unknown).unwrap_or_default();
            lease.limiter.release(lease.reserved, self.used.max(reserved), self.refused, now);
        }
    }
}
