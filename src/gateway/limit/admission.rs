//! The right to have one request under way, and the tokens that it may use.

use std::sync::Arc;

use tokio::time::Instant;

use super::Gate;
use crate::error::Error;

/// How many tokens an answer that outgrows its reservation takes at a time.
const STEP: u64 = 256;

/// What a request may use, as far as its body tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The prompt's tokens, estimated.
    pub input: u64,
    /// The most tokens of one alternative, if the caller bounds them.
    pub max_output: Option<u64>,
    /// How many alternatives it asks for.
    pub choices: u64,
}

/// No request uses more tokens, whatever it reserves: more than the largest context windows hold.
const PLAUSIBLE: u64 = 1 << 24;

impl Need {
    /// The most tokens that an upstream may count for it and be believed: files and addresses, tools of
    /// the upstream's own and earlier turns that it keeps may multiply what the request shows.
    pub fn plausible(&self) -> u64 {
        let shown = self.tokens(0).saturating_mul(64);
        shown.clamp(PLAUSIBLE, u32::MAX.into())
    }

    /// All of it, with what is assumed of callers who give no bound. Nobody means more than the
    /// largest limit.
    pub(super) fn tokens(&self, assumed: u64) -> u64 {
        let output = self.max_output.unwrap_or(assumed).saturating_mul(self.choices.max(1));
        self.input.saturating_add(output).min(u32::MAX.into())
    }
}

/// A request within the limits of its caller and of its model. Dropping it returns its permits and
/// settles its tokens: with what was used, or all of them if nobody said that anything was.
#[derive(Debug, Default)]
pub struct Admission {
    /// The caller's, then the model's if it has limits.
    holds: Vec<Hold>,
    input: u64,
    used: u64,
    /// What it uses is not known, so that all that it reserved counts.
    unknown: bool,
    /// One of the gates said no, so that nothing is used up at the others either.
    refused: bool,
}

/// What is taken at one gate.
#[derive(Debug)]
struct Hold {
    gate: Arc<Gate>,
    /// `None`: no tokens are limited here.
    reserved: Option<u64>,
}

impl Admission {
    /// Takes a request and a permit at one more gate.
    pub fn enter(&mut self, gate: &Arc<Gate>) -> Result<(), Error> {
        gate.enter(Instant::now()).inspect_err(|_| self.refused = true)?;
        self.holds.push(Hold { gate: Arc::clone(gate), reserved: None });
        Ok(())
    }

    /// Takes the tokens that the request may use, at every gate or at none.
    pub fn reserve(&mut self, need: &Need) -> Result<(), Error> {
        self.input = need.input;
        let now = Instant::now();
        for hold in &mut self.holds {
            hold.reserved = hold.gate.reserve(need, now).inspect_err(|_| self.refused = true)?;
        }
        Ok(())
    }

    /// How many tokens of output are paid for: the tightest of the gates.
    pub fn covered(&self) -> u64 {
        let reserved = self.holds.iter().filter_map(|hold| hold.reserved).min();
        reserved.map_or(u64::MAX, |reserved| reserved.saturating_sub(self.input))
    }

    /// The answer has come to `output` tokens, more than is paid for: takes more, or says why it
    /// must end. Where nobody asked for a cut, it becomes a debt.
    pub fn extend(&mut self, output: u64) -> Result<(), Error> {
        let now = Instant::now();
        let needed = self.input.saturating_add(output);
        for hold in &mut self.holds {
            let Some(reserved) = &mut hold.reserved else { continue };
            if needed <= *reserved {
                continue;
            }
            let missing = needed - *reserved;
            let got = hold.gate.more(missing.saturating_add(STEP), now);
            *reserved += got;
            if got < missing {
                return Err(hold.gate.cut_off(now));
            }
        }
        Ok(())
    }

    /// What the request has used, in the end or so far.
    pub fn settle(&mut self, used: u64) {
        self.used = used;
    }

    /// The upstream works on, or has worked, where nobody sees it: all that the request reserved counts
    /// as used.
    pub fn settle_reservation(&mut self) {
        self.unknown = true;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let now = Instant::now();
        for hold in &self.holds {
            let reserved = hold.reserved.filter(|_| self.unknown).unwrap_or_default();
            hold.gate.leave(hold.reserved, self.used.max(reserved), self.refused, now);
        }
    }
}
